//! A log applied entry by entry, without a Raft store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use folio_ledger::Ledger;
use folio_ledger::response::Response;
use folio_raft::{Applied, Entry, StateMachine};
use folio_store::{Database, Table, WriteTransaction};
use openraft::EntryPayload;

use crate::contents::Contents;

/// The answers to each entry.
pub type Answers = Vec<Vec<Response>>;

/// How far a test without a Raft store has applied the log: the next index, and the newest time.
struct Progress;
impl Table for Progress {
    const NAME: &'static str = "test_progress";
    type Key = ();
    type Value = (u64, u64);
}

/// Applies an entry, and notes that.
pub fn apply(txn: &WriteTransaction, entry: &Entry<Ledger>) -> Vec<Response> {
    let mut table = txn.table::<Progress>().unwrap();
    let (_, mut time) = table.get(()).unwrap().unwrap_or_default();
    let mut answers = Vec::new();
    if let EntryPayload::Normal(batch) = &entry.payload {
        time = time.max(batch.time);
        let at = Applied {
            index: entry.log_id.index,
            term: entry.log_id.leader_id.term,
            position: 0,
            time,
        };
        answers = StateMachine::apply_entry(&Ledger, txn, at, &batch.commands).unwrap();
    }
    table.insert((), (entry.log_id.index + 1, time)).unwrap();
    answers
}

/// The index of the first entry that is not applied.
pub fn next_index(database: &Database) -> u64 {
    let view = database.begin_read().unwrap();
    let progress = view.table::<Progress>().unwrap().get(()).unwrap();
    progress.map_or(0, |(next, _)| next)
}

/// What a database holds, verified.
pub fn contents(database: &Database) -> Contents {
    Contents::verified(&database.begin_read().unwrap())
}

/// Every entry in a transaction of its own, in memory: what all other ways are compared with.
pub fn straight(log: &[Entry<Ledger>]) -> (Contents, Answers) {
    let database = Database::in_memory().unwrap();
    let mut answers = Vec::new();
    for entry in log {
        let txn = database.begin_write().unwrap();
        answers.push(apply(&txn, entry));
        txn.commit().unwrap();
    }
    (contents(&database), answers)
}
