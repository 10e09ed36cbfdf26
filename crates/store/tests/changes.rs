//! What was changed since a transaction, from pages: enough to bring any copy from between then and now to what is now.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, ops::Bound};

use folio_store::{
    Change, CompactOptions, Database, Durability, Table, TableDefinition, storage::SplitMix64,
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// The table as it is, what that is called, and what the latest changes were.
fn now(db: &Database) -> (u64, Model) {
    let view = db.begin_read().unwrap();
    let rows = view.untyped(&TableDefinition::of::<Rows>()).unwrap();
    let rows = rows.iter().unwrap().collect::<Result<_, _>>().unwrap();
    (view.number(), rows)
}

fn changes_since(db: &Database, number: u64) -> Vec<Change> {
    let view = db.begin_read().unwrap();
    let rows = view.untyped(&TableDefinition::of::<Rows>()).unwrap();
    rows.changes_since(number)
        .collect::<Result<_, _>>()
        .unwrap()
}

/// Applies changes to a copy. False if a part that is kept has other rows than it says.
fn bring(copy: &Model, changes: &[Change]) -> (bool, Model) {
    let mut new = Model::new();
    let mut fits = true;
    for change in changes {
        match change {
            Change::Row { key, value } => {
                new.insert(key.clone(), value.clone());
            }
            Change::Kept { first, last, rows } => {
                let range = (Bound::Included(first), Bound::Included(last));
                let kept = copy.range::<Vec<u8>, _>(range);
                let before = new.len();
                new.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
                fits &= (new.len() - before) as u64 == *rows;
                assert!(new.contains_key(first) && new.contains_key(last));
            }
        }
    }
    (fits, new)
}

fn change_some(db: &Database, random: &mut SplitMix64) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(Durability::Eventual);
    let mut rows = txn.table::<Rows>().unwrap();
    for _ in 0..1 + random.below(8) {
        let key = random.below(6_000);
        match random.below(12) {
            0 => {
                rows.remove_range(key..key + random.below(900)).unwrap();
            }
            1 | 2 => {
                rows.remove(key).unwrap();
            }
            3 => {
                let value = vec![7; 9_000 + random.below(9_000) as usize];
                rows.insert(key, value.as_slice()).unwrap();
            }
            4 => {
                for key in key..key + 200 {
                    rows.insert(key, [8; 60].as_slice()).unwrap();
                }
            }
            _ => {
                let value = vec![random.below(250) as u8; random.below(120) as usize];
                rows.insert(key, value.as_slice()).unwrap();
            }
        }
    }
    drop(rows);
    txn.commit().unwrap();
}

#[test]
fn the_changes_bring_every_copy_from_between_to_what_is_now() {
    const STEPS: usize = 24;
    let mut never_fitted = 0;
    for seed in 0..12 {
        println!("seed {seed}");
        let mut random = SplitMix64::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut db = Database::builder()
            .page_size(4096 << (seed % 3))
            .cache_size(1 << 20)
            .create(&path)
            .unwrap();
        let txn = db.begin_write().unwrap();
        for key in 0..6_000 {
            let mut rows = txn.table::<Rows>().unwrap();
            rows.insert(key, [9; 40].as_slice()).unwrap();
        }
        txn.commit().unwrap();

        let mut states = vec![now(&db)];
        for step in 0..STEPS {
            change_some(&db, &mut random);
            match step {
                7 => drop(
                    db.compact(CompactOptions::new(), |_, _| {
                        std::ops::ControlFlow::Continue(())
                    })
                    .unwrap(),
                ),
                14 => {
                    db.close().unwrap();
                    db = Database::open(&path).unwrap();
                }
                _ => {}
            }
            states.push(now(&db));
        }
        let (_, last) = states.last().unwrap();
        for (from, (number, _)) in states.iter().enumerate() {
            let changes = changes_since(&db, *number);
            for (_, copy) in &states[from..] {
                let (fits, brought) = bring(copy, &changes);
                if fits {
                    assert!(brought == *last, "from step {from}");
                } else {
                    // Rows of the copy lay in pages that are gone as a whole.
                    never_fitted += 1;
                }
            }
        }
    }
    let pairs = 12 * (STEPS + 1) * (STEPS + 2) / 2;
    println!("{never_fitted} of {pairs} copies did not fit");
    assert!(never_fitted * 10 < pairs, "{never_fitted} of {pairs}");
}

#[test]
fn one_changed_row_of_many_comes_with_those_of_its_page() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    for key in 0..100_000 {
        let mut rows = txn.table::<Rows>().unwrap();
        rows.insert(key, [1; 20].as_slice()).unwrap();
    }
    txn.commit().unwrap();
    let (number, _) = now(&db);
    let is_row = |change: &&Change| matches!(change, Change::Row { .. });
    assert_eq!(changes_since(&db, number).len(), 1, "all is kept");

    let txn = db.begin_write().unwrap();
    let mut rows = txn.table::<Rows>().unwrap();
    rows.insert(50_000, [2; 20].as_slice()).unwrap();
    drop(rows);
    txn.commit().unwrap();
    let before = db.statistics();
    let changes = changes_since(&db, number);
    let visits = db.statistics().cache_hits + db.statistics().cache_misses
        - before.cache_hits
        - before.cache_misses;
    let came = changes.iter().filter(is_row).count();
    assert!((1..150).contains(&came), "{came} rows");
    assert_eq!(changes.len() - came, 2, "what is before it, and behind it");
    assert!(visits < 40, "{visits} pages");
}

#[test]
fn rows_of_a_range_are_counted_by_two_ways_down() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut model = Model::new();
    let mut rows = txn.untyped(&TableDefinition::of::<Rows>()).unwrap();
    let mut random = SplitMix64::new(3);
    let key = |random: &mut SplitMix64| random.below(5_000).to_be_bytes()[6..].to_vec();
    for _ in 0..20_000 {
        let key = key(&mut random);
        rows.insert(key.as_slice(), [0; 30].as_slice()).unwrap();
        model.insert(key, Vec::new());
    }
    for _ in 0..2_000 {
        let (a, b) = (key(&mut random), key(&mut random));
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        let (low, high) = (low.as_slice(), high.as_slice());
        let count = |range: (Bound<&[u8]>, Bound<&[u8]>)| {
            let counted = rows.count(range).unwrap();
            let empty = matches!(range, (Bound::Excluded(a), Bound::Excluded(b)) if a == b);
            let expected = if empty {
                0
            } else {
                model.range::<[u8], _>(range).count()
            };
            assert_eq!(counted, expected as u64, "{range:?}");
        };
        count((Bound::Included(low), Bound::Included(high)));
        count((Bound::Included(low), Bound::Excluded(high)));
        count((Bound::Excluded(low), Bound::Included(high)));
        count((Bound::Excluded(low), Bound::Excluded(high)));
        count((Bound::Unbounded, Bound::Excluded(high)));
        count((Bound::Excluded(low), Bound::Unbounded));
    }
    assert_eq!(rows.count(..).unwrap(), model.len() as u64);
}
