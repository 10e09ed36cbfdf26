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

impl Engine {
    /// Writes all private pages of the running transaction; the cache may evict them afterwards.
    pub fn spill(&self, workspace: &mut Workspace) -> Result<()> {
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
        for (at, bytes) in pages {
            self.pager.cache.insert(at, bytes, false);
        }
        workspace.private.clear();
        workspace.stamp = self.take_number();
        Ok(())
    }

    /// Writes committed pages that wait for a flush, if they take too much of the cache. Called between transactions.
    pub(super) fn relieve_cache(&self) -> Result<()> {
        if self.pending.lock().dirty_pages() < self.dirty_limit {
            return Ok(());
        }
        // Held from before the pages are collected: a flush could free one of them and write another in its place.
        let mut flusher = self.flusher.lock();
        let mut pages: Vec<(PageRef, PageBytes)> = {
            let pending = self.pending.lock();
            let dirty = pending
                .groups
                .iter()
                .flat_map(|group| &group.dirty)
                .chain(&pending.volatile);
            dirty
                .map(|(&page, dirty)| {
                    (
                        PageRef {
                            page,
                            transaction: dirty.transaction,
                        },
                        dirty.bytes.clone(),
                    )
                })
                .collect()
        };
        pages.sort_unstable_by_key(|(at, _)| *at);
        let written = self.write_early(&mut flusher, &pages)?;
        let mut pending = self.pending.lock();
        for ((at, _), (page, written)) in pages.iter().zip(written) {
            for group in &mut pending.groups {
                if group.dirty.remove(&page).is_some() {
                    group.unsynced.insert(page, written);
                }
            }
            pending.volatile.remove(&page);
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
        Ok(())
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
