//! What each read level may and may not return.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::cluster::{Cluster, Node, PATIENCE, Wires, quick, still};
use common::tap::{APPEND, HANDOVER, STAND, Tap};
use common::{add, counters};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, Error, FollowerReads, ReadLevel, Role};
use folio_store::ReadTransaction;

fn value(view: &ReadTransaction, name: &str) -> u64 {
    let all = counters(view);
    let found = all.into_iter().find(|(counter, _)| counter == name);
    found.map_or(0, |(_, value)| value)
}

async fn read(node: &Node, level: ReadLevel) -> Result<u64, Error> {
    node.read(level, |view| value(view, "a")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_shows_every_answered_write_at_every_level() {
    let wires = Wires::Memory(MemoryNetwork::new());
    let cluster = Cluster::start(3, quick(), wires).await;
    let (_, leader) = cluster.leader().await;
    for count in 1..=100 {
        let written = leader.write(add("a", 1)).await.unwrap();
        for level in [
            ReadLevel::Linearizable,
            ReadLevel::Lease,
            ReadLevel::Follower,
            ReadLevel::AtLeast(written.index),
        ] {
            assert_eq!(read(&leader, level).await.unwrap(), count, "{level:?}");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_shows_a_write_to_who_waits_for_its_index() {
    let wires = Wires::Memory(MemoryNetwork::new());
    let cluster = Cluster::start(3, quick(), wires).await;
    let (_, leader) = cluster.leader().await;
    for count in 1..=50 {
        let level = ReadLevel::AtLeast(leader.write(add("a", 1)).await.unwrap().index);
        for node in cluster.nodes.values() {
            assert!(read(node, level).await.unwrap() >= count);
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_does_not_come_is_waited_for_no_longer_than_the_deadline() {
    let config = Config {
        read_timeout: Duration::from_millis(50),
        ..quick()
    };
    let cluster = Cluster::start(1, config, Wires::Memory(MemoryNetwork::new())).await;
    let (_, leader) = cluster.leader().await;
    let late = read(&leader, ReadLevel::AtLeast(u64::MAX)).await;
    assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn linearizable_reads_that_come_together_share_rounds() {
    let tap = Tap::new(|_, _, _| true);
    let wires = Wires::Tapped(MemoryNetwork::new(), tap.clone());
    let cluster = Cluster::start(3, still(), wires).await;
    let (_, leader) = cluster.leader().await;
    let index = leader.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;

    let before = tap.requests().await;
    for _ in 0..10 {
        read(&leader, ReadLevel::Linearizable).await.unwrap();
    }
    assert_eq!(
        tap.requests().await - before,
        20,
        "one at a time: a round each"
    );

    let before = tap.requests().await;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let leader = leader.clone();
        readers.spawn(async move { read(&leader, ReadLevel::Linearizable).await.unwrap() });
    }
    assert_eq!(readers.join_all().await, [1; 200]);
    let sent = tap.requests().await - before;
    assert!(sent <= 200, "200 reads took {sent} messages");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_read_asks_nobody_while_the_lease_lasts() {
    let network = MemoryNetwork::new();
    let tap = Tap::new(|_, _, _| true);
    let config = Config {
        read_timeout: Duration::from_millis(200),
        ..still()
    };
    let wires = Wires::Tapped(network.clone(), tap.clone());
    let cluster = Cluster::start(3, config, wires).await;
    let (leading, leader) = cluster.leader().await;
    let index = leader.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    // There is no lease yet, so this asks.
    assert_eq!(read(&leader, ReadLevel::Lease).await.unwrap(), 1);

    network.partition(leading);
    let before = tap.requests().await;
    for _ in 0..20 {
        assert_eq!(read(&leader, ReadLevel::Lease).await.unwrap(), 1);
    }
    assert_eq!(tap.requests().await, before);
    let refused = read(&leader, ReadLevel::Linearizable).await;
    assert!(
        matches!(refused, Err(Error::NoQuorum | Error::Timeout { .. })),
        "{refused:?}"
    );
    cluster.stop().await;
}

/// Reads under the lease of `old` all the time while `successor` is elected and answers a write.
/// From then on `old` must refuse or show the write.
async fn no_stale_lease_read(old: &Node, successor: impl Future<Output = Node>) {
    let answered = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let reader = tokio::spawn({
        let (old, answered, stop) = (old.clone(), answered.clone(), stop.clone());
        let served = served.clone();
        async move {
            let mut after = 0;
            while !stop.load(Ordering::Relaxed) {
                let expected = answered.load(Ordering::SeqCst);
                let found = read(&old, ReadLevel::Lease).await;
                if let Ok(found) = found {
                    assert!(found >= expected, "{found} after {expected} was answered");
                    served.fetch_add(1, Ordering::Relaxed);
                }
                after += u64::from(expected > 1);
                tokio::task::yield_now().await;
            }
            after
        }
    });
    while served.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let successor = successor.await;
    for _ in 0..200 {
        match successor.write(add("a", 1)).await {
            Ok(written) => answered.store(written.response, Ordering::SeqCst),
            Err(Error::Unknown { .. } | Error::NotLeader { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(answered.load(Ordering::SeqCst) > 1, "the successor led");
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.store(true, Ordering::Relaxed);
    let after: u64 = reader.await.unwrap();
    assert!(after > 0, "it was read after the successor's write, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_serves_no_lease_read_once_another_has_answered_a_write() {
    let network = MemoryNetwork::new();
    let config = Config {
        read_timeout: Duration::from_millis(200),
        ..quick()
    };
    let cluster = Cluster::start(3, config, Wires::Memory(network.clone())).await;
    let (cut, old) = cluster.leader().await;
    old.write(add("a", 1)).await.unwrap();
    assert_eq!(read(&old, ReadLevel::Lease).await.unwrap(), 1);
    network.partition(cut);
    no_stale_lease_read(&old, cluster.leader_without(&[cut])).await;
    network.heal();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_counts_on_no_more_than_its_followers_promise_whatever_its_own_settings_are() {
    let network = MemoryNetwork::new();
    let with = |election_timeout_min, election_timeout_max| Config {
        heartbeat_interval: Duration::from_millis(100),
        election_timeout_min,
        election_timeout_max,
        read_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    // Its own lease would last for four and a half minutes.
    let long = with(Duration::from_secs(300), Duration::from_secs(600));
    let mut cluster = Cluster::start(3, long, Wires::Memory(network.clone())).await;
    let (leading, old) = cluster.leader().await;
    cluster.config = with(Duration::from_millis(1000), Duration::from_millis(1500));
    for id in (1..=3).filter(|id| *id != leading) {
        cluster.kill(id).await;
        cluster.bring_up(id).await;
        let index = old.write(add("a", 1)).await.unwrap().index;
        cluster.applied(index).await;
    }
    assert_eq!(read(&old, ReadLevel::Lease).await.unwrap(), 2);
    network.partition(leading);
    no_stale_lease_read(&old, cluster.leader_without(&[leading])).await;
    network.heal();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_grants_its_own_vote_has_no_lease_any_more() {
    // The old leader speaks to one follower only, which renews its lease all the time. The other
    // stands for election, and the old leader itself is the one who votes for it.
    let network = MemoryNetwork::new();
    let config = Config {
        heartbeat_interval: Duration::from_millis(100),
        election_timeout_min: Duration::from_millis(900),
        election_timeout_max: Duration::from_millis(1000),
        read_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    let deaf = Arc::new(AtomicU64::new(0));
    let lost = deaf.clone();
    let tap = Tap::new(move |from, to, request| {
        let to_deaf = to == lost.load(Ordering::Relaxed) && request[1] == APPEND;
        // Its own appends pass: once elected, it leads.
        !(to_deaf && from != to)
    });
    let cluster = Cluster::start(3, config, Wires::Tapped(network, tap)).await;
    let (_, old) = cluster.leader().await;
    let index = old.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    assert_eq!(read(&old, ReadLevel::Lease).await.unwrap(), 1);
    let (other, standing) = cluster.follower().await;
    deaf.store(other, Ordering::Relaxed);
    let elected = async {
        let leads = |status: &folio_raft::Status| status.role == Role::Leader;
        let waiting = standing.wait_for("the election", PATIENCE, leads);
        waiting.await.unwrap();
        standing.clone()
    };
    no_stale_lease_read(&old, elected).await;
    deaf.store(0, Ordering::Relaxed);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hands_over_serves_no_lease_read_once_its_successor_has_answered_a_write() {
    // The old leader hears nothing of its successor, not even that it stands for election.
    let deaf = Arc::new(AtomicU64::new(0));
    let lost = deaf.clone();
    let tap = Tap::new(move |_, to, request| {
        if request[1] == HANDOVER && request[2] == STAND {
            // Until the third one has been released.
            std::thread::sleep(Duration::from_millis(30));
        }
        to != lost.load(Ordering::Relaxed)
    });
    let wires = Wires::Tapped(MemoryNetwork::new(), tap);
    let cluster = Cluster::start(3, quick(), wires).await;
    let (leading, old) = cluster.leader().await;
    let index = old.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    assert_eq!(read(&old, ReadLevel::Lease).await.unwrap(), 1);
    let (to, successor) = cluster.follower().await;
    deaf.store(leading, Ordering::Relaxed);
    let elected = async {
        let handing_over = tokio::spawn({
            let old = old.clone();
            async move { old.transfer_leadership(Some(to)).await }
        });
        let leads = |status: &folio_raft::Status| status.role == Role::Leader;
        let waiting = successor.wait_for("the election", PATIENCE, leads);
        waiting.await.unwrap();
        // It never learns of its success.
        handing_over.abort();
        successor.clone()
    };
    no_stale_lease_read(&old, elected).await;
    deaf.store(0, Ordering::Relaxed);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follower_reads_are_off_by_default_and_refused_with_the_leaders_name() {
    let cluster = Cluster::start(3, quick(), Wires::Memory(MemoryNetwork::new())).await;
    let (_, follower) = cluster.follower().await;
    let (leading, _) = cluster.leader().await;
    for level in [
        ReadLevel::Follower,
        ReadLevel::Lease,
        ReadLevel::Linearizable,
    ] {
        let refused = read(&follower, level).await;
        let Err(Error::NotLeader { leader, address }) = refused else {
            panic!("{level:?}: {refused:?}");
        };
        assert_eq!(leader, Some(leading));
        assert_eq!(address.as_ref(), cluster.addresses.get(&leading));
    }
    cluster.stop().await;
}

fn bounded(entries: u64, age: Duration, config: Config) -> Config {
    Config {
        follower_reads: Some(FollowerReads { entries, age }),
        ..config
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_follower_answers_and_asks_the_leader_once_for_many_reads() {
    let tap = Tap::new(|_, _, _| true);
    let wires = Wires::Tapped(MemoryNetwork::new(), tap.clone());
    let config = bounded(0, Duration::from_secs(3600), still());
    let cluster = Cluster::start(3, config, wires).await;
    let (_, leader) = cluster.leader().await;
    let index = leader.write(add("a", 7)).await.unwrap().index;
    cluster.applied(index).await;
    let (_, follower) = cluster.follower().await;
    let before = tap.requests().await;
    for _ in 0..50 {
        assert_eq!(read(&follower, ReadLevel::Follower).await.unwrap(), 7);
    }
    // The question, and the leader's round of heartbeats to answer it.
    assert_eq!(tap.requests().await - before, 3);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lacks_more_entries_than_allowed_refuses_and_says_how_many() {
    const ALLOWED: u64 = 5;
    let hold = Arc::new(AtomicU64::new(0));
    let held = hold.clone();
    let tap = Tap::new(move |_, to, request| {
        !(to == held.load(Ordering::Relaxed) && request[1] == APPEND)
    });
    let config = Config {
        heartbeat_interval: Duration::from_millis(50),
        ..bounded(ALLOWED, Duration::from_secs(3600), still())
    };
    let cluster = Cluster::start(3, config, Wires::Tapped(MemoryNetwork::new(), tap)).await;
    let (_, leader) = cluster.leader().await;
    let index = leader.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    let (id, follower) = cluster.follower().await;
    assert_eq!(read(&follower, ReadLevel::Follower).await.unwrap(), 1);

    hold.store(id, Ordering::Relaxed);
    for _ in 0..ALLOWED {
        leader.write(add("a", 1)).await.unwrap();
    }
    tokio::time::sleep(2 * Duration::from_millis(50)).await;
    let allowed = read(&follower, ReadLevel::Follower).await;
    assert_eq!(allowed.unwrap(), 1, "the bound allows for it");
    leader.write(add("a", 1)).await.unwrap();
    let started = Instant::now();
    let (entries, age) = loop {
        match read(&follower, ReadLevel::Follower).await {
            Ok(found) => assert_eq!(found, 1),
            Err(Error::TooFarBehind { entries, age, .. }) => break (entries, age),
            Err(error) => panic!("{error}"),
        }
        assert!(started.elapsed() < PATIENCE, "it is never refused");
    };
    assert_eq!(entries, Some(ALLOWED + 1));
    assert!(age.is_some());

    hold.store(0, Ordering::Relaxed);
    follower
        .wait_for_applied(index + ALLOWED + 1, PATIENCE)
        .await
        .unwrap();
    let caught_up = read(&follower, ReadLevel::Follower).await;
    assert_eq!(caught_up.unwrap(), ALLOWED + 2);
    cluster.stop().await;
}

/// Reads at `follower` until it refuses. What it shows until then may lack the write that was
/// answered at `answered` only for as long as `age` allows.
async fn refuses_in_time(follower: &Node, expected: u64, answered: Instant, age: Duration) {
    let started = Instant::now();
    loop {
        let asked = Instant::now();
        match read(follower, ReadLevel::Follower).await {
            Ok(found) => assert!(
                found >= expected || asked - answered <= age,
                "{found}, {:?} after {expected} was answered",
                asked - answered
            ),
            Err(Error::TooFarBehind { cause, .. }) => {
                assert!(cause.is_some(), "the leader could not be asked");
                return;
            }
            Err(Error::NotLeader { .. } | Error::Timeout { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(started.elapsed() < PATIENCE, "it is never refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_off_lacks_no_write_for_longer_than_the_bound() {
    let age = Duration::from_millis(300);
    let network = MemoryNetwork::new();
    let config = bounded(1_000_000, age, quick());
    let cluster = Cluster::start(3, config, Wires::Memory(network.clone())).await;
    let (_, leader) = cluster.leader().await;
    let index = leader.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    let (id, follower) = cluster.follower().await;
    assert_eq!(read(&follower, ReadLevel::Follower).await.unwrap(), 1);
    network.partition(id);
    let expected = leader.write(add("a", 1)).await.unwrap().response;
    refuses_in_time(&follower, expected, Instant::now(), age).await;
    network.heal();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_majority_does_not_vouch_for_its_followers() {
    let age = Duration::from_millis(300);
    let network = MemoryNetwork::new();
    let config = bounded(1_000_000, age, quick());
    let cluster = Cluster::start(5, config, Wires::Memory(network.clone())).await;
    let (leading, old) = cluster.leader().await;
    let index = old.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    let (id, follower) = cluster.follower().await;
    assert_eq!(read(&follower, ReadLevel::Follower).await.unwrap(), 1);

    // The two stay together, and the other three elect a leader of their own.
    let minority = [leading, id];
    for one in minority {
        for other in cluster
            .nodes
            .keys()
            .filter(|other| !minority.contains(other))
        {
            network.drop_link(one, *other);
            network.drop_link(*other, one);
        }
    }
    let successor = cluster.leader_without(&minority).await;
    let expected = successor.write(add("a", 1)).await.unwrap().response;
    refuses_in_time(&follower, expected, Instant::now(), age).await;
    network.heal();
    cluster.stop().await;
}
