//! What a node did, in numbers.
//!
//! The parts of a node count in [`Meters`], with atomics that are touched once an entry, a
//! transaction or a message; [`Metrics`] is what they show at one moment.

use std::array;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use folio_store::Statistics;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::types::NodeId;

/// Classes of a [`Histogram`].
const CLASSES: usize = 24;

/// How values are distributed, by powers of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Histogram {
    /// How many values were less than 1, less than 2, less than 4 and so on, each counted once; the
    /// last class has all that were larger.
    pub classes: [u64; CLASSES],
    /// The sum of the values.
    pub sum: u64,
}

impl Histogram {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// The upper end of the class in which the value lies that has `share` (0 to 1) of all values
    /// below or beside it; 0 without any value.
    pub fn quantile(&self, share: f64) -> u64 {
        let count = self.count();
        let rank = (share.clamp(0.0, 1.0) * count as f64).ceil() as u64;
        let mut seen = 0;
        for (class, number) in self.classes.iter().enumerate() {
            seen += number;
            if *number > 0 && seen >= rank {
                return 1 << class;
            }
        }
        0
    }
}

/// What a node did since it was started, and what it knows of its peers.
/// [`ReplicatedDatabase::metrics`](crate::ReplicatedDatabase::metrics) collects it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Writes that wait to be proposed, now.
    pub writes_waiting: u64,
    /// Writes that were refused because too many were waiting.
    pub writes_refused: u64,
    /// Commands in each entry that was proposed here.
    pub batch_commands: Histogram,
    /// Microseconds from the proposal of an entry to its answer: appended, committed and applied.
    pub commit_micros: Histogram,
    /// Entries in each append to the log.
    pub append_entries: Histogram,
    /// Microseconds of each append, its flush included.
    pub append_micros: Histogram,
    /// Entries applied to the state in one call.
    pub apply_entries: Histogram,
    /// Microseconds of each such call.
    pub apply_micros: Histogram,
    /// Bytes of snapshots that others have acknowledged.
    pub snapshot_bytes_sent: u64,
    /// Bytes of snapshots that were taken from others. It grows as a transfer goes on.
    pub snapshot_bytes_received: u64,
    /// Snapshots installed.
    pub snapshots_installed: u64,
    /// The other members.
    pub peers: BTreeMap<NodeId, PeerMetrics>,
    /// The engine's counters: `syncs` are the calls of `fdatasync`, `sync_times` how long they took.
    pub engine: Statistics,
}

/// What a node knows of another member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerMetrics {
    /// Index of the last entry that the peer is known to have. Only a leader knows.
    pub matched: Option<u64>,
    /// Entries of the leader's log that the peer is not known to have. Only a leader knows.
    pub lag: Option<u64>,
    /// How long ago the peer last answered a message of this node.
    pub silence: Option<Duration>,
}

/// Counts values by class.
#[derive(Default)]
pub(crate) struct Distribution {
    classes: [AtomicU64; CLASSES],
    sum: AtomicU64,
}

impl Distribution {
    pub fn note(&self, value: u64) {
        let class = (u64::BITS - value.leading_zeros()) as usize;
        self.classes[class.min(CLASSES - 1)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Notes the microseconds since `began`.
    pub fn note_since(&self, began: Instant) {
        self.note(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }

    fn show(&self) -> Histogram {
        Histogram {
            classes: array::from_fn(|class| self.classes[class].load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What the parts of a node count.
#[derive(Default)]
pub(crate) struct Meters {
    pub writes_refused: AtomicU64,
    pub batch_commands: Distribution,
    pub commit_micros: Distribution,
    pub append_entries: Distribution,
    pub append_micros: Distribution,
    pub apply_entries: Distribution,
    pub apply_micros: Distribution,
    pub snapshot_bytes_sent: AtomicU64,
    pub snapshot_bytes_received: AtomicU64,
    pub snapshots_installed: AtomicU64,
    /// When each peer last answered.
    answers: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Meters {
    pub fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }

    pub fn answered(&self, peer: NodeId) {
        self.answers.lock().insert(peer, Instant::now());
    }

    pub fn silence(&self, peer: NodeId) -> Option<Duration> {
        self.answers.lock().get(&peer).map(Instant::elapsed)
    }

    /// What was counted; the rest is for the caller to fill in.
    pub fn show(&self) -> Metrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            writes_refused: read(&self.writes_refused),
            batch_commands: self.batch_commands.show(),
            commit_micros: self.commit_micros.show(),
            append_entries: self.append_entries.show(),
            append_micros: self.append_micros.show(),
            apply_entries: self.apply_entries.show(),
            apply_micros: self.apply_micros.show(),
            snapshot_bytes_sent: read(&self.snapshot_bytes_sent),
            snapshot_bytes_received: read(&self.snapshot_bytes_received),
            snapshots_installed: read(&self.snapshots_installed),
            ..Metrics::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_the_class_below_the_next_power_of_two() {
        let distribution = Distribution::default();
        for value in [0, 1, 2, 3, 4, 1000, u64::MAX] {
            distribution.note(value);
        }
        let shown = distribution.show();
        let mut expected = [0; CLASSES];
        for (class, number) in [(0, 1), (1, 1), (2, 2), (3, 1), (10, 1), (23, 1)] {
            expected[class] = number;
        }
        assert_eq!(shown.classes, expected);
        assert_eq!(shown.count(), 7);
    }

    #[test]
    fn a_quantile_is_the_upper_end_of_its_class() {
        let distribution = Distribution::default();
        assert_eq!(distribution.show().quantile(0.5), 0);
        for value in [3; 90].into_iter().chain([100; 9]).chain([5000]) {
            distribution.note(value);
        }
        let shown = distribution.show();
        for (share, expected) in [(0.0, 4), (0.9, 4), (0.91, 128), (0.99, 128), (1.0, 8192)] {
            assert_eq!(shown.quantile(share), expected, "{share}");
        }
    }
}
