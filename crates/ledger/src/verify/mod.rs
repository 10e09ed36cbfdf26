//! Checking a ledger against itself: what is stored is recomputed and compared.

mod chain;
mod state;

pub use chain::{ChainReport, verify_chain};
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
    #[error("vault {vault}, {place}: {what} is {found}, it should be {expected}")]
    Mismatch {
        /// The vault.
        vault: u64,
        /// Where in the vault: a block, an entity, a relationship.
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

/// A place in a vault, for the mismatches found there.
struct Place<F> {
    vault: u64,
    describe: F,
}

impl<F: Fn() -> String> Place<F> {
    fn compare<T: PartialEq + std::fmt::Display>(
        &self,
        what: &'static str,
        found: T,
        expected: T,
    ) -> Result<(), VerifyError> {
        if found == expected {
            return Ok(());
        }
        Err(VerifyError::Mismatch {
            vault: self.vault,
            place: (self.describe)(),
            what,
            found: found.to_string(),
            expected: expected.to_string(),
        })
    }
}
