//! A storage that ends with the process.

use std::fmt;
use std::io::{self, IoSlice};

use parking_lot::RwLock;

use super::chunks::ChunkedBytes;
use super::{Storage, past_the_end, total_len};

/// Bytes in memory. They grow without being moved, and a clone shares what neither side has changed since.
#[derive(Default)]
pub struct MemoryStorage {
    bytes: RwLock<ChunkedBytes>,
}

impl MemoryStorage {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A storage that holds a copy of `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::from_chunks(ChunkedBytes::from(bytes))
    }

    /// A copy of everything in it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes.read().to_vec()
    }

    pub(super) fn from_chunks(bytes: ChunkedBytes) -> Self {
        Self {
            bytes: RwLock::new(bytes),
        }
    }

    pub(super) fn to_chunks(&self) -> ChunkedBytes {
        self.bytes.read().clone()
    }
}

impl Clone for MemoryStorage {
    fn clone(&self) -> Self {
        Self::from_chunks(self.to_chunks())
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MemoryStorage")
            .field("len", &self.bytes.read().len())
            .finish()
    }
}

impl Storage for MemoryStorage {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.read();
        if bytes.read(offset, buffer) {
            Ok(())
        } else {
            Err(past_the_end(offset, buffer.len(), bytes.len()))
        }
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        check_addressable(offset.checked_add(total_len(buffers) as u64))?;
        let mut bytes = self.bytes.write();
        let mut position = offset;
        for buffer in buffers {
            bytes.write(position, buffer);
            position += buffer.len() as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.read().len())
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        check_addressable(Some(to))?;
        self.bytes.write().zero(from, to);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.bytes.write().truncate(len);
        Ok(())
    }

    fn name(&self) -> String {
        "memory".to_owned()
    }
}

/// Refuses an end that a file of this machine could not have either, before anything is allocated for it.
pub(super) fn check_addressable(end: Option<u64>) -> io::Result<()> {
    match end.map(isize::try_from) {
        Some(Ok(_)) => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the end of the range is not addressable in memory",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_behaves_like_a_file() {
        super::super::conformance::behaves_like_a_file(&MemoryStorage::new());
    }

    #[test]
    fn a_clone_goes_its_own_way() {
        let storage = MemoryStorage::from_bytes(b"one");
        let copy = storage.clone();
        storage
            .write_at(0, &[IoSlice::new(b"two")])
            .expect("memory does not fail");
        assert_eq!(copy.to_bytes(), b"one");
        assert_eq!(storage.to_bytes(), b"two");
    }

    #[test]
    fn an_end_beyond_the_address_space_is_an_error() {
        let storage = MemoryStorage::new();
        let refused = storage
            .write_at(u64::MAX - 1, &[IoSlice::new(b"abc")])
            .expect_err("past u64::MAX");
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        let refused = storage.grow(0, u64::MAX).expect_err("not addressable");
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(storage.to_bytes(), b"");
    }
}
