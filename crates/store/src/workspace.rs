//! The pages a running write transaction has made and given up.
//!
//! A page that the transaction made is private: nobody else can reach it, and it is changed in place. When memory is
//! short the private pages are written to the file early (spilled); from then on they are as immutable as committed ones,
//! and a further change copies them again. Pages made after that carry another number, so a place may be used again
//! within the transaction, and still no page is ever written twice under one identity.
//!
//! A savepoint freezes the private pages in the same way: later changes copy them, and what they gave up is held until the
//! end of the transaction, so going back means putting the old accounts in place again.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use crate::{
    catalog,
    engine::Engine,
    error::Result,
    page::{PageBytes, PageRef, identity, level, set_identity, table_number},
    pager::{PageSource, Pager},
    space::{Lifetime, PageSet, Purpose},
    types::Group,
};

/// To whom a page belongs: a table group, by its index, or the engine itself.
pub(crate) type Owner = usize;

/// The owner of the space tree and of manifest pages.
pub(crate) const SYSTEM: Owner = Group::COUNT;
pub(crate) const OWNERS: usize = Group::COUNT + 1;

/// A page that is in the file but not yet synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    pub checksum: u32,
    pub hash: u128,
}

/// Page numbers need no defence against chosen keys, and without a random seed two runs do the same.
#[derive(Default)]
pub(crate) struct PageHasher(u64);

impl Hasher for PageHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type PrivatePages = HashMap<u64, PrivatePage, BuildHasherDefault<PageHasher>>;

#[derive(Clone)]
pub(crate) struct PrivatePage {
    pub bytes: PageBytes,
    pub owner: Owner,
}

/// What a transaction did to the pages of one owner.
#[derive(Clone, Default)]
pub(crate) struct PageChanges {
    /// Pages it made and still uses.
    pub born: PageSet,
    /// Pages of earlier transactions that it uses no more.
    pub freed: PageSet,
    /// The same, of those that a savepoint uses: nothing becomes of them.
    pub kept: PageSet,
    /// Pages among `born` that are in the file already.
    pub spilled: BTreeMap<u64, Written>,
}

/// The pages of a transaction at a savepoint.
pub(crate) struct SavedPages {
    private: PrivatePages,
    changes: [PageChanges; OWNERS],
    recycled: Vec<u64>,
    held: Vec<u64>,
}

pub(crate) struct Workspace {
    pub engine: Arc<Engine>,
    /// The number under which the transaction is known.
    pub transaction: u64,
    /// The number that its new pages carry: another one after each spill.
    pub stamp: u64,
    pub private: PrivatePages,
    pub changes: [PageChanges; OWNERS],
    /// Made and given up again: free to be taken again at once.
    recycled: Vec<u64>,
    /// Private pages with smaller numbers belong to a savepoint: they are not edited, and their places are not taken again.
    frozen: u64,
    /// Frozen pages that were given up.
    held: Vec<u64>,
    /// Pages with smaller numbers belong to the newest savepoint that outlives transactions, for a page that is in use now
    /// and was there then has been in use all the time. 0 if there is none.
    pub kept_below: u64,
    /// What pages are taken for at the moment.
    pub purpose: Purpose,
    /// With how many private pages memory is looked after next.
    enough: usize,
}

impl Workspace {
    pub fn new(engine: Arc<Engine>, transaction: u64, kept_below: u64) -> Self {
        Self {
            engine,
            transaction,
            stamp: transaction,
            private: PrivatePages::default(),
            changes: Default::default(),
            recycled: Vec::new(),
            frozen: transaction,
            held: Vec::new(),
            kept_below,
            purpose: Purpose::Growth,
            enough: 0,
        }
    }

    /// The workspace of a flush. It never writes early: the flush that it belongs to is the one that writes.
    pub fn for_flush(engine: Arc<Engine>, transaction: u64) -> Self {
        Self {
            purpose: Purpose::Flush,
            // No savepoint refers to the engine's own pages.
            ..Self::new(engine, transaction, 0)
        }
    }

    pub fn page_size(&self) -> usize {
        self.engine.pager.page_size
    }

    /// A page may have to be made by growing the file, which is no more a dead handle's than writing to it.
    fn check_alive(&self) -> Result<()> {
        match self.purpose {
            // The last flush is made by a handle that counts as closed already.
            Purpose::Flush => Ok(()),
            Purpose::Growth | Purpose::Removal => self.engine.check_open(),
        }
    }

    /// A new page of zeros.
    pub fn allocate(&mut self, owner: Owner, lifetime: Lifetime) -> Result<PageRef> {
        let page = self.take(lifetime)?;
        Ok(self.adopt(page, PageBytes::zeroed(self.page_size()), owner))
    }

    fn take(&mut self, lifetime: Lifetime) -> Result<u64> {
        if let Some(page) = self.recycled.pop() {
            return Ok(page);
        }
        self.check_alive()?;
        let mut space = self.engine.space.lock();
        let allocated = space.allocate(lifetime, self.purpose, &self.engine.pager);
        drop(space);
        self.engine.latch_failed_growth(allocated)
    }

    /// Up to `wanted` new neighbouring pages of zeros: the first one and their number.
    pub fn allocate_run(&mut self, wanted: u64, owner: Owner) -> Result<(u64, u64)> {
        self.check_alive()?;
        let mut space = self.engine.space.lock();
        let allocated = space.allocate_run(wanted, self.purpose, &self.engine.pager);
        drop(space);
        let (first, count) = self.engine.latch_failed_growth(allocated)?;
        self.changes[owner].born.extend(first..first + count);
        Ok((first, count))
    }

    /// Fills a page of a run.
    pub fn fill(&mut self, page: u64, bytes: PageBytes, owner: Owner) {
        self.private.insert(page, PrivatePage { bytes, owner });
    }

    fn adopt(&mut self, page: u64, bytes: PageBytes, owner: Owner) -> PageRef {
        self.changes[owner].born.insert(page);
        let at = PageRef {
            page,
            transaction: self.stamp,
        };
        self.fill(page, bytes, owner);
        set_identity(self.edit(at), at);
        at
    }

    /// The page itself if it is private, else a private copy in whose favour the page is given up.
    pub fn make_private(&mut self, at: PageRef, owner: Owner) -> Result<PageRef> {
        self.copy_unless_private(at, owner, None)
    }

    /// The same for the last leaf of a tree, which is often one that rows are appended to.
    pub fn make_last_private(&mut self, at: PageRef, owner: Owner) -> Result<PageRef> {
        self.copy_unless_private(at, owner, Some(Lifetime::Short))
    }

    fn copy_unless_private(
        &mut self,
        at: PageRef,
        owner: Owner,
        lifetime: Option<Lifetime>,
    ) -> Result<PageRef> {
        if self.is_private(at) {
            return Ok(at);
        }
        let source = self.fetch(at)?;
        let usual = || lifetime_of(owner, table_number(&source), level(&source));
        let page = self.take(lifetime.unwrap_or_else(usual))?;
        let copy = self.adopt(page, PageBytes::from(&*source), owner);
        self.free(at, owner)?;
        Ok(copy)
    }

    fn is_private(&self, at: PageRef) -> bool {
        at.transaction >= self.frozen && self.private_page(at).is_some()
    }

    fn private_page(&self, at: PageRef) -> Option<&PageBytes> {
        // Numbers from the first of its own on are nobody else's, save those of flushes, whose pages no table has.
        if at.transaction < self.transaction {
            return None;
        }
        let page = self.private.get(&at.page)?;
        (identity(&page.bytes) == at).then_some(&page.bytes)
    }

    /// The bytes of a private page.
    pub fn edit(&mut self, at: PageRef) -> &mut [u8] {
        let page = self
            .private
            .get_mut(&at.page)
            .expect("only private pages are edited");
        // An iterator may still hold the bytes; it keeps what it has, and the transaction goes on with a copy.
        page.bytes.make_mut()
    }

    /// Lets two private pages change places.
    pub fn exchange(&mut self, one: PageRef, other: PageRef) {
        let pages = self.private.get_disjoint_mut([&one.page, &other.page]);
        let [first, second] = pages.map(|page| page.expect("both are private"));
        std::mem::swap(&mut first.bytes, &mut second.bytes);
        set_identity(first.bytes.make_mut(), one);
        set_identity(second.bytes.make_mut(), other);
    }

    /// Whether a page and all below it belong to a savepoint, so that giving it up frees nothing and moving it is in vain.
    pub fn keeps(&self, at: PageRef) -> bool {
        at.transaction < self.kept_below
    }

    /// Gives a page up. It is used again only when nobody can need it.
    pub fn free(&mut self, at: PageRef, owner: Owner) -> Result<()> {
        let kept = self.keeps(at);
        let changes = &mut self.changes[owner];
        if at.transaction >= self.transaction && changes.born.remove(at.page) {
            self.private.remove(&at.page);
            changes.spilled.remove(&at.page);
            match at.transaction < self.frozen {
                true => self.held.push(at.page),
                false => self.recycled.push(at.page),
            }
            return Ok(());
        }
        // A page that is free already, or given up twice, means that two references in the file lead to it.
        let used = self
            .engine
            .space
            .lock()
            .is_used(at.page, &self.engine.pager)?;
        let given_up = match kept {
            true => &mut changes.kept,
            false => &mut changes.freed,
        };
        if !used || given_up.contains(at.page) {
            return Err(self
                .engine
                .pager
                .corrupted(at.page, "is in use although it is marked as free"));
        }
        given_up.insert(at.page);
        Ok(())
    }

    /// Takes memory for private pages from the cache, and writes pages early if too many are not in the file. Only between
    /// operations on a tree: it may make private pages immutable.
    #[inline]
    pub fn relieve(&mut self) -> Result<()> {
        if self.purpose == Purpose::Flush || self.private.len() < self.enough {
            return Ok(());
        }
        let engine = self.engine.clone();
        self.enough = engine.relieve(self)?;
        Ok(())
    }

    /// Pages that nothing refers to when the transaction commits.
    pub fn take_unused(&mut self) -> PageSet {
        self.recycled.drain(..).chain(self.held.drain(..)).collect()
    }

    /// Remembers the pages of the transaction as they are. Costs a word or two for each page in memory.
    pub fn save(&mut self) -> SavedPages {
        self.freeze();
        SavedPages {
            private: self.private.clone(),
            changes: self.changes.clone(),
            recycled: self.recycled.clone(),
            held: self.held.clone(),
        }
    }

    /// Goes back to the pages as they were. They stay remembered.
    pub fn restore(&mut self, saved: &SavedPages) {
        let mut taken_since = self.take_everything();
        let kept = saved.changes.iter().flat_map(|changes| changes.born.iter());
        for page in kept.chain(saved.recycled.iter().chain(&saved.held).copied()) {
            taken_since.remove(page);
        }
        self.private = saved.private.clone();
        self.changes = saved.changes.clone();
        self.recycled = saved.recycled.clone();
        self.recycled.extend(taken_since.iter());
        self.held = saved.held.clone();
        self.freeze();
    }

    /// Lets the places of frozen pages be taken again, since nobody will go back to them.
    pub fn forget_saved(&mut self) {
        self.recycled.append(&mut self.held);
    }

    fn freeze(&mut self) {
        self.stamp = self.engine.take_number();
        self.frozen = self.stamp;
    }

    /// All pages the transaction took, for when it is aborted.
    pub fn take_everything(&mut self) -> PageSet {
        let mut pages = self.take_unused();
        for changes in &mut self.changes {
            pages.union(&std::mem::take(&mut changes.born));
        }
        self.private.clear();
        pages
    }
}

/// How long a node stays in use, usually.
pub(crate) fn lifetime_of(owner: Owner, table: u32, level: u8) -> Lifetime {
    match level > 0 || owner == SYSTEM || catalog::group_of(table).is_some() {
        true => Lifetime::Short,
        false => Lifetime::Long,
    }
}

impl PageSource for Workspace {
    fn pager(&self) -> &Pager {
        &self.engine.pager
    }

    fn visit<R>(&self, at: PageRef, visit: impl FnOnce(&PageBytes) -> R) -> Result<R> {
        match self.private_page(at) {
            Some(bytes) => Ok(visit(bytes)),
            None => self.engine.pager.visit(at, visit),
        }
    }
}
