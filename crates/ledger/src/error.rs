//! Errors that are nobody's request: the engine's, and damage in the ledger's own rows.

use folio_raft::ApplyError;

use folio_proof::WireError;

/// Why the ledger could not read or apply. None of these is a client's mistake: those are answered
/// with a [`Rejection`](crate::response::Rejection).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The engine could not read or write.
    #[error(transparent)]
    Store(#[from] folio_store::Error),
    /// A row does not decode.
    #[error(
        "{row} does not decode: {source}; the state is damaged, restore it from a snapshot or another replica"
    )]
    Row {
        /// Which row.
        row: String,
        /// What is wrong with it.
        source: WireError,
    },
    /// Rows contradict each other.
    #[error("{0}; the state is damaged, restore it from a snapshot or another replica")]
    Inconsistent(String),
}

/// The result of a read or of an apply.
pub type Result<T, E = LedgerError> = std::result::Result<T, E>;

impl From<LedgerError> for ApplyError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Store(error) => ApplyError::Store(error),
            other => ApplyError::Fatal(other.to_string()),
        }
    }
}
