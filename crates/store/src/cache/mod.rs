//! The page cache: one for all tables of a database. The only module of the project with `unsafe` code.
//!
//! A hit takes no lock and writes to no memory that another reader writes: the page number gives a bucket, which says where
//! the page added last is, and the identity in the page itself tells whether it is the right one; only if not does the
//! search follow a short list of frames. Neighbouring pages have neighbouring buckets, so the buckets of the pages in use
//! take little memory themselves, and stay in the processor's caches. Insertions and evictions take the lock of a shard.
//!
//! Rules, which the `unsafe` blocks rely on:
//!
//! 1. A frame, and the page it holds, is reachable from its bucket only between `insert` and `unlink`, both under the lock
//!    of its shard.
//! 2. A frame never changes after it became reachable, except for its atomics.
//! 3. An unlinked frame is freed only when every epoch guard that existed at the time of unlinking is gone
//!    (`epoch.rs`), so a reader inside a guard may follow any pointer it loads.
//! 4. A dirty frame is never evicted: the file does not hold its bytes yet. It is not on the clock that eviction goes
//!    round. The writer bounds their number.
//!
//! A reader that keeps a page beyond its guard takes a handle of its own; eviction does not wait for it. What is held in
//! that way is one page for each live iterator or borrowed value.

#![allow(unsafe_code)]

mod epoch;
#[cfg(any(folio_loom, folio_shuttle))]
#[path = "plain.rs"]
mod slab;
#[cfg(not(any(folio_loom, folio_shuttle)))]
mod slab;

use std::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use self::epoch::{EpochGuard, Epochs};
pub(crate) use self::slab::PageBytes;
use crate::{
    page::{PageRef, identity},
    sync::{Mutex, Witness, atomic::AtomicPtr},
};

/// What the cache keeps for one page beside its bytes, roughly: the frame, up to four buckets, its place on the clock, its
/// share of the head of a slab.
const FRAME_OVERHEAD: usize = 176;

/// Shards are for contention among insertions only; small caches get fewer so that each can hold some pages.
const MAX_SHARDS: usize = 32;
const MIN_PAGES_A_SHARD: usize = 32;

const BUCKETS_A_LINE: usize = 64 / size_of::<usize>();

struct Frame {
    at: PageRef,
    bytes: PageBytes,
    /// Whether it is on the list of dirty frames or on the clock, and where. Read and written under the shard's lock only.
    dirty: AtomicBool,
    position: AtomicUsize,
    next: AtomicPtr<Frame>,
    witness: Witness,
}

/// Where a page belongs.
#[derive(Clone, Copy)]
struct Place<'c> {
    /// Where the page of the first frame is, with its tag in the low bits of the address; or null.
    first: &'c AtomicPtr<u8>,
    frames: &'c AtomicPtr<Frame>,
    shard: &'c Shard,
    /// Bits that tell most pages of a bucket apart.
    tag: usize,
}

struct Shard {
    state: Mutex<ShardState>,
}

#[derive(Default)]
struct ShardState {
    /// The clean frames of the shard, in the order of the clock.
    clock: Vec<*mut Frame>,
    hand: usize,
    /// The dirty ones.
    dirty: Vec<*mut Frame>,
    /// Unlinked frames and the epoch in which they were unlinked, oldest first.
    retired: std::collections::VecDeque<(u64, *mut Frame)>,
}

// SAFETY: the raw pointers of a `ShardState` are owned by it: frames are created and freed under its lock, and `Frame`
// itself is `Send` and `Sync` (a handle of a page, and atomics).
unsafe impl Send for ShardState {}

/// Counters of the cache, monotonic except for the number of pages.
#[derive(Default)]
pub(crate) struct CacheCounters {
    pub misses: AtomicU64,
    pub evictions: AtomicU64,
    pub pages: AtomicUsize,
}

pub(crate) struct PageCache {
    /// The buckets, each in two parts: what every search reads, and what only those read that need it.
    firsts: Box<[AtomicPtr<u8>]>,
    frames: Box<[AtomicPtr<Frame>]>,
    shards: Box<[Shard]>,
    epochs: Epochs,
    limit: usize,
    /// Pages of the limit that somebody else has.
    lent: AtomicUsize,
    page_size: usize,
    pub counters: CacheCounters,
}

impl PageCache {
    /// A cache that keeps at most about `bytes` bytes of pages.
    pub fn new(bytes: usize, page_size: usize) -> Self {
        let limit = (bytes / (page_size + FRAME_OVERHEAD)).max(1);
        let shards = (limit / MIN_PAGES_A_SHARD)
            .clamp(1, MAX_SHARDS)
            .next_power_of_two();
        // At most half full, so that most pages are the first of their bucket.
        let buckets = 2 * limit.next_power_of_two().max(shards * BUCKETS_A_LINE);
        let new_shard = |_| Shard {
            state: Mutex::default(),
        };
        Self {
            firsts: slab::null_pointers(buckets),
            frames: slab::null_pointers(buckets),
            shards: (0..shards).map(new_shard).collect(),
            epochs: Epochs::new(),
            limit,
            lent: AtomicUsize::new(0),
            page_size,
            counters: CacheCounters::default(),
        }
    }

    /// The largest number of pages the cache keeps.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Keeps so many pages fewer, because the running transaction has that many of its own, and gives up what is too much.
    pub fn lend(&self, pages: usize) {
        self.lent.store(pages, Ordering::Relaxed);
        let surplus = self.taken().saturating_sub(self.limit);
        let share = surplus.div_ceil(self.shards.len());
        for shard in &self.shards {
            if self.taken() <= self.limit {
                break;
            }
            let mut state = shard.state.lock();
            let given_up = (0..share).take_while(|_| self.evict_one(&mut state));
            if given_up.count() > 0 {
                self.free_retired(&mut state);
            }
        }
    }

    /// Of the limit, what is not free.
    fn taken(&self) -> usize {
        self.counters.pages.load(Ordering::Relaxed) + self.lent.load(Ordering::Relaxed)
    }

    /// Begins a read of cached pages. Cheap; meant to be held for one operation on a page, not across I/O.
    pub fn enter(&self) -> CacheGuard<'_> {
        CacheGuard {
            cache: self,
            epoch: self.epochs.enter(),
        }
    }

    /// Visits of pages that found them, since the cache was made.
    pub fn hits(&self) -> u64 {
        self.epochs.hits()
    }

    /// Adds a page, whose bytes begin with its identity. If it is there already, the present frame stays: equal
    /// references mean equal bytes.
    pub fn insert(&self, at: PageRef, bytes: PageBytes, dirty: bool) {
        debug_assert_eq!(identity(&bytes), at);
        let place = self.place(at.page);
        let mut state = place.shard.state.lock();
        if place.find(|found| found == at).is_some() {
            return;
        }
        while self.taken() >= self.limit && self.evict_one(&mut state) {}
        let page = place.tagged(&bytes);
        let frame = Box::into_raw(Box::new(Frame {
            at,
            bytes,
            dirty: AtomicBool::new(dirty),
            position: AtomicUsize::new(0),
            next: AtomicPtr::new(place.frames.load(Ordering::Relaxed)),
            witness: Witness::default(),
        }));
        place.frames.store(frame, Ordering::Release);
        place.first.store(page, Ordering::Release);
        state.list(frame, dirty);
        self.counters.pages.fetch_add(1, Ordering::Relaxed);
        self.free_retired(&mut state);
    }

    /// Declares that the file holds the page now, so that it may be evicted.
    pub fn mark_clean(&self, at: PageRef) {
        let place = self.place(at.page);
        let mut state = place.shard.state.lock();
        if let Some(frame) = place.find(|found| found == at) {
            state.unlist(frame);
            state.list(frame, false);
        }
    }

    /// Forgets a page that nobody can refer to any more, dirty or not, whatever transaction wrote it. What keeps its place
    /// is then of use.
    pub fn remove(&self, page: u64) {
        let place = self.place(page);
        // Nobody adds a page that nobody refers to.
        if place.frames.load(Ordering::Relaxed).is_null() {
            return;
        }
        let mut state = place.shard.state.lock();
        while let Some(frame) = place.find(|at| at.page == page) {
            self.unlink(&mut state, frame);
            self.free_retired(&mut state);
        }
    }

    fn place(&self, page: u64) -> Place<'_> {
        let round = page >> self.firsts.len().trailing_zeros();
        // Fibonacci hashing of what the bucket does not tell: the high bits of the product are well mixed. A file with no
        // more pages than there are buckets has one for each.
        let hash = round.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let bucket = (page ^ hash) as usize & (self.firsts.len() - 1);
        Place {
            first: &self.firsts[bucket],
            frames: &self.frames[bucket],
            // Those who insert into different shards write to different lines.
            shard: &self.shards[(bucket / BUCKETS_A_LINE) & (self.shards.len() - 1)],
            tag: round as usize & slab::free_address_bits(self.page_size),
        }
    }

    /// Gives up one clean page that was not used since the hand passed it last. False if there is none.
    fn evict_one(&self, state: &mut ShardState) -> bool {
        for _ in 0..2 * state.clock.len() {
            if state.hand >= state.clock.len() {
                state.hand = 0;
            }
            let frame = state.clock[state.hand];
            // The frame that takes the place of one that goes is a new one; the hand passes it by for one round.
            state.hand += 1;
            // SAFETY: every pointer on the clock is a linked frame (rule 1), and the shard is locked.
            if unsafe { &*frame }.bytes.take_used() {
                continue;
            }
            self.unlink(state, frame);
            self.counters.evictions.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// Takes a linked frame out of its bucket and retires it.
    fn unlink(&self, state: &mut ShardState, frame: *mut Frame) {
        state.unlist(frame);
        // SAFETY: the frame was linked until now (rule 1) and is freed by `free_retired` at the earliest.
        let place = self.place(unsafe { &*frame }.at.page);
        let mut link = place.frames;
        loop {
            let current = link.load(Ordering::Relaxed);
            // SAFETY: both are linked or just being unlinked, under the lock of the shard.
            let next = unsafe { &(*current).next };
            if current == frame {
                link.store(next.load(Ordering::Relaxed), Ordering::Release);
                break;
            }
            link = next;
        }
        // SAFETY: null or linked (rule 1).
        let first = unsafe { place.frames.load(Ordering::Relaxed).as_ref() };
        let page = first.map_or(ptr::null_mut(), |first| {
            self.place(first.at.page).tagged(&first.bytes)
        });
        place.first.store(page, Ordering::Release);
        self.counters.pages.fetch_sub(1, Ordering::Relaxed);
        state.retired.push_back((self.epochs.retire(), frame));
    }

    fn free_retired(&self, state: &mut ShardState) {
        if state.retired.is_empty() {
            return;
        }
        let safe = self.epochs.oldest();
        while let Some(&(epoch, frame)) = state.retired.front()
            && epoch < safe
        {
            state.retired.pop_front();
            // SAFETY: unlinked in `epoch`, and every guard alive now was created later (rule 3). `retired` held the
            // only pointer, made by `Box::into_raw`.
            let frame = unsafe { Box::from_raw(frame) };
            #[cfg(folio_loom)]
            frame.bytes.no_longer_cached();
            Witness::end(frame, |frame| &frame.witness);
        }
    }
}

impl ShardState {
    /// Puts a linked frame on the clock or on the list of dirty ones.
    fn list(&mut self, frame: *mut Frame, dirty: bool) {
        let list = match dirty {
            true => &mut self.dirty,
            false => &mut self.clock,
        };
        // SAFETY: linked frames are alive (rule 1), and the shard is locked.
        let linked = unsafe { &*frame };
        linked.dirty.store(dirty, Ordering::Relaxed);
        linked.position.store(list.len(), Ordering::Relaxed);
        list.push(frame);
    }

    /// Takes it off again.
    fn unlist(&mut self, frame: *mut Frame) {
        // SAFETY: linked frames are alive (rule 1), and the shard is locked.
        let linked = unsafe { &*frame };
        let list = match linked.dirty.load(Ordering::Relaxed) {
            true => &mut self.dirty,
            false => &mut self.clock,
        };
        let position = linked.position.load(Ordering::Relaxed);
        list.swap_remove(position);
        if let Some(&moved) = list.get(position) {
            // SAFETY: on a list, so linked and alive (rule 1).
            let moved = unsafe { &*moved };
            moved.position.store(position, Ordering::Relaxed);
        }
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        for shard in &mut self.shards {
            let state = shard.state.get_mut();
            let retired = state.retired.drain(..).map(|(_, frame)| frame);
            let linked = state.clock.drain(..).chain(state.dirty.drain(..));
            for frame in linked.chain(retired) {
                // SAFETY: `&mut self` excludes every guard, since guards borrow the cache; each frame is on one of the
                // three lists, and was made by `Box::into_raw`.
                drop(unsafe { Box::from_raw(frame) });
            }
        }
    }
}

impl Place<'_> {
    /// The frame of a wanted page. The caller holds the shard's lock or an epoch guard.
    fn find(&self, wanted: impl Fn(PageRef) -> bool) -> Option<*mut Frame> {
        let mut frame = self.frames.load(Ordering::Acquire);
        while !frame.is_null() {
            // SAFETY: the frame was reachable when it was loaded, and under the lock or the guard that the caller
            // holds it is not freed (rules 1 and 3). The acquiring load makes its fields visible.
            let current = unsafe { &*frame };
            current.witness.used();
            if wanted(current.at) {
                return Some(frame);
            }
            frame = current.next.load(Ordering::Acquire);
        }
        None
    }

    /// What a bucket says of a page that belongs here.
    fn tagged(&self, page: &PageBytes) -> *mut u8 {
        page.start().as_ptr().map_addr(|address| address | self.tag)
    }

    /// The page that the bucket says belongs here, if there is one.
    fn first(&self, mask: usize) -> Option<NonNull<u8>> {
        let tagged = self.first.load(Ordering::Acquire);
        (tagged.addr() & mask == self.tag)
            .then(|| NonNull::new(tagged.map_addr(|address| address & !mask)))
            .flatten()
    }
}

/// While it lives, pages found through it stay in memory.
pub(crate) struct CacheGuard<'c> {
    cache: &'c PageCache,
    epoch: EpochGuard<'c>,
}

/// A page of the cache, without a handle of its own.
pub(crate) struct CachedPage<'g> {
    bytes: ManuallyDrop<PageBytes>,
    guard: PhantomData<&'g ()>,
}

impl Deref for CachedPage<'_> {
    type Target = PageBytes;

    fn deref(&self) -> &PageBytes {
        &self.bytes
    }
}

impl CacheGuard<'_> {
    /// The page, if it is cached.
    pub fn get(&self, at: PageRef) -> Option<CachedPage<'_>> {
        let place = self.cache.place(at.page);
        let first = place.first(slab::free_address_bits(self.cache.page_size));
        let page = first
            .map(|start| self.borrow(start))
            .filter(|page| identity(page) == at)
            .or_else(|| {
                let frame = place.find(|found| found == at)?;
                // SAFETY: found under this guard's epoch (rule 3).
                Some(self.borrow(unsafe { &*frame }.bytes.start()))
            })?;
        page.mark_used();
        self.epoch.count_hit();
        Some(page)
    }

    /// A page that was reachable from its bucket after this guard was made.
    fn borrow(&self, start: NonNull<u8>) -> CachedPage<'_> {
        CachedPage {
            // SAFETY: the frame that holds the page is not freed while this guard lives (rules 1 and 3), which what is
            // returned cannot outlive. The acquiring load that found it makes the bytes visible.
            bytes: unsafe { PageBytes::borrowed(start, self.cache.page_size) },
            guard: PhantomData,
        }
    }
}

#[cfg(all(test, folio_loom))]
mod interleavings;

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, thread};

    use super::*;

    const PAGE: usize = 64;

    fn page(number: u64) -> (PageRef, PageBytes) {
        let at = PageRef {
            page: number,
            transaction: number + 1,
        };
        let mut bytes = PageBytes::zeroed(PAGE);
        bytes.make_mut().fill(number as u8);
        at.write(bytes.make_mut(), 8);
        (at, bytes)
    }

    fn cache(pages: usize) -> PageCache {
        PageCache::new(pages * (PAGE + FRAME_OVERHEAD), PAGE)
    }

    fn holds(cache: &PageCache, at: PageRef) -> bool {
        cache.enter().get(at).is_some()
    }

    #[test]
    fn an_inserted_page_is_found_under_its_own_reference_only() {
        let cache = cache(8);
        let (at, bytes) = page(3);
        cache.insert(at, bytes.clone(), false);
        assert_eq!(cache.enter().get(at).as_deref(), Some(&bytes));
        assert!(!holds(
            &cache,
            PageRef {
                transaction: 99,
                ..at
            }
        ));
        assert!(!holds(&cache, PageRef { page: 4, ..at }));
    }

    #[test]
    fn the_limit_holds_for_clean_pages() {
        let cache = cache(16);
        for number in 0..1000 {
            let (at, bytes) = page(number);
            cache.insert(at, bytes, false);
            assert!(cache.counters.pages.load(Ordering::Relaxed) <= 16);
        }
        assert_eq!(cache.counters.evictions.load(Ordering::Relaxed), 1000 - 16);
    }

    #[test]
    fn a_dirty_page_stays_until_it_is_clean() {
        let cache = cache(4);
        let (dirty, bytes) = page(1000);
        cache.insert(dirty, bytes, true);
        let fill = |from: u64| {
            for number in from..from + 100 {
                let (at, bytes) = page(number);
                cache.insert(at, bytes, false);
            }
        };
        fill(0);
        assert!(holds(&cache, dirty));
        cache.mark_clean(dirty);
        fill(100);
        fill(200);
        assert!(!holds(&cache, dirty));
    }

    #[test]
    fn what_is_lent_is_taken_from_clean_pages() {
        let cache = cache(64);
        let (dirty, bytes) = page(1000);
        cache.insert(dirty, bytes, true);
        for number in 0..63 {
            let (at, bytes) = page(number);
            cache.insert(at, bytes, false);
        }
        let pages = || cache.counters.pages.load(Ordering::Relaxed);
        assert_eq!(pages(), 64);
        cache.lend(40);
        assert_eq!(pages(), 24);
        let (more, bytes) = page(500);
        cache.insert(more, bytes, false);
        assert_eq!(pages(), 24);
        cache.lend(64);
        assert_eq!(pages(), 1);
        assert!(holds(&cache, dirty));
        cache.lend(0);
        for number in 0..100 {
            let (at, bytes) = page(number);
            cache.insert(at, bytes, false);
        }
        assert_eq!(pages(), 64);
    }

    #[test]
    fn a_used_page_outlives_an_unused_one() {
        let cache = cache(8);
        let (hot, bytes) = page(500);
        cache.insert(hot, bytes, false);
        for number in 0..200 {
            assert!(holds(&cache, hot), "evicted after {number}");
            let (at, bytes) = page(number);
            cache.insert(at, bytes, false);
        }
    }

    #[test]
    fn a_page_found_under_a_guard_survives_its_eviction() {
        let cache = cache(4);
        let (at, bytes) = page(7);
        cache.insert(at, bytes, false);
        let guard = cache.enter();
        let found = guard.get(at).unwrap();
        cache.remove(at.page);
        for number in 100..200 {
            let (at, bytes) = page(number);
            cache.insert(at, bytes, false);
        }
        assert_eq!(found[..8], [7; 8]);
    }

    #[test]
    fn removed_pages_are_gone_and_their_memory_is_freed() {
        let cache = cache(4);
        let (at, bytes) = page(7);
        cache.insert(at, bytes.clone(), true);
        cache.remove(at.page);
        assert!(!holds(&cache, at));
        let (other, other_bytes) = page(8);
        cache.insert(other, other_bytes, false);
        let mut bytes = bytes;
        assert!(bytes.get_mut().is_some(), "nobody else has a handle");
    }

    #[test]
    fn readers_see_whole_pages_while_others_insert_and_evict() {
        let cache = cache(32);
        let stop = AtomicBool::new(false);
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        for number in 0..64 {
                            let (at, expected) = page(number);
                            if let Some(found) = cache.enter().get(at) {
                                assert_eq!(found[..], expected[..]);
                            }
                        }
                    }
                });
            }
            for round in 0..rounds {
                let (at, bytes) = page(round % 64);
                cache.insert(at, bytes, false);
                if round % 5 == 0 {
                    cache.remove(at.page);
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
