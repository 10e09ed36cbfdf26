//! Looking into a file, beside a running node or without one: reading only, and expecting the worst of it.

mod raft;
mod replay;
mod restore;
mod stat;
mod verify;

use std::path::Path;

use folio_store::Database;

pub use raft::RaftSummary;
pub use replay::{History, ReplayOptions, ReplayReport, replay};
pub use restore::{Copies, RestoreReport, RestoredBlock, Until, restore};
pub use stat::{StatReport, TableStat, stat};
pub use verify::{VaultCheck, VerifyReport, verify};

/// Why a file cannot be looked into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file is damaged, or is no Folio file.
    #[error(transparent)]
    Damaged(folio_store::Error),
    /// The pages are sound, and what the ledger has in them is not.
    #[error(transparent)]
    Inconsistent(folio_ledger::error::LedgerError),
    /// A running node has the file, on a system where that keeps readers out.
    #[error("{0}")]
    InUse(folio_store::Error),
    /// Anything else: no such file, no permission, a newer format.
    #[error("{0}")]
    Other(String),
}

impl From<folio_store::Error> for OpenError {
    fn from(error: folio_store::Error) -> Self {
        match error {
            error if error.is_corruption() => OpenError::Damaged(error),
            error @ folio_store::Error::InUse { .. } => OpenError::InUse(error),
            other => OpenError::Other(other.to_string()),
        }
    }
}

fn open(file: &Path) -> Result<(Database, u64), OpenError> {
    let found = std::fs::metadata(file)
        .map_err(|error| OpenError::Other(format!("{}: {error}", file.display())))?;
    if found.is_dir() {
        return Err(OpenError::Other(format!(
            "{}: it is a directory: name a file in it",
            file.display()
        )));
    }
    Ok((Database::open_read_only(file)?, found.len()))
}

impl From<folio_ledger::error::LedgerError> for OpenError {
    fn from(error: folio_ledger::error::LedgerError) -> Self {
        use folio_ledger::error::LedgerError;

        match error {
            LedgerError::Store(error) => error.into(),
            damaged @ (LedgerError::Row { .. } | LedgerError::Inconsistent(_)) => {
                OpenError::Inconsistent(damaged)
            }
            other => OpenError::Other(other.to_string()),
        }
    }
}
