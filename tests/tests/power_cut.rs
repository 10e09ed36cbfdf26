//! Power cuts under a replicated ledger: a node of one on a simulated disk, cut at sampled moments
//! with sampled subsets of what was not synced.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use folio_ledger::command::Command;
use folio_ledger::response::{Rejection, Response};
use folio_ledger::transaction::Transaction;
use folio_ledger::{Ledger, LedgerView};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, RaftLogStore, ReplicatedDatabase, StoreOptions};
use folio_store::Database;
use folio_store::storage::{DiskEvent, MemoryStorage, SimulatedDisk, SplitMix64, Subset};
use folio_tests::contents::Contents;
use openraft::{RaftLogReader, RaftStorage};

const PATIENCE: Duration = Duration::from_secs(60);
const CLIENTS: u64 = 3;
const ROUNDS: u64 = 2;
const WRITES: u64 = 12;

/// A write and its answer.
type Acknowledged = (Command, Vec<u8>, Response);

async fn start(database: Database) -> ReplicatedDatabase<Ledger> {
    let config = Config {
        // Checkpoints and compactions happen among the writes.
        checkpoint_entries: 8,
        snapshot_after_entries: 12,
        log_entries_kept: 3,
        purge_batch: 1,
        ..Config::default()
    };
    let transport = MemoryNetwork::new().transport();
    ReplicatedDatabase::start(config, 1, database, Ledger, transport)
        .await
        .unwrap()
}

/// Writes as a client does, one by one in a session of its own. Each answer is marked in the
/// journal by the number of answers there are with it.
async fn client(
    node: ReplicatedDatabase<Ledger>,
    disk: Arc<SimulatedDisk>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
) {
    let opened = node.write(Command::open_session()).await.unwrap();
    let Response::SessionOpened { session } = opened.response else {
        panic!("no session")
    };
    for sequence in 1..=WRITES {
        let key = format!("{session}/{sequence}").into_bytes();
        let transaction = Transaction::new(1).set(key.clone(), sequence.to_be_bytes());
        let command = Command::submit(transaction).in_session(session, sequence);
        let written = node.write(command.clone()).await.unwrap();
        let mut all = acknowledged.lock().unwrap();
        all.push((command, key, written.response));
        disk.mark(all.len() as u64).unwrap();
    }
}

async fn load(disk: &Arc<SimulatedDisk>) -> Vec<Acknowledged> {
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for round in 0..ROUNDS {
        let builder = Database::builder();
        let node = if round == 0 {
            let node = start(builder.create_on(disk.clone()).unwrap()).await;
            let members = BTreeMap::from([(1, "memory:1".to_owned())]);
            node.initialize(members).await.unwrap();
            node.wait_for_leader(PATIENCE).await.unwrap();
            node.write(Command::create_vault("cut")).await.unwrap();
            node
        } else {
            start(builder.open_on(disk.clone()).unwrap()).await
        };
        let leads = |status: &folio_raft::Status| status.role == folio_raft::Role::Leader;
        node.wait_for("the lead", PATIENCE, leads).await.unwrap();
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(client(node.clone(), disk.clone(), acknowledged.clone()));
        }
        clients.join_all().await;
        node.kill().await;
    }
    let acknowledged = acknowledged.lock().unwrap();
    acknowledged.clone()
}

/// What the image holds once its log is applied: every acknowledged write, once.
async fn check(image: MemoryStorage, acknowledged: &[Acknowledged]) {
    let database = Database::builder().open_on(Arc::new(image)).unwrap();
    let options = StoreOptions::default();
    let mut store = RaftLogStore::open(database.clone(), 1, Ledger, options).unwrap();
    let (applied, _) = store.last_applied_state().await.unwrap();
    let next = applied.map_or(0, |id| id.index + 1);
    let log = store.try_get_log_entries(next..).await.unwrap();
    store.apply_to_state_machine(&log).await.unwrap();
    let view = database.begin_read().unwrap();
    Contents::verified(&view);
    for (_, key, _) in acknowledged {
        let entity = LedgerView::new(&view).entity(1, key).unwrap();
        assert_eq!(entity.map(|e| e.version), Some(1), "{key:?}");
    }
    drop(view);
    // A client that did not hear the last answer asks again.
    if let Some((command, _, response)) = acknowledged.last() {
        let txn = database.begin_write().unwrap();
        let at = folio_raft::Applied {
            index: 1_000,
            term: 100,
            position: 0,
            time: u64::MAX,
        };
        let again = Ledger.apply_entry(&txn, at, std::slice::from_ref(command));
        let again = again.unwrap().remove(0);
        // The next write of that client was perhaps under way, and may have happened.
        let sequence = command.session.unwrap().sequence;
        let stale = |latest| latest == sequence + 1;
        assert!(
            again == *response
                || matches!(again, Response::Rejected(Rejection::StaleSequence { latest, .. }) if stale(latest)),
            "{again:?}"
        );
        txn.abort();
    }
    store.close();
    database.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_power_cut_loses_an_acknowledged_write_or_breaks_the_chain() {
    const SEED: u64 = 5;
    // Shown when the test fails; the last line names the moment of the cut.
    println!("seed {SEED}");
    let disk = Arc::new(SimulatedDisk::recording(&MemoryStorage::new()));
    let acknowledged = load(&disk).await;
    assert_eq!(acknowledged.len() as u64, CLIENTS * ROUNDS * WRITES);
    let journal = disk.journal().unwrap();
    let mut random = SplitMix64::new(SEED);
    let mut replay = journal.replay();
    let (mut promised, mut images) = (0, 0);
    while let Some(event) = replay.advance() {
        if let DiskEvent::Mark(count) = event {
            promised = *count as usize;
        }
        if promised == 0 || !random.one_in(2) {
            continue;
        }
        println!(
            "after event {}: {event:?}, {promised} promised",
            replay.position()
        );
        let point = replay.crash_point();
        let pending = point.pending().len();
        let some = Subset::of(pending, |_| random.one_in(2));
        for subset in [Subset::none(pending), some] {
            check(point.image(&subset), &acknowledged[..promised]).await;
            images += 1;
        }
    }
    assert!(images > 100, "{images} images");
}
