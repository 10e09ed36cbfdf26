//! What operations of the store cost, counted at the disk.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use common::script::{Store, entry};
use common::store::Operations;
use common::{CounterMachine, counters};
use folio_raft::{LogId, RaftLogStore, StoreOptions, Vote};
use folio_store::storage::{MemoryStorage, Storage};
use folio_store::{Database, Group};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader};

/// Counts syncs by the name of the thread that asks for them.
#[derive(Debug)]
struct Syncs {
    inner: MemoryStorage,
    by: Mutex<BTreeMap<String, u64>>,
}

impl Syncs {
    fn of(&self, thread: &str) -> u64 {
        self.by.lock().unwrap().get(thread).copied().unwrap_or(0)
    }

    fn all(&self) -> u64 {
        self.by.lock().unwrap().values().sum()
    }
}

impl Storage for Syncs {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.inner.write_at(offset, parts)
    }
    fn sync(&self) -> io::Result<()> {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        *self.by.lock().unwrap().entry(name).or_default() += 1;
        self.inner.sync()
    }
    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        self.inner.grow(from, to)
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.inner.truncate(length)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn name(&self) -> String {
        self.inner.name()
    }
}

fn create(options: StoreOptions) -> (Arc<Syncs>, Database, Store) {
    let storage = Arc::new(Syncs {
        inner: MemoryStorage::new(),
        by: Mutex::default(),
    });
    let database = Database::builder().create_on(storage.clone()).unwrap();
    let store = RaftLogStore::open(database.clone(), 1, CounterMachine, options).unwrap();
    (storage, database, store)
}

/// A store that has made its first flushes, which write more than later ones.
async fn warm(options: StoreOptions) -> (Arc<Syncs>, Database, Store) {
    let (storage, database, mut store) = create(options);
    store.save_vote(&Vote::new(1, 1)).await.unwrap();
    store.append_to_log([entry(0)]).await.unwrap();
    store.apply_to_state_machine(&[entry(0)]).await.unwrap();
    (storage, database, store)
}

#[tokio::test]
async fn a_batch_and_a_vote_cost_one_sync_each_and_nothing_else_costs_any() {
    let (storage, database, mut store) = warm(StoreOptions::default()).await;
    let state = database.durable_transaction(Group::DEFAULT);
    for round in 0..20u64 {
        let entries: Vec<_> = (1 + round * 5..6 + round * 5).map(entry).collect();
        let last = entries.last().map(|entry| entry.log_id);

        let before = storage.all();
        store.append_to_log(entries.clone()).await.unwrap();
        assert_eq!(storage.all(), before + 1, "a batch");
        store.save_vote(&Vote::new(2 + round, 1)).await.unwrap();
        assert_eq!(storage.all(), before + 2, "a vote");
        store.save_committed(last).await.unwrap();
        store.apply_to_state_machine(&entries).await.unwrap();
        store.get_log_state().await.unwrap();
        store.try_get_log_entries(..).await.unwrap();
        store.last_applied_state().await.unwrap();
        assert_eq!(storage.all(), before + 2, "everything else");
    }
    // Only pages of the log were written: the state is where its last checkpoint was.
    assert_eq!(database.durable_transaction(Group::DEFAULT), state);
    assert!(database.statistics().dirty_pages > 0);
}

#[tokio::test]
async fn the_pages_an_append_writes_do_not_grow_with_the_changes_of_the_state() {
    let (_storage, database, mut store) = warm(StoreOptions::default()).await;
    let mut index = 1;
    let mut cost = async |store: &mut Store, commands: usize| {
        let mut large = entry(index);
        if let EntryPayload::Normal(batch) = &mut large.payload {
            batch.commands = (0..commands)
                .map(|number| common::add(&format!("counter {number}"), 1))
                .collect();
        }
        store.append_to_log([large.clone()]).await.unwrap();
        store.apply_to_state_machine(&[large]).await.unwrap();
        index += 1;
        let before = database.statistics().pages_written;
        store.append_to_log([entry(index)]).await.unwrap();
        store.apply_to_state_machine(&[entry(index)]).await.unwrap();
        index += 1;
        database.statistics().pages_written - before
    };
    let small = cost(&mut store, 1).await;
    let large = cost(&mut store, 3000).await;
    assert!(database.statistics().dirty_pages > 30);
    assert!(large <= small + 2, "{small} pages, then {large}");
}

#[tokio::test]
async fn checkpoints_are_made_by_a_thread_of_their_own() {
    let options = StoreOptions {
        checkpoint_entries: 10,
        ..StoreOptions::default()
    };
    let (storage, database, mut store) = warm(options).await;
    let before = storage.of("folio-1-storage");
    for index in 1..=100 {
        store.append_to_log([entry(index)]).await.unwrap();
        store.apply_to_state_machine(&[entry(index)]).await.unwrap();
    }
    // Appends may have shared a sync that the other thread made, and none of theirs was more.
    assert!(storage.of("folio-1-storage") <= before + 100);
    store.close();
    assert!(storage.of("folio-1-checkpoint") > 0);
    assert!(database.durable_transaction(Group::DEFAULT) > 0);
    drop(database);
    let image = storage.inner.clone();
    let database = Database::builder().open_on(Arc::new(image)).unwrap();
    let view = database.begin_read().unwrap();
    assert!(counters(&view).iter().any(|(name, _)| name == "all"));
}

#[tokio::test]
async fn a_purge_makes_one_checkpoint_where_it_would_run_ahead_of_the_last_and_else_none() {
    let (storage, database, mut store) = warm(StoreOptions::default()).await;
    let entries: Vec<_> = (1..=20).map(entry).collect();
    store.append_to_log(entries.clone()).await.unwrap();
    store.apply_to_state_machine(&entries).await.unwrap();
    let state = database.durable_transaction(Group::DEFAULT);
    let before = storage.all();
    store.purge_logs_upto(entries[9].log_id).await.unwrap();
    assert_eq!(storage.all(), before + 1);
    assert!(database.durable_transaction(Group::DEFAULT) > state);
    store.purge_logs_upto(entries[15].log_id).await.unwrap();
    assert_eq!(storage.all(), before + 1, "the first one covered it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_beside_conflicts_sees_whole_logs_only() {
    let (_storage, _database, mut store) = create(StoreOptions::default());
    let of = |term, index| {
        let mut entry = entry(index);
        entry.log_id = LogId::new(CommittedLeaderId::new(term, 1), index);
        entry
    };
    store
        .append_to_log((0..10).map(|index| of(1, index)))
        .await
        .unwrap();
    let mut reader = store.get_log_reader().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let reading = tokio::spawn(async move {
        let mut seen = 0;
        while stopped.try_recv().is_err() {
            let log = reader.try_get_log_entries(..).await.unwrap();
            let indexes: Vec<_> = log.iter().map(|entry| entry.log_id.index).collect();
            assert!(
                indexes.iter().copied().eq(0..indexes.len() as u64),
                "{indexes:?}"
            );
            // Ten, or what a truncation leaves; the terms ascend, so nothing of a replaced tail is
            // behind its replacement.
            assert!((5..=10).contains(&log.len()), "{indexes:?}");
            let terms: Vec<_> = log
                .iter()
                .map(|entry| entry.log_id.leader_id.term)
                .collect();
            assert!(terms.is_sorted(), "{terms:?}");
            let tail: std::collections::BTreeSet<_> = terms.iter().skip(5).collect();
            assert!(tail.len() <= 1, "{terms:?}");
            seen += 1;
        }
        seen
    });
    for term in 2..300 {
        store
            .delete_conflict_logs_since(of(term - 1, 5).log_id)
            .await
            .unwrap();
        store
            .append_to_log((5..10).map(|index| of(term, index)))
            .await
            .unwrap();
    }
    stop.send(()).unwrap();
    assert!(reading.await.unwrap() > 0);
}
