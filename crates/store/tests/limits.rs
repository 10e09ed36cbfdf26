//! The documented bounds, each at the limit and one past it, and the errors of misuse.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use folio_store::{
    Database, Error, Postcard, Table,
    storage::{CountingStorage, MemoryStorage},
};

struct Bytes;
impl Table for Bytes {
    const NAME: &'static str = "bytes";
    type Key = &'static [u8];
    type Value = &'static [u8];
}

#[test]
fn the_longest_key_works_at_every_page_size_and_one_more_byte_is_refused() {
    for page_size in [4096, 8192, 16384, 32768, 65536] {
        let db = Database::builder()
            .page_size(page_size)
            .in_memory()
            .unwrap();
        let limit = page_size / 4 - 64;
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Bytes>().unwrap();
        for last in 0..40 {
            let mut key = vec![0xFF; limit];
            // Differences at the first and at the last byte: separators short and long.
            key[if last % 2 == 0 { 0 } else { limit - 1 }] = last;
            table.insert(key.as_slice(), [1].as_slice()).unwrap();
            assert!(table.get(key.as_slice()).unwrap().is_some());
        }
        let error = table
            .insert(vec![0; limit + 1].as_slice(), [].as_slice())
            .unwrap_err();
        assert!(
            matches!(error, Error::KeyTooLong { limit: found, .. } if found == limit),
            "{error}"
        );
        drop(table);
        txn.commit().unwrap();
        assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    }
}

#[test]
fn values_of_every_length_around_a_page_read_back() {
    for page_size in [4096, 65536] {
        let db = Database::builder()
            .page_size(page_size)
            .in_memory()
            .unwrap();
        let around = |middle: usize| middle.saturating_sub(70)..middle + 70;
        let lengths: Vec<usize> = around(0)
            .chain(around(page_size / 4))
            .chain(around(page_size))
            .chain(around(2 * page_size))
            .collect();
        for &length in &lengths {
            let value: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let txn = db.begin_write().unwrap();
            let mut table = txn.table::<Bytes>().unwrap();
            table.clear().unwrap();
            table.insert(b"key".as_slice(), value.as_slice()).unwrap();
            assert_eq!(
                table.get(b"key".as_slice()).unwrap().as_ref(),
                Some(&value),
                "{length}"
            );
            drop(table);
            txn.commit().unwrap();
            let view = db.begin_read().unwrap();
            assert_eq!(
                view.table::<Bytes>()
                    .unwrap()
                    .get(b"key".as_slice())
                    .unwrap(),
                Some(value),
                "{length}"
            );
        }
        assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    }
}

#[test]
fn a_value_of_many_megabytes_is_stored_through_a_small_cache() {
    let db = Database::builder()
        .cache_size(256 * 1024)
        .in_memory()
        .unwrap();
    let value: Vec<u8> = (0..20_000_000u32)
        .map(|index| (index % 251) as u8)
        .collect();
    let txn = db.begin_write().unwrap();
    txn.table::<Bytes>()
        .unwrap()
        .insert(b"large".as_slice(), value.as_slice())
        .unwrap();
    txn.commit().unwrap();
    let view = db.begin_read().unwrap();
    assert!(
        view.table::<Bytes>()
            .unwrap()
            .get(b"large".as_slice())
            .unwrap()
            == Some(value)
    );
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn views_tickets_and_savepoints_are_as_many_as_a_program_keeps() {
    const MANY: u64 = 1_000;
    let db = Database::in_memory().unwrap();
    let (mut views, mut tickets) = (Vec::new(), Vec::new());
    for number in 0..MANY {
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Bytes>().unwrap();
        table
            .insert(number.to_be_bytes().as_slice(), b"row".as_slice())
            .unwrap();
        drop(table);
        tickets.push(txn.commit_with_ticket().unwrap());
        views.push(db.begin_read().unwrap());
    }
    assert_eq!(db.statistics().readers, MANY);
    for (number, view) in views.iter().enumerate() {
        let rows = view.table::<Bytes>().unwrap().len().unwrap();
        assert_eq!(rows, number as u64 + 1);
    }
    tickets.iter().for_each(|ticket| ticket.wait().unwrap());
    assert!(tickets.iter().all(folio_store::Ticket::is_durable));
    drop(views);

    let mut txn = db.begin_write().unwrap();
    let mut savepoints = Vec::new();
    for number in 0..MANY {
        savepoints.push(txn.savepoint().unwrap());
        let mut table = txn.table::<Bytes>().unwrap();
        table.remove(number.to_be_bytes().as_slice()).unwrap();
    }
    for (number, savepoint) in savepoints.iter().enumerate().rev() {
        txn.rollback_to(savepoint).unwrap();
        let rows = txn.table::<Bytes>().unwrap().len().unwrap();
        assert_eq!(rows, MANY - number as u64);
    }
    txn.commit().unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_database_of_very_many_tables_lists_and_reopens_them() {
    const MANY: u32 = 20_000;
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let named = |number: u32| {
        let name = format!("table {number:05}");
        folio_store::TableDefinition::of::<Bytes>().renamed(name)
    };
    for number in 0..MANY {
        let mut table = txn.untyped(&named(number)).unwrap();
        table
            .insert(b"number".as_slice(), number.to_be_bytes().as_slice())
            .unwrap();
    }
    txn.commit().unwrap();
    let view = db.begin_read().unwrap();
    let tables = view.tables().unwrap();
    assert_eq!(tables.len(), MANY as usize);
    for (number, definition) in (0..).zip(&tables) {
        assert_eq!(*definition, named(number));
        let table = view.untyped(definition).unwrap();
        let found = table.get(b"number".as_slice()).unwrap();
        assert_eq!(found, Some(number.to_be_bytes().to_vec()));
    }
}

#[test]
fn the_smallest_cache_that_can_be_asked_for_works() {
    for page_size in [4096, 65_536] {
        let db = Database::builder()
            .page_size(page_size)
            .cache_size(0)
            .in_memory()
            .unwrap();
        let value = vec![7; 3 * page_size];
        for round in 0..3u32 {
            let txn = db.begin_write().unwrap();
            let mut table = txn.table::<Bytes>().unwrap();
            for key in 0..300u32 {
                let key = (key * 3 + round).to_be_bytes();
                table.insert(key.as_slice(), value.as_slice()).unwrap();
            }
            drop(table);
            txn.commit().unwrap();
        }
        let view = db.begin_read().unwrap();
        let table = view.table::<Bytes>().unwrap();
        assert_eq!(table.len().unwrap(), 900);
        assert!(table.iter().unwrap().all(|row| row.unwrap().1 == value));
        let statistics = db.statistics();
        assert!(
            statistics.cached_pages <= statistics.cache_limit,
            "{statistics:?}"
        );
        assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    }
}

#[test]
fn there_are_sixteen_groups_and_not_one_more() {
    let last = folio_store::Group::COUNT as u8 - 1;
    assert_eq!(last, 15);
    assert!(folio_store::Group::from_index(last).is_some());
    assert_eq!(folio_store::Group::from_index(last + 1), None);
    assert!(catch_unwind(|| folio_store::Group::new(16)).is_err());
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    for group in folio_store::GroupSet::ALL {
        let definition = folio_store::TableDefinition {
            group,
            ..folio_store::TableDefinition::of::<Bytes>().renamed(format!("in {group}"))
        };
        let mut table = txn.untyped(&definition).unwrap();
        table.insert(b"a".as_slice(), b"b".as_slice()).unwrap();
    }
    txn.commit().unwrap();
    assert_eq!(db.begin_read().unwrap().tables().unwrap().len(), 16);
}

#[test]
fn a_tuple_of_eight_is_a_key() {
    struct Eight;
    impl Table for Eight {
        const NAME: &'static str = "eight";
        type Key = (u8, u8, u8, u8, u8, u8, u8, &'static str);
        type Value = ();
    }
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Eight>().unwrap();
    table.insert((1, 2, 3, 4, 5, 6, 7, "8"), ()).unwrap();
    let row = table.prefix((1, 2, 3, 4, 5, 6, 7)).unwrap().next();
    assert_eq!(row.unwrap().unwrap().0.7, "8");
}

#[test]
fn a_value_of_4_gib_is_refused_before_anything_of_it_is_asked_for() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Bytes>().unwrap();
    let error = table
        .insert_reserve(b"key".as_slice(), u32::MAX as usize + 1, |_| {
            panic!("there is nothing to fill")
        })
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::ValueTooLong {
                length: 0x1_0000_0000,
                limit: 0xFFFF_FFFF,
                ..
            }
        ),
        "{error}"
    );
    table
        .insert(b"key".as_slice(), b"value".as_slice())
        .unwrap();
    drop(table);
    txn.commit().unwrap();
}

#[test]
fn a_loader_and_a_tuple_have_the_limit_of_keys() {
    struct Tuples;
    impl Table for Tuples {
        const NAME: &'static str = "tuples";
        type Key = (u64, &'static [u8]);
        type Value = ();
    }
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Tuples>().unwrap();
    let mut loader = table.loader().unwrap();
    // Eight bytes of the number, two that end the string.
    loader.push((1, [7; 950].as_slice()), ()).unwrap();
    let error = loader.push((2, [7; 951].as_slice()), ()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::KeyTooLong {
                length: 961,
                limit: 960,
                ..
            }
        ),
        "{error}"
    );
    loader.push((2, [7; 950].as_slice()), ()).unwrap();
    assert_eq!(loader.finish().unwrap(), 2);
    table.insert((3, [7; 950].as_slice()), ()).unwrap();
    table.insert((3, [7; 951].as_slice()), ()).unwrap_err();
    assert_eq!(table.len().unwrap(), 3);
}

#[test]
fn type_names_count_up_to_their_200th_byte() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let named = |name: String| folio_store::TableDefinition {
        key_type: name,
        ..folio_store::TableDefinition::of::<Bytes>()
    };
    txn.untyped(&named("n".repeat(200))).unwrap();
    txn.untyped(&named("n".repeat(201))).unwrap();
    let error = txn.untyped(&named("n".repeat(199))).unwrap_err();
    assert!(matches!(error, Error::TableTypes { .. }), "{error}");
}

#[test]
fn impossible_page_sizes_are_refused_with_the_possible_ones() {
    for page_size in [0, 1, 2048, 4097, 131_072] {
        let error = Database::builder()
            .page_size(page_size)
            .in_memory()
            .unwrap_err();
        assert!(error.to_string().contains("4096 to 65536"), "{error}");
    }
}

#[test]
fn opening_with_another_page_size_names_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.folio");
    Database::create(&path).unwrap().close().unwrap();
    let error = Database::builder().page_size(8192).open(&path).unwrap_err();
    assert!(
        matches!(
            error,
            Error::PageSize {
                found: 4096,
                wanted: 8192,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_table_is_open_once_at_a_time() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let first = txn.table::<Bytes>().unwrap();
    assert!(matches!(
        txn.table::<Bytes>().unwrap_err(),
        Error::TableInUse { .. }
    ));
    drop(first);
    txn.table::<Bytes>().unwrap();
}

#[test]
fn table_names_have_bounds() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let named = |name: String| folio_store::TableDefinition::of::<Bytes>().renamed(name);
    txn.untyped(&named("n".repeat(512))).unwrap();
    txn.untyped(&named("n".repeat(513))).unwrap_err();
    txn.untyped(&named(String::new())).unwrap_err();
    txn.commit().unwrap();
    assert_eq!(db.begin_read().unwrap().tables().unwrap().len(), 1);
}

#[test]
fn a_panic_in_a_transaction_leaves_the_database_as_it_was() {
    struct Grumpy;
    impl Table for Grumpy {
        const NAME: &'static str = "grumpy";
        type Key = u64;
        type Value = Postcard<Vec<u64>>;
    }
    let db = Database::in_memory().unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let txn = db.begin_write().unwrap();
        txn.table::<Grumpy>().unwrap().insert(1, vec![1]).unwrap();
        panic!("the caller's own");
    }));
    assert!(result.is_err());
    let txn = db.begin_write().unwrap();
    assert_eq!(txn.table::<Grumpy>().unwrap().len().unwrap(), 0);
    txn.table::<Grumpy>().unwrap().insert(1, vec![2]).unwrap();
    txn.commit().unwrap();
    assert_eq!(
        db.begin_read()
            .unwrap()
            .table::<Grumpy>()
            .unwrap()
            .get(1)
            .unwrap(),
        Some(vec![2])
    );
}

#[test]
fn a_transaction_far_larger_than_the_cache_leaves_little_for_its_flush_to_vouch_for() {
    let storage = Arc::new(CountingStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder()
        .cache_size(32 * 4096)
        .create_on(storage.clone())
        .unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Bytes>().unwrap();
    for key in 0..6_000u32 {
        table
            .insert(key.to_be_bytes().as_slice(), [7; 900].as_slice())
            .unwrap();
    }
    drop(table);
    txn.commit().unwrap();
    assert!(db.statistics().pages_written > 1_400);
    db.kill();
    // Opening reads what the manifest of the last commit names.
    let before = storage.counts();
    let db = Database::builder().open_on(storage.clone()).unwrap();
    let reads = storage.counts().since(&before).reads;
    assert!(reads < 300, "{reads} reads");
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}
