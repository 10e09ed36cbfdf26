//! What a commit costs, what it leaves behind, and who waits for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, thread};

use folio_store::{
    Database, Durability, Error, Group, GroupSet, Table,
    storage::{CountingStorage, MemoryStorage, SimulatedDisk, StorageCounts},
};

struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(1);
    type Key = u64;
    type Value = [u8; 200];
}

struct State;
impl Table for State {
    const NAME: &'static str = "state";
    type Key = u64;
    type Value = u64;
}

struct Blobs;
impl Table for Blobs {
    const NAME: &'static str = "blobs";
    type Key = u64;
    type Value = &'static [u8];
}

struct Counted {
    storage: Arc<CountingStorage>,
    db: Database,
}

impl Counted {
    fn new() -> Self {
        let storage = Arc::new(CountingStorage::new(Arc::new(MemoryStorage::new())));
        let db = Database::builder().create_on(storage.clone()).unwrap();
        Self { storage, db }
    }

    fn counts_of(&self, act: impl FnOnce(&Database)) -> StorageCounts {
        let before = self.storage.counts();
        act(&self.db);
        self.storage.counts().since(&before)
    }
}

fn append(db: &Database, index: u64, durability: Durability) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    txn.table::<Log>().unwrap().insert(index, [1; 200]).unwrap();
    txn.commit().unwrap();
}

fn set(db: &Database, key: u64, value: u64, durability: Durability) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    txn.table::<State>().unwrap().insert(key, value).unwrap();
    txn.commit().unwrap();
}

#[test]
fn a_durable_commit_syncs_once() {
    let counted = Counted::new();
    // The first write of a handle begins its numbers with a slot of its own.
    append(&counted.db, 0, Durability::Immediate);
    for index in 1..200 {
        let counts = counted.counts_of(|db| append(db, index, Durability::Immediate));
        assert_eq!(counts.syncs, 1);
        assert_eq!(counts.truncates, 0);
        // Its pages, the slot with the twin, the acknowledgement.
        assert!(counts.writes <= 6, "commit {index}: {counts:?}");
    }
}

#[test]
fn a_commit_that_is_not_durable_makes_no_call() {
    let counted = Counted::new();
    append(&counted.db, 0, Durability::Immediate);
    let counts = counted
        .counts_of(|db| (0..50).for_each(|key| set(db, key % 10, key, Durability::Eventual)));
    assert_eq!(counts, StorageCounts::default());
}

#[test]
fn an_append_writes_pages_of_its_own_group_only() {
    let alone = Counted::new();
    let beside = Counted::new();
    for counted in [&alone, &beside] {
        append(&counted.db, 0, Durability::Immediate);
    }
    for key in 0..5_000 {
        set(&beside.db, key, key, Durability::Eventual);
    }
    let [alone, beside] = [&alone, &beside].map(|counted| {
        counted
            .counts_of(|db| append(db, 1, Durability::Immediate))
            .bytes_written
    });
    assert_eq!(alone, beside);
}

#[test]
fn each_group_comes_back_as_it_was_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("groups.folio");
    let db = Database::create(&path).unwrap();
    set(&db, 1, 10, Durability::Immediate);
    set(&db, 1, 20, Durability::Eventual);
    append(&db, 7, Durability::Immediate);
    assert!(db.durable_transaction(Group::DEFAULT) < db.durable_transaction(Group::new(1)));
    db.kill();

    let db = Database::open(&path).unwrap();
    let view = db.begin_read().unwrap();
    assert_eq!(view.table::<Log>().unwrap().len().unwrap(), 1);
    assert_eq!(view.table::<State>().unwrap().get(1).unwrap(), Some(10));
    drop(view);
    set(&db, 1, 30, Durability::Eventual);
    db.checkpoint(GroupSet::from(Group::DEFAULT)).unwrap();
    db.kill();
    let db = Database::open(&path).unwrap();
    assert_eq!(
        db.begin_read()
            .unwrap()
            .table::<State>()
            .unwrap()
            .get(1)
            .unwrap(),
        Some(30)
    );
}

#[test]
fn a_checkpoint_of_what_is_durable_makes_no_call() {
    let counted = Counted::new();
    set(&counted.db, 1, 1, Durability::Immediate);
    let counts = counted.counts_of(|db| db.checkpoint(GroupSet::ALL).unwrap());
    assert_eq!(counts, StorageCounts::default());
}

#[test]
fn closing_keeps_what_was_not_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("closed.folio");
    let db = Database::create(&path).unwrap();
    set(&db, 1, 1, Durability::Eventual);
    db.clone().close().unwrap();
    assert!(matches!(
        db.begin_write().unwrap_err(),
        Error::Closed { .. }
    ));
    assert!(matches!(db.begin_read().unwrap_err(), Error::Closed { .. }));
    drop(db);
    let db = Database::open(&path).unwrap();
    assert_eq!(
        db.begin_read()
            .unwrap()
            .table::<State>()
            .unwrap()
            .get(1)
            .unwrap(),
        Some(1)
    );
    set(&db, 2, 2, Durability::Eventual);
    drop(db);
    let db = Database::open(&path).unwrap();
    assert_eq!(
        db.begin_read()
            .unwrap()
            .table::<State>()
            .unwrap()
            .get(2)
            .unwrap(),
        Some(2)
    );
}

#[test]
fn a_ticket_tells_when_its_commit_is_durable() {
    let counted = Counted::new();
    let txn = counted.db.begin_write().unwrap();
    txn.table::<State>().unwrap().insert(1, 1).unwrap();
    let ticket = txn.commit_with_ticket().unwrap();
    assert!(!ticket.is_durable());
    assert_eq!(
        counted
            .db
            .begin_read()
            .unwrap()
            .table::<State>()
            .unwrap()
            .get(1)
            .unwrap(),
        Some(1)
    );
    ticket.wait().unwrap();
    assert!(ticket.is_durable());
    assert_eq!(
        counted.counts_of(|_| ticket.wait().unwrap()),
        StorageCounts::default()
    );
}

#[test]
fn concurrent_commits_share_flushes_and_none_returns_before_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let db = Database::create(folder.path().join("shared.folio")).unwrap();
    let before = db.statistics().flushes;
    thread::scope(|scope| {
        for thread in 0..8 {
            let db = &db;
            scope.spawn(move || {
                for index in 0..25 {
                    let txn = db.begin_write().unwrap();
                    let number = txn.number();
                    txn.table::<State>()
                        .unwrap()
                        .insert(thread * 1_000 + index, index)
                        .unwrap();
                    txn.commit().unwrap();
                    assert!(db.durable_transaction(Group::DEFAULT) >= number);
                }
            });
        }
    });
    assert!(db.statistics().flushes - before <= 201);
    assert_eq!(
        db.begin_read()
            .unwrap()
            .table::<State>()
            .unwrap()
            .len()
            .unwrap(),
        200
    );
}

// Elsewhere readers of a file exclude the writer.
#[cfg(target_os = "linux")]
#[test]
fn a_file_is_open_for_one_writer_and_for_readers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("locked.folio");
    let db = Database::create(&path).unwrap();
    let error = Database::open(&path).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(error.to_string().contains("locked.folio"), "{error}");
    set(&db, 1, 1, Durability::Immediate);
    let one = Database::open_read_only(&path).unwrap();
    drop(db);
    let other = Database::open_read_only(&path).unwrap();
    drop(Database::open(&path).unwrap());
    assert!(matches!(
        one.begin_write().unwrap_err(),
        Error::ReadOnly { .. }
    ));
    assert_eq!(
        other
            .begin_read()
            .unwrap()
            .table::<State>()
            .unwrap()
            .get(1)
            .unwrap(),
        Some(1)
    );
}

#[test]
fn a_transaction_many_times_the_cache_commits_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.folio");
    let db = Database::builder()
        .cache_size(1 << 20)
        .create(&path)
        .unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Log>().unwrap();
    for index in 0..60_000u64 {
        table
            .insert(
                index.wrapping_mul(0x9E37_79B9_7F4A_7C15),
                [index as u8; 200],
            )
            .unwrap();
    }
    drop(table);
    txn.commit().unwrap();
    let statistics = db.statistics();
    assert!(statistics.pages_written * 4096 > 10 << 20);
    let used = statistics.length_pages - statistics.free_pages;
    assert!(statistics.file_pages < 2 * used, "{statistics:?}");
    assert!(statistics.cached_pages <= statistics.cache_limit);
    db.kill();
    let db = Database::open(&path).unwrap();
    let view = db.begin_read().unwrap();
    let table = view.table::<Log>().unwrap();
    assert_eq!(table.len().unwrap(), 60_000);
    for index in (0..60_000u64).step_by(997) {
        assert_eq!(
            table
                .get(index.wrapping_mul(0x9E37_79B9_7F4A_7C15))
                .unwrap(),
            Some([index as u8; 200])
        );
    }
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn dirty_pages_stay_within_the_cache_without_a_flush() {
    let db = Database::builder()
        .cache_size(256 << 10)
        .in_memory()
        .unwrap();
    for key in 0..8_000 {
        set(&db, key * 7_919 % 8_000, key, Durability::Eventual);
    }
    let statistics = db.statistics();
    assert!(
        statistics.cached_pages <= statistics.cache_limit,
        "{statistics:?}"
    );
    assert_eq!(
        statistics.flushes, 1,
        "only the one that begins the handle's numbers"
    );
}

#[test]
fn pages_written_early_in_a_transaction_are_still_those_of_views_of_the_abort_and_of_the_next_flush()
 {
    let storage = Arc::new(MemoryStorage::new());
    let builder = Database::builder().cache_size(1 << 20);
    let db = builder.create_on(storage.clone()).unwrap();
    let rows = 2_000;
    let fill = |txn: &folio_store::WriteTransaction, value: u8| {
        let mut table = txn.table::<Log>().unwrap();
        (0..rows).for_each(|key| drop(table.insert(key, [value; 200]).unwrap()));
    };
    let commit = |value: u8, durability| {
        let mut txn = db.begin_write().unwrap();
        txn.set_durability(durability);
        fill(&txn, value);
        txn.commit().unwrap();
    };
    let holds = |view: &folio_store::ReadTransaction, value: u8| {
        let table = view.table::<Log>().unwrap();
        assert_eq!(table.len().unwrap(), rows);
        assert!(
            table
                .iter()
                .unwrap()
                .all(|row| row.unwrap().1 == [value; 200])
        );
    };
    commit(1, Durability::Immediate);
    let first = db.begin_read().unwrap();
    commit(2, Durability::Eventual);
    let second = db.begin_read().unwrap();
    commit(3, Durability::Eventual);

    // The versions before are needed by views, and these by an abort.
    let before = db.statistics().pages_written;
    let txn = db.begin_write().unwrap();
    fill(&txn, 4);
    assert!(db.statistics().pages_written > before);
    let third = db.begin_read().unwrap();
    txn.abort();
    for (view, value) in [(&first, 1), (&second, 2), (&third, 3)] {
        holds(view, value);
    }
    db.checkpoint(GroupSet::ALL).unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    drop((first, second, third));
    db.kill();
    let db = Database::builder().open_on(storage).unwrap();
    holds(&db.begin_read().unwrap(), 3);
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_steady_load_of_updates_does_not_grow_the_file() {
    let db = Database::in_memory().unwrap();
    let round = |value: u64| {
        for start in (0..5_000).step_by(50) {
            let txn = db.begin_write().unwrap();
            let mut table = txn.table::<State>().unwrap();
            (start..start + 50).for_each(|key| drop(table.insert(key * 7 % 5_000, value).unwrap()));
            drop(table);
            txn.commit().unwrap();
        }
    };
    (0..3).for_each(round);
    let before = db.statistics().file_pages;
    (3..20).for_each(round);
    assert_eq!(db.statistics().file_pages, before);
}

#[test]
fn space_deleted_is_used_again() {
    let db = Database::in_memory().unwrap();
    let fill = || {
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Log>().unwrap();
        (0..5_000).for_each(|index| drop(table.insert(index, [1; 200]).unwrap()));
        drop(table);
        txn.commit().unwrap();
    };
    let purge = || {
        for end in (0..=5_000).step_by(500) {
            let txn = db.begin_write().unwrap();
            txn.table::<Log>().unwrap().remove_range(..end).unwrap();
            txn.commit().unwrap();
        }
    };
    fill();
    purge();
    fill();
    let before = db.statistics().file_pages;
    for _ in 0..5 {
        purge();
        fill();
    }
    assert_eq!(db.statistics().file_pages, before);
}

#[test]
fn a_transaction_that_outlives_the_database_is_refused_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outlived.folio");
    let db = Database::create(&path).unwrap();
    set(&db, 1, 1, Durability::Eventual);
    let late = db.begin_write().unwrap();
    late.table::<State>().unwrap().insert(2, 2).unwrap();
    db.clone().close().unwrap();
    db.close().unwrap();
    let error = late.commit().unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    let db = Database::open(&path).unwrap();
    let view = db.begin_read().unwrap();
    let rows: Vec<_> = view
        .table::<State>()
        .unwrap()
        .iter()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows, [(1, 1)]);
}

#[test]
fn what_is_committed_while_another_thread_closes_is_kept_or_refused() {
    for round in 0..50 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("racing.folio");
        let db = Database::create(&path).unwrap();
        let committed = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                (0..200u64)
                    .take_while(|&key| {
                        db.begin_write()
                            .and_then(|mut txn| {
                                txn.set_durability(Durability::Eventual);
                                txn.table::<State>()?.insert(key, key)?;
                                txn.commit()
                            })
                            .is_ok()
                    })
                    .count()
            });
            while db.published_transaction() < 1 + round / 2 && !writer.is_finished() {
                thread::yield_now();
            }
            db.clone().close().unwrap();
            writer.join().unwrap()
        });
        drop(db);
        let db = Database::open(&path).unwrap();
        let kept = db
            .begin_read()
            .unwrap()
            .table::<State>()
            .unwrap()
            .len()
            .unwrap();
        assert_eq!(kept, committed as u64, "round {round}");
    }
}

#[test]
fn recovery_reads_no_more_than_a_bounded_part_of_the_last_commit() {
    let read_by_opening = |rows: u64| {
        let disk = Arc::new(SimulatedDisk::new());
        let db = Database::builder().create_on(disk.clone()).unwrap();
        let txn = db.begin_write().unwrap();
        let value = vec![7; 3_000];
        for key in 0..rows {
            txn.table::<Blobs>()
                .unwrap()
                .insert(key, value.as_slice())
                .unwrap();
        }
        txn.commit().unwrap();
        let syncs = db.statistics().syncs;
        db.kill();
        let storage = Arc::new(CountingStorage::new(disk));
        let db = Database::builder().open_on(storage.clone()).unwrap();
        assert_eq!(
            db.begin_read()
                .unwrap()
                .table::<Blobs>()
                .unwrap()
                .len()
                .unwrap(),
            rows
        );
        (storage.counts().bytes_read, syncs)
    };
    let (few, syncs) = read_by_opening(800);
    assert_eq!(syncs, 2, "one of the opening slot, one of the commit");
    assert!((2 << 20..5 << 20).contains(&few), "{few}");
    let (many, syncs) = read_by_opening(5_000);
    assert_eq!(
        syncs, 3,
        "the pages of a large commit are synced by themselves"
    );
    assert!(many < 1 << 20, "{many}");
}
