//! What an operation costs, counted: calls of the storage, pages written, bytes allocated. A change that makes one of these
//! grow is to be noticed here and not by a user; one that makes it shrink may lower the bound.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use folio_store::{
    Database, Durability, StoredRange, Table,
    storage::{CountingStorage, MemoryStorage, StorageCounts},
};

struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    type Key = u64;
    type Value = &'static [u8];
}

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

const ROWS: u64 = 20_000;

fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A database of some rows, durable, with room in its file.
fn filled() -> (Database, Arc<CountingStorage>) {
    let storage = Arc::new(CountingStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder()
        .growth(16 << 20, 16 << 20)
        .create_on(storage.clone())
        .unwrap();
    let txn = db.begin_write().unwrap();
    let mut rows = txn.table::<Rows>().unwrap();
    for number in 0..ROWS {
        rows.insert(scattered(number), [1; 150].as_slice()).unwrap();
    }
    drop(rows);
    drop(txn.table::<Log>().unwrap());
    txn.commit().unwrap();
    (db, storage)
}

/// The mean over some operations of calls, pages and allocations.
#[derive(Debug)]
struct Cost {
    counts: StorageCounts,
    pages: f64,
    writes: f64,
    allocations: f64,
    bytes: f64,
}

/// The most that an operation may cost: what it cost when the bound was set, and a little.
struct Bounds {
    writes: f64,
    pages: f64,
    allocations: f64,
    bytes: f64,
}

impl Cost {
    #[track_caller]
    fn is_at_most(&self, bounds: &Bounds) {
        assert!(self.writes <= bounds.writes, "write calls: {self:?}");
        assert!(self.pages <= bounds.pages, "pages written: {self:?}");
        assert!(
            self.allocations <= bounds.allocations,
            "allocations: {self:?}"
        );
        assert!(self.bytes <= bounds.bytes, "bytes allocated: {self:?}");
    }
}

/// How often the operations are counted.
const WINDOWS: u64 = 5;

/// Counts `operations` calls of `operation`, after as many that are not counted, in several windows, and gives back the one
/// that allocated least: the cache grows by slabs of 2 MiB, at moments that hashes decide.
fn cost(
    db: &Database,
    storage: &CountingStorage,
    operations: u64,
    mut operation: impl FnMut(u64),
) -> Cost {
    (0..operations).for_each(&mut operation);
    let mut window = |number: u64| {
        let (counts, pages) = (storage.counts(), db.statistics().pages_written);
        let allocated = allocation_counter::measure(|| {
            (number * operations..(number + 1) * operations).for_each(&mut operation);
        });
        let counts = storage.counts().since(&counts);
        let each = |count: u64| count as f64 / operations as f64;
        Cost {
            counts,
            pages: each(db.statistics().pages_written - pages),
            writes: each(counts.writes),
            allocations: each(allocated.count_total),
            bytes: each(allocated.bytes_total),
        }
    };
    (1..=WINDOWS)
        .map(&mut window)
        .min_by(|one, other| one.bytes.total_cmp(&other.bytes))
        .unwrap()
}

fn insert(db: &Database, durability: Durability, keys: impl Iterator<Item = u64>) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    let mut rows = txn.table::<Rows>().unwrap();
    keys.for_each(|key| drop(rows.insert(key, [2; 150].as_slice()).unwrap()));
    drop(rows);
    txn.commit().unwrap();
}

fn append(db: &Database, entries: std::ops::Range<u64>) {
    let txn = db.begin_write().unwrap();
    let mut log = txn.table::<Log>().unwrap();
    entries.for_each(|entry| drop(log.insert(entry, [3; 256].as_slice()).unwrap()));
    drop(log);
    txn.commit().unwrap();
}

#[test]
fn a_durable_append_of_one_entry() {
    let (db, storage) = filled();
    let cost = cost(&db, &storage, 200, |number| append(&db, number..number + 1));
    assert_eq!(cost.counts.syncs, 200, "{cost:?}");
    cost.is_at_most(&Bounds {
        writes: 3.4,
        pages: 3.2,
        allocations: 62.0,
        bytes: 46_000.0,
    });
}

#[test]
fn a_durable_append_of_sixteen_entries() {
    let (db, storage) = filled();
    let cost = cost(&db, &storage, 200, |number| {
        append(&db, 16 * number..16 * number + 16);
    });
    assert_eq!(cost.counts.syncs, 200, "{cost:?}");
    cost.is_at_most(&Bounds {
        writes: 4.5,
        pages: 5.2,
        allocations: 107.0,
        bytes: 69_000.0,
    });
}

#[test]
fn a_durable_insert_of_one_row() {
    let (db, storage) = filled();
    let cost = cost(&db, &storage, 200, |number| {
        insert(
            &db,
            Durability::Immediate,
            std::iter::once(scattered(ROWS + number)),
        );
    });
    assert_eq!(cost.counts.syncs, 200, "{cost:?}");
    cost.is_at_most(&Bounds {
        writes: 4.2,
        pages: 4.3,
        allocations: 61.0,
        bytes: 49_000.0,
    });
}

#[test]
fn a_durable_commit_of_sixteen_random_rows() {
    let (db, storage) = filled();
    let cost = cost(&db, &storage, 100, |number| {
        let rows = (0..16).map(|row| scattered((number * 16 + row) * 7_919 % ROWS));
        insert(&db, Durability::Immediate, rows);
    });
    assert_eq!(cost.counts.syncs, 100, "{cost:?}");
    cost.is_at_most(&Bounds {
        writes: 20.0,
        pages: 32.0,
        allocations: 172.0,
        bytes: 179_000.0,
    });
}

#[test]
fn a_commit_that_is_not_durable() {
    let (db, storage) = filled();
    let cost = cost(&db, &storage, 200, |number| {
        insert(
            &db,
            Durability::Eventual,
            std::iter::once(scattered(ROWS + number)),
        );
    });
    assert_eq!(cost.counts, StorageCounts::default(), "{cost:?}");
    cost.is_at_most(&Bounds {
        writes: 0.0,
        pages: 0.0,
        allocations: 36.0,
        bytes: 21_600.0,
    });
}

#[test]
fn an_overwrite_within_a_transaction() {
    let (db, storage) = filled();
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(Durability::Eventual);
    let rows = std::cell::RefCell::new(txn.table::<Rows>().unwrap());
    let cost = cost(&db, &storage, 500, |number| {
        // The same rows twice, so that the pages of those that are counted are the transaction's already.
        let key = scattered(number % 500);
        drop(rows.borrow_mut().insert(key, [4; 150].as_slice()).unwrap());
    });
    assert_eq!(cost.counts, StorageCounts::default(), "{cost:?}");
    cost.is_at_most(&Bounds {
        writes: 0.0,
        pages: 0.0,
        allocations: 3.0,
        bytes: 260.0,
    });
}

#[test]
fn a_point_read() {
    let (db, storage) = filled();
    let view = db.begin_read().unwrap();
    let rows = view.table::<Rows>().unwrap();
    let cost = cost(&db, &storage, 2000, |number| {
        let key = scattered(number * 7_919 % ROWS);
        assert_eq!(rows.get_stored(key).unwrap().unwrap().bytes().len(), 150);
    });
    assert_eq!(cost.counts, StorageCounts::default(), "{cost:?}");
    cost.is_at_most(&Bounds {
        writes: 0.0,
        pages: 0.0,
        allocations: 1.0,
        bytes: 8.0,
    });
}

/// What one step of a walk over all rows costs.
fn walk(mut step: impl FnMut(&mut StoredRange<'_, Rows>)) {
    let (db, storage) = filled();
    let view = db.begin_read().unwrap();
    let rows = view.table::<Rows>().unwrap();
    let mut walk = rows.iter().unwrap().stored();
    let cost = cost(&db, &storage, ROWS / (1 + WINDOWS), |_| step(&mut walk));
    assert_eq!(cost.counts, StorageCounts::default(), "{cost:?}");
    cost.is_at_most(&Bounds {
        writes: 0.0,
        pages: 0.0,
        allocations: 0.02,
        bytes: 0.5,
    });
}

#[test]
fn a_row_of_a_scan() {
    walk(|walk| assert_eq!(walk.next().unwrap().unwrap().1.bytes().len(), 150));
}

#[test]
fn a_row_of_a_scan_that_borrows() {
    walk(|walk| {
        assert_eq!(
            walk.next_borrowed().unwrap().unwrap().value_bytes().len(),
            150
        )
    });
}
