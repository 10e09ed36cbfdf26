//! What readers of the log see of it: from memory what was appended lately, from the file all else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::CounterMachine;
use common::script::{Store, entry};
use common::store::Operations;
use folio_raft::{LogId, RaftLogStore, StoreOptions};
use folio_store::Database;
use folio_store::storage::SplitMix64;
use openraft::{CommittedLeaderId, RaftLogReader};

fn create() -> (Database, Store) {
    let database = Database::in_memory().unwrap();
    let options = StoreOptions::default();
    let store = RaftLogStore::open(database.clone(), 1, CounterMachine, options).unwrap();
    (database, store)
}

#[tokio::test]
async fn entries_that_were_appended_lately_are_read_without_the_database() {
    let (database, mut store) = create();
    let entries: Vec<_> = (0..9).map(entry).collect();
    store.append_to_log(entries.clone()).await.unwrap();
    let mut reader = store.get_log_reader().await;
    let pages = || {
        let statistics = database.statistics();
        statistics.cache_hits + statistics.cache_misses
    };
    let before = pages();
    assert_eq!(
        reader.try_get_log_entries(2..7).await.unwrap(),
        entries[2..7]
    );
    let limited = reader.limited_get_log_entries(3, 9).await.unwrap();
    assert_eq!(limited, entries[3..]);
    assert_eq!(pages(), before);
    // So that the comparison means something.
    assert_eq!(
        reader.try_get_log_entries(2..=6).await.unwrap(),
        entries[2..7]
    );
    assert!(pages() > before);
}

#[tokio::test]
async fn memory_and_file_show_the_same_log_whatever_was_done_to_it() {
    for seed in 0..30 {
        let mut random = SplitMix64::new(seed);
        let (_database, mut store) = create();
        let mut reader = store.get_log_reader().await;
        store.append_to_log([entry(0)]).await.unwrap();
        store.apply_to_state_machine(&[entry(0)]).await.unwrap();
        let (mut first, mut next, mut applied, mut term) = (0, 1, 0, 1);
        for step in 0..60 {
            let of = |term, index| {
                let mut entry = entry(index);
                entry.log_id = LogId::new(CommittedLeaderId::new(term, 1), index);
                entry
            };
            match random.below(5) {
                0 if next > applied + 1 => {
                    let from = applied + 1 + random.below(next - applied - 1);
                    let at = LogId::new(CommittedLeaderId::new(term, 1), from);
                    store.delete_conflict_logs_since(at).await.unwrap();
                    (next, term) = (from, term + 1);
                }
                1 if applied + 1 < next => {
                    let to = applied + 1 + random.below(next - applied - 1);
                    let entries = reader
                        .try_get_log_entries(applied + 1..to + 1)
                        .await
                        .unwrap();
                    store.apply_to_state_machine(&entries).await.unwrap();
                    applied = to;
                }
                2 if first <= applied => {
                    let to = first + random.below(applied - first + 1);
                    let last = reader.try_get_log_entries(to..to + 1).await.unwrap();
                    store.purge_logs_upto(last[0].log_id).await.unwrap();
                    first = to + 1;
                }
                _ => {
                    let end = next + 1 + random.below(5);
                    store
                        .append_to_log((next..end).map(|index| of(term, index)))
                        .await
                        .unwrap();
                    next = end;
                }
            }
            for _ in 0..5 {
                let start = random.below(next + 2);
                let end = start + 1 + random.below(6);
                let memory = reader.try_get_log_entries(start..end).await.unwrap();
                let file = reader.try_get_log_entries(start..=end - 1).await.unwrap();
                assert_eq!(memory, file, "seed {seed}, step {step}: {start}..{end}");
                let limited = reader.limited_get_log_entries(start, end).await.unwrap();
                let whole = if start < first { Vec::new() } else { file };
                assert_eq!(limited, whole, "seed {seed}, step {step}: {start}..{end}");
            }
        }
    }
}
