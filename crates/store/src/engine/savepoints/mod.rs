//! Savepoints that outlive their transaction and the process.
//!
//! A savepoint is a row of the space tree with the roots of all groups. Keeping its pages costs nothing: a page that is
//! older than the newest savepoint and in use is that savepoint's too, and is not given up
//! ([`Workspace::keeps`]). It stays in use in both accounts, and nothing is written about it. Which pages a savepoint
//! alone keeps is found out when it is released, by comparing it with the state after it.
//!
//! That rests on an order: every state follows from the savepoint before it by transactions. Going back to a savepoint
//! would break it for the savepoints made since; so these are gone then.
//!
//! Each change of the list is one flush. The one who makes it is in the writer's place, so nobody else changes the list
//! meanwhile, and holds it from before the flush until the list is what the flush made durable.

mod pages;

use std::sync::Arc;

use self::pages::{PageVisitor, Shared, visit_pages};
use super::{Engine, FlushKind, Flusher, Groups, Patience, open::write_header, pending::Volume};
use crate::{
    error::{Error, Result},
    file::{Header, SAVEPOINTS},
    page::PageRef,
    space::{MAX_SAVEPOINT_NAME, MAX_SAVEPOINTS, PageSet, SavepointRow},
    types::GroupSet,
    workspace::{Owner, Workspace},
};

/// What a flush does to the savepoints.
#[derive(Default)]
pub(super) struct SavepointChange {
    pub added: Option<SavepointRow>,
    /// The numbers of those that go.
    pub removed: Vec<u64>,
    /// Pages that only they had. No group counts them as given up.
    pub released: PageSet,
}

/// How many pages a savepoint keeps.
pub(crate) struct KeptPages {
    pub savepoint: SavepointRow,
    /// No other state has them.
    pub alone: u64,
    /// Older savepoints have them too, and no newer state.
    pub shared: u64,
}

impl Engine {
    /// The number of the newest savepoint; 0 if there is none. To be asked by the writer, in whose place savepoints change.
    pub fn newest_savepoint(&self) -> u64 {
        let savepoints = self.savepoints.lock();
        let newest = savepoints.as_ref().ok().and_then(|rows| rows.last());
        newest.map_or(0, |row| row.number)
    }

    /// The savepoints, oldest first.
    pub fn savepoints(&self) -> Result<Vec<SavepointRow>> {
        self.check_open()?;
        self.savepoints.lock().clone()
    }

    /// Registers a view of a savepoint; gives back the number that it is registered under, its transaction, and its state.
    pub fn open_savepoint_view(&self, name: &str) -> Result<(u64, u64, Groups)> {
        let savepoints = self.savepoints.lock();
        let savepoints = savepoints.as_ref().map_err(Error::clone)?;
        let row = find(savepoints, name)?;
        // Under the newest number, since its pages are the savepoint's until they are given up.
        let (view, _) = self.open_view()?;
        Ok((view, savepoints[row].transaction, savepoints[row].groups))
    }

    /// Makes everything durable, and a savepoint of it.
    pub fn create_savepoint(self: &Arc<Self>, name: &str) -> Result<SavepointRow> {
        if name.is_empty() || name.len() > MAX_SAVEPOINT_NAME {
            let length = name.len();
            return Err(Error::Configuration(format!(
                "the name of a savepoint has 1 to {MAX_SAVEPOINT_NAME} bytes, and this one has {length}"
            )));
        }
        let (_gate, number, ..) = self.enter()?;
        let mut savepoints = self.savepoints.lock();
        let savepoints = savepoints.as_mut().map_err(|damage| damage.clone())?;
        if find(savepoints, name).is_ok() {
            return Err(Error::SavepointExists { name: name.into() });
        }
        if savepoints.len() == MAX_SAVEPOINTS {
            return Err(Error::Configuration(format!(
                "the database has {MAX_SAVEPOINTS} savepoints, and no more are possible; release some"
            )));
        }
        let mut flusher = self.flusher.lock();
        self.check_writable()?;
        let (transaction, groups) = {
            let published = self.published.lock();
            (published.transaction, published.groups)
        };
        let row = SavepointRow {
            number,
            transaction,
            name: name.to_owned(),
            groups,
        };
        // Room to release it again is kept back from now on.
        self.space.lock().set_savepoints(savepoints.len() + 1);
        let flushed = self.promise_flush(Volume::default()).and_then(|()| {
            let change = SavepointChange {
                added: Some(row.clone()),
                ..SavepointChange::default()
            };
            self.change_savepoints(&mut flusher, &change)
        });
        match &flushed {
            Ok(()) => savepoints.push(row.clone()),
            Err(_) => self.space.lock().set_savepoints(savepoints.len()),
        }
        flushed.map(|()| row)
    }

    /// Ends a savepoint and frees what only it kept.
    pub fn release_savepoint(self: &Arc<Self>, name: &str) -> Result<()> {
        let (_gate, _, current, _) = self.enter()?;
        let mut left = self.savepoints()?;
        let index = find(&left, name)?;
        let mut alone = Released::new(self);
        self.visit_own(&left, index, &current, &mut alone)?;
        let change = SavepointChange {
            removed: vec![left.remove(index).number],
            released: alone.pages,
            added: None,
        };
        let mut savepoints = self.savepoints.lock();
        let mut flusher = self.flusher.lock();
        self.check_writable()?;
        self.promise_flush(Volume::default())?;
        self.change_savepoints(&mut flusher, &change)?;
        self.space.lock().set_savepoints(left.len());
        *savepoints = Ok(left);
        Ok(())
    }

    /// Makes the state of a savepoint the newest, durably, and ends the savepoints made after it. Gives back the
    /// transaction that did it.
    pub fn restore_savepoint(self: &Arc<Self>, name: &str) -> Result<u64> {
        let (_gate, number, current, next_table) = self.enter()?;
        let mut left = self.savepoints()?;
        let index = find(&left, name)?;
        let row = left[index].clone();
        let later = left.split_off(index + 1);
        // Everything that is newer than the savepoint is given up: what the newest state has as by any transaction...
        let mut workspace = Workspace::new(self.clone(), number, row.number);
        let mut newer = GivenUp {
            workspace: &mut workspace,
            pages: PageSet::default(),
        };
        visit_pages(&**self, &current, &mut newer)?;
        // ... and what only later savepoints have on top of that.
        let mut released = Released {
            after: row.number,
            shared: newer.pages,
            ..Released::new(self)
        };
        for later in &later {
            visit_pages(&**self, &later.groups, &mut released)?;
        }
        let change = SavepointChange {
            removed: later.iter().map(|later| later.number).collect(),
            released: released.pages,
            added: None,
        };
        let mut savepoints = self.savepoints.lock();
        // No other flush may come between.
        let mut flusher = self.flusher.lock();
        self.check_writable()?;
        self.publish(&mut workspace, row.groups, GroupSet::ALL, next_table)?;
        self.change_savepoints(&mut flusher, &change)?;
        self.space.lock().set_savepoints(left.len());
        *savepoints = Ok(left);
        Ok(number)
    }

    /// What each savepoint keeps, oldest first. No page is counted twice.
    pub fn savepoint_pages(&self) -> Result<Vec<KeptPages>> {
        let (view, savepoints, current) = {
            let savepoints = self.savepoints.lock();
            let savepoints = savepoints.clone()?;
            let (view, current) = self.open_view()?;
            (view, savepoints, current)
        };
        let count = |index: usize| {
            let mut counted = Counted {
                after: number_before(&savepoints, index),
                shared: self.shared_with_next(&savepoints, index, &current)?,
                alone: 0,
                others: 0,
            };
            visit_pages(self, &savepoints[index].groups, &mut counted)?;
            Ok(KeptPages {
                savepoint: savepoints[index].clone(),
                alone: counted.alone,
                shared: counted.others,
            })
        };
        let counted = (0..savepoints.len()).map(count).collect();
        self.close_view(view);
        counted
    }

    /// The writer's place, as by `begin_write`.
    fn enter(self: &Arc<Self>) -> Result<(super::GateGuard, u64, Groups, u32)> {
        let entered = self.begin_write(Patience::Endless)?;
        Ok(entered.expect("an endless wait has one end"))
    }

    /// The roots of what a savepoint has in common with the state after it.
    fn shared_with_next(
        &self,
        savepoints: &[SavepointRow],
        index: usize,
        current: &Groups,
    ) -> Result<PageSet> {
        let next = savepoints.get(index + 1).map_or(current, |row| &row.groups);
        Shared::find(self, next, savepoints[index].number)
    }

    /// Visits the pages that only this savepoint has.
    fn visit_own(
        &self,
        savepoints: &[SavepointRow],
        index: usize,
        current: &Groups,
        own: &mut Released<'_>,
    ) -> Result<()> {
        own.after = number_before(savepoints, index);
        own.shared = self.shared_with_next(savepoints, index, current)?;
        visit_pages(self, &savepoints[index].groups, own)
    }

    fn change_savepoints(
        self: &Arc<Self>,
        flusher: &mut Flusher,
        change: &SavepointChange,
    ) -> Result<()> {
        self.mark_savepoints(flusher)
            .and_then(|()| self.flush_locked(flusher, GroupSet::ALL, FlushKind::Savepoints(change)))
            .inspect_err(|failure| self.durability.latch(failure))
    }

    /// Says in the header, durably and before there is a savepoint, that a program must know of them. The bit stays: a
    /// program that knows of them finds out by itself that there are none.
    fn mark_savepoints(&self, flusher: &mut Flusher) -> Result<()> {
        if flusher.features & SAVEPOINTS != 0 {
            return Ok(());
        }
        let features = flusher.features | SAVEPOINTS;
        let header = Header {
            page_size: self.pager.page_size,
            identity: self.identity,
            features,
            marks: self.marks(),
        };
        write_header(&self.pager, &header)?;
        flusher.features = features;
        Ok(())
    }
}

fn find(savepoints: &[SavepointRow], name: &str) -> Result<usize> {
    savepoints
        .iter()
        .position(|row| row.name == name)
        .ok_or_else(|| Error::UnknownSavepoint { name: name.into() })
}

/// Pages with smaller numbers are those of the savepoint before, too.
fn number_before(savepoints: &[SavepointRow], index: usize) -> u64 {
    index
        .checked_sub(1)
        .map_or(0, |before| savepoints[before].number)
}

/// Collects the pages of savepoints that nobody else has.
struct Released<'e> {
    engine: &'e Engine,
    /// A savepoint that has what is older than it.
    after: u64,
    /// Roots of subtrees that somebody else has.
    shared: PageSet,
    pages: PageSet,
}

impl<'e> Released<'e> {
    fn new(engine: &'e Engine) -> Self {
        Self {
            engine,
            after: 0,
            shared: PageSet::default(),
            pages: PageSet::default(),
        }
    }
}

impl PageVisitor for Released<'_> {
    fn enters(&mut self, at: PageRef) -> bool {
        at.transaction > self.after
            && !self.shared.contains(at.page)
            && !self.pages.contains(at.page)
    }

    fn page(&mut self, at: PageRef, _: Owner) -> Result<()> {
        let pager = &self.engine.pager;
        if !self.engine.space.lock().is_used(at.page, pager)? {
            return Err(pager.corrupted(at.page, "is in use although it is marked as free"));
        }
        self.pages.insert(at.page);
        Ok(())
    }
}

/// Gives up the pages of the newest state that are newer than a savepoint.
struct GivenUp<'w> {
    workspace: &'w mut Workspace,
    pages: PageSet,
}

impl PageVisitor for GivenUp<'_> {
    fn enters(&mut self, at: PageRef) -> bool {
        !self.workspace.keeps(at)
    }

    fn page(&mut self, at: PageRef, owner: Owner) -> Result<()> {
        self.pages.insert(at.page);
        self.workspace.free(at, owner)
    }
}

/// Counts the pages of a savepoint that no newer state has.
struct Counted {
    /// Older pages are those of the savepoint before, too.
    after: u64,
    shared: PageSet,
    alone: u64,
    others: u64,
}

impl PageVisitor for Counted {
    fn enters(&mut self, at: PageRef) -> bool {
        !self.shared.contains(at.page)
    }

    fn page(&mut self, at: PageRef, _: Owner) -> Result<()> {
        match at.transaction > self.after {
            true => self.alone += 1,
            false => self.others += 1,
        }
        Ok(())
    }
}
