//! The store's own error, and how openraft is told of it.

use openraft::{AnyError, ErrorSubject, ErrorVerb, StorageIOError};

use crate::snapshot::SnapshotError;
use crate::state_machine::ApplyError;
use crate::types::{NodeId, StorageError};

/// Why a storage operation failed. openraft stops the node on any of these that it is told of.
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
    #[error("log entry {index} is damaged: {reason}")]
    Entry { index: u64, reason: String },
    #[error("appending entry {found} would leave a hole in the log: {expected} is next")]
    Hole { expected: u64, found: u64 },
    #[error("entry {index} cannot be appended before the snapshot up to {purged} is installed")]
    BeforeInstall { index: u64, purged: u64 },
    #[error("truncating at {index} would remove entry {applied}, which is applied")]
    TruncateApplied { index: u64, applied: u64 },
    #[error("another snapshot is being received or installed")]
    StagingTaken,
    #[error(
        "{reason}; the entry is applied, so nothing is lost: start the node again, and it drops that part of its log and brings other nodes up to date by snapshots"
    )]
    AppliedEntry { reason: String },
    #[error("{0}")]
    LogDamaged(String),
    #[error("the state cannot be rebuilt from the snapshot: {0}")]
    NoBase(String),
    #[error("spool file: {0}")]
    Spool(#[from] std::io::Error),
    #[error("an earlier write failed: {0}")]
    Earlier(String),
    #[error("the store is shut down")]
    Stopped,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// What is damaged, if that is why it failed.
    pub fn damage(&self) -> Option<&folio_store::Error> {
        match self {
            Self::Store(error)
            | Self::Apply {
                source: ApplyError::Store(error),
                ..
            } => Some(error).filter(|error| error.is_corruption()),
            _ => None,
        }
    }

    /// What the engine said, if it failed for want of room. Nothing has changed then.
    pub fn full(&self) -> Option<&folio_store::Error> {
        match self {
            Self::Store(error)
            | Self::Apply {
                source: ApplyError::Store(error),
                ..
            } => Some(error).filter(|error| matches!(error, folio_store::Error::Full { .. })),
            _ => None,
        }
    }

    /// The same failure as openraft takes it.
    pub fn at(&self, subject: ErrorSubject<NodeId>, verb: ErrorVerb) -> StorageError {
        StorageIOError::new(subject, verb, AnyError::new(self)).into()
    }
}
