//! The databases of these tests.

use std::hash::{DefaultHasher, Hash, Hasher};

use folio_store::{Database, Durability, Group, GroupSet, ReadTransaction, Table};

pub struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

pub struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(5);
    type Key = u64;
    type Value = &'static [u8];
}

/// The rows of both tables: how many, and a hash of them.
pub type Contents = (usize, u64);

pub fn contents_of(view: &ReadTransaction) -> Contents {
    let rows = view.table::<Rows>().unwrap();
    let log = view.table::<Log>().unwrap();
    let rows = rows.iter().unwrap().chain(log.iter().unwrap());
    let rows: Vec<(u64, Vec<u8>)> = rows.map(Result::unwrap).collect();
    let mut hasher = DefaultHasher::new();
    rows.hash(&mut hasher);
    (rows.len(), hasher.finish())
}

pub fn contents(db: &Database) -> Contents {
    contents_of(&db.begin_read().unwrap())
}

pub fn contents_at(db: &Database, savepoint: &str) -> Contents {
    contents_of(&db.begin_read_at(savepoint).unwrap())
}

/// Changes a part of the rows, long values among them, in both groups; which depends on `round`.
pub fn change(db: &Database, round: u64, durability: Durability) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    {
        let mut rows = txn.table::<Rows>().unwrap();
        for step in 0..60 {
            let key = (round * 389 + step * 17) % 1_500;
            let length = if step == 7 { 20_000 } else { key % 150 };
            let value = vec![round as u8; length as usize];
            rows.insert(key, value.as_slice()).unwrap();
        }
        let from = round * 211 % 1_400;
        rows.remove_range(from..from + 20).unwrap();
        let mut log = txn.table::<Log>().unwrap();
        log.insert(round, vec![round as u8; 300].as_slice())
            .unwrap();
    }
    txn.commit().unwrap();
}

/// A database with some history.
pub fn database() -> Database {
    let db = Database::in_memory().unwrap();
    (0..30).for_each(|round| change(&db, round, Durability::Immediate));
    db
}

/// Every page in use is referred to, and every page referred to is in use.
#[track_caller]
pub fn sound(db: &Database) {
    let report = db.verify(|_, _| {}).unwrap();
    assert_eq!(report.problems, []);
    let savepoints = db.savepoints().unwrap().len() as u64;
    assert_eq!(report.savepoints, savepoints);
}

pub fn names(db: &Database) -> Vec<String> {
    let savepoints = db.savepoints().unwrap().into_iter();
    savepoints.map(|savepoint| savepoint.name).collect()
}

/// Pages in use that savepoints keep.
pub fn kept(db: &Database) -> u64 {
    let pages = db.savepoint_pages().unwrap().into_iter();
    pages.map(|pages| pages.alone + pages.with_older).sum()
}

/// Pages in use.
pub fn used(db: &Database) -> u64 {
    db.checkpoint(GroupSet::ALL).unwrap();
    let statistics = db.statistics();
    statistics.length_pages - statistics.free_pages
}
