//! One log, applied in every way there is: one state.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use folio_ledger::Ledger;
use folio_ledger::response::{Rejection, Response};
use folio_raft::{RaftLogStore, StoreOptions};
use folio_store::storage::SplitMix64;
use folio_store::{Database, Durability};
use folio_tests::history;
use folio_tests::straight::{apply, contents, next_index, straight};
use openraft::{RaftLogReader, RaftSnapshotBuilder, RaftStorage};

const SEEDS: std::ops::Range<u64> = 0..6;
const LENGTH: u64 = 120;

type Store = RaftLogStore<Ledger>;

fn check_file(database: Database, path: &Path) {
    database.close().unwrap();
    let report = Database::open(path).unwrap().verify(|_, _| ()).unwrap();
    assert_eq!(report.problems, []);
}

fn open(database: &Database, node: u64) -> Store {
    RaftLogStore::open(database.clone(), node, Ledger, StoreOptions::default()).unwrap()
}

#[test]
fn the_histories_have_everything_in_them() {
    let mut seen = [false; 11];
    for seed in SEEDS {
        for answer in straight(&history::random(seed, LENGTH)).1.iter().flatten() {
            let kind = match answer {
                Response::Committed(_) => 0,
                Response::SessionClosed => 1,
                Response::Rejected(Rejection::ConditionFailed { .. }) => 2,
                Response::Rejected(Rejection::SessionExpired { .. }) => 3,
                Response::Rejected(Rejection::SessionUnknown { .. }) => 4,
                Response::Rejected(Rejection::StaleSequence { .. }) => 5,
                Response::Rejected(Rejection::UnknownVault { .. }) => 6,
                Response::Rejected(Rejection::VaultDeleted { .. }) => 7,
                Response::VaultDeleted { .. } => 8,
                Response::RetentionSet { .. } => 9,
                Response::NumbersAllocated { .. } => 10,
                _ => continue,
            };
            seen[kind] = true;
        }
    }
    assert_eq!(seen, [true; 11]);
}

#[test]
fn kills_and_replays_on_a_file_give_the_state_of_the_log_applied_straight_through() {
    let mut lost = 0;
    for seed in SEEDS {
        println!("seed {seed}");
        let mut random = SplitMix64::new(seed);
        let log = history::random(seed, LENGTH);
        let (expected, answers) = straight(&log);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.folio");
        let mut database = Database::create(&path).unwrap();
        loop {
            let next = next_index(&database);
            let mut txn = database.begin_write().unwrap();
            if !random.one_in(4) {
                txn.set_durability(Durability::Eventual);
            }
            for entry in log
                .iter()
                .skip(next as usize)
                .take(1 + random.below(5) as usize)
            {
                let index = entry.log_id.index;
                assert_eq!(apply(&txn, entry), answers[index as usize], "entry {index}");
            }
            txn.commit().unwrap();
            let reached = next_index(&database);
            if reached == LENGTH {
                break;
            }
            if random.one_in(6) {
                database.kill();
                database = Database::open(&path).unwrap();
                lost += reached - next_index(&database);
            }
        }
        contents(&database).assert_equal(&expected, "after kills");
        check_file(database, &path);
    }
    assert!(lost > 0, "no kill lost anything: nothing was replayed");
}

#[tokio::test]
async fn snapshots_installed_along_the_way_give_the_same_state_and_answers() {
    for seed in SEEDS {
        println!("seed {seed}");
        let mut random = SplitMix64::new(seed);
        let log = history::random(seed, LENGTH);
        let (expected, answers) = straight(&log);
        let mut node = 1;
        let mut database = Database::in_memory().unwrap();
        let mut store = open(&database, node);
        for entry in &log {
            let index = entry.log_id.index as usize;
            let got = store
                .apply_to_state_machine([entry.clone()].as_slice())
                .await;
            assert_eq!(got.unwrap(), [answers[index].clone()], "entry {index}");
            if !random.one_in(20) {
                continue;
            }
            let mut builder = store.get_snapshot_builder().await;
            let mut built = builder.build_snapshot().await.unwrap();
            node += 1;
            let other = Database::in_memory().unwrap();
            let mut receiver = open(&other, node);
            // Half the time over an older state, whose rows have to go.
            let older = random.below(2) as usize * random.below(index as u64 + 1) as usize;
            receiver
                .apply_to_state_machine(&log[..older])
                .await
                .unwrap();
            let mut data = receiver.begin_receiving_snapshot().await.unwrap();
            tokio::io::copy(&mut built.snapshot, &mut data)
                .await
                .unwrap();
            receiver.install_snapshot(&built.meta, data).await.unwrap();
            contents(&other).assert_equal(&contents(&database), "installed");
            drop(built);
            store.close();
            (database, store) = (other, receiver);
        }
        assert!(node > 1, "seed {seed} installs nothing");
        contents(&database).assert_equal(&expected, "through snapshots");
        store.close();
    }
}

#[tokio::test]
async fn kills_between_append_apply_and_checkpoint_give_the_same_state() {
    let mut lost = 0;
    for seed in SEEDS {
        println!("seed {seed}");
        let mut random = SplitMix64::new(seed);
        let log = history::random(seed, LENGTH);
        let (expected, answers) = straight(&log);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.folio");
        let mut database = Database::create(&path).unwrap();
        let mut store = open(&database, 1);
        let (mut appended, mut applied) = (0_usize, 0_usize);
        while applied < log.len() {
            let end = log.len().min(appended + random.below(6) as usize);
            store
                .append_to_log(log[appended..end].to_vec())
                .await
                .unwrap();
            appended = end;
            let end = appended.min(applied + random.below(8) as usize);
            let entries = store
                .try_get_log_entries(applied as u64..end as u64)
                .await
                .unwrap();
            assert_eq!(entries, log[applied..end]);
            let got = store.apply_to_state_machine(&entries).await.unwrap();
            assert_eq!(got, answers[applied..end]);
            applied = end;
            if random.one_in(8) {
                let mut builder = store.get_snapshot_builder().await;
                drop(builder.build_snapshot().await.unwrap());
            }
            if applied > 0 && random.one_in(10) {
                store
                    .purge_logs_upto(log[applied - 1].log_id)
                    .await
                    .unwrap();
            }
            if applied < log.len() && random.one_in(6) {
                store.close();
                database.kill();
                database = Database::open(&path).unwrap();
                store = open(&database, 1);
                let ends = store.get_log_state().await.unwrap();
                assert_eq!(ends.last_log_id, log[..appended].last().map(|e| e.log_id));
                let (last, _) = store.last_applied_state().await.unwrap();
                let found = last.map_or(0, |id| id.index as usize + 1);
                assert!(found <= applied, "applied to {found}, not {applied}");
                lost += applied - found;
                applied = found;
            }
        }
        contents(&database).assert_equal(&expected, "after kills");
        store.close();
        check_file(database, &path);
    }
    assert!(lost > 0, "no kill lost anything: nothing was replayed");
}
