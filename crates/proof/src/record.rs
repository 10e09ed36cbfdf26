//! Records: what a block keeps of a transaction, and the bytes that it commits to.
//!
//! A record says what was asked, by whom, and what each operation did. So whoever trusts a block can
//! check the answer that a client got, and can follow a vault without asking for its state: what a
//! transaction set is in its operations, what that made of it is in the outcomes.
//!
//! The entities of a vault that expire with an entry have a record, too, the first one of the block:
//! a transaction of the ledger's own that deletes them.
//!
//! # The canonical encoding
//!
//! Integers are big-endian; a string is its length as four bytes, then its bytes; a list is its
//! number of items as four bytes, then the items; an optional integer is `0x00`, or `0x01` and
//! eight bytes.
//!
//! ```text
//! record       := 0x01  vault:u64  origin  conditions:list  operations:list  outcomes
//! origin       := 0x00 (a client, outside any session)
//!               | 0x01 session:u64 sequence:u64
//!               | 0x02 (the ledger, for entities whose time has come)
//! condition    := target requirement
//! target       := 0x01 key:string  |  0x02 resource:string relation:string subject:string
//! requirement  := 0x01 (must exist)  |  0x02 (must not exist)
//!               | 0x03 version:u64   |  0x04 value:string
//! operation    := 0x01 key:string value:string expires_at:optional u64     (set an entity)
//!               | 0x02 key:string                                         (delete an entity)
//!               | 0x03 resource:string relation:string subject:string     (create a relationship)
//!               | 0x04 resource:string relation:string subject:string     (delete a relationship)
//! outcomes     := one outcome for each operation, in their order
//! outcome      := 0x00 (there was nothing to change)
//!               | 0x01 version:u64 (an entity was set, and has this version; 1 if it is new)
//!               | 0x02 version:u64 (an entity was deleted, and had this version)
//!               | 0x03 (a relationship was created)  |  0x04 (a relationship was deleted)
//! ```
//!
//! The first byte is the version of this encoding.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::transaction::{SessionSequence, Transaction};
use crate::wire::{Reader, WireError, Writer};

const ENCODING: u8 = 0x01;

/// Who asked for a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A client, outside any session.
    Client,
    /// A client, at this place of its session.
    Session(SessionSequence),
    /// The ledger: it deletes entities whose time has come.
    Expiry,
}

impl From<Option<SessionSequence>> for Origin {
    fn from(place: Option<SessionSequence>) -> Self {
        place.map_or(Origin::Client, Origin::Session)
    }
}

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The entity was not there and is now, with version 1.
    EntityCreated,
    /// The entity was there and has a new value.
    EntityUpdated {
        /// Its version now.
        version: u64,
    },
    /// The entity was deleted.
    EntityDeleted {
        /// Its last version.
        version: u64,
    },
    /// The relationship was not there and is now.
    RelationshipCreated,
    /// The relationship was deleted.
    RelationshipDeleted,
    /// There was nothing to change: what was to be deleted was not there, or what was to be created
    /// was.
    Unchanged,
}

/// A transaction as a block records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who asked for it.
    pub origin: Origin,
    /// What was asked.
    pub transaction: Transaction,
    /// What each operation did, in the order of the operations.
    pub outcomes: Vec<Outcome>,
}

impl Record {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        encode(self.origin, &self.transaction, &self.outcomes)
    }

    /// Reads what [`Record::encode`] writes, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Record, WireError> {
        let mut reader = Reader::new(bytes);
        let what = "a record";
        match reader.u8(what)? {
            ENCODING => {}
            tag => return Err(WireError::Tag { what, tag }),
        }
        let vault = reader.u64(what)?;
        let what = "the origin of a transaction";
        let origin = match reader.u8(what)? {
            0x00 => Origin::Client,
            0x01 => Origin::Session(SessionSequence {
                session: reader.u64(what)?,
                sequence: reader.u64(what)?,
            }),
            0x02 => Origin::Expiry,
            tag => return Err(WireError::Tag { what, tag }),
        };
        let transaction = Transaction::decode(vault, &mut reader)?;
        let outcomes = transaction
            .operations
            .iter()
            .map(|_| decode_outcome(&mut reader))
            .collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Record {
            origin,
            transaction,
            outcomes,
        })
    }
}

/// The canonical encoding of a record. There are as many outcomes as operations.
pub fn encode(origin: Origin, transaction: &Transaction, outcomes: &[Outcome]) -> Vec<u8> {
    debug_assert_eq!(transaction.operations.len(), outcomes.len());
    let length = transaction.encoded_length() + 9 * outcomes.len();
    let mut out = Writer(Vec::with_capacity(length));
    out.u8(ENCODING);
    out.u64(transaction.vault);
    match origin {
        Origin::Client => out.u8(0x00),
        Origin::Session(SessionSequence { session, sequence }) => {
            out.u8(0x01);
            out.u64(session);
            out.u64(sequence);
        }
        Origin::Expiry => out.u8(0x02),
    }
    transaction.encode(&mut out);
    for &outcome in outcomes {
        encode_outcome(outcome, &mut out);
    }
    out.0
}

fn encode_outcome(outcome: Outcome, out: &mut Writer) {
    let mut versioned = |tag, version| {
        out.u8(tag);
        out.u64(version);
    };
    match outcome {
        Outcome::Unchanged => out.u8(0x00),
        Outcome::EntityCreated => versioned(0x01, 1),
        Outcome::EntityUpdated { version } => versioned(0x01, version),
        Outcome::EntityDeleted { version } => versioned(0x02, version),
        Outcome::RelationshipCreated => out.u8(0x03),
        Outcome::RelationshipDeleted => out.u8(0x04),
    }
}

fn decode_outcome(reader: &mut Reader<'_>) -> Result<Outcome, WireError> {
    let what = "what an operation did";
    Ok(match reader.u8(what)? {
        0x00 => Outcome::Unchanged,
        0x01 => match reader.u64(what)? {
            1 => Outcome::EntityCreated,
            version => Outcome::EntityUpdated { version },
        },
        0x02 => Outcome::EntityDeleted {
            version: reader.u64(what)?,
        },
        0x03 => Outcome::RelationshipCreated,
        0x04 => Outcome::RelationshipDeleted,
        tag => return Err(WireError::Tag { what, tag }),
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::state_key::Relationship;
    use crate::transaction::Requirement;

    fn one_of_everything() -> Record {
        let relationship = Relationship::new("doc:1", "viewer", "user:ä");
        let transaction = Transaction::new(3)
            .require_entity(b"a", Requirement::MustExist)
            .require_entity(b"b", Requirement::VersionIs(u64::MAX))
            .require_entity(b"c", Requirement::ValueIs(vec![0, 255]))
            .require_relationship(relationship.clone(), Requirement::MustNotExist)
            .set(b"k", b"v")
            .set(b"k", b"w")
            .set_until(b"k2", b"", 12)
            .delete(b"k")
            .delete(b"k3")
            .relate(relationship.clone())
            .unrelate(relationship);
        Record {
            origin: Origin::Client,
            transaction,
            outcomes: vec![
                Outcome::EntityCreated,
                Outcome::EntityUpdated { version: 2 },
                Outcome::EntityUpdated { version: u64::MAX },
                Outcome::EntityDeleted { version: 2 },
                Outcome::Unchanged,
                Outcome::RelationshipCreated,
                Outcome::RelationshipDeleted,
            ],
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let place = SessionSequence {
            session: 1,
            sequence: 2,
        };
        for origin in [Origin::Client, Origin::Session(place), Origin::Expiry] {
            let nothing = Record {
                origin,
                transaction: Transaction::new(0),
                outcomes: vec![],
            };
            let everything = Record {
                origin,
                ..one_of_everything()
            };
            for record in [nothing, everything] {
                assert_eq!(Record::decode(&record.encode()), Ok(record));
            }
        }
    }

    #[test]
    fn a_truncated_or_extended_record_is_an_error() {
        let bytes = one_of_everything().encode();
        for length in 0..bytes.len() {
            assert!(Record::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(
            Record::decode(&[&bytes[..], &[0]].concat()),
            Err(WireError::Trailing(1))
        );
    }

    #[test]
    fn no_change_of_a_byte_panics_or_gives_a_second_encoding_of_the_same() {
        let record = one_of_everything();
        let bytes = record.encode();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[place] ^= 1 << bit;
                if let Ok(decoded) = Record::decode(&altered) {
                    assert_ne!(decoded, record, "byte {place}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
        let mut bytes = encode(Origin::Client, &Transaction::new(1), &[]);
        let operations = bytes.len() - 4;
        bytes[operations..].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(
            Record::decode(&bytes),
            Err(WireError::TooMany { .. })
        ));
    }
}
