//! Reading everything and checking it, while others commit and flush.
//!
//! What is checked is the newest durable state. A pin keeps every page of it from being used again: those that commits
//! give up, as an open view would, and those of the space tree, which no view needs. All locks are let go before the
//! first page is read.

mod pace;
mod walk;

use std::{ops::ControlFlow, sync::Arc};

#[cfg(test)]
pub(crate) use self::pace::FakeClock;
pub(crate) use self::{
    pace::{Clock, Pace, SystemClock},
    walk::Walk,
};
use super::Engine;
use crate::{
    error::{Error, Result},
    file::Slot,
    types::GroupSet,
};

/// How [`Database::verify_with`](crate::Database::verify_with) goes about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyOptions {
    rate: u64,
    as_it_is: bool,
}

impl VerifyOptions {
    /// As fast as it goes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The most bytes to read in a second, so that a busy database hardly notices; 0 for as many as possible.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = bytes_per_second;
        self
    }

    /// Without a checkpoint before.
    pub(super) fn as_it_is(mut self) -> Self {
        self.as_it_is = true;
        self
    }
}

/// What [`Database::verify`](crate::Database::verify) found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The newest transaction in the state that was checked.
    pub transaction: u64,
    /// Pages in use that were read. One that several states have counts once.
    pub pages: u64,
    /// Tables walked.
    pub tables: u64,
    /// Rows counted.
    pub rows: u64,
    /// Savepoints walked, whose tables and rows are not among those.
    pub savepoints: u64,
    /// Whether the walk was ended early, so that not everything was checked.
    pub interrupted: bool,
    /// What is wrong, in the order in which it was met. Empty for a sound file.
    pub problems: Vec<Problem>,
}

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The page concerned, if it is about one.
    pub page: Option<u64>,
    /// The table concerned, where it is known.
    pub table: Option<String>,
    /// What is wrong.
    pub fault: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(page) = self.page {
            write!(formatter, "page {page}: ")?;
        }
        if let Some(table) = &self.table {
            write!(formatter, "table `{table}`: ")?;
        }
        formatter.write_str(&self.fault)
    }
}

/// Keeps the pages of the durable state of one moment from being used again.
pub(crate) struct Pin(Arc<Engine>);

/// The number under which pins are registered among the views. It is below that of every transaction, so nothing that
/// is given up while there is a pin becomes free.
pub(super) const PIN: u64 = 0;

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.close_view(PIN);
    }
}

impl Engine {
    /// Whether pages that only the durable state before needed must be kept. To be asked by the flusher, under whose lock
    /// pins are made.
    pub(super) fn is_pinned(&self) -> bool {
        self.published.lock().views.contains_key(&PIN)
    }

    /// Makes everything durable, unless nothing can be written.
    pub fn checkpoint_if_possible(self: &Arc<Self>) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        match self.checkpoint(GroupSet::ALL) {
            // What is on the disk can still be read, and the more reason there is to.
            Ok(()) | Err(Error::Latched { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The newest durable state, whose pages stay as they are until the pin is dropped.
    pub fn pin(self: &Arc<Self>) -> (Pin, Slot) {
        let flusher = self.flusher.lock();
        self.published.lock().add_view(PIN);
        (Pin(self.clone()), flusher.slot.clone())
    }

    pub fn verify(
        self: &Arc<Self>,
        options: VerifyOptions,
        clock: &dyn Clock,
        progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<VerifyReport> {
        self.check_open()?;
        if !options.as_it_is {
            self.checkpoint_if_possible()?;
        }
        let (_pin, slot) = self.pin();
        let pace = Pace::new(clock, options.rate);
        Walk::new(&self.pager, &slot, pace, progress).run()
    }
}

#[cfg(test)]
mod tests;
