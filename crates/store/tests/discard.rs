//! Emptying a group whose pages cannot be read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{io::IoSlice, sync::Arc};

use folio_store::{
    Database, Group, Table,
    storage::{MemoryStorage, Storage},
};

const PAGE: u64 = 4096;
const FIXED_PAGES: u64 = 8;

struct State;
impl Table for State {
    const NAME: &'static str = "state";
    type Key = u64;
    type Value = &'static [u8];
}

struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(1);
    type Key = u64;
    type Value = u64;
}

fn fill(db: &Database) {
    let txn = db.begin_write().unwrap();
    let mut state = txn.table::<State>().unwrap();
    let mut log = txn.table::<Log>().unwrap();
    for key in 0..400u64 {
        // Some values have pages of their own.
        let length = if key % 50 == 7 { 9_000 } else { 60 };
        state
            .insert(key, vec![key as u8; length].as_slice())
            .unwrap();
        log.insert(key, key).unwrap();
    }
    drop((state, log));
    txn.commit().unwrap();
}

fn sample() -> MemoryStorage {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    fill(&db);
    db.close().unwrap();
    MemoryStorage::clone(&storage)
}

fn open(image: &MemoryStorage) -> Database {
    Database::builder()
        .open_on(Arc::new(image.clone()))
        .unwrap()
}

fn discard(db: &Database) -> folio_store::Result<u64> {
    let txn = db.begin_write()?;
    let pages = txn.discard_group(Group::DEFAULT)?;
    txn.commit()?;
    Ok(pages)
}

fn spoil(image: &MemoryStorage, page: u64) {
    image
        .write_at(page * PAGE + 100, &[IoSlice::new(&[0xA5; 32])])
        .unwrap();
}

fn log_of(db: &Database) -> Vec<(u64, u64)> {
    let view = db.begin_read().unwrap();
    view.table::<Log>()
        .unwrap()
        .iter()
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// Which tables a damaged page makes unreadable; of a catalog and the free-space map no table is named.
fn damage_of(image: &MemoryStorage) -> Vec<(Option<String>, String)> {
    let report = open(image).verify(|_, _| {}).unwrap();
    let problems = report.problems.into_iter();
    problems
        .map(|problem| (problem.table, problem.fault))
        .collect()
}

/// The images in which one page of a table, or of the catalog that it is in, is damaged.
fn with_a_page_spoilt<'a>(
    sound: &'a MemoryStorage,
    table: &'a str,
    catalog: &'a str,
) -> impl Iterator<Item = (u64, MemoryStorage)> + 'a {
    (FIXED_PAGES..sound.len().unwrap() / PAGE).filter_map(move |page| {
        let image = sound.clone();
        spoil(&image, page);
        let damaged = damage_of(&image)
            .iter()
            .any(|(name, fault)| name.as_deref() == Some(table) || fault.starts_with(catalog));
        damaged.then_some((page, image))
    })
}

#[test]
fn a_group_is_emptied_whichever_of_its_pages_is_damaged_and_the_others_keep_their_rows() {
    let sound = sample();
    let rows = log_of(&open(&sound));
    let mut discarded = 0;
    for (page, image) in with_a_page_spoilt(&sound, "state", "catalog of group 0") {
        let db = open(&image);
        let freed = discard(&db).unwrap();
        assert!(freed > 30, "page {page}: {freed}");
        assert_eq!(log_of(&db), rows);
        let published = db.published_transaction();
        assert_eq!(db.durable_transaction(Group::DEFAULT), published);
        let report = db.verify(|_, _| {}).unwrap();
        assert_eq!(report.problems, [], "page {page}");
        assert!(db.statistics().free_pages >= freed, "page {page}");
        fill(&db);
        assert_eq!(db.verify(|_, _| {}).unwrap().problems, [], "page {page}");
        db.close().unwrap();
        discarded += 1;
    }
    assert!(discarded > 30, "{discarded} pages belong to the group");
}

#[test]
fn nothing_is_discarded_if_damage_elsewhere_hides_what_is_in_use() {
    let sound = sample();
    let mut refused = 0;
    for (_, image) in with_a_page_spoilt(&sound, "log", "catalog of group 1") {
        let db = open(&image);
        let refusal = discard(&db).unwrap_err();
        assert!(refusal.is_corruption(), "{refusal}");
        let view = db.begin_read().unwrap();
        assert_eq!(view.table::<State>().unwrap().len().unwrap(), 400);
        refused += 1;
    }
    assert!(refused > 3, "{refused} pages belong to the other group");
}

#[test]
fn what_a_savepoint_or_a_view_needs_stays() {
    let db = Database::in_memory().unwrap();
    fill(&db);
    db.create_savepoint("before").unwrap();
    let txn = db.begin_write().unwrap();
    txn.table::<State>()
        .unwrap()
        .insert(1, b"later".as_slice())
        .unwrap();
    txn.commit().unwrap();
    let view = db.begin_read().unwrap();
    discard(&db).unwrap();
    fill(&db);
    assert_eq!(
        view.table::<State>().unwrap().get(1).unwrap().as_deref(),
        Some(b"later".as_slice())
    );
    drop(view);
    db.restore_savepoint("before").unwrap();
    let view = db.begin_read().unwrap();
    assert_eq!(view.table::<State>().unwrap().len().unwrap(), 400);
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_group_is_discarded_and_filled_anew_in_one_transaction_or_not_at_all() {
    let db = Database::in_memory().unwrap();
    fill(&db);
    let txn = db.begin_write().unwrap();
    txn.discard_group(Group::DEFAULT).unwrap();
    txn.table::<State>()
        .unwrap()
        .insert(7, b"new".as_slice())
        .unwrap();
    txn.abort();
    let rows = |db: &Database| {
        let view = db.begin_read().unwrap();
        view.table::<State>().unwrap().len().unwrap()
    };
    assert_eq!(rows(&db), 400);
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);

    let txn = db.begin_write().unwrap();
    txn.discard_group(Group::DEFAULT).unwrap();
    txn.table::<State>()
        .unwrap()
        .insert(7, b"new".as_slice())
        .unwrap();
    txn.commit().unwrap();
    assert_eq!((rows(&db), log_of(&db).len()), (1, 400));
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_group_is_not_discarded_in_the_middle_of_a_transaction() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    txn.table::<Log>().unwrap().insert(1, 1).unwrap();
    let refused = txn.discard_group(Group::DEFAULT).unwrap_err();
    assert!(
        refused.to_string().contains("before anything else"),
        "{refused}"
    );
    txn.commit().unwrap();
    assert_eq!(log_of(&db), [(1, 1)]);
}
