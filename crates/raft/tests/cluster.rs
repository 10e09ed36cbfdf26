//! Clusters: writes, reads, failover, and the ways back in.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use common::cluster::{Cluster, Node, PATIENCE, Wires, quick, still};
use common::tap::{APPEND, SNAPSHOT, Tap};
use common::{Command, CounterMachine, add, counters, history};
use folio_raft::transport::{MemoryNetwork, Transport};
use folio_raft::{Config, Error, NodeId, ReadLevel};
use folio_store::Database;
use folio_store::storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, StorageCall};

async fn state(node: &Node) -> (Vec<(String, u64)>, usize) {
    node.read(ReadLevel::Local, |view| {
        (counters(view), history(view).len())
    })
    .await
    .expect("readable")
}

/// Writes to whoever leads until one is accepted; for commands that may be carried out twice.
async fn write(cluster: &Cluster, counter: &str) -> u64 {
    loop {
        let (_, leader) = cluster.leader().await;
        match leader.write(add(counter, 1)).await {
            Ok(written) => return written.index,
            Err(Error::NotLeader { .. } | Error::Unknown { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn every_node_has_the_writes(wires: Wires) {
    let cluster = Cluster::start(3, quick(), wires).await;
    let (_, leader) = cluster.leader().await;
    let mut last = 0;
    for round in 1..=20 {
        let written = leader.write(add("a", 2)).await.expect("written");
        assert_eq!(written.response, round * 2);
        assert!(written.index > last, "indexes ascend");
        last = written.index;
    }
    let read = leader
        .read(ReadLevel::Linearizable, counters)
        .await
        .expect("read");
    assert_eq!(read, [("a".to_owned(), 40)]);
    cluster.applied(last).await;
    for node in cluster.nodes.values() {
        assert_eq!(state(node).await, (vec![("a".to_owned(), 40)], 20));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_reach_every_node_over_memory() {
    every_node_has_the_writes(Wires::Memory(MemoryNetwork::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_reach_every_node_over_tcp() {
    every_node_has_the_writes(Wires::Tcp).await;
}

async fn a_stopped_leader_is_replaced_and_returns(wires: Wires, config: Config, writes: u64) {
    let mut cluster = Cluster::start(3, config, wires).await;
    for _ in 0..writes {
        write(&cluster, "before").await;
    }
    let (stopped, _) = cluster.leader().await;
    cluster.kill(stopped).await;

    let mut last = 0;
    for _ in 0..writes {
        last = write(&cluster, "after").await;
    }
    let (successor, leader) = cluster.leader().await;
    assert_ne!(successor, stopped);

    cluster.bring_up(stopped).await;
    cluster.applied(last).await;
    let expected = state(&leader).await;
    // More than that is possible: a write whose outcome was unknown was sent again.
    assert!(expected.1 as u64 >= 2 * writes);
    for node in cluster.nodes.values() {
        assert_eq!(state(node).await, expected);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_returns_by_the_log_over_memory() {
    let wires = Wires::Memory(MemoryNetwork::new());
    a_stopped_leader_is_replaced_and_returns(wires, quick(), 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_returns_by_the_log_over_tcp() {
    a_stopped_leader_is_replaced_and_returns(Wires::Tcp, quick(), 20).await;
}

/// A log that is compacted so eagerly that a node which was away needs a snapshot.
fn compacting() -> Config {
    Config {
        snapshot_after_entries: 20,
        log_entries_kept: 5,
        purge_batch: 1,
        ..quick()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_returns_by_a_snapshot_over_memory() {
    let wires = Wires::Memory(MemoryNetwork::new());
    a_stopped_leader_is_replaced_and_returns(wires, compacting(), 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_returns_by_a_snapshot_over_tcp() {
    a_stopped_leader_is_replaced_and_returns(Wires::Tcp, compacting(), 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_many_chunks_reaches_a_lagging_voter_of_an_idle_cluster() {
    let config = Config {
        // Each chunk is a message of its own.
        snapshot_chunk_bytes: 64,
        ..compacting()
    };
    let mut cluster = Cluster::start(3, config, Wires::Tcp).await;
    let (leading, _) = cluster.leader().await;
    let away = cluster.nodes.keys().copied().find(|id| *id != leading);
    let away = away.expect("a follower");
    let had = cluster.nodes[&away].status().last_log;
    cluster.kill(away).await;
    let mut last = 0;
    for number in 0..100u64 {
        let counter = format!("{number}-{}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        last = write(&cluster, &counter).await;
    }
    let (_, leader) = cluster.leader().await;
    leader
        .wait_for("the log to be compacted", PATIENCE, |s| s.purged > had)
        .await
        .expect("compacted");

    // What it lacks is no longer in anybody's log, so only a snapshot can bring it.
    cluster.bring_up(away).await;
    cluster.applied(last).await;
    let returned = &cluster.nodes[&away];
    assert_eq!(state(returned).await, state(&leader).await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_refuses_writes_and_reads_and_names_the_leader() {
    let cluster = Cluster::start(3, quick(), Wires::Memory(MemoryNetwork::new())).await;
    let (leading, _) = cluster.leader().await;
    let (_, follower) = cluster
        .nodes
        .iter()
        .find(|(id, _)| **id != leading)
        .expect("a follower");
    let refusals = [
        follower.write(add("a", 1)).await.map(|_| ()),
        follower.read(ReadLevel::Linearizable, |_| ()).await,
    ];
    for refusal in refusals {
        let Err(Error::NotLeader { leader, address }) = refusal else {
            panic!("{refusal:?}");
        };
        assert_eq!(leader, Some(leading));
        assert_eq!(address.as_ref(), cluster.addresses.get(&leading));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_answers_neither_reads_nor_writes() {
    let network = MemoryNetwork::new();
    let config = Config {
        write_timeout: Duration::from_millis(500),
        read_timeout: Duration::from_millis(500),
        ..quick()
    };
    let cluster = Cluster::start(3, config, Wires::Memory(network.clone())).await;
    let (cut, old) = cluster.leader().await;
    network.partition(cut);
    let read = old.read(ReadLevel::Linearizable, |_| ()).await;
    assert!(
        matches!(
            read,
            Err(Error::Timeout { .. } | Error::NoQuorum | Error::NotLeader { .. })
        ),
        "{read:?}"
    );
    let written = old.write(add("lost", 1)).await;
    assert!(
        matches!(
            written,
            Err(Error::Unknown { .. } | Error::NotLeader { .. })
        ),
        "{written:?}"
    );
    let (_, other) = cluster
        .nodes
        .iter()
        .find(|(id, _)| **id != cut)
        .expect("another");
    other
        .wait_for("another leader", PATIENCE, |s| {
            s.leader.is_some_and(|l| l != cut)
        })
        .await
        .expect("elected");

    network.heal();
    let last = write(&cluster, "kept").await;
    cluster.applied(last).await;
    for node in cluster.nodes.values() {
        let (counters, _) = state(node).await;
        assert!(
            counters.iter().all(|(name, _)| name != "lost"),
            "{counters:?}"
        );
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_machine_that_panics_or_fails_stops_the_node_and_changes_nothing() {
    for (command, word) in [
        (Command::Panic, "told to panic"),
        (Command::Fail, "told to fail"),
    ] {
        let cluster = Cluster::start(1, quick(), Wires::Memory(MemoryNetwork::new())).await;
        let (_, leader) = cluster.leader().await;
        leader.write(add("a", 1)).await.expect("written");
        let failure = leader.write(command).await;
        assert!(
            matches!(failure, Err(Error::Unknown { .. } | Error::Stopped { .. })),
            "{failure:?}"
        );
        let stopped = leader
            .wait_for("never", PATIENCE, |_| false)
            .await
            .expect_err("the node stopped");
        assert!(stopped.to_string().contains(word), "{stopped}");
        let (counters, changes) = state(&leader).await;
        assert_eq!((counters, changes), (vec![("a".to_owned(), 1)], 1));
        let refusal = leader.write(add("a", 1)).await;
        assert!(matches!(refusal, Err(Error::Stopped { .. })), "{refusal:?}");
        leader.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proposer_times_never_run_backwards() {
    let cluster = Cluster::start(1, quick(), Wires::Memory(MemoryNetwork::new())).await;
    let (_, leader) = cluster.leader().await;
    for _ in 0..50 {
        leader.write(add("a", 1)).await.expect("written");
    }
    let times: Vec<_> = leader
        .read(ReadLevel::Local, |view| {
            history(view).into_iter().map(|(_, c)| c.time).collect()
        })
        .await
        .expect("readable");
    assert!(times.is_sorted(), "{times:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_refuses_every_message_is_left_alone_for_a_while() {
    let refuses = Arc::new(AtomicU64::new(0));
    let refused = Arc::new(AtomicU32::new(0));
    let (who, times) = (refuses.clone(), refused.clone());
    let tap = Tap::new(move |_, to, request| {
        if to == who.load(Ordering::Relaxed) && request[1] == APPEND {
            // A version that nobody speaks: the answer comes at once.
            request[0] = 255;
            times.fetch_add(1, Ordering::Relaxed);
        }
        true
    });
    let wires = Wires::Tapped(MemoryNetwork::new(), tap);
    let cluster = Cluster::start(3, still(), wires).await;
    let (_, leader) = cluster.leader().await;
    let (other, _) = cluster.follower().await;
    refuses.store(other, Ordering::Relaxed);
    for _ in 0..100 {
        leader.write(add("a", 1)).await.expect("two are a majority");
    }
    // The one message with which it began, and one that may have been on its way; nobody sends a heartbeat here.
    assert!(refused.load(Ordering::Relaxed) <= 2, "{refused:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_damaged_on_the_way_is_refused_and_sent_again() {
    let network = MemoryNetwork::new();
    let flipped = Arc::new(AtomicU32::new(0));
    let flips = flipped.clone();
    let tap = Tap::new(move |_, _, request| {
        let begins = request.windows(8).any(|bytes| bytes == b"FOLIOSNP");
        if request[1] == SNAPSHOT && begins && flips.load(Ordering::Relaxed) < 3 {
            // All of this state is in one part, which ends with its trailer.
            let at = request.len() - 20;
            request[at] ^= 1;
            flips.fetch_add(1, Ordering::Relaxed);
        }
        true
    });
    let start = async |id: NodeId| {
        let transport = tap.clone().between(network.transport());
        let database = Database::in_memory().expect("creates");
        Node::start(compacting(), id, database, CounterMachine, transport)
            .await
            .expect("starts")
    };
    let leader = start(1).await;
    leader
        .initialize(BTreeMap::from([(1, "memory:1".to_owned())]))
        .await
        .expect("initialized");
    leader.wait_for_leader(PATIENCE).await.expect("leads");
    let mut last = 0;
    for _ in 0..60 {
        last = leader.write(add("a", 1)).await.expect("written").index;
    }
    leader
        .wait_for("the log to be compacted", PATIENCE, |s| s.purged > Some(1))
        .await
        .expect("compacted");

    let joining = start(2).await;
    leader
        .add_learner(2, "memory:2".to_owned())
        .await
        .expect("added");
    joining
        .wait_for_applied(last, PATIENCE)
        .await
        .expect("it got a sound one");
    assert_eq!(flipped.load(Ordering::Relaxed), 3);
    assert_eq!(joining.status().error, None);
    assert_eq!(state(&joining).await, state(&leader).await);
    leader.shutdown().await.expect("shuts down");
    joining.shutdown().await.expect("shuts down");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_raft_messages_are_refused_and_the_node_goes_on() {
    const VERSION: u8 = 2;
    let network = MemoryNetwork::new();
    let cluster = Cluster::start(1, quick(), Wires::Memory(network.clone())).await;
    let (_, leader) = cluster.leader().await;
    let stranger = network.transport();
    let mut requests = vec![Vec::new()];
    // Messages of the right version: kinds that need more, and what is none.
    requests.extend((0..3).flat_map(|kind| [vec![VERSION, kind], vec![VERSION, kind, 1]]));
    requests.extend((4..=255).map(|kind| [vec![VERSION], vec![kind; 300]].concat()));
    // Other versions.
    requests.extend(
        (0..=255)
            .filter(|version| *version != VERSION)
            .map(|version| vec![version; 300]),
    );
    for request in requests {
        let answer = stranger.call(9, 1, "memory:1", request, PATIENCE).await;
        let refusal = String::from_utf8_lossy(&answer.expect("answered")).into_owned();
        assert!(refusal.contains("does not decode"), "{refusal}");
    }
    let newer = stranger.call(9, 1, "memory:1", vec![7, 0], PATIENCE).await;
    let refusal = String::from_utf8_lossy(&newer.expect("answered")).into_owned();
    let named = ["version 7", "version 2"].map(|version| refusal.contains(version));
    assert_eq!(named, [true; 2], "{refusal}");
    leader.write(add("a", 1)).await.expect("it still leads");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_made_when_enough_entries_are_applied_and_at_shutdown() {
    let config = Config {
        checkpoint_entries: 10,
        ..quick()
    };
    let mut cluster = Cluster::start(1, config, Wires::Memory(MemoryNetwork::new())).await;
    let (_, leader) = cluster.leader().await;
    let mut last = 0;
    for _ in 0..35 {
        last = leader.write(add("a", 1)).await.expect("written").index;
    }
    let bounded = |status: &folio_raft::Status| status.checkpointed > Some(last - 10);
    leader
        .wait_for("a checkpoint", PATIENCE, bounded)
        .await
        .expect("made");
    leader.shutdown().await.expect("shuts down");

    cluster.nodes.clear();
    cluster.bring_up(1).await;
    // What a node finds in its file at the start is what is durable.
    let found = cluster.nodes[&1].status().checkpointed;
    assert!(found >= Some(last), "{found:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_finds_its_state_at_the_checkpoint_and_its_writes_in_the_log() {
    let mut cluster = Cluster::start(1, quick(), Wires::Memory(MemoryNetwork::new())).await;
    let (_, leader) = cluster.leader().await;
    for _ in 0..20 {
        leader.write(add("a", 1)).await.expect("written");
    }
    let last = leader.status().applied;
    assert!(leader.status().checkpointed < last, "nothing to lose");
    cluster.kill(1).await;

    cluster.bring_up(1).await;
    let found = cluster.nodes[&1].status().checkpointed;
    assert!(found < last, "the kill made a checkpoint at {found:?}");
    let (_, leader) = cluster.leader().await;
    let read = leader
        .read(ReadLevel::Linearizable, counters)
        .await
        .expect("read");
    assert_eq!(read, [("a".to_owned(), 20)]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_stops_the_node_and_the_status_says_why() {
    let storage = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
    let database = Database::builder()
        .create_on(storage.clone())
        .expect("creates");
    let transport = MemoryNetwork::new().transport();
    let node = Node::start(quick(), 1, database, CounterMachine, transport)
        .await
        .expect("starts");
    node.initialize(BTreeMap::from([(1, "memory:1".to_owned())]))
        .await
        .expect("initialized");
    node.wait_for_leader(PATIENCE).await.expect("leads");
    node.write(add("a", 1)).await.expect("written");
    storage.follow(FaultPlan {
        calls: &[StorageCall::Sync],
        at: 1,
        fault: Fault::InputOutput,
        lasting: false,
    });
    let lost = node.write(add("a", 1)).await;
    assert!(
        matches!(lost, Err(Error::Unknown { .. } | Error::Stopped { .. })),
        "{lost:?}"
    );
    let stopped = node.wait_for("never", PATIENCE, |_| false).await;
    assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
    assert_eq!(storage.failed(), 1);
    // Reading goes on.
    assert_eq!(state(&node).await.0, [("a".to_owned(), 1)]);
    let refusal = node.write(add("a", 1)).await;
    assert!(matches!(refusal, Err(Error::Stopped { .. })), "{refusal:?}");
    node.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_speaks_with_the_vote_of_the_leader_does_not_stop_it() {
    let network = MemoryNetwork::new();
    let cluster = Cluster::start(1, quick(), Wires::Memory(network.clone())).await;
    let (id, leader) = cluster.leader().await;
    let mut vote = folio_raft::Vote::new(leader.status().term, id);
    vote.commit();
    // A step of a transfer: version, kind, vote, transfer, and a question for its progress.
    let message = postcard::to_allocvec(&(2u8, 2u8, vote, "x", 2u8)).unwrap();
    let (liar, address) = (network.transport(), cluster.addresses[&id].clone());
    let answered = liar.call(9, id, &address, message, PATIENCE).await;
    answered.expect("it is answered");
    leader.write(add("still", 1)).await.unwrap();
    cluster.stop().await;
}
