//! The file of a new cluster, made of a copy of a node of another one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::cluster::{Cluster, Node, PATIENCE, Wires, quick};
use common::{CounterMachine, add, counters};
use folio_raft::ReadLevel;
use folio_raft::store::refound;
use folio_raft::transport::MemoryNetwork;
use folio_store::Database;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_goes_on_under_another_id_and_with_no_other_member() {
    let mut old = Cluster::start(1, quick(), Wires::Memory(MemoryNetwork::new())).await;
    let (_, node) = old.leader().await;
    let mut expected = BTreeMap::new();
    for number in 0..30 {
        let name = format!("counter {number}");
        node.write(add(&name, number)).await.unwrap();
        expected.insert(name, number);
        if number % 10 == 5 {
            // A change of members between them, which is in the log as they are.
            let learner = 2 + number / 10;
            let address = format!("memory:{learner}");
            node.add_learner(learner, address).await.unwrap();
        }
    }
    drop(node);
    // Without a checkpoint, all of it is in the log only.
    old.kill(1).await;

    let database = Database::open(old.path(1)).unwrap();
    let mut asked = false;
    let made = refound::<CounterMachine>(&database, 9, "memory:9".to_owned(), |_| {
        asked = true;
        Ok(())
    });
    let made = made.unwrap();
    assert!(asked && made.to_apply >= 33, "{made:?}");
    let network = MemoryNetwork::new();
    let node = Node::start(quick(), 9, database, CounterMachine, network.transport())
        .await
        .unwrap();
    node.wait_for_leader(PATIENCE).await.unwrap();
    let found = node.read(ReadLevel::Linearizable, counters).await.unwrap();
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected);
    let status = node.status();
    assert_eq!(status.voters.keys().collect::<BTreeSet<_>>(), [&9].into());
    assert!(status.learners.is_empty(), "{status:?}");
    node.write(add("later", 1)).await.unwrap();
    node.kill().await;
}
