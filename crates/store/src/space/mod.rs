//! Which pages are free.
//!
//! Two accounts are kept apart. The **durable** one says which pages the durable roots refer to; it is stored, as
//! bitmaps of 4,096 pages each in a tree of its own (the space tree), with the latest changes beside it in the commit slot.
//! The one in **memory** says which pages must not be given out: those of the durable account, those of newer states
//! that are not on disk yet, and those that an open view still needs. Of the latter two nothing is stored, so whatever a
//! crash forgets is free again.
//!
//! The bitmap in memory is loaded a chunk at a time, when something in the chunk is taken or given up; opening loads
//! nothing. A chunk not loaded is one that nobody touched since, so it is equal in both accounts.

mod page_bits;
mod page_set;
mod savepoints;
mod search;

use std::{collections::BTreeMap, io, ops::Range};

pub(crate) use self::{
    page_bits::PageBits,
    page_set::PageSet,
    savepoints::{MAX_SAVEPOINT_NAME, MAX_SAVEPOINTS, SavepointRow, read_savepoints},
    search::Lifetime,
};
use crate::{
    error::{Error, Result},
    file::{FIXED_PAGES, MAX_PAGES, SpaceChange},
    pager::{Counters, Pager},
    tree::{Relocation, Tree, TreeRoot},
    workspace::{SYSTEM, Workspace},
};

/// Pages described by one row of the space tree.
pub(crate) const CHUNK_PAGES: u64 = 4096;
pub(crate) const CHUNK_BYTES: usize = (CHUNK_PAGES / 8) as usize;

/// The table number in the pages of the space tree.
pub(crate) const SPACE_TABLE: u32 = 0;

/// Pages kept back for removals, so that a full disk can be emptied: enough for one that copies the way to two leaves
/// in each of several trees.
const REMOVAL_RESERVE: u64 = 32;

/// What a page is taken for, which decides how many others must be left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Rows that are added or changed. Leaves what removals and the next flush may need.
    Growth,
    /// Rows that are removed. Leaves what the next flush may need.
    Removal,
    /// The flush itself.
    Flush,
}

#[derive(Clone)]
struct Chunk {
    words: [u64; CHUNK_BYTES / 8],
    used: u64,
}

/// The durable account.
#[derive(Clone, Debug)]
pub(crate) struct DurableSpace {
    pub tree: TreeRoot,
    /// Changes that are not in the tree.
    pub changes: BTreeMap<u64, bool>,
    /// Pages in use, fixed ones included.
    pub used: u64,
}

pub(crate) struct Space {
    pub durable: DurableSpace,
    /// Pages beyond this were never used.
    length: u64,
    /// Pages that the file has, used or not.
    physical: u64,
    chunks: BTreeMap<u64, Chunk>,
    /// Pages that must not be given out, fixed ones included.
    in_use: u64,
    /// Pages that the next flush may need.
    promised: u64,
    /// Pages that the flush before a cut may need on top of that.
    settling: u64,
    /// Savepoints that the space tree lists.
    savepoints: u64,
    /// The page behind the one that was taken last outside the zone.
    cursor: u64,
    /// Where pages of short life are taken; it lies within one chunk. Empty if there is none, and then it says where the
    /// search for one goes on.
    zone: Range<u64>,
    /// The page behind the one that was taken last in the zone.
    zone_cursor: u64,
    /// Whether pages are taken from the start of the file, to empty its end.
    packing: bool,
    /// The least and the most by which the file grows at a time, in bytes.
    growth: (u64, u64),
    /// Pages by which the file has grown since it was opened.
    grown: u64,
    withheld: Option<Withheld>,
}

/// Pages that are free and are not given out, because readers elsewhere may need some of them. They count as in use.
struct Withheld {
    /// All pages below this that were free then.
    below: u64,
    count: u64,
    /// Which of each chunk that is loaded.
    chunks: BTreeMap<u64, [u64; CHUNK_BYTES / 8]>,
}

impl Space {
    pub fn new(durable: DurableSpace, length: u64, physical: u64, growth: (u64, u64)) -> Self {
        let in_use = durable.used;
        Self {
            durable,
            length,
            physical,
            chunks: BTreeMap::new(),
            in_use,
            promised: 0,
            settling: 0,
            savepoints: 0,
            cursor: FIXED_PAGES,
            zone: 0..0,
            zone_cursor: 0,
            packing: false,
            growth,
            grown: 0,
            withheld: None,
        }
    }

    /// Gives out none of the pages that are free now, until [`give_out_withheld`](Self::give_out_withheld).
    pub fn withhold_free(&mut self) {
        let mut withheld = Withheld {
            below: self.length,
            count: self.free(),
            chunks: BTreeMap::new(),
        };
        for (&index, chunk) in &mut self.chunks {
            withheld.take(index, chunk);
        }
        self.in_use += withheld.count;
        self.withheld = Some(withheld);
    }

    pub fn give_out_withheld(&mut self) {
        let Some(withheld) = self.withheld.take() else {
            return;
        };
        for (index, bits) in &withheld.chunks {
            if let Some(chunk) = self.chunks.get_mut(index) {
                chunk.clear(bits);
            }
        }
        self.in_use = self.in_use.saturating_sub(withheld.count);
        self.cursor = FIXED_PAGES;
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn physical(&self) -> u64 {
        self.physical
    }

    /// Pages below the length that can be given out.
    pub fn free(&self) -> u64 {
        self.length.saturating_sub(self.in_use)
    }

    /// Pages that can be given out without growing the file.
    pub fn untaken(&self) -> u64 {
        self.physical.saturating_sub(self.in_use)
    }

    /// Takes a free page, growing the file if it has too few.
    pub fn allocate(&mut self, lifetime: Lifetime, purpose: Purpose, pager: &Pager) -> Result<u64> {
        self.make_room(1 + self.kept_back(purpose), pager)?;
        let found = match self.free() {
            0 => None,
            _ => self.search(lifetime, pager)?,
        };
        let page = match found {
            Some(page) => page,
            // Searches go on where they were, so that they come to every part of the file.
            None => match self.extend(pager) {
                Ok(page) => return self.take(page, pager).map(|()| page),
                Err(full @ Error::Full { .. }) => self.search_everywhere(pager)?.ok_or(full)?,
                Err(error) => return Err(error),
            },
        };
        self.take(page, pager)?;
        match self.zone.contains(&page) {
            true => self.zone_cursor = page + 1,
            false => self.cursor = page + 1,
        }
        Ok(page)
    }

    /// Takes up to `wanted` neighbouring pages: the first one and their number.
    pub fn allocate_run(
        &mut self,
        wanted: u64,
        purpose: Purpose,
        pager: &Pager,
    ) -> Result<(u64, u64)> {
        let first = self.allocate(Lifetime::Long, purpose, pager)?;
        let mut count = 1;
        while count < wanted {
            let next = first + count;
            match self.take_next(next, purpose, pager) {
                Ok(true) => count += 1,
                // A shorter run is as good; the next call meets a disk that is full.
                Ok(false) | Err(Error::Full { .. }) => break,
                Err(failure) => {
                    self.release(&(first..next).collect(), pager)?;
                    return Err(failure);
                }
            }
        }
        Ok((first, count))
    }

    /// Takes this page for a run, if it is free.
    fn take_next(&mut self, page: u64, purpose: Purpose, pager: &Pager) -> Result<bool> {
        self.make_room(1 + self.kept_back(purpose), pager)?;
        if page == self.length && page < self.physical {
            self.length += 1;
        }
        if page >= self.length || self.is_used(page, pager)? {
            return Ok(false);
        }
        self.take(page, pager)?;
        self.cursor = page + 1;
        Ok(true)
    }

    /// The pages that recording `changed` pages in the space tree may take: a copy of each leaf concerned and of the
    /// branches above, then the same for the places of the copies, but no more than the whole tree twice.
    pub fn fold_needs(&self, changed: u64) -> u64 {
        let rows = self.length / CHUNK_PAGES + 2 + self.savepoints;
        rows.min(4 * changed) * 2 + 8
    }

    pub fn savepoints(&self) -> u64 {
        self.savepoints
    }

    pub fn set_savepoints(&mut self, count: usize) {
        self.savepoints = count as u64;
    }

    /// The pages that a flush may free at most, beyond those that commits gave up: all that a savepoint could have kept.
    pub fn releasable(&self) -> u64 {
        match self.savepoints {
            0 => 0,
            _ => self.length,
        }
    }

    /// Makes sure that the next flush finds `pages` free pages, whatever is allocated until then for other purposes.
    pub fn promise(&mut self, pages: u64, pager: &Pager) -> Result<()> {
        self.make_room(pages, pager)?;
        self.promised = pages;
        Ok(())
    }

    /// Makes sure that the flush before a cut finds room for a copy of the space tree, until `end_settling`.
    pub fn begin_settling(&mut self, pager: &Pager) -> Result<()> {
        let needed = self.fold_needs(u64::MAX / 8);
        self.make_room(self.promised + needed, pager)?;
        self.settling = needed;
        self.pack(true);
        Ok(())
    }

    pub fn end_settling(&mut self) {
        self.settling = 0;
        self.pack(false);
    }

    /// Makes pages be taken from the start of the file, wherever one is free; or, as usual, where there are several.
    pub fn pack(&mut self, packing: bool) {
        self.packing = packing;
        if packing {
            self.cursor = FIXED_PAGES;
        }
    }

    /// Lowers the length to the end of the last page that must not be given out; gives it back.
    pub fn lower_length(&mut self, pager: &Pager) -> Result<u64> {
        while self.length > FIXED_PAGES {
            let index = (self.length - 1) / CHUNK_PAGES;
            let limit = self.length - index * CHUNK_PAGES;
            if let Some(bit) = self.chunk(index, pager)?.last_used(limit) {
                self.length = index * CHUNK_PAGES + bit + 1;
                break;
            }
            self.chunks.remove(&index);
            self.length = index * CHUNK_PAGES;
        }
        if let Some(withheld) = &mut self.withheld {
            // What is cut off had none of them, and may be used anew.
            withheld.below = withheld.below.min(self.length);
        }
        if self.zone.end > self.length {
            self.zone = 0..0;
        }
        Ok(self.length)
    }

    /// Cuts the file behind its length, save for what is kept back. `durable` is the length that the slots describe.
    pub fn cut(&mut self, durable: u64, pager: &Pager) -> Result<()> {
        let end = (self.length.max(durable)).saturating_add(self.kept_back(Purpose::Growth));
        if end >= self.physical {
            return Ok(());
        }
        pager
            .storage
            .truncate(end * pager.page_size as u64)
            .map_err(|error| pager.io_error("cut the file", error))?;
        self.physical = end;
        Ok(())
    }

    /// How many pages from `bound` on must not be given out.
    pub fn used_from(&mut self, bound: u64, pager: &Pager) -> Result<u64> {
        let mut used = 0;
        for index in bound / CHUNK_PAGES..self.length.div_ceil(CHUNK_PAGES) {
            let first = bound.saturating_sub(index * CHUNK_PAGES);
            used += self.chunk(index, pager)?.used_from(first);
        }
        Ok(used)
    }

    /// Pages that must not be given out.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    pub fn kept_back(&self, purpose: Purpose) -> u64 {
        match purpose {
            Purpose::Growth => self.promised + self.settling + REMOVAL_RESERVE,
            Purpose::Removal => self.promised + self.settling,
            Purpose::Flush => 0,
        }
    }

    /// Grows the file until it has this many free pages.
    fn make_room(&mut self, pages: u64, pager: &Pager) -> Result<()> {
        let free = self.physical.saturating_sub(self.in_use);
        if free < pages {
            self.grow(pages - free, pager)?;
        }
        Ok(())
    }

    /// Gives pages back that nobody can need any more.
    pub fn release(&mut self, pages: &PageSet, pager: &Pager) -> Result<()> {
        for page in pages.iter() {
            let chunk = self.chunk(page / CHUNK_PAGES, pager)?;
            if chunk.set(page % CHUNK_PAGES, false) {
                // The count comes from the slot; a crafted one may say anything.
                self.in_use = self.in_use.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Keeps pages from being given out although the durable account calls them free.
    pub fn pin(&mut self, pages: &PageSet, pager: &Pager) -> Result<()> {
        pages.iter().try_for_each(|page| self.take(page, pager))
    }

    pub fn is_used(&mut self, page: u64, pager: &Pager) -> Result<bool> {
        Ok(page < self.length
            && self
                .chunk(page / CHUNK_PAGES, pager)?
                .get(page % CHUNK_PAGES))
    }

    fn take(&mut self, page: u64, pager: &Pager) -> Result<()> {
        debug_assert!(page < self.length, "page {page} of {}", self.length);
        let chunk = self.chunk(page / CHUNK_PAGES, pager)?;
        if !chunk.set(page % CHUNK_PAGES, true) {
            self.in_use += 1;
        }
        Ok(())
    }

    /// A page beyond the length, which grows.
    fn extend(&mut self, pager: &Pager) -> Result<u64> {
        if self.length >= self.physical {
            self.grow(1, pager)?;
        }
        let page = self.length;
        self.length += 1;
        Ok(page)
    }

    /// Grows the file by at least `pages`: ahead of need, since a flush into pages that were written before changes no
    /// metadata.
    fn grow(&mut self, pages: u64, pager: &Pager) -> Result<()> {
        let page_size = pager.page_size as u64;
        let step = self.grown.min(self.physical / 4) * page_size;
        let step = step.clamp(self.growth.0, self.growth.1) / page_size;
        // A disk that has no room for the usual step may have some for what is needed.
        match self.grow_by(step.max(pages), pager) {
            Err(Error::Full { .. }) => self.grow_by(pages, pager),
            outcome => outcome,
        }
    }

    fn grow_by(&mut self, pages: u64, pager: &Pager) -> Result<()> {
        let page_size = pager.page_size as u64;
        let bytes = pages.saturating_mul(page_size);
        let from = self.physical * page_size;
        let left = MAX_PAGES.saturating_sub(self.physical);
        let grown = match pages <= left {
            true => pager.storage.grow(from, from + bytes),
            false => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("a database has at most {MAX_PAGES} pages"),
            )),
        };
        grown.map_err(|error| pager.growth_error(bytes, error))?;
        Counters::add(&pager.counters.write_calls, 1);
        Counters::add(&pager.counters.bytes_written, bytes);
        self.physical += pages;
        self.grown += pages;
        Ok(())
    }

    fn chunk(&mut self, index: u64, pager: &Pager) -> Result<&mut Chunk> {
        use std::collections::btree_map::Entry;
        match self.chunks.entry(index) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let mut bits = self.durable.tree.get(pager, &index.to_be_bytes())?.map_or(
                    Ok([0; CHUNK_BYTES]),
                    |row| {
                        <[u8; CHUNK_BYTES]>::try_from(row.as_slice()).map_err(|_| {
                            pager.corrupted(
                                self.durable.tree.at.page,
                                "the free-space map has a row of the wrong size",
                            )
                        })
                    },
                )?;
                apply(&mut bits, index, &self.durable.changes);
                let mut chunk = Chunk::from_bytes(&bits);
                if index == 0 {
                    (0..FIXED_PAGES).for_each(|page| {
                        chunk.set(page, true);
                    });
                }
                if let Some(withheld) = &mut self.withheld {
                    withheld.take(index, &mut chunk);
                }
                Ok(entry.insert(chunk))
            }
        }
    }
}

impl Withheld {
    /// Marks the free pages of a chunk as used. Nobody has taken or given up any of it since, or it is loaded already.
    fn take(&mut self, index: u64, chunk: &mut Chunk) {
        let first = index * CHUNK_PAGES;
        let mut bits = [0; CHUNK_BYTES / 8];
        for bit in 0..self.below.saturating_sub(first).min(CHUNK_PAGES) {
            if !chunk.set(bit, true) {
                bits[(bit / 64) as usize] |= 1 << (bit % 64);
            }
        }
        self.chunks.insert(index, bits);
    }
}

impl DurableSpace {
    pub fn from_slot(slot: &crate::file::Slot) -> Self {
        Self {
            tree: TreeRoot {
                at: slot.space_root,
                rows: slot.space_rows,
            },
            changes: slot
                .space_changes
                .iter()
                .map(|change| (change.page, change.used))
                .collect(),
            used: slot.used,
        }
    }

    pub fn slot_changes(&self) -> Vec<SpaceChange> {
        self.changes
            .iter()
            .map(|(&page, &used)| SpaceChange { page, used })
            .collect()
    }

    /// Notes that the durable roots now refer to `born` and no more to `freed`.
    pub fn change(&mut self, born: &PageSet, freed: &PageSet) {
        self.used = (self.used + born.len()).saturating_sub(freed.len());
        self.changes.extend(freed.iter().map(|page| (page, false)));
        self.changes.extend(born.iter().map(|page| (page, true)));
    }

    /// Moves the tree below `bound` as far as there is room, drops its rows behind `length`, and moves all changes into it.
    pub fn settle(&mut self, bound: u64, length: u64, workspace: &mut Workspace) -> Result<()> {
        let mut tree = Tree {
            workspace,
            root: &mut self.tree,
            owner: SYSTEM,
            table: SPACE_TABLE,
        };
        tree.relocate(&mut Relocation {
            bound,
            from: Vec::new(),
            budget: u64::MAX,
            moved: 0,
            resume: None,
        })?;
        let behind = length.div_ceil(CHUNK_PAGES).to_be_bytes().to_vec();
        tree.remove_range(&(
            std::ops::Bound::Included(behind),
            std::ops::Bound::Excluded(SavepointRow::first_key()),
        ))?;
        self.fold(0, workspace)
    }

    /// Puts savepoints into the tree and takes others out.
    pub fn change_savepoints(
        &mut self,
        added: Option<&SavepointRow>,
        removed: &[u64],
        workspace: &mut Workspace,
    ) -> Result<()> {
        let mut tree = Tree {
            workspace,
            root: &mut self.tree,
            owner: SYSTEM,
            table: SPACE_TABLE,
        };
        for &number in removed {
            tree.remove(&SavepointRow::key(number))?;
        }
        if let Some(row) = added {
            tree.insert(&SavepointRow::key(row.number), &row.encode())?;
        }
        Ok(())
    }

    /// Moves changes into the space tree until at most `limit` are left. Changing the tree takes and frees pages, which
    /// are changes again; they settle, since a page of the tree is copied once at most.
    pub fn fold(&mut self, limit: usize, workspace: &mut Workspace) -> Result<()> {
        let own = &workspace.changes[SYSTEM];
        self.change(&own.born, &own.freed);
        let (mut born, mut freed) = (own.born.clone(), own.freed.clone());
        while self.changes.len() > limit {
            let changes = std::mem::take(&mut self.changes);
            let chunks: std::collections::BTreeSet<u64> =
                changes.keys().map(|page| page / CHUNK_PAGES).collect();
            for index in chunks {
                let key = index.to_be_bytes();
                let mut bits = [0; CHUNK_BYTES];
                if let Some(row) = self.tree.get(workspace, &key)? {
                    let len = row.as_slice().len().min(CHUNK_BYTES);
                    bits[..len].copy_from_slice(&row.as_slice()[..len]);
                }
                apply(&mut bits, index, &changes);
                let mut tree = Tree {
                    workspace,
                    root: &mut self.tree,
                    owner: SYSTEM,
                    table: SPACE_TABLE,
                };
                tree.insert(&key, &bits)?;
            }
            let own = &workspace.changes[SYSTEM];
            self.change(&own.born.without(&born), &own.freed.without(&freed));
            (born, freed) = (own.born.clone(), own.freed.clone());
        }
        Ok(())
    }
}

/// Sets and clears the bits of one chunk.
fn apply(bits: &mut [u8; CHUNK_BYTES], index: u64, changes: &BTreeMap<u64, bool>) {
    for (page, used) in changes.range(index * CHUNK_PAGES..(index + 1) * CHUNK_PAGES) {
        let bit = page % CHUNK_PAGES;
        let mask = 1 << (bit % 8);
        let byte = &mut bits[(bit / 8) as usize];
        *byte = if *used { *byte | mask } else { *byte & !mask };
    }
}

impl Chunk {
    fn from_bytes(bits: &[u8; CHUNK_BYTES]) -> Self {
        let mut words = [0; CHUNK_BYTES / 8];
        for (word, bytes) in words.iter_mut().zip(bits.chunks_exact(8)) {
            *word = crate::bytes::read_u64(bytes, 0);
        }
        Self {
            words,
            used: words.iter().map(|word| u64::from(word.count_ones())).sum(),
        }
    }

    fn get(&self, bit: u64) -> bool {
        self.words[(bit / 64) as usize] & (1 << (bit % 64)) != 0
    }

    /// Sets or clears a bit; gives back what it was.
    fn set(&mut self, bit: u64, used: bool) -> bool {
        let before = self.get(bit);
        let mask = 1 << (bit % 64);
        let word = &mut self.words[(bit / 64) as usize];
        *word = if used { *word | mask } else { *word & !mask };
        self.used = self.used + u64::from(used) - u64::from(before);
        before
    }

    fn clear(&mut self, bits: &[u64; CHUNK_BYTES / 8]) {
        for (word, bits) in self.words.iter_mut().zip(bits) {
            *word &= !bits;
        }
        self.used = (self.words.iter())
            .map(|word| u64::from(word.count_ones()))
            .sum();
    }

    fn last_used(&self, limit: u64) -> Option<u64> {
        (0..limit).rev().find(|&bit| self.get(bit))
    }

    fn used_from(&self, first: u64) -> u64 {
        (first..CHUNK_PAGES).filter(|&bit| self.get(bit)).count() as u64
    }

    /// The bits of the zone that begins with bit `first`.
    fn zone(&self, first: u64) -> &[u64] {
        &self.words[(first / 64) as usize..][..(search::ZONE / 64) as usize]
    }

    fn first_free(&self, from: u64, limit: u64) -> Option<u64> {
        if self.used >= CHUNK_PAGES {
            return None;
        }
        let first_word = (from / 64) as usize;
        self.words
            .iter()
            .enumerate()
            .skip(first_word)
            .find_map(|(index, &word)| {
                let passed = if index == first_word {
                    (1 << (from % 64)) - 1
                } else {
                    0
                };
                let free = !(word | passed);
                let bit = index as u64 * 64 + u64::from(free.trailing_zeros());
                (free != 0 && bit < limit).then_some(bit)
            })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Database,
        storage::{MemoryStorage, Storage},
    };

    #[test]
    fn the_first_free_bit_is_found_from_any_start() {
        let mut chunk = Chunk::from_bytes(&[0xFF; CHUNK_BYTES]);
        assert_eq!(chunk.first_free(0, CHUNK_PAGES), None);
        for bit in [5, 64, 4095] {
            assert!(chunk.set(bit, false));
        }
        assert_eq!(chunk.used, CHUNK_PAGES - 3);
        for (from, found) in [
            (0, Some(5)),
            (5, Some(5)),
            (6, Some(64)),
            (64, Some(64)),
            (65, Some(4095)),
        ] {
            assert_eq!(chunk.first_free(from, CHUNK_PAGES), found, "from {from}");
        }
        assert_eq!(chunk.first_free(65, 4095), None);
    }

    /// A disk without end: growing costs nothing.
    #[derive(Debug)]
    struct Endless(MemoryStorage);

    impl Storage for Endless {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.0.read_at(offset, buffer)
        }
        fn write_at(&self, offset: u64, buffers: &[io::IoSlice<'_>]) -> io::Result<()> {
            self.0.write_at(offset, buffers)
        }
        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn grow(&self, from: u64, to: u64) -> io::Result<()> {
            match from {
                0 => self.0.grow(from, to),
                _ => Ok(()),
            }
        }
        fn truncate(&self, len: u64) -> io::Result<()> {
            self.0.truncate(len)
        }
        fn name(&self) -> String {
            "endless".to_owned()
        }
    }

    #[test]
    fn a_file_grows_to_its_last_page_and_is_then_full() {
        let storage = Arc::new(Endless(MemoryStorage::new()));
        let db = Database::builder().create_on(storage).expect("empty");
        let engine = db.handle().engine();
        let mut space = engine.space.lock();
        space.physical = MAX_PAGES - 3;
        let refused = space.grow(4, &engine.pager).expect_err("one too many");
        assert!(matches!(refused, Error::Full { .. }), "{refused}");
        assert_eq!(space.physical, MAX_PAGES - 3);
        space
            .grow(2, &engine.pager)
            .expect("though not by a whole step");
        space.grow(1, &engine.pager).expect("the last one");
        assert_eq!(space.physical, MAX_PAGES);
        let refused = space.grow(1, &engine.pager).expect_err("no page is left");
        assert!(matches!(refused, Error::Full { .. }), "{refused}");
    }

    #[test]
    fn a_change_that_is_taken_back_leaves_the_count_as_it_was() {
        let mut space = DurableSpace {
            tree: TreeRoot::EMPTY,
            changes: BTreeMap::new(),
            used: FIXED_PAGES,
        };
        let pages: PageSet = [100, 200].into_iter().collect();
        space.change(&pages, &PageSet::default());
        assert_eq!(space.used, FIXED_PAGES + 2);
        space.change(&PageSet::default(), &pages);
        assert_eq!(space.used, FIXED_PAGES);
        assert!(space.changes.values().all(|used| !used));
    }
}
