//! Cursors beside a sorted list, and the rows nearest to a key.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use folio_store::{
    Database, Table,
    storage::{CountingStorage, MemoryStorage, SplitMix64},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u32;
    type Value = [u8; 40];
}

/// Every third number.
fn filled(db: &Database, count: u32) {
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    let mut loader = table.loader().unwrap();
    (0..count).for_each(|key| loader.push(key * 3, [key as u8; 40]).unwrap());
    loader.finish().unwrap();
    drop(table);
    txn.commit().unwrap();
}

#[test]
fn a_cursor_goes_where_an_index_into_a_sorted_list_would() {
    for count in [0, 1, 2, 70, 3_000] {
        for seed in 0..6 {
            let db = Database::in_memory().unwrap();
            filled(&db, count);
            let view = db.begin_read().unwrap();
            let table = view.table::<Rows>().unwrap();
            let mut cursor = table.cursor();
            let mut random = SplitMix64::new(seed);
            // The number of rows before the place.
            let mut place = 0u32;
            for _ in 0..2_000 {
                let context = format!("seed {seed}, {count} rows, place {place}");
                let key = match random.one_in(3) {
                    // Near the present one, where no page is needed.
                    true => (place * 3 + random.below(60) as u32).saturating_sub(30),
                    false => random.below(u64::from(count) * 3 + 10) as u32,
                };
                match random.below(12) {
                    0 => {
                        cursor.seek(key).unwrap();
                        place = key.div_ceil(3).min(count);
                    }
                    1 => {
                        cursor.seek_after(key).unwrap();
                        place = (key / 3 + 1).min(count);
                    }
                    2 if random.one_in(8) => {
                        cursor.seek_start();
                        place = 0;
                    }
                    3 if random.one_in(8) => {
                        cursor.seek_end();
                        place = count;
                    }
                    4..=7 => {
                        let expected = (place < count).then_some(place * 3);
                        let found = match random.one_in(2) {
                            true => cursor.next().unwrap().map(|row| row.0),
                            false => cursor
                                .next_stored()
                                .unwrap()
                                .map(|row| row.0.view().unwrap()),
                        };
                        assert_eq!(found, expected, "{context}");
                        place += u32::from(found.is_some());
                    }
                    _ => {
                        let expected = place.checked_sub(1).map(|before| before * 3);
                        let found = match random.one_in(2) {
                            true => cursor.prev().unwrap().map(|row| row.0),
                            false => cursor
                                .prev_stored()
                                .unwrap()
                                .map(|row| row.0.view().unwrap()),
                        };
                        assert_eq!(found, expected, "{context}");
                        place -= u32::from(found.is_some());
                    }
                }
            }
        }
    }
}

#[test]
fn the_rows_nearest_to_a_key_are_those_of_a_map() {
    let db = Database::in_memory().unwrap();
    filled(&db, 500);
    let view = db.begin_read().unwrap();
    let table = view.table::<Rows>().unwrap();
    let key = |row: Option<(u32, [u8; 40])>| row.map(|row| row.0);
    let all: Vec<u32> = (0..500).map(|key| key * 3).collect();
    for wanted in (0..1_510).chain([u32::MAX]) {
        let expect = |choose: &dyn Fn(&u32) -> bool| {
            all.iter()
                .copied()
                .filter(|key| choose(key))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            key(table.below(wanted).unwrap()),
            expect(&|key| *key < wanted).last().copied()
        );
        assert_eq!(
            key(table.at_or_below(wanted).unwrap()),
            expect(&|key| *key <= wanted).last().copied()
        );
        assert_eq!(
            key(table.above(wanted).unwrap()),
            expect(&|key| *key > wanted).first().copied()
        );
        assert_eq!(
            key(table.at_or_above(wanted).unwrap()),
            expect(&|key| *key >= wanted).first().copied()
        );
    }
}

#[test]
fn a_cursor_of_a_write_transaction_sees_its_own_writes() {
    let db = Database::in_memory().unwrap();
    filled(&db, 10);
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    table.insert(4, [9; 40]).unwrap();
    table.remove(6).unwrap();
    let mut cursor = table.cursor();
    cursor.seek(4).unwrap();
    assert_eq!(cursor.next().unwrap(), Some((4, [9; 40])));
    assert_eq!(cursor.next().unwrap().unwrap().0, 9);
}

#[test]
fn a_seek_reads_the_path_to_one_leaf_and_a_step_inside_it_reads_nothing() {
    let storage = Arc::new(CountingStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    filled(&db, 200_000);
    db.close().unwrap();
    let db = Database::builder().open_on(storage.clone()).unwrap();
    let view = db.begin_read().unwrap();
    let table = view.table::<Rows>().unwrap();
    let mut cursor = table.cursor();
    let mut reads = |act: &mut dyn FnMut(&mut folio_store::Cursor<'_, Rows>)| {
        let before = storage.counts();
        act(&mut cursor);
        storage.counts().since(&before).reads
    };
    assert!(reads(&mut |cursor| cursor.seek(300_000).unwrap()) <= 4);
    let steps = reads(&mut |cursor| {
        (0..10).for_each(|_| assert!(cursor.next().unwrap().is_some()));
        (0..10).for_each(|_| assert!(cursor.prev().unwrap().is_some()));
    });
    assert!(steps <= 1, "{steps}");
    let again = reads(&mut |cursor| (300_000..300_010).for_each(|key| cursor.seek(key).unwrap()));
    assert_eq!(again, 0);
    assert!(
        reads(&mut |cursor| cursor.seek(90).unwrap()) <= 3,
        "the root is in the cache"
    );
}
