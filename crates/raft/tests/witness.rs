//! Two replicas and a witness.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;

use common::cluster::{Cluster, PATIENCE, Wires, quick};
use common::{Command, add, counters};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, Error, NodeId, ReadLevel, ReplicatedDatabase, Role, Witness};
use folio_store::Database;

type WitnessNode = ReplicatedDatabase<Witness<Command>>;

const WITNESS: NodeId = 3;

struct Group {
    replicas: Cluster,
    network: MemoryNetwork,
    witness: Option<WitnessNode>,
}

impl Group {
    /// Replicas 1 and 2, and the witness, which comes last.
    async fn start(config: Config, writes_before: u64) -> Self {
        let network = MemoryNetwork::new();
        let replicas = Cluster::start(2, config, Wires::Memory(network.clone())).await;
        let mut group = Self {
            replicas,
            network,
            witness: None,
        };
        let last = group.write(writes_before).await;
        group.replicas.applied(last).await;
        group.witness_up().await;
        let (_, leader) = group.replicas.leader().await;
        leader
            .add_learner(WITNESS, "memory:3".into())
            .await
            .unwrap();
        leader
            .change_membership([1, 2, WITNESS].into())
            .await
            .unwrap();
        group
    }

    fn witness_path(&self) -> PathBuf {
        self.replicas.path(WITNESS)
    }

    async fn witness_up(&mut self) {
        let database = Database::builder()
            .open_or_create(self.witness_path())
            .unwrap();
        let config = self.replicas.config.clone();
        let transport = self.network.transport();
        let node = WitnessNode::start(config, WITNESS, database, Witness::new(), transport).await;
        self.witness = Some(node.unwrap());
    }

    /// Writes through whichever replica leads.
    async fn write(&self, count: u64) -> u64 {
        let mut last = 0;
        let mut done = 0;
        while done < count {
            for node in self.replicas.nodes.values() {
                if node.status().role == Role::Leader
                    && let Ok(written) = node.write(add("a", 1)).await
                {
                    (last, done) = (written.index, done + 1);
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
        last
    }

    async fn count(&self, id: NodeId) -> u64 {
        let node = &self.replicas.nodes[&id];
        let rows = node.read(ReadLevel::Local, counters).await.unwrap();
        rows.first().map_or(0, |(_, count)| *count)
    }

    async fn stop(self) {
        for node in self.replicas.nodes.values() {
            node.kill().await;
        }
        if let Some(witness) = &self.witness {
            witness.kill().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_and_a_witness_go_on_after_the_loss_of_any_one() {
    let mut group = Group::start(quick(), 5).await;
    for lost in [1, 2] {
        group.replicas.kill(lost).await;
        group.write(10).await;
        group.replicas.bring_up(lost).await;
        let last = group.write(1).await;
        group.replicas.applied(last).await;
    }
    group.witness.take().unwrap().kill().await;
    let last = group.write(10).await;
    group.replicas.applied(last).await;
    group.witness_up().await;
    let last = group.write(5).await;
    let witness = group.witness.clone().unwrap();
    witness.wait_for_applied(last, PATIENCE).await.unwrap();
    assert!(group.count(1).await >= 42 - 5);
    assert_eq!(group.count(1).await, group.count(2).await);
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_lost_leader_and_the_witness_had_reaches_the_other_replica() {
    let mut group = Group::start(quick(), 5).await;
    let (leader, _) = group.replicas.leader().await;
    let late = 3 - leader;
    group.network.partition(late);
    let before = group.count(leader).await;
    // Acknowledged by the leader and the witness alone.
    let last = group.write(20).await;
    assert!(group.count(leader).await >= before + 20);
    group.replicas.kill(leader).await;
    group.network.heal();

    let replica = group.replicas.nodes[&late].clone();
    replica.wait_for_applied(last, PATIENCE).await.unwrap();
    assert!(group.count(late).await >= before + 20);
    // The witness hands on what it leads: writing goes on.
    replica
        .wait_for("the replica to lead", PATIENCE, |s| s.role == Role::Leader)
        .await
        .unwrap();
    group.write(5).await;
    let witness = group.witness.clone().unwrap();
    assert_eq!(witness.status().leader, Some(late));
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_answers_nobody_and_begins_nothing() {
    let group = Group::start(quick(), 5).await;
    let witness = group.witness.clone().unwrap();
    assert!(witness.status().witness);
    let refusals = [
        witness.write(add("a", 1)).await.map(drop),
        witness.read(ReadLevel::Local, |_| ()).await,
        witness.read(ReadLevel::Linearizable, |_| ()).await,
        witness.initialize([(3, "memory:3".into())].into()).await,
    ];
    for refusal in refusals {
        assert!(
            matches!(refusal, Err(Error::Witness | Error::NotLeader { .. })),
            "{refusal:?}"
        );
    }
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_compacts_its_log_and_never_has_a_row_of_the_state() {
    let config = Config {
        snapshot_after_entries: 20,
        log_entries_kept: 5,
        purge_batch: 1,
        ..quick()
    };
    // It joins when only a snapshot can bring it up to date, of which it needs the announcement.
    let mut group = Group::start(config, 60).await;
    let witness = group.witness.clone().unwrap();
    let joined = witness.status().applied;
    group.write(60).await;
    let compacted = |s: &folio_raft::Status| s.purged > joined;
    witness
        .wait_for("its log to be compacted", PATIENCE, compacted)
        .await
        .unwrap();
    witness.shutdown().await.unwrap();
    group.witness = None;

    let database = Database::open(group.witness_path()).unwrap();
    let tables = database.begin_read().unwrap().tables().unwrap();
    let strange: Vec<_> = tables
        .iter()
        .filter(|t| !t.name.starts_with("raft_"))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(database.verify(|_, _| {}).unwrap().problems, []);
    database.close().unwrap();

    group.witness_up().await;
    let last = group.write(5).await;
    let witness = group.witness.clone().unwrap();
    witness.wait_for_applied(last, PATIENCE).await.unwrap();
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_becomes_a_replica_by_rebuilding_and_a_replica_no_witness() {
    let mut group = Group::start(quick(), 5).await;
    let last = group.write(10).await;
    let witness = group.witness.take().unwrap();
    witness.wait_for_applied(last, PATIENCE).await.unwrap();
    witness.shutdown().await.unwrap();
    group.replicas.bring_up(WITNESS).await;
    let node = group.replicas.nodes[&WITNESS].clone();
    node.wait_for("the state", PATIENCE, |s| s.rebuilding.is_none())
        .await
        .unwrap();
    let last = group.write(1).await;
    group.replicas.applied(last).await;
    let (leader, _) = group.replicas.leader().await;
    assert_eq!(group.count(WITNESS).await, group.count(leader).await);
    node.shutdown().await.unwrap();
    group.replicas.nodes.remove(&WITNESS);

    let database = Database::open(group.witness_path()).unwrap();
    let transport = group.network.transport();
    let config = group.replicas.config.clone();
    let refused = WitnessNode::start(config, WITNESS, database, Witness::new(), transport).await;
    let refused = refused.map(drop).unwrap_err();
    assert!(matches!(refused, Error::NotAWitness), "{refused}");
    group.stop().await;
}
