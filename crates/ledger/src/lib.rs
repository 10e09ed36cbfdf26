//! A replicated, provable ledger: vaults, entities, relationships, blocks, state roots.

mod apply;
pub mod block;
pub mod command;
pub mod commitment;
pub mod digest;
pub mod error;
mod history;
pub mod limits;
pub mod merkle;
mod prefix;
pub mod proof;
mod read;
pub mod response;
pub mod state_key;
mod tables;
pub mod transaction;
mod tree;
pub mod verify;
mod wire;

pub use apply::Ledger;
pub use read::{LedgerView, RecordedTransaction, VaultInfo};
pub use wire::WireError;
