//! The operations of a store by the names of `RaftStorage`, whichever traits it is built with.
#![allow(unused_imports, reason = "each test binary uses a part of it")]

#[cfg(not(feature = "storage-v2"))]
pub use openraft::storage::RaftStorage as Operations;

#[cfg(feature = "storage-v2")]
pub use v2::Operations;

#[cfg(feature = "storage-v2")]
mod v2 {
    #![allow(async_fn_in_trait, reason = "tests need no bounds on the futures")]

    use folio_raft::snapshot::SnapshotData;
    use folio_raft::store::{LogReader, SnapshotBuilder};
    use folio_raft::{
        Entry, LogId, RaftLogStore, SnapshotMeta, StateMachine, StorageError, StoredMembership,
        TypeConfig, Vote,
    };
    use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
    use openraft::{LogState, OptionalSend, Snapshot};

    type Outcome<T> = Result<T, StorageError>;

    /// The newer traits under the older names.
    pub trait Operations<C> {
        type Machine: StateMachine;

        async fn save_vote(&mut self, vote: &Vote) -> Outcome<()>;
        async fn read_vote(&mut self) -> Outcome<Option<Vote>>;
        async fn save_committed(&mut self, committed: Option<LogId>) -> Outcome<()>;
        async fn read_committed(&mut self) -> Outcome<Option<LogId>>;
        async fn get_log_state(&mut self) -> Outcome<LogState<TypeConfig<Self::Machine>>>;
        async fn get_log_reader(&mut self) -> LogReader<Self::Machine>;
        async fn append_to_log<I>(&mut self, entries: I) -> Outcome<()>
        where
            I: IntoIterator<Item = Entry<Self::Machine>> + OptionalSend,
            I::IntoIter: OptionalSend;
        async fn delete_conflict_logs_since(&mut self, log_id: LogId) -> Outcome<()>;
        async fn purge_logs_upto(&mut self, log_id: LogId) -> Outcome<()>;
        async fn last_applied_state(&mut self) -> Outcome<(Option<LogId>, StoredMembership)>;
        async fn apply_to_state_machine(
            &mut self,
            entries: &[Entry<Self::Machine>],
        ) -> Outcome<Vec<Vec<<Self::Machine as StateMachine>::Response>>>;
        async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<Self::Machine>;
        async fn begin_receiving_snapshot(&mut self) -> Outcome<Box<SnapshotData>>;
        async fn install_snapshot(
            &mut self,
            meta: &SnapshotMeta,
            snapshot: Box<SnapshotData>,
        ) -> Outcome<()>;
        async fn get_current_snapshot(
            &mut self,
        ) -> Outcome<Option<Snapshot<TypeConfig<Self::Machine>>>>;
    }

    impl<S: StateMachine> Operations<TypeConfig<S>> for RaftLogStore<S> {
        type Machine = S;

        async fn save_vote(&mut self, vote: &Vote) -> Outcome<()> {
            RaftLogStorage::save_vote(self, vote).await
        }
        async fn read_vote(&mut self) -> Outcome<Option<Vote>> {
            RaftLogStorage::read_vote(self).await
        }
        async fn save_committed(&mut self, committed: Option<LogId>) -> Outcome<()> {
            RaftLogStorage::save_committed(self, committed).await
        }
        async fn read_committed(&mut self) -> Outcome<Option<LogId>> {
            RaftLogStorage::read_committed(self).await
        }
        async fn get_log_state(&mut self) -> Outcome<LogState<TypeConfig<S>>> {
            RaftLogStorage::get_log_state(self).await
        }
        async fn get_log_reader(&mut self) -> LogReader<S> {
            RaftLogStorage::get_log_reader(self).await
        }
        async fn append_to_log<I>(&mut self, entries: I) -> Outcome<()>
        where
            I: IntoIterator<Item = Entry<S>> + OptionalSend,
            I::IntoIter: OptionalSend,
        {
            self.blocking_append(entries).await
        }
        async fn delete_conflict_logs_since(&mut self, log_id: LogId) -> Outcome<()> {
            self.truncate(log_id).await
        }
        async fn purge_logs_upto(&mut self, log_id: LogId) -> Outcome<()> {
            self.purge(log_id).await
        }
        async fn last_applied_state(&mut self) -> Outcome<(Option<LogId>, StoredMembership)> {
            self.applied_state().await
        }
        async fn apply_to_state_machine(
            &mut self,
            entries: &[Entry<S>],
        ) -> Outcome<Vec<Vec<S::Response>>> {
            self.apply(entries.to_vec()).await
        }
        async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<S> {
            RaftStateMachine::get_snapshot_builder(self).await
        }
        async fn begin_receiving_snapshot(&mut self) -> Outcome<Box<SnapshotData>> {
            RaftStateMachine::begin_receiving_snapshot(self).await
        }
        async fn install_snapshot(
            &mut self,
            meta: &SnapshotMeta,
            snapshot: Box<SnapshotData>,
        ) -> Outcome<()> {
            RaftStateMachine::install_snapshot(self, meta, snapshot).await
        }
        async fn get_current_snapshot(&mut self) -> Outcome<Option<Snapshot<TypeConfig<S>>>> {
            RaftStateMachine::get_current_snapshot(self).await
        }
    }
}
