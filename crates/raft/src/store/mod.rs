//! `RaftLogStore`: openraft's storage on one folio-store database.
//!
//! | what | tables | durable when |
//! |---|---|---|
//! | log, vote | `raft_log`, `raft_vote` in the log group | before the call returns: one flush of the log group |
//! | committed id | the log group, with the next append | with that append |
//! | purge point, truncation | the log group | with the next flush of it |
//! | state machine, last applied id, membership | the default group, one transaction | with the next checkpoint |
//! | installed snapshot | both groups, one transaction | before the call returns |
//!
//! In a [`ReplicatedDatabase`](crate::ReplicatedDatabase) an append returns while its flush is under way, and what follows from
//! it waits for the flush.
//!
//! It implements `RaftStorage`, and reaches openraft in [`halves`](RaftLogStore::halves): through
//! `Adaptor`, or with the feature `storage-v2` by the newer traits.
//!
//! After a crash the state is at its checkpoint, whole, and openraft applies the log from there.
//! Nothing is purged that a checkpoint does not cover.

mod apply;
#[cfg(test)]
mod changes_tests;
mod failure;
mod flushing;
mod log;
mod opening;
mod points;
mod reader;
mod rebuild;
mod recent;
mod refound;
mod room;
mod shared;
mod snapshot;
mod standing;
mod stored;
mod tables;
mod thread;
#[cfg(feature = "storage-v2")]
mod v2;

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::{Arc, Weak};

use folio_store::Database;
use openraft::{
    ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder, Snapshot,
};
use parking_lot::Mutex;
// Deprecated where the newer traits are on; they are made of it.
#[allow(deprecated)]
use openraft::storage::RaftStorage;

use crate::runtime;
use crate::snapshot::SnapshotData;
use crate::state_machine::StateMachine;
use crate::types::{
    Entry, LogId, NodeId, SnapshotMeta, StorageError, StoredMembership, TypeConfig, Vote,
};

pub use reader::LogReader;
pub use refound::{Refounded, refound};
pub use shared::StoreOptions;
pub use stored::{StoredEntry, StoredLog, StoredLogError, StoredState};

use apply::ENTRIES_PER_TRANSACTION;
pub(crate) use failure::{Failure, Result};
use flushing::Append;
pub(crate) use flushing::Flushing;
use log::Encoded;
pub(crate) use points::{Point, Points};
pub(crate) use room::Room;
pub(crate) use shared::{Lease, Shared, SharedStore, holds_state, state_record};
pub(crate) use snapshot::{Staged, Staging};
pub(crate) use standing::Standing;
use tables::CommittedRecord;
use thread::{SharedThreads, Threads};

/// One of the two objects that openraft takes for a store.
#[cfg(not(feature = "storage-v2"))]
pub type Half<S> = openraft::storage::Adaptor<TypeConfig<S>, RaftLogStore<S>>;
/// One of the two objects that openraft takes for a store.
#[cfg(feature = "storage-v2")]
pub type Half<S> = RaftLogStore<S>;

/// openraft's storage for the state machine `S`. It is given to `Raft::new` in
/// [`halves`](Self::halves). Clones share the one store.
pub struct RaftLogStore<S> {
    shared: SharedStore<S>,
    threads: SharedThreads,
    /// Whether an append returns before it is durable.
    overlaps: bool,
}

impl<S> Clone for RaftLogStore<S> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            threads: self.threads.clone(),
            overlaps: self.overlaps,
        }
    }
}

impl<S: StateMachine> RaftLogStore<S> {
    /// Opens the store of node `node` in `database`. Blocks: the tables are made if they are not
    /// there, the file is checked to be this node's, and what a crash left half installed goes.
    pub fn open(
        database: Database,
        node: NodeId,
        machine: S,
        options: StoreOptions,
    ) -> crate::Result<Self> {
        let shared = Arc::new(Shared::open(database, node, machine, options)?);
        let weak = Arc::downgrade(&shared);
        let threads = Threads::start(&format!("folio-{node}"), move || checkpoint_if_due(&weak))
            .map_err(crate::Error::Thread)?;
        Ok(Self {
            shared,
            threads: Arc::new(threads),
            overlaps: false,
        })
    }

    /// The same store, whose appends return while they are [on their way to the disk](flushing). Only for those who ask
    /// [`Flushing`] before they tell anybody what follows from them.
    pub(crate) fn overlapping(self) -> Self {
        Self {
            overlaps: true,
            ..self
        }
    }

    /// The store as openraft takes it: the log, and the state machine.
    #[must_use]
    pub fn halves(self) -> (Half<S>, Half<S>) {
        #[cfg(not(feature = "storage-v2"))]
        return openraft::storage::Adaptor::new(self);
        #[cfg(feature = "storage-v2")]
        return (self.clone(), self);
    }

    pub(crate) fn shared(&self) -> &SharedStore<S> {
        &self.shared
    }

    /// Ends the store's threads and gives the database back, once nobody uses it any more. Nothing
    /// is flushed; later calls fail. Blocks.
    pub fn close(&self) -> Option<Database> {
        self.threads.stop();
        let saved = self
            .shared
            .with_database(|database| self.shared.save_committed(database));
        if let Err(failure) = saved {
            // It only saves the next start some work.
            tracing::debug!(node = self.shared.node, "the committed id: {failure}");
        }
        self.shared.take_database()
    }

    /// Runs `operation` on the storage thread, again if the disk had no room for it. Another failure stops the
    /// node.
    async fn write<T: Send + 'static>(
        &self,
        subject: ErrorSubject<NodeId>,
        operation: impl Fn(&Shared<S>, &Database) -> Result<T> + Send + Sync + 'static,
    ) -> std::result::Result<T, StorageError> {
        let failed = |failure: Failure| failure.at(subject.clone(), ErrorVerb::Write);
        self.shared.settled().await.map_err(failed)?;
        let operation = Arc::new(operation);
        let attempt = || {
            let (shared, operation) = (self.shared.clone(), operation.clone());
            let about = subject.clone();
            self.threads
                .run(move || shared.critical_to(&about, |database| operation(&shared, database)))
        };
        self.with_room(attempt).await.map_err(failed)
    }

    /// Sends entries, which follow the last append in the log, on their way to the disk. No task waits for them: what
    /// becomes of them is told by [`Flushing`].
    fn send(&self, first: u64, entries: Encoded) {
        let append = self.shared.flushing.begin(first);
        self.shared.keep(&entries);
        let (store, tasks) = (self.clone(), runtime::Tasks::here());
        let write = move || match store.shared.append_sent(&entries) {
            Ok(()) => append.durable(),
            Err(failure) if failure.full().is_some() => {
                tasks.spawn(store.send_when_there_is_room(entries, append));
            }
            // It is remembered and logged where it happened, and told to whoever waits.
            Err(_) => {}
        };
        // If the thread has ended, the append is dropped, and so has failed.
        let _ = self.threads.post(write);
    }

    async fn send_when_there_is_room(self, entries: Encoded, append: Append) {
        let entries = Arc::new(entries);
        let attempt = || {
            let (shared, entries) = (self.shared.clone(), entries.clone());
            self.threads.run(move || shared.append_sent(&entries))
        };
        if self.with_room(attempt).await.is_ok() {
            append.durable();
        }
    }

    /// As [`write`](Self::write), for an operation that changes the state.
    async fn change<T: Send + 'static>(
        &self,
        operation: impl Fn(&Shared<S>, &Database) -> Result<T> + Send + Sync + 'static,
    ) -> Result<T> {
        let operation = Arc::new(operation);
        let attempt = || {
            let (shared, operation) = (self.shared.clone(), operation.clone());
            self.threads
                .run_on_state(move || shared.critical(|database| operation(&shared, database)))
        };
        self.with_room(attempt).await
    }

    async fn read<T: Send + 'static>(
        &self,
        subject: ErrorSubject<NodeId>,
        operation: impl FnOnce(&Shared<S>, &Database) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, StorageError> {
        reader::read(&self.shared, subject, operation).await
    }

    async fn apply_all(
        &self,
        entries: Vec<Entry<S>>,
    ) -> std::result::Result<Vec<Vec<S::Response>>, StorageError> {
        let Some(last) = entries.last().map(|entry| entry.log_id) else {
            return Ok(Vec::new());
        };
        let failed = |failure: Failure| failure.at(ErrorSubject::Apply(last), ErrorVerb::Write);
        self.shared.durable(last.index).await.map_err(failed)?;
        let entries = Arc::new(entries);
        let mut responses = Vec::with_capacity(entries.len());
        let mut due = false;
        // One transaction at a time, since those before one that finds no room stand.
        for from in (0..entries.len()).step_by(ENTRIES_PER_TRANSACTION) {
            let entries = entries.clone();
            let apply = move |shared: &Shared<S>, database: &Database| {
                let to = entries.len().min(from + ENTRIES_PER_TRANSACTION);
                let responses = shared.apply(database, &entries[from..to])?;
                Ok((
                    responses,
                    shared.checkpoint_is_due(database, Some(last.index)),
                ))
            };
            let applied = self.change(apply).await.map_err(failed)?;
            responses.extend(applied.0);
            due = applied.1;
        }
        if due {
            self.threads.poke();
        }
        Ok(responses)
    }

    async fn install(&self, meta: SnapshotMeta, mut data: SnapshotData) -> Result<()> {
        self.shared.settled().await?;
        if let Some(staged) = data.staged.take() {
            // Outside Raft's own loop: only the swap is left to do.
            let install = move |shared: &Shared<S>, database: &Database| {
                shared.install(database, &meta, &staged)
            };
            return self.change(install).await;
        }
        if self.shared.is_witness() {
            let install = move |shared: &Shared<S>, database: &Database| {
                let staged = shared.stage_nothing(database, &meta)?;
                shared.install(database, &meta, &staged)
            };
            return self.change(install).await;
        }
        let file = Mutex::new(data.into_file().await?);
        let install = move |shared: &Shared<S>, database: &Database| {
            let staged = shared.stage_file(database, &mut file.lock())?;
            shared.install(database, &meta, &staged)
        };
        self.change(install).await
    }
}

fn checkpoint_if_due<S: StateMachine>(shared: &Weak<Shared<S>>) {
    let Some(shared) = shared.upgrade() else {
        return;
    };
    let outcome = shared.with_database(|database| {
        let applied = state_record(&database.begin_read()?)?.applied_index();
        if shared.checkpoint_is_due(database, applied) {
            shared.checkpoint(database)?;
        }
        Ok(())
    });
    match outcome {
        Ok(()) | Err(Failure::Stopped) => {}
        // The engine has stopped writing, so the next append stops the node.
        Err(failure) => tracing::error!(node = shared.node, "checkpoint: {failure}"),
    }
}

impl<S: StateMachine> RaftLogReader<TypeConfig<S>> for RaftLogStore<S> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> std::result::Result<Vec<Entry<S>>, StorageError> {
        LogReader::new(self.shared.clone())
            .try_get_log_entries(range)
            .await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> std::result::Result<Vec<Entry<S>>, StorageError> {
        let mut reader = LogReader::new(self.shared.clone());
        reader.limited_get_log_entries(start, end).await
    }
}

#[allow(deprecated)]
impl<S: StateMachine> RaftStorage<TypeConfig<S>> for RaftLogStore<S> {
    type LogReader = LogReader<S>;
    type SnapshotBuilder = SnapshotBuilder<S>;

    async fn save_vote(&mut self, vote: &Vote) -> std::result::Result<(), StorageError> {
        let vote = *vote;
        self.write(ErrorSubject::Vote, move |shared, database| {
            shared.save_vote(database, &vote)
        })
        .await
    }

    async fn read_vote(&mut self) -> std::result::Result<Option<Vote>, StorageError> {
        self.read(ErrorSubject::Vote, |shared, database| {
            shared.read_vote(database)
        })
        .await
    }

    async fn save_committed(
        &mut self,
        committed: Option<LogId>,
    ) -> std::result::Result<(), StorageError> {
        // openraft does nothing else while it waits, and it is not durable before the next flush anyway.
        match self.shared.fault() {
            Some(fault) => Err(Failure::Earlier(fault).at(ErrorSubject::Store, ErrorVerb::Write)),
            None => {
                *self.shared.committed.lock() = Some(CommittedRecord { log_id: committed });
                Ok(())
            }
        }
    }

    async fn read_committed(&mut self) -> std::result::Result<Option<LogId>, StorageError> {
        self.read(ErrorSubject::Store, |shared, database| {
            shared.read_committed(database)
        })
        .await
    }

    async fn get_log_state(
        &mut self,
    ) -> std::result::Result<LogState<TypeConfig<S>>, StorageError> {
        let failed = |failure: Failure| failure.at(ErrorSubject::Logs, ErrorVerb::Read);
        self.shared.settled().await.map_err(failed)?;
        let ends = self
            .read(ErrorSubject::Logs, |shared, database| {
                shared.log_ends(&database.begin_read()?)
            })
            .await?;
        Ok(LogState {
            last_purged_log_id: ends.purged,
            last_log_id: ends.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        LogReader::new(self.shared.clone())
    }

    async fn append_to_log<I>(&mut self, entries: I) -> std::result::Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry<S>> + OptionalSend,
    {
        let failed = |failure: Failure| failure.at(ErrorSubject::Logs, ErrorVerb::Write);
        let entries = Encoded::new::<S>(entries).map_err(failed)?;
        let Some(first) = entries.first() else {
            return Ok(());
        };
        // What is on its way is read from what is kept of the log in memory, so it has to fit.
        if self.overlaps && entries.bytes() <= recent::LIMIT / 2 {
            self.shared.settled().await.map_err(failed)?;
            self.send(first, entries);
            return Ok(());
        }
        self.write(ErrorSubject::Logs, move |shared, database| {
            shared.append(database, &entries)?;
            shared.keep(&entries);
            Ok(())
        })
        .await
    }

    async fn delete_conflict_logs_since(
        &mut self,
        log_id: LogId,
    ) -> std::result::Result<(), StorageError> {
        self.write(ErrorSubject::Log(log_id), move |shared, database| {
            shared.truncate(database, log_id.index)
        })
        .await
    }

    async fn purge_logs_upto(&mut self, log_id: LogId) -> std::result::Result<(), StorageError> {
        self.write(ErrorSubject::Log(log_id), move |shared, database| {
            shared.purge(database, log_id)
        })
        .await
    }

    async fn last_applied_state(
        &mut self,
    ) -> std::result::Result<(Option<LogId>, StoredMembership), StorageError> {
        let record = self
            .read(ErrorSubject::StateMachine, |_, database| {
                Ok(state_record(&database.begin_read()?)?)
            })
            .await?;
        Ok((record.last_applied, record.membership))
    }

    async fn apply_to_state_machine(
        &mut self,
        entries: &[Entry<S>],
    ) -> std::result::Result<Vec<Vec<S::Response>>, StorageError> {
        self.apply_all(entries.to_vec()).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        SnapshotBuilder {
            shared: self.shared.clone(),
        }
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> std::result::Result<Box<SnapshotData>, StorageError> {
        self.read(ErrorSubject::Snapshot(None), |shared, _| {
            Ok(Box::new(SnapshotData::spool_in(&shared.spool_directory)?))
        })
        .await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotData>,
    ) -> std::result::Result<(), StorageError> {
        let subject = ErrorSubject::Snapshot(Some(meta.signature()));
        RaftLogStore::install(self, meta.clone(), *snapshot)
            .await
            .map_err(|failure| failure.at(subject, ErrorVerb::Write))
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> std::result::Result<Option<Snapshot<TypeConfig<S>>>, StorageError> {
        let current = self
            .read(ErrorSubject::Snapshot(None), |shared, database| {
                shared.current_snapshot(database)
            })
            .await?;
        Ok(current.map(|(meta, data)| Snapshot {
            meta,
            snapshot: Box::new(data),
        }))
    }
}

/// Builds snapshots beside Raft's own loop.
pub struct SnapshotBuilder<S> {
    shared: SharedStore<S>,
}

impl<S: StateMachine> RaftSnapshotBuilder<TypeConfig<S>> for SnapshotBuilder<S> {
    async fn build_snapshot(
        &mut self,
    ) -> std::result::Result<Snapshot<TypeConfig<S>>, StorageError> {
        let subject = ErrorSubject::Snapshot(None);
        let (meta, data) = reader::read(&self.shared, subject, |shared, database| {
            shared.build_snapshot(database)
        })
        .await?;
        Ok(Snapshot {
            meta,
            snapshot: Box::new(data),
        })
    }
}

#[cfg(test)]
#[allow(deprecated)]
mod tests {
    use super::*;
    use crate::witness::Witness;

    #[tokio::test]
    async fn a_write_that_was_not_waited_for_and_failed_fails_the_next_one() {
        let database = Database::in_memory().expect("memory");
        let options = StoreOptions::default();
        let opened = RaftLogStore::open(database, 1, Witness::<()>::new(), options);
        let mut store = opened.expect("opens");
        let committed = RaftStorage::save_committed(&mut store, None);
        committed.await.expect("nothing failed yet");
        let failed = store
            .shared
            .critical(|_| Err::<(), _>(Failure::StagingTaken));
        failed.expect_err("as it says");
        let committed = RaftStorage::save_committed(&mut store, None).await;
        let error = committed.expect_err("told now").to_string();
        assert!(error.contains("an earlier write failed"), "{error}");
    }

    #[tokio::test]
    async fn a_committed_id_is_not_stored_when_its_entries_have_failed() {
        let open = |database| {
            let options = StoreOptions::default();
            RaftLogStore::open(database, 1, Witness::<()>::new(), options).expect("opens")
        };
        let mut store = open(Database::in_memory().expect("memory"));
        let append = store.shared.flushing.begin(0);
        let first = LogId::new(openraft::CommittedLeaderId::new(1, 1), 0);
        let committed = RaftStorage::save_committed(&mut store, Some(first));
        committed.await.expect("kept");
        drop(append);
        let mut store = open(store.close().expect("nobody has it"));
        let committed = RaftStorage::read_committed(&mut store).await;
        assert_eq!(committed.expect("read"), None);
    }
}
