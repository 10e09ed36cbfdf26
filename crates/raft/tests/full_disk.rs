//! Disks without room: what a cluster does, and that it loses nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Range;
use std::time::Duration;

use common::cluster::{Cluster, Node, PATIENCE, Wires, quick};
use common::{Command, add, counters, history};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, Error, ReadLevel, Role, Status};

/// What a new node needs, and some writes.
const SMALL: u64 = 1 << 20;
const LARGE: u64 = 1 << 30;

fn wires() -> Wires {
    Wires::Memory(MemoryNetwork::new())
}

/// Nodes that use their disks up.
fn reckless() -> Config {
    Config {
        disk_reserve: 0,
        write_timeout: Duration::from_secs(1),
        ..quick()
    }
}

/// The same, and what is written waits for room.
fn patient() -> Config {
    Config {
        write_timeout: PATIENCE,
        ..reckless()
    }
}

/// A command that takes some room.
fn large(number: usize) -> Command {
    add(&format!("{number:0>500}"), 1)
}

/// Writes until a write fails: how many were answered, and the failure.
async fn fill(node: &Node, from: usize) -> (usize, Error) {
    let mut number = from;
    loop {
        match node.write(large(number)).await {
            Ok(_) => number += 1,
            Err(error) => return (number, error),
        }
    }
}

/// Writes until the node knows that its disk is full: how many were answered, and of which one that is not known. It is told
/// before the node knows, or waits with it.
async fn write_until_full(node: &Node) -> (usize, Range<usize>) {
    let mut answered = 0;
    let full = || wait(node, "a full disk", |status| status.disk_full.is_some());
    let unknown = loop {
        tokio::select! {
            written = node.write(large(answered)) => match written {
                Ok(_) => answered += 1,
                Err(Error::DiskFull { .. }) => break answered..answered,
                Err(other) => panic!("after {answered} writes: {other}"),
            },
            _ = full() => break answered..answered + 1,
        }
    };
    full().await;
    (answered, unknown)
}

async fn wait(node: &Node, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
    node.wait_for(what, PATIENCE, condition).await.unwrap()
}

/// That each of the first so many commands was carried out once, and at most those after them that are named.
async fn holds(node: &Node, acknowledged: usize, unknown: Range<usize>) {
    let (counters, changes) = node
        .read(ReadLevel::Local, |view| (counters(view), history(view)))
        .await
        .unwrap();
    let mut names: Vec<_> = (0..acknowledged).map(|n| format!("{n:0>500}")).collect();
    let more = unknown.map(|n| format!("{n:0>500}"));
    names.extend(more.filter(|name| counters.iter().any(|(found, _)| found == name)));
    let expected: Vec<_> = names.into_iter().map(|name| (name, 1)).collect();
    assert!(counters == expected, "{} counters", counters.len());
    assert_eq!(changes.len(), counters.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_room_waits_and_gets_what_it_missed() {
    let cluster = Cluster::start_on(3, reckless(), wires(), Some(LARGE)).await;
    let (leading, leader) = cluster.leader().await;
    let (short, follower) = cluster.follower().await;
    leader.write(add("first", 1)).await.unwrap();
    cluster.disks[&short].set_limit(0);
    let mut number = 0;
    while follower.status().disk_full.is_none() {
        leader.write(large(number)).await.unwrap();
        number += 1;
    }
    let full = follower.status().disk_full.unwrap();
    assert!(full.contains("no room to grow"), "{full}");
    assert_eq!(follower.status().error, None);
    let last = leader.write(add("last", 1)).await.unwrap().index;
    assert_eq!(leader.status().disk_full, None);
    assert!(follower.status().applied < Some(last));

    cluster.disks[&short].set_limit(LARGE);
    cluster.applied(last).await;
    wait(&follower, "room", |status| status.disk_full.is_none()).await;
    let rows = |node: Node| async move {
        let read = node.read(ReadLevel::Local, |view| (counters(view), history(view)));
        read.await.unwrap()
    };
    assert!(rows(follower).await == rows(cluster.nodes[&leading].clone()).await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_runs_out_of_room_gives_way_to_one_that_has_some() {
    let cluster = Cluster::start_on(3, reckless(), wires(), Some(LARGE)).await;
    let (short, leader) = cluster.leader().await;
    leader.write(add("first", 1)).await.unwrap();
    cluster.disks[&short].set_limit(0);
    let mut answered = Vec::new();
    for number in 0.. {
        if leader.write(large(number)).await.is_ok() {
            answered.push(number);
        }
        let status = leader.status();
        if status.disk_full.is_some() || status.role != Role::Leader {
            break;
        }
    }
    let next = cluster.leader_without(&[short]).await;
    let full = leader.write(add("refused", 1)).await;
    assert!(
        matches!(full, Err(Error::DiskFull { .. } | Error::NotLeader { .. })),
        "{full:?}"
    );
    let last = next.write(add("last", 1)).await.unwrap().index;

    cluster.disks[&short].set_limit(LARGE);
    cluster.applied(last).await;
    wait(&leader, "room", |status| status.disk_full.is_none()).await;
    let rows = leader.read(ReadLevel::Local, counters);
    let names: Vec<_> = rows.await.unwrap().into_iter().map(|row| row.0).collect();
    for number in answered {
        assert!(names.contains(&format!("{number:0>500}")), "write {number}");
    }
    assert!(!names.contains(&"refused".to_owned()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_short_of_room_take_no_writes_and_go_on_answering_reads() {
    let config = Config {
        disk_reserve: SMALL / 2,
        ..quick()
    };
    let cluster = Cluster::start_on(1, config, wires(), Some(SMALL)).await;
    let (short, leader) = cluster.leader().await;
    let (answered, full) = fill(&leader, 0).await;
    assert!(answered > 0);
    let text = full.to_string();
    assert!(
        matches!(full, Error::DiskFull { .. }) && text.contains("are kept back"),
        "{text}"
    );
    assert_eq!(cluster.disks[&short].refused(), 0);
    let status = leader.status();
    assert_eq!((status.role, status.error), (Role::Leader, None));
    assert!(status.disk_full.is_some());
    let read = leader.read(ReadLevel::Linearizable, |view| counters(view).len());
    assert_eq!(read.await.unwrap(), answered);

    cluster.disks[&short].set_limit(LARGE);
    let last = leader.write(large(answered)).await.unwrap().index;
    cluster.applied(last).await;
    assert_eq!(leader.status().disk_full, None);
    holds(&leader, answered + 1, 0..0).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_short_of_room_gives_the_leadership_to_a_node_that_is_not() {
    let config = Config {
        disk_reserve: SMALL / 2,
        ..quick()
    };
    let cluster = Cluster::start_on(3, config, wires(), Some(LARGE)).await;
    let (short, leader) = cluster.leader().await;
    cluster.disks[&short].set_limit(SMALL);
    let (answered, _) = fill(&leader, 0).await;
    assert!(answered > 0);
    let next = cluster.leader_without(&[short]).await;
    let last = next.write(large(answered)).await.unwrap().index;
    cluster.applied(last).await;
    assert_eq!(cluster.disks[&short].refused(), 0);
    assert!(leader.status().disk_full.is_some());
    holds(&next, answered + 1, 0..0).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_room_ends_what_was_answered_is_carried_out_once() {
    for (turn, kibibytes) in (300..700).step_by(25).enumerate() {
        let limit: u64 = kibibytes << 10;
        let mut cluster = Cluster::start_on(1, patient(), wires(), Some(LARGE)).await;
        let (_, node) = cluster.leader().await;
        cluster.disks[&1].set_limit(limit);
        let (answered, unknown) = write_until_full(&node).await;
        let refused = node.write(large(answered + 1)).await;
        assert!(
            matches!(refused, Err(Error::DiskFull { .. })),
            "{refused:?}"
        );
        // Reads of what was applied go on.
        let read = node.read(ReadLevel::Local, |view| counters(view).len());
        assert!(read.await.unwrap() >= answered, "with {limit} bytes");

        // Some are stopped and started while there is no room, and some are not.
        if turn % 2 == 0 {
            cluster.kill(1).await;
            cluster.disks[&1].set_limit(LARGE);
            cluster.bring_up(1).await;
        } else {
            cluster.disks[&1].set_limit(LARGE);
        }
        let (_, node) = cluster.leader().await;
        wait(&node, "room", |status| status.disk_full.is_none()).await;
        let last = node.write(add("~last", 1)).await.unwrap().index;
        node.wait_for_applied(last, PATIENCE).await.unwrap();
        node.write(Command::Remove {
            counter: "~last".into(),
        })
        .await
        .unwrap();
        let rows = node.read(ReadLevel::Linearizable, counters);
        let rows = rows.await.unwrap();
        assert!(rows.iter().all(|(_, value)| *value == 1), "applied twice");
        let names: Vec<_> = rows.iter().map(|(name, _)| name.clone()).collect();
        let mut expected: Vec<_> = (0..answered).map(|n| format!("{n:0>500}")).collect();
        expected.extend(
            unknown
                .map(|n| format!("{n:0>500}"))
                .filter(|name| names.contains(name)),
        );
        assert!(names == expected, "with {limit} bytes: {}", names.len());
        drop(node);
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_room_can_be_stopped() {
    let mut cluster = Cluster::start_on(1, patient(), wires(), Some(LARGE)).await;
    let (_, node) = cluster.leader().await;
    cluster.disks[&1].set_limit(0);
    let (answered, _) = write_until_full(&node).await;
    node.shutdown().await.unwrap();
    cluster.nodes.remove(&1);
    drop(node);
    cluster.disks[&1].set_limit(LARGE);
    cluster.bring_up(1).await;
    let (_, node) = cluster.leader().await;
    node.write(add("", 1)).await.unwrap();
    node.write(Command::Remove { counter: "".into() })
        .await
        .unwrap();
    let read = node.read(ReadLevel::Local, |view| counters(view).len());
    let found = read.await.unwrap();
    assert!(
        found == answered || found == answered + 1,
        "{found} of {answered}"
    );
    cluster.stop().await;
}
