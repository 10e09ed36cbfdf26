//! What a snapshot takes of memory while it moves, counted by the allocator. The same with 2 GiB and processes of their
//! own is `examples/large_snapshot.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/noise.rs"]
mod noise;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, ReadLevel, ReplicatedDatabase, StateMachine};
use folio_store::Database;
use noise::{Noise, Put, VALUE};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const CACHE: usize = 4 << 20;
const STATE: usize = 48 << 20;
const ROWS_A_COMMAND: u64 = 1024;
const PATIENCE: Duration = Duration::from_secs(120);

fn put(number: u64) -> Put {
    Put {
        first: number * ROWS_A_COMMAND,
        count: ROWS_A_COMMAND,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_moves_within_a_few_parts_of_memory_while_writes_go_on() {
    let network = MemoryNetwork::new();
    let directory = tempfile::tempdir().unwrap();
    let start = async |id: u64| {
        let database = Database::builder()
            .cache_size(CACHE)
            .create(directory.path().join(id.to_string()))
            .unwrap();
        let config = Config {
            snapshot_after_entries: 20,
            log_entries_kept: 5,
            purge_batch: 1,
            snapshot_chunk_bytes: 256 << 10,
            ..Config::default()
        };
        ReplicatedDatabase::start(config, id, database, Noise, network.transport())
            .await
            .unwrap()
    };
    let leader = start(1).await;
    leader
        .initialize(BTreeMap::from([(1, "memory:1".to_owned())]))
        .await
        .unwrap();
    leader.wait_for_leader(PATIENCE).await.unwrap();
    let commands = (STATE / VALUE) as u64 / ROWS_A_COMMAND;
    for number in 0..commands {
        leader.write(put(number)).await.unwrap();
    }
    leader.trigger_snapshot().await.unwrap();
    leader
        .wait_for("a compacted log", PATIENCE, |s| s.purged > Some(1))
        .await
        .unwrap();
    let learner = start(2).await;

    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let writing = Arc::new(AtomicBool::new(true));
    let (writer, go_on) = (leader.clone(), writing.clone());
    let writes = tokio::spawn(async move {
        let mut last = 0;
        while go_on.load(Ordering::Relaxed) {
            last = writer.write(put(last % commands)).await.unwrap().index;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        last
    });
    leader.add_learner(2, "memory:2".into()).await.unwrap();
    writing.store(false, Ordering::Relaxed);
    let last = writes.await.unwrap();
    learner.wait_for_applied(last, PATIENCE).await.unwrap();
    let taken = MEMORY.peak_usage().saturating_sub(before);
    println!("{} KiB above what was there before", taken >> 10);
    // The learner's cache fills meanwhile; the leader's is full.
    assert!(
        taken < CACHE + (8 << 20),
        "{taken} bytes for a state of {STATE}"
    );

    let digest = async |node: &ReplicatedDatabase<Noise>| {
        node.read(ReadLevel::Local, |view| {
            let tables = Noise.tables().definitions();
            folio_raft::snapshot::write_snapshot(view, &tables, &mut std::io::sink())
        })
        .await
        .unwrap()
        .unwrap()
    };
    assert_eq!(digest(&learner).await, digest(&leader).await);
    learner.kill().await;
    leader.kill().await;
}
