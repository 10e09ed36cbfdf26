//! A call that fails while the file grows or while its size is asked for is an error, not a smaller step.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use folio_store::{
    Database, Error, Table,
    storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, Storage, StorageCall},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

/// The error of the first growth, which fails once.
fn failing_growth(length: usize) -> Error {
    let storage = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    storage.follow(FaultPlan {
        calls: &[StorageCall::Grow],
        at: 1,
        fault: Fault::InputOutput,
        lasting: false,
    });
    let value = vec![7; length];
    for key in 0..10_000 {
        let txn = db.begin_write().unwrap();
        let inserted = txn
            .table::<Rows>()
            .unwrap()
            .insert(key, value.as_slice())
            .map(drop);
        if let Err(error) = inserted.and_then(|()| txn.commit().map(drop)) {
            let refused = db.begin_write().map(drop);
            assert!(matches!(refused, Err(Error::Latched { .. })));
            return error;
        }
        assert_eq!(storage.failed(), 0, "a failed growth was passed over");
    }
    panic!("the file never grew");
}

#[test]
fn a_growth_that_fails_is_not_tried_again_in_smaller_steps() {
    for length in [100, 3_000, 50_000, 500_000] {
        match failing_growth(length) {
            Error::Io { operation, .. } => assert_eq!(operation, "grow the file"),
            error => panic!("values of {length} bytes: {error}"),
        }
    }
}

/// Fails to tell its length, once.
#[derive(Debug)]
struct Lengthless {
    inner: Arc<dyn Storage>,
    /// Until it does.
    calls: AtomicU64,
}

impl Storage for Lengthless {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        self.inner.write_at(offset, buffers)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        match self.calls.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(io::Error::from_raw_os_error(5)),
            _ => self.inner.len(),
        }
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        self.inner.grow(from, to)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

#[test]
fn a_length_that_cannot_be_found_is_not_taken_for_none() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    db.close().unwrap();
    let mut refused = 0;
    for calls in 0.. {
        let failing = Arc::new(Lengthless {
            inner: storage.clone(),
            calls: AtomicU64::new(calls),
        });
        let opened = Database::builder().open_on(failing.clone());
        // Counts down below zero once it has failed.
        let failed = failing.calls.load(Ordering::Relaxed) > calls;
        assert_eq!(opened.is_err(), failed, "call {calls}: {opened:?}");
        if !failed {
            break;
        }
        refused += 1;
    }
    assert!(refused >= 1);
}

/// Inserts rows of 1,000 bytes until the file is this long; gives back the steps by which it grew.
fn grow_to(db: &Database, storage: &MemoryStorage, length: u64, first: u64) -> Vec<u64> {
    let mut steps = Vec::new();
    for key in first.. {
        let before = storage.len().unwrap();
        if before >= length {
            break;
        }
        let txn = db.begin_write().unwrap();
        let row = txn
            .table::<Rows>()
            .unwrap()
            .insert(key, [1; 1_000].as_slice());
        row.map(drop).unwrap();
        txn.commit().unwrap();
        let step = storage.len().unwrap() - before;
        steps.extend((step > 0).then_some(step));
    }
    steps
}

#[test]
fn a_file_grows_in_growing_steps_and_a_closed_one_has_nothing_to_grow_into() {
    const LEAST: u64 = 256 << 10;
    let storage = Arc::new(MemoryStorage::new());
    let builder = || Database::builder().growth(LEAST, 1 << 20);
    let db = builder().create_on(storage.clone()).unwrap();
    let steps = grow_to(&db, &storage, 16 << 20, 0);
    assert!(steps.is_sorted(), "{steps:?}");
    assert_eq!(steps.first(), Some(&LEAST));
    assert_eq!(steps.last(), Some(&(1 << 20)));
    let used = db.statistics().length_pages * 4096;
    db.close().unwrap();
    let closed = storage.len().unwrap();
    assert!(closed < used + LEAST, "{closed} bytes for {used}");

    // Whoever opens it for a moment pays for little.
    let db = builder().open_on(storage.clone()).unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    let steps = grow_to(&db, &storage, closed + 1, 1_000_000);
    // Its pages of short life lie in a zone of their own, of 512 KiB.
    assert_eq!(steps, [2 * LEAST]);
    db.close().unwrap();
    assert!(storage.len().unwrap() <= closed + 2 * LEAST);
}
