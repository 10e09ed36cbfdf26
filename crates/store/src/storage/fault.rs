//! A storage that fails on demand.

use std::io::{self, IoSlice};
use std::sync::Arc;

use nix::errno::Errno;
use parking_lot::Mutex;

use super::{SimulatedDisk, Storage, total_len};

/// The calls that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StorageCall {
    /// [`Storage::read_at`]
    Read,
    /// [`Storage::write_at`]
    Write,
    /// [`Storage::sync`]
    Sync,
    /// [`Storage::grow`]
    Grow,
    /// [`Storage::truncate`]
    Truncate,
}

impl StorageCall {
    /// The calls that change something.
    pub const CHANGING: &'static [Self] = &[Self::Write, Self::Sync, Self::Grow, Self::Truncate];
}

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// `EIO`, and nothing was done.
    InputOutput,
    /// `ENOSPC`, and nothing was done.
    NoSpace,
    /// `ENOSPC` after the first half of the bytes of a write or a growth. Other calls do nothing.
    ShortWrite,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::InputOutput => Errno::EIO.into(),
            Self::NoSpace | Self::ShortWrite => Errno::ENOSPC.into(),
        }
    }
}

/// Which call fails, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultPlan {
    /// The kinds of calls that are counted.
    pub calls: &'static [StorageCall],
    /// The number, from 1, of the one among them that fails.
    pub at: u64,
    /// How it fails.
    pub fault: Fault,
    /// Whether all counted calls from there on fail as well.
    pub lasting: bool,
}

/// Passes calls on, except those that a [`FaultPlan`] lets fail.
///
/// Over a [`SimulatedDisk`] a sync that fails loses what was not synced, as it does on a real one.
#[derive(Debug)]
pub struct FaultStorage {
    inner: Arc<dyn Storage>,
    disk: Option<Arc<SimulatedDisk>>,
    state: Mutex<FaultState>,
}

#[derive(Debug, Default)]
struct FaultState {
    plan: Option<FaultPlan>,
    counted: u64,
    failed: u64,
    first_failed: Option<StorageCall>,
}

impl FaultStorage {
    /// Stands before `inner`, and lets everything through until there is a plan.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            disk: None,
            state: Mutex::default(),
        }
    }

    /// Stands before a disk that loses its unsynced data when a sync fails.
    #[must_use]
    pub fn over_disk(disk: Arc<SimulatedDisk>) -> Self {
        Self {
            inner: Arc::<SimulatedDisk>::clone(&disk),
            disk: Some(disk),
            state: Mutex::default(),
        }
    }

    /// Follows `plan` from here on, and counts from 0.
    pub fn follow(&self, plan: FaultPlan) {
        *self.state.lock() = FaultState {
            plan: Some(plan),
            ..FaultState::default()
        };
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.state.lock().plan = None;
    }

    /// The number of calls since the plan was made that are of its kinds. A run under a plan for a call that never
    /// comes tells how many there are to let fail.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.state.lock().counted
    }

    /// The number of calls that failed since the plan was made.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.state.lock().failed
    }

    /// The kind of the first call that failed since the plan was made.
    #[must_use]
    pub fn first_failed(&self) -> Option<StorageCall> {
        self.state.lock().first_failed
    }

    /// Counts a call. `Some` when it is to fail.
    fn fault(&self, call: StorageCall) -> Option<Fault> {
        let mut state = self.state.lock();
        let plan = state.plan.filter(|plan| plan.calls.contains(&call))?;
        state.counted += 1;
        let fails = if plan.lasting {
            state.counted >= plan.at
        } else {
            state.counted == plan.at
        };
        if !fails {
            return None;
        }
        state.failed += 1;
        state.first_failed.get_or_insert(call);
        Some(plan.fault)
    }

    fn check(&self, call: StorageCall) -> io::Result<()> {
        self.fault(call).map_or(Ok(()), |fault| Err(fault.error()))
    }
}

impl Storage for FaultStorage {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.check(StorageCall::Read)?;
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let Some(fault) = self.fault(StorageCall::Write) else {
            return self.inner.write_at(offset, buffers);
        };
        if fault == Fault::ShortWrite {
            self.inner
                .write_at(offset, &first_bytes(buffers, total_len(buffers) / 2))?;
        }
        Err(fault.error())
    }

    fn sync(&self) -> io::Result<()> {
        let Some(fault) = self.fault(StorageCall::Sync) else {
            return self.inner.sync();
        };
        if let Some(disk) = &self.disk {
            disk.lose_unsynced();
        }
        Err(fault.error())
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        let Some(fault) = self.fault(StorageCall::Grow) else {
            return self.inner.grow(from, to);
        };
        if fault == Fault::ShortWrite {
            self.inner.grow(from, from + to.saturating_sub(from) / 2)?;
        }
        Err(fault.error())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check(StorageCall::Truncate)?;
        self.inner.truncate(len)
    }

    fn room(&self) -> io::Result<Option<u64>> {
        self.inner.room()
    }

    fn forget_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.forget_cached(offset, len)
    }

    fn pins(&self) -> Option<&dyn super::Pins> {
        self.inner.pins()
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

/// The first `count` bytes of the buffers.
fn first_bytes<'a>(buffers: &'a [IoSlice<'a>], count: usize) -> Vec<IoSlice<'a>> {
    let mut missing = count;
    let mut taken = Vec::new();
    for buffer in buffers {
        let step = missing.min(buffer.len());
        taken.push(IoSlice::new(&buffer[..step]));
        missing -= step;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryStorage, conformance};
    use super::*;

    fn contents(storage: &dyn Storage) -> Vec<u8> {
        let mut bytes = vec![0; storage.len().expect("len") as usize];
        storage.read_at(0, &mut bytes).expect("read");
        bytes
    }

    fn plan(calls: &'static [StorageCall], at: u64, fault: Fault, lasting: bool) -> FaultPlan {
        FaultPlan {
            calls,
            at,
            fault,
            lasting,
        }
    }

    #[test]
    fn without_a_plan_it_behaves_like_a_file() {
        conformance::behaves_like_a_file(&FaultStorage::new(Arc::new(MemoryStorage::new())));
        conformance::behaves_like_a_file(&FaultStorage::over_disk(Arc::new(SimulatedDisk::new())));
    }

    #[test]
    fn one_call_fails_and_the_next_one_goes_through() {
        let storage = FaultStorage::new(Arc::new(MemoryStorage::from_bytes(b"....")));
        storage.follow(plan(&[StorageCall::Write], 2, Fault::InputOutput, false));
        storage.write_at(0, &[IoSlice::new(b"a")]).expect("first");
        storage.sync().expect("not counted");
        let error = storage
            .write_at(1, &[IoSlice::new(b"b")])
            .expect_err("second");
        assert_eq!(error.raw_os_error(), Some(Errno::EIO as i32));
        storage.write_at(2, &[IoSlice::new(b"c")]).expect("third");
        assert_eq!(contents(&storage), b"a.c.");
        assert_eq!((storage.counted(), storage.failed()), (3, 1));
    }

    #[test]
    fn a_lasting_fault_goes_on_until_it_is_healed() {
        let storage = FaultStorage::new(Arc::new(MemoryStorage::from_bytes(b"....")));
        storage.follow(plan(StorageCall::CHANGING, 2, Fault::NoSpace, true));
        storage.sync().expect("first");
        for outcome in [storage.sync(), storage.grow(0, 8), storage.truncate(0)] {
            assert_eq!(
                outcome.expect_err("from the second on").kind(),
                io::ErrorKind::StorageFull
            );
        }
        assert_eq!(contents(&storage), b"....");
        assert_eq!((storage.counted(), storage.failed()), (4, 3));
        assert_eq!(storage.first_failed(), Some(StorageCall::Sync));
        storage.heal();
        storage.truncate(0).expect("healed");
        assert_eq!(contents(&storage), b"");
    }

    #[test]
    fn a_read_can_fail() {
        let storage = FaultStorage::new(Arc::new(MemoryStorage::from_bytes(b"....")));
        storage.follow(plan(&[StorageCall::Read], 1, Fault::InputOutput, false));
        storage.read_at(0, &mut [0; 1]).expect_err("first");
        storage.read_at(0, &mut [0; 1]).expect("second");
    }

    #[test]
    fn a_short_write_leaves_its_first_half() {
        let storage = FaultStorage::new(Arc::new(MemoryStorage::from_bytes(b"........")));
        storage.follow(plan(StorageCall::CHANGING, 1, Fault::ShortWrite, true));
        let buffers = [IoSlice::new(b"abc"), IoSlice::new(b"def")];
        assert_eq!(
            storage.write_at(1, &buffers).expect_err("short").kind(),
            io::ErrorKind::StorageFull
        );
        assert_eq!(contents(&storage), b".abc....");
        storage.grow(8, 12).expect_err("short");
        assert_eq!(contents(&storage), b".abc....\0\0");
    }

    #[test]
    fn a_failed_sync_over_a_disk_loses_the_data() {
        let disk = Arc::new(SimulatedDisk::new());
        let storage = FaultStorage::over_disk(Arc::clone(&disk));
        storage
            .write_at(0, &[IoSlice::new(b"kept")])
            .expect("write");
        storage.sync().expect("sync");
        storage
            .write_at(0, &[IoSlice::new(b"lost")])
            .expect("write");
        storage.follow(plan(&[StorageCall::Sync], 1, Fault::InputOutput, false));
        storage.sync().expect_err("first");
        storage.sync().expect("second");
        assert_eq!(disk.crash(&mut |_| true).to_bytes(), b"kept");
        assert_eq!(contents(&storage), b"lost", "the cache still shows it");
    }
}
