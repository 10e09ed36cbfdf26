//! Applying committed entries to the state machine.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use folio_store::{Database, Durability, WriteTransaction};
use openraft::EntryPayload;
use tokio::time::Instant;

use super::failure::{Failure, Result};
use super::shared::Shared;
use super::tables::{State, StateRecord};
use crate::state_machine::{Applied, StateMachine};
use crate::types::{Batch, Entry};

/// Entries applied in one transaction, at most: a node that catches up must not hold its whole
/// backlog in one.
pub(super) const ENTRIES_PER_TRANSACTION: usize = 64;

impl<S: StateMachine> Shared<S> {
    /// Applies `entries`; one list of responses for each, empty for entries that are Raft's own.
    ///
    /// Rows, last applied id, membership and time are one transaction, which is not flushed: after
    /// a crash the state is at its checkpoint, whole, and the log brings it forward.
    ///
    /// Damage that is met in the state does not stop the node: the state is given up, to be rebuilt,
    /// and from here on entries are only counted.
    #[tracing::instrument(level = "debug", skip_all, fields(node = self.node, entries = entries.len()))]
    pub fn apply(
        &self,
        database: &Database,
        entries: &[Entry<S>],
    ) -> Result<Vec<Vec<S::Response>>> {
        let began = Instant::now();
        let mut counted = self.state.lock();
        let responses = match self.apply_or_give_up(database, entries)? {
            Some(responses) => responses,
            None => self.note_applied(database, entries)?,
        };
        *counted = entries.last().map(|entry| entry.log_id).or(*counted);
        self.meters.apply_entries.note(entries.len() as u64);
        self.meters.apply_micros.note_since(began);
        Ok(responses)
    }

    /// `None` if there is no state to apply to, or not any more.
    fn apply_or_give_up(
        &self,
        database: &Database,
        entries: &[Entry<S>],
    ) -> Result<Option<Vec<Vec<S::Response>>>> {
        if !self.holds_state() {
            return Ok(None);
        }
        match self.apply_entries(database, entries) {
            Err(failure) if failure.damage().is_some() => {
                self.give_up_state(database, &failure.to_string())?;
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    /// The same for a state that is there. The caller holds the turn to change it.
    pub(super) fn apply_entries(
        &self,
        database: &Database,
        entries: &[Entry<S>],
    ) -> Result<Vec<Vec<S::Response>>> {
        let mut responses = Vec::with_capacity(entries.len());
        for some in entries.chunks(ENTRIES_PER_TRANSACTION) {
            let mut txn = database.begin_write()?;
            txn.set_durability(Durability::Eventual);
            let mut record = txn.table::<State>()?.get(&())?.unwrap_or_default();
            for entry in some {
                responses.push(self.apply_one(&txn, &mut record, entry)?);
            }
            txn.table::<State>()?.insert(&(), &record)?;
            let transaction = txn.commit()?;
            if let Some(log_id) = record.last_applied {
                self.points.lock().applied(log_id, transaction);
            }
        }
        Ok(responses)
    }

    fn apply_one(
        &self,
        txn: &WriteTransaction,
        record: &mut StateRecord,
        entry: &Entry<S>,
    ) -> Result<Vec<S::Response>> {
        let log_id = entry.log_id;
        record.check_next(entry)?;
        let responses = match &entry.payload {
            EntryPayload::Blank | EntryPayload::Membership(_) => Vec::new(),
            EntryPayload::Normal(batch) => {
                record.time = record.time.max(batch.time);
                let at = Applied {
                    index: log_id.index,
                    term: log_id.leader_id.term,
                    position: 0,
                    time: record.time,
                };
                self.apply_batch(txn, at, batch)?
            }
        };
        record.note(entry);
        Ok(responses)
    }

    fn apply_batch(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        batch: &Batch<S::Command>,
    ) -> Result<Vec<S::Response>> {
        let index = at.index;
        // The transaction is dropped after a panic, so nothing half done can be seen: a leader
        // that goes on with heartbeats and answers nobody would be worse than a stopped node.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.machine.apply_entry(txn, at, &batch.commands)
        }));
        let responses = outcome
            .map_err(|panic| Failure::Panic {
                index,
                message: panic_message(panic.as_ref()),
            })?
            .map_err(|source| Failure::Apply { index, source })?;
        // openraft and the proposer pair responses with callers by position.
        if responses.len() != batch.commands.len() {
            return Err(Failure::Responses {
                index,
                commands: batch.commands.len(),
                responses: responses.len(),
            });
        }
        Ok(responses)
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
