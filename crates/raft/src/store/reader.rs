//! Reading the log beside its writer.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};

use folio_store::Database;
use openraft::{ErrorSubject, ErrorVerb, OptionalSend, RaftLogReader};

use super::failure::{Failure, Result};
use super::shared::{Shared, SharedStore};
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::types::{Entry, NodeId, StorageError, TypeConfig};

/// Reads the log for one replication stream, from a fresh view each time, without waiting for the
/// writer. What was appended lately is in memory.
pub struct LogReader<S> {
    shared: SharedStore<S>,
}

impl<S> LogReader<S> {
    pub(super) fn new(shared: SharedStore<S>) -> Self {
        Self { shared }
    }
}

impl<S: StateMachine> LogReader<S> {
    /// Waits until the file has what was appended.
    async fn settled(&self) -> std::result::Result<(), StorageError> {
        let settled = self.shared.settled().await;
        settled.map_err(|failure| failure.at(ErrorSubject::Logs, ErrorVerb::Read))
    }

    fn recent(
        &self,
        start: u64,
        end: u64,
        max_bytes: usize,
    ) -> Option<std::result::Result<Vec<Entry<S>>, StorageError>> {
        let entries = self.shared.read_recent(start, end, max_bytes)?;
        Some(entries.map_err(|failure| failure.at(ErrorSubject::Logs, ErrorVerb::Read)))
    }
}

impl<S: StateMachine> RaftLogReader<TypeConfig<S>> for LogReader<S> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> std::result::Result<Vec<Entry<S>>, StorageError> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        if let (Bound::Included(start), Bound::Excluded(end)) = range
            && let Some(entries) = self.recent(start, end, usize::MAX)
        {
            return entries;
        }
        self.settled().await?;
        read(&self.shared, ErrorSubject::Logs, move |shared, database| {
            // openraft asks here for what it is about to apply and takes less for a damaged log.
            shared.read_entries(database, range, usize::MAX)
        })
        .await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> std::result::Result<Vec<Entry<S>>, StorageError> {
        if let Some(entries) = self.recent(start, end, self.shared.options.read_max_bytes) {
            return entries;
        }
        self.settled().await?;
        read(&self.shared, ErrorSubject::Logs, move |shared, database| {
            shared.read_for_replication(database, start, end)
        })
        .await
    }
}

/// Runs `operation` on a thread for blocking work.
pub(super) async fn read<S: StateMachine, T: Send + 'static>(
    shared: &SharedStore<S>,
    subject: ErrorSubject<NodeId>,
    operation: impl FnOnce(&Shared<S>, &Database) -> Result<T> + Send + 'static,
) -> std::result::Result<T, StorageError> {
    let shared = shared.clone();
    let about = subject.clone();
    let reading = runtime::blocking(move || {
        shared.critical_to(&about, |database| operation(&shared, database))
    });
    let outcome = match reading.await {
        Ok(outcome) => outcome,
        // Cancelled with the runtime, or panicked, which an invariant of ours forbids.
        Err(_) => Err(Failure::Stopped),
    };
    outcome.map_err(|failure| failure.at(subject, ErrorVerb::Read))
}
