//! Publishing a transaction in memory. No system call.

use std::sync::Arc;

use super::{
    Engine, Groups,
    flush::flush_needs,
    pending::{Dirty, Volume},
};
use crate::{
    error::{Error, Result},
    page::identity,
    pager::{Counters, GROW},
    space::PageSet,
    sync::atomic::Ordering,
    types::{Group, GroupSet},
    workspace::Workspace,
};

impl Engine {
    /// Makes sure that the flush of all that is pending, and of a transaction that is about to join it, will find the pages
    /// that it needs for itself, so that a full disk is met before anything is published.
    fn promise_flush_of(&self, workspace: &Workspace) -> Result<()> {
        let of_transaction = workspace.changes.iter().map(|changes| Volume {
            written: changes.spilled.len() as u64,
            changed: changes.born.len() + changes.freed.len(),
        });
        let private = Volume {
            written: workspace.private.len() as u64,
            changed: 0,
        };
        self.promise_flush(of_transaction.chain([private]).sum())
    }

    /// The same for what is about to join the flush.
    pub(super) fn promise_flush(&self, more: Volume) -> Result<()> {
        let pending = self.pending.lock().volume();
        let mut space = self.space.lock();
        let released = Volume {
            written: 0,
            // A disk that savepoints have filled must have room to end them.
            changed: space.releasable(),
        };
        let volume = [pending, more, released].into_iter().sum();
        let pages = flush_needs(self.pager.page_size, volume, &space);
        let room = space.promise(pages, &self.pager);
        drop(space);
        self.latch_failed_growth(room)
    }

    /// Stops all writing after a growth that failed, unless it was for want of room: it is a failed write like any other.
    pub fn latch_failed_growth<R>(&self, result: Result<R>) -> Result<R> {
        result.inspect_err(|failure| {
            if matches!(failure, Error::Io { operation, .. } if *operation == GROW) {
                self.durability.latch(failure);
            }
        })
    }

    /// Makes the changes of a transaction the newest state. After an error nothing has changed.
    pub fn publish(
        &self,
        workspace: &mut Workspace,
        groups: Groups,
        changed: GroupSet,
        next_table: u32,
    ) -> Result<()> {
        let span = tracing::trace_span!("commit", transaction = workspace.transaction);
        let _span = span.enter();
        // Before the file may grow for it.
        self.check_open()?;
        self.promise_flush_of(workspace)?;
        let mut pending = self.pending.lock();
        // Under the lock that the last flush takes: what is published before it is in it, and nothing comes after.
        self.check_writable()?;
        let transaction = workspace.transaction;
        let unused = workspace.take_unused();
        let mut private = std::mem::take(&mut workspace.private);
        let mut given_up = PageSet::default();
        for (index, changes) in workspace.changes.iter_mut().enumerate().take(Group::COUNT) {
            for page in changes.freed.iter() {
                if pending.give_up(index, page) {
                    given_up.insert(page);
                }
            }
            let group = &mut pending.groups[index];
            group.born.union(&changes.born);
            group.unsynced.append(&mut changes.spilled);
        }
        self.pager.cache.lend(0);
        for (page, private) in private.drain() {
            let at = identity(&private.bytes);
            self.pager.cache.insert(at, private.bytes.clone(), true);
            let dirty = Dirty {
                transaction: at.transaction,
                bytes: private.bytes,
            };
            pending.groups[private.owner].dirty.insert(page, dirty);
        }
        pending.tie(changed);
        pending.wait_for_views(transaction, &given_up);
        let free = {
            let mut published = self.published.lock();
            published.transaction = transaction;
            published.groups = groups;
            published.next_table = next_table;
            for changes in workspace.changes.iter().take(Group::COUNT) {
                pending.publish(&changes.born, transaction, &published.views);
            }
            pending.join_waiting(&published.views);
            pending.take_free(&published.views)
        };
        drop(pending);
        Counters::add(&self.pager.counters.commits, 1);
        let released = self.release(&unused).and_then(|()| self.release(&free));
        if let Err(failure) = released {
            // The commit stands; but without an account of free pages no other may follow.
            self.durability.latch(&failure);
        }
        Ok(())
    }

    /// Gives the pages of an aborted transaction back.
    pub fn abort(&self, workspace: &mut Workspace) {
        let pages = workspace.take_everything();
        self.pager.cache.lend(0);
        if let Err(failure) = self.release(&pages) {
            self.durability.latch(&failure);
        }
    }

    /// Frees the pages that waited for views which are gone.
    pub(super) fn release_waiting(&self) -> Result<()> {
        let mut pending = self.pending.lock();
        let free = pending.take_free(&self.published.lock().views);
        drop(pending);
        self.release(&free)
    }

    /// Makes pages free. The cache forgets them, so that it has room for others.
    pub(super) fn release(&self, pages: &PageSet) -> Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        for page in pages.iter() {
            self.pager.cache.remove(page);
        }
        self.space.lock().release(pages, &self.pager)
    }

    /// Returns when `groups` are durable up to `transaction`.
    pub fn wait_durable(self: &Arc<Self>, groups: GroupSet, transaction: u64) -> Result<()> {
        self.durability
            .wait(groups, transaction, &self.pager.file, |wanted| {
                self.flush(wanted)
            })
    }

    pub fn is_durable(&self, groups: GroupSet, transaction: u64) -> bool {
        self.durability.has_reached(groups, transaction)
    }

    /// Makes the newest state of `groups` durable.
    pub fn checkpoint(self: &Arc<Self>, groups: GroupSet) -> Result<()> {
        self.check_writable()?;
        self.wait_durable(groups, self.published_transaction())
    }

    /// Closes the database: flushes everything and marks the file as closed in order.
    pub fn close(self: &Arc<Self>) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) || self.read_only {
            // Somebody else closes: done when he is.
            drop(self.flusher.lock());
            return self.durability.check(&self.pager.file);
        }
        self.flush_last()
    }

    /// Ends the handle as the death of the process would: nothing more is written.
    pub fn kill(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
