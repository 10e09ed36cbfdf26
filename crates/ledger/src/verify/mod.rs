//! Checking a ledger against itself: what is stored is recomputed and compared.

mod chain;
mod shared;
mod state;
mod versions;

pub use chain::{ChainReport, verify_chain};
pub use shared::verify_shared;
pub use state::{StateReport, verify_state};

use crate::error::LedgerError;

/// Why a vault could not be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no such vault.
    #[error("there is no vault {0}")]
    UnknownVault(u64),
    /// The rows could not be read, or do not decode.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Something is not what the rest of the ledger says it is. This is the first difference found.
    #[error("{place}: {what} is {found}, it should be {expected}")]
    Mismatch {
        /// Where: a block, an entity, a relationship, and of which vault.
        place: String,
        /// What about it.
        what: &'static str,
        /// What is stored.
        found: String,
        /// What follows from the rest of the ledger.
        expected: String,
    },
}

impl From<folio_store::Error> for VerifyError {
    fn from(error: folio_store::Error) -> Self {
        VerifyError::Ledger(error.into())
    }
}

/// Compares what is stored at a place with what should be there. The place is put into words only
/// when it matters.
fn compare<T: PartialEq + std::fmt::Display>(
    place: impl FnOnce() -> String,
    what: &'static str,
    found: T,
    expected: T,
) -> Result<(), VerifyError> {
    if found == expected {
        return Ok(());
    }
    Err(VerifyError::Mismatch {
        place: place(),
        what,
        found: found.to_string(),
        expected: expected.to_string(),
    })
}
