//! Giving leadership away.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::cluster::{Cluster, Node, PATIENCE, Wires, quick, still};
use common::tap::{APPEND, HANDOVER, RELEASE, STAND, Tap};
use common::{add, counters};
use folio_raft::transport::{MemoryNetwork, Transport};
use folio_raft::{Config, Error, NodeId, ReadLevel, Role};
use parking_lot::Mutex;

fn memory() -> Wires {
    Wires::Memory(MemoryNetwork::new())
}

async fn value(node: &Node) -> u64 {
    let all = node.read(ReadLevel::Linearizable, counters).await.unwrap();
    all.first().map_or(0, |(_, value)| *value)
}

/// Nothing in these clusters happens by itself, so whoever leads was made to.
async fn goes_around(size: u64) {
    let cluster = Cluster::start(size, still(), memory()).await;
    let (mut leading, _) = cluster.leader().await;
    // Each of these leaders has led for no longer than one write takes.
    for round in 1..=3 * size {
        let to = leading % size + 1;
        let leader = &cluster.nodes[&leading];
        let term = leader.status().term;
        assert_eq!(leader.transfer_leadership(Some(to)).await.unwrap(), to);
        let successor = &cluster.nodes[&to];
        let index = successor.write(add("a", 1)).await.unwrap().index;
        cluster.applied(index).await;
        assert_eq!(successor.status().term, term + 1, "one election was enough");
        assert_eq!(value(successor).await, round);
        leading = to;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_where_it_is_sent_with_one_election_among_three() {
    goes_around(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_where_it_is_sent_with_one_election_among_five() {
    goes_around(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_shuts_down_leaves_a_leader_behind() {
    for size in [2, 3, 5] {
        let mut cluster = Cluster::start(size, still(), memory()).await;
        // Two nodes are no majority of three, and so on: as many go as can.
        for _ in 0..(size - 1) / 2 {
            let (leading, leader) = cluster.leader().await;
            leader.write(add("a", 1)).await.unwrap();
            leader.shutdown().await.unwrap();
            cluster.nodes.remove(&leading);
            let (_, successor) = cluster.leader().await;
            successor.write(add("a", 1)).await.unwrap();
        }
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_while_a_member_is_down() {
    let mut cluster = Cluster::start(3, still(), memory()).await;
    let (leading, leader) = cluster.leader().await;
    let (down, _) = cluster.follower().await;
    cluster.kill(down).await;
    let successor = leader.transfer_leadership(None).await.unwrap();
    assert!(successor != down && successor != leading);
    cluster.nodes[&successor].write(add("a", 1)).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_under_a_moving_leadership_are_carried_out_once_or_refused_by_name() {
    let cluster = Arc::new(Cluster::start(3, quick(), memory()).await);
    let (mut leading, _) = cluster.leader().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (cluster, stop) = (cluster.clone(), stop.clone());
        writers.spawn(async move {
            let mut at: NodeId = 1;
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                match cluster.nodes[&at].write(add("a", 1)).await {
                    Ok(_) => written += 1,
                    Err(Error::NotLeader { leader, .. }) => at = leader.unwrap_or(at % 3 + 1),
                    Err(error) => panic!("{error}"),
                }
            }
            written
        });
    }
    for _ in 0..12 {
        let leader = &cluster.nodes[&leading];
        leading = leader.transfer_leadership(None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let written: u64 = writers.join_all().await.into_iter().sum();
    assert_eq!(value(&cluster.nodes[&leading]).await, written);
    for node in cluster.nodes.values() {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_fit_successor_goes_on_leading() {
    let network = MemoryNetwork::new();
    let cluster = Cluster::start(3, still(), Wires::Memory(network.clone())).await;
    let (leading, leader) = cluster.leader().await;
    let (cut, _) = cluster.follower().await;
    network.partition(cut);
    let term = leader.status().term;
    for (to, word) in [(cut, "cut"), (leading, "no other"), (9, "no other")] {
        let refused = leader.transfer_leadership(Some(to)).await;
        assert!(
            matches!(refused, Err(Error::Handover { .. })),
            "{refused:?}"
        );
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    leader.write(add("a", 1)).await.unwrap();
    assert_eq!(value(&leader).await, 1);
    assert_eq!(leader.status().term, term);
    network.heal();
    cluster.stop().await;

    let alone = Cluster::start(1, still(), memory()).await;
    alone.leader().await;
    let refused = alone.nodes[&1].transfer_leadership(None).await;
    assert!(
        matches!(refused, Err(Error::Handover { .. })),
        "{refused:?}"
    );
    alone.nodes[&1].write(add("a", 1)).await.unwrap();
    alone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_leader_can_give_leadership_away() {
    let cluster = Cluster::start(3, quick(), memory()).await;
    let (leading, _) = cluster.leader().await;
    let (id, follower) = cluster.follower().await;
    let refused = follower.transfer_leadership(Some(id)).await;
    assert!(
        matches!(refused, Err(Error::NotLeader { leader, .. }) if leader == Some(leading)),
        "{refused:?}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_that_breaks_off_leaves_a_cluster_that_elects_by_itself() {
    for lost in [RELEASE, STAND] {
        let tap = Tap::new(move |_, _, request| !(request[1] == HANDOVER && request[2] == lost));
        let wires = Wires::Tapped(MemoryNetwork::new(), tap);
        // Of five, the leader and its successor are no majority: others have to be released.
        let cluster = Cluster::start(5, quick(), wires).await;
        let broken = loop {
            let (_, leader) = cluster.leader().await;
            match leader.transfer_leadership(None).await {
                // On a busy machine another may be elected before it begins.
                Err(Error::NotLeader { .. }) => {}
                outcome => break outcome,
            }
        };
        assert!(
            matches!(broken, Err(Error::Handover { .. } | Error::Peer { .. })),
            "{broken:?}"
        );
        let index = loop {
            let (_, next) = cluster.leader().await;
            match next.write(add("a", 1)).await {
                Ok(written) => break written.index,
                Err(Error::NotLeader { .. } | Error::Unknown { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        cluster.applied(index).await;
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_an_old_handover_depose_nobody() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    let tap = Tap::new(move |from, to, request| {
        if request[1] == HANDOVER {
            keep.lock().push((from, to, request.clone()));
        }
        true
    });
    let network = MemoryNetwork::new();
    let cluster = Cluster::start(5, still(), Wires::Tapped(network.clone(), tap)).await;
    let (mut leading, _) = cluster.leader().await;
    let mut steps = BTreeSet::new();
    for _ in 0..10 {
        let leader = &cluster.nodes[&leading];
        leading = leader
            .transfer_leadership(Some(leading % 5 + 1))
            .await
            .unwrap();
        let index = cluster.nodes[&leading]
            .write(add("a", 1))
            .await
            .unwrap()
            .index;
        cluster.applied(index).await;
        let term = cluster.nodes[&leading].status().term;
        let messages = kept.lock().clone();
        for (from, to, request) in messages {
            steps.insert(request[2]);
            let replay = network.transport();
            replay.call(from, to, "", request, PATIENCE).await.unwrap();
        }
        let leader = &cluster.nodes[&leading];
        leader.write(add("a", 1)).await.unwrap();
        assert_eq!(
            (leader.status().term, leader.status().role),
            (term, Role::Leader)
        );
    }
    assert!(steps.contains(&RELEASE) && steps.contains(&STAND));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_comes_late_does_not_free_a_node_from_what_it_promised_since() {
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let tap = Tap::new(move |from, to, request| {
        if request[1] == HANDOVER && request[2] == RELEASE {
            *keep.lock() = Some((from, to, request.clone()));
        }
        true
    });
    let network = MemoryNetwork::new();
    let cluster = Cluster::start(5, still(), Wires::Tapped(network.clone(), tap)).await;
    let (leading, leader) = cluster.leader().await;
    // The first of the others, so that there is a greater vote in the same term.
    let to = (1..=5).find(|id| *id != leading).unwrap();
    leader.transfer_leadership(Some(to)).await.unwrap();
    let successor = &cluster.nodes[&to];
    let index = successor.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    let status = successor.status();

    // What the old leader would have sent, had it meant to have another one stand in that term.
    let (from, released, mut request) = kept.lock().take().unwrap();
    assert_eq!(
        [u64::from(request[3]), u64::from(request[4])],
        [status.term, to]
    );
    request[4] = 5;
    let replay = network.transport();
    let answer = replay.call(from, released, "", request, PATIENCE).await;
    let answer = String::from_utf8_lossy(&answer.unwrap()).into_owned();
    assert!(answer.contains("follows another"), "{answer}");
    successor.write(add("a", 1)).await.unwrap();
    let after = successor.status();
    assert_eq!((after.term, after.role), (status.term, Role::Leader));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_lags_is_waited_for_and_the_writes_that_come_meanwhile_are_refused() {
    // The successor gets its entries late, so the handover has to wait, and writes are held back.
    let slow = Arc::new(AtomicU64::new(0));
    let slowed = slow.clone();
    let tap = Tap::new(move |_, to, request| {
        // Shorter ones have no entry with a command in them.
        let append_of_entries = request[1] == APPEND && request.len() > 24;
        !(to == slowed.load(Ordering::Relaxed) && append_of_entries)
    });
    let config = Config {
        heartbeat_interval: Duration::from_millis(50),
        ..still()
    };
    let cluster = Cluster::start(3, config, Wires::Tapped(MemoryNetwork::new(), tap)).await;
    let (_, leader) = cluster.leader().await;
    let (to, successor) = cluster.follower().await;
    slow.store(to, Ordering::Relaxed);
    leader.write(add("a", 1)).await.unwrap();
    let transfer = tokio::spawn({
        let leader = leader.clone();
        async move { leader.transfer_leadership(Some(to)).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!transfer.is_finished(), "the successor lacks an entry");
    let late = tokio::spawn({
        let leader = leader.clone();
        async move { leader.write(add("a", 1)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    slow.store(0, Ordering::Relaxed);
    assert_eq!(transfer.await.unwrap().unwrap(), to);
    let late = late.await.unwrap();
    assert!(
        matches!(late, Err(Error::NotLeader { leader, .. }) if leader == Some(to)),
        "{late:?}"
    );
    assert_eq!(value(&successor).await, 1);
    cluster.stop().await;
}
