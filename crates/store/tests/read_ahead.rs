//! Opening reads the pages of the last commit from all over the file, and says so before it begins.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, IoSlice},
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
    Forget(u64, u64),
    Announce(u64, u64),
    Read(u64),
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

#[test]
fn a_page_of_the_last_commit_is_forgotten_then_announced_then_read() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let mut random = SplitMix64::new(1);
    for updates in [3_000, 300] {
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
    let db = Database::builder().open_on(recording.clone()).unwrap();
    let calls = std::mem::take(&mut *recording.calls.lock().unwrap());
    let position = |wanted: &dyn Fn(&Call) -> bool| calls.iter().position(wanted);
    let mut read = 0;
    for (index, call) in calls.iter().enumerate() {
        let Call::Read(page) = *call else { continue };
        // The manifest's own pages are a chain, of which nobody knows the next one.
        let announced = position(
            &|call| matches!(*call, Call::Announce(first, count) if (first..first + count).contains(&page)),
        );
        let Some(announced) = announced.filter(|_| page >= FIXED_PAGES) else {
            continue;
        };
        let forgotten = position(
            &|call| matches!(*call, Call::Forget(first, count) if (first..first + count).contains(&page)),
        );
        assert!(forgotten.unwrap() < announced, "page {page}");
        assert!(announced < index, "page {page}");
        read += 1;
    }
    assert!(read > 200, "{read} pages of the last commit were read");
    drop(db);
}
