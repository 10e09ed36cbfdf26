//! Reading the log of a file as it is stored: for tools that look into files, not for nodes.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use folio_store::ReadTransaction;
use openraft::EntryPayload;

use super::failure::Failure;
use super::log::decode_entry;
use super::shared::{holds_state, state_record};
use super::tables::{Log, Purged};
use crate::state_machine::StateMachine;
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
            Err(Failure::Entry { index, reason }) => Err(StoredLogError::Entry { index, reason }),
            Err(other) => Err(StoredLogError::Entry {
                index,
                reason: other.to_string(),
            }),
        }
    }
}
