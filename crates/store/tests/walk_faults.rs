//! Every storage call of the walks that remove and of the loader fails once. What they could not tell at once, because
//! they were dropped, the commit tells: it publishes all of it or nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, io::Read, sync::Arc};

use folio_store::{
    Database, Result, Table, TableMut,
    storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, StorageCall},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

type Contents = BTreeMap<u64, Vec<u8>>;
type Change = fn(&mut TableMut<'_, Rows>) -> Result<()>;

const CALLS: &[StorageCall] = &[StorageCall::Read, StorageCall::Write, StorageCall::Grow];

/// Rows of many leaves, some with long values.
fn image() -> Vec<u8> {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    for key in 0..600 {
        let length = if key % 50 == 7 { 9_000 } else { 100 };
        table.insert(key, vec![1; length].as_slice()).unwrap();
    }
    drop(table);
    txn.commit().unwrap();
    db.close().unwrap();
    storage.to_bytes()
}

fn contents(image: &MemoryStorage) -> Contents {
    let copy = MemoryStorage::from_bytes(&image.to_bytes());
    let db = Database::builder().open_on(Arc::new(copy)).unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    let view = db.begin_read().unwrap();
    let table = view.table::<Rows>().unwrap();
    let rows = table.iter().unwrap();
    rows.collect::<Result<_>>().unwrap()
}

/// Changes a copy of the image; gives back what came of it, and how many calls were counted.
fn attempt(image: &[u8], at: u64, change: Change) -> (Result<()>, Contents, u64) {
    let disk = Arc::new(MemoryStorage::from_bytes(image));
    let storage = Arc::new(FaultStorage::new(disk.clone()));
    // So small a cache that pages are written early.
    let db = Database::builder()
        .cache_size(16 * 4096)
        .open_on(storage.clone())
        .unwrap();
    storage.follow(FaultPlan {
        calls: CALLS,
        at,
        fault: Fault::InputOutput,
        lasting: false,
    });
    let result = (|| {
        let txn = db.begin_write()?;
        let mut table = txn.table::<Rows>()?;
        change(&mut table)?;
        drop(table);
        txn.commit().map(drop)
    })();
    let counted = storage.counted();
    assert_eq!(
        result.is_err(),
        storage.failed() > 0,
        "call {at}: {result:?}"
    );
    db.kill();
    (result, contents(&disk), counted)
}

fn every_call_fails_once(change: Change) {
    let image = image();
    let before = contents(&MemoryStorage::from_bytes(&image));
    let (result, after, calls) = attempt(&image, u64::MAX, change);
    result.unwrap();
    assert_ne!(before, after);
    assert!(calls > 10, "{calls} calls");
    for at in 1..=calls {
        let (result, found, _) = attempt(&image, at, change);
        // A transaction that met its fault in the flush may be there as a whole.
        assert!(result.is_err(), "call {at}");
        assert!(found == before || found == after, "call {at}");
    }
}

#[test]
fn an_extraction_that_is_dropped_on_its_way() {
    every_call_fails_once(|table| {
        let rows = table.extract_if::<u64, _>(.., |key, _| key % 3 != 0)?;
        rows.take(300).try_for_each(|row| row.map(drop))
    });
}

#[test]
fn retaining_some_rows() {
    every_call_fails_once(|table| table.retain(|key, _| key % 4 == 0).map(drop));
}

#[test]
fn a_loader_that_is_dropped_without_an_end() {
    every_call_fails_once(|table| {
        let mut loader = table.loader()?;
        (600..3_000).try_for_each(|key| {
            let length = if key % 50 == 7 { 9_000 } else { 100 };
            loader.push(key, vec![2; length].as_slice())
        })
    });
}

#[test]
fn a_reserved_value_and_both_ends_of_the_table() {
    every_call_fails_once(|table| {
        for _ in 0..60 {
            table.pop_first()?;
            table.pop_last()?;
        }
        let mut source = std::io::repeat(3).take(200_000);
        table.insert_reserve(300, 200_000, |part| source.read_exact(part))?;
        Ok(())
    });
}
