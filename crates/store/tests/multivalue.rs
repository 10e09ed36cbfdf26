//! Tables of several values a key, beside a map of sets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use folio_store::{
    Database, Error, MultiTable, MultiTableView, Pairs, Table, TableDefinition, storage::SplitMix64,
};

struct Tags;
impl MultiTable for Tags {
    const NAME: &'static str = "tags";
    type Key = &'static str;
    type Value = &'static [u8];
}

type Model = BTreeMap<String, BTreeSet<Vec<u8>>>;

/// Keys of which one is often the beginning of another, with the bytes that matter to escaping.
fn key(random: &mut SplitMix64) -> String {
    let letters = ["\0", "\u{1}", "a", "\u{FF}"];
    (0..random.below(4))
        .map(|_| letters[random.below(4) as usize])
        .collect()
}

fn value(random: &mut SplitMix64) -> Vec<u8> {
    let bytes = [0x00, 0x01, 0x7F, 0xFF];
    let length = if random.one_in(20) {
        300
    } else {
        random.below(5)
    };
    (0..length)
        .map(|_| bytes[random.below(4) as usize])
        .collect()
}

fn pairs(model: &Model) -> impl DoubleEndedIterator<Item = (String, Vec<u8>)> {
    model
        .iter()
        .flat_map(|(key, values)| values.iter().map(|value| (key.clone(), value.clone())))
}

fn assert_same(table: &MultiTableView<'_, Tags>, model: &Model, context: &str) {
    assert_eq!(
        table.len().unwrap(),
        pairs(model).count() as u64,
        "{context}"
    );
    assert_eq!(table.is_empty().unwrap(), model.is_empty(), "{context}");
    assert!(
        table.iter().unwrap().map(Result::unwrap).eq(pairs(model)),
        "{context}"
    );
    assert!(
        table
            .iter()
            .unwrap()
            .rev()
            .map(Result::unwrap)
            .eq(pairs(model).rev()),
        "{context}"
    );
    assert!(
        table
            .keys()
            .unwrap()
            .map(Result::unwrap)
            .eq(model.keys().cloned()),
        "{context}"
    );
    assert_eq!(table.first().unwrap(), pairs(model).next(), "{context}");
    assert_eq!(table.last().unwrap(), pairs(model).next_back(), "{context}");
    for prefix in ["", "\0", "a", "\u{1}a", "\u{FF}\0"] {
        let found = table.prefix(prefix).unwrap().map(Result::unwrap);
        let expected = pairs(model).filter(|(key, _)| key.starts_with(prefix));
        assert!(found.eq(expected), "{context}, prefix {prefix:?}");
    }
    assert_cursor(table, model, context);
    for (key, values) in model {
        let found = table.get(key.as_str()).unwrap().map(Result::unwrap);
        assert!(found.eq(values.iter().cloned()), "{context}");
        let found = table.get(key.as_str()).unwrap().rev().map(Result::unwrap);
        assert!(found.eq(values.iter().rev().cloned()), "{context}");
    }
}

/// A cursor is compared with places in a sorted list.
fn assert_cursor(table: &MultiTableView<'_, Tags>, model: &Model, context: &str) {
    let list: Vec<_> = pairs(model).collect();
    let mut random = SplitMix64::new(list.len() as u64);
    let mut cursor = table.cursor();
    let mut place = 0;
    for _ in 0..60 {
        let (key, value) = (key(&mut random), value(&mut random));
        let sought = (key.clone(), value.clone());
        match random.below(7) {
            0 => {
                cursor.seek(key.as_str()).unwrap();
                place = list.partition_point(|pair| pair.0 < key);
            }
            1 => {
                cursor.seek_after(key.as_str()).unwrap();
                place = list.partition_point(|pair| pair.0 <= key);
            }
            2 => {
                cursor.seek_pair(key.as_str(), value.as_slice()).unwrap();
                place = list.partition_point(|pair| *pair < sought);
            }
            3 if random.one_in(2) => {
                cursor.seek_start();
                place = 0;
            }
            3 => {
                cursor.seek_end();
                place = list.len();
            }
            4 => {
                let before = place.checked_sub(1).map(|before| list[before].clone());
                assert_eq!(cursor.prev().unwrap(), before, "{context}");
                place = place.saturating_sub(1);
            }
            _ => {
                assert_eq!(
                    cursor.next().unwrap(),
                    list.get(place).cloned(),
                    "{context}"
                );
                place = (place + 1).min(list.len());
            }
        }
    }
}

#[test]
fn a_table_of_several_values_a_key_holds_what_a_map_of_sets_would() {
    for seed in 0..10 {
        let context = format!("seed {seed}");
        let mut random = SplitMix64::new(seed);
        let db = Database::builder()
            .cache_size(64 * 4096)
            .in_memory()
            .unwrap();
        let mut model = Model::new();
        for _ in 0..12 {
            let txn = db.begin_write().unwrap();
            let mut table = txn.multi_table::<Tags>().unwrap();
            for _ in 0..150 {
                let (key, value) = (key(&mut random), value(&mut random));
                match random.below(40) {
                    0 => {
                        let removed = table.remove_all(key.as_str()).unwrap();
                        let gone = model.remove(&key).map_or(0, |values| values.len());
                        assert_eq!(removed, gone as u64, "{context}");
                    }
                    1..=8 => {
                        let removed = table.remove(key.as_str(), value.as_slice()).unwrap();
                        let values = model.entry(key.clone()).or_default();
                        assert_eq!(removed, values.remove(&value), "{context}");
                        if values.is_empty() {
                            model.remove(&key);
                        }
                    }
                    9 => {
                        let keep = |_: &String, value: &Vec<u8>| value.len() != 2;
                        let removed = table.retain(keep).unwrap();
                        let before = pairs(&model).count();
                        model
                            .values_mut()
                            .for_each(|values| values.retain(|value| value.len() != 2));
                        model.retain(|_, values| !values.is_empty());
                        assert_eq!(
                            removed,
                            (before - pairs(&model).count()) as u64,
                            "{context}"
                        );
                    }
                    10..=12 => {
                        let other = self::key(&mut random);
                        let bound = |random: &mut SplitMix64, key: &str| match random.below(3) {
                            0 => Bound::Included(key.to_owned()),
                            1 => Bound::Excluded(key.to_owned()),
                            _ => Bound::Unbounded,
                        };
                        let range = (bound(&mut random, &key), bound(&mut random, &other));
                        let found = table.range::<&str>((
                            range.0.as_ref().map(String::as_str),
                            range.1.as_ref().map(String::as_str),
                        ));
                        let expected = pairs(&model)
                            .filter(|(key, _)| std::ops::RangeBounds::contains(&range, key));
                        assert!(
                            found.unwrap().map(Result::unwrap).eq(expected),
                            "{context}: {range:?}"
                        );
                    }
                    13 => {
                        let there = model.get(&key);
                        assert_eq!(
                            table.contains_key(key.as_str()).unwrap(),
                            there.is_some(),
                            "{context}"
                        );
                        let there = there.is_some_and(|values| values.contains(&value));
                        assert_eq!(
                            table.contains(key.as_str(), value.as_slice()).unwrap(),
                            there,
                            "{context}"
                        );
                    }
                    _ => {
                        let new = table.insert(key.as_str(), value.as_slice()).unwrap();
                        assert_eq!(
                            new,
                            model.entry(key).or_default().insert(value),
                            "{context}"
                        );
                    }
                }
            }
            assert_same(&table, &model, &context);
            drop(table);
            txn.commit().unwrap();
            let view = db.begin_read().unwrap();
            assert_same(&view.multi_table::<Tags>().unwrap(), &model, &context);
        }
        assert_eq!(db.verify(|_, _| {}).unwrap().problems, [], "{context}");
    }
}

#[test]
fn a_key_may_have_very_many_values_and_loses_them_at_once() {
    struct Members;
    impl MultiTable for Members {
        const NAME: &'static str = "members";
        type Key = u8;
        type Value = u64;
    }
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut members = txn.table::<Pairs<Members>>().unwrap();
    let mut loader = members.loader().unwrap();
    for group in [0, 254, 255] {
        (0..50_000).for_each(|member| loader.push((group, member), ()).unwrap());
    }
    loader.finish().unwrap();
    drop(members);
    let mut members = txn.multi_table::<Members>().unwrap();
    let keys: Vec<u8> = members.keys().unwrap().map(Result::unwrap).collect();
    assert_eq!(keys, [0, 254, 255]);
    assert_eq!(
        members.get(255).unwrap().next_back().unwrap().unwrap(),
        49_999
    );
    assert_eq!(
        members
            .range((Bound::Excluded(254), Bound::Unbounded))
            .unwrap()
            .count(),
        50_000
    );
    assert_eq!(
        members
            .range((Bound::Excluded(255), Bound::Unbounded))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(members.remove_range(..=0).unwrap(), 50_000);
    assert_eq!(members.remove_all(255).unwrap(), 50_000);
    assert_eq!(members.len().unwrap(), 50_000);
    assert_eq!(members.statistics().unwrap().rows, 50_000);
    assert_eq!(members.clear().unwrap(), 50_000);
    drop(members);
    txn.commit().unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_pair_as_long_as_a_key_may_be_works_and_one_more_byte_is_refused() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.multi_table::<Tags>().unwrap();
    // Each of the two strings ends with two bytes.
    let limit = 4096 / 4 - 64 - 4;
    let value = vec![7; limit - 3];
    assert!(table.insert("key", value.as_slice()).unwrap());
    assert!(table.contains("key", value.as_slice()).unwrap());
    let error = table.insert("keys", value.as_slice()).unwrap_err();
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
    // A zero byte takes two.
    let zeros = vec![0; (limit - 3) / 2];
    assert!(table.insert("key", zeros.as_slice()).unwrap());
    table.insert("key", [0; 477].as_slice()).unwrap_err();
    assert_eq!(table.len().unwrap(), 2);
}

#[test]
fn in_the_file_it_is_a_table_of_pairs_and_other_types_are_refused() {
    struct Others;
    impl MultiTable for Others {
        const NAME: &'static str = "tags";
        type Key = u64;
        type Value = &'static [u8];
    }
    struct Plain;
    impl Table for Plain {
        const NAME: &'static str = "tags";
        type Key = (&'static str, &'static [u8]);
        type Value = ();
    }
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    txn.multi_table::<Tags>()
        .unwrap()
        .insert("key", b"value".as_slice())
        .unwrap();
    txn.commit().unwrap();
    let view = db.begin_read().unwrap();
    assert_eq!(
        view.tables().unwrap(),
        [TableDefinition::of::<Pairs<Tags>>()]
    );
    let error = view.multi_table::<Others>().unwrap_err();
    assert!(error.to_string().contains("(u64,bytes)"), "{error}");
    assert!(
        view.table::<Plain>()
            .unwrap()
            .contains_key(("key", b"value".as_slice()))
            .unwrap()
    );
    assert_eq!(view.table::<Pairs<Tags>>().unwrap().len().unwrap(), 1);
}

#[test]
fn pairs_are_popped_from_both_ends_and_extracted_from_a_range_of_keys() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut tags = txn.multi_table::<Tags>().unwrap();
    for key in ["a", "b", "b\0", "c"] {
        for value in 0..50u8 {
            assert!(tags.insert(key, &[value][..]).unwrap());
        }
    }
    assert_eq!(tags.pop_first().unwrap(), Some(("a".to_owned(), vec![0])));
    assert_eq!(tags.pop_last().unwrap(), Some(("c".to_owned(), vec![49])));
    let even = |_: &String, value: &Vec<u8>| value[0].is_multiple_of(2);
    let extracted: Vec<_> = tags
        .extract_if("b".."c", even)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let expected: Vec<_> = ["b", "b\0"]
        .into_iter()
        .flat_map(|key| {
            (0..50)
                .step_by(2)
                .map(move |value| (key.to_owned(), vec![value]))
        })
        .collect();
    assert_eq!(extracted, expected);
    assert_eq!(tags.len().unwrap(), 200 - 2 - 50);
    let mut rest = tags.extract_if::<&str, _>(.., |_, _| true).unwrap();
    rest.next().unwrap().unwrap();
    drop(rest);
    assert_eq!(tags.len().unwrap(), 147, "what it has not come to stays");
    assert_eq!(tags.clear().unwrap(), 147);
    assert_eq!(tags.pop_first().unwrap(), None);
    assert_eq!((tags.first().unwrap(), tags.last().unwrap()), (None, None));
}
