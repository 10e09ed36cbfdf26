//! What the parts of a store share: the database, the state machine and a few facts that are kept
//! in memory only.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use folio_store::{Database, Group, ReadTransaction, TableDefinition};
use openraft::ErrorSubject;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::failure::{Failure, Result};
use super::flushing::Flushing;
use super::opening;
use super::points::Points;
use super::recent::Recent;
use super::room::Room;
use super::standing::Standing;
use super::tables::{CommittedRecord, State, StateRecord, Stateless};
use crate::error::Error;
use crate::metrics::Meters;
use crate::runtime;
use crate::state_machine::StateMachine;
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
    /// With less room than this many bytes no commands are taken.
    pub disk_reserve: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let config = crate::Config::default();
        Self {
            read_max_bytes: config.append_max_bytes,
            checkpoint_entries: config.checkpoint_entries,
            checkpoint_dirty_pages: config.checkpoint_dirty_pages,
            disk_reserve: config.disk_reserve,
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
    pub meters: Arc<Meters>,
    /// Where snapshots are spooled.
    pub spool_directory: PathBuf,
    /// The end of the log.
    pub(super) recent: Mutex<Recent>,
    /// The committed id, if a newer one was saved than the file has. The next append stores it.
    pub(super) committed: Mutex<Option<CommittedRecord>>,
    /// Which of the log is not durable yet.
    pub flushing: Arc<Flushing>,
    /// A purge beyond the last applied entry: it belongs to an installation that is still to come
    /// and is committed with it. Until then it exists here only, because a file that is purged
    /// beyond its state cannot be started again.
    pub pending_purge: watch::Sender<Option<LogId>>,
    /// The last applied index that a checkpoint covers.
    pub checkpointed: watch::Sender<Option<u64>>,
    /// Whether the tables hold the state.
    pub standing: watch::Sender<Standing>,
    /// Held by whoever changes the state. The last entry that Raft counts as applied, which a state
    /// that is being rebuilt has to reach.
    pub state: Mutex<Option<LogId>>,
    /// Whether writes wait for the disk to have room.
    pub room: watch::Sender<Room>,
    /// The first failure of this store, for the status.
    fault: watch::Sender<Option<String>>,
    /// Counts views that outlive a call; see [`Lease`].
    leases: watch::Sender<usize>,
    /// Distinguishes the snapshots of this run from those of all others.
    run: u64,
    snapshots: AtomicU64,
    /// Alive while somebody has the right to the staged tables.
    pub staging: Mutex<Weak<()>>,
    /// Changed while no other transaction on the state is under way.
    pub points: Mutex<Points>,
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
        let standing = opening::prepare::<S>(&database, node, &tables)?;

        let spool_directory = match database.path().and_then(|path| path.parent()) {
            Some(directory) if !directory.as_os_str().is_empty() => directory.to_path_buf(),
            Some(_) => PathBuf::from("."),
            None => std::env::temp_dir(),
        };
        // What an opened file offers is durable.
        let record = state_record(&database.begin_read()?)?;
        let checkpointed = record.applied_index();
        Ok(Self {
            database: RwLock::new(Some(database)),
            machine,
            node,
            tables,
            options,
            meters: Arc::default(),
            spool_directory,
            recent: Mutex::default(),
            committed: Mutex::default(),
            flushing: Arc::default(),
            pending_purge: watch::Sender::new(None),
            checkpointed: watch::Sender::new(checkpointed),
            standing: watch::Sender::new(standing),
            state: Mutex::new(record.last_applied),
            room: watch::Sender::default(),
            fault: watch::Sender::new(None),
            leases: watch::Sender::new(0),
            run: runtime::random(),
            snapshots: AtomicU64::new(0),
            staging: Mutex::default(),
            points: Mutex::default(),
        })
    }

    /// Calls `operation` with the database, and remembers its failure.
    pub fn with_database<T>(&self, operation: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let guard = self.database.read();
        let database = guard.as_ref().ok_or(Failure::Stopped)?;
        operation(database)
    }

    /// The same, for an operation whose failure stops the node: it is remembered for the status. Not so one for want of
    /// room, after which the caller tries again.
    pub fn critical<T>(&self, operation: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let result = self.with_database(operation);
        if let Err(failure) = &result
            && !matches!(failure, Failure::Stopped)
            && failure.full().is_none()
        {
            tracing::error!(node = self.node, "{failure}");
            self.fault.send_modify(|fault| {
                fault.get_or_insert_with(|| failure.to_string());
            });
        }
        result
    }

    /// The same for an operation on `subject`. Damage in the log or the vote is told with what to do.
    pub fn critical_to<T>(
        &self,
        subject: &ErrorSubject<NodeId>,
        operation: impl FnOnce(&Database) -> Result<T>,
    ) -> Result<T> {
        self.critical(|database| {
            operation(database).map_err(|failure| match subject {
                ErrorSubject::Logs
                | ErrorSubject::Log(_)
                | ErrorSubject::Vote
                | ErrorSubject::Store => self.explain_log_damage(database, failure),
                _ => failure,
            })
        })
    }

    /// Waits until the entries up to `index` are durable.
    pub async fn durable(&self, index: u64) -> Result<()> {
        match self.flushing.reached(index).await {
            true => Ok(()),
            false => Err(self.fault().map_or(Failure::Stopped, Failure::Earlier)),
        }
    }

    /// Waits until all that was appended is durable.
    pub async fn settled(&self) -> Result<()> {
        self.durable(u64::MAX).await
    }

    pub fn fault(&self) -> Option<String> {
        self.fault.borrow().clone()
    }

    /// Waits until the purge up to `purged` has its installation, or there will not be any.
    #[cfg(feature = "storage-v2")]
    pub async fn installed(&self, purged: LogId) {
        let mut pending = self.pending_purge.subscribe();
        let mut fault = self.fault.subscribe();
        // The senders are in `self`, so neither channel can be closed.
        tokio::select! {
            _ = pending.wait_for(|pending| *pending != Some(purged)) => {}
            _ = fault.wait_for(Option::is_some) => {}
        }
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

/// The state record as a view shows it; the initial one before the first apply. Without a state it
/// is where Raft believes that the state is.
pub(crate) fn state_record(
    view: &ReadTransaction,
) -> std::result::Result<StateRecord, folio_store::Error> {
    if let Some(stateless) = view.table::<Stateless>()?.get(&())? {
        return Ok(stateless.position);
    }
    Ok(view.table::<State>()?.get(&())?.unwrap_or_default())
}

/// Whether the tables that a view shows hold the state.
pub(crate) fn holds_state(view: &ReadTransaction) -> std::result::Result<bool, folio_store::Error> {
    Ok(view.table::<Stateless>()?.get(&())?.is_none())
}

/// Shared by the clones of a store, its readers and its threads.
pub(crate) type SharedStore<S> = Arc<Shared<S>>;
