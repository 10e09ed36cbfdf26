//! Every way to change a table beside a `BTreeMap`, and each of them by itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
};

use folio_store::{
    Beginning, Database, Entry, Error, Postcard, Table, TableDefinition, TableMut,
    storage::SplitMix64,
};

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

struct Names;
impl Table for Names {
    const NAME: &'static str = "names";
    type Key = u64;
    type Value = &'static str;
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(random: &mut SplitMix64) -> Vec<u8> {
    let number = random.below(500);
    match random.below(8) {
        0 => vec![b'x'; random.below(900) as usize],
        1..=3 => format!("a shared prefix of some length {number:04}").into_bytes(),
        _ => number.to_string().into_bytes(),
    }
}

fn value(random: &mut SplitMix64) -> Vec<u8> {
    let length = match random.below(16) {
        0 => random.below(30_000),
        1..=3 => random.below(1_500),
        _ => random.below(80),
    };
    (0..length).map(|_| random.next_u64() as u8).collect()
}

fn assert_same(table: &TableMut<'_, Rows>, model: &Model, context: &str) {
    assert_eq!(table.len().unwrap(), model.len() as u64, "{context}");
    let rows: Vec<_> = table.iter().unwrap().map(Result::unwrap).collect();
    assert!(
        rows.iter().map(|(k, v)| (k, v)).eq(model.iter()),
        "{context}"
    );
    let keys: Vec<_> = table.iter().unwrap().keys().map(Result::unwrap).collect();
    assert!(keys.iter().eq(model.keys()), "{context}");
    let stored = table.iter().unwrap().stored().rev().map(Result::unwrap);
    assert!(
        stored
            .map(|(k, v)| (k.bytes().to_vec(), v.view().unwrap().to_vec()))
            .eq(model.iter().rev().map(|(k, v)| (k.clone(), v.clone()))),
        "{context}"
    );
    // Borrowed, alternately from both ends, until they meet.
    let (mut walk, mut expected) = (table.iter().unwrap().stored(), model.iter());
    for from_back in [false, true].into_iter().cycle() {
        let (row, expected) = match from_back {
            false => (walk.next_borrowed().unwrap(), expected.next()),
            true => (walk.next_back_borrowed().unwrap(), expected.next_back()),
        };
        let row = row.as_ref().map(|row| (row.key_bytes(), row.value_bytes()));
        assert_eq!(
            row,
            expected.map(|(k, v)| (k.as_slice(), v.as_slice())),
            "{context}"
        );
        if row.is_none() {
            break;
        }
    }
}

/// Whether a row is chosen: about one in `share`, by its contents.
fn chosen(share: u64, key: &[u8], value: &[u8]) -> bool {
    let sum = key
        .iter()
        .chain(value.iter().take(20))
        .map(|&byte| u64::from(byte));
    SplitMix64::new(sum.sum()).one_in(share)
}

fn extract(
    table: &mut TableMut<'_, Rows>,
    model: &mut Model,
    random: &mut SplitMix64,
    context: &str,
) {
    let share = [1, 2, 10, 1_000][random.below(4) as usize];
    let (mut low, mut high) = (key(random), key(random));
    if low > high {
        std::mem::swap(&mut low, &mut high);
    }
    // Sometimes the iterator is dropped on its way.
    let limit = match random.one_in(2) {
        true => random.below(60) as usize,
        false => usize::MAX,
    };
    let found: Vec<_> = table
        .extract_if(low.as_slice()..high.as_slice(), |key, value| {
            chosen(share, key, value)
        })
        .unwrap()
        .take(limit)
        .map(Result::unwrap)
        .collect();
    let expected: Vec<_> = model
        .range(low..high)
        .filter(|(key, value)| chosen(share, key, value))
        .take(limit)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    assert_eq!(found, expected, "{context}");
    expected.iter().for_each(|(key, _)| drop(model.remove(key)));
}

fn step(table: &mut TableMut<'_, Rows>, model: &mut Model, random: &mut SplitMix64, context: &str) {
    let (key, value) = (key(random), value(random));
    match random.below(24) {
        0..=7 => {
            let old = table.insert(key.as_slice(), value.as_slice()).unwrap();
            let old = old.map(|old| old.bytes().to_vec());
            assert_eq!(old, model.insert(key, value), "{context}");
        }
        8 | 9 => {
            let old = table.remove(key.as_slice()).unwrap();
            assert_eq!(
                old.map(|old| old.bytes().to_vec()),
                model.remove(&key),
                "{context}"
            );
        }
        10 => assert_eq!(table.pop_first().unwrap(), model.pop_first(), "{context}"),
        11 => assert_eq!(table.pop_last().unwrap(), model.pop_last(), "{context}"),
        12 | 13 => match table.entry(key.as_slice()).unwrap() {
            Entry::Occupied(entry) => {
                assert_eq!(Some(&entry.get().unwrap()), model.get(&key), "{context}");
                match random.one_in(2) {
                    true => {
                        entry.insert(value.as_slice()).unwrap();
                        model.insert(key, value);
                    }
                    false => {
                        entry.remove().unwrap();
                        model.remove(&key);
                    }
                }
            }
            Entry::Vacant(entry) => {
                entry.insert(value.as_slice()).unwrap();
                assert_eq!(model.insert(key, value), None, "{context}");
            }
        },
        14 => {
            let found = table.entry(key.as_slice()).unwrap();
            let found = found.or_insert(value.as_slice()).unwrap();
            let expected = model.entry(key).or_insert(value);
            assert_eq!(found.bytes(), expected.as_slice(), "{context}");
        }
        15 => {
            let there = model.get(&key).cloned();
            let expected = match random.one_in(3) {
                true => Some(b"something else".to_vec()),
                false => there.clone(),
            };
            let new = (!random.one_in(3)).then_some(value);
            let outcome = table.compare_and_swap(
                key.as_slice(),
                expected.as_deref().as_ref(),
                new.as_deref().as_ref(),
            );
            match outcome.unwrap() {
                Ok(()) => {
                    assert_eq!(expected, there, "{context}");
                    match new {
                        Some(new) => drop(model.insert(key, new)),
                        None => drop(model.remove(&key)),
                    }
                }
                Err(found) => {
                    assert_ne!(expected, there, "{context}");
                    assert_eq!(
                        found.map(|found| found.bytes().to_vec()),
                        there,
                        "{context}"
                    );
                }
            }
        }
        16 | 17 => {
            let mut source = value.as_slice();
            table
                .insert_reserve(key.as_slice(), value.len(), |part| source.read_exact(part))
                .unwrap();
            model.insert(key, value);
        }
        18 => extract(table, model, random, context),
        19 if random.one_in(4) => {
            let removed = table.retain(|key, value| !chosen(3, key, value)).unwrap();
            let before = model.len();
            model.retain(|key, value| !chosen(3, key, value));
            assert_eq!(removed, (before - model.len()) as u64, "{context}");
        }
        20 => {
            // Rows behind the last one, some of them with long values.
            let mut loader = table.loader().unwrap();
            let mut last = model
                .last_key_value()
                .map_or(Vec::new(), |(key, _)| key.clone());
            let count = random.below(200);
            for _ in 0..count {
                last = next_key(&last, random);
                let value = self::value(random);
                loader.push(last.as_slice(), value.as_slice()).unwrap();
                model.insert(last.clone(), value);
            }
            if random.one_in(2) {
                assert_eq!(loader.finish().unwrap(), count, "{context}");
            }
        }
        21 => {
            let prefix = &key[..key.len().min(random.below(4) as usize)];
            let rows = table.prefix(prefix).unwrap().keys().map(Result::unwrap);
            let expected = model.keys().filter(|key| key.starts_with(prefix)).cloned();
            assert!(rows.eq(expected), "{context}");
        }
        22 => {
            let end = [&key[..], &[0xFF, 0xFF]].concat();
            let removed = table.remove_range(key.as_slice()..end.as_slice()).unwrap();
            let gone: Vec<_> = model.range(key..end).map(|(key, _)| key.clone()).collect();
            assert_eq!(removed, gone.len() as u64, "{context}");
            gone.iter().for_each(|key| drop(model.remove(key)));
        }
        _ => assert_eq!(
            table.get(key.as_slice()).unwrap().as_ref(),
            model.get(&key),
            "{context}"
        ),
    }
}

/// A key behind the last one: those of loaders begin with a letter behind all others, and a number that counts up.
fn next_key(last: &[u8], random: &mut SplitMix64) -> Vec<u8> {
    let number = match last.strip_prefix(b"zz").and_then(|rest| rest.first_chunk()) {
        Some(number) => u64::from_be_bytes(*number) + 1,
        None => 0,
    };
    let length = if random.one_in(10) { 600 } else { 5 };
    let padding = vec![b'-'; random.below(length) as usize];
    [&b"zz"[..], &number.to_be_bytes(), &padding].concat()
}

fn run(seed: u64, page_size: usize, cache: usize) {
    let context = format!("seed {seed}, pages of {page_size}, cache of {cache}");
    let mut random = SplitMix64::new(seed);
    let db = Database::builder()
        .page_size(page_size)
        .cache_size(cache)
        .in_memory()
        .unwrap();
    let mut model = Model::new();
    for _ in 0..25 {
        let txn = db.begin_write().unwrap();
        let mut next = model.clone();
        let mut table = txn.table::<Rows>().unwrap();
        for _ in 0..random.below(80) {
            step(&mut table, &mut next, &mut random, &context);
        }
        assert_same(&table, &next, &context);
        drop(table);
        match random.one_in(5) {
            true => txn.abort(),
            false => {
                txn.commit().unwrap();
                model = next;
            }
        }
    }
    let txn = db.begin_write().unwrap();
    assert_same(&txn.table::<Rows>().unwrap(), &model, &context);
    drop(txn);
    let report = db.verify(|_, _| {}).unwrap();
    assert_eq!(report.problems, [], "{context}");
}

#[test]
fn every_way_to_change_a_table_leaves_the_rows_a_map_would_hold() {
    for seed in 0..12 {
        run(seed, 4096, 1 << 20);
    }
}

#[test]
fn the_same_with_a_cache_far_smaller_than_the_data() {
    for seed in 100..108 {
        run(seed, 4096, 16 * 4096);
    }
}

#[test]
fn the_same_with_pages_of_every_size() {
    for (seed, page_size) in (200..).zip([8192, 16384, 32768, 65536]) {
        run(seed, page_size, 1 << 20);
    }
}

fn filled(count: u64) -> Database {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Numbers>().unwrap();
    (0..count).for_each(|key| drop(table.insert(key, key * 10).unwrap()));
    drop(table);
    txn.commit().unwrap();
    db
}

fn keys(table: &TableMut<'_, Numbers>) -> Vec<u64> {
    table.iter().unwrap().keys().map(Result::unwrap).collect()
}

#[test]
fn pop_first_and_pop_last_empty_a_table_from_both_ends() {
    let db = filled(2_000);
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Numbers>().unwrap();
    for key in 0..1_000 {
        assert_eq!(table.pop_first().unwrap(), Some((key, key * 10)));
        let last = 1_999 - key;
        assert_eq!(table.pop_last().unwrap(), Some((last, last * 10)));
    }
    assert_eq!(table.pop_first().unwrap(), None);
    assert_eq!(table.pop_last().unwrap(), None);
    drop(table);
    txn.commit().unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn what_extract_if_gave_back_is_gone_and_the_rest_is_there_wherever_it_is_dropped() {
    let db = filled(1_500);
    for taken in [0, 1, 2, 100, 101, 333, 499, 500] {
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Numbers>().unwrap();
        let mut extracted = table
            .extract_if::<u64, _>(.., |key, _| key % 3 == 0)
            .unwrap();
        for index in 0..taken {
            assert_eq!(extracted.next().unwrap().unwrap(), (index * 3, index * 30));
        }
        drop(extracted);
        let left: Vec<u64> = (0..1_500)
            .filter(|key| key % 3 != 0 || key / 3 >= taken)
            .collect();
        assert_eq!(keys(&table), left, "{taken} taken");
        assert_eq!(table.len().unwrap(), 1_500 - taken);
        drop(table);
        txn.abort();
    }
}

#[test]
fn a_predicate_that_panics_leaves_what_was_given_back_removed_and_nothing_else() {
    let db = filled(1_000);
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Numbers>().unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let choose = |key: &u64, _: &u64| match key {
            700 => panic!("the caller's own"),
            key => key % 2 == 0,
        };
        table.extract_if(100u64.., choose).unwrap().count()
    }));
    assert!(result.is_err());
    let left: Vec<u64> = (0..1_000)
        .filter(|key| !(100..700).contains(key) || key % 2 == 1)
        .collect();
    assert_eq!(keys(&table), left);
    drop(table);
    txn.commit().unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn retain_changes_each_leaf_once() {
    let db = filled(50_000);
    let leaves = {
        let view = db.begin_read().unwrap();
        view.table::<Numbers>()
            .unwrap()
            .statistics()
            .unwrap()
            .leaf_pages
    };
    // One row in every leaf goes: each is written once, and their parents.
    let before = db.statistics().pages_written;
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Numbers>().unwrap();
    assert_eq!(table.retain(|key, _| key % 100 != 0).unwrap(), 500);
    drop(table);
    txn.commit().unwrap();
    let written = db.statistics().pages_written - before;
    assert!(
        written <= leaves + leaves / 20 + 8,
        "{written} for {leaves}"
    );
    // Nothing goes: nothing is written but the catalog at most.
    let before = db.statistics().pages_written;
    let txn = db.begin_write().unwrap();
    assert_eq!(
        txn.table::<Numbers>().unwrap().retain(|_, _| true).unwrap(),
        0
    );
    txn.commit().unwrap();
    assert!(db.statistics().pages_written - before <= 1);
}

#[test]
fn each_row_is_asked_for_once_and_in_order() {
    let db = filled(10_000);
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Numbers>().unwrap();
    let mut asked = Vec::new();
    let choose = |key: &u64, _: &u64| {
        asked.push(*key);
        key.is_multiple_of(3)
    };
    let extracted = table.extract_if(100..9_900, choose).unwrap().count();
    assert!(asked.into_iter().eq(100..9_900));
    assert_eq!(extracted, 3_266);
    let mut asked = 0;
    let removed = table.retain(|key, _| {
        asked += 1;
        key % 7 != 0
    });
    assert_eq!(asked, 10_000 - 3_266);
    assert_eq!(table.len().unwrap(), asked - removed.unwrap());
}

#[test]
fn a_swap_happens_only_if_the_value_is_the_expected_one() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Names>().unwrap();
    let found = |outcome: Result<(), Option<folio_store::Stored<&'static str>>>| {
        outcome.map_err(|found| found.map(|found| found.decode().unwrap()))
    };
    let ada = || Some("Ada".to_owned());
    assert_eq!(
        found(
            table
                .compare_and_swap(1, Some(&"Ada"), Some(&"Bob"))
                .unwrap()
        ),
        Err(None)
    );
    assert_eq!(
        found(table.compare_and_swap(1, None, Some(&"Ada")).unwrap()),
        Ok(())
    );
    assert_eq!(
        found(table.compare_and_swap(1, None, Some(&"Bob")).unwrap()),
        Err(ada())
    );
    assert_eq!(
        found(table.compare_and_swap(1, Some(&"Eve"), None).unwrap()),
        Err(ada())
    );
    assert_eq!(
        found(
            table
                .compare_and_swap(1, Some(&"Ada"), Some(&"Bob"))
                .unwrap()
        ),
        Ok(())
    );
    assert_eq!(table.get(1).unwrap().as_deref(), Some("Bob"));
    assert_eq!(
        found(table.compare_and_swap(1, Some(&"Bob"), None).unwrap()),
        Ok(())
    );
    assert_eq!(
        found(table.compare_and_swap(1, None, None).unwrap()),
        Ok(())
    );
    assert!(table.is_empty().unwrap());
}

#[test]
fn a_reserved_value_whose_source_fails_or_panics_leaves_nothing_behind() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    table
        .insert(b"key".as_slice(), b"before".as_slice())
        .unwrap();
    for length in [10, 100_000] {
        let mut source = io::repeat(1).take(length - 1);
        let error = table
            .insert_reserve(b"key".as_slice(), length as usize, |part| {
                source.read_exact(part)
            })
            .unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        let mut parts = 0;
        let result = catch_unwind(AssertUnwindSafe(|| {
            table.insert_reserve(b"key".as_slice(), length as usize, |_| {
                parts += 1;
                assert!(parts < 3 && length > 10, "the caller's own");
                Ok(())
            })
        }));
        assert!(result.is_err());
    }
    assert_eq!(
        table.get(b"key".as_slice()).unwrap(),
        Some(b"before".to_vec())
    );
    drop(table);
    txn.commit().unwrap();
    // No page is used without a row that leads to it.
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn the_source_of_a_reserved_value_may_be_another_table_of_the_transaction() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut numbers = txn.table::<Numbers>().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    let mut calls = 0;
    table
        .insert_reserve(b"key".as_slice(), 50_000, |part| {
            calls += 1;
            numbers
                .insert(calls, part.len() as u64)
                .map_err(io::Error::other)?;
            part.fill(calls as u8);
            Ok(())
        })
        .unwrap();
    let value = table.get(b"key".as_slice()).unwrap().unwrap();
    assert_eq!(value.len(), 50_000);
    let parts = numbers.iter().unwrap().map(|row| row.unwrap());
    assert!(
        parts
            .flat_map(|(call, length)| (0..length).map(move |_| call as u8))
            .eq(value)
    );
}

#[test]
fn statistics_of_a_table_count_its_pages() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    assert_eq!(table.statistics().unwrap().pages(), 0);
    assert_eq!(table.statistics().unwrap().depth, 0);
    for key in 0..10_000u32 {
        table
            .insert(key.to_be_bytes().as_slice(), [1; 50].as_slice())
            .unwrap();
    }
    table
        .insert(b"long".as_slice(), vec![1; 40_000].as_slice())
        .unwrap();
    let statistics = table.statistics().unwrap();
    assert_eq!((statistics.rows, statistics.depth), (10_001, 3));
    assert_eq!(
        (statistics.overflow_pages, statistics.overflow_bytes),
        (10, 40_000)
    );
    assert!(
        (140..200).contains(&statistics.leaf_pages),
        "{statistics:?}"
    );
    assert_eq!(statistics.bytes(), statistics.pages() * 4096);
    drop(table);
    let names = TableDefinition::of::<Rows>();
    let pages = txn.untyped(&names).unwrap().statistics().unwrap().pages();
    txn.commit().unwrap();
    // What is not this table's: the catalog, the map of free pages, and manifests.
    let used = db.statistics().length_pages - db.statistics().free_pages;
    assert!((pages..pages + 16).contains(&used), "{pages} of {used}");
}

#[test]
fn a_renamed_table_keeps_its_rows_and_no_name_is_taken_twice() {
    let db = filled(5_000);
    let numbers = TableDefinition::of::<Numbers>();
    let names = TableDefinition::of::<Names>();
    let txn = db.begin_write().unwrap();
    txn.table::<Names>().unwrap();
    let error = txn.rename_table(&numbers, "names").unwrap_err();
    assert!(matches!(error, Error::TableExists { .. }), "{error}");
    let error = txn
        .rename_table(&numbers.renamed("nobody"), "new")
        .unwrap_err();
    assert!(matches!(error, Error::NoSuchTable { .. }), "{error}");
    let error = txn.rename_table(&numbers, &"n".repeat(513)).unwrap_err();
    assert!(matches!(error, Error::Configuration(_)), "{error}");
    let held = txn.table::<Numbers>().unwrap();
    let error = txn.rename_table(&numbers, "new").unwrap_err();
    assert!(matches!(error, Error::TableInUse { .. }), "{error}");
    drop(held);
    txn.rename_table(&numbers, "numbers").unwrap();
    txn.rename_table(&numbers, "new").unwrap();
    txn.rename_table(&names, "numbers").unwrap();
    txn.commit().unwrap();
    let view = db.begin_read().unwrap();
    let tables = view.tables().unwrap();
    assert_eq!(tables, [numbers.renamed("new"), names.renamed("numbers")]);
    assert_eq!(view.untyped(&tables[0]).unwrap().len().unwrap(), 5_000);
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_row_that_does_not_decode_is_an_error_and_the_last_item() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let definition = TableDefinition::of::<Names>();
    let mut table = txn.untyped(&definition).unwrap();
    for (key, value) in (0u64..).zip([&b"a"[..], b"b", b"\xFF", b"d"]) {
        table.insert(key.to_be_bytes().as_slice(), value).unwrap();
    }
    drop(table);
    let mut table = txn.table::<Names>().unwrap();
    let is_decode = |error: Error| matches!(error, Error::Decode { .. });
    let mut rows = table.iter().unwrap();
    assert_eq!(rows.next().unwrap().unwrap().1, "a");
    assert_eq!(rows.next_back().unwrap().unwrap().1, "d");
    assert!(is_decode(rows.next_back().unwrap().unwrap_err()));
    assert!(rows.next().is_none() && rows.next_back().is_none());
    assert_eq!(table.iter().unwrap().keys().count(), 4, "the keys are fine");
    assert_eq!(table.iter().unwrap().stored().count(), 4);
    let mut cursor = table.cursor();
    cursor.seek(2).unwrap();
    assert!(is_decode(cursor.next().unwrap_err()));
    assert_eq!(cursor.next().unwrap().unwrap().1, "d", "a cursor goes on");
    let mut extracted = table.extract_if::<u64, _>(.., |_, _| true).unwrap();
    assert_eq!(extracted.by_ref().filter(Result::is_ok).count(), 2);
    assert!(extracted.next().is_none());
    drop(extracted);
    assert!(is_decode(table.retain(|_, _| false).unwrap_err()));
    assert_eq!(table.len().unwrap(), 2);
    assert!(is_decode(table.pop_first().unwrap_err()));
    assert_eq!(table.pop_first().unwrap(), Some((3, "d".to_owned())));
}

#[test]
fn tuples_are_found_by_their_first_elements() {
    struct Places;
    impl Table for Places {
        const NAME: &'static str = "places";
        type Key = (&'static str, Option<u32>, &'static str);
        type Value = Postcard<Vec<u8>>;
    }
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Places>().unwrap();
    for country in ["a", "ab", "a\0"] {
        for region in [None, Some(1), Some(2)] {
            for town in ["", "north", "nord", "south"] {
                table.insert((country, region, town), vec![]).unwrap();
            }
        }
    }
    assert_eq!(table.prefix(("a",)).unwrap().count(), 12);
    assert_eq!(table.prefix(("a", Some(1))).unwrap().count(), 4);
    assert_eq!(table.prefix(("a", None)).unwrap().count(), 4);
    assert_eq!(table.prefix(Beginning(("a",))).unwrap().count(), 36);
    assert_eq!(
        table
            .prefix(Beginning(("ab", Some(2), "nor")))
            .unwrap()
            .count(),
        2
    );
    assert_eq!(table.prefix(("b",)).unwrap().count(), 0);
    let last = table.prefix(("a",)).unwrap().next_back().unwrap().unwrap();
    assert_eq!(last.0, ("a".to_owned(), Some(2), "south".to_owned()));
}
