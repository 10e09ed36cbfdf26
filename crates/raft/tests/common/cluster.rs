//! Clusters of nodes in one process, over memory or TCP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use folio_raft::transport::{MemoryNetwork, NetworkConfig, TcpTransport, Transport};
use folio_raft::{Config, NodeId, ReplicatedDatabase, Role};
use folio_store::Database;
use folio_store::storage::{LimitedStorage, MemoryStorage, Storage};
use tempfile::TempDir;

use super::CounterMachine;
use super::tap::Tap;

/// Far above what any step takes: it ends a test that would hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub type Node = ReplicatedDatabase<CounterMachine>;

/// Short intervals, so that failovers do not dominate the tests.
pub fn quick() -> Config {
    Config {
        heartbeat_interval: Duration::from_millis(100),
        election_timeout_min: Duration::from_millis(300),
        election_timeout_max: Duration::from_millis(600),
        ..Config::default()
    }
}

/// Timeouts so long that nothing happens by itself: no heartbeat, no election, no end of a lease.
pub fn still() -> Config {
    Config {
        heartbeat_interval: Duration::from_secs(60),
        election_timeout_min: Duration::from_secs(300),
        election_timeout_max: Duration::from_secs(600),
        ..Config::default()
    }
}

pub enum Wires {
    Memory(MemoryNetwork),
    Tapped(MemoryNetwork, Arc<Tap>),
    Tcp,
}

pub struct Cluster {
    pub directory: TempDir,
    pub config: Config,
    pub wires: Wires,
    pub addresses: BTreeMap<NodeId, String>,
    /// The disks of nodes that have no file.
    pub disks: BTreeMap<NodeId, Arc<LimitedStorage>>,
    pub nodes: BTreeMap<NodeId, Node>,
}

impl Cluster {
    /// Starts nodes 1 to `size` and makes them a cluster.
    pub async fn start(size: u64, config: Config, wires: Wires) -> Self {
        Self::start_on(size, config, wires, None).await
    }

    /// The same on disks in memory with room for so many bytes.
    pub async fn start_on(
        size: u64,
        config: Config,
        wires: Wires,
        disk_bytes: Option<u64>,
    ) -> Self {
        let disk = |bytes| Arc::new(LimitedStorage::new(Arc::new(MemoryStorage::new()), bytes));
        let disks = (1..=size).filter_map(|id| Some((id, disk(disk_bytes?))));
        let mut cluster = Self {
            directory: tempfile::tempdir().expect("a directory"),
            config,
            wires,
            addresses: BTreeMap::new(),
            disks: disks.collect(),
            nodes: BTreeMap::new(),
        };
        for id in 1..=size {
            cluster.bring_up(id).await;
        }
        let first = &cluster.nodes[&1];
        first
            .initialize(cluster.addresses.clone())
            .await
            .expect("initialized");
        cluster
    }

    pub fn path(&self, id: NodeId) -> PathBuf {
        self.directory.path().join(format!("{id}.folio"))
    }

    /// Starts a node that is not running, on its file and its address.
    pub async fn bring_up(&mut self, id: NodeId) {
        let transport: Arc<dyn Transport> = match &self.wires {
            Wires::Memory(network) => {
                self.addresses.insert(id, format!("memory:{id}"));
                network.transport()
            }
            Wires::Tapped(network, tap) => {
                self.addresses.insert(id, format!("memory:{id}"));
                tap.clone().between(network.transport())
            }
            Wires::Tcp => {
                let address = self.addresses.get(&id).cloned();
                let address = address.unwrap_or_else(|| "127.0.0.1:0".into());
                let config = NetworkConfig::new("tests");
                let transport = TcpTransport::bind(&address, config).await.expect("bound");
                self.addresses
                    .insert(id, transport.local_address().to_string());
                transport
            }
        };
        let builder = Database::builder();
        let database = match self.disks.get(&id) {
            None => builder.open_or_create(self.path(id)),
            Some(disk) if disk.is_empty().expect("a length") => builder.create_on(disk.clone()),
            Some(disk) => builder.open_on(disk.clone()),
        };
        let database = database.expect("opens");
        let config = self.config.clone();
        let node = Node::start(config, id, database, CounterMachine, transport)
            .await
            .expect("starts");
        self.nodes.insert(id, node);
    }

    /// Stops a node as a crash would.
    pub async fn kill(&mut self, id: NodeId) {
        let node = self.nodes.remove(&id).expect("it runs");
        node.kill().await;
    }

    /// The node that leads, once the running ones agree on one of them.
    pub async fn leader(&self) -> (NodeId, Node) {
        let mut known = Vec::new();
        loop {
            known.clear();
            for node in self.nodes.values() {
                let leads = |leader| self.nodes.contains_key(&leader);
                let status = node
                    .wait_for("a running leader", PATIENCE, |s| {
                        s.leader.is_some_and(leads)
                    })
                    .await
                    .expect("a leader");
                known.push(status.leader);
            }
            if let Some(Some(id)) = known.first()
                && known.iter().all(|other| *other == Some(*id))
                && self.nodes[id].status().role == Role::Leader
            {
                return (*id, self.nodes[id].clone());
            }
            tokio::task::yield_now().await;
        }
    }

    /// The first node to lead that is none of `without`, of which one may believe that it does.
    pub async fn leader_without(&self, without: &[NodeId]) -> Node {
        let looking = async {
            loop {
                for (id, node) in &self.nodes {
                    if !without.contains(id) && node.status().role == Role::Leader {
                        return node.clone();
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.expect("another is elected")
    }

    /// A running node that does not lead.
    pub async fn follower(&self) -> (NodeId, Node) {
        let (leading, _) = self.leader().await;
        let mut others = self.nodes.iter().filter(|(id, _)| **id != leading);
        let (id, node) = others.next().expect("more than one node runs");
        (*id, node.clone())
    }

    /// Waits until every running node has applied entry `index`.
    pub async fn applied(&self, index: u64) {
        for node in self.nodes.values() {
            node.wait_for_applied(index, PATIENCE)
                .await
                .expect("applied");
        }
    }

    pub async fn stop(self) {
        for node in self.nodes.values() {
            node.shutdown().await.expect("shuts down");
        }
    }
}
