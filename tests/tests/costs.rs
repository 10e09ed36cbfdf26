//! What writes cost the disk, as the engine counts it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use folio_ledger::Ledger;
use folio_ledger::command::Command;
use folio_ledger::response::Response;
use folio_ledger::transaction::Transaction;
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, ReadLevel, ReplicatedDatabase};
use folio_store::Database;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster of one node, with vault 1. Its file goes with the directory.
async fn one_node() -> (TempDir, ReplicatedDatabase<Ledger>) {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::create(directory.path().join("node.folio")).unwrap();
    let transport = MemoryNetwork::new().transport();
    let node = ReplicatedDatabase::start(Config::default(), 1, database, Ledger, transport)
        .await
        .unwrap();
    let members = BTreeMap::from([(1, "memory:1".to_owned())]);
    node.initialize(members).await.unwrap();
    node.wait_for_leader(PATIENCE).await.unwrap();
    node.write(Command::create_vault("costs")).await.unwrap();
    (directory, node)
}

/// Flushes and syncs so far, and the index of the last log entry.
fn costs(node: &ReplicatedDatabase<Ledger>) -> (u64, u64, u64) {
    let statistics = node.statistics().unwrap();
    let last = node.status().last_log.unwrap();
    (statistics.flushes, statistics.syncs, last)
}

fn set(key: String) -> Command {
    Command::submit(Transaction::new(1).set(key, b"value"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_costs_one_flush_for_its_entry_and_applying_and_reading_it_none() {
    let (_directory, node) = one_node().await;
    for number in 0..20_u64 {
        let (flushes, syncs, last) = costs(&node);
        let written = node.write(set(number.to_string())).await.unwrap();
        assert!(matches!(written.response, Response::Committed(_)));
        assert_eq!(written.index, last + 1);
        node.read(ReadLevel::Linearizable, |_| ()).await.unwrap();
        let (flushes_now, syncs_now, _) = costs(&node);
        assert_eq!((flushes_now, syncs_now), (flushes + 1, syncs + 1));
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_commands_share_entries_and_their_flushes() {
    let (_directory, node) = one_node().await;
    let (flushes, _, last) = costs(&node);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..64 {
        let node = node.clone();
        clients.spawn(async move {
            for number in 0..5 {
                let written = node.write(set(format!("{client}/{number}"))).await.unwrap();
                assert!(matches!(written.response, Response::Committed(_)));
            }
        });
    }
    clients.join_all().await;
    let (flushes_now, _, last_now) = costs(&node);
    let entries = last_now - last;
    assert_eq!(flushes_now - flushes, entries);
    assert!(entries <= 160, "320 commands took {entries} entries");
    node.shutdown().await.unwrap();
}
