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
            let turn = Turn(self);
            let result = flush(wanted);
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

/// The turn of the one who flushes; passed on even if the flush panics.
struct Turn<'d>(&'d Durability);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().flushing = false;
        self.0.changed.notify_all();
    }
}
