//! A storage that counts the calls of another.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Storage, total_len};

/// Passes every call on and counts it, whether it succeeds or not.
///
/// How many calls an operation makes is part of what the engine promises, so tests assert on it.
#[derive(Debug)]
pub struct CountingStorage {
    inner: Arc<dyn Storage>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    reads: AtomicU64,
    bytes_read: AtomicU64,
    writes: AtomicU64,
    bytes_written: AtomicU64,
    syncs: AtomicU64,
    grows: AtomicU64,
    truncates: AtomicU64,
}

/// The calls a [`CountingStorage`] has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StorageCounts {
    /// Calls of [`Storage::read_at`].
    pub reads: u64,
    /// Bytes they asked for.
    pub bytes_read: u64,
    /// Calls of [`Storage::write_at`].
    pub writes: u64,
    /// Bytes handed to them. Zeros written by growth are not among them.
    pub bytes_written: u64,
    /// Calls of [`Storage::sync`].
    pub syncs: u64,
    /// Calls of [`Storage::grow`].
    pub grows: u64,
    /// Calls of [`Storage::truncate`].
    pub truncates: u64,
}

impl StorageCounts {
    /// What has come on top of an `earlier` snapshot of the same storage.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            reads: self.reads - earlier.reads,
            bytes_read: self.bytes_read - earlier.bytes_read,
            writes: self.writes - earlier.writes,
            bytes_written: self.bytes_written - earlier.bytes_written,
            syncs: self.syncs - earlier.syncs,
            grows: self.grows - earlier.grows,
            truncates: self.truncates - earlier.truncates,
        }
    }
}

impl CountingStorage {
    /// Counts the calls that reach `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            counters: Counters::default(),
        }
    }

    /// The calls so far.
    #[must_use]
    pub fn counts(&self) -> StorageCounts {
        let Counters {
            reads,
            bytes_read,
            writes,
            bytes_written,
            syncs,
            grows,
            truncates,
        } = &self.counters;
        // Each count stands for itself, so the order in which other threads see them does not matter.
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StorageCounts {
            reads: load(reads),
            bytes_read: load(bytes_read),
            writes: load(writes),
            bytes_written: load(bytes_written),
            syncs: load(syncs),
            grows: load(grows),
            truncates: load(truncates),
        }
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Storage for CountingStorage {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        add(&self.counters.reads, 1);
        add(&self.counters.bytes_read, buffer.len());
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        add(&self.counters.writes, 1);
        add(&self.counters.bytes_written, total_len(buffers));
        self.inner.write_at(offset, buffers)
    }

    fn sync(&self) -> io::Result<()> {
        add(&self.counters.syncs, 1);
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        add(&self.counters.grows, 1);
        self.inner.grow(from, to)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        add(&self.counters.truncates, 1);
        self.inner.truncate(len)
    }

    fn room(&self) -> io::Result<Option<u64>> {
        self.inner.room()
    }

    fn forget_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.forget_cached(offset, len)
    }

    fn will_read(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.will_read(offset, len)
    }

    fn pins(&self) -> Option<&dyn super::Pins> {
        self.inner.pins()
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryStorage, conformance};
    use super::*;

    #[test]
    fn it_behaves_like_a_file() {
        conformance::behaves_like_a_file(&CountingStorage::new(Arc::new(MemoryStorage::new())));
    }

    #[test]
    fn every_call_is_counted_once() {
        let storage = CountingStorage::new(Arc::new(MemoryStorage::new()));
        storage.grow(0, 100).expect("grow");
        let before = storage.counts();
        storage
            .write_at(0, &[IoSlice::new(b"abc"), IoSlice::new(b"de")])
            .expect("write");
        storage.read_at(0, &mut [0; 4]).expect("read");
        storage.read_at(99, &mut [0; 2]).expect_err("past the end");
        storage.sync().expect("sync");
        storage.truncate(1).expect("truncate");
        let expected = StorageCounts {
            reads: 2,
            bytes_read: 6,
            writes: 1,
            bytes_written: 5,
            syncs: 1,
            grows: 0,
            truncates: 1,
        };
        assert_eq!(storage.counts().since(&before), expected);
        assert_eq!(storage.counts().grows, 1);
    }
}
