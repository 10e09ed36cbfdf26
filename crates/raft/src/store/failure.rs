//! The store's own error, and how openraft is told of it.

use openraft::{AnyError, ErrorSubject, ErrorVerb, StorageIOError};

use crate::snapshot::SnapshotError;
use crate::state_machine::ApplyError;
use crate::types::{NodeId, StorageError};

/// Why a storage operation failed. openraft stops the node on any of these.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Store(#[from] folio_store::Error),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("entry {index}: {source}")]
    Apply {
        index: u64,
        #[source]
        source: ApplyError,
    },
    #[error(
        "entry {index}: the state machine panicked: {message}; nothing of the entry was applied"
    )]
    Panic { index: u64, message: String },
    #[error(
        "entry {index}: the state machine answered {responses} of {commands} commands; nothing of the entry was applied"
    )]
    Responses {
        index: u64,
        commands: usize,
        responses: usize,
    },
    #[error("entry {index} was to be applied, but the state is already at {applied}")]
    AppliedTwice { index: u64, applied: u64 },
    #[error("entry {index} cannot be encoded: {reason}")]
    Encode { index: u64, reason: String },
    #[error(
        "log entry {index} is damaged: {reason}; remove the node and add it again with an empty file"
    )]
    Entry { index: u64, reason: String },
    #[error("appending entry {found} would leave a hole in the log: {expected} is next")]
    Hole { expected: u64, found: u64 },
    #[error("entry {index} cannot be appended before the snapshot up to {purged} is installed")]
    BeforeInstall { index: u64, purged: u64 },
    #[error("truncating at {index} would remove entry {applied}, which is applied")]
    TruncateApplied { index: u64, applied: u64 },
    #[error("another snapshot is being received or installed")]
    StagingTaken,
    #[error("spool file: {0}")]
    Spool(#[from] std::io::Error),
    #[error("the store is shut down")]
    Stopped,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The same failure as openraft takes it.
    pub fn at(&self, subject: ErrorSubject<NodeId>, verb: ErrorVerb) -> StorageError {
        StorageIOError::new(subject, verb, AnyError::new(self)).into()
    }
}
