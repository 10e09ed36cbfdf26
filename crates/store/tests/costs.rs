//! Costs that must grow with the change and not with the file, counted in storage calls and pages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use folio_store::{
    Database, Durability, GroupSet, Table,
    storage::{CountingStorage, MemoryStorage, StorageCounts},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = [u8; 100];
}

/// A killed database of some rows, whose last commit changed one row.
fn killed(rows: u64) -> Arc<CountingStorage> {
    let storage = Arc::new(CountingStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    insert(&db, 0..rows);
    insert(&db, rows..rows + 1);
    db.kill();
    storage
}

fn insert(db: &Database, keys: std::ops::Range<u64>) {
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    keys.for_each(|key| drop(table.insert(key, [key as u8; 100]).unwrap()));
    drop(table);
    txn.commit().unwrap();
}

fn counted<R>(storage: &CountingStorage, act: impl FnOnce() -> R) -> (R, StorageCounts) {
    let before = storage.counts();
    let result = act();
    (result, storage.counts().since(&before))
}

#[test]
fn opening_after_a_crash_reads_the_last_commit_whatever_the_size() {
    let [small, large] = [100, 100_000].map(|rows| {
        let storage = killed(rows);
        let open = || Database::builder().open_on(storage.clone()).unwrap();
        let (db, counts) = counted(&storage, open);
        db.kill();
        counts
    });
    assert!(large.reads <= 30, "{large:?}");
    assert!(
        large.reads - small.reads <= 4,
        "the path to one row, a few pages deeper: {small:?} {large:?}"
    );
    assert_eq!((large.writes, large.grows, large.truncates), (0, 0, 0));
    assert_eq!(
        large.syncs, 1,
        "what a killed process left unsynced is synced before it is shown"
    );
}

#[test]
fn opening_a_closed_file_costs_reads_only() {
    let storage = killed(10_000);
    Database::builder()
        .open_on(storage.clone())
        .unwrap()
        .close()
        .unwrap();
    let db = Database::builder().open_on(storage.clone()).unwrap();
    insert(&db, 0..1);
    db.close().unwrap();
    let (db, counts) = counted(&storage, || {
        Database::builder().open_on(storage.clone()).unwrap()
    });
    assert_eq!((counts.writes, counts.syncs), (0, 0));
    let (_, counts) = counted(&storage, || drop(db));
    assert_eq!(
        counts,
        StorageCounts::default(),
        "nothing was written, so there is nothing to close"
    );
}

#[test]
fn a_commit_of_one_row_writes_its_path_whatever_the_size() {
    let [small, large] = [1_000, 100_000].map(|rows| {
        let db = Database::in_memory().unwrap();
        insert(&db, 0..rows);
        let before = db.statistics().pages_written;
        insert(&db, rows / 2..rows / 2 + 1);
        db.statistics().pages_written - before
    });
    assert!(small <= 4, "{small}");
    assert!(large <= small + 1, "one level more: {small}, {large}");
}

/// Changes every row of a table whose pages take so many hundredths of the cache, in ten eventual transactions, and gives
/// back the pages of the table and how many pages were written.
fn changed_ten_times(hundredths: u64) -> (u64, u64) {
    let cache = 1024;
    let rows = cache * hundredths / 100 * (4096 / 120);
    let db = Database::builder().cache_size(cache as usize * 4096);
    let db = db.in_memory().unwrap();
    let change = |value: u8| {
        let mut txn = db.begin_write().unwrap();
        txn.set_durability(Durability::Eventual);
        let mut table = txn.table::<Rows>().unwrap();
        (0..rows).for_each(|key| drop(table.insert(key, [value; 100]).unwrap()));
        drop(table);
        txn.commit().unwrap();
    };
    change(0);
    db.checkpoint(GroupSet::ALL).unwrap();
    let before = db.statistics();
    (1..=10).for_each(change);
    let statistics = db.statistics();
    let most = statistics.cache_limit + 64;
    assert!(statistics.cached_pages <= most, "{statistics:?}");
    let written = statistics.pages_written - before.pages_written;
    db.checkpoint(GroupSet::ALL).unwrap();
    let view = db.begin_read().unwrap();
    let table = view.table::<Rows>().unwrap();
    assert!(table.iter().unwrap().all(|row| row.unwrap().1 == [10; 100]));
    (before.length_pages - before.free_pages, written)
}

#[test]
fn what_is_changed_again_before_a_flush_is_written_only_as_memory_demands() {
    let (_, written) = changed_ten_times(40);
    assert_eq!(written, 0, "old and new versions fit into the cache");
    let (pages, written) = changed_ten_times(60);
    assert!(written < 10 * pages / 2, "{written} of ten times {pages}");
    let (pages, written) = changed_ten_times(300);
    assert!(written < 11 * pages, "{written} of ten times {pages}");
}

#[test]
fn removing_a_range_does_not_read_the_leaves_inside() {
    let storage = killed(100_000);
    let db = Database::builder().open_on(storage.clone()).unwrap();
    let leaves = db.statistics().length_pages;
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    let (removed, counts) = counted(&storage, || table.remove_range(10..99_990).unwrap());
    assert_eq!(removed, 99_980);
    assert!(
        counts.reads * 10 < leaves,
        "{} reads for {leaves} pages",
        counts.reads
    );
}

#[test]
fn a_step_of_a_purge_costs_the_same_at_the_end_as_at_the_beginning() {
    let db = Database::in_memory().unwrap();
    insert(&db, 0..50_000);
    let step = |end: u64| {
        let before = db.statistics().pages_written;
        let txn = db.begin_write().unwrap();
        txn.table::<Rows>().unwrap().remove_range(..end).unwrap();
        txn.commit().unwrap();
        db.statistics().pages_written - before
    };
    let steps: Vec<u64> = (1..49).map(|number| step(number * 1_000)).collect();
    assert!(
        steps.iter().all(|&pages| pages <= steps[0] + 4),
        "{steps:?}"
    );
}

#[test]
fn a_commit_of_one_row_writes_the_leaf_and_what_is_above_it_in_two_places() {
    let storage = Arc::new(CountingStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    insert(&db, 0..100_000);
    let scattered = |number: u64| number * 7_919 % 100_000;
    let update = |number| insert(&db, scattered(number)..scattered(number) + 1);
    // Until free and used pages are well mixed.
    (0..2_000).for_each(update);
    let commits = 500;
    let before = db.statistics().pages_written;
    let ((), counts) = counted(&storage, || (2_000..2_000 + commits).for_each(update));
    let pages = db.statistics().pages_written - before;
    assert!(pages >= 4 * commits, "the way to a leaf and the catalog");
    // Beside the slot and the acknowledgement. Now and then the pages that change with every commit move on, and the
    // free-space map is written.
    assert!(counts.writes * 10 <= 45 * commits, "{counts:?}");
}
