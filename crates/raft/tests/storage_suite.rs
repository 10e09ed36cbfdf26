//! openraft's own storage suite.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use common::CounterMachine;
use folio_raft::{RaftLogStore, StorageError, StoreOptions, TypeConfig};
use folio_store::Database;
use openraft::storage::Adaptor;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

type Store = RaftLogStore<CounterMachine>;
type Config = TypeConfig<CounterMachine>;
type Storage = Adaptor<Config, Store>;

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
        let (log, machine) = Adaptor::new(open(Database::create(path).expect("creates")));
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
        let (log, machine) = Adaptor::new(open(Database::in_memory().expect("creates")));
        Ok(((), log, machine))
    }
}

#[test]
fn the_suite_passes_in_memory() {
    Suite::test_all(InMemory).expect("every case passes");
}
