//! Writes that wait: back-pressure, deadlines, withdrawal; and what sharing entries saves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::cluster::{Cluster, Node, PATIENCE, Wires, quick, still};
use common::{add, counters, history};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, Error, ReadLevel, WhenFull, WriteOptions, Written};
use tokio::task::JoinHandle;

/// A leader that keeps leading and gets no entry through while it is partitioned.
struct Stuck {
    network: MemoryNetwork,
    cluster: Cluster,
    leader: Node,
    /// An entry of its own, which takes the only slot.
    first: JoinHandle<Result<Written<u64>, Error>>,
}

impl Stuck {
    async fn new(config: Config) -> Self {
        let network = MemoryNetwork::new();
        let config = Config {
            heartbeat_interval: Duration::from_millis(50),
            entries_in_flight: 1,
            ..config
        };
        let cluster = Cluster::start(3, config, Wires::Memory(network.clone())).await;
        let (leading, leader) = cluster.leader().await;
        let index = leader.write(add("warm", 1)).await.unwrap().index;
        network.partition(leading);
        let first = write(&leader, "first", WriteOptions::default());
        leader
            .wait_for("the first entry", PATIENCE, |s| s.last_log > Some(index))
            .await
            .unwrap();
        Self {
            network,
            cluster,
            leader,
            first,
        }
    }

    /// Heals the network, waits for the answers and returns the names of the counters that were
    /// written.
    async fn finish(
        self,
        waiting: Vec<JoinHandle<Result<Written<u64>, Error>>>,
    ) -> BTreeSet<String> {
        self.network.heal();
        self.first.await.unwrap().unwrap();
        for one in waiting {
            one.await.unwrap().unwrap();
        }
        let level = ReadLevel::Linearizable;
        let found = self.leader.read(level, counters).await.unwrap();
        self.cluster.stop().await;
        let names = found.into_iter().map(|(name, _)| name);
        names.filter(|name| name != "warm").collect()
    }
}

fn write(
    node: &Node,
    counter: &str,
    options: WriteOptions,
) -> JoinHandle<Result<Written<u64>, Error>> {
    let (node, command) = (node.clone(), add(counter, 1));
    tokio::spawn(async move { node.write_with(options, command).await })
}

fn refusing() -> WriteOptions {
    WriteOptions {
        when_full: WhenFull::Refuse,
        ..WriteOptions::default()
    }
}

fn within(timeout: Duration) -> WriteOptions {
    WriteOptions {
        timeout,
        ..WriteOptions::default()
    }
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_or_makes_wait_and_loses_nothing_it_took() {
    let stuck = Stuck::new(Config {
        queue_limit: 3,
        ..still()
    })
    .await;
    // Some are waiting in the queue, and one at its end, for a slot.
    let mut taken = Vec::new();
    let full = loop {
        let waiting = write(&stuck.leader, &format!("{:02}", taken.len()), refusing());
        tokio::time::sleep(Duration::from_millis(10)).await;
        if waiting.is_finished() {
            break waiting.await.unwrap();
        }
        taken.push(waiting);
        assert!(taken.len() <= 4, "the queue has no limit");
    };
    let waited = match full {
        Err(Error::Busy { waited }) => waited,
        other => panic!("{other:?}"),
    };
    assert_eq!(waited, Duration::ZERO);
    let patient = write(&stuck.leader, "patient", WriteOptions::default());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!patient.is_finished(), "it waits for room");

    let count = taken.len();
    taken.push(patient);
    let found = stuck.finish(taken).await;
    let mut expected = names(["first", "patient"]);
    expected.extend((0..count).map(|number| format!("{number:02}")));
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_bounded_in_bytes_too() {
    let stuck = Stuck::new(Config {
        batch_max_bytes: 1000,
        queue_max_bytes: 2000,
        ..still()
    })
    .await;
    let large = |digit: &str| digit.repeat(900);
    let mut taken = Vec::new();
    for digit in ["1", "2"] {
        taken.push(write(&stuck.leader, &large(digit), refusing()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = write(&stuck.leader, &large("3"), refusing()).await.unwrap();
    assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
    // There is room for a small one.
    taken.push(write(&stuck.leader, "small", refusing()));
    let found = stuck.finish(taken).await;
    let expected = [large("1"), large("2"), "small".into(), "first".into()];
    assert_eq!(found, BTreeSet::from(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_deadline_passes_in_the_queue_is_never_carried_out() {
    let stuck = Stuck::new(still()).await;
    let late = write(&stuck.leader, "late", within(Duration::from_millis(30)));
    let outcome = late.await.unwrap();
    assert!(matches!(outcome, Err(Error::Busy { .. })), "{outcome:?}");
    let later = write(&stuck.leader, "later", WriteOptions::default());
    assert_eq!(stuck.finish(vec![later]).await, names(["first", "later"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_deadline_passes_after_it_was_proposed_has_an_unknown_outcome() {
    let mut stuck = Stuck::new(still()).await;
    stuck.network.heal();
    stuck.first.await.unwrap().unwrap();

    let (leading, _) = stuck.cluster.leader().await;
    stuck.network.partition(leading);
    let slow = within(Duration::from_millis(200));
    let unknown = write(&stuck.leader, "slow", slow).await.unwrap();
    assert!(matches!(unknown, Err(Error::Unknown { .. })), "{unknown:?}");
    // It has its place in the log all the same, before what comes after it.
    stuck.first = write(&stuck.leader, "after", WriteOptions::default());
    assert_eq!(
        stuck.finish(Vec::new()).await,
        names(["after", "first", "slow"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_entry_is_replaced_by_another_leaders_has_an_unknown_outcome() {
    let network = MemoryNetwork::new();
    let config = Config {
        election_timeout_min: Duration::from_millis(900),
        election_timeout_max: Duration::from_millis(1000),
        write_timeout: PATIENCE,
        ..quick()
    };
    let cluster = Cluster::start(3, config, Wires::Memory(network.clone())).await;
    let (leading, leader) = cluster.leader().await;
    let index = leader.write(add("warm", 1)).await.unwrap().index;
    network.partition(leading);
    let lost = write(&leader, "lost", WriteOptions::default());
    leader
        .wait_for("its entry", PATIENCE, |s| s.last_log > Some(index))
        .await
        .unwrap();
    let successor = cluster.leader_without(&[leading]).await;
    successor.write(add("other", 1)).await.unwrap();
    network.heal();
    // A third node might have had the entry, and have brought it back: who was told that it does not
    // count would write it again.
    let outcome = lost.await.unwrap();
    assert!(matches!(outcome, Err(Error::Unknown { .. })), "{outcome:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_given_up_in_the_queue_is_never_carried_out() {
    let stuck = Stuck::new(still()).await;
    let given_up = write(&stuck.leader, "given up", WriteOptions::default());
    let kept = write(&stuck.leader, "kept", WriteOptions::default());
    tokio::time::sleep(Duration::from_millis(20)).await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    assert_eq!(stuck.finish(vec![kept]).await, names(["first", "kept"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_too_large_is_refused_before_it_is_proposed() {
    let wires = Wires::Memory(MemoryNetwork::new());
    let cluster = Cluster::start(1, quick(), wires).await;
    let (_, leader) = cluster.leader().await;
    let before = leader.status().last_log;
    let refusal = leader.write(add(&"x".repeat(2 << 20), 1)).await;
    assert!(
        matches!(refusal, Err(Error::TooLarge { .. })),
        "{refusal:?}"
    );
    assert_eq!(leader.status().last_log, before);
    cluster.stop().await;
}

/// Entries and syncs, of all nodes together, for `each` writes by each of `clients`.
async fn costs(cluster: &Cluster, clients: u64, each: u64) -> (u64, u64) {
    let (_, leader) = cluster.leader().await;
    let counts = || {
        let syncs = cluster
            .nodes
            .values()
            .map(|n| n.statistics().unwrap().syncs);
        (leader.status().last_log.unwrap(), syncs.sum::<u64>())
    };
    let before = counts();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let leader = leader.clone();
        writers.spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..each {
                answers.push(leader.write(add("shared", 1)).await.unwrap());
            }
            answers
        });
    }
    let mut answers: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    let last = answers.iter().map(|written| written.index).max().unwrap();
    cluster.applied(last).await;
    let after = counts();
    // Each got the answer to its own command: the counter at its place in the log.
    answers.sort_by_key(|written| written.response);
    assert!(answers.is_sorted_by_key(|written| written.index));
    let responses: BTreeSet<_> = answers.iter().map(|written| written.response).collect();
    assert_eq!(responses.len() as u64, clients * each);
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_share_entries_and_syncs() {
    // No background work: nothing but the writes costs a sync.
    let config = Config {
        checkpoint_entries: 1 << 40,
        checkpoint_dirty_pages: 1 << 40,
        ..still()
    };
    let wires = Wires::Memory(MemoryNetwork::new());
    let cluster = Cluster::start(3, config, wires).await;
    // What the beginning costs is over when all have applied an entry after it.
    costs(&cluster, 1, 1).await;
    let (entries, syncs) = costs(&cluster, 1, 100).await;
    assert_eq!(entries, 100);
    assert!(syncs <= 300, "100 writes took {syncs} syncs at three nodes");

    let (entries, syncs) = costs(&cluster, 64, 100).await;
    assert!(entries < 6400 / 8, "6400 writes took {entries} entries");
    assert!(syncs <= 3 * entries, "{entries} entries took {syncs} syncs");
    let level = ReadLevel::Linearizable;
    let (_, leader) = cluster.leader().await;
    let changes = leader.read(level, |view| history(view).len()).await;
    assert_eq!(changes.unwrap(), 6501);
    cluster.stop().await;
}
