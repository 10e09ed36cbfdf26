//! What is asked for besides transactions, and the answers.

use folio_proof::limits::{MAX_CONDITIONS, MAX_OPERATIONS};
use serde::{Deserialize, Serialize};

use crate::list;
use crate::{Bytes, Condition, Delete, Must, Operation, Relationship, Set, Target};

/// A place in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// What the client was given when it opened the session. It is good for that client only, at every node.
    pub id: String,
    /// Counts the session's commands from 1. The same number again gets the same answer, and nothing is done twice.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub sequence: u64,
}

/// Body of `POST /v1/vaults`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewVault {
    /// What people call it: 255 bytes at most, and no control characters.
    #[cfg_attr(feature = "schema", schemars(length(max = 255)))]
    pub name: String,
    /// How many blocks back its entities can be read.
    #[serde(default)]
    pub retention: u64,
    /// The place in the client's session, if the request is to be repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// Body of `PATCH /v1/vaults/{vault}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VaultChange {
    /// How many blocks back its entities can be read from now on.
    pub retention: u64,
    /// The place in the client's session, if the request is to be repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// What clients number with the ledger's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Counter {
    /// Organizations.
    Organization,
    /// Users.
    User,
}

/// Body of `POST /v1/numbers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewNumbers {
    /// What is to be numbered.
    pub counter: Counter,
    /// How many numbers.
    #[serde(default = "one")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub count: u32,
    /// The place in the client's session, if the request is to be repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

fn one() -> u32 {
    1
}

/// The numbers from `first` on, `count` of them, are the client's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Numbers {
    /// What they are for.
    pub counter: Counter,
    /// The first number.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// The last numbers that were taken; 0 when there were none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LastNumbers {
    /// Of organizations.
    pub organization: u64,
    /// Of users.
    pub user: u64,
}

/// A session was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionOpened {
    /// What the client names it with.
    pub session: String,
    /// Its number, under which blocks have what was done in it.
    pub number: u64,
}

/// A session was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionClosed {
    /// Its number.
    pub closed: u64,
}

/// Body of `POST /v1/vaults/{vault}/transactions`. All of it is carried out, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewTransaction {
    /// The place in the client's session, if the request is to be repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// What must hold before.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "list::at_most::<_, _, MAX_CONDITIONS>"
    )]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_CONDITIONS)))]
    pub conditions: Vec<Condition>,
    /// What is to be done, in this order.
    #[serde(deserialize_with = "list::at_most::<_, _, MAX_OPERATIONS>")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_OPERATIONS)))]
    pub operations: Vec<Operation>,
}

impl NewTransaction {
    /// Requires something before anything is done.
    pub fn require(mut self, target: impl Into<Target>, must: Must) -> Self {
        let target = target.into();
        self.conditions.push(Condition { target, must });
        self
    }

    /// Creates an entity, or gives it a new value.
    pub fn set(self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.with(Operation::Set(Set {
            key: key.into(),
            value: value.into(),
            expires_at: None,
        }))
    }

    /// Deletes an entity.
    pub fn delete(self, key: impl Into<Bytes>) -> Self {
        self.with(Operation::Delete(Delete { key: key.into() }))
    }

    /// Creates a relationship.
    pub fn relate(self, relationship: Relationship) -> Self {
        self.with(Operation::Relate(relationship))
    }

    /// Deletes a relationship.
    pub fn unrelate(self, relationship: Relationship) -> Self {
        self.with(Operation::Unrelate(relationship))
    }

    /// Does one thing more.
    pub fn with(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }
}
