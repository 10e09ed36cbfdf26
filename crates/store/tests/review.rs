//! Scratch.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Arc};

use folio_store::{
    Database, Durability, Error, Group, Table, TableDefinition,
    storage::{
        Change, DiskEvent, Fault, FaultPlan, FaultStorage, MemoryStorage, SimulatedDisk,
        SplitMix64, Storage, StorageCall,
    },
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(1);
    type Key = u64;
    type Value = &'static [u8];
}

type Contents = BTreeMap<u64, Vec<u8>>;

fn read(db: &Database) -> folio_store::Result<Contents> {
    let view = db.begin_read()?;
    view.table::<Rows>()?.iter()?.collect()
}

fn set<T: Table<Key = u64, Value = &'static [u8]>>(
    db: &Database,
    key: u64,
    length: usize,
    durability: Durability,
) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    txn.table::<T>()
        .unwrap()
        .insert(key, vec![key as u8; length].as_slice())
        .unwrap();
    txn.commit().unwrap();
}

fn created() -> MemoryStorage {
    let disk = Arc::new(SimulatedDisk::new());
    Database::builder().create_on(disk.clone()).unwrap().kill();
    disk.crash(&mut |_| true)
}

fn open(image: MemoryStorage) -> folio_store::Result<Database> {
    Database::builder().open_on(Arc::new(image))
}

#[test]
fn a_close_that_could_not_sync_is_not_taken_for_one_in_order() {
    let disk = Arc::new(SimulatedDisk::from_image(&created()));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    set::<Rows>(&db, 1, 10, Durability::Immediate);
    set::<Log>(&db, 2, 10_000, Durability::Eventual);
    disk.fail_next_sync();
    db.close().unwrap_err();
    let db = Database::builder().open_on(disk.clone()).unwrap();
    set::<Rows>(&db, 3, 10, Durability::Immediate);
    db.kill();
    let db = open(disk.crash(&mut |_| false)).unwrap();
    let found = read(&db).unwrap();
    assert!(found.contains_key(&1) && found.contains_key(&3));
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_growth_that_did_not_land_takes_back_the_commit_in_flight_and_no_more() {
    let disk = Arc::new(SimulatedDisk::recording(&created()));
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
        open(image).unwrap_or_else(|error| panic!("at {}: {error}", replay.position()));
    }
    assert!(grown > 0);
}

#[test]
fn a_page_that_cannot_be_read_while_opening_does_not_bring_back_an_older_commit() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    (0..5).for_each(|key| set::<Rows>(&db, key, 100, Durability::Immediate));
    let right = read(&db).unwrap();
    db.kill();
    // After a power cut the acknowledgement may be behind.
    storage
        .write_at(5 * 4096, &[std::io::IoSlice::new(&[0; 512])])
        .unwrap();
    let mut failures = 0;
    for at in 1..100 {
        let faulty = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::clone(&storage))));
        faulty.follow(FaultPlan {
            calls: &[StorageCall::Read],
            at,
            fault: Fault::InputOutput,
            lasting: false,
        });
        match Database::builder().open_on(faulty.clone()) {
            Ok(db) => {
                if faulty.failed() == 0 {
                    break;
                }
                assert_eq!(read(&db).unwrap(), right, "read {at}");
            }
            Err(error) => {
                assert!(matches!(error, Error::Io { .. }), "read {at}: {error}");
                failures += 1;
            }
        }
    }
    assert!(failures > 5, "{failures}");
}

#[test]
fn a_database_with_a_lost_header_is_not_created_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("header.folio");
    let db = Database::create(&path).unwrap();
    set::<Rows>(&db, 1, 10, Durability::Immediate);
    db.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..512].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let error = Database::builder().open_or_create(&path).unwrap_err();
    assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
    assert!(std::fs::read(&path).unwrap() == bytes);
}

#[test]
fn a_table_that_replaces_itself_keeps_its_rows() {
    let db = Database::in_memory().unwrap();
    set::<Rows>(&db, 1, 10, Durability::Immediate);
    let txn = db.begin_write().unwrap();
    let table = TableDefinition::of::<Rows>();
    txn.replace_table(&table, &table).unwrap();
    txn.commit().unwrap();
    assert_eq!(read(&db).unwrap().len(), 1);
}

#[test]
fn a_ticket_writes_nothing_after_the_end_of_its_database() {
    let disk = Arc::new(SimulatedDisk::from_image(&created()));
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

/// Gives a page its right checksum.
fn seal(image: &mut [u8], page: usize) {
    let seed = crc32fast::hash(&image[48..64]);
    let bytes = &mut image[page * 4096..(page + 1) * 4096];
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&bytes[4..]);
    let checksum = hasher.finalize();
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// A file whose last commit changed nothing, so that no manifest vouches for its pages.
fn sound() -> Vec<u8> {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    for start in 0..3u64 {
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Rows>().unwrap();
        for key in 0..400u64 {
            let length = if key % 97 == 50 { 9_000 } else { key % 90 };
            table
                .insert(key * 3 + start, vec![1; length as usize].as_slice())
                .unwrap();
        }
        drop(table);
        txn.commit().unwrap();
    }
    db.close().unwrap();
    storage.to_bytes()
}

#[test]
fn crafted_pages_with_right_checksums_never_panic() {
    let sound = sound();
    let pages = sound.len() / 4096;
    let live: Vec<usize> = (8..pages)
        .filter(|page| sound[page * 4096 + 4] != 0)
        .collect();
    let mut random = SplitMix64::new(99);
    for round in 0..3_000 {
        let mut image = sound.clone();
        for _ in 0..1 + random.below(2) {
            let page = live[random.below(live.len() as u64) as usize];
            let kind = image[page * 4096 + 4];
            for _ in 0..1 + random.below(4) {
                let at = match random.below(4) {
                    0 => 24 + random.below(32),
                    1 => 40 + random.below(200),
                    _ => 24 + random.below(4072),
                } as usize;
                let byte = match random.below(4) {
                    0 => 0,
                    1 => 0xFF,
                    2 => image[page * 4096 + at] ^ (1 << random.below(8)),
                    _ => random.next_u64() as u8,
                };
                image[page * 4096 + at] = byte;
            }
            let _ = kind;
            seal(&mut image, page);
        }
        let seed = random.next_u64();
        let outcome = std::panic::catch_unwind(|| use_everything(&image, seed));
        assert!(outcome.is_ok(), "round {round}");
    }
}

/// Reads and changes whatever can be; errors are fine.
fn use_everything(image: &[u8], seed: u64) {
    let mut random = SplitMix64::new(seed);
    let Ok(db) = open(MemoryStorage::from_bytes(image)) else {
        return;
    };
    let _ = read(&db);
    let _ = db.verify(|_, _| {});
    for _ in 0..4 {
        let _ = (|| {
            let txn = db.begin_write()?;
            let mut table = txn.table::<Rows>()?;
            for _ in 0..40 {
                let key = random.below(1_300);
                match random.below(8) {
                    0..=3 => {
                        let length = random.below(1_500) as usize;
                        table.insert(key, vec![2; length].as_slice())?;
                    }
                    4..=6 => {
                        table.remove(key)?;
                    }
                    _ => {
                        table.remove_range(key..key + random.below(200))?;
                    }
                }
            }
            drop(table);
            txn.commit()
        })();
    }
    let _ = db.begin_write().and_then(|txn| {
        txn.delete_table(&TableDefinition::of::<Rows>())?;
        txn.commit()
    });
}

#[test]
fn a_long_value_that_leads_back_to_itself_is_refused() {
    let mut image = sound();
    let page = (8..image.len() / 4096)
        .find(|page| image[page * 4096 + 4] == 3 && image[page * 4096 + 48] == 3)
        .unwrap();
    // The extent goes on with itself, and the leaf promises 4 GiB.
    let own: Vec<u8> = image[page * 4096 + 8..page * 4096 + 24].to_vec();
    image[page * 4096 + 32..page * 4096 + 48].copy_from_slice(&own);
    seal(&mut image, page);
    let reference = [&own[..], &9_000u32.to_le_bytes()[..]].concat();
    for leaf in 8..image.len() / 4096 {
        let start = leaf * 4096;
        let found = image[start..start + 4096]
            .windows(20)
            .position(|window| window == reference);
        if image[start + 4] == 1
            && let Some(at) = found
        {
            image[start + at + 16..start + at + 20].copy_from_slice(&u32::MAX.to_le_bytes());
            seal(&mut image, leaf);
        }
    }
    let db = open(MemoryStorage::from_bytes(&image)).unwrap();
    let error = read(&db).unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}

#[test]
fn unused_events() {
    let _ = DiskEvent::Sync;
}
