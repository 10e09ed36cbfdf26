//! Reading.

use std::sync::Arc;

use folio_store::ReadTransaction;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::freshness::Behind;
use super::{ReplicatedDatabase, not_leader};
use crate::config::FollowerReads;
use crate::error::{Error, Result};
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::store::{Failure, state_record};

/// What a read may return.
///
/// | level | where | what it has | costs |
/// |---|---|---|---|
/// | [`Linearizable`](Self::Linearizable) | leader | every write answered before the read began | a round of heartbeats, shared by concurrent reads |
/// | [`Lease`](Self::Lease) | leader | the same, if clocks run alike | nothing for most reads, a round when the lease is over |
/// | [`Follower`](Self::Follower) | any node | all but what a bound allows it to lack | a question to the leader now and then |
/// | [`AtLeast`](Self::AtLeast) | any node | the entry asked for and all before it | waiting for it |
/// | [`Local`](Self::Local) | any node | what has been applied here | nothing |
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadLevel {
    /// The view has every write that was answered, by any node, before the read began. Only the
    /// leader can tell; it asks a majority whether it still leads.
    #[default]
    Linearizable,
    /// The same, without asking the majority as long as its last answer excludes another leader:
    /// for [`Config::lease`](crate::Config::lease) from when it was asked.
    ///
    /// This relies on clocks: not on what they show, but on one second of the leader not being
    /// longer than 1.1 seconds of a follower, and on the leader's monotonic clock going on while
    /// its process is stopped. A virtual machine that is suspended and resumed may break that; a
    /// process that is stopped does not. And it relies on no node being started again with shorter
    /// election timeouts than it had while a leader counts on the longer ones: let the leader's lease
    /// run out in between.
    Lease,
    /// The view lacks no more than [`Config::follower_reads`](crate::Config::follower_reads)
    /// allows, in entries and in time; what it lacks is the newest. A node that is further behind,
    /// or cannot tell because it does not reach the leader, refuses with
    /// [`Error::TooFarBehind`]. Off by default, and then refused with [`Error::NotLeader`]. The
    /// leader answers as for [`Lease`](Self::Lease).
    Follower,
    /// The view has the log entry of this index applied, and all before it: with
    /// [`Written::index`](crate::Written::index) a client sees its own write on any node. The
    /// read waits for it no longer than [`Config::read_timeout`](crate::Config::read_timeout).
    AtLeast(u64),
    /// The view has what this node has applied, which may be older than what others have, without
    /// any bound: for tools, and for comparing replicas.
    Local,
}

impl<S: StateMachine> ReplicatedDatabase<S> {
    /// Calls `read` with a view that has what `level` promises.
    ///
    /// `read` runs on a thread for blocking work. What comes before it takes no longer than
    /// [`Config::read_timeout`](crate::Config::read_timeout).
    pub async fn read<R: Send + 'static>(
        &self,
        level: ReadLevel,
        read: impl FnOnce(&ReadTransaction) -> R + Send + 'static,
    ) -> Result<R> {
        match level {
            ReadLevel::Linearizable => self.read_confirmed(read).await,
            ReadLevel::Lease => self.read_leased(read).await,
            ReadLevel::Follower => match self.follower_bound()? {
                Some(bound) => self.read_bounded(bound, read).await,
                None => self.read_leased(read).await,
            },
            ReadLevel::AtLeast(index) => {
                let what = format!("entry {index} to be applied");
                self.within(&what, self.reach(index)).await?;
                self.view(read).await
            }
            ReadLevel::Local => self.view(read).await,
        }
    }

    async fn read_confirmed<R: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> R + Send + 'static,
    ) -> Result<R> {
        let began = Instant::now();
        self.within("a linearizable read", async {
            let index = self.inner.leadership.confirm(began).await?;
            self.reach(index).await
        })
        .await?;
        self.view(read).await
    }

    async fn read_leased<R: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> R + Send + 'static,
    ) -> Result<R> {
        let Some(index) = self.inner.leadership.leased_index() else {
            // This renews the lease for the reads that follow.
            return self.read_confirmed(read).await;
        };
        self.within("a lease read", self.reach(index)).await?;
        let inner = self.inner.clone();
        // Asked with the view in hand: a pause between the question and the view would go unnoticed.
        let lasts = move |_: &ReadTransaction| Ok(inner.leadership.has_lease());
        match self.view_if(lasts, read).await? {
            Ok(result) => Ok(result),
            Err(read) => self.read_confirmed(read).await,
        }
    }

    /// The bound for a follower read here. None: this node leads.
    fn follower_bound(&self) -> Result<Option<FollowerReads>> {
        match (self.ensure_leading(), self.inner.config.follower_reads) {
            (Ok(()), _) => Ok(None),
            (Err(Error::NotLeader { .. }), Some(bound)) => Ok(Some(bound)),
            (Err(error), _) => Err(error),
        }
    }

    async fn read_bounded<R: Send + 'static>(
        &self,
        bound: FollowerReads,
        read: impl FnOnce(&ReadTransaction) -> R + Send + 'static,
    ) -> Result<R> {
        let asked = self
            .within("the leader's committed index", self.refresh(bound))
            .await;
        let found = Arc::new(Mutex::new(Behind::default()));
        let read = match self.view_within(bound, &found, read).await? {
            Ok(result) => return Ok(result),
            Err(read) => read,
        };
        // What was committed a moment ago reaches a sound follower within a heartbeat.
        if let Some(committed) = self.inner.freshness.committed() {
            let patience = self.inner.config.heartbeat_interval;
            // Whether it was reached is seen below.
            let _ = tokio::time::timeout(patience, self.reach(committed)).await;
        }
        if let Ok(result) = self.view_within(bound, &found, read).await? {
            return Ok(result);
        }
        let Behind { entries, age } = *found.lock();
        Err(Error::TooFarBehind {
            entries,
            age,
            bound,
            cause: asked.err().map(Box::new),
        })
    }

    /// Calls `read` with a view that lacks no more than `bound` allows; notes in `found` what it
    /// lacks.
    async fn view_within<R: Send + 'static, F>(
        &self,
        bound: FollowerReads,
        found: &Arc<Mutex<Behind>>,
        read: F,
    ) -> Result<std::result::Result<R, F>>
    where
        F: FnOnce(&ReadTransaction) -> R + Send + 'static,
    {
        let (inner, found) = (self.inner.clone(), found.clone());
        let admit = move |view: &ReadTransaction| {
            let applied = state_record(view)?.applied_index();
            let behind = inner.freshness.behind(applied, Instant::now());
            *found.lock() = behind;
            Ok(behind.is_within(bound))
        };
        self.view_if(admit, read).await
    }

    /// Asks the leader how far the log is committed, unless it answered just now.
    async fn refresh(&self, bound: FollowerReads) -> Result<()> {
        let freshness = &self.inner.freshness;
        let enough = self.inner.config.heartbeat_interval.min(bound.age / 2);
        let recent = || {
            let silence = freshness.silence(Instant::now());
            silence.is_some_and(|silence| silence < enough)
        };
        if recent() {
            return Ok(());
        }
        let _turn = freshness.asking.lock().await;
        if recent() {
            return Ok(());
        }
        let status = self.status();
        let (Some(leader), Some(address)) = (status.leader, status.leader_address()) else {
            return Err(not_leader(&status));
        };
        let asked = Instant::now();
        let deadline = self.inner.config.election_timeout_min;
        let link = &self.inner.link;
        let committed = link.committed_index::<S>(leader, address, deadline).await?;
        freshness.note(asked, committed);
        Ok(())
    }

    /// Waits until this node has applied the entry `index`.
    async fn reach(&self, index: u64) -> Result<()> {
        let mut metrics = self.inner.raft.metrics();
        let settled = metrics.wait_for(|metrics| {
            metrics.last_applied.is_some_and(|id| id.index >= index)
                || metrics.running_state.is_err()
        });
        let running = match settled.await {
            Ok(metrics) => metrics.running_state.is_ok(),
            Err(_) => false,
        };
        if running {
            return Ok(());
        }
        match self.status().error {
            Some(reason) => Err(Error::Stopped { reason }),
            None => Err(Error::ShuttingDown),
        }
    }

    async fn view<R: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> R + Send + 'static,
    ) -> Result<R> {
        match self.view_if(|_| Ok(true), read).await? {
            Ok(result) => Ok(result),
            Err(_) => Err(Error::ShuttingDown),
        }
    }

    /// Takes a view and, if `admit` says so, calls `read` with it; otherwise gives `read` back.
    async fn view_if<R: Send + 'static, F>(
        &self,
        admit: impl FnOnce(&ReadTransaction) -> folio_store::Result<bool> + Send + 'static,
        read: F,
    ) -> Result<std::result::Result<R, F>>
    where
        F: FnOnce(&ReadTransaction) -> R + Send + 'static,
    {
        let shared = self.inner.store.shared().clone();
        let reading = runtime::blocking(move || {
            shared.with_database(|database| {
                let view = match shared.view_of_state(database) {
                    Ok(view) => view,
                    Err(error) => return Ok(Err(error)),
                };
                Ok(Ok(match admit(&view)? {
                    true => Ok(read(&view)),
                    false => Err(read),
                }))
            })
        });
        match reading.await {
            Ok(Ok(result)) => result,
            Ok(Err(Failure::Store(error))) => Err(error.into()),
            Ok(Err(_)) => Err(Error::ShuttingDown),
            // The caller's own closure panicked: the panic is the caller's.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::ShuttingDown),
            },
        }
    }
}
