//! Where the bytes live: one narrow trait, and its implementations.
//!
//! The engine reaches everything that outlives the process through [`Storage`]. [`FileStorage`] is the one for
//! production, [`MemoryStorage`] the one for scratch databases. The others are for tests, of the engine and of
//! whatever is built on it: [`CountingStorage`] counts the calls, [`FaultStorage`] lets chosen ones fail, [`LimitedStorage`] becomes full, and
//! [`SimulatedDisk`] yields everything that a power cut can leave behind.

mod chunks;
#[cfg(test)]
mod conformance;
mod counting;
mod fault;
mod file;
mod limited;
mod memory;
mod pins;
mod random;
mod simulated;

use std::fmt;
use std::io::{self, IoSlice};

pub use counting::{CountingStorage, StorageCounts};
pub use fault::{Fault, FaultPlan, FaultStorage, StorageCall};
pub use file::FileStorage;
pub(crate) use file::sync_folder_of;
pub use limited::LimitedStorage;
pub use memory::MemoryStorage;
pub use pins::Pins;
pub use random::SplitMix64;
pub use simulated::{
    Change, CrashPoint, DiskEvent, Journal, JournalReplay, PendingItem, SECTOR, SimulatedDisk,
    Subset, SubsetPlan,
};

/// The one narrow door to bytes that outlive the process.
///
/// Every call may come from several threads at once. The engine never has two overlapping writes, nor a read that
/// overlaps a write, under way at the same time, so an implementation owes no atomicity between them.
///
/// A call that fails may have been carried out in part. Nothing is durable before a later [`sync`](Storage::sync)
/// has returned without an error.
pub trait Storage: Send + Sync + fmt::Debug + 'static {
    /// Fills `buffer` with the bytes that start at `offset`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] when the storage ends before the buffer is full.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `buffers`, one behind the other, from `offset` on. A write past the end extends the storage; what
    /// lies between the old end and `offset` reads as zeros.
    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()>;

    /// Makes every completed write, growth and truncation durable.
    ///
    /// After an error nothing is known about what reached the disk, and calling again proves nothing: a kernel may
    /// have dropped the data and report success the second time.
    fn sync(&self) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is not a single byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Writes zeros over `from..to`, extending the storage to at least `to`.
    ///
    /// Zeros that are written, unlike a hole or a reserved extent, leave later writes into the range without any
    /// metadata to change, so that making those durable costs one device flush.
    fn grow(&self, from: u64, to: u64) -> io::Result<()>;

    /// Cuts the storage to `len` bytes; one that is not longer stays as it is.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Asks that the next read of these bytes comes from the device and not from a cache of the operating system.
    ///
    /// After a failed sync a kernel may go on showing data that never reached the disk. Recovery calls this, behind a
    /// sync, so that it decides on what is there.
    fn forget_cached(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// Says that these bytes will be read soon, so that a device that serves many reads at a time begins with them.
    fn will_read(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// By how many bytes the storage can grow now. `None`, which is what this gives unless it is overridden, if it does not
    /// know.
    fn room(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// The marks by which a writer knows of readers that have opened the same bytes through another handle. `None`, which
    /// is what this gives unless it is overridden, for a storage of which there is no other handle, or whose other
    /// handles may not be open while one of them writes.
    fn pins(&self) -> Option<&dyn Pins> {
        None
    }

    /// What to call this storage in an error message: the path of a file, `"memory"`.
    fn name(&self) -> String;
}

/// The number of bytes in all the buffers.
fn total_len(buffers: &[IoSlice<'_>]) -> usize {
    buffers.iter().map(|buffer| buffer.len()).sum()
}

fn past_the_end(offset: u64, wanted: usize, len: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("{wanted} bytes at offset {offset} reach past the end at {len}"),
    )
}
