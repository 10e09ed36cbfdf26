//! What a database did and holds.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Engine;

/// Counters since the database was opened, and sizes at the moment of asking. Cheap to collect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Transactions published.
    pub commits: u64,
    /// Commit slots made durable.
    pub flushes: u64,
    /// Calls of `fdatasync`: those of the flushes, one of an opening after a crash, and those by which a transaction
    /// many times the cache is kept from being remembered page by page.
    pub syncs: u64,
    /// Of those that were made for commits, how many took less than 1 microsecond, less than 2, less than 4 and so on; the
    /// last class has all that took longer.
    pub sync_times: [u64; 24],
    /// Write calls, growth included.
    pub write_calls: u64,
    /// Read calls.
    pub read_calls: u64,
    /// Tree, overflow and manifest pages written.
    pub pages_written: u64,
    /// Bytes written, slots and growth included.
    pub bytes_written: u64,
    /// Pages found in the cache.
    pub cache_hits: u64,
    /// Pages read from the file.
    pub cache_misses: u64,
    /// Pages the cache gave up.
    pub evictions: u64,
    /// Pages in the cache.
    pub cached_pages: u64,
    /// Committed pages that wait for a flush.
    pub dirty_pages: u64,
    /// The most pages the cache keeps.
    pub cache_limit: u64,
    /// The page size in bytes.
    pub page_size: u64,
    /// Pages of the file, grown ahead included.
    pub file_pages: u64,
    /// Pages of the file that were ever used.
    pub length_pages: u64,
    /// Of those, pages that are free now.
    pub free_pages: u64,
    /// Open views, those of verifications and commits that are read elsewhere included.
    pub readers: u64,
    /// Pages that were given up and that open views keep from being used again: see
    /// [`Database::readers`](crate::Database::readers).
    pub kept_pages: u64,
    /// Savepoints that outlive transactions: see [`Database::savepoints`](crate::Database::savepoints).
    pub savepoints: u64,
    /// Passes of background scrubs that came to their end.
    pub scrub_passes: u64,
    /// Problems that they found.
    pub scrub_problems: u64,
}

impl Statistics {
    pub(crate) fn collect(engine: &Engine) -> Self {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (counters, cache) = (&engine.pager.counters, &engine.pager.cache);
        let (file_pages, length_pages, free_pages, savepoints) = {
            let space = engine.space.lock();
            (
                space.physical(),
                space.length(),
                space.free(),
                space.savepoints(),
            )
        };
        Self {
            commits: load(&counters.commits),
            flushes: load(&counters.flushes),
            syncs: load(&counters.syncs),
            sync_times: std::array::from_fn(|class| load(&counters.sync_times[class])),
            write_calls: load(&counters.write_calls),
            read_calls: load(&counters.read_calls),
            pages_written: load(&counters.pages_written),
            bytes_written: load(&counters.bytes_written),
            cache_hits: cache.hits(),
            cache_misses: load(&cache.counters.misses),
            evictions: load(&cache.counters.evictions),
            cached_pages: cache.counters.pages.load(Ordering::Relaxed) as u64,
            dirty_pages: engine.dirty_pages(),
            cache_limit: cache.limit() as u64,
            page_size: engine.pager.page_size as u64,
            file_pages,
            length_pages,
            free_pages,
            readers: engine.views(),
            kept_pages: engine.kept_pages(),
            savepoints,
            scrub_passes: 0,
            scrub_problems: 0,
        }
    }
}
