//! Settings, and waiting for the one writer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use folio_store::{
    Database, Durability, Table,
    storage::{CountingStorage, MemoryStorage, Storage},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

fn insert(db: &Database, key: u64, length: usize) {
    let txn = db.begin_write().unwrap();
    let value = vec![1; length];
    txn.table::<Rows>()
        .unwrap()
        .insert(key, value.as_slice())
        .unwrap();
    txn.commit().unwrap();
}

#[test]
fn a_second_writer_waits_tries_or_waits_for_a_while() {
    let db = Database::in_memory().unwrap();
    let first = db.try_begin_write().unwrap().unwrap();
    assert!(db.try_begin_write().unwrap().is_none());
    let limit = Duration::from_millis(1);
    assert!(db.begin_write_within(limit).unwrap().is_none());
    let (begun, waits) = mpsc::channel();
    let second = {
        let db = db.clone();
        thread::spawn(move || {
            let txn = db.begin_write_within(Duration::MAX).unwrap().unwrap();
            begun.send(txn.number()).unwrap();
        })
    };
    assert!(waits.try_recv().is_err());
    let number = first.number();
    first.abort();
    assert!(waits.recv().unwrap() > number);
    second.join().unwrap();
    assert!(db.try_begin_write().unwrap().is_some());
}

#[test]
fn commits_of_a_database_opened_for_eventual_ones_make_no_call_unless_they_ask() {
    let storage = Arc::new(CountingStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder()
        .durability(Durability::Eventual)
        .create_on(storage.clone())
        .unwrap();
    insert(&db, 1, 10);
    let before = storage.counts().syncs;
    insert(&db, 2, 10);
    assert_eq!(storage.counts().syncs, before);
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(Durability::Immediate);
    txn.table::<Rows>()
        .unwrap()
        .insert(3, [3].as_slice())
        .unwrap();
    txn.commit().unwrap();
    assert!(storage.counts().syncs > before);
}

#[test]
fn the_file_grows_by_the_steps_that_were_asked_for() {
    let step = 40 * 4096;
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder()
        .growth(step, step)
        .create_on(storage.clone())
        .unwrap();
    let mut length = storage.len().unwrap();
    for key in 0..400 {
        insert(&db, key, 3_000);
        let now = storage.len().unwrap();
        assert!(
            [length, length + step].contains(&now),
            "from {length} to {now}"
        );
        length = now;
    }
    assert!(length > 10 * step);
}

#[test]
fn every_sync_of_a_commit_is_in_one_class_of_times() {
    let db = Database::in_memory().unwrap();
    for key in 0..10 {
        insert(&db, key, 10);
    }
    let statistics = db.statistics();
    assert!(statistics.syncs >= 10);
    assert_eq!(statistics.sync_times.iter().sum::<u64>(), statistics.syncs);
}
