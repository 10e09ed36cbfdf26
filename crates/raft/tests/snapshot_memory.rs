//! What a snapshot takes of memory while it moves, counted by the allocator. The same with 2 GiB and processes of their
//! own is `examples/large_snapshot.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use folio_raft::transport::MemoryNetwork;
use folio_raft::{
    Applied, ApplyError, Config, ReadLevel, ReplicatedDatabase, StateMachine, TableSet,
};
use folio_store::storage::SplitMix64;
use folio_store::{Database, Table, WriteTransaction};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const CACHE: usize = 4 << 20;
const STATE: usize = 48 << 20;
const VALUE: usize = 512;
const ROWS_A_COMMAND: u64 = 1024;
const PATIENCE: Duration = Duration::from_secs(120);

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

/// Puts rows that do not compress, from a key on.
struct Noise;
impl StateMachine for Noise {
    type Command = u64;
    type Response = ();

    fn tables(&self) -> TableSet {
        TableSet::new().with::<Rows>()
    }

    fn apply(&self, txn: &WriteTransaction, at: Applied, first: &u64) -> Result<(), ApplyError> {
        let mut rows = txn.table::<Rows>()?;
        let mut random = SplitMix64::new(at.index);
        for key in *first..first + ROWS_A_COMMAND {
            let value = (0..VALUE / 8).flat_map(|_| random.next_u64().to_le_bytes());
            rows.insert(key, value.collect::<Vec<u8>>().as_slice())?;
        }
        Ok(())
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
        leader.write(number * ROWS_A_COMMAND).await.unwrap();
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
            last = writer
                .write(last % commands * ROWS_A_COMMAND)
                .await
                .unwrap()
                .index;
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
