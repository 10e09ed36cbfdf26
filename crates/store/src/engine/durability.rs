//! Who waits for which commit to be durable, and who flushes for all of them.
//!
//! There is no flushing thread and no timer. Of those who wait, one flushes, for everything that was published by then;
//! the others sleep. When it is done the next one flushes what came in the meantime.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::{
    error::{Error, Result},
    types::{Group, GroupSet},
};

struct State {
    /// For each group the transaction up to which it is durable.
    reached: [u64; Group::COUNT],
    /// What those who wait are waiting for.
    wanted: GroupSet,
    flushing: bool,
    /// Why nothing is written any more.
    latched: Option<Arc<str>>,
}

pub(super) struct Durability {
    state: Mutex<State>,
    changed: Condvar,
}

impl Durability {
    pub fn new(transaction: u64) -> Self {
        let state = State {
            reached: [transaction; Group::COUNT],
            wanted: GroupSet::EMPTY,
            flushing: false,
            latched: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
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
        self.changed.notify_all();
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
        while !state.has_reached(groups, transaction) {
            if let Some(reason) = &state.latched {
                return Err(Error::Latched {
                    file: file.clone(),
                    reason: reason.clone(),
                });
            }
            state.wanted = state.wanted | groups;
            if state.flushing {
                self.changed.wait(&mut state);
                continue;
            }
            state.flushing = true;
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
        Ok(())
    }
}

impl State {
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
        self.durability.changed.notify_all();
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
