//! Power cuts: a scripted load on a simulated disk, cut at every write and sync, with subsets of
//! what was not synced. Whatever image is left must open to what Raft was promised.

mod common;

use std::sync::Arc;

use common::{CounterMachine, add};
use folio_raft::snapshot::write_snapshot;
use folio_raft::{
    Batch, Entry, LogId, RaftLogStore, SnapshotMeta, StateMachine, StoreOptions, Vote,
};
use folio_store::storage::{DiskEvent, Journal, MemoryStorage, SimulatedDisk, SplitMix64, Subset};
use folio_store::{Database, Durability};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder, RaftStorage};
use tokio::io::AsyncWriteExt;

type Store = RaftLogStore<CounterMachine>;

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn entry(index: u64) -> Entry<CounterMachine> {
    Entry::<CounterMachine> {
        log_id: id(index),
        payload: EntryPayload::Normal(Batch {
            time: index,
            commands: vec![add("all", index), add(&format!("{}", index % 7), 1)],
        }),
    }
}

fn open(database: &Database) -> Store {
    let options = StoreOptions::default();
    RaftLogStore::open(database.clone(), 1, CounterMachine, options).expect("opens")
}

fn snapshot_bytes(database: &Database) -> Vec<u8> {
    let mut bytes = Vec::new();
    let view = database.begin_read().expect("a view");
    let tables = CounterMachine.tables().definitions();
    write_snapshot(&view, &tables, &mut bytes).expect("writes");
    bytes
}

/// The right state after each entry, as a snapshot: `states[n]` is that of entries below `n`.
async fn states(count: u64) -> (Vec<Vec<u8>>, SnapshotMeta) {
    let database = Database::in_memory().expect("creates");
    let mut store = open(&database);
    let mut states = vec![snapshot_bytes(&database)];
    for index in 0..count {
        store
            .apply_to_state_machine(&[entry(index)])
            .await
            .expect("applied");
        states.push(snapshot_bytes(&database));
    }
    let mut builder = store.get_snapshot_builder().await;
    (states, builder.build_snapshot().await.expect("built").meta)
}

/// What was acknowledged when a step of the load was done.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    /// The term of the vote.
    term: u64,
    /// Entries of the log, those of an installed snapshot included.
    entries: u64,
    /// Entries whose effect may not be lost any more.
    state: u64,
}

const INSTALLED: u64 = 60;

/// Runs the load; the promise after each step is marked in the disk's journal by its number.
async fn load(
    disk: &Arc<SimulatedDisk>,
    default: Durability,
    snapshot: &[u8],
    meta: &SnapshotMeta,
) -> Vec<Promise> {
    let database = Database::builder()
        .durability(default)
        .create_on(disk.clone())
        .expect("creates");
    let mut store = open(&database);
    let mut promise = Promise::default();
    let mut promises = Vec::new();
    let mut keep = |promise: Promise| {
        disk.mark(promises.len() as u64).expect("the power is on");
        promises.push(promise);
        promises.len()
    };
    keep(promise);
    while promise.entries < 40 {
        let some = 1 + promise.entries % 3;
        let entries = (promise.entries..promise.entries + some).map(entry);
        let entries: Vec<_> = entries.collect();
        store
            .append_to_log(entries.clone())
            .await
            .expect("appended");
        promise.entries += some;
        keep(promise);
        let last = entries.last().map(|entry| entry.log_id);
        store.save_committed(last).await.expect("saved");
        store
            .apply_to_state_machine(&entries)
            .await
            .expect("applied");
        match promise.entries % 4 {
            0 => {
                promise.term += 1;
                let vote = Vote::new(promise.term, 1);
                store.save_vote(&vote).await.expect("saved");
            }
            1 => {
                let mut builder = store.get_snapshot_builder().await;
                drop(builder.build_snapshot().await.expect("built"));
                promise.state = promise.entries;
            }
            2 => {
                let upto = promise.entries - 1;
                store.purge_logs_upto(id(upto)).await.expect("purged");
                promise.state = promise.entries;
            }
            _ => {}
        }
        keep(promise);
    }
    // A snapshot from elsewhere, with the purge that belongs to it coming first.
    store
        .purge_logs_upto(id(INSTALLED - 1))
        .await
        .expect("noted");
    let mut data = store.begin_receiving_snapshot().await.expect("a spool");
    data.write_all(snapshot).await.expect("written");
    store.install_snapshot(meta, data).await.expect("installed");
    promise.entries = INSTALLED;
    promise.state = INSTALLED;
    keep(promise);
    store
        .append_to_log([entry(INSTALLED)])
        .await
        .expect("appended");
    promise.entries += 1;
    keep(promise);
    store.close();
    promises
}

async fn check(image: MemoryStorage, promise: Promise, states: &[Vec<u8>]) {
    let database = Database::builder()
        .open_on(Arc::new(image))
        .expect("every image opens");
    let mut store = open(&database);
    let term = store.read_vote().await.expect("a vote");
    let term = term.map_or(0, |vote| vote.leader_id.term);
    assert!((promise.term..=promise.term + 1).contains(&term), "{term}");

    let next = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
    let ends = store.get_log_state().await.expect("ends");
    let (applied, _) = store.last_applied_state().await.expect("state");
    let (purged, end, applied) = (
        next(ends.last_purged_log_id),
        next(ends.last_log_id),
        next(applied),
    );
    assert!(end >= promise.entries, "the log ends at {end}");
    assert!(applied >= promise.state, "the state is at {applied}");
    assert!(
        purged <= applied,
        "purged to {purged}, applied to {applied}"
    );
    assert!(
        applied <= end,
        "applied to {applied}, the log ends at {end}"
    );
    let committed = store.read_committed().await.expect("committed");
    assert!(next(committed) <= end, "committed to {committed:?}");
    assert!(
        snapshot_bytes(&database) == states[applied as usize],
        "the state is that of no entry"
    );

    let log = store.try_get_log_entries(applied..).await.expect("a log");
    assert_eq!(log, (applied..end).map(entry).collect::<Vec<_>>());
    store.apply_to_state_machine(&log).await.expect("replayed");
    assert!(snapshot_bytes(&database) == states[end as usize]);
    store.close();
}

/// A few choices of what reached the disk of `pending` items.
fn subsets(pending: usize, random: &mut SplitMix64) -> Vec<Subset> {
    let mut subsets = vec![Subset::none(pending)];
    if pending > 0 {
        let lost = random.below(pending as u64) as usize;
        subsets.push(Subset::all(pending));
        subsets.push(Subset::of(pending, |index| index != lost));
        subsets.push(Subset::of(pending, |_| random.one_in(2)));
    }
    subsets
}

#[tokio::test]
async fn every_image_a_power_cut_can_leave_keeps_what_was_promised() {
    attack(Durability::Immediate).await;
}

#[tokio::test]
async fn so_it_does_in_a_database_whose_commits_are_not_durable_by_default() {
    attack(Durability::Eventual).await;
}

async fn attack(default: Durability) {
    const SEED: u64 = 20;
    let (states, _) = states(INSTALLED + 3).await;
    let (_, meta) = self::states(INSTALLED).await;
    let disk = Arc::new(SimulatedDisk::recording(&MemoryStorage::new()));
    let promises = load(&disk, default, &states[INSTALLED as usize], &meta).await;
    let journal: Journal = disk.journal().expect("a recording");

    // Shown when the test fails; the last line names the moment of the cut.
    println!("seed {SEED}");
    let mut random = SplitMix64::new(SEED);
    let mut replay = journal.replay();
    let mut promise = None;
    let mut images = 0;
    while let Some(event) = replay.advance() {
        if let DiskEvent::Mark(step) = event {
            promise = promises.get(*step as usize).copied();
        }
        // Before the first promise there is no database to speak of.
        let Some(promise) = promise else { continue };
        println!("after event {}: {event:?}, {promise:?}", replay.position());
        let point = replay.crash_point();
        for subset in subsets(point.pending().len(), &mut random) {
            check(point.image(&subset), promise, &states).await;
            images += 1;
        }
    }
    assert!(images > 500, "{images} images");
}
