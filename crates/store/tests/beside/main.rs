//! Readers beside a writer, each with a handle of its own, as if in another process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

// Elsewhere readers of a file exclude the writer.
#[cfg(target_os = "linux")]
mod files;
mod moments;
mod random;
mod shared;

use std::ops::ControlFlow;

use folio_store::{CompactOptions, Database, Durability, Group, Table, storage::SplitMix64};

/// All rows are written by every commit, so that each needs other pages.
struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

const ROWS: u64 = 40;
const ROW: usize = 400;

/// Another group: every commit appends a row.
struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(1);
    type Key = u64;
    type Value = u64;
}

struct Blobs;
impl Table for Blobs {
    const NAME: &'static str = "blobs";
    type Key = u64;
    type Value = &'static [u8];
}

/// What a state shows: the version of all rows, and the length of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct State {
    version: u64,
    log: u64,
}

impl State {
    fn lies_between(self, least: Self, most: Self) -> bool {
        (least.version..=most.version).contains(&self.version)
            && (least.log..=most.log).contains(&self.log)
    }
}

fn rewrite(db: &Database, version: u64, durability: Durability) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    let mut value = [0; ROW];
    value[..8].copy_from_slice(&version.to_le_bytes());
    let mut rows = txn.table::<Rows>().unwrap();
    for key in 0..ROWS {
        rows.insert(key, value.as_slice()).unwrap();
    }
    drop(rows);
    txn.commit().unwrap();
}

fn append(db: &Database, durability: Durability) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    let mut log = txn.table::<Log>().unwrap();
    let length = log.len().unwrap();
    log.insert(length, length * 3).unwrap();
    drop(log);
    txn.commit().unwrap();
}

fn compact(db: &Database) {
    db.compact(CompactOptions::default(), |_, _| ControlFlow::Continue(()))
        .unwrap();
}

/// What a database shows, all of it read and compared.
fn state(db: &Database) -> State {
    let view = db.begin_read().unwrap();
    let mut state = State::default();
    let tables = view.tables().unwrap();
    let has = |name: &str| tables.iter().any(|table| table.name == name);
    if has(Rows::NAME) {
        let mut versions = Vec::new();
        for row in view.table::<Rows>().unwrap().iter().unwrap() {
            let (_, value) = row.unwrap();
            assert_eq!(value.len(), ROW);
            versions.push(u64::from_le_bytes(value[..8].try_into().unwrap()));
        }
        assert_eq!(versions.len() as u64, ROWS);
        assert!(
            versions.iter().all(|&version| version == versions[0]),
            "torn: {versions:?}"
        );
        state.version = versions[0];
    }
    if has(Log::NAME) {
        for (expected, row) in (0..).zip(view.table::<Log>().unwrap().iter().unwrap()) {
            assert_eq!(row.unwrap(), (expected, expected * 3));
            state.log += 1;
        }
    }
    state
}

/// Nothing is wrong with any page of what the handle shows.
fn check_whole(db: &Database) {
    let report = db.verify(|_, _| {}).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}
