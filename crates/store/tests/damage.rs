//! Damaged files: the outcome is the right data or an error that says what is damaged, never a panic and never a wrong
//! row.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, io::IoSlice, ops::ControlFlow, sync::Arc};

use folio_store::{
    BackupOptions, Database, Error, Table,
    storage::{DiskEvent, MemoryStorage, SimulatedDisk, SplitMix64, Storage},
};

const PAGE: u64 = 4096;
const FIXED_PAGES: u64 = 8;

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

type Contents = BTreeMap<u64, Vec<u8>>;

fn commit(db: &Database, start: u64) {
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    for key in 0..300u64 {
        let length = if key == 50 { 9_000 } else { key % 90 };
        table
            .insert(
                key * 5 + start,
                vec![(key + start) as u8; length as usize].as_slice(),
            )
            .unwrap();
    }
    drop(table);
    txn.commit().unwrap();
}

fn read(db: &Database) -> folio_store::Result<Contents> {
    let view = db.begin_read()?;
    view.table::<Rows>()?.iter()?.collect()
}

/// A file with some history, closed in order or left by a killed process.
fn file(closed: bool) -> (MemoryStorage, Contents) {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    (0..4).for_each(|start| commit(&db, start));
    let contents = read(&db).unwrap();
    if closed {
        db.close().unwrap();
    } else {
        db.kill();
    }
    (MemoryStorage::clone(&storage), contents)
}

fn open(image: MemoryStorage) -> folio_store::Result<Database> {
    Database::builder().open_on(Arc::new(image))
}

fn byte(image: &MemoryStorage, offset: u64) -> u8 {
    let mut byte = [0];
    image.read_at(offset, &mut byte).unwrap();
    byte[0]
}

fn put(image: &MemoryStorage, offset: u64, bytes: &[u8]) {
    image.write_at(offset, &[IoSlice::new(bytes)]).unwrap();
}

fn flipped(image: &MemoryStorage, bit: u64) -> MemoryStorage {
    let image = image.clone();
    put(&image, bit / 8, &[byte(&image, bit / 8) ^ (1 << (bit % 8))]);
    image
}

/// Opens a damaged image and reads everything in it; gives back what was told about the damage, if anything was.
fn examine(image: MemoryStorage, right: &Contents, context: &str) -> Option<Error> {
    let outcome = open(image).and_then(|db| read(&db));
    match outcome {
        Ok(found) => {
            assert!(found == *right, "{context}: wrong rows");
            None
        }
        Err(error) => {
            assert!(
                error.is_corruption() || matches!(error, Error::NewerFormat { .. }),
                "{context}: {error}"
            );
            assert!(
                error.to_string().starts_with("memory: "),
                "{context}: {error}"
            );
            Some(error)
        }
    }
}

#[test]
fn a_flipped_bit_in_the_fixed_pages_never_shows_older_or_wrong_rows() {
    for closed in [true, false] {
        let (image, right) = file(closed);
        // Every bit of the header and the acknowledgement, and a sample of the rest.
        let in_full =
            |bit: u64| bit < 128 * 8 || (5 * PAGE * 8..(5 * PAGE + 40) * 8).contains(&bit);
        for bit in (0..FIXED_PAGES * PAGE * 8).filter(|bit| bit % 61 == 0 || in_full(*bit)) {
            examine(
                flipped(&image, bit),
                &right,
                &format!("closed: {closed}, bit {bit}"),
            );
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_else_is_harmless_or_named() {
    let (image, right) = file(false);
    let bits = image.len().unwrap() * 8;
    let mut random = SplitMix64::new(21);
    let mut named = 0;
    for _ in 0..3_000 {
        let bit = FIXED_PAGES * PAGE * 8 + random.below(bits - FIXED_PAGES * PAGE * 8);
        if let Some(error) = examine(flipped(&image, bit), &right, &format!("bit {bit}")) {
            named += 1;
            let page = bit / 8 / PAGE;
            let text = error.to_string();
            assert!(
                text.contains(&format!("page {page}")),
                "bit {bit} in page {page}: {text}"
            );
        }
    }
    assert!(named > 300, "{named}");
}

#[test]
fn a_lost_acknowledged_commit_is_reported_and_can_be_accepted() {
    let (image, _) = file(false);
    let shared = Arc::new(image);
    let db = Database::builder().open_on(shared.clone()).unwrap();
    let before = read(&db).unwrap();
    let txn = db.begin_write().unwrap();
    txn.table::<Rows>()
        .unwrap()
        .insert(7_777, b"acknowledged".as_slice())
        .unwrap();
    txn.commit().unwrap();
    db.kill();
    // One of the two slots holds the newest commit; the older one has a twin.
    let damaged = [1, 3].map(|page| flipped(&shared, (page * PAGE + 40) * 8));
    let refused: Vec<_> = damaged
        .iter()
        .filter(|image| open(MemoryStorage::clone(image)).is_err())
        .collect();
    let [lossy] = refused[..] else {
        panic!("{} of two damaged slots are missed", refused.len())
    };
    let error = open(lossy.clone()).unwrap_err();
    assert!(matches!(error, Error::LostCommit { .. }), "{error}");

    let lossy = Arc::new(lossy.clone());
    let db = Database::builder()
        .accept_loss(true)
        .open_on(lossy.clone())
        .unwrap();
    assert_eq!(read(&db).unwrap(), before);
    commit(&db, 3);
    db.create_savepoint("rewrites the header").unwrap();
    db.kill();
    let db = Database::builder().open_on(lossy).unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);

    // From then on the file itself says so, and each of its copies.
    assert!(db.losses().accepted);
    for copy in copies(&db) {
        assert!(copy.losses().accepted);
        assert!(!copy.losses().salvaged);
    }
}

/// An exact and a compacted copy.
fn copies(db: &Database) -> Vec<Database> {
    let options = [BackupOptions::new(), BackupOptions::new().compacted()];
    let copy = |options: BackupOptions| {
        let mut bytes = Vec::new();
        db.backup(options, &mut bytes, |_, _| ControlFlow::Continue(()))
            .unwrap();
        let image = MemoryStorage::new();
        image.grow(0, bytes.len() as u64).unwrap();
        put(&image, 0, &bytes);
        open(image).unwrap()
    };
    options.into_iter().map(copy).collect()
}

#[test]
fn a_salvaged_file_says_that_it_is_one() {
    let (image, right) = file(true);
    let target = Database::in_memory().unwrap();
    assert!(!open(image.clone()).unwrap().losses().salvaged);
    folio_store::salvage_storage(Arc::new(image), &target, |_, _, _| {}).unwrap();
    assert!(target.losses().salvaged);
    assert_eq!(read(&target).unwrap(), right);
}

#[test]
fn without_the_acknowledgement_a_damaged_slot_is_not_passed_over_in_silence() {
    let (image, right) = file(false);
    put(&image, 5 * PAGE, &[0xAA; 512]);
    for slot in [1, 3] {
        let damaged = flipped(&image, (slot * PAGE + 40) * 8);
        let error = open(damaged.clone()).unwrap_err();
        assert!(matches!(error, Error::DoubtfulCommit { .. }), "{error}");
        let accepting = Database::builder().accept_loss(true);
        let db = accepting.open_on(Arc::new(damaged)).unwrap();
        assert!(read(&db).unwrap().len() <= right.len());
        assert!(db.losses().accepted);
    }
}

#[test]
fn a_damaged_acknowledgement_alone_costs_nothing() {
    let (image, right) = file(false);
    put(&image, 5 * PAGE, &[0xAA; 512]);
    assert!(examine(image, &right, "acknowledgement").is_none());
}

#[test]
fn a_file_cut_anywhere_is_refused_or_whole() {
    let (image, right) = file(true);
    let length = image.len().unwrap();
    let cuts = (0..length / PAGE).map(|page| page * PAGE).chain([
        1,
        100,
        127,
        128,
        4_095,
        4_097,
        length - 1,
    ]);
    for cut in cuts {
        let image = image.clone();
        image.truncate(cut).unwrap();
        examine(image, &right, &format!("cut to {cut}"));
    }
}

#[test]
fn swapped_stale_and_foreign_pages_are_noticed() {
    let (image, right) = file(false);
    let (foreign, _) = file(false);
    let page = |image: &MemoryStorage, number: u64| {
        let mut bytes = vec![0; PAGE as usize];
        image.read_at(number * PAGE, &mut bytes).unwrap();
        bytes
    };
    let pages = image.len().unwrap() / PAGE;
    let older = {
        let shared = Arc::new(image.clone());
        let db = Database::builder().open_on(shared.clone()).unwrap();
        (0..4).for_each(|start| commit(&db, start));
        db.kill();
        MemoryStorage::clone(&shared)
    };
    let mut noticed = 0;
    for number in FIXED_PAGES..pages {
        let other = FIXED_PAGES + (number + 1 - FIXED_PAGES) % (pages - FIXED_PAGES);
        for (name, bytes) in [
            ("swapped", page(&image, other)),
            ("foreign", page(&foreign, number)),
            ("stale", page(&older, number)),
        ] {
            if bytes == page(&image, number) {
                continue;
            }
            let damaged = image.clone();
            put(&damaged, number * PAGE, &bytes);
            noticed +=
                u64::from(examine(damaged, &right, &format!("{name} page {number}")).is_some());
        }
    }
    assert!(noticed > 30, "{noticed}");
}

#[test]
fn verify_names_every_damaged_page() {
    let (image, _) = file(true);
    let sound = open(image.clone()).unwrap().verify(|_, _| {}).unwrap();
    assert_eq!(sound.problems, []);
    assert!(sound.rows > 1_000 && sound.pages > 20);
    let mut found = 0;
    for number in FIXED_PAGES..image.len().unwrap() / PAGE {
        let damaged = flipped(&image, (number * PAGE + 2_000) * 8);
        let Ok(db) = open(damaged) else { continue };
        let report = db.verify(|_, _| {}).unwrap();
        if !report.problems.is_empty() {
            assert_eq!(report.problems[0].page, Some(number));
            found += 1;
        }
    }
    assert!(found >= 20, "{found} pages of {}", sound.pages);
}

#[test]
fn files_of_other_kinds_are_refused_by_name() {
    for bytes in [
        vec![],
        vec![0; 100],
        vec![0; 10_000],
        b"SQLite format 3\0".repeat(1_000),
    ] {
        let error = open(MemoryStorage::from_bytes(&bytes)).unwrap_err();
        assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
    }
}

#[test]
fn a_database_that_lost_its_header_is_not_created_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("header.folio");
    let db = Database::create(&path).unwrap();
    commit(&db, 0);
    db.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..512].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let error = Database::builder().open_or_create(&path).unwrap_err();
    assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
    assert!(std::fs::read(&path).unwrap() == bytes);
}

/// A commit so large that two of them from one state meet on many pages.
fn fill(db: &Database, value: u8) {
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    for key in 0..6_000 {
        table.insert(key, [value; 100].as_slice()).unwrap();
    }
    drop(table);
    txn.commit().unwrap();
}

#[test]
fn a_page_of_a_torn_commit_never_passes_for_one_of_its_successor() {
    let (image, _) = file(false);
    let disk = Arc::new(SimulatedDisk::recording(&image));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    // The second is the one that is torn: the first also raises the ceiling of the transaction numbers.
    commit(&db, 7);
    fill(&db, 1);
    db.kill();
    let journal = disk.journal().unwrap();
    let is_sync = |event: &DiskEvent| *event == DiskEvent::Sync;
    let synced = journal.events().iter().rposition(is_sync).unwrap();
    let point = journal.crash_point_at(synced);
    let slot = point.pending().last().unwrap().event;
    let torn = point.image_of(&mut |item| item.event != slot);

    let later = Arc::new(torn.clone());
    let db = Database::builder().open_on(later.clone()).unwrap();
    fill(&db, 2);
    // Another one, so that no manifest vouches for the pages.
    let txn = db.begin_write().unwrap();
    txn.table::<Rows>().unwrap().remove(1).unwrap();
    txn.commit().unwrap();
    let right = read(&db).unwrap();
    db.kill();
    let mut noticed = 0;
    for number in FIXED_PAGES..torn.len().unwrap() / PAGE {
        let mut stale = [0; PAGE as usize];
        torn.read_at(number * PAGE, &mut stale).unwrap();
        let damaged = MemoryStorage::clone(&later);
        // As if the later write of this page had been lost.
        put(&damaged, number * PAGE, &stale);
        let outcome = examine(damaged, &right, &format!("page {number}"));
        noticed += u64::from(outcome.is_some());
    }
    assert!(noticed > 0);
}
