//! What the ledger answers to a command.

use serde::{Deserialize, Serialize};

use crate::command::{Counter, Invalid};
use crate::digest::Digest;
pub use crate::record::Outcome;
use crate::state_key::StateKey;
use crate::transaction::Requirement;

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// A session was opened.
    SessionOpened {
        /// Its number.
        session: u64,
    },
    /// The session was ended.
    SessionClosed,
    /// A vault was created. Its block 0 records that.
    VaultCreated {
        /// Its number.
        vault: u64,
        /// Index of the log entry.
        log_index: u64,
    },
    /// A vault was deleted.
    VaultDeleted {
        /// Its number.
        vault: u64,
        /// The height of its last block.
        height: u64,
        /// The hash of its last block, which commits to everything that ever happened to it.
        block_hash: Digest,
        /// Index of the log entry.
        log_index: u64,
    },
    /// The retention of a vault was set.
    RetentionSet {
        /// Its number.
        vault: u64,
        /// How many blocks back its entities can be read from now on.
        retention: u64,
    },
    /// The numbers from `first` on, `count` of them, were given out.
    NumbersAllocated {
        /// What they are for.
        counter: Counter,
        /// The first number.
        first: u64,
        /// How many.
        count: u32,
    },
    /// A transaction was carried out, all of it.
    Committed(Receipt),
    /// Nothing was done.
    Rejected(Rejection),
    /// The ledger has a key for page tokens: the one that was sent, or one that it had.
    TokenKeySet,
}

/// What a transaction did, and where it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The vault.
    pub vault: u64,
    /// The height of the block that records the transaction.
    pub height: u64,
    /// The place of the transaction in the block, from 0.
    pub position: u32,
    /// Index of the log entry.
    pub log_index: u64,
    /// What each operation did, in the order of the operations.
    pub outcomes: Vec<Outcome>,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The command breaks a limit or makes no sense, whatever the state.
    #[error("the command is invalid: {0}")]
    Invalid(Invalid),
    /// There was such a vault, and it was deleted.
    #[error("vault {vault} was deleted")]
    VaultDeleted {
        /// The vault asked for.
        vault: u64,
    },
    /// There never was such a vault.
    #[error("there is no vault {vault}")]
    UnknownVault {
        /// The vault asked for.
        vault: u64,
    },
    /// A condition of the transaction did not hold.
    #[error("condition {condition} does not hold: {requirement:?} of {target}, but {found}")]
    ConditionFailed {
        /// Its place among the conditions, from 0.
        condition: u32,
        /// What it is about.
        target: StateKey,
        /// What it asked for. A value asked for is left out: the client has it.
        requirement: FailedRequirement,
        /// What is there instead.
        found: Found,
    },
    /// The session is over: it went unused for too long, or was closed. Whether the command was
    /// carried out before is no longer known here; it was not carried out now.
    #[error("session {session} has expired or was closed")]
    SessionExpired {
        /// The session.
        session: u64,
    },
    /// No session with this number was ever opened.
    #[error("session {session} was never opened")]
    SessionUnknown {
        /// The session.
        session: u64,
    },
    /// The session has gone on to later commands, and the answer to this one is no longer
    /// remembered.
    #[error("sequence number {sequence} of session {session} is stale: the latest is {latest}")]
    StaleSequence {
        /// The session.
        session: u64,
        /// The sequence number of the command.
        sequence: u64,
        /// The latest one that the session has seen.
        latest: u64,
    },
}

/// The kind of a requirement that did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedRequirement {
    /// [`Requirement::MustExist`].
    MustExist,
    /// [`Requirement::MustNotExist`].
    MustNotExist,
    /// [`Requirement::VersionIs`].
    VersionIs(u64),
    /// [`Requirement::ValueIs`].
    ValueIs,
}

impl From<&Requirement> for FailedRequirement {
    fn from(requirement: &Requirement) -> Self {
        match requirement {
            Requirement::MustExist => FailedRequirement::MustExist,
            Requirement::MustNotExist => FailedRequirement::MustNotExist,
            Requirement::VersionIs(version) => FailedRequirement::VersionIs(*version),
            Requirement::ValueIs(_) => FailedRequirement::ValueIs,
        }
    }
}

/// What was there when a condition was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Nothing.
    Nothing,
    /// An entity.
    Entity {
        /// Its version.
        version: u64,
    },
    /// The relationship.
    Relationship,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Found::Nothing => f.write_str("it is not there"),
            Found::Entity { version } => write!(f, "it is there with version {version}"),
            Found::Relationship => f.write_str("it is there"),
        }
    }
}
