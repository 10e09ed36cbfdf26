//! Opening reads the pages of the last commit from all over the file, and says so before it begins.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, IoSlice},
    ops::Range,
    sync::{Arc, Mutex},
};

use folio_store::{
    Database, Table,
    storage::{MemoryStorage, SplitMix64, Storage},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

const PAGE: u64 = 4096;
const FIXED_PAGES: u64 = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Sync,
    Forget(u64, u64),
    Announce(u64, u64),
    Read(u64),
}

impl Call {
    /// The pages that are forgotten, or none.
    fn forgets(self) -> Range<u64> {
        match self {
            Self::Forget(first, count) => first..first + count,
            _ => 0..0,
        }
    }

    /// The pages that are announced, or none.
    fn announces(self) -> Range<u64> {
        match self {
            Self::Announce(first, count) => first..first + count,
            _ => 0..0,
        }
    }
}

#[derive(Debug)]
struct Recording {
    inner: Arc<dyn Storage>,
    calls: Mutex<Vec<Call>>,
}

impl Recording {
    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Storage for Recording {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.note(Call::Read(offset / PAGE));
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        self.inner.write_at(offset, buffers)
    }

    fn sync(&self) -> io::Result<()> {
        self.note(Call::Sync);
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        self.inner.grow(from, to)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }

    fn forget_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        self.note(Call::Forget(offset / PAGE, len / PAGE));
        Ok(())
    }

    fn will_read(&self, offset: u64, len: u64) -> io::Result<()> {
        self.note(Call::Announce(offset / PAGE, len / PAGE));
        Ok(())
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

/// What opening asks for after each of some transactions with so many random changes, and a kill.
fn calls_of_opening(transactions: &[u64]) -> Vec<Call> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let mut random = SplitMix64::new(1);
    for &updates in transactions {
        let txn = db.begin_write().unwrap();
        let mut rows = txn.table::<Rows>().unwrap();
        for _ in 0..updates {
            rows.insert(random.below(5_000), &[7; 400][..]).unwrap();
        }
        drop(rows);
        txn.commit().unwrap();
    }
    db.kill();
    let recording = Arc::new(Recording {
        inner: storage,
        calls: Mutex::default(),
    });
    drop(Database::builder().open_on(recording.clone()).unwrap());
    std::mem::take(&mut *recording.calls.lock().unwrap())
}

#[test]
fn a_page_of_the_last_commit_is_forgotten_then_announced_then_read() {
    let calls = calls_of_opening(&[3_000, 300]);
    let position = |wanted: &dyn Fn(&Call) -> bool| calls.iter().position(wanted);
    let mut read = 0;
    for (index, call) in calls.iter().enumerate() {
        let Call::Read(page) = *call else { continue };
        // The manifest's own pages are a chain, of which nobody knows the next one.
        let announced = position(&|call| call.announces().contains(&page));
        let Some(announced) = announced.filter(|_| page >= FIXED_PAGES) else {
            continue;
        };
        let forgotten = position(&|call| call.forgets().contains(&page));
        assert!(forgotten.unwrap() < announced, "page {page}");
        assert!(announced < index, "page {page}");
        read += 1;
    }
    assert!(read > 200, "{read} pages of the last commit were read");
}

#[test]
fn a_small_last_commit_is_asked_for_at_once_with_the_pages_that_lead_to_it() {
    let calls = calls_of_opening(&[3_000, 1]);
    let synced = calls.iter().position(|&call| call == Call::Sync).unwrap();
    // When the commit is chosen the header is read again.
    let chosen = calls.iter().rposition(|&call| call == Call::Read(0));
    let calls = &calls[synced..chosen.unwrap()];
    let is_read = |call: &Call| matches!(call, Call::Read(_));
    let (asked, rest) = calls.split_at(calls.iter().position(is_read).unwrap());
    let position = |wanted: fn(Call) -> Range<u64>, page| {
        let mut calls = asked.iter();
        calls.position(|&call| wanted(call).contains(page)).unwrap()
    };
    let mut read = 0;
    for call in rest {
        assert!(call.forgets().is_empty(), "{call:?}: read twice");
        let Call::Read(page) = call else { continue };
        assert!(position(Call::forgets, page) < position(Call::announces, page));
        read += 1;
    }
    assert!(read > FIXED_PAGES, "{read} pages, also of the last commit");
}
