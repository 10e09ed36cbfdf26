//! What a node counts, and the spans it opens.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::add;
use common::cluster::{Cluster, PATIENCE, Wires, quick, still};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, Metrics};
use parking_lot::Mutex;
use tracing::{Event, Metadata, Subscriber, span};

/// Notes the names of this crate's spans.
#[derive(Clone, Default)]
struct Names {
    names: Arc<Mutex<BTreeSet<&'static str>>>,
    next: Arc<AtomicU64>,
}

impl Subscriber for Names {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("folio_raft")
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.names.lock().insert(span.metadata().name());
        span::Id::from_u64(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_appends_applies_and_syncs_are_counted() {
    let wires = Wires::Memory(MemoryNetwork::new());
    let cluster = Cluster::start(3, still(), wires).await;
    let (_, leader) = cluster.leader().await;
    let index = leader.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    let before = leader.metrics().unwrap();
    for _ in 0..20 {
        leader.write(add("a", 1)).await.unwrap();
    }
    cluster.applied(index + 20).await;
    let after = leader.metrics().unwrap();
    let grew = |of: fn(&Metrics) -> u64| of(&after) - of(&before);
    assert_eq!(grew(|m| m.batch_commands.count()), 20);
    assert_eq!(grew(|m| m.batch_commands.sum), 20);
    assert_eq!(grew(|m| m.commit_micros.count()), 20);
    assert_eq!(grew(|m| m.append_entries.sum), 20);
    assert_eq!(
        grew(|m| m.append_micros.count()),
        20,
        "each is appended alone"
    );
    assert_eq!(grew(|m| m.apply_entries.sum), 20);
    assert!(grew(|m| m.engine.syncs) >= 20);
    assert_eq!((after.writes_waiting, after.writes_refused), (0, 0));

    // A follower appends and applies, and proposes nothing.
    let (_, follower) = cluster.follower().await;
    let metrics = follower.metrics().unwrap();
    assert_eq!(metrics.batch_commands.count(), 0);
    assert!(metrics.append_entries.sum > 20);
    assert!(metrics.peers.values().all(|peer| peer.lag.is_none()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_knows_how_far_each_peer_is_behind() {
    let network = MemoryNetwork::new();
    let cluster = Cluster::start(3, quick(), Wires::Memory(network.clone())).await;
    let (_, leader) = cluster.leader().await;
    let index = leader.write(add("a", 1)).await.unwrap().index;
    cluster.applied(index).await;
    let (behind, _) = cluster.follower().await;
    network.partition(behind);
    for _ in 0..10 {
        leader.write(add("a", 1)).await.unwrap();
    }
    let metrics = leader.metrics().unwrap();
    assert_eq!(metrics.peers.len(), 2);
    assert_eq!(metrics.peers[&behind].lag, Some(10));
    assert_eq!(metrics.peers[&behind].matched, Some(index));
    let (_, other) = metrics.peers.iter().find(|(id, _)| **id != behind).unwrap();
    assert_eq!(other.lag, Some(0));
    assert!(other.silence < metrics.peers[&behind].silence);
    network.heal();
    cluster.applied(index + 10).await;
    cluster.stop().await;
}

// The subscriber sees what all tests of this binary do, and the threads of the stores.
#[test]
fn a_snapshot_is_counted_on_both_sides_and_what_takes_time_is_a_span() {
    let names = Names::default();
    tracing::subscriber::set_global_default(names.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let config = Config {
            snapshot_after_entries: 20,
            log_entries_kept: 5,
            purge_batch: 1,
            ..quick()
        };
        let mut cluster = Cluster::start(1, config, Wires::Tcp).await;
        let (_, leader) = cluster.leader().await;
        let mut last = 0;
        for _ in 0..60 {
            last = leader.write(add("a", 1)).await.unwrap().index;
        }
        let compacted =
            leader.wait_for("the log to be compacted", PATIENCE, |s| s.purged > Some(1));
        compacted.await.unwrap();
        cluster.bring_up(2).await;
        let address = cluster.addresses[&2].clone();
        leader.add_learner(2, address).await.unwrap();
        cluster.applied(last).await;
        let (sent, received) = (
            leader.metrics().unwrap(),
            cluster.nodes[&2].metrics().unwrap(),
        );
        assert!(sent.snapshot_bytes_sent > 0);
        assert_eq!(received.snapshot_bytes_received, sent.snapshot_bytes_sent);
        assert_eq!(
            (sent.snapshots_installed, received.snapshots_installed),
            (0, 1)
        );
        cluster.stop().await;
    });
    let expected = [
        "append",
        "apply",
        "install",
        "propose",
        "receive_snapshot",
        "send_snapshot",
        "snapshot",
    ];
    let seen = names.names.lock();
    assert!(BTreeSet::from(expected).is_subset(&seen), "{seen:?}");
}
