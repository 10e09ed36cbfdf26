//! Settings of a replicated database, with defaults that suit disks with a millisecond of flush
//! time and a local network.

use std::time::Duration;

use crate::error::{Error, Result};

/// How far a node may be behind and still answer a
/// [`ReadLevel::Follower`](crate::ReadLevel::Follower). Both bounds hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerReads {
    /// Entries that the leader had committed and are not applied here, at most. The leader is asked
    /// how many there are, once in a heartbeat interval, however many reads there are.
    pub entries: u64,
    /// The view has every write that was answered until this long ago.
    pub age: Duration,
}

/// Settings of one node. Start from [`Config::default`]; every field is checked by
/// [`validate`](Config::validate), which [`ReplicatedDatabase::start`](crate::ReplicatedDatabase::start) calls.
///
/// The timing fields should be the same on all nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often a leader speaks to each follower. It is also how long an append may take, so a
    /// flush of the slowest disk must fit well within it.
    pub heartbeat_interval: Duration,
    /// The shortest silence after which a follower stands for election.
    pub election_timeout_min: Duration,
    /// The longest such silence, and the length of a leader's lease.
    pub election_timeout_max: Duration,
    /// How long a message of a snapshot's transfer may stay unanswered. It is no limit for the
    /// transfer or the installation: the receiver answers each message soon, with its progress. At
    /// least a second.
    pub snapshot_timeout: Duration,
    /// Bytes of snapshot in one message.
    pub snapshot_chunk_bytes: usize,
    /// The log is compacted after this many entries.
    pub snapshot_after_entries: u64,
    /// Applied entries kept after a compaction, so that a node that was briefly away catches up
    /// from the log. More than a snapshot transfer takes to write.
    pub log_entries_kept: u64,
    /// Entries removed from the log at a time.
    pub purge_batch: u64,
    /// Entries sent to a follower in one message, at most.
    pub append_max_entries: u64,
    /// Bytes of entries sent to a follower in one message, at most (but always one entry).
    pub append_max_bytes: usize,
    /// Commands gathered into one entry, at most.
    pub batch_max_commands: usize,
    /// Bytes of commands gathered into one entry, at most; also the limit for one command.
    pub batch_max_bytes: usize,
    /// Entries proposed and not yet answered, at most. What arrives meanwhile is gathered.
    pub entries_in_flight: usize,
    /// Writes waiting to be proposed, at most; further callers wait for room.
    pub queue_limit: usize,
    /// Bytes of the commands waiting to be proposed, at most; no less than
    /// [`batch_max_bytes`](Self::batch_max_bytes).
    pub queue_max_bytes: usize,
    /// How long a write may take before its caller is told that the outcome is unknown.
    pub write_timeout: Duration,
    /// How long a linearizable read may wait for a quorum and for the log to be applied.
    pub read_timeout: Duration,
    /// How long a change of the membership may take: for a new voter to get the log, and for the
    /// change itself.
    pub membership_timeout: Duration,
    /// How long giving leadership away may take before the node goes on leading, or shuts down
    /// without.
    pub handover_timeout: Duration,
    /// Whether, and how far behind, nodes that do not lead answer
    /// [`ReadLevel::Follower`](crate::ReadLevel::Follower). None: they do not.
    pub follower_reads: Option<FollowerReads>,
    /// A checkpoint is made when this many applied entries would have to be applied again after a
    /// crash.
    pub checkpoint_entries: u64,
    /// A checkpoint is made when the engine holds this many dirty pages.
    pub checkpoint_dirty_pages: u64,
    /// With less room than this many bytes, on the disk and in the file together, a leader takes no more
    /// commands: [`Error::DiskFull`]. What is left is for elections, membership and what followers have
    /// to append. Where it is used up nevertheless, a node waits until there is room.
    pub disk_reserve: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(250),
            election_timeout_min: Duration::from_millis(1250),
            election_timeout_max: Duration::from_millis(2500),
            snapshot_timeout: Duration::from_secs(30),
            snapshot_chunk_bytes: 1 << 20,
            snapshot_after_entries: 50_000,
            log_entries_kept: 10_000,
            purge_batch: 256,
            append_max_entries: 256,
            append_max_bytes: 2 << 20,
            batch_max_commands: 1024,
            batch_max_bytes: 1 << 20,
            entries_in_flight: 2,
            queue_limit: 4096,
            queue_max_bytes: 32 << 20,
            write_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            membership_timeout: Duration::from_secs(60),
            handover_timeout: Duration::from_secs(5),
            follower_reads: None,
            checkpoint_entries: 4096,
            checkpoint_dirty_pages: 4096,
            disk_reserve: 64 << 20,
        }
    }
}

impl Config {
    /// The largest message a node sends or accepts: entries of [`append_max_bytes`](Self::append_max_bytes)
    /// or one entry of [`batch_max_bytes`](Self::batch_max_bytes), or a snapshot chunk, and their envelope.
    pub const MESSAGE_LIMIT: usize = 8 << 20;

    /// How long after the beginning of a round of heartbeats a leader answers
    /// [`ReadLevel::Lease`](crate::ReadLevel::Lease) without another, at most: a tenth less than the
    /// shortest election timeout, to allow for clocks that run apart. A follower that answered keeps its
    /// vote for its own [`election_timeout_max`](Self::election_timeout_max), which its answers say; if
    /// that is less than here, the lease is shorter, and the leader warns of it.
    pub fn lease(&self) -> Duration {
        self.election_timeout_min * 9 / 10
    }

    /// Checks that the settings make sense together. The error names the setting and says what to
    /// set it to.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|reason| Error::Config { reason })
    }

    fn check(&self) -> std::result::Result<(), String> {
        let default = Self::default();
        macro_rules! at_least {
            ($least:expr, $($field:ident),+) => {
                $(if self.$field < $least {
                    return Err(format!(
                        "{} is {:?}: set it to {:?} or more; the default is {:?}",
                        stringify!($field), self.$field, $least, default.$field
                    ));
                })+
            };
        }
        // openraft counts in milliseconds.
        at_least!(
            Duration::from_millis(1),
            heartbeat_interval,
            snapshot_timeout,
            write_timeout,
            read_timeout,
            membership_timeout,
            handover_timeout
        );
        at_least!(
            1,
            snapshot_after_entries,
            purge_batch,
            append_max_entries,
            checkpoint_entries,
            checkpoint_dirty_pages
        );
        at_least!(
            1,
            snapshot_chunk_bytes,
            append_max_bytes,
            batch_max_commands,
            batch_max_bytes,
            entries_in_flight,
            queue_limit
        );
        at_least!(self.batch_max_bytes, queue_max_bytes);
        macro_rules! at_most {
            ($most:expr, $($field:ident),+) => {
                $(if self.$field > $most {
                    return Err(format!(
                        "{} is {}: set it to {} or less; the default is {}",
                        stringify!($field), self.$field, $most, default.$field
                    ));
                })+
            };
        }
        // So that a message has room for what is around them.
        at_most!(
            Self::MESSAGE_LIMIT / 2,
            snapshot_chunk_bytes,
            append_max_bytes,
            batch_max_bytes
        );
        at_most!(1 << 20, batch_max_commands, queue_limit);
        at_most!(1024, entries_in_flight);
        at_most!(64 << 30, queue_max_bytes);
        // A follower must miss more than one heartbeat before it stands for election, or a single
        // lost message costs a leader.
        at_least!(self.heartbeat_interval * 2, election_timeout_min);
        if self.election_timeout_max <= self.election_timeout_min {
            return Err(format!(
                "election_timeout_max ({:?}) is not above election_timeout_min ({:?}), so nodes would stand for election at the same time: set it to twice as much",
                self.election_timeout_max, self.election_timeout_min
            ));
        }
        if let Some(bound) = self.follower_reads
            && bound.age < self.heartbeat_interval
        {
            return Err(format!(
                "follower_reads.age ({:?}) is shorter than a heartbeat interval ({:?}), and followers are seldom that new: set it to several, or follower_reads to None",
                bound.age, self.heartbeat_interval
            ));
        }
        Ok(())
    }

    /// The same settings as openraft names them.
    pub(crate) fn for_openraft(&self) -> Result<openraft::Config> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        openraft::Config {
            cluster_name: "folio".into(),
            heartbeat_interval: millis(self.heartbeat_interval),
            election_timeout_min: millis(self.election_timeout_min),
            election_timeout_max: millis(self.election_timeout_max),
            install_snapshot_timeout: millis(self.snapshot_timeout),
            snapshot_max_chunk_size: self.snapshot_chunk_bytes as u64,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_after_entries),
            max_in_snapshot_log_to_keep: self.log_entries_kept,
            purge_batch_size: self.purge_batch,
            max_payload_entries: self.append_max_entries,
            replication_lag_threshold: self.log_entries_kept.max(1),
            ..openraft::Config::default()
        }
        .validate()
        .map_err(|e| Error::Config {
            reason: e.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().expect("valid");
        Config::default().for_openraft().expect("valid");
    }

    #[test]
    fn a_lease_is_over_before_any_follower_with_the_same_settings_votes_again() {
        let config = Config::default();
        // A second of the leader may be as long as 1.1 seconds of a follower.
        assert!(config.lease() * 11 / 10 < config.election_timeout_min);
    }

    #[test]
    fn a_setting_that_cannot_work_is_refused_by_name_and_with_what_to_set_it_to() {
        type Change = fn(&mut Config);
        let cases: [(Change, &str); 9] = [
            (
                |c| c.queue_limit = 0,
                "queue_limit is 0: set it to 1 or more; the default is 4096",
            ),
            (
                |c| c.write_timeout = Duration::ZERO,
                "write_timeout is 0ns: set it to 1ms or more; the default is 10s",
            ),
            (
                |c| c.election_timeout_min = Duration::from_millis(300),
                "election_timeout_min is 300ms: set it to 500ms or more; the default is 1.25s",
            ),
            (
                |c| c.election_timeout_max = c.election_timeout_min,
                "set it to twice as much",
            ),
            (
                |c| c.batch_max_bytes = Config::MESSAGE_LIMIT,
                "batch_max_bytes is 8388608: set it to 4194304 or less; the default is 1048576",
            ),
            (
                |c| c.queue_max_bytes = 1000,
                "queue_max_bytes is 1000: set it to 1048576 or more",
            ),
            (
                |c| c.entries_in_flight = usize::MAX,
                "set it to 1024 or less; the default is 2",
            ),
            (
                |c| c.queue_limit = usize::MAX,
                "set it to 1048576 or less; the default is 4096",
            ),
            (
                |c| {
                    c.follower_reads = Some(FollowerReads {
                        entries: 0,
                        age: Duration::from_millis(1),
                    });
                },
                "set it to several, or follower_reads to None",
            ),
        ];
        for (change, expected) in cases {
            let mut config = Config::default();
            change(&mut config);
            let error = config.validate().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
