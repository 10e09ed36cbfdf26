//! Loading sorted rows: what it fills, what it refuses, and what it leaves behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use folio_store::{Database, Error, Table, storage::SplitMix64};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = &'static [u8];
    type Value = &'static [u8];
}

struct Numbers;
impl Table for Numbers {
    const NAME: &'static str = "numbers";
    type Key = u64;
    type Value = u64;
}

#[test]
fn a_loader_fills_leaves_and_a_smaller_key_is_an_error_that_changes_nothing() {
    for (page_size, value_size) in [(4096, 8), (4096, 100), (16384, 300)] {
        let db = Database::builder()
            .page_size(page_size)
            .in_memory()
            .unwrap();
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Rows>().unwrap();
        let mut loader = table.loader().unwrap();
        for key in 0..20_000u64 {
            let value = vec![7; value_size];
            loader
                .push(key.to_be_bytes().as_slice(), value.as_slice())
                .unwrap();
            if key % 1_000 == 0 {
                for wrong in [key, key.saturating_sub(1)] {
                    let error = loader
                        .push(wrong.to_be_bytes().as_slice(), [].as_slice())
                        .unwrap_err();
                    assert!(matches!(error, Error::OutOfOrder { .. }), "{error}");
                }
            }
        }
        assert_eq!(loader.finish().unwrap(), 20_000);
        let statistics = table.statistics().unwrap();
        assert_eq!(statistics.rows, 20_000);
        assert!(statistics.fill() >= 0.95, "{statistics:?}");
        assert_eq!(table.first().unwrap().unwrap().0, 0u64.to_be_bytes());
        drop(table);
        txn.commit().unwrap();
        assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    }
}

#[test]
fn what_a_loader_leaves_free_in_a_leaf_is_less_than_the_next_row_takes() {
    // Bytes of a row beside its key and its value.
    const ROW: u64 = 10;
    const LEAVES: u64 = 200;
    for page_size in [4096, 16_384] {
        for value_size in [0, 1, 20, 64, 100, 150, 200, 256, 333, 400, 512, 700, 900] {
            let db = Database::builder()
                .page_size(page_size)
                .in_memory()
                .unwrap();
            let txn = db.begin_write().unwrap();
            let mut table = txn.table::<Rows>().unwrap();
            let mut random = SplitMix64::new(value_size);
            let mut keys: Vec<[u8; 24]> = (0..LEAVES * page_size as u64 / (value_size + 24))
                .map(|_| std::array::from_fn(|_| random.below(256) as u8))
                .collect();
            keys.sort_unstable();
            let value = vec![7; value_size as usize];
            let mut loader = table.loader().unwrap();
            for key in &keys {
                loader.push(key.as_slice(), value.as_slice()).unwrap();
            }
            loader.finish().unwrap();
            let statistics = table.statistics().unwrap();
            // Branches are filled likewise, with a key and a reference a row; the last page of a level may have one row.
            let pages = statistics.branch_pages + statistics.leaf_pages;
            let free = pages * page_size as u64 - statistics.tree_bytes;
            let longest = 24 + value_size.max(40) + ROW;
            let bound = pages * longest + statistics.depth * page_size as u64;
            assert!(free < bound, "value of {value_size}: {statistics:?}");
            if longest * 20 <= page_size as u64 {
                assert!(statistics.fill() >= 0.95, "{value_size}: {statistics:?}");
            }
        }
    }
}

#[test]
fn loading_a_little_again_and_again_fills_leaves_too() {
    let db = Database::in_memory().unwrap();
    for start in (0..10_000).step_by(10) {
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Numbers>().unwrap();
        let mut loader = table.loader().unwrap();
        (start..start + 10).for_each(|key| loader.push(key, key).unwrap());
        loader.finish().unwrap();
        drop(table);
        txn.commit().unwrap();
    }
    let view = db.begin_read().unwrap();
    let statistics = view.table::<Numbers>().unwrap().statistics().unwrap();
    assert_eq!(statistics.rows, 10_000);
    assert!(statistics.fill() >= 0.95, "{statistics:?}");
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_loader_that_is_leaked_loses_rows_and_no_pages() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    let mut loader = table.loader().unwrap();
    for key in 0..50u64 {
        let value = vec![7; if key == 30 { 50_000 } else { 10 }];
        loader
            .push(key.to_be_bytes().as_slice(), value.as_slice())
            .unwrap();
    }
    std::mem::forget(loader);
    assert_eq!(table.len().unwrap(), 31, "up to the long value");
    drop(table);
    txn.commit().unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}
