//! Reading the log of a file as it is stored: for tools that look into files, not for nodes.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use folio_store::{Database, Durability, ReadTransaction, WriteTransaction};
use openraft::EntryPayload;

use super::failure::Failure;
use super::log::decode_entry;
use super::shared::{holds_state, state_record};
use super::tables::{Log, Purged, State};
use crate::state_machine::{Applied, StateMachine};
use crate::types::{Batch, LogId, NodeId};

/// The log in a file, and where the state beside it stands.
///
/// ```
/// # use folio_raft::Witness;
/// use folio_raft::store::StoredLog;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let database = folio_store::Database::in_memory()?;
/// let view = database.begin_read()?;
/// let log = StoredLog::<Witness<()>>::new(&view);
/// assert_eq!(log.last()?, None);
/// # Ok(())
/// # }
/// ```
pub struct StoredLog<'v, S> {
    view: &'v ReadTransaction,
    machine: PhantomData<fn() -> S>,
}

/// Where a stored state stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// The last entry that is applied.
    pub applied: Option<LogId>,
    /// The newest time of a proposer that was applied, in microseconds since the Unix epoch.
    pub time: u64,
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry<C> {
    /// Where it stands.
    pub log_id: LogId,
    /// Its commands; `None` for an entry of Raft's own.
    pub batch: Option<Batch<C>>,
    /// The members that it names, if it changes who belongs to the cluster.
    pub members: BTreeSet<NodeId>,
}

/// Why a stored log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredLogError {
    /// The engine could not read it.
    #[error(transparent)]
    Store(#[from] folio_store::Error),
    /// An entry does not decode.
    #[error("log entry {index} is damaged: {reason}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry is not there, although it should be.
    #[error("log entry {index} is missing")]
    Missing {
        /// Its index.
        index: u64,
    },
}

impl<'v, S: StateMachine> StoredLog<'v, S> {
    /// The log as `view` has it.
    pub fn new(view: &'v ReadTransaction) -> Self {
        StoredLog {
            view,
            machine: PhantomData,
        }
    }

    /// Where the state stands; `None` if there is no state, because it was damaged or the node is a witness.
    pub fn state(&self) -> Result<Option<StoredState>, StoredLogError> {
        if !holds_state(self.view)? {
            return Ok(None);
        }
        let record = state_record(self.view)?;
        Ok(Some(StoredState {
            applied: record.last_applied,
            time: record.time,
        }))
    }

    /// The index up to which the log is gone.
    pub fn purged(&self) -> Result<Option<u64>, StoredLogError> {
        let purged = self.view.table::<Purged>()?.get(&())?;
        Ok(purged.map(|record| record.log_id.index))
    }

    /// The index of the last entry.
    pub fn last(&self) -> Result<Option<u64>, StoredLogError> {
        Ok(self.view.table::<Log<S>>()?.last()?.map(|(index, _)| index))
    }

    /// Carries out the entries of this log in `database`, which has an earlier state of the same history or none, one after
    /// the other in transactions of their own, until `reached` says that a state is far enough. Gives whether one was.
    ///
    /// `database` has no log then: it is to be the file of a new cluster ([`refound`](super::refound)). That every entry is
    /// there from the first that its state lacks is checked; the time is that of carrying them out the first time.
    pub fn carry_out_in<E>(
        &self,
        database: &Database,
        mut apply: impl FnMut(&WriteTransaction, Applied, &[S::Command]) -> Result<(), E>,
        mut reached: impl FnMut(&ReadTransaction) -> Result<bool, E>,
    ) -> Result<bool, E>
    where
        E: From<StoredLogError> + From<folio_store::Error>,
    {
        let begin = || {
            let mut txn = database.begin_write()?;
            txn.set_durability(Durability::Eventual);
            Ok::<_, folio_store::Error>(txn)
        };
        let txn = begin()?;
        txn.table::<Log<S>>()?.clear()?;
        txn.commit()?;
        let view = database.begin_read()?;
        let mut record = state_record(&view)?;
        if reached(&view)? {
            return Ok(true);
        }
        drop(view);
        let first = after(record.applied_index());
        for row in self.view.table::<Log<S>>()?.range(first..)? {
            let (index, bytes) = row?;
            let expected = after(record.applied_index());
            if index != expected {
                return Err(StoredLogError::Missing { index: expected }.into());
            }
            let entry =
                decode_entry::<S>(index, &bytes).map_err(|failure| damaged(index, failure))?;
            let txn = begin()?;
            if let EntryPayload::Normal(batch) = &entry.payload {
                record.time = record.time.max(batch.time);
                let at = Applied {
                    index,
                    term: entry.log_id.leader_id.term,
                    position: 0,
                    time: record.time,
                };
                apply(&txn, at, &batch.commands)?;
            }
            record.note(&entry);
            txn.table::<State>()?.insert(&(), &record)?;
            txn.commit()?;
            if matches!(entry.payload, EntryPayload::Normal(_)) && reached(&database.begin_read()?)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An entry; `None` if it is not in the log.
    pub fn entry(&self, index: u64) -> Result<Option<StoredEntry<S::Command>>, StoredLogError> {
        let Some(row) = self.view.table::<Log<S>>()?.get(&index)? else {
            return Ok(None);
        };
        match decode_entry::<S>(index, &row) {
            Ok(entry) => Ok(Some(StoredEntry {
                log_id: entry.log_id,
                members: match &entry.payload {
                    EntryPayload::Membership(members) => {
                        members.nodes().map(|(id, _)| *id).collect()
                    }
                    EntryPayload::Blank | EntryPayload::Normal(_) => BTreeSet::new(),
                },
                batch: match entry.payload {
                    EntryPayload::Normal(batch) => Some(batch),
                    EntryPayload::Blank | EntryPayload::Membership(_) => None,
                },
            })),
            Err(failure) => Err(damaged(index, failure)),
        }
    }
}

/// The index of the entry that follows what is applied.
fn after(applied: Option<u64>) -> u64 {
    applied.map_or(0, |index| index.saturating_add(1))
}

fn damaged(index: u64, failure: Failure) -> StoredLogError {
    match failure {
        Failure::Store(error) => error.into(),
        Failure::Entry { index, reason } => StoredLogError::Entry { index, reason },
        other => StoredLogError::Entry {
            index,
            reason: other.to_string(),
        },
    }
}
