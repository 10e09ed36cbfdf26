//! Vaults.

use folio_proof::digest::Digest;
use serde::{Deserialize, Serialize};

/// A vault and the end of its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Vault {
    /// Its number.
    pub vault: u64,
    /// What people call it.
    pub name: String,
    /// The height of the latest block.
    pub height: u64,
    /// The hash of the latest block.
    pub block_hash: Digest,
    /// The proposer's time of the latest block, in microseconds since 1970.
    pub time: u64,
    /// The state root.
    pub state_root: Digest,
    /// How many entities there are.
    pub entities: u64,
    /// How many relationships there are.
    pub relationships: u64,
    /// How many blocks back its entities can be read.
    pub retention: u64,
    /// The lowest height as of which its entities can be read.
    pub retained_from: u64,
}

/// A vault was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VaultCreated {
    /// Its number.
    pub vault: u64,
    /// Index of the log entry, for reads of `at_least:`.
    pub log_index: u64,
}

/// A vault was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VaultDeleted {
    /// Its number.
    pub vault: u64,
    /// The height of its last block.
    pub height: u64,
    /// The hash of its last block, which commits to everything that ever happened to it.
    pub block_hash: Digest,
    /// Index of the log entry.
    pub log_index: u64,
}

/// The retention of a vault was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RetentionSet {
    /// The vault.
    pub vault: u64,
    /// How many blocks back its entities can be read from now on.
    pub retention: u64,
}
