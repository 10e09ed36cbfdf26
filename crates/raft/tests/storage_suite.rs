//! openraft's own storage suite.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::CounterMachine;
use folio_raft::store::Half;
use folio_raft::{RaftLogStore, StorageError, StoreOptions, TypeConfig};
use folio_store::Database;
use folio_store::storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, StorageCall};
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

type Store = RaftLogStore<CounterMachine>;
type Config = TypeConfig<CounterMachine>;
type Storage = Half<CounterMachine>;

fn open(database: Database) -> Store {
    RaftLogStore::open(database, 1, CounterMachine, StoreOptions::default()).expect("opens")
}

struct OnFile {
    directory: TempDir,
    next: AtomicU64,
}

impl StoreBuilder<Config, Storage, Storage> for OnFile {
    async fn build(&self) -> Result<((), Storage, Storage), StorageError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("{number}.folio"));
        let (log, machine) = open(Database::create(path).expect("creates")).halves();
        Ok(((), log, machine))
    }
}

#[test]
fn the_suite_passes_on_a_file() {
    let builder = OnFile {
        directory: tempfile::tempdir().expect("a directory"),
        next: AtomicU64::new(0),
    };
    Suite::test_all(builder).expect("every case passes");
}

struct InMemory;

impl StoreBuilder<Config, Storage, Storage> for InMemory {
    async fn build(&self) -> Result<((), Storage, Storage), StorageError> {
        let (log, machine) = open(Database::in_memory().expect("creates")).halves();
        Ok(((), log, machine))
    }
}

#[test]
fn the_suite_passes_in_memory() {
    Suite::test_all(InMemory).expect("every case passes");
}

/// Stores whose disks fail once, at a call of their own.
struct Failing {
    at: u64,
    disks: Mutex<Vec<Arc<FaultStorage>>>,
}

impl StoreBuilder<Config, Storage, Storage> for Failing {
    async fn build(&self) -> Result<((), Storage, Storage), StorageError> {
        let disk = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
        let database = Database::builder()
            .create_on(disk.clone())
            .expect("creates");
        let store = open(database);
        disk.follow(FaultPlan {
            calls: StorageCall::CHANGING,
            at: self.at,
            fault: Fault::InputOutput,
            lasting: false,
        });
        self.disks.lock().expect("no panic").push(disk);
        let (log, machine) = store.halves();
        Ok(((), log, machine))
    }
}

/// Wherever the first case is that makes so many calls, it ends with an error, and not with a wrong
/// answer, which the suite would meet with a panic.
#[test]
fn under_a_disk_that_fails_the_suite_ends_with_a_storage_error() {
    for at in 1..=24 {
        let failing = Arc::new(Failing {
            at,
            disks: Mutex::default(),
        });
        let error = Suite::test_all(Shared(failing.clone())).expect_err("a call failed");
        let disks = failing.disks.lock().expect("no panic");
        assert!(
            disks.last().is_some_and(|disk| disk.failed() == 1),
            "call {at}: {error}"
        );
        assert!(
            error.to_string().contains("os error 5"),
            "call {at}: {error}"
        );
    }
}

struct Shared(Arc<Failing>);

impl StoreBuilder<Config, Storage, Storage> for Shared {
    async fn build(&self) -> Result<((), Storage, Storage), StorageError> {
        self.0.build().await
    }
}
