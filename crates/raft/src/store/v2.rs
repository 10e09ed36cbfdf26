//! openraft's newer storage traits on the same store, for the feature `storage-v2`.
//!
//! Log and state machine are two objects for openraft here, which it uses at the same time: while the
//! flush of an append runs on one storage thread, entries are applied on the other. Everything else
//! is as with `RaftStorage`, whose methods these are.

#![allow(
    deprecated,
    reason = "`RaftStorage` is what the newer traits are made of here"
)]

use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine, RaftStorage};
use openraft::{ErrorSubject, LogState, OptionalSend, Snapshot};

use super::{RaftLogStore, SnapshotBuilder, reader::LogReader};
use crate::snapshot::SnapshotData;
use crate::state_machine::StateMachine;
use crate::types::{Entry, LogId, SnapshotMeta, StorageError, StoredMembership, TypeConfig, Vote};

impl<S: StateMachine> RaftLogStorage<TypeConfig<S>> for RaftLogStore<S> {
    type LogReader = LogReader<S>;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig<S>>, StorageError> {
        RaftStorage::get_log_state(self).await
    }

    async fn get_log_reader(&mut self) -> LogReader<S> {
        RaftStorage::get_log_reader(self).await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        RaftStorage::save_vote(self, vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        RaftStorage::read_vote(self).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        RaftStorage::save_committed(self, committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        RaftStorage::read_committed(self).await
    }

    /// Returns when the entries are durable. openraft 0.9 waits for the callback before it does
    /// anything else, so to return earlier would gain nothing.
    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig<S>>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry<S>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.wait_for_installation().await?;
        let appended = RaftStorage::append_to_log(self, entries).await;
        callback.log_io_completed(match &appended {
            Ok(()) => Ok(()),
            Err(error) => Err(std::io::Error::other(error.to_string())),
        });
        appended
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        RaftStorage::delete_conflict_logs_since(self, log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        RaftStorage::purge_logs_upto(self, log_id).await
    }
}

impl<S: StateMachine> RaftLogStore<S> {
    /// A snapshot may still be on its way into the state, on the other thread. What follows it in the log
    /// has to wait for it.
    async fn wait_for_installation(&self) -> Result<(), StorageError> {
        if self.shared.pending_purge.borrow().is_none() {
            return Ok(());
        }
        let gap = self.read(ErrorSubject::Logs, |shared, database| {
            let ends = shared.log_ends(&database.begin_read()?)?;
            Ok(shared.gap(&ends))
        });
        if let Some(purged) = gap.await? {
            self.shared.installed(purged).await;
        }
        Ok(())
    }
}

impl<S: StateMachine> RaftStateMachine<TypeConfig<S>> for RaftLogStore<S> {
    type SnapshotBuilder = SnapshotBuilder<S>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        RaftStorage::last_applied_state(self).await
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<S::Response>>, StorageError>
    where
        I: IntoIterator<Item = Entry<S>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.apply_all(entries.into_iter().collect()).await
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<S> {
        RaftStorage::get_snapshot_builder(self).await
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotData>, StorageError> {
        RaftStorage::begin_receiving_snapshot(self).await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotData>,
    ) -> Result<(), StorageError> {
        RaftStorage::install_snapshot(self, meta, snapshot).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<TypeConfig<S>>>, StorageError> {
        RaftStorage::get_current_snapshot(self).await
    }
}
