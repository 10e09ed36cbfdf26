//! A disk that can lose power.
//!
//! The model: of what was written since the last completed sync, any subset may have reached the disk, in any order.
//! A written sector of 512 bytes is there or not; a change of the length is there or not; what a completed sync
//! covered is there.
//!
//! [`SimulatedDisk`] is the storage. A [`CrashPoint`] is what a power cut at one moment can leave behind, a [`Subset`]
//! one way in which it may turn out, and a [`SubsetPlan`] chooses those worth trying. A [`Journal`] is the record of
//! a whole run, out of which the crash point at every moment of it can be made.

mod crash_point;
mod journal;
mod subset;

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use parking_lot::Mutex;

pub use crash_point::{Change, CrashPoint, PendingItem, SECTOR};
pub use journal::{DiskEvent, Journal, JournalReplay};
pub use subset::{Subset, SubsetPlan};

use super::memory::check_addressable;
use super::{MemoryStorage, Storage, past_the_end, total_len};
use crash_point::DiskState;

/// A storage in memory that tells what is durable from what is only written.
///
/// Reads see what was written. Calls that change something (write, grow, truncate, sync) are numbered from 1, and the
/// power can be cut at any of them: that call and every later one, reads too, fail. What the call was to change is
/// pending like everything else since the last sync, so it may have reached the disk in part; nothing later does.
pub struct SimulatedDisk {
    inner: Mutex<Inner>,
}

struct Inner {
    state: DiskState,
    journal: Option<Journal>,
    calls: u64,
    cut_at: Option<u64>,
    power: bool,
    fail_next_sync: bool,
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::from_image(&MemoryStorage::new())
    }

    /// A disk on which everything in `image` is durable.
    #[must_use]
    pub fn from_image(image: &MemoryStorage) -> Self {
        Self::start(image, None)
    }

    /// As [`from_image`](Self::from_image), and with a [`Journal`] of everything that happens to the disk.
    #[must_use]
    pub fn recording(image: &MemoryStorage) -> Self {
        Self::start(image, Some(Journal::new(image)))
    }

    fn start(image: &MemoryStorage, journal: Option<Journal>) -> Self {
        let state = DiskState::new(image.to_chunks());
        Self {
            inner: Mutex::new(Inner {
                state,
                journal,
                calls: 0,
                cut_at: None,
                power: true,
                fail_next_sync: false,
            }),
        }
    }

    /// The number of calls so far that were to change something.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.inner.lock().calls
    }

    /// Cuts the power at the changing call with this number; at once when that has been made already.
    pub fn cut_power_at(&self, call: u64) {
        let mut inner = self.inner.lock();
        if call <= inner.calls {
            inner.power = false;
        } else {
            inner.cut_at = Some(call);
        }
    }

    /// Cuts the power now.
    pub fn cut_power(&self) {
        self.inner.lock().power = false;
    }

    /// Whether the power is still on.
    #[must_use]
    pub fn has_power(&self) -> bool {
        self.inner.lock().power
    }

    /// Lets the next sync fail as [`lose_unsynced`](Self::lose_unsynced) describes.
    pub fn fail_next_sync(&self) {
        self.inner.lock().fail_next_sync = true;
    }

    /// Does what a failed sync does to a real disk: nothing pending will ever become durable, yet reads go on showing
    /// it until [`Storage::forget_cached`] is called. A lost growth stays lost: sectors that are written behind the
    /// durable end later do not become durable either, until the storage grows anew.
    pub fn lose_unsynced(&self) {
        self.inner.lock().record(DiskEvent::SyncFailed);
    }

    /// Puts a mark into the journal, such as the number of the transaction that was acknowledged.
    ///
    /// # Errors
    ///
    /// When the power is off: whatever is acknowledged now was acknowledged by nobody.
    pub fn mark(&self, mark: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.check_power()?;
        inner.record(DiskEvent::Mark(mark));
        Ok(())
    }

    /// The number of items that are pending.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.inner.lock().state.crash_point().pending().len()
    }

    /// What a power cut at this moment, or the one that has happened, can leave behind.
    #[must_use]
    pub fn crash_point(&self) -> CrashPoint {
        self.inner.lock().state.crash_point().clone()
    }

    /// The image that is left when of the pending items those that `choose` accepts have reached the disk.
    pub fn crash(&self, choose: &mut dyn FnMut(&PendingItem) -> bool) -> MemoryStorage {
        self.inner.lock().state.crash_point().image_of(choose)
    }

    /// What was recorded so far, if the disk is [recording](Self::recording).
    #[must_use]
    pub fn journal(&self) -> Option<Journal> {
        self.inner.lock().journal.clone()
    }
}

impl Inner {
    fn check_power(&self) -> io::Result<()> {
        if self.power {
            Ok(())
        } else {
            Err(io::Error::other("the power is off"))
        }
    }

    /// Numbers a changing call. True when the power goes during it.
    fn start_call(&mut self) -> io::Result<bool> {
        self.check_power()?;
        self.calls += 1;
        if self.cut_at == Some(self.calls) {
            self.power = false;
        }
        Ok(!self.power)
    }

    fn record(&mut self, event: DiskEvent) {
        self.state.apply(&event);
        if let Some(journal) = &mut self.journal {
            journal.push(event);
        }
    }

    /// A call that leaves something pending, even when the power goes during it.
    fn change(&mut self, event: DiskEvent) -> io::Result<()> {
        self.start_call()?;
        self.record(event);
        self.check_power()
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock();
        formatter
            .debug_struct("SimulatedDisk")
            .field("len", &inner.state.current().len())
            .field("pending", &inner.state.crash_point().pending().len())
            .field("calls", &inner.calls)
            .field("power", &inner.power)
            .finish_non_exhaustive()
    }
}

impl Storage for SimulatedDisk {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inner = self.inner.lock();
        inner.check_power()?;
        let current = inner.state.current();
        if current.read(offset, buffer) {
            Ok(())
        } else {
            Err(past_the_end(offset, buffer.len(), current.len()))
        }
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let len = total_len(buffers);
        check_addressable(offset.checked_add(len as u64))?;
        let mut bytes = Vec::with_capacity(len);
        for buffer in buffers {
            bytes.extend_from_slice(buffer);
        }
        self.inner.lock().change(DiskEvent::Write {
            offset,
            bytes: Arc::from(bytes),
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if inner.start_call()? {
            return inner.check_power();
        }
        if std::mem::take(&mut inner.fail_next_sync) {
            inner.record(DiskEvent::SyncFailed);
            return Err(nix::errno::Errno::EIO.into());
        }
        inner.record(DiskEvent::Sync);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let inner = self.inner.lock();
        inner.check_power()?;
        Ok(inner.state.current().len())
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        check_addressable(Some(to))?;
        self.inner.lock().change(DiskEvent::Grow { from, to })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.lock().change(DiskEvent::Truncate { len })
    }

    fn forget_cached(&self, _offset: u64, _len: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.check_power()?;
        inner.record(DiskEvent::CacheForgotten);
        Ok(())
    }

    fn name(&self) -> String {
        "simulated disk".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    fn write(disk: &SimulatedDisk, offset: u64, bytes: &[u8]) {
        disk.write_at(offset, &[IoSlice::new(bytes)])
            .expect("the power is on");
    }

    fn contents(disk: &SimulatedDisk) -> Vec<u8> {
        let mut bytes = vec![0; disk.len().expect("the power is on") as usize];
        disk.read_at(0, &mut bytes).expect("the power is on");
        bytes
    }

    #[test]
    fn it_behaves_like_a_file() {
        conformance::behaves_like_a_file(&SimulatedDisk::new());
        conformance::behaves_like_a_file(&SimulatedDisk::recording(&MemoryStorage::new()));
    }

    #[test]
    fn only_what_was_synced_survives_when_nothing_else_lands() {
        let disk = SimulatedDisk::new();
        write(&disk, 0, b"kept");
        disk.sync().expect("sync");
        write(&disk, 0, b"lost");
        assert_eq!(contents(&disk), b"lost");
        assert_eq!(disk.crash(&mut |_| false).to_bytes(), b"kept");
        assert_eq!(disk.crash(&mut |_| true).to_bytes(), b"lost");
    }

    #[test]
    fn the_call_the_power_goes_at_fails_and_so_does_everything_later() {
        let disk = SimulatedDisk::new();
        disk.cut_power_at(3);
        write(&disk, 0, b"one");
        disk.sync().expect("second call");
        disk.write_at(0, &[IoSlice::new(b"two")])
            .expect_err("third call");
        assert!(!disk.has_power());
        disk.write_at(0, &[IoSlice::new(b"abc")]).expect_err("dead");
        disk.sync().expect_err("dead");
        disk.grow(0, 10).expect_err("dead");
        disk.truncate(0).expect_err("dead");
        disk.read_at(0, &mut [0; 1]).expect_err("dead");
        disk.len().expect_err("dead");
        disk.forget_cached(0, u64::MAX).expect_err("dead");
        disk.mark(1).expect_err("dead");
        assert_eq!(disk.calls(), 3);
        assert_eq!(disk.crash(&mut |_| false).to_bytes(), b"one");
        assert_eq!(
            disk.crash(&mut |_| true).to_bytes(),
            b"two",
            "the write under way may have landed"
        );
    }

    #[test]
    fn a_sync_the_power_goes_at_makes_nothing_durable() {
        let disk = SimulatedDisk::new();
        disk.cut_power_at(2);
        write(&disk, 0, b"one");
        disk.sync().expect_err("the power goes");
        assert_eq!(disk.crash(&mut |_| false).to_bytes(), b"");
        assert_eq!(disk.crash(&mut |_| true).to_bytes(), b"one");
    }

    #[test]
    fn a_cut_at_a_call_that_was_made_is_a_cut_now() {
        let disk = SimulatedDisk::new();
        write(&disk, 0, b"one");
        disk.cut_power_at(1);
        assert!(!disk.has_power());
    }

    #[test]
    fn a_failed_sync_loses_the_data_though_reads_still_show_it() {
        let disk = SimulatedDisk::new();
        write(&disk, 0, b"kept");
        disk.sync().expect("sync");
        write(&disk, 0, b"lost");
        disk.fail_next_sync();
        disk.sync().expect_err("asked to fail");
        assert_eq!(contents(&disk), b"lost");
        disk.sync().expect("the kernel has nothing left to write");
        assert_eq!(disk.crash(&mut |_| true).to_bytes(), b"kept");
        disk.forget_cached(0, u64::MAX).expect("forget");
        assert_eq!(contents(&disk), b"kept");
    }

    #[test]
    fn a_lost_growth_takes_later_sectors_behind_the_end_with_it() {
        let disk = SimulatedDisk::new();
        disk.grow(0, 512).expect("grow");
        disk.sync().expect("sync");
        disk.grow(512, 1024).expect("grow");
        disk.lose_unsynced();
        write(&disk, 512, &[7; 512]);
        disk.sync().expect("sync");
        assert_eq!(disk.crash(&mut |_| true).to_bytes(), [0; 512]);
        disk.forget_cached(0, u64::MAX).expect("forget");
        assert_eq!(disk.len().expect("len"), 512);
        write(&disk, 512, &[7; 512]);
        disk.sync().expect("sync");
        assert_eq!(
            disk.crash(&mut |_| true).to_bytes(),
            [[0; 512], [7; 512]].concat()
        );
    }

    #[test]
    fn a_new_incarnation_starts_from_an_image() {
        let disk = SimulatedDisk::new();
        write(&disk, 0, b"one");
        disk.cut_power();
        let next = SimulatedDisk::from_image(&disk.crash(&mut |_| true));
        assert_eq!(contents(&next), b"one");
        assert_eq!(next.pending(), 0);
        assert_eq!(next.calls(), 0);
    }
}
