//! Changes of the membership, online.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::cluster::{Cluster, Node, Wires, quick};
use common::{add, counters};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, Error, NodeId, ReadLevel, Role};

fn memory() -> Wires {
    Wires::Memory(MemoryNetwork::new())
}

async fn value(node: &Node, level: ReadLevel) -> u64 {
    let all = node.read(level, counters).await.unwrap();
    all.first().map_or(0, |(_, value)| *value)
}

/// Adds one again and again at whoever leads, until told to stop; says how often it worked.
fn load(nodes: Vec<Node>) -> (Arc<AtomicBool>, tokio::task::JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writer = tokio::spawn(async move {
        let (mut at, mut written) = (0, 0);
        while !stopped.load(Ordering::Relaxed) {
            match nodes[at].write(add("a", 1)).await {
                Ok(_) => written += 1,
                Err(Error::NotLeader { .. } | Error::ShuttingDown) => at = (at + 1) % nodes.len(),
                Err(error) => panic!("{error}"),
            }
        }
        written
    });
    (stop, writer)
}

async fn add_node(cluster: &mut Cluster, leader: &Node, id: NodeId) {
    cluster.bring_up(id).await;
    let address = cluster.addresses[&id].clone();
    leader.add_learner(id, address).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_gets_everything_and_counts_for_nothing_until_it_is_promoted() {
    let mut cluster = Cluster::start(1, quick(), Wires::Tcp).await;
    let (_, leader) = cluster.leader().await;
    leader.write(add("a", 1)).await.unwrap();
    add_node(&mut cluster, &leader, 2).await;
    let index = leader.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    assert_eq!(value(&cluster.nodes[&2], ReadLevel::Local).await, 2);
    assert_eq!(cluster.nodes[&2].status().role, Role::Learner);
    // The leader is a majority of its own.
    cluster.kill(2).await;
    leader.write(add("a", 1)).await.unwrap();

    cluster.bring_up(2).await;
    leader.promote(2).await.unwrap();
    let voters: Vec<_> = leader.status().voters.into_keys().collect();
    assert_eq!(voters, [1, 2]);
    // Both are needed from now on.
    cluster.kill(2).await;
    let alone = leader.read(ReadLevel::Linearizable, counters).await;
    assert!(
        matches!(alone, Err(Error::NoQuorum | Error::Timeout { .. })),
        "{alone:?}"
    );
    cluster.bring_up(2).await;
    assert_eq!(value(&leader, ReadLevel::Linearizable).await, 3);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_lacks_the_log_is_not_promoted() {
    let config = Config {
        membership_timeout: Duration::from_millis(300),
        ..quick()
    };
    let mut cluster = Cluster::start(1, config, memory()).await;
    let (_, leader) = cluster.leader().await;
    add_node(&mut cluster, &leader, 2).await;
    cluster.kill(2).await;
    leader.write(add("a", 1)).await.unwrap();
    let refused = leader.promote(2).await;
    assert!(
        matches!(refused, Err(Error::Membership { .. })),
        "{refused:?}"
    );
    let refused = leader.promote(3).await;
    assert!(
        matches!(refused, Err(Error::Membership { .. })),
        "{refused:?}"
    );
    // It would be a majority of two that is not there.
    leader.write(add("a", 1)).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_comes_back_as_a_new_one_under_load() {
    // A log so short that the new node needs a snapshot.
    let config = Config {
        snapshot_after_entries: 50,
        log_entries_kept: 10,
        purge_batch: 1,
        ..quick()
    };
    let mut cluster = Cluster::start(3, config, Wires::Tcp).await;
    let (_, leader) = cluster.leader().await;
    let (lost, _) = cluster.follower().await;
    for _ in 0..150 {
        leader.write(add("a", 1)).await.unwrap();
    }
    let (stop, writer) = load(vec![leader.clone()]);
    cluster.kill(lost).await;
    std::fs::remove_file(cluster.path(lost)).unwrap();
    cluster.bring_up(4).await;
    let address = cluster.addresses[&4].clone();
    leader.replace(lost, 4, address).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let expected = 150 + writer.await.unwrap();

    let status = leader.status();
    assert!(!status.voters.contains_key(&lost) && status.voters.contains_key(&4));
    assert!(status.learners.is_empty());
    // The new one carries the cluster when another goes.
    let gone = (1..=3)
        .find(|id| *id != lost && *id != status.node)
        .unwrap();
    cluster.kill(gone).await;
    assert_eq!(value(&leader, ReadLevel::Linearizable).await, expected);
    let index = leader.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    assert_eq!(
        value(&cluster.nodes[&4], ReadLevel::Local).await,
        expected + 1
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_and_learners_can_be_removed_and_the_leader_only_by_its_successor() {
    let mut cluster = Cluster::start(3, quick(), memory()).await;
    let (leading, leader) = cluster.leader().await;
    add_node(&mut cluster, &leader, 4).await;
    leader.remove(4).await.unwrap();
    assert!(leader.status().learners.is_empty());
    let refused = leader.remove(4).await;
    assert!(
        matches!(refused, Err(Error::Membership { .. })),
        "{refused:?}"
    );

    let refused = leader.remove(leading).await.unwrap_err().to_string();
    assert!(refused.contains("transfer the leadership"), "{refused}");
    let successor = leader.transfer_leadership(None).await.unwrap();
    let successor = cluster.nodes[&successor].clone();
    successor.remove(leading).await.unwrap();
    cluster.kill(leading).await;
    cluster.kill(4).await;
    assert_eq!(successor.status().voters.len(), 2);
    let index = successor.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_can_move_to_another_address() {
    let mut cluster = Cluster::start(3, quick(), Wires::Tcp).await;
    let (_, leader) = cluster.leader().await;
    let (moving, _) = cluster.follower().await;
    cluster.kill(moving).await;
    let before = cluster.addresses.remove(&moving).unwrap();
    // Something else may take its old port meanwhile.
    let _taken = tokio::net::TcpListener::bind(&before).await.unwrap();
    cluster.bring_up(moving).await;
    let address = cluster.addresses[&moving].clone();
    assert_ne!(address, before);
    leader.set_address(moving, address.clone()).await.unwrap();
    let index = leader.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    for node in cluster.nodes.values() {
        assert_eq!(node.status().voters[&moving], address);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_change_can_make_three_voters_five() {
    let mut cluster = Cluster::start(3, quick(), memory()).await;
    let (_, leader) = cluster.leader().await;
    for id in [4, 5] {
        add_node(&mut cluster, &leader, id).await;
    }
    leader.change_membership((1..=5).collect()).await.unwrap();
    assert_eq!(leader.status().voters.len(), 5);
    // Two of five may go.
    for _ in 0..2 {
        let (id, _) = cluster.follower().await;
        cluster.kill(id).await;
    }
    let (_, leader) = cluster.leader().await;
    leader.write(add("a", 1)).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_make_no_sense_are_refused_and_say_why() {
    let mut cluster = Cluster::start(3, quick(), memory()).await;
    let (leading, leader) = cluster.leader().await;
    let (_, follower) = cluster.follower().await;
    let elsewhere = follower.add_learner(4, "memory:4".into()).await;
    assert!(
        matches!(elsewhere, Err(Error::NotLeader { leader, .. }) if leader == Some(leading)),
        "{elsewhere:?}"
    );
    add_node(&mut cluster, &leader, 4).await;
    // Again is no error, another address is.
    leader.add_learner(4, "memory:4".into()).await.unwrap();
    for (refused, word) in [
        (
            leader.add_learner(4, "memory:5".into()).await,
            "set its address",
        ),
        (leader.promote(9).await, "no member"),
        (leader.remove(9).await, "no member"),
        (leader.set_address(9, "memory:9".into()).await, "no member"),
        (
            leader.replace(4, 5, "memory:5".into()).await,
            "does not vote",
        ),
        (
            leader.change_membership([1, 2, 3, 9].into()).await,
            "no member",
        ),
    ] {
        assert!(
            matches!(refused, Err(Error::Membership { .. })),
            "{refused:?}"
        );
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_majority_does_not_answer_has_an_unknown_outcome() {
    let network = MemoryNetwork::new();
    let config = Config {
        membership_timeout: Duration::from_millis(200),
        ..common::cluster::still()
    };
    let cluster = Cluster::start(3, config, Wires::Memory(network.clone())).await;
    let (leading, leader) = cluster.leader().await;
    // The first membership is committed with it.
    leader.write(add("first", 1)).await.unwrap();
    network.partition(leading);
    let unknown = leader.add_learner(4, "memory:4".into()).await;
    assert!(matches!(unknown, Err(Error::Unknown { .. })), "{unknown:?}");
    network.heal();
    for node in cluster.nodes.values() {
        node.kill().await;
    }
}
