//! The page cache: one for all tables of a database. The only module of the project with `unsafe` code.
//!
//! A hit takes no lock and writes to no memory that another reader writes: it hashes the page number to a bucket and
//! follows a short list of frames. Insertions and evictions take the lock of a shard.
//!
//! Rules, which the `unsafe` blocks rely on:
//!
//! 1. A frame is reachable from its bucket only between `insert` and `unlink`, both under the lock of its shard.
//! 2. A frame never changes after it became reachable, except for its atomics.
//! 3. An unlinked frame is freed only when every epoch guard that existed at the time of unlinking is gone
//!    (`epoch.rs`), so a reader inside a guard may follow any pointer it loads.
//! 4. A dirty frame is never evicted: the file does not hold its bytes yet. The writer bounds their number.
//!
//! A reader that keeps a page beyond its guard clones the page's `Arc`; eviction does not wait for it. What is held in
//! that way is one page for each live iterator or borrowed value.

#![allow(unsafe_code)]

mod epoch;

use std::{
    ptr,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use self::epoch::{EpochGuard, Epochs};
use crate::{
    page::{PageBytes, PageRef},
    sync::{Mutex, Witness, atomic::AtomicPtr},
};

/// What the cache keeps for one page beside its bytes, roughly: the frame, its bucket, its place on the clock.
const FRAME_OVERHEAD: usize = 128;

/// Shards are for contention among insertions only; small caches get fewer so that each can hold some pages.
const MAX_SHARDS: usize = 32;
const MIN_PAGES_A_SHARD: usize = 32;

struct Frame {
    at: PageRef,
    bytes: PageBytes,
    /// Set by a hit, cleared by the clock's hand.
    referenced: AtomicBool,
    dirty: AtomicBool,
    /// Where the clock has it. Read and written under the shard's lock only.
    position: AtomicUsize,
    next: AtomicPtr<Frame>,
    witness: Witness,
}

struct Shard {
    buckets: Box<[AtomicPtr<Frame>]>,
    limit: usize,
    state: Mutex<ShardState>,
}

#[derive(Default)]
struct ShardState {
    /// Every linked frame of the shard, in the order of the clock.
    clock: Vec<*mut Frame>,
    hand: usize,
    /// Unlinked frames and the epoch in which they were unlinked, oldest first.
    retired: std::collections::VecDeque<(u64, *mut Frame)>,
}

// SAFETY: the raw pointers of a `ShardState` are owned by it: frames are created and freed under its lock, and `Frame`
// itself is `Send` and `Sync` (an `Arc` of bytes and atomics).
unsafe impl Send for ShardState {}

/// Counters of the cache, monotonic except for the number of pages.
#[derive(Default)]
pub(crate) struct CacheCounters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub evictions: AtomicU64,
    pub pages: AtomicUsize,
}

pub(crate) struct PageCache {
    shards: Box<[Shard]>,
    epochs: Epochs,
    limit: usize,
    pub counters: CacheCounters,
}

impl PageCache {
    /// A cache that keeps at most about `bytes` bytes of pages.
    pub fn new(bytes: usize, page_size: usize) -> Self {
        let limit = (bytes / (page_size + FRAME_OVERHEAD)).max(1);
        let shards = (limit / MIN_PAGES_A_SHARD)
            .clamp(1, MAX_SHARDS)
            .next_power_of_two();
        let limit_a_shard = (limit / shards).max(1);
        let shards = (0..shards).map(|_| Shard::new(limit_a_shard)).collect();
        Self {
            shards,
            epochs: Epochs::new(),
            limit,
            counters: CacheCounters::default(),
        }
    }

    /// The largest number of pages the cache keeps.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Begins a read of cached pages. Cheap; meant to be held for one operation on a page, not across I/O.
    pub fn enter(&self) -> CacheGuard<'_> {
        CacheGuard {
            cache: self,
            _epoch: self.epochs.enter(),
        }
    }

    /// Adds a page. If it is there already, the present frame stays: equal references mean equal bytes.
    pub fn insert(&self, at: PageRef, bytes: PageBytes, dirty: bool) {
        let (shard, bucket) = self.place(at.page);
        let mut state = shard.state.lock();
        if shard.find(bucket, at).is_some() {
            return;
        }
        while state.clock.len() >= shard.limit && self.evict_one(shard, &mut state) {}
        let frame = Box::into_raw(Box::new(Frame {
            at,
            bytes,
            referenced: AtomicBool::new(false),
            dirty: AtomicBool::new(dirty),
            position: AtomicUsize::new(state.clock.len()),
            next: AtomicPtr::new(shard.buckets[bucket].load(Ordering::Relaxed)),
            witness: Witness::default(),
        }));
        shard.buckets[bucket].store(frame, Ordering::Release);
        state.clock.push(frame);
        self.counters.pages.fetch_add(1, Ordering::Relaxed);
        self.free_retired(&mut state);
    }

    /// Declares that the file holds the page now, so that it may be evicted.
    pub fn mark_clean(&self, at: PageRef) {
        let (shard, bucket) = self.place(at.page);
        let _state = shard.state.lock();
        if let Some(frame) = shard.find(bucket, at) {
            // SAFETY: linked frames are alive (rule 1), and the shard is locked.
            unsafe { &*frame }.dirty.store(false, Ordering::Relaxed);
        }
    }

    /// Forgets a page that nobody can refer to any more, dirty or not.
    pub fn remove(&self, at: PageRef) {
        let (shard, bucket) = self.place(at.page);
        let mut state = shard.state.lock();
        if let Some(frame) = shard.find(bucket, at) {
            // SAFETY: linked frames are alive (rule 1), and the shard is locked.
            let position = unsafe { &*frame }.position.load(Ordering::Relaxed);
            self.unlink(shard, &mut state, position);
            self.free_retired(&mut state);
        }
    }

    fn place(&self, page: u64) -> (&Shard, usize) {
        // Fibonacci hashing: the high bits of the product are well mixed.
        let hash = page.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let shard = &self.shards[(hash >> 32) as usize & (self.shards.len() - 1)];
        (shard, (hash >> 40) as usize & (shard.buckets.len() - 1))
    }

    /// Gives up one clean page that was not used since the hand passed it last. False if all pages are dirty.
    fn evict_one(&self, shard: &Shard, state: &mut ShardState) -> bool {
        for _ in 0..2 * state.clock.len() {
            if state.hand >= state.clock.len() {
                state.hand = 0;
            }
            // SAFETY: every pointer on the clock is a linked frame (rule 1), and the shard is locked.
            let frame = unsafe { &*state.clock[state.hand] };
            let used = frame.referenced.swap(false, Ordering::Relaxed);
            if used || frame.dirty.load(Ordering::Relaxed) {
                state.hand += 1;
                continue;
            }
            // The frame that takes this place is a new one; the hand passes it by for one round.
            let position = state.hand;
            state.hand += 1;
            self.unlink(shard, state, position);
            self.counters.evictions.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// Takes the frame at a position of the clock out of its bucket and retires it.
    fn unlink(&self, shard: &Shard, state: &mut ShardState, position: usize) {
        let frame = state.clock.swap_remove(position);
        if let Some(&moved) = state.clock.get(position) {
            // SAFETY: on the clock, so linked and alive (rule 1).
            unsafe { &*moved }
                .position
                .store(position, Ordering::Relaxed);
        }
        // SAFETY: the frame was linked until now (rule 1) and is freed by `free_retired` at the earliest.
        let page = unsafe { &*frame }.at.page;
        let mut link = &shard.buckets[self.place(page).1];
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
            Witness::end(unsafe { Box::from_raw(frame) }, |frame| &frame.witness);
        }
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        for shard in &mut self.shards {
            let state = shard.state.get_mut();
            let retired = state.retired.drain(..).map(|(_, frame)| frame);
            for frame in state.clock.drain(..).chain(retired) {
                // SAFETY: `&mut self` excludes every guard, since guards borrow the cache; each frame is on the clock
                // or retired, never both, and was made by `Box::into_raw`.
                drop(unsafe { Box::from_raw(frame) });
            }
        }
    }
}

impl Shard {
    fn new(limit: usize) -> Self {
        let buckets = (0..limit.next_power_of_two())
            .map(|_| AtomicPtr::new(ptr::null_mut()))
            .collect();
        Self {
            buckets,
            limit,
            state: Mutex::default(),
        }
    }

    /// The frame of a page. The caller holds the shard's lock or an epoch guard.
    fn find(&self, bucket: usize, at: PageRef) -> Option<*mut Frame> {
        let mut frame = self.buckets[bucket].load(Ordering::Acquire);
        while !frame.is_null() {
            // SAFETY: the frame was reachable when it was loaded, and under the lock or the guard that the caller
            // holds it is not freed (rules 1 and 3). The acquiring load makes its fields visible.
            let current = unsafe { &*frame };
            current.witness.used();
            if current.at == at {
                return Some(frame);
            }
            frame = current.next.load(Ordering::Acquire);
        }
        None
    }
}

/// While it lives, pages found through it stay in memory.
pub(crate) struct CacheGuard<'c> {
    cache: &'c PageCache,
    _epoch: EpochGuard<'c>,
}

impl CacheGuard<'_> {
    /// The page, if it is cached.
    pub fn get(&self, at: PageRef) -> Option<&PageBytes> {
        let (shard, bucket) = self.cache.place(at.page);
        let frame = shard.find(bucket, at)?;
        // SAFETY: found under this guard's epoch, which the returned borrow cannot outlive (rule 3).
        let frame = unsafe { &*frame };
        // Reading first keeps the line shared among readers of a hot page.
        if !frame.referenced.load(Ordering::Relaxed) {
            frame.referenced.store(true, Ordering::Relaxed);
        }
        Some(&frame.bytes)
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
        (at, number.to_le_bytes().repeat(PAGE / 8).into())
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
        assert_eq!(cache.enter().get(at), Some(&bytes));
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
        cache.remove(at);
        for number in 100..200 {
            let (at, bytes) = page(number);
            cache.insert(at, bytes, false);
        }
        assert_eq!(found[..8], 7u64.to_le_bytes());
    }

    #[test]
    fn removed_pages_are_gone_and_their_memory_is_freed() {
        let cache = cache(4);
        let (at, bytes) = page(7);
        cache.insert(at, bytes.clone(), true);
        cache.remove(at);
        assert!(!holds(&cache, at));
        let (other, other_bytes) = page(8);
        cache.insert(other, other_bytes, false);
        assert_eq!(std::sync::Arc::strong_count(&bytes), 1);
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
                    cache.remove(at);
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
