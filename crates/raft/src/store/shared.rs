//! What the parts of a store share: the database, the state machine and a few facts that are kept
//! in memory only.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use folio_store::{Database, Durability, Group, ReadTransaction, TableDefinition};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::failure::{Failure, Result};
use super::tables::{Identity, IdentityRecord, LOG_GROUP, State, StateRecord};
use crate::error::Error;
use crate::runtime;
use crate::state_machine::{STAGED_PREFIX, StateMachine};
use crate::types::{LogId, NodeId};

/// The limits of a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of entries a replication stream reads at a time, at most (but always one entry).
    pub read_max_bytes: usize,
    /// A checkpoint is made when this many applied entries are not in one.
    pub checkpoint_entries: u64,
    /// A checkpoint is made when this many pages are dirty.
    pub checkpoint_dirty_pages: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let config = crate::Config::default();
        Self {
            read_max_bytes: config.append_max_bytes,
            checkpoint_entries: config.checkpoint_entries,
            checkpoint_dirty_pages: config.checkpoint_dirty_pages,
        }
    }
}

pub(crate) struct Shared<S> {
    /// None once the store is closed. Operations hold the lock for reading while they use the
    /// database, so closing waits for them.
    database: RwLock<Option<Database>>,
    pub machine: S,
    pub node: NodeId,
    /// The tables of the state machine, by name.
    pub tables: Vec<TableDefinition>,
    pub options: StoreOptions,
    /// Where snapshots are spooled.
    pub spool_directory: PathBuf,
    /// A purge beyond the last applied entry: it belongs to an installation that is still to come
    /// and is committed with it. Until then it exists here only, because a file that is purged
    /// beyond its state cannot be started again.
    pub pending_purge: Mutex<Option<LogId>>,
    /// The last applied index that a checkpoint covers.
    checkpointed: watch::Sender<Option<u64>>,
    /// The first failure of this store, for the status.
    fault: Mutex<Option<String>>,
    /// Counts views that outlive a call; see [`Lease`].
    leases: watch::Sender<usize>,
    /// Distinguishes the snapshots of this run from those of all others.
    run: u64,
    snapshots: AtomicU64,
    /// Alive while somebody has the right to the staged tables.
    pub staging: Mutex<Weak<()>>,
}

impl<S: StateMachine> Shared<S> {
    /// Prepares the database: checks whose it is, makes the tables and removes what an installation
    /// left unfinished.
    pub fn open(
        database: Database,
        node: NodeId,
        machine: S,
        options: StoreOptions,
    ) -> crate::Result<Self> {
        let set = machine.tables();
        set.validate().map_err(|reason| Error::Tables { reason })?;
        let tables = set.definitions();
        claim(&database, node)?;
        prepare_tables(&database, &tables)?;

        let spool_directory = match database.path().and_then(|path| path.parent()) {
            Some(directory) if !directory.as_os_str().is_empty() => directory.to_path_buf(),
            Some(_) => PathBuf::from("."),
            None => std::env::temp_dir(),
        };
        // What an opened file offers is durable.
        let checkpointed = state_record(&database.begin_read()?)?.applied_index();
        Ok(Self {
            database: RwLock::new(Some(database)),
            machine,
            node,
            tables,
            options,
            spool_directory,
            pending_purge: Mutex::new(None),
            checkpointed: watch::Sender::new(checkpointed),
            fault: Mutex::new(None),
            leases: watch::Sender::new(0),
            run: runtime::random(),
            snapshots: AtomicU64::new(0),
            staging: Mutex::default(),
        })
    }

    /// Calls `operation` with the database, and remembers its failure.
    pub fn with_database<T>(&self, operation: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let guard = self.database.read();
        let database = guard.as_ref().ok_or(Failure::Stopped)?;
        operation(database)
    }

    /// The same, for an operation whose failure stops the node: it is remembered for the status.
    pub fn critical<T>(&self, operation: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let result = self.with_database(operation);
        if let Err(failure) = &result
            && !matches!(failure, Failure::Stopped)
        {
            tracing::error!(node = self.node, "{failure}");
            self.fault.lock().get_or_insert_with(|| failure.to_string());
        }
        result
    }

    pub fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }

    /// Takes the database away. Waits for the operations that use it; later ones get
    /// [`Failure::Stopped`].
    pub fn take_database(&self) -> Option<Database> {
        self.database.write().take()
    }

    pub fn checkpointed(&self) -> Option<u64> {
        *self.checkpointed.borrow()
    }

    /// Tells of checkpoints as they are made.
    pub fn watch_checkpoints(&self) -> watch::Receiver<Option<u64>> {
        self.checkpointed.subscribe()
    }

    /// Makes the state durable, and notes how far it was applied.
    pub fn checkpoint(&self, database: &Database) -> Result<()> {
        let applied = state_record(&database.begin_read()?)?.applied_index();
        database.checkpoint(Group::DEFAULT.into())?;
        self.note_checkpoint(applied);
        Ok(())
    }

    pub fn note_checkpoint(&self, applied: Option<u64>) {
        self.checkpointed.send_if_modified(|checkpointed| {
            let newer = applied > *checkpointed;
            *checkpointed = applied.max(*checkpointed);
            newer
        });
    }

    /// Whether so much is applied and not in a checkpoint that one is due.
    pub fn checkpoint_is_due(&self, database: &Database, applied: Option<u64>) -> bool {
        let count = |index: Option<u64>| index.map_or(0, |i| i.saturating_add(1));
        let behind = count(applied).saturating_sub(count(self.checkpointed()));
        behind >= self.options.checkpoint_entries
            || database.statistics().dirty_pages >= self.options.checkpoint_dirty_pages
    }

    /// A snapshot id that no other snapshot of any node or run has: openraft tells the chunks of
    /// two transfers apart by it.
    pub fn next_snapshot_id(&self, last: Option<&LogId>) -> String {
        let number = self.snapshots.fetch_add(1, Ordering::Relaxed);
        let (term, index) = last.map_or((0, 0), |id| (id.leader_id.term, id.index));
        format!("{term}-{index}-{}-{:016x}-{number}", self.node, self.run)
    }

    /// Notes a view that lives on after the call that made it.
    pub fn lease(&self) -> Lease {
        self.leases.send_modify(|count| *count += 1);
        Lease {
            leases: self.leases.clone(),
        }
    }

    /// Waits until no leased view is left.
    pub async fn leases_returned(&self) {
        // The sender is in `self`, so the channel cannot be closed.
        let _ = self.leases.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// A view of the database that outlives a call, counted so that closing can wait for it: the file
/// stays locked as long as a view is held.
pub(crate) struct Lease {
    leases: watch::Sender<usize>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.send_modify(|count| *count -= 1);
    }
}

/// The state record as a view shows it; the initial one before the first apply.
pub(crate) fn state_record(
    view: &ReadTransaction,
) -> std::result::Result<StateRecord, folio_store::Error> {
    Ok(view.table::<State>()?.get(&())?.unwrap_or_default())
}

/// Writes the node's id into a new file, and compares it with that of an old one.
fn claim(database: &Database, node: NodeId) -> crate::Result<()> {
    let found = database
        .begin_read()?
        .table::<Identity>()?
        .get(&())?
        .map(|record| record.node);
    match found {
        Some(found) if found == node => Ok(()),
        Some(found) => Err(Error::WrongNode {
            found,
            wanted: node,
        }),
        None => {
            let mut txn = database.begin_write()?;
            txn.set_durability(Durability::Immediate);
            txn.table::<Identity>()?
                .insert(&(), &IdentityRecord { node })?;
            txn.commit()?;
            Ok(())
        }
    }
}

/// Makes the tables that are missing, which also refuses a file whose tables have other types, and
/// removes staged tables. None of it needs to be durable: it is done again at each start.
fn prepare_tables(database: &Database, tables: &[TableDefinition]) -> crate::Result<()> {
    let present = database.begin_read()?.tables()?;
    let stale: Vec<_> = present
        .iter()
        .filter(|table| table.name.starts_with(STAGED_PREFIX) && table.group != LOG_GROUP)
        .collect();
    if stale.is_empty() && tables.iter().all(|table| present.contains(table)) {
        return Ok(());
    }
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Eventual);
    for table in tables {
        txn.untyped(table)?;
    }
    for table in stale {
        txn.delete_table(table)?;
    }
    txn.commit()?;
    Ok(())
}

/// Shared by the clones of a store, its readers and its threads.
pub(crate) type SharedStore<S> = Arc<Shared<S>>;
