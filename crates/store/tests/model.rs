//! The engine beside a `BTreeMap`: the same operations must leave the same rows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use folio_store::{
    Database, Durability, Group, GroupSet, Table, TableDefinition, storage::SplitMix64,
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = &'static [u8];
    type Value = &'static [u8];
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn bytes(random: &mut SplitMix64, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.next_u64() as u8).collect()
}

/// Keys that share prefixes, collide in their first bytes, and are sometimes long.
fn key(random: &mut SplitMix64) -> Vec<u8> {
    let number = random.below(400);
    match random.below(10) {
        0 => vec![b'x'; random.below(900) as usize],
        1..=3 => [
            b"a shared prefix of some length ".as_slice(),
            &(number as u32).to_be_bytes(),
        ]
        .concat(),
        _ => number.to_string().into_bytes(),
    }
}

fn value(random: &mut SplitMix64) -> Vec<u8> {
    let length = match random.below(20) {
        0 => random.below(40_000),
        1..=3 => random.below(1_500),
        _ => random.below(60),
    };
    bytes(random, length as usize)
}

fn assert_same(model: &Model, db: &Database, context: &str) {
    let view = db.begin_read().unwrap();
    let table = view.table::<Rows>().unwrap();
    assert_eq!(table.len().unwrap(), model.len() as u64, "{context}");
    let forwards: Vec<_> = table.iter().unwrap().map(Result::unwrap).collect();
    assert!(
        forwards.iter().map(|(k, v)| (k, v)).eq(model.iter()),
        "{context}: forwards"
    );
    let backwards: Vec<_> = table.iter().unwrap().rev().map(Result::unwrap).collect();
    assert!(
        backwards.iter().map(|(k, v)| (k, v)).eq(model.iter().rev()),
        "{context}: backwards"
    );
    for (key, value) in model.iter().step_by(7) {
        assert_eq!(
            table.get(key.as_slice()).unwrap().as_ref(),
            Some(value),
            "{context}"
        );
    }
}

fn run(seed: u64, page_size: usize, cache: usize, transactions: u64) {
    let context = format!("seed {seed}, pages of {page_size}, cache of {cache}");
    let mut random = SplitMix64::new(seed);
    let db = Database::builder()
        .page_size(page_size)
        .cache_size(cache)
        .in_memory()
        .unwrap();
    let mut model = Model::new();
    for _ in 0..transactions {
        let txn = db.begin_write().unwrap();
        let mut next = model.clone();
        {
            let mut table = txn.table::<Rows>().unwrap();
            for _ in 0..random.below(60) {
                let key = key(&mut random);
                match random.below(12) {
                    0..=6 => {
                        let value = value(&mut random);
                        let old = table.insert(key.as_slice(), value.as_slice()).unwrap();
                        assert_eq!(
                            old.map(|old| old.bytes().to_vec()),
                            next.insert(key, value),
                            "{context}"
                        );
                    }
                    7..=9 => {
                        let old = table.remove(key.as_slice()).unwrap();
                        assert_eq!(
                            old.map(|old| old.bytes().to_vec()),
                            next.remove(&key),
                            "{context}"
                        );
                    }
                    10 => assert_eq!(
                        table.get(key.as_slice()).unwrap().as_ref(),
                        next.get(&key),
                        "{context}"
                    ),
                    _ => {
                        let end = [&key[..], &bytes(&mut random, 1)].concat();
                        let range = if random.one_in(8) {
                            key..vec![0xFF; 3]
                        } else {
                            key..end
                        };
                        let gone: Vec<_> = match range.start < range.end {
                            true => next
                                .range(range.clone())
                                .map(|(key, _)| key.clone())
                                .collect(),
                            false => Vec::new(),
                        };
                        let removed = table
                            .remove_range(range.start.as_slice()..range.end.as_slice())
                            .unwrap();
                        assert_eq!(removed, gone.len() as u64, "{context}");
                        gone.iter().for_each(|key| drop(next.remove(key)));
                    }
                }
            }
        }
        if random.one_in(5) {
            txn.abort();
        } else {
            txn.commit().unwrap();
            model = next;
        }
        assert_same(&model, &db, &context);
    }
    let report = db.verify(|_, _| {}).unwrap();
    assert_eq!(report.problems, [], "{context}");
}

#[test]
fn random_operations_leave_the_rows_a_map_would_hold() {
    for seed in 0..12 {
        run(seed, 4096, 1 << 20, 40);
    }
}

#[test]
fn a_cache_far_smaller_than_the_data_changes_nothing() {
    for seed in 100..106 {
        run(seed, 4096, 16 * 4096, 40);
    }
}

#[test]
fn every_page_size_behaves_alike() {
    for (seed, page_size) in (200..).zip([8192, 16384, 32768, 65536]) {
        run(seed, page_size, 1 << 20, 40);
    }
}

#[test]
fn a_view_stays_as_it_was_while_others_commit() {
    let mut random = SplitMix64::new(7);
    let db = Database::builder()
        .cache_size(64 * 4096)
        .in_memory()
        .unwrap();
    let mut views = Vec::new();
    let mut model = Model::new();
    for _ in 0..60 {
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Rows>().unwrap();
        for _ in 0..30 {
            let (key, value) = (key(&mut random), value(&mut random));
            table.insert(key.as_slice(), value.as_slice()).unwrap();
            model.insert(key, value);
        }
        drop(table);
        txn.commit().unwrap();
        views.push((db.begin_read().unwrap(), model.clone()));
        if views.len() > 8 {
            views.remove(random.below(8) as usize);
        }
        for (view, model) in &views {
            let rows: Vec<_> = view
                .table::<Rows>()
                .unwrap()
                .iter()
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert!(rows.iter().map(|(k, v)| (k, v)).eq(model.iter()));
        }
    }
}

#[test]
fn ranges_meet_in_the_middle_from_both_ends() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    for number in 0..2_000u32 {
        table
            .insert(number.to_be_bytes().as_slice(), [7; 40].as_slice())
            .unwrap();
    }
    drop(table);
    txn.commit().unwrap();
    let view = db.begin_read().unwrap();
    let table = view.table::<Rows>().unwrap();
    let mut random = SplitMix64::new(3);
    for _ in 0..200 {
        let (low, high) = (random.below(2_100) as u32, random.below(2_100) as u32);
        let (low_key, high_key) = (low.to_be_bytes(), high.to_be_bytes());
        let mut rows = table
            .range(low_key.as_slice()..high_key.as_slice())
            .unwrap();
        let mut expected: std::collections::VecDeque<u32> = (low..high.min(2_000)).collect();
        loop {
            let front = random.one_in(2);
            let (found, wanted) = match front {
                true => (rows.next(), expected.pop_front()),
                false => (rows.next_back(), expected.pop_back()),
            };
            let found = found.map(|row| u32::from_be_bytes(row.unwrap().0.try_into().unwrap()));
            assert_eq!(found, wanted, "{low}..{high}");
            if wanted.is_none() {
                break;
            }
        }
        assert!(rows.next().is_none() && rows.next_back().is_none());
    }
}

#[test]
fn first_and_last_are_right_after_the_edges_were_emptied() {
    let db = Database::in_memory().unwrap();
    for (low, high) in [(0u32, 900u32), (100, 1_000), (1, 999), (499, 501)] {
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Rows>().unwrap();
        for number in 0..1_000u32 {
            table
                .insert(number.to_be_bytes().as_slice(), [1; 100].as_slice())
                .unwrap();
        }
        table
            .remove_range(low.to_be_bytes().as_slice()..high.to_be_bytes().as_slice())
            .unwrap();
        let left: Vec<u32> = (0..low).chain(high..1_000).collect();
        let number = |row: Option<(Vec<u8>, Vec<u8>)>| {
            row.map(|(key, _)| u32::from_be_bytes(key.try_into().unwrap()))
        };
        assert_eq!(number(table.first().unwrap()), left.first().copied());
        assert_eq!(number(table.last().unwrap()), left.last().copied());
        drop(table);
        txn.commit().unwrap();
        let view = db.begin_read().unwrap();
        assert_eq!(
            number(view.table::<Rows>().unwrap().last().unwrap()),
            left.last().copied()
        );
        assert_eq!(
            view.table::<Rows>().unwrap().len().unwrap(),
            left.len() as u64
        );
    }
}

#[test]
fn a_table_moves_with_its_rows_when_it_replaces_another() {
    let db = Database::in_memory().unwrap();
    let target = TableDefinition::of::<Rows>();
    let staged = target.renamed("staged");
    let txn = db.begin_write().unwrap();
    for number in 0..3_000u32 {
        txn.untyped(&target)
            .unwrap()
            .insert(number.to_be_bytes().as_slice(), b"old".as_slice())
            .unwrap();
        txn.untyped(&staged)
            .unwrap()
            .insert(number.to_le_bytes().as_slice(), b"new".as_slice())
            .unwrap();
    }
    txn.commit().unwrap();
    let txn = db.begin_write().unwrap();
    txn.replace_table(&staged, &target).unwrap();
    txn.commit().unwrap();
    let view = db.begin_read().unwrap();
    assert_eq!(view.tables().unwrap(), std::slice::from_ref(&target));
    assert!(
        view.untyped(&target)
            .unwrap()
            .iter()
            .unwrap()
            .all(|row| row.unwrap().1 == b"new")
    );
    assert_eq!(view.untyped(&target).unwrap().len().unwrap(), 3_000);
    drop(view);
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    let txn = db.begin_write().unwrap();
    assert!(txn.delete_table(&target).unwrap());
    assert!(!txn.delete_table(&target).unwrap());
    txn.commit().unwrap();
    let report = db.verify(|_, _| {}).unwrap();
    assert_eq!((report.problems.len(), report.rows), (0, 0));
}

#[test]
fn a_table_of_other_types_or_another_group_is_refused_by_name() {
    struct Other;
    impl Table for Other {
        const NAME: &'static str = "rows";
        type Key = u64;
        type Value = &'static [u8];
    }
    struct Elsewhere;
    impl Table for Elsewhere {
        const NAME: &'static str = "rows";
        const GROUP: Group = Group::new(3);
        type Key = &'static [u8];
        type Value = &'static [u8];
    }
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    txn.table::<Rows>().unwrap();
    assert!(
        txn.table::<Other>()
            .unwrap_err()
            .to_string()
            .contains("`bytes` to `bytes`")
    );
    txn.commit().unwrap();
    assert!(
        db.begin_read()
            .unwrap()
            .table::<Other>()
            .unwrap_err()
            .to_string()
            .contains("`u64` to `bytes`")
    );
    assert!(
        db.begin_write()
            .unwrap()
            .table::<Elsewhere>()
            .unwrap_err()
            .to_string()
            .contains("group 3")
    );
}

#[test]
fn a_table_that_replaces_itself_keeps_its_rows() {
    let db = Database::in_memory().unwrap();
    let table = TableDefinition::of::<Rows>();
    let txn = db.begin_write().unwrap();
    txn.untyped(&table)
        .unwrap()
        .insert(b"key".as_slice(), b"value".as_slice())
        .unwrap();
    txn.replace_table(&table, &table).unwrap();
    txn.commit().unwrap();
    let view = db.begin_read().unwrap();
    assert_eq!(view.untyped(&table).unwrap().len().unwrap(), 1);
}

struct Accounts;
impl Table for Accounts {
    const NAME: &'static str = "accounts";
    const GROUP: Group = Group::new(2);
    type Key = u64;
    type Value = (u64, [u8; 150]);
}

const ACCOUNTS: u64 = 400;
const TOTAL: u64 = ACCOUNTS * 100;

/// Moves money between accounts and writes down each time how often that was done.
fn transfer(db: &Database, random: &mut SplitMix64) {
    let mut txn = db.begin_write().unwrap();
    if random.below(10) > 0 {
        txn.set_durability(Durability::Eventual);
    }
    let mut accounts = txn.table::<Accounts>().unwrap();
    for _ in 0..1 + random.below(20) {
        let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
        let balance = |row: Option<(u64, [u8; 150])>| row.unwrap().0;
        let amount = random.below(balance(accounts.get(from).unwrap()) + 1);
        let less = balance(accounts.get(from).unwrap()) - amount;
        accounts.insert(from, (less, [1; 150])).unwrap();
        let more = balance(accounts.get(to).unwrap()) + amount;
        accounts.insert(to, (more, [2; 150])).unwrap();
    }
    drop(accounts);
    if random.one_in(3) {
        let mut rows = txn.table::<Rows>().unwrap();
        let value = value(random);
        rows.insert(key(random).as_slice(), value.as_slice())
            .unwrap();
    }
    if random.one_in(10) {
        txn.abort();
    } else {
        txn.commit().unwrap();
    }
}

fn total(db: &Database) -> u64 {
    let view = db.begin_read().unwrap();
    let table = view.table::<Accounts>().unwrap();
    let sum = |rows: Vec<u64>| -> u64 { rows.into_iter().sum() };
    let forwards = sum(table.iter().unwrap().map(|row| row.unwrap().1.0).collect());
    let backwards = sum(table
        .iter()
        .unwrap()
        .rev()
        .map(|row| row.unwrap().1.0)
        .collect());
    assert_eq!(forwards, backwards);
    forwards
}

#[test]
fn views_in_other_threads_see_whole_transactions_while_pages_are_flushed_evicted_and_reused() {
    // So small a cache that pages are written early and read again all the time.
    for cache in [24 * 4096, 64 * 4096] {
        let db = Database::builder().cache_size(cache).in_memory().unwrap();
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Accounts>().unwrap();
        (0..ACCOUNTS).for_each(|account| drop(table.insert(account, (100, [0; 150])).unwrap()));
        drop(table);
        txn.commit().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        assert_eq!(total(&db), TOTAL);
                    }
                });
            }
            scope.spawn(|| {
                let mut group = 0;
                while !done.load(Ordering::Relaxed) {
                    group = 2 - group;
                    db.checkpoint(GroupSet::from(Group::new(group))).unwrap();
                }
            });
            let writers = [1, 2].map(|seed| {
                let db = &db;
                scope.spawn(move || {
                    let mut random = SplitMix64::new(seed);
                    (0..400).for_each(|_| transfer(db, &mut random));
                })
            });
            let outcomes = writers.map(thread::ScopedJoinHandle::join);
            done.store(true, Ordering::Relaxed);
            outcomes.into_iter().for_each(Result::unwrap);
        });
        assert_eq!(total(&db), TOTAL);
        db.checkpoint(GroupSet::ALL).unwrap();
        assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    }
}
