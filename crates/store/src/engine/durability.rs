//! Who waits for which commit to be durable, and who flushes for all of them.
//!
//! There is no flushing thread and no timer. Of those who wait, one flushes, for everything that was published by then;
//! the others sleep. When it is done, those whom it was for go on, and of those who came too late for it one is woken, to
//! flush what came in the meantime. To wake the others would be in vain.

use std::sync::Arc;

use crate::{
    error::{Error, Result},
    sync::{Condvar, Mutex},
    types::{Group, GroupSet},
};

struct State {
    /// For each group the transaction up to which it is durable.
    reached: [u64; Group::COUNT],
    /// What those who wait are waiting for.
    wanted: GroupSet,
    flushing: bool,
    /// What the flush that is under way makes durable, as soon as it has taken that from the commits.
    taken: Option<(GroupSet, u64)>,
    /// How many flushes have begun.
    turn: usize,
    /// Why nothing is written any more.
    latched: Option<Arc<str>>,
}

pub(super) struct Durability {
    state: Mutex<State>,
    /// Those who sleep, by the turn whose flush is for them: the one under way or the one after it.
    sleepers: [Condvar; 2],
}

impl Durability {
    pub fn new(transaction: u64) -> Self {
        let state = State {
            reached: [transaction; Group::COUNT],
            wanted: GroupSet::EMPTY,
            flushing: false,
            taken: None,
            turn: 0,
            latched: None,
        };
        Self {
            state: Mutex::new(state),
            sleepers: Default::default(),
        }
    }

    fn sleepers_of(&self, turn: usize) -> &Condvar {
        &self.sleepers[turn % self.sleepers.len()]
    }

    fn wake_everybody(&self) {
        self.sleepers.iter().for_each(|sleepers| {
            sleepers.notify_all();
        });
    }

    pub fn reached(&self, group: Group) -> u64 {
        self.state.lock().reached[usize::from(group.index())]
    }

    /// Whether all of `groups` are durable up to `transaction`.
    pub fn has_reached(&self, groups: GroupSet, transaction: u64) -> bool {
        self.state.lock().has_reached(groups, transaction)
    }

    pub fn advance(&self, groups: GroupSet, transaction: u64) {
        let mut state = self.state.lock();
        for group in groups {
            let reached = &mut state.reached[usize::from(group.index())];
            *reached = (*reached).max(transaction);
        }
    }

    /// Stops all writing for good: after a failed write or sync nobody knows what the disk holds.
    pub fn latch(&self, failure: &Error) {
        let mut state = self.state.lock();
        if state.latched.is_none() {
            tracing::error!(error = %failure, "writing stopped after a failure");
            state.latched = Some(failure.to_string().into());
        }
        self.wake_everybody();
    }

    /// Says what the flush that is under way makes durable, so that those who come too late for it are told from the
    /// others.
    pub fn take(&self, groups: GroupSet, transaction: u64) {
        self.state.lock().taken = Some((groups, transaction));
    }

    pub fn check(&self, file: &Arc<str>) -> Result<()> {
        match &self.state.lock().latched {
            Some(reason) => Err(Error::Latched {
                file: file.clone(),
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Returns when `groups` are durable up to `transaction`, flushing if nobody else does.
    pub fn wait(
        &self,
        groups: GroupSet,
        transaction: u64,
        file: &Arc<str>,
        flush: impl Fn(GroupSet) -> Result<()>,
    ) -> Result<()> {
        let mut state = self.state.lock();
        let mut late = false;
        while !state.has_reached(groups, transaction) {
            if let Some(reason) = &state.latched {
                return Err(Error::Latched {
                    file: file.clone(),
                    reason: reason.clone(),
                });
            }
            state.wanted = state.wanted | groups;
            if state.flushing {
                late = !state.takes(groups, transaction);
                let turn = state.turn + usize::from(late);
                self.sleepers_of(turn).wait(&mut state);
                continue;
            }
            late = false;
            state.flushing = true;
            state.taken = None;
            state.turn += 1;
            let wanted = std::mem::take(&mut state.wanted);
            drop(state);
            let mut turn = Turn {
                durability: self,
                returned: false,
            };
            let result = flush(wanted);
            turn.returned = true;
            drop(turn);
            state = self.state.lock();
            // The last flush of a handle that closes may have come first.
            if !state.has_reached(groups, transaction) {
                result?;
            }
        }
        if late && !state.flushing {
            // This may be the one who was woken to flush for all who were late, and somebody else has done it.
            self.sleepers_of(state.turn + 1).notify_one();
        }
        Ok(())
    }
}

impl State {
    /// Whether the flush that is under way is for this commit. Nobody is lost if it turns out otherwise.
    fn takes(&self, groups: GroupSet, transaction: u64) -> bool {
        self.taken.is_none_or(|(taken, newest)| {
            transaction <= newest && groups.iter().all(|group| taken.contains(group))
        })
    }

    fn has_reached(&self, groups: GroupSet, transaction: u64) -> bool {
        groups
            .iter()
            .all(|group| self.reached[usize::from(group.index())] >= transaction)
    }
}

/// The turn of the one who flushes. Passed on even if the flush panics; but then what it took from the commits is gone,
/// and a later flush would refer to pages that nobody has written.
struct Turn<'d> {
    durability: &'d Durability,
    returned: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.durability.state.lock();
        state.flushing = false;
        if !self.returned && state.latched.is_none() {
            state.latched = Some("a flush panicked".into());
        }
        if state.latched.is_some() {
            self.durability.wake_everybody();
            return;
        }
        self.durability.sleepers_of(state.turn).notify_all();
        self.durability.sleepers_of(state.turn + 1).notify_one();
    }
}

#[cfg(all(test, folio_loom))]
mod interleavings {
    use loom::{
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
        thread,
    };

    use super::*;
    use crate::sync::every_interleaving;

    /// Threads that each publish a transaction and wait for it. `flush` gets the newest one published.
    fn each_waits_for_its_own(
        threads: u64,
        flush: impl Fn(u64) -> Result<()> + Copy + Send + Sync + 'static,
        check: impl Fn(Result<()>, &Durability, u64) + Copy + Send + Sync + 'static,
    ) {
        let durability = Arc::new(Durability::new(0));
        let published = Arc::new(AtomicU64::new(0));
        let flushing = Arc::new(AtomicBool::new(false));
        let one = move |durability: &Durability, published: &AtomicU64, flushing: &AtomicBool| {
            let group = GroupSet::from(Group::DEFAULT);
            let own = published.fetch_add(1, Ordering::SeqCst) + 1;
            let result = durability.wait(group, own, &"loom".into(), |groups| {
                assert!(
                    !flushing.swap(true, Ordering::SeqCst),
                    "two flushes at a time"
                );
                let newest = published.load(Ordering::SeqCst);
                durability.take(groups, newest);
                let result = flush(newest);
                match &result {
                    Ok(()) => durability.advance(groups, newest),
                    Err(failure) => durability.latch(failure),
                }
                flushing.store(false, Ordering::SeqCst);
                result
            });
            check(result, durability, own);
        };
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let shared = (durability.clone(), published.clone(), flushing.clone());
                thread::spawn(move || one(&shared.0, &shared.1, &shared.2))
            })
            .collect();
        one(&durability, &published, &flushing);
        for other in others {
            other.join().expect("the thread's own panic is shown");
        }
    }

    #[test]
    fn nobody_returns_before_his_transaction_is_durable_and_nobody_is_forgotten() {
        every_interleaving(|| {
            each_waits_for_its_own(
                3,
                |_| Ok(()),
                |result, durability, own| {
                    assert!(result.is_ok());
                    assert!(durability.reached(Group::DEFAULT) >= own);
                },
            );
        });
    }

    /// As a savepoint does it: its flush takes all that is published, whoever waits for it.
    #[test]
    fn nobody_is_forgotten_when_somebody_who_does_not_wait_makes_it_durable() {
        every_interleaving(|| {
            each_waits_for_its_own(
                3,
                |_| Ok(()),
                |result, durability, own| {
                    assert!(result.is_ok());
                    durability.advance(Group::DEFAULT.into(), own + 1);
                },
            );
        });
    }

    #[test]
    fn after_a_failed_flush_nobody_waits_and_nobody_is_told_yes() {
        every_interleaving(|| {
            each_waits_for_its_own(
                3,
                |_| Err(Error::Configuration("the disk is broken".into())),
                |result, _, _| assert!(result.is_err()),
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_flush_that_panics_stops_all_writing() {
        let durability = Durability::new(0);
        let file: Arc<str> = "memory".into();
        let groups = GroupSet::from(Group::DEFAULT);
        let panics = || durability.wait(groups, 1, &file, |_| panic!("in the storage"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(matches!(
            durability.check(&file),
            Err(Error::Latched { .. })
        ));
    }

    #[test]
    fn a_flush_that_fails_is_no_failure_of_those_who_reached_their_commit() {
        let durability = Durability::new(0);
        let file: Arc<str> = "memory".into();
        let groups = GroupSet::from(Group::DEFAULT);
        let closing = durability.wait(groups, 1, &file, |_| {
            durability.advance(groups, 1);
            Err(Error::Closed { file: file.clone() })
        });
        assert!(closing.is_ok());
    }
}
