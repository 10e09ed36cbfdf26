//! Savepoints: a transaction goes back to what it was, page for page.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Arc};

use folio_store::{
    Database, Error, Group, GroupSet, Savepoint, Table, WriteTransaction,
    storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, SplitMix64, StorageCall},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

struct Other;
impl Table for Other {
    const NAME: &'static str = "other";
    const GROUP: Group = Group::new(2);
    type Key = u64;
    type Value = &'static [u8];
}

type Contents = BTreeMap<u64, Vec<u8>>;

fn change(txn: &WriteTransaction, model: &mut [Contents; 2], random: &mut SplitMix64) {
    for _ in 0..random.below(60) {
        let key = random.below(400);
        let length = match random.below(30) {
            0 => random.below(40_000),
            _ => random.below(700),
        };
        let value = vec![random.next_u64() as u8; length as usize];
        let other = random.one_in(3);
        let rows = &mut model[usize::from(other)];
        macro_rules! on {
            ($table:expr) => {
                match random.below(10) {
                    0..=6 => {
                        $table.insert(key, value.as_slice()).unwrap();
                        rows.insert(key, value);
                    }
                    7 | 8 => {
                        $table.remove(key).unwrap();
                        rows.remove(&key);
                    }
                    _ => {
                        $table.remove_range(key..key + 20).unwrap();
                        rows.retain(|row, _| !(key..key + 20).contains(row));
                    }
                }
            };
        }
        match other {
            false => on!(txn.table::<Rows>().unwrap()),
            true => on!(txn.table::<Other>().unwrap()),
        }
    }
}

fn read(txn: &WriteTransaction) -> [Contents; 2] {
    let rows = txn.table::<Rows>().unwrap();
    let other = txn.table::<Other>().unwrap();
    [
        rows.iter().unwrap().map(Result::unwrap).collect(),
        other.iter().unwrap().map(Result::unwrap).collect(),
    ]
}

/// Nothing is damaged, and the account in memory has no page more than the one on disk.
fn sound(db: &Database, context: &str) {
    db.checkpoint(GroupSet::ALL).unwrap();
    let report = db.verify(|_, _| {}).unwrap();
    assert_eq!(report.problems, [], "{context}");
    // Lets go of the pages that only the states before needed.
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(folio_store::Durability::Eventual);
    txn.commit().unwrap();
    let statistics = db.statistics();
    let used = statistics.length_pages - statistics.free_pages;
    // Eight fixed pages; the manifest of the last flush may have one.
    assert!(
        (8 + report.pages..=10 + report.pages).contains(&used),
        "{context}: {used} pages in use, {} of them reachable",
        report.pages
    );
}

#[test]
fn a_transaction_goes_back_to_any_of_its_savepoints() {
    for (seed, cache_pages) in (0..40).zip([40, 1000].into_iter().cycle()) {
        let context = format!("seed {seed}, {cache_pages} pages of cache");
        let db = Database::builder()
            .cache_size(cache_pages * 4096)
            .in_memory()
            .unwrap();
        let mut random = SplitMix64::new(seed);
        let mut model = [Contents::new(), Contents::new()];
        for _ in 0..6 {
            let before = model.clone();
            let mut txn = db.begin_write().unwrap();
            let mut saved: Vec<(Savepoint, [Contents; 2])> = Vec::new();
            for _ in 0..random.below(30) {
                match random.below(10) {
                    0..=4 => change(&txn, &mut model, &mut random),
                    5 | 6 => saved.push((txn.savepoint().unwrap(), model.clone())),
                    7 | 8 if !saved.is_empty() => {
                        let index = random.below(saved.len() as u64) as usize;
                        saved.truncate(index + 1);
                        txn.rollback_to(&saved[index].0).unwrap();
                        model = saved[index].1.clone();
                    }
                    9 if !saved.is_empty() => {
                        let index = random.below(saved.len() as u64) as usize;
                        saved.truncate(index + 1);
                        let (savepoint, _) = saved.pop().unwrap();
                        txn.release(savepoint).unwrap();
                    }
                    _ => {}
                }
                assert!(read(&txn) == model, "{context}");
            }
            if random.one_in(3) {
                txn.abort();
                model = before;
            } else {
                txn.commit().unwrap();
            }
            sound(&db, &context);
        }
        let txn = db.begin_write().unwrap();
        assert!(read(&txn) == model, "{context}");
    }
}

#[test]
fn tables_made_and_deleted_since_are_as_they_were() {
    let db = Database::in_memory().unwrap();
    let mut txn = db.begin_write().unwrap();
    txn.table::<Rows>()
        .unwrap()
        .insert(1, [1].as_slice())
        .unwrap();
    let before = txn.savepoint().unwrap();
    let rows = folio_store::TableDefinition::of::<Rows>();
    assert!(txn.delete_table(&rows).unwrap());
    txn.table::<Other>()
        .unwrap()
        .insert(1, [2].as_slice())
        .unwrap();
    txn.rollback_to(&before).unwrap();
    let names: Vec<_> = txn
        .tables()
        .unwrap()
        .into_iter()
        .map(|table| table.name)
        .collect();
    assert_eq!(names, ["rows"]);
    txn.commit().unwrap();
    sound(&db, "tables");
}

#[test]
fn going_back_mends_a_transaction_that_found_no_room() {
    let storage = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let mut txn = db.begin_write().unwrap();
    txn.table::<Rows>()
        .unwrap()
        .insert(1, [1].as_slice())
        .unwrap();
    let before = txn.savepoint().unwrap();
    storage.follow(FaultPlan {
        calls: &[StorageCall::Grow],
        at: 1,
        fault: Fault::NoSpace,
        lasting: true,
    });
    let large = vec![0; 50_000_000];
    let refused = txn
        .table::<Rows>()
        .unwrap()
        .insert(2, large.as_slice())
        .map(drop);
    assert!(matches!(refused, Err(Error::Full { .. })));
    assert!(matches!(
        txn.table::<Rows>().map(drop),
        Err(Error::Poisoned { .. })
    ));
    txn.rollback_to(&before).unwrap();
    txn.table::<Rows>()
        .unwrap()
        .insert(3, [3].as_slice())
        .unwrap();
    txn.commit().unwrap();
    assert_eq!(
        db.begin_read()
            .unwrap()
            .table::<Rows>()
            .unwrap()
            .len()
            .unwrap(),
        2
    );
    sound(&db, "mended");
}

#[test]
fn a_savepoint_that_is_gone_or_foreign_is_refused() {
    let db = Database::in_memory().unwrap();
    let mut txn = db.begin_write().unwrap();
    let first = txn.savepoint().unwrap();
    let second = txn.savepoint().unwrap();
    txn.rollback_to(&first).unwrap();
    assert!(matches!(
        txn.rollback_to(&second),
        Err(Error::NoSuchSavepoint)
    ));
    drop(txn);
    let mut other = db.begin_write().unwrap();
    assert!(matches!(
        other.rollback_to(&first),
        Err(Error::NoSuchSavepoint)
    ));
    assert!(matches!(other.release(first), Err(Error::NoSuchSavepoint)));
}
