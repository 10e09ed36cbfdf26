//! Writing pages before their flush, because memory is short.
//!
//! Nothing on disk refers to the page yet, so a crash forgets it; the manifest of the flush that first refers to it
//! vouches for it. So an early write costs no sync, until such pages are so many that remembering them would take much
//! memory itself: then one sync makes all of them durable, and no manifest needs to name them.

use super::{Engine, Flusher};
use crate::{
    error::Result,
    page::{PageBytes, PageRef, identity},
    workspace::{Workspace, Written},
};

/// The part of the pages that may be unwritten that is written at a time, and the least that is worth a call.
const PARTS: usize = 64;
const SMALLEST_PART: usize = 8;

/// An operation on a tree may need this many private pages at one time, however small the cache is.
const FEWEST_PRIVATE_PAGES: usize = 32;

impl Engine {
    /// Keeps the running transaction's pages, and those that wait for a flush, within the cache. Gives back with how many
    /// private pages that is to be done again.
    ///
    /// Committed pages go first, since the transaction will change many of its own again, and a part of them at a time: of
    /// those that stay, some are changed before they have to be written, and then never are.
    pub fn relieve(&self, workspace: &mut Workspace) -> Result<usize> {
        let part = (self.unwritten_limit / PARTS).max(SMALLEST_PART);
        let unwritten = workspace.private.len() + self.pending.lock().dirty_pages();
        let room = self.unwritten_limit.saturating_sub(unwritten);
        let written = room == 0 && self.write_waiting(workspace, part)?;
        if room == 0 && !written && workspace.private.len() >= FEWEST_PRIVATE_PAGES {
            self.spill(workspace)?;
        }
        self.pager.cache.lend(workspace.private.len());
        Ok(workspace.private.len() + room.clamp(1, part))
    }

    /// Writes all private pages of the running transaction; the cache may evict them afterwards.
    fn spill(&self, workspace: &mut Workspace) -> Result<()> {
        let mut owners = Vec::with_capacity(workspace.private.len());
        let mut pages: Vec<(PageRef, PageBytes)> = Vec::with_capacity(workspace.private.len());
        for (&page, private) in &workspace.private {
            pages.push((identity(&private.bytes), private.bytes.clone()));
            owners.push((page, private.owner));
        }
        pages.sort_unstable_by_key(|(at, _)| *at);
        owners.sort_unstable();
        let mut flusher = self.flusher.lock();
        let written = self.write_early(&mut flusher, &pages)?;
        for ((page, owner), (_, written)) in owners.into_iter().zip(written) {
            workspace.changes[owner].spilled.insert(page, written);
        }
        let spilled = workspace
            .changes
            .iter()
            .map(|changes| changes.spilled.len());
        if spilled.sum::<usize>() >= self.unsynced_limit {
            self.sync_early(&flusher)?;
            for changes in &mut workspace.changes {
                changes.spilled.clear();
            }
        }
        drop(flusher);
        workspace.private.clear();
        self.pager.cache.lend(0);
        for (at, bytes) in pages {
            self.pager.cache.insert(at, bytes, false);
        }
        workspace.stamp = self.take_number();
        Ok(())
    }

    /// Writes some of the committed pages that wait for a flush. False if there are none.
    fn write_waiting(&self, workspace: &Workspace, most: usize) -> Result<bool> {
        // Held from before the pages are collected: a flush could free one of them and write another in its place.
        let mut flusher = self.flusher.lock();
        let replaced = |group: usize, page| workspace.changes[group].freed.contains(page);
        let pages = self.pending.lock().choose_early(most, replaced);
        let written = self.write_early(&mut flusher, &pages)?;
        let mut pending = self.pending.lock();
        for ((at, _), (page, written)) in pages.iter().zip(written) {
            pending.written(page, written);
            self.pager.cache.mark_clean(*at);
        }
        let unsynced = pending.groups.iter().map(|group| group.unsynced.len());
        if unsynced.sum::<usize>() >= self.unsynced_limit {
            drop(pending);
            // Nothing is published meanwhile: the caller is the one writer.
            self.sync_early(&flusher)?;
            for group in &mut self.pending.lock().groups {
                group.unsynced.clear();
            }
        }
        Ok(!pages.is_empty())
    }

    fn sync_early(&self, _: &Flusher) -> Result<()> {
        self.sync()
            .inspect_err(|failure| self.durability.latch(failure))
    }

    fn write_early(
        &self,
        flusher: &mut Flusher,
        pages: &[(PageRef, PageBytes)],
    ) -> Result<Vec<(u64, Written)>> {
        self.check_writable()?;
        let newest = pages
            .iter()
            .map(|(at, _)| at.transaction)
            .max()
            .unwrap_or(0);
        let result = self
            .permit(flusher, newest)
            .and_then(|()| self.write_pages(pages));
        result.inspect_err(|failure| self.durability.latch(failure))
    }
}
