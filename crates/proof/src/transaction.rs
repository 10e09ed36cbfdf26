//! Transactions: what a client asks of a vault. How they are recorded, and so the bytes that a block
//! commits to, is in [`record`](crate::record).

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::limits::{
    MAX_CONDITIONS, MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_OPERATIONS, MAX_RELATION_BYTES,
    MAX_VALUE_BYTES,
};
use crate::state_key::{Relationship, StateKey};
use crate::wire::{Reader, WireError, Writer};

/// The place of a command in its client's session: what makes a retry safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSequence {
    /// The session, as opening it answered.
    pub session: u64,
    /// Counts the client's commands from 1. The same number again means the same command again.
    pub sequence: u64,
}

/// A list of operations on one vault that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Transaction {
    /// The vault.
    pub vault: u64,
    /// What must hold before the first operation. All conditions see the state before the
    /// transaction.
    pub conditions: Vec<Condition>,
    /// What is done, in order; an operation sees what the ones before it did.
    pub operations: Vec<Operation>,
}

/// Something that must hold for a transaction to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The entity or relationship in question.
    pub target: StateKey,
    /// What must be true of it.
    pub requirement: Requirement,
}

/// What a condition asks of its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// It is there.
    MustExist,
    /// It is not there.
    MustNotExist,
    /// It is an entity that is there, with this version.
    VersionIs(u64),
    /// It is an entity that is there, with this value.
    ValueIs(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Creates an entity, or gives it a new value and the next version.
    SetEntity {
        /// Its key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// Its new value.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
        /// From when on the ledger removes it, in microseconds since 1970; `None` for never.
        /// Replaces what was set before.
        expires_at: Option<u64>,
    },
    /// Deletes an entity. That it is not there is no error.
    DeleteEntity {
        /// Its key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
    },
    /// Creates a relationship. That it is there already is no error.
    CreateRelationship(Relationship),
    /// Deletes a relationship. That it is not there is no error.
    DeleteRelationship(Relationship),
}

impl Transaction {
    /// A transaction on `vault` that does nothing yet.
    pub fn new(vault: u64) -> Self {
        Transaction {
            vault,
            ..Transaction::default()
        }
    }

    /// Adds a condition on an entity.
    pub fn require_entity(mut self, key: impl Into<Vec<u8>>, requirement: Requirement) -> Self {
        self.conditions.push(Condition {
            target: StateKey::Entity(key.into()),
            requirement,
        });
        self
    }

    /// Adds a condition on a relationship.
    pub fn require_relationship(
        mut self,
        relationship: Relationship,
        requirement: Requirement,
    ) -> Self {
        self.conditions.push(Condition {
            target: StateKey::Relationship(relationship),
            requirement,
        });
        self
    }

    /// Adds the setting of an entity that does not expire.
    pub fn set(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.operations.push(Operation::SetEntity {
            key: key.into(),
            value: value.into(),
            expires_at: None,
        });
        self
    }

    /// Adds the setting of an entity that expires.
    pub fn set_until(
        mut self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        expires_at: u64,
    ) -> Self {
        let (key, value) = (key.into(), value.into());
        self.operations.push(Operation::SetEntity {
            key,
            value,
            expires_at: Some(expires_at),
        });
        self
    }

    /// Adds the deletion of an entity.
    pub fn delete(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.operations
            .push(Operation::DeleteEntity { key: key.into() });
        self
    }

    /// Adds the creation of a relationship.
    pub fn relate(mut self, relationship: Relationship) -> Self {
        self.operations
            .push(Operation::CreateRelationship(relationship));
        self
    }

    /// Adds the deletion of a relationship.
    pub fn unrelate(mut self, relationship: Relationship) -> Self {
        self.operations
            .push(Operation::DeleteRelationship(relationship));
        self
    }

    /// Writes conditions and operations.
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.count(self.conditions.len());
        for condition in &self.conditions {
            condition.encode(out);
        }
        out.count(self.operations.len());
        for operation in &self.operations {
            operation.encode(out);
        }
    }

    /// The length of a record of the transaction in a session, without its outcomes, in bytes.
    pub fn encoded_length(&self) -> usize {
        const HEADER: usize = 1 + 8 + 17;
        const COUNT: usize = 4;
        let conditions: usize = self.conditions.iter().map(Condition::encoded_length).sum();
        let operations: usize = self.operations.iter().map(Operation::encoded_length).sum();
        HEADER + COUNT + conditions + COUNT + operations
    }

    /// Reads what [`Transaction::encode`] writes.
    pub(crate) fn decode(vault: u64, reader: &mut Reader<'_>) -> Result<Transaction, WireError> {
        let conditions = (0..reader.count(MAX_CONDITIONS, "the conditions of a transaction")?)
            .map(|_| Condition::decode(reader))
            .collect::<Result<_, _>>()?;
        let operations = (0..reader.count(MAX_OPERATIONS, "the operations of a transaction")?)
            .map(|_| Operation::decode(reader))
            .collect::<Result<_, _>>()?;
        Ok(Transaction {
            vault,
            conditions,
            operations,
        })
    }
}

impl Condition {
    fn encode(&self, out: &mut Writer) {
        match &self.target {
            StateKey::Entity(key) => {
                out.u8(0x01);
                out.bytes(key);
            }
            StateKey::Relationship(relationship) => {
                out.u8(0x02);
                encode_relationship(relationship, out);
            }
        }
        match &self.requirement {
            Requirement::MustExist => out.u8(0x01),
            Requirement::MustNotExist => out.u8(0x02),
            Requirement::VersionIs(version) => {
                out.u8(0x03);
                out.u64(*version);
            }
            Requirement::ValueIs(value) => {
                out.u8(0x04);
                out.bytes(value);
            }
        }
    }

    fn encoded_length(&self) -> usize {
        let target = match &self.target {
            StateKey::Entity(key) => 4 + key.len(),
            StateKey::Relationship(relationship) => relationship_length(relationship),
        };
        let requirement = match &self.requirement {
            Requirement::MustExist | Requirement::MustNotExist => 0,
            Requirement::VersionIs(_) => 8,
            Requirement::ValueIs(value) => 4 + value.len(),
        };
        2 + target + requirement
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let what = "the target of a condition";
        let target = match reader.u8(what)? {
            0x01 => StateKey::Entity(decode_key(reader)?),
            0x02 => StateKey::Relationship(decode_relationship(reader)?),
            tag => return Err(WireError::Tag { what, tag }),
        };
        let what = "a condition";
        let requirement = match reader.u8(what)? {
            0x01 => Requirement::MustExist,
            0x02 => Requirement::MustNotExist,
            0x03 => Requirement::VersionIs(reader.u64(what)?),
            0x04 => Requirement::ValueIs(reader.bytes(MAX_VALUE_BYTES, what)?.to_vec()),
            tag => return Err(WireError::Tag { what, tag }),
        };
        Ok(Condition {
            target,
            requirement,
        })
    }
}

impl Operation {
    fn encode(&self, out: &mut Writer) {
        match self {
            Operation::SetEntity {
                key,
                value,
                expires_at,
            } => {
                out.u8(0x01);
                out.bytes(key);
                out.bytes(value);
                out.optional_u64(*expires_at);
            }
            Operation::DeleteEntity { key } => {
                out.u8(0x02);
                out.bytes(key);
            }
            Operation::CreateRelationship(relationship) => {
                out.u8(0x03);
                encode_relationship(relationship, out);
            }
            Operation::DeleteRelationship(relationship) => {
                out.u8(0x04);
                encode_relationship(relationship, out);
            }
        }
    }

    fn encoded_length(&self) -> usize {
        1 + match self {
            Operation::SetEntity {
                key,
                value,
                expires_at,
            } => 4 + key.len() + 4 + value.len() + if expires_at.is_some() { 9 } else { 1 },
            Operation::DeleteEntity { key } => 4 + key.len(),
            Operation::CreateRelationship(relationship)
            | Operation::DeleteRelationship(relationship) => relationship_length(relationship),
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let what = "an operation";
        Ok(match reader.u8(what)? {
            0x01 => Operation::SetEntity {
                key: decode_key(reader)?,
                value: reader
                    .bytes(MAX_VALUE_BYTES, "the value of an entity")?
                    .to_vec(),
                expires_at: reader.optional_u64("the expiry of an entity")?,
            },
            0x02 => Operation::DeleteEntity {
                key: decode_key(reader)?,
            },
            0x03 => Operation::CreateRelationship(decode_relationship(reader)?),
            0x04 => Operation::DeleteRelationship(decode_relationship(reader)?),
            tag => return Err(WireError::Tag { what, tag }),
        })
    }
}

fn encode_relationship(relationship: &Relationship, out: &mut Writer) {
    let Relationship {
        resource,
        relation,
        subject,
    } = relationship;
    for name in [resource, relation, subject] {
        out.bytes(name.as_bytes());
    }
}

fn relationship_length(relationship: &Relationship) -> usize {
    12 + relationship.resource.len() + relationship.relation.len() + relationship.subject.len()
}

fn decode_key(reader: &mut Reader<'_>) -> Result<Vec<u8>, WireError> {
    reader
        .bytes(MAX_KEY_BYTES, "the key of an entity")
        .map(<[u8]>::to_vec)
}

fn decode_relationship(reader: &mut Reader<'_>) -> Result<Relationship, WireError> {
    Ok(Relationship {
        resource: reader
            .text(MAX_NAME_BYTES, "the resource of a relationship")?
            .to_owned(),
        relation: reader
            .text(MAX_RELATION_BYTES, "the relation of a relationship")?
            .to_owned(),
        subject: reader
            .text(MAX_NAME_BYTES, "the subject of a relationship")?
            .to_owned(),
    })
}
