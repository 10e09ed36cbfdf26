//! A disk without room: transactions that add rows are refused whole, and those that remove rows go on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use folio_store::{
    Database, Durability, Error, Table,
    storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, SplitMix64, StorageCall},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

struct Progress;
impl Table for Progress {
    const NAME: &'static str = "progress";
    type Key = ();
    type Value = &'static [u8];
}

const NO_ROOM: FaultPlan = FaultPlan {
    calls: &[StorageCall::Grow],
    at: 1,
    fault: Fault::NoSpace,
    lasting: true,
};

/// Adds rows, each in a transaction of its own, until there is no room. Gives back how many there are.
fn fill(db: &Database, random: &mut SplitMix64, durability: Durability) -> u64 {
    let mut next = db
        .begin_read()
        .unwrap()
        .table::<Rows>()
        .and_then(|rows| rows.last())
        .map_or(0, |last| last.map_or(0, |(key, _)| key + 1));
    loop {
        let mut txn = db.begin_write().unwrap();
        txn.set_durability(durability);
        let length = match random.below(10) {
            0 => random.below(20_000),
            _ => random.below(900),
        };
        let value = vec![next as u8; length as usize];
        let inserted = txn
            .table::<Rows>()
            .unwrap()
            .insert(next, value.as_slice())
            .map(drop);
        match inserted.and_then(|()| txn.commit()) {
            Ok(_) => next += 1,
            Err(Error::Full { needed, .. }) => {
                assert!(needed > 0);
                return next;
            }
            Err(error) => panic!("after {next} rows: {error}"),
        }
    }
}

fn remove(db: &Database, key: u64, durability: Durability) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    let removed = txn.table::<Rows>().unwrap().remove(key).unwrap().is_some();
    assert!(removed);
    txn.commit().unwrap();
}

fn sound(db: &Database) {
    db.checkpoint(folio_store::GroupSet::ALL).unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_full_disk_refuses_rows_whole_and_can_be_emptied() {
    for (seed, page_size) in (0..12).zip([4096, 8192, 65536].into_iter().cycle()) {
        let storage = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
        let db = Database::builder()
            .page_size(page_size)
            .cache_size(64 * page_size)
            .create_on(storage.clone())
            .unwrap();
        let mut random = SplitMix64::new(seed);
        let durability = match seed % 2 {
            0 => Durability::Immediate,
            _ => Durability::Eventual,
        };
        // The room that there is: what the file has grown to by then.
        for key in 0..50 {
            let txn = db.begin_write().unwrap();
            let value = vec![0; 3000];
            txn.table::<Rows>()
                .unwrap()
                .insert(key, value.as_slice())
                .unwrap();
            txn.commit().unwrap();
        }
        storage.follow(NO_ROOM);
        let mut rows = fill(&db, &mut random, durability);
        let mut first = 0;
        for round in 0..20 {
            assert_eq!(
                db.begin_read()
                    .unwrap()
                    .table::<Rows>()
                    .unwrap()
                    .len()
                    .unwrap(),
                rows - first,
                "seed {seed}, round {round}"
            );
            let removed = 1 + random.below((rows - first).min(40));
            for key in first..first + removed {
                remove(&db, key, durability);
            }
            first += removed;
            sound(&db);
            rows = fill(&db, &mut random, durability);
        }
        sound(&db);
        let everything = db.begin_write().unwrap();
        everything
            .table::<Rows>()
            .unwrap()
            .remove_range(0..)
            .unwrap();
        everything.commit().unwrap();
        sound(&db);
        storage.heal();
        fill_some(&db);
        db.close().unwrap();
    }
}

/// More rows than the file has had room for.
fn fill_some(db: &Database) {
    let txn = db.begin_write().unwrap();
    let value = vec![1; 4_000_000];
    txn.table::<Rows>()
        .unwrap()
        .insert(1 << 40, value.as_slice())
        .unwrap();
    txn.commit().unwrap();
}

#[test]
fn however_far_removals_went_there_is_room_for_their_flush() {
    let storage = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
    let builder = Database::builder().growth(1 << 18, 1 << 18);
    let db = builder.create_on(storage.clone()).unwrap();
    let write = |keys: std::ops::Range<u64>, byte: u8, durability: Durability| {
        let mut txn = db.begin_write().unwrap();
        txn.set_durability(durability);
        for key in keys {
            let value = vec![byte; 900];
            txn.table::<Rows>()
                .unwrap()
                .insert(key, value.as_slice())
                .unwrap();
        }
        txn.commit().unwrap();
    };
    let rows = 6_000;
    write(0..rows, 1, Durability::Immediate);
    // So many pages that their flush needs some for its manifest and for the free-space map.
    write(0..3_200, 2, Durability::Eventual);
    storage.follow(NO_ROOM);
    let mut removed = 0;
    let refused = (3_200..rows).step_by(5).find_map(|key| {
        let mut txn = db.begin_write().unwrap();
        txn.set_durability(Durability::Eventual);
        let done = txn.table::<Rows>().unwrap().remove(key).map(drop);
        match done.and_then(|()| txn.commit()) {
            Ok(_) => {
                removed += 1;
                None
            }
            Err(error) => Some(error),
        }
    });
    assert!(matches!(refused, Some(Error::Full { .. })), "{refused:?}");
    assert!(removed > 5, "{removed}");
    sound(&db);
    let view = db.begin_read().unwrap();
    assert_eq!(view.table::<Rows>().unwrap().len().unwrap(), rows - removed);
}

#[test]
fn a_transaction_that_frees_more_than_it_adds_may_use_the_reserve() {
    let storage = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    storage.follow(FaultPlan { at: 3, ..NO_ROOM });
    let rows = fill(&db, &mut SplitMix64::new(1), Durability::Immediate);
    let note = vec![7; 60_000];
    let purge = |reserve: bool| -> folio_store::Result<u64> {
        let mut txn = db.begin_write()?;
        if reserve {
            txn.use_reserve();
        }
        txn.table::<Progress>()?.insert((), note.as_slice())?;
        txn.table::<Rows>()?.remove_range(..rows / 2)?;
        txn.commit()
    };
    let refused = purge(false).unwrap_err();
    assert!(matches!(refused, Error::Full { .. }), "{refused}");
    purge(true).unwrap();
    sound(&db);
    assert!(fill(&db, &mut SplitMix64::new(2), Durability::Immediate) > rows);
}
