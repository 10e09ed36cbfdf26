//! What a leader knows about its own leadership, and since when.
//!
//! That a node leads is a memory: another leader may have been elected meanwhile. Two things turn it
//! into knowledge.
//!
//! - A **round**: openraft sends a heartbeat to the voters and a majority answers. It proves that
//!   this node led at some moment after the round began, and gives the index up to which the log
//!   was committed then. Reads that wait while a round is under way share the next one.
//! - A **lease**: a follower that hears from a leader grants nobody its vote for its
//!   [`election_timeout_max`](crate::Config::election_timeout_max), and says so in its answer. The
//!   followers of a round heard from the leader after the round began, so nobody else can be elected
//!   before that time has passed since the *beginning* of the round. The lease is shorter than any
//!   of these promises: see [`Promises`].
//!
//! A leader counts itself among its majority, but openraft lets a leader grant its own vote when it
//! has not changed it for the length of the promise. So the lease is [suspended](Leadership::suspend)
//! while a request for a vote is dealt with, and no round that began before counts for it afterwards.
//! Every other way in which a majority could elect another node without an intersection that keeps
//! its promise is closed by suspending, too: see [`Suspension`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::Raft;
use openraft::error::{CheckIsLeaderError, RaftError};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::state_machine::StateMachine;
use crate::types::{NodeId, TypeConfig};

/// What a node knows about its leadership.
pub(crate) struct Leadership<S: StateMachine> {
    raft: Raft<TypeConfig<S>>,
    /// Held while a round is under way; the last one.
    round: tokio::sync::Mutex<Option<Round>>,
    lease: Mutex<Lease>,
    /// Whether the others are not to hear from this node as their leader.
    silent: AtomicBool,
    disclosed: Arc<Disclosed>,
    promises: Arc<Promises>,
}

struct Round {
    began: Instant,
    outcome: std::result::Result<u64, Refusal>,
}

/// Why a round did not show that this node leads.
#[derive(Clone)]
enum Refusal {
    NotLeader {
        leader: Option<NodeId>,
        address: Option<String>,
    },
    NoQuorum,
    Stopped(String),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader { leader, address } => Error::NotLeader { leader, address },
            Refusal::NoQuorum => Error::NoQuorum,
            Refusal::Stopped(reason) => Error::Stopped { reason },
        }
    }
}

impl<S: StateMachine> Leadership<S> {
    /// `disclosed` is what the node's messages have told others, `promises` what those have promised.
    pub fn new(
        raft: Raft<TypeConfig<S>>,
        disclosed: Arc<Disclosed>,
        promises: Arc<Promises>,
    ) -> Self {
        Self {
            raft,
            round: tokio::sync::Mutex::new(None),
            lease: Mutex::default(),
            silent: AtomicBool::new(false),
            disclosed,
            promises,
        }
    }

    /// Waits for a round that began after `since`, and gives the index up to which the log
    /// was committed then, or before. A view that has it applied has every write that was answered
    /// before `since`.
    pub async fn confirm(&self, since: Instant) -> Result<u64> {
        let mut last = self.round.lock().await;
        if self.silent.load(Ordering::Acquire) {
            return Err(Error::NotLeader {
                leader: None,
                address: None,
            });
        }
        if let Some(round) = &*last
            // Later, not at the same tick: within one, nothing tells which came first.
            && round.began > since
        {
            return Ok(round.outcome.clone()?);
        }
        let epoch = self.lease.lock().epoch();
        // Before anything is sent: the followers promise from when they hear.
        let began = Instant::now();
        let outcome = match self.raft.get_read_log_id().await {
            Ok((committed, _)) => Ok(committed.map_or(0, |id| id.index)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
                Err(Refusal::NotLeader {
                    leader: forward.leader_id,
                    address: forward.leader_node.map(|node| node.addr),
                })
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                Err(Refusal::NoQuorum)
            }
            Err(RaftError::Fatal(fatal)) => Err(Refusal::Stopped(fatal.to_string())),
        };
        if let Ok(index) = outcome {
            // Those of the majority that answered are among them.
            let until = began + self.promises.lease();
            self.lease.lock().renew(epoch, until, index);
        }
        *last = Some(Round {
            began,
            outcome: outcome.clone(),
        });
        Ok(outcome?)
    }

    /// Keeps this node, should it lead, from telling the others so, until they elect another; or ends that.
    pub fn keep_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Release);
        self.raft.runtime_config().heartbeat(!silent);
    }

    /// While the lease lasts: the index that a view must have applied to be as new as anything that
    /// anybody was told. The lease must still last when the view has been taken.
    pub fn leased_index(&self) -> Option<u64> {
        let confirmed = self.lease.lock().index_at(Instant::now())?;
        Some(confirmed.max(self.disclosed.index()))
    }

    /// Whether the lease lasts.
    pub fn has_lease(&self) -> bool {
        self.leased_index().is_some()
    }

    /// An index beyond which nothing was answered before this call, from a node that led after it began.
    pub async fn committed_index(&self) -> Result<u64> {
        let asked = Instant::now();
        if let Some(leased) = self.leased_index() {
            let committed = self.raft.with_raft_state(|state| state.committed).await;
            let committed = committed.map_err(|fatal| Error::Stopped {
                reason: fatal.to_string(),
            })?;
            // Asked again after the index was taken: so long nobody else led.
            if self.has_lease() {
                // A leader that was just elected may know of less than the one before it answered, until
                // an entry of its own is committed. The lease's round counts that entry.
                return Ok(committed.map_or(0, |id| id.index).max(leased));
            }
        }
        self.confirm(asked).await
    }

    /// Ends the lease, and keeps rounds from renewing it until the guard is dropped.
    pub fn suspend(&self) -> Suspension<'_> {
        self.lease.lock().suspend();
        Suspension(&self.lease)
    }
}

/// Keeps a node from having a lease.
///
/// Held while the node may promise its vote to somebody else, while it gives its leadership away,
/// and by anything else that makes a follower break its own promise. Rounds that began before the
/// end of a suspension do not count for the lease.
pub(crate) struct Suspension<'a>(&'a Mutex<Lease>);

impl Drop for Suspension<'_> {
    fn drop(&mut self) {
        self.0.lock().resume();
    }
}

/// The arithmetic of a lease, without a clock of its own.
#[derive(Default)]
struct Lease {
    /// When the last round that counts ends to count, and its index.
    last: Option<(Instant, u64)>,
    suspensions: u32,
    /// Changes with each suspension, so that a round can tell whether there was one meanwhile.
    epoch: u64,
}

impl Lease {
    /// What a round that begins now passes to [`renew`](Self::renew). None: it will not count.
    fn epoch(&self) -> Option<u64> {
        (self.suspensions == 0).then_some(self.epoch)
    }

    fn renew(&mut self, epoch: Option<u64>, until: Instant, index: u64) {
        if epoch.is_some() && epoch == self.epoch() {
            self.last = Some((until, index));
        }
    }

    fn index_at(&self, now: Instant) -> Option<u64> {
        let (until, index) = self.last?;
        (now < until).then_some(index)
    }

    fn suspend(&mut self) {
        self.suspensions += 1;
        self.epoch += 1;
        self.last = None;
    }

    fn resume(&mut self) {
        self.suspensions -= 1;
    }
}

/// The highest committed index that this node's messages have told others. A follower may show a
/// write as soon as it hears that it is committed, and the leader itself may be slower to apply it.
#[derive(Default)]
pub(crate) struct Disclosed(AtomicU64);

impl Disclosed {
    /// To be called before the message leaves.
    pub fn note(&self, committed: u64) {
        self.0.fetch_max(committed, Ordering::AcqRel);
    }

    fn index(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// For how long the members keep their votes once they have heard from this node, as their answers
/// said. Their settings may differ from this node's.
pub(crate) struct Promises {
    node: NodeId,
    /// The lease by this node's own settings.
    lease: Duration,
    made: Mutex<BTreeMap<NodeId, Duration>>,
}

impl Promises {
    pub fn new(node: NodeId, lease: Duration) -> Self {
        Self {
            node,
            lease,
            made: Mutex::default(),
        }
    }

    pub fn note(&self, peer: NodeId, promise: Duration) {
        let before = self.made.lock().insert(peer, promise);
        let lease = lease_under(promise);
        if before != Some(promise) && lease < self.lease {
            tracing::warn!(
                node = self.node,
                peer,
                "the peer keeps its vote for {promise:?} only, so the lease for reads is {lease:?} instead of {:?}: set the election timeouts to the same on all nodes",
                self.lease
            );
        }
    }

    /// How long a round counts, from its beginning.
    pub fn lease(&self) -> Duration {
        let made = self.made.lock();
        let shortest = made.values().min().copied().map(lease_under);
        shortest.map_or(self.lease, |shortest| shortest.min(self.lease))
    }
}

/// The lease that a promise allows for: a tenth less, since clocks run apart.
fn lease_under(promise: Duration) -> Duration {
    promise / 10 * 9
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_millis(900);
    const TICK: Duration = Duration::from_nanos(1);

    #[test]
    fn a_lease_ends_on_time() {
        let mut lease = Lease::default();
        let now = Instant::now();
        assert_eq!(lease.index_at(now), None);
        let epoch = lease.epoch();
        lease.renew(epoch, now + LENGTH, 7);
        assert_eq!(lease.index_at(now + LENGTH - TICK), Some(7));
        assert_eq!(lease.index_at(now + LENGTH), None);
    }

    #[test]
    fn a_lease_is_a_tenth_shorter_than_the_shortest_promise() {
        let promises = Promises::new(1, LENGTH);
        assert_eq!(promises.lease(), LENGTH);
        for (peer, promise, lease) in [
            (2, Duration::MAX, LENGTH),
            (3, 2 * LENGTH, LENGTH),
            (2, LENGTH, LENGTH / 10 * 9),
            (3, Duration::ZERO, Duration::ZERO),
            (3, LENGTH * 2, LENGTH / 10 * 9),
            (2, LENGTH * 2, LENGTH),
        ] {
            promises.note(peer, promise);
            assert_eq!(promises.lease(), lease, "{peer}: {promise:?}");
        }
    }

    #[test]
    fn a_round_counts_only_if_it_began_after_the_last_suspension() {
        let now = Instant::now();
        let until = now + LENGTH;
        // Suspended between the beginning of the round and its end.
        let mut lease = Lease::default();
        let epoch = lease.epoch();
        lease.suspend();
        lease.renew(epoch, until, 7);
        assert_eq!(lease.index_at(now), None);
        lease.resume();
        lease.renew(epoch, until, 7);
        assert_eq!(lease.index_at(now), None);
        // Begun while suspended, ended after it.
        lease.suspend();
        let epoch = lease.epoch();
        lease.resume();
        lease.renew(epoch, until, 7);
        assert_eq!(lease.index_at(now), None);
        // Begun after it.
        let epoch = lease.epoch();
        lease.renew(epoch, until, 7);
        assert_eq!(lease.index_at(now), Some(7));
        // A suspension ends a lease that was there before.
        lease.suspend();
        lease.resume();
        assert_eq!(lease.index_at(now), None);
    }

    #[test]
    fn several_suspensions_end_with_the_last() {
        let mut lease = Lease::default();
        lease.suspend();
        lease.suspend();
        lease.resume();
        assert_eq!(lease.epoch(), None);
        lease.resume();
        assert!(lease.epoch().is_some());
    }
}
