//! Power cuts that a story can be told about. Those at every call of a rich load, in every kind of subset, are in
//! `tests/attacks`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, sync::Arc};

use folio_store::{
    Database, Durability, Error, Group, Table,
    storage::{
        Change, DiskEvent, Fault, FaultPlan, FaultStorage, MemoryStorage, SimulatedDisk,
        SplitMix64, Storage, StorageCall, SubsetPlan,
    },
};

const LOG_GROUP: Group = Group::new(1);

struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = LOG_GROUP;
    type Key = u64;
    type Value = &'static [u8];
}

struct State;
impl Table for State {
    const NAME: &'static str = "state";
    type Key = &'static [u8];
    type Value = &'static [u8];
}

fn created(page_size: usize) -> MemoryStorage {
    let disk = Arc::new(SimulatedDisk::new());
    Database::builder()
        .page_size(page_size)
        .create_on(disk.clone())
        .unwrap()
        .kill();
    disk.crash(&mut |_| true)
}

fn open(image: MemoryStorage, cache: usize) -> folio_store::Result<Database> {
    Database::builder()
        .cache_size(cache)
        .open_on(Arc::new(image))
}

/// The number with which all rows were written last; they must all have the same.
fn generation(db: &Database) -> Option<u8> {
    let view = db.begin_read().unwrap();
    let table = view.table::<State>().unwrap();
    let mut values = table.iter().unwrap().map(|row| row.unwrap().1);
    let first = values.next()?;
    assert!(values.all(|value| value == first), "a mixture");
    Some(first[0])
}

#[test]
fn a_commit_that_lacks_one_of_its_writes_is_whole_without_it_or_not_there() {
    // With the smaller cache most pages are written before the flush that vouches for them.
    for cache in [4 << 20, 64 * 4096] {
        let disk = Arc::new(SimulatedDisk::recording(&created(4096)));
        let db = Database::builder()
            .cache_size(cache)
            .open_on(disk.clone())
            .unwrap();
        for generation in 1..=6u8 {
            // More pages than a slot can list.
            let txn = db.begin_write().unwrap();
            let mut table = txn.table::<State>().unwrap();
            for row in 0..850 {
                let key = format!("row {row}").into_bytes();
                table
                    .insert(key.as_slice(), [generation; 880].as_slice())
                    .unwrap();
            }
            drop(table);
            txn.commit().unwrap();
            disk.mark(generation.into()).unwrap();
        }
        let journal = disk.journal().unwrap();
        let mut replay = journal.replay();
        let (mut acknowledged, mut images, mut missed) = (None, 0, 0);
        while let Some(event) = replay.advance() {
            if let DiskEvent::Mark(mark) = event {
                acknowledged = Some(*mark as u8);
            }
            if journal.events().get(replay.position()) != Some(&DiskEvent::Sync) {
                continue;
            }
            let point = replay.crash_point();
            let writes: BTreeSet<u64> = point.pending().iter().map(|item| item.event).collect();
            for lacking in writes {
                let image = point.image_of(&mut |item| item.event != lacking);
                let db = open(image, 4 << 20).unwrap();
                let found = generation(&db);
                // Not every write is needed: a growth, a page given up again, the acknowledgement before.
                let in_flight = Some(acknowledged.map_or(1, |generation| generation + 1));
                assert!(
                    found == acknowledged || found == in_flight,
                    "cache {cache}, without {lacking}: {found:?}"
                );
                images += 1;
                missed += u32::from(found == acknowledged);
            }
        }
        assert!(images > 20 && missed > images / 2, "{missed} of {images}");
    }
}

#[test]
fn a_power_cut_during_creation_leaves_nothing_or_a_database() {
    let disk = Arc::new(SimulatedDisk::recording(&MemoryStorage::new()));
    Database::builder().create_on(disk.clone()).unwrap().kill();
    let journal = disk.journal().unwrap();
    let mut replay = journal.replay();
    let mut random = SplitMix64::new(5);
    let mut databases = 0;
    while let Some(event) = replay.advance() {
        let point = replay.crash_point();
        let plan = SubsetPlan {
            exhaustive_up_to: 4,
            singles: 40,
            random: 40,
            torn_prefixes: 40,
            torn_masks: 20,
        };
        for subset in plan.subsets(point.pending(), &mut random) {
            let image = point.image(&subset);
            let blank = image.len().unwrap() < 4096 || {
                let mut header = [0; 128];
                image.read_at(0, &mut header).unwrap();
                header == [0; 128]
            };
            match open(image, 1 << 20) {
                Ok(db) => {
                    let view = db.begin_read().unwrap();
                    assert!(view.tables().unwrap().is_empty());
                    databases += 1;
                }
                Err(error) => assert!(blank, "{event:?}: {error}"),
            }
        }
    }
    assert!(databases > 0);
}

/// A commit of one row of `T`.
fn set<T: Table<Key = u64, Value = &'static [u8]>>(
    db: &Database,
    key: u64,
    length: usize,
    durability: Durability,
) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    let value = vec![key as u8; length];
    txn.table::<T>()
        .unwrap()
        .insert(key, value.as_slice())
        .unwrap();
    txn.commit().unwrap();
}

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

#[test]
fn a_close_that_could_not_sync_is_not_taken_for_one_in_order() {
    let disk = Arc::new(SimulatedDisk::from_image(&created(4096)));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    set::<Rows>(&db, 1, 10, Durability::Immediate);
    set::<Log>(&db, 2, 10_000, Durability::Eventual);
    disk.fail_next_sync();
    db.close().unwrap_err();
    let db = Database::builder().open_on(disk.clone()).unwrap();
    set::<Rows>(&db, 3, 10, Durability::Immediate);
    db.kill();
    let db = open(disk.crash(&mut |_| false), 1 << 20).unwrap();
    let rows = db.begin_read().unwrap().table::<Rows>().unwrap().len();
    assert_eq!(rows.unwrap(), 2);
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_growth_that_did_not_land_takes_back_the_commit_in_flight_and_no_more() {
    let disk = Arc::new(SimulatedDisk::recording(&created(4096)));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    set::<Log>(&db, 1, 10, Durability::Immediate);
    // The file grows for rows that are not flushed.
    set::<Rows>(&db, 1, 400_000, Durability::Eventual);
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(Durability::Eventual);
    txn.table::<Rows>().unwrap().remove(1).unwrap();
    txn.commit().unwrap();
    set::<Log>(&db, 2, 10, Durability::Immediate);
    db.kill();
    let journal = disk.journal().unwrap();
    let mut replay = journal.replay();
    let mut grown = 0;
    while replay.advance().is_some() {
        let point = replay.crash_point();
        grown += u32::from(
            point
                .pending()
                .iter()
                .any(|item| matches!(item.change, Change::Grow { .. })),
        );
        let image = point.image_of(&mut |item| !matches!(item.change, Change::Grow { .. }));
        open(image, 1 << 20).unwrap_or_else(|error| panic!("at {}: {error}", replay.position()));
    }
    assert!(grown > 0);
}

#[test]
fn a_commit_torn_by_one_cut_does_not_come_back_with_the_next() {
    let disk = Arc::new(SimulatedDisk::recording(&created(4096)));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    let rows = |db: &Database| {
        let view = db.begin_read().unwrap();
        view.table::<Rows>().unwrap().len().unwrap()
    };
    // A slot with a long manifest, another, and over the first one a slot with a short manifest: many of its sectors are
    // the same in every slot with a short one.
    set::<Rows>(&db, 1, 600_000, Durability::Immediate);
    set::<Log>(&db, 1, 10, Durability::Immediate);
    set::<Rows>(&db, 2, 10, Durability::Immediate);
    db.kill();
    let journal = disk.journal().unwrap();
    let last_sync = journal
        .events()
        .iter()
        .rposition(|event| *event == DiskEvent::Sync)
        .unwrap();
    let point = journal.crash_point_at(last_sync);
    let mut torn = 0;
    for lost in 0..point.pending().len() {
        let mut index = 0..;
        let image = point.image_of(&mut |_| index.next() != Some(lost));
        let disk = Arc::new(SimulatedDisk::recording(&image));
        let db = Database::builder().open_on(disk.clone()).unwrap();
        let shown = rows(&db);
        torn += u32::from(shown == 1);
        set::<Log>(&db, 3, 10, Durability::Eventual);
        db.close().unwrap();
        let journal = disk.journal().unwrap();
        let mut replay = journal.replay();
        while let Some(event) = replay.advance() {
            let point = replay.crash_point();
            for landed in 0..point.pending().len() {
                let mut index = 0..;
                let image = point.image_of(&mut |_| index.next() == Some(landed));
                let again = rows(&open(image, 1 << 20).unwrap());
                assert_eq!(again, shown, "{lost} lost, {landed} landed at {event:?}");
            }
        }
    }
    assert!(torn > 0);
}

#[test]
fn a_ticket_writes_nothing_after_the_end_of_its_database() {
    let disk = Arc::new(SimulatedDisk::from_image(&created(4096)));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    set::<Rows>(&db, 1, 10, Durability::Immediate);
    let txn = db.begin_write().unwrap();
    txn.table::<Rows>()
        .unwrap()
        .insert(2, [1].as_slice())
        .unwrap();
    let ticket = txn.commit_with_ticket().unwrap();
    db.kill();
    let calls = disk.calls();
    assert!(matches!(ticket.wait().unwrap_err(), Error::Closed { .. }));
    assert_eq!(disk.calls(), calls);
}

#[test]
fn a_transaction_that_a_dead_process_left_open_does_not_even_grow_the_file() {
    let disk = Arc::new(SimulatedDisk::from_image(&created(4096)));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    let open = |key: u64, length: usize| {
        let txn = db.begin_write().unwrap();
        let value = vec![7; length];
        txn.table::<Rows>()
            .unwrap()
            .insert(key, value.as_slice())
            .unwrap();
        txn
    };
    open(1, 10).commit().unwrap();
    let txn = open(2, 200_000);
    db.clone().kill();
    let calls = disk.calls();
    let grown = txn
        .table::<Rows>()
        .and_then(|mut table| table.insert(3, vec![7; 200_000].as_slice()).map(drop));
    assert!(matches!(grown, Err(Error::Closed { .. })));
    txn.commit().unwrap_err();
    assert_eq!(disk.calls(), calls);
}

#[test]
fn a_creation_that_could_not_sync_its_header_is_not_taken_for_a_database() {
    let disk = Arc::new(SimulatedDisk::new());
    let storage = Arc::new(FaultStorage::over_disk(disk.clone()));
    storage.follow(FaultPlan {
        calls: &[StorageCall::Sync],
        at: 2,
        fault: Fault::InputOutput,
        lasting: false,
    });
    Database::builder().create_on(storage).unwrap_err();
    // The system still shows the header, and the disk does not have it.
    let error = Database::builder().open_on(disk).unwrap_err();
    assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
}
