//! Which of the free pages is taken next.

use std::ops::Range;

use super::{CHUNK_PAGES, Space};
use crate::{
    error::{Error, Result},
    pager::Pager,
};

/// Pages in a zone, of which a chunk has several.
pub(super) const ZONE: u64 = 128;

/// How many chunks one search looks at: all of a small file, and of a large one so many that it costs little. Free pages
/// that it does not come to are left for later searches, which go on from there; until then the file may grow by a few.
const SEARCHED: u64 = 16;

/// How long a page is expected to stay in use. Those of short life are taken from a zone of their own, where nearly all of
/// the pages around them are free again soon: so they are neighbours, and one call writes them, and the device has to write
/// to fewer places. The others fill whatever is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lifetime {
    /// Branches, catalogs and the free-space map, which change with nearly every commit, and the leaf that rows are
    /// appended to.
    Short,
    /// Leaves and long values.
    Long,
}

impl Space {
    /// The free page to be taken next, if it is not the one behind the end.
    pub(super) fn search(&mut self, lifetime: Lifetime, pager: &Pager) -> Result<Option<u64>> {
        if self.packing {
            return self.search_everywhere(pager);
        }
        let found = match lifetime {
            Lifetime::Short => self.next_short_lived(pager)?,
            Lifetime::Long => self.next_free(self.zone.clone(), SEARCHED, pager)?,
        };
        match found.is_some() || self.length < self.physical {
            true => Ok(found),
            // Pages in the zone are better than a file that grows.
            false => self.next_free(0..0, SEARCHED, pager),
        }
    }

    /// A free page anywhere. Costs a look at every part of the file that has none.
    pub(super) fn search_everywhere(&mut self, pager: &Pager) -> Result<Option<u64>> {
        self.next_free(0..0, u64::MAX, pager)
    }

    /// The page of the zone behind the one taken last, or the first of several free ones.
    fn next_short_lived(&mut self, pager: &Pager) -> Result<Option<u64>> {
        if self.zone.contains(&self.zone_cursor) && !self.is_used(self.zone_cursor, pager)? {
            return Ok(Some(self.zone_cursor));
        }
        if let Some(page) = self.first_run(pager)? {
            return Ok(Some(page));
        }
        self.choose_zone(pager)?;
        self.first_run(pager)
    }

    /// The first of several free neighbours in the zone.
    fn first_run(&mut self, pager: &Pager) -> Result<Option<u64>> {
        let zone = self.zone.clone();
        if zone.is_empty() {
            return Ok(None);
        }
        let first = zone.start % CHUNK_PAGES;
        let chunk = self.chunk(zone.start / CHUNK_PAGES, pager)?;
        let words = chunk.zone(first).iter().flat_map(|word| word.to_le_bytes());
        let byte = words.enumerate().find(|&(_, byte)| byte == 0);
        Ok(byte.map(|(index, _)| zone.start + index as u64 * u64::from(u8::BITS)))
    }

    /// Moves the zone to where half of it are several free neighbours: within one chunk, or behind the length. If neither has
    /// room there is none, and the next search goes on with the next chunk.
    fn choose_zone(&mut self, pager: &Pager) -> Result<()> {
        let chunks = self.length.div_ceil(CHUNK_PAGES).max(1);
        let first = self.zone.end / CHUNK_PAGES % chunks * CHUNK_PAGES;
        let limit = CHUNK_PAGES.min(self.length - first);
        let chunk = self.chunk(first / CHUNK_PAGES, pager)?;
        let has_room = |&start: &u64| {
            let zone = chunk.zone(start).iter();
            let bytes = zone.flat_map(|word| word.to_le_bytes());
            bytes.filter(|&byte| byte == 0).count() as u64 >= ZONE / 16
        };
        let mut starts = (0..limit / ZONE).map(|zone| zone * ZONE);
        if let Some(start) = starts.find(has_room) {
            self.zone = first + start..first + start + ZONE;
            return Ok(());
        }
        self.zone = first + limit..first + limit;
        let start = self.length.next_multiple_of(ZONE);
        let end = start + ZONE;
        // Where free pages are many and lie apart, the file does not grow for the sake of more.
        if end > self.physical && self.in_use / 4 > self.physical.saturating_sub(self.in_use) {
            let step = self.growth.0 / pager.page_size as u64;
            match self.grow_by(step, pager) {
                Err(Error::Full { .. }) => {}
                outcome => outcome?,
            }
        }
        if end <= self.physical {
            self.length = end;
            self.zone = start..end;
        }
        Ok(())
    }

    /// The next free page from the cursor on, around the end, in at most `most` chunks; not one of those to `avoid`.
    /// Neighbours are found one after the other, so pages taken together lie together where the free space allows.
    fn next_free(&mut self, avoid: Range<u64>, most: u64, pager: &Pager) -> Result<Option<u64>> {
        let length = self.length;
        let chunks = length.div_ceil(CHUNK_PAGES);
        // The chunk of the cursor is looked at twice: behind the cursor, and at last before it.
        for _ in 0..most.min(chunks + 1) {
            let cursor = if self.cursor < length { self.cursor } else { 0 };
            let (index, mut from) = (cursor / CHUNK_PAGES, cursor % CHUNK_PAGES);
            let first = index * CHUNK_PAGES;
            let limit = CHUNK_PAGES.min(length - first);
            while let Some(bit) = self.chunk(index, pager)?.first_free(from, limit) {
                if !avoid.contains(&(first + bit)) {
                    return Ok(Some(first + bit));
                }
                from = avoid.end - first;
                if from >= limit {
                    break;
                }
            }
            self.cursor = first + limit;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Database,
        space::{CHUNK_BYTES, Chunk, PageSet, Purpose},
        storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, StorageCall},
    };

    #[test]
    fn pages_of_short_life_are_neighbours_whatever_else_is_taken() {
        let db = Database::in_memory().expect("memory");
        let engine = db.handle().engine();
        let mut space = engine.space.lock();
        space.length = 10_000;
        space.physical = 20_000;
        let mut take = |lifetime| space.allocate(lifetime, Purpose::Growth, &engine.pager);
        let short: Vec<u64> = (0..50)
            .map(|_| {
                take(Lifetime::Long).expect("there is room");
                take(Lifetime::Short).expect("there is room")
            })
            .collect();
        assert!(short.windows(2).all(|pages| pages[0] + 1 == pages[1]));
    }

    #[test]
    fn no_page_is_taken_behind_a_length_that_was_lowered() {
        let db = Database::in_memory().expect("memory");
        let engine = db.handle().engine();
        let mut space = engine.space.lock();
        space.length = 10_000;
        space.physical = 20_000;
        // A few free pages apart, so that the zone lies at the end.
        let most: PageSet = (1..10_000).filter(|page| page % 100 != 50).collect();
        space.pin(&most, &engine.pager).expect("memory");
        let take = |space: &mut Space| {
            let taken = space.allocate(Lifetime::Short, Purpose::Growth, &engine.pager);
            taken.expect("there is room")
        };
        let last = take(&mut space);
        assert!(last >= 10_000);
        space
            .release(&[last].into_iter().collect(), &engine.pager)
            .expect("memory");
        assert_eq!(space.lower_length(&engine.pager).expect("memory"), 10_000);
        let next = take(&mut space);
        assert!(next < space.length(), "{next} of {}", space.length());
    }

    /// A file of so many chunks without a free page, and room behind them.
    fn full(space: &mut Space, chunks: u64) {
        for index in 0..chunks {
            space
                .chunks
                .insert(index, Chunk::from_bytes(&[0xFF; CHUNK_BYTES]));
        }
        space.length = chunks * CHUNK_PAGES;
        space.physical = space.length + 2 * CHUNK_PAGES;
        space.in_use = space.length;
    }

    #[test]
    fn a_search_in_a_large_file_looks_at_a_few_chunks_of_it_and_the_next_goes_on_from_there() {
        let db = Database::in_memory().expect("memory");
        let engine = db.handle().engine();
        let mut space = engine.space.lock();
        full(&mut space, 500);
        // Not in the first chunks, where the searches begin.
        let freed = [300 * CHUNK_PAGES + 7, 400 * CHUNK_PAGES + 9];
        space
            .release(&freed.into_iter().collect(), &engine.pager)
            .expect("memory");
        let (mut grown, mut found) = (0, Vec::new());
        let end = space.length();
        while found.len() < freed.len() {
            let cursor = space.cursor;
            let taken = space.allocate(Lifetime::Long, Purpose::Growth, &engine.pager);
            let page = taken.expect("there is room");
            let searched = space.cursor.abs_diff(cursor).div_ceil(CHUNK_PAGES);
            assert!(searched <= SEARCHED, "{searched} chunks");
            match page < end {
                true => found.push(page),
                false => grown += 1,
            }
        }
        assert_eq!(found, freed);
        assert!(
            grown <= 500 / SEARCHED,
            "{grown} pages were added meanwhile"
        );
    }

    #[test]
    fn the_last_free_page_of_a_full_disk_is_found_wherever_it_is() {
        let storage = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
        let db = Database::builder().create_on(storage.clone());
        let db = db.expect("memory");
        let engine = db.handle().engine();
        let mut space = engine.space.lock();
        full(&mut space, 500);
        space.physical = space.length;
        storage.follow(FaultPlan {
            calls: &[StorageCall::Grow],
            at: 1,
            fault: Fault::NoSpace,
            lasting: true,
        });
        let freed = 300 * CHUNK_PAGES + 7;
        space
            .release(&[freed].into_iter().collect(), &engine.pager)
            .expect("memory");
        let mut take = || space.allocate(Lifetime::Long, Purpose::Flush, &engine.pager);
        assert_eq!(take().expect("one is left"), freed);
        let refused = take();
        assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    }
}
