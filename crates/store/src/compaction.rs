//! Giving free space back to the filesystem while the database is in use.

use std::ops::ControlFlow;

use crate::{
    database::Database,
    error::Result,
    transaction::{CompactionStep, Durability},
    types::GroupSet,
};

/// How to compact.
#[derive(Clone, Copy, Debug)]
pub struct CompactOptions {
    pages_a_step: u64,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl CompactOptions {
    /// Steps of 256 pages: 1 MiB of pages of the default size.
    #[must_use]
    pub fn new() -> Self {
        Self { pages_a_step: 256 }
    }

    /// How many pages are moved in one transaction. The writer waits for one such transaction, and at the end for the cut
    /// of the file. A value longer than that is moved in one step all the same.
    #[must_use]
    pub fn pages_a_step(mut self, pages: u64) -> Self {
        self.pages_a_step = pages.max(1);
        self
    }
}

/// What a compaction did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Compaction {
    /// The length of the file before, in bytes.
    pub bytes_before: u64,
    /// The length of the file now, in bytes.
    pub bytes_after: u64,
    /// Pages that were moved.
    pub pages_moved: u64,
    /// Pages in use behind the length that was aimed at. They are those of savepoints, which stay where they are, or of
    /// open views, or were written meanwhile.
    pub pages_kept: u64,
    /// Whether everything was looked at; if not, another call goes on.
    pub complete: bool,
}

impl Database {
    /// Moves pages from the end of the file to free places before them and cuts the file. Readers and the writer go on:
    /// it is a series of short transactions, each durable, that move a bounded number of pages. `progress` is told after
    /// each how many pages were moved, of about how many, and may end it there; what was done until then counts.
    ///
    /// Pages that an open view or a [savepoint](Self::create_savepoint) needs stay where they are, and the file with them.
    /// So do pages that are written meanwhile; another call takes them.
    ///
    /// Costs a read for every branch page and every leaf that holds long values, a write of what moves with the branches
    /// above it, and one sync a step.
    ///
    /// # Errors
    ///
    /// If the handle cannot write, or a page cannot be read. Nothing is lost then.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use folio_store::{CompactOptions, Database};
    ///
    /// # fn main() -> folio_store::Result<()> {
    /// let db = Database::in_memory()?;
    /// let done = db.compact(CompactOptions::new(), |_, _| ControlFlow::Continue(()))?;
    /// assert!(done.complete && done.bytes_after <= done.bytes_before);
    /// # Ok(())
    /// # }
    /// ```
    pub fn compact(
        &self,
        options: CompactOptions,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Compaction> {
        let engine = self.handle().engine();
        let span = tracing::info_span!("compact");
        let _span = span.enter();
        engine.checkpoint(GroupSet::ALL)?;
        let bytes_before = engine.file_bytes();
        let (bound, total) = engine.compaction_goal(options.pages_a_step)?;
        let mut pages_moved = 0;
        let mut complete = true;
        if total > 0 {
            let mut step = Some(CompactionStep::first(bound, options.pages_a_step));
            while let Some(next) = step.take() {
                let (moved, following) = self.compact_step(next)?;
                pages_moved += moved;
                step = following;
                if progress(pages_moved, total.max(pages_moved)).is_break() && step.is_some() {
                    complete = false;
                    break;
                }
            }
        }
        engine.shrink(bound)?;
        let bytes_after = engine.file_bytes();
        let pages_kept = engine.pages_from(bound)?;
        tracing::info!(
            bytes_before,
            bytes_after,
            pages_moved,
            pages_kept,
            complete,
            "compacted"
        );
        Ok(Compaction {
            bytes_before,
            bytes_after,
            pages_moved,
            pages_kept,
            complete,
        })
    }

    /// Gives back how many pages moved, and where to go on.
    fn compact_step(&self, step: CompactionStep) -> Result<(u64, Option<CompactionStep>)> {
        let mut transaction = self.begin_write()?;
        // What a step gave up is free for the next one only when the step is durable.
        transaction.set_durability(Durability::Immediate);
        let engine = self.handle().engine();
        engine.pack(true);
        let outcome = transaction.compact(step).and_then(|(moved, following)| {
            if moved > 0 {
                transaction.commit()?;
            }
            Ok((moved, following))
        });
        engine.pack(false);
        outcome
    }
}
