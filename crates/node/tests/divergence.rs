//! A node one of whose vaults is not that of the others stops serving it, says so, and gets it back, while the others
//! go on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use common::{Answer, PATIENCE, free_port, get, post, serve};
use folio_api::Divergence;
use folio_ledger::LedgerView;
use folio_ledger::command::Command;
use folio_ledger::response::Response;
use folio_ledger::transaction::Transaction;
use folio_node::access::Access;
use folio_node::{Node, NodeOptions};
use folio_raft::{Config, NodeId, ReadLevel, Role};
use folio_store::Database;
use serde_json::{Value, json};

struct Server {
    node: Node,
    address: SocketAddr,
}

async fn start(directory: &Path, id: NodeId, peer_listen: SocketAddr) -> Server {
    let options = NodeOptions {
        id,
        file: directory.join(format!("node-{id}.folio")),
        cluster: "test".to_owned(),
        peer_listen,
        tls: None,
        cache_bytes: folio_node::DEFAULT_CACHE_BYTES,
        raft: Config {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout_min: Duration::from_millis(400),
            election_timeout_max: Duration::from_millis(800),
            // So that a state comes back as a snapshot, not from the log.
            snapshot_after_entries: 10,
            log_entries_kept: 2,
            purge_batch: 1,
            ..Config::default()
        },
    };
    let node = Node::start(options).await.unwrap();
    let address = serve(free_port().await, &node, BTreeMap::new(), Access::open());
    Server { node, address }
}

struct Cluster {
    directory: tempfile::TempDir,
    servers: BTreeMap<NodeId, Server>,
}

impl Cluster {
    /// Three nodes with two vaults, in which something has been written.
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut servers = BTreeMap::new();
        for id in 1..=3 {
            let any = (Ipv4Addr::LOCALHOST, 0).into();
            servers.insert(id, start(directory.path(), id, any).await);
        }
        let members = servers
            .iter()
            .map(|(id, server)| (*id, server.node.peer_address().to_string()));
        servers[&1]
            .node
            .form_cluster(members.collect())
            .await
            .unwrap();
        let cluster = Cluster { directory, servers };
        for name in ["one", "two"] {
            cluster.write(Command::create_vault(name)).await;
        }
        for round in 0..20_u64 {
            for vault in [1, 2] {
                cluster.set(vault, "key", round).await;
            }
        }
        cluster
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.servers[&id].node
    }

    async fn leader(&self) -> NodeId {
        let any = self.servers.values().next().unwrap();
        any.node.ledger().wait_for_leader(PATIENCE).await.unwrap()
    }

    /// Has whoever leads carry out a command, and gives the index of its log entry.
    async fn write(&self, command: Command) -> (Response, u64) {
        loop {
            let leader = self.leader().await;
            match self.node(leader).ledger().write(command.clone()).await {
                Ok(written) => return (written.response, written.index),
                // A leader that has just lost or not yet noticed its lead.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn set(&self, vault: u64, key: &str, value: u64) -> u64 {
        let set = Transaction::new(vault).set(key, value.to_be_bytes());
        let (response, index) = self.write(Command::submit(set)).await;
        assert!(matches!(response, Response::Committed(_)), "{response:?}");
        index
    }

    /// Changes the version of an entity of vault 1 in the file of a node that is stopped for that time.
    async fn plant(&mut self, id: NodeId) {
        let server = self.servers.remove(&id).unwrap();
        let (peer_address, file) = (server.node.peer_address(), server.node.file().to_owned());
        server.node.ledger().shutdown().await.unwrap();
        drop(server);
        let database = Database::open(&file).unwrap();
        let txn = database.begin_write().unwrap();
        let tables = txn.tables().unwrap();
        let entities = tables
            .iter()
            .find(|table| table.name == "ledger_entities")
            .unwrap();
        let mut rows = txn.untyped(entities).unwrap();
        let first = rows.iter().unwrap().next().unwrap();
        let (key, mut row) = first.unwrap();
        row[7] ^= 0x40;
        drop(rows.insert(key.as_slice(), row.as_slice()).unwrap());
        drop(rows);
        txn.commit().unwrap();
        database.close().unwrap();
        let server = start(self.directory.path(), id, peer_address).await;
        self.servers.insert(id, server);
    }

    /// Waits until all nodes have applied an entry.
    async fn applied(&self, index: u64) {
        for server in self.servers.values() {
            server
                .node
                .ledger()
                .wait_for_applied(index, PATIENCE)
                .await
                .unwrap();
        }
    }

    /// Compares until a node has found out what is expected: others may not be reachable at first.
    async fn compared(&self, id: NodeId, expected: usize) -> Vec<Divergence> {
        let comparing = async {
            loop {
                // While it rebuilds its state it has nothing to compare.
                if let Ok(found) = self.node(id).compare_vaults().await
                    && found.len() == expected
                {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, comparing).await.unwrap()
    }

    async fn get(&self, id: NodeId, path: &str) -> Answer {
        get(self.servers[&id].address, path).await
    }

    async fn height(&self, id: NodeId, vault: u64) -> u64 {
        let read = move |view: &folio_store::ReadTransaction| LedgerView::new(view).vault(vault);
        let info = self
            .node(id)
            .ledger()
            .read(ReadLevel::Local, read)
            .await
            .unwrap();
        info.unwrap().unwrap().height
    }
}

fn metric(page: &Answer, name: &str) -> u64 {
    let text = page.body.as_str().unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_stops_serving_a_vault_that_went_another_way_and_has_it_rebuilt() {
    let mut cluster = Cluster::start().await;
    let planted = 1 + cluster.leader().await % 3;
    cluster.plant(planted).await;
    let others: Vec<NodeId> = (1..=3).filter(|id| *id != planted).collect();
    // The planted row shows in the next block that changes it, and not before.
    let index = cluster.set(1, "another key", 0).await;
    cluster.applied(index).await;
    assert_eq!(cluster.compared(planted, 0).await, []);
    let index = cluster.set(1, "key", 100).await;
    cluster.applied(index).await;
    let height = cluster.height(planted, 1).await;
    let index = cluster.set(1, "another key", 1).await;
    cluster.applied(index).await;

    let found = cluster.compared(planted, 1).await.remove(0);
    assert_eq!((found.vault, found.height), (1, height), "{found}");
    assert_ne!(found.ours, found.theirs);
    for path in [
        "/v1/vaults/1?read=local",
        "/v1/vaults/1/entities/key?read=local",
        "/v1/vaults/1/proofs/entities/key?read=local",
    ] {
        let refused = cluster.get(planted, path).await;
        assert_eq!(
            (refused.status, refused.code()),
            (503, "vault_diverged"),
            "{path}"
        );
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(
            detail.contains(&format!("since block {height}")),
            "{detail}"
        );
    }
    assert_eq!(
        cluster.get(planted, "/v1/vaults/2?read=local").await.status,
        200
    );
    let status = cluster.get(planted, "/v1/status").await.body;
    assert_eq!(status["diverged"][0]["vault"], 1, "{status}");
    assert_eq!(
        metric(
            &cluster.get(planted, "/metrics").await,
            "folio_vaults_diverged"
        ),
        1
    );
    for other in others {
        assert_eq!(cluster.compared(other, 0).await, []);
        assert_eq!(
            cluster.get(other, "/v1/vaults/1?read=local").await.status,
            200
        );
        assert_eq!(
            cluster.get(other, "/v1/status").await.body["diverged"],
            json!([])
        );
    }

    let address = cluster.servers[&planted].address;
    let accepted = post(address, "/v1/rebuild", &Value::Null).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    // The others go on meanwhile.
    let index = cluster.set(1, "key", 101).await;
    let ledger = cluster.node(planted).ledger().clone();
    let whole = ledger.wait_for("a state", PATIENCE, |status| {
        status.rebuilding.is_none() && status.applied >= Some(index)
    });
    whole.await.unwrap();
    cluster.compared(planted, 0).await;
    let entity = cluster
        .get(planted, "/v1/vaults/1/entities/key?read=local")
        .await;
    assert_eq!(entity.status, 200, "{entity:?}");
    let leader = cluster.leader().await;
    assert_eq!(
        entity.body,
        cluster
            .get(leader, "/v1/vaults/1/entities/key?read=local")
            .await
            .body
    );
    assert_eq!(
        metric(
            &cluster.get(planted, "/metrics").await,
            "folio_vaults_diverged"
        ),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_vault_is_not_that_of_most_gives_its_leadership_away() {
    let mut cluster = Cluster::start().await;
    let planted = 1 + cluster.leader().await % 3;
    cluster.plant(planted).await;
    let leader = cluster.leader().await;
    let given = cluster
        .node(leader)
        .ledger()
        .transfer_leadership(Some(planted))
        .await;
    given.unwrap();
    let leads = |status: &folio_raft::Status| status.role == Role::Leader;
    cluster
        .node(planted)
        .ledger()
        .wait_for("the lead", PATIENCE, leads)
        .await
        .unwrap();
    // By the leader's own answer nothing is wrong.
    let index = cluster.set(1, "key", 100).await;
    cluster.applied(index).await;
    // Nobody asks it to compare.
    let noticing = async {
        while cluster.node(planted).divergences().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticing).await.unwrap();
    assert_eq!(cluster.node(planted).divergences()[0].vault, 1);
    let follows =
        |status: &folio_raft::Status| status.leader.is_some_and(|leader| leader != planted);
    cluster
        .node(planted)
        .ledger()
        .wait_for("another leader", PATIENCE, follows)
        .await
        .unwrap();
    let refused = cluster.get(planted, "/v1/vaults/1?read=local").await;
    assert_eq!(refused.code(), "vault_diverged");
    for other in (1..=3).filter(|id| *id != planted) {
        assert_eq!(cluster.compared(other, 0).await, []);
    }
    cluster.set(1, "key", 101).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_alone_keeps_its_state() {
    let directory = tempfile::tempdir().unwrap();
    let servers = common::start_cluster(directory.path(), 1, true).await;
    let refused = post(servers[0].address, "/v1/rebuild", &Value::Null).await;
    assert_eq!(
        (refused.status, refused.code()),
        (409, "nobody_to_rebuild_from")
    );
    assert_eq!(servers[0].node.compare_vaults().await.unwrap(), []);
    assert_eq!(get(servers[0].address, "/v1/vaults").await.status, 200);
}
