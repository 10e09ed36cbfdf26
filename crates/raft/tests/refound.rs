//! The file of a new cluster, made of a copy of a node of another one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::cluster::{Cluster, Node, PATIENCE, Wires, quick};
use common::{Command, CounterMachine, add, counters, history};
use folio_raft::store::{StoredLog, StoredLogError, refound};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Applied, ReadLevel, StateMachine};
use folio_store::{Database, Group, ReadTransaction, Table, WriteTransaction};

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

/// The log, as it is stored.
struct RawLog;
impl Table for RawLog {
    const NAME: &'static str = "raft_log";
    const GROUP: Group = Group::new(1);
    type Key = u64;
    type Value = &'static [u8];
}

/// Carries the log of a file out upon nothing, until a counter is there. Whether it came to be, and what came of it.
fn carry_out(from: &Database, until: &str) -> Result<(bool, Database), StoredLogError> {
    let apply = |txn: &WriteTransaction, at: Applied, commands: &[Command]| {
        for (position, command) in (0..).zip(commands) {
            let at = Applied { position, ..at };
            CounterMachine.apply(txn, at, command).unwrap();
        }
        Ok(())
    };
    let reached = |view: &ReadTransaction| {
        let found = view.table::<common::Counters>()?.get(until)?;
        Ok::<_, StoredLogError>(found.is_some())
    };
    let view = from.begin_read()?;
    let log = StoredLog::<CounterMachine>::new(&view);
    let made = Database::in_memory()?;
    let reached = log.carry_out_in(&made, apply, reached)?;
    Ok((reached, made))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_carried_out_up_to_a_state_as_it_was_the_first_time_and_over_no_gap() {
    let mut old = Cluster::start(1, quick(), Wires::Memory(MemoryNetwork::new())).await;
    let (_, node) = old.leader().await;
    for number in 0..10 {
        let counter = format!("counter {number}");
        node.write(add(&counter, number)).await.unwrap();
    }
    let expected = node.read(ReadLevel::Local, history).await.unwrap();
    drop(node);
    old.kill(1).await;
    let database = Database::open(old.path(1)).unwrap();

    for (until, entries) in [("counter 0", 1), ("counter 6", 7), ("no such", 10)] {
        let (reached, made) = carry_out(&database, until).unwrap();
        assert_eq!(reached, until != "no such");
        // With the times of the proposer, too.
        let view = made.begin_read().unwrap();
        assert_eq!(history(&view), expected[..entries], "{until}");
        let state = StoredLog::<CounterMachine>::new(&view).state().unwrap();
        let (last, _) = expected[entries - 1];
        assert_eq!(state.unwrap().applied.unwrap().index, last.0);
    }

    let ((missing, _), _) = expected[4];
    let txn = database.begin_write().unwrap();
    txn.table::<RawLog>().unwrap().remove(missing).unwrap();
    txn.commit().unwrap();
    assert!(carry_out(&database, "counter 3").unwrap().0);
    let refused = carry_out(&database, "counter 6").map(|(reached, _)| reached);
    assert!(
        matches!(refused, Err(StoredLogError::Missing { index }) if index == missing),
        "{refused:?}"
    );
}
