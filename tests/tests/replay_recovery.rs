//! One log, applied through power cuts, copies and changes from other nodes: one state.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use folio_ledger::Ledger;
use folio_ledger::command::Command;
use folio_ledger::transaction::Transaction;
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, Entry, RaftLogStore, ReadLevel, ReplicatedDatabase, StoreOptions};
use folio_store::storage::{DiskEvent, MemoryStorage, SimulatedDisk, SplitMix64, Subset};
use folio_store::{BackupOptions, BackupPoint, Database, apply_backup};
use folio_tests::contents::Contents;
use folio_tests::history;
use folio_tests::straight::{Answers, contents, straight};
use openraft::{RaftLogReader, RaftSnapshotBuilder, RaftStorage};

const SEEDS: std::ops::Range<u64> = 0..4;
const LENGTH: u64 = 120;
const PATIENCE: Duration = Duration::from_secs(60);

type Store = RaftLogStore<Ledger>;
type Log = Vec<Entry<Ledger>>;

fn open(database: &Database) -> Store {
    RaftLogStore::open(database.clone(), 1, Ledger, StoreOptions::default()).unwrap()
}

/// Takes a store from wherever it is to the end of the log, in batches of random size, and checks every answer on
/// the way; `between` is called after each batch with the number of entries appended.
async fn go_on(
    store: &mut Store,
    log: &Log,
    answers: &Answers,
    random: &mut SplitMix64,
    mut between: impl AsyncFnMut(&mut Store, &mut SplitMix64, usize, usize) -> ControlFlow<()>,
) {
    let ends = store.get_log_state().await.unwrap();
    let mut appended = ends.last_log_id.map_or(0, |id| id.index as usize + 1);
    let (last, _) = store.last_applied_state().await.unwrap();
    let mut applied = last.map_or(0, |id| id.index as usize + 1);
    assert!(
        applied <= appended,
        "applied to {applied}, the log ends at {appended}"
    );
    while applied < log.len() {
        let end = log.len().min(appended + random.below(6) as usize);
        store
            .append_to_log(log[appended..end].to_vec())
            .await
            .unwrap();
        appended = end;
        let end = appended.min(applied + random.below(90) as usize);
        let entries = store
            .try_get_log_entries(applied as u64..end as u64)
            .await
            .unwrap();
        let got = store.apply_to_state_machine(&entries).await.unwrap();
        assert_eq!(got, answers[applied..end], "entries {applied}..{end}");
        applied = end;
        if between(store, random, appended, applied).await.is_break() {
            return;
        }
    }
}

#[tokio::test]
async fn power_cuts_at_any_moment_and_going_on_give_the_state_of_the_log_applied_straight_through()
{
    let (mut images, mut behind) = (0, 0);
    for seed in SEEDS {
        println!("seed {seed}");
        let log = history::random(seed, LENGTH);
        let (expected, answers) = straight(&log);
        let mut random = SplitMix64::new(seed);
        let disk = Arc::new(SimulatedDisk::recording(&MemoryStorage::new()));
        let database = Database::builder().create_on(disk.clone()).unwrap();
        let mut store = open(&database);
        go_on(
            &mut store,
            &log,
            &answers,
            &mut random,
            async |store, random, appended, applied| {
                disk.mark(appended as u64).unwrap();
                if random.one_in(6) {
                    // Makes the state durable up to here.
                    let mut builder = store.get_snapshot_builder().await;
                    drop(builder.build_snapshot().await.unwrap());
                }
                if applied > 0 && random.one_in(8) {
                    store
                        .purge_logs_upto(log[applied - 1].log_id)
                        .await
                        .unwrap();
                }
                ControlFlow::Continue(())
            },
        )
        .await;
        store.close();
        database.kill();
        let journal = disk.journal().unwrap();
        let mut replay = journal.replay();
        let mut promised = 0;
        while let Some(event) = replay.advance() {
            if let DiskEvent::Mark(appended) = event {
                promised = *appended as usize;
            }
            if promised == 0 || !random.one_in(12) {
                continue;
            }
            println!(
                "after event {}: {promised} entries promised",
                replay.position()
            );
            let point = replay.crash_point();
            let pending = point.pending().len();
            let image = point.image(&Subset::of(pending, |_| random.one_in(2)));
            let database = Database::builder().open_on(Arc::new(image)).unwrap();
            let mut store = open(&database);
            let ends = store.get_log_state().await.unwrap();
            assert!(ends.last_log_id.map_or(0, |id| id.index as usize + 1) >= promised);
            let (last, _) = store.last_applied_state().await.unwrap();
            behind += promised.saturating_sub(last.map_or(0, |id| id.index as usize + 1));
            go_on(
                &mut store,
                &log,
                &answers,
                &mut random,
                async |_, _, _, _| ControlFlow::Continue(()),
            )
            .await;
            contents(&database).assert_equal(&expected, "after a power cut");
            store.close();
            database.kill();
            images += 1;
        }
    }
    assert!(images > 40, "{images} images");
    assert!(
        behind > 0,
        "no cut lost any of the state: nothing was applied again"
    );
}

#[tokio::test]
async fn copies_and_what_was_changed_since_take_the_place_of_the_file_and_go_on() {
    let mut applied_changes = 0;
    for seed in SEEDS {
        println!("seed {seed}");
        let log = history::random(seed, LENGTH);
        let (expected, answers) = straight(&log);
        let mut random = SplitMix64::new(seed);
        let directory = tempfile::tempdir().unwrap();
        let mut generation = 0;
        let path = |generation: u32| directory.path().join(format!("{generation}.folio"));
        let mut database = Database::create(path(0)).unwrap();
        let mut store = open(&database);
        loop {
            let copy = path(generation + 1);
            let mut copies = 0;
            let on = database.clone();
            go_on(
                &mut store,
                &log,
                &answers,
                &mut random,
                async |_, random, _, _| {
                    let copied = match (copies, random.one_in(5)) {
                        (_, false) => return ControlFlow::Continue(()),
                        (0, true) => on.backup_to(BackupOptions::new(), &copy, |_, _| {
                            ControlFlow::Continue(())
                        }),
                        (_, true) => {
                            let changes = directory.path().join("changes");
                            let point = BackupPoint::of_file(&copy).unwrap();
                            let out = File::create(&changes).unwrap();
                            on.backup_since(&point, BackupOptions::new(), out, |_, _| {
                                ControlFlow::Continue(())
                            })
                            .unwrap();
                            applied_changes += 1;
                            apply_backup(&copy, File::open(&changes).unwrap())
                        }
                    };
                    copied.unwrap();
                    copies += 1;
                    if copies == 3 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                },
            )
            .await;
            let (last, _) = store.last_applied_state().await.unwrap();
            if last.is_some_and(|id| id.index + 1 == LENGTH) {
                break;
            }
            store.close();
            database.kill();
            generation += 1;
            database = Database::open(&copy).unwrap();
            store = open(&database);
        }
        contents(&database).assert_equal(&expected, "through copies");
        store.close();
        database.close().unwrap();
    }
    assert!(applied_changes > 10, "{applied_changes} incremental copies");
}

fn eager() -> Config {
    Config {
        snapshot_after_entries: 20,
        log_entries_kept: 5,
        purge_batch: 1,
        ..Config::default()
    }
}

/// Touches a few of many rows, again and again, so that most pages stay as they are.
fn some(random: &mut SplitMix64) -> Command {
    let key = format!("key {:06}", 1_000 + random.below(4));
    Command::submit(Transaction::new(1).set(key, random.below(9).to_be_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_gets_what_was_changed_has_the_state_of_those_that_applied_the_log() {
    const SEED: u64 = 11;
    println!("seed {SEED}");
    let mut random = SplitMix64::new(SEED);
    let network = MemoryNetwork::new();
    let start = async |id, database: Database| {
        ReplicatedDatabase::start(eager(), id, database, Ledger, network.transport())
            .await
            .unwrap()
    };
    let leader = start(1, Database::in_memory().unwrap()).await;
    leader
        .initialize(BTreeMap::from([(1, "memory:1".to_owned())]))
        .await
        .unwrap();
    leader.wait_for_leader(PATIENCE).await.unwrap();
    leader.write(Command::create_vault("v")).await.unwrap();
    for part in 0..40 {
        let fill = (part * 100..(part + 1) * 100).fold(Transaction::new(1), |t, number| {
            t.set(format!("key {number:06}"), [7; 40])
        });
        leader.write(Command::submit(fill)).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("learner.folio");
    let mut sizes = Vec::new();
    for round in 0..4 {
        let learner = start(2, Database::builder().open_or_create(&path).unwrap()).await;
        if round == 0 {
            leader.add_learner(2, "memory:2".into()).await.unwrap();
        }
        let index = leader.write(some(&mut random)).await.unwrap().index;
        learner.wait_for_applied(index, PATIENCE).await.unwrap();
        let metrics = learner.metrics().unwrap();
        assert_eq!(metrics.snapshots_installed, 1, "round {round}");
        sizes.push(metrics.snapshot_bytes_received);
        learner.shutdown().await.unwrap();
        let database = Database::open(&path).unwrap();
        let of_leader = leader.read(ReadLevel::Local, Contents::verified).await;
        contents(&database).assert_equal(&of_leader.unwrap(), "after a snapshot");
        database.close().unwrap();
        // More than the log that is kept.
        for _ in 0..40 {
            leader.write(some(&mut random)).await.unwrap();
        }
    }
    for changes in &sizes[1..] {
        assert!(
            *changes < sizes[0] / 2,
            "the whole state is {}, changes {sizes:?}",
            sizes[0]
        );
    }
    leader.shutdown().await.unwrap();
}
