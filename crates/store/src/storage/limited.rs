//! A storage that has room for so many bytes and no more.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Storage;

/// Behaves as a file on a filesystem that is full at `limit` bytes: what fits of a write is written, then the call fails.
#[derive(Debug)]
pub struct LimitedStorage {
    inner: Arc<dyn Storage>,
    limit: AtomicU64,
    refused: AtomicU64,
}

impl LimitedStorage {
    /// `inner` with room for `limit` bytes.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>, limit: u64) -> Self {
        Self {
            inner,
            limit: AtomicU64::new(limit),
            refused: AtomicU64::new(0),
        }
    }

    /// Makes room, or takes it away.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How long the storage may become.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many calls found no room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How far a call from `from` to `to` may go. What the storage has it keeps.
    fn reach(&self, from: u64, to: u64) -> io::Result<(u64, bool)> {
        let limit = self.limit().max(self.inner.len()?);
        let end = to.min(limit).max(from);
        Ok((end, to > limit))
    }

    fn refuse(&self) -> io::Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        ErrorKind::StorageFull.into()
    }
}

impl Storage for LimitedStorage {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let length: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let (end, full) = self.reach(offset, offset + length)?;
        if !full {
            return self.inner.write_at(offset, buffers);
        }
        if end > offset {
            let mut bytes: Vec<u8> = buffers
                .iter()
                .flat_map(|buffer| buffer.iter().copied())
                .collect();
            bytes.truncate((end - offset) as usize);
            self.inner.write_at(offset, &[IoSlice::new(&bytes)])?;
        }
        Err(self.refuse())
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        let (end, full) = self.reach(from, to)?;
        if end > from {
            self.inner.grow(from, end)?;
        }
        if full { Err(self.refuse()) } else { Ok(()) }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }

    fn forget_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.forget_cached(offset, len)
    }

    fn room(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.limit().saturating_sub(self.inner.len()?)))
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStorage;
    use super::*;

    #[test]
    fn what_fits_is_written_and_no_more() {
        let storage = LimitedStorage::new(Arc::new(MemoryStorage::new()), 10);
        storage.grow(0, 8).expect("room");
        let full = storage.write_at(6, &[IoSlice::new(b"abc"), IoSlice::new(b"def")]);
        assert_eq!(full.expect_err("no room").kind(), ErrorKind::StorageFull);
        assert_eq!(storage.len().expect("a length"), 10);
        assert_eq!(storage.room().expect("a length"), Some(0));
        let mut end = [0; 4];
        storage.read_at(6, &mut end).expect("what was written");
        assert_eq!(&end, b"abcd");
        storage.grow(10, 11).expect_err("no room");
        assert_eq!(storage.refused(), 2);
        storage.set_limit(0);
        storage
            .write_at(6, &[IoSlice::new(b"wxyz")])
            .expect("what is there stays");
        storage.set_limit(11);
        assert_eq!(storage.room().expect("a length"), Some(1));
        storage.grow(10, 11).expect("room again");
    }
}
