//! What the state is made of: entities and relationships, their canonical encodings and the two
//! hashes that place and fix each one in the commitment.
//!
//! An item of the state is a key and a content.
//!
//! | item         | state key                                           | content   |
//! |--------------|-----------------------------------------------------|-----------|
//! | entity       | `0x01`, then the entity's key                       | see below |
//! | relationship | `0x02`, then resource, relation, subject as strings | nothing   |
//!
//! The content of an entity is its version, its expiry, and then its value to the end.
//! The version is eight bytes, big-endian. The expiry is the byte `0x00` for none, or `0x01` and
//! eight bytes, big-endian: microseconds since 1970. A string is its length as four bytes,
//! big-endian, then its bytes.
//!
//! - the **path** of an item is `SHA-256(0x02 || state key)`;
//! - the **content hash** of an item is `SHA-256(0x03 || content)`.
//!
//! The prefixes continue the series of RFC 6962 (`0x00` for leaves, `0x01` for nodes), so none of
//! the four kinds of hash can pass for another.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::wire::{Reader, WireError, Writer};

const PATH: u8 = 0x02;
const CONTENT: u8 = 0x03;
const ENTITY: u8 = 0x01;
const RELATIONSHIP: u8 = 0x02;

/// A relationship: `subject` stands in `relation` to `resource`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Relationship {
    /// What the relationship is about.
    pub resource: String,
    /// The name of the relation.
    pub relation: String,
    /// Who or what stands in it.
    pub subject: String,
}

impl Relationship {
    /// A relationship of these three names.
    pub fn new(
        resource: impl Into<String>,
        relation: impl Into<String>,
        subject: impl Into<String>,
    ) -> Self {
        Relationship {
            resource: resource.into(),
            relation: relation.into(),
            subject: subject.into(),
        }
    }
}

/// The name of an item of the state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKey {
    /// The entity with this key.
    Entity(#[serde(with = "serde_bytes")] Vec<u8>),
    /// This relationship.
    Relationship(Relationship),
}

impl StateKey {
    /// The canonical encoding, as the table above has it.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            StateKey::Entity(key) => entity_key(key),
            StateKey::Relationship(Relationship {
                resource,
                relation,
                subject,
            }) => relationship_key(resource, relation, subject),
        }
    }

    /// Where the item is in the commitment, if it is there.
    pub fn path(&self) -> Digest {
        path(&self.encode())
    }
}

impl core::fmt::Display for StateKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StateKey::Entity(key) => write!(f, "entity \"{}\"", key.escape_ascii()),
            StateKey::Relationship(Relationship {
                resource,
                relation,
                subject,
            }) => {
                write!(f, "relationship {resource:?} {relation:?} {subject:?}")
            }
        }
    }
}

fn entity_key(key: &[u8]) -> Vec<u8> {
    [&[ENTITY], key].concat()
}

fn relationship_key(resource: &str, relation: &str, subject: &str) -> Vec<u8> {
    let mut out = Writer::default();
    out.u8(RELATIONSHIP);
    for name in [resource, relation, subject] {
        out.bytes(name.as_bytes());
    }
    out.0
}

fn path(state_key: &[u8]) -> Digest {
    Digest::of(&[&[PATH], state_key])
}

/// The path of an entity.
pub fn entity_path(key: &[u8]) -> Digest {
    Digest::of(&[&[PATH, ENTITY], key])
}

/// The path of a relationship.
pub fn relationship_path(resource: &str, relation: &str, subject: &str) -> Digest {
    path(&relationship_key(resource, relation, subject))
}

/// The content hash of an item with this content; a relationship's content is empty.
pub fn content_hash(content: &[u8]) -> Digest {
    Digest::of(&[&[CONTENT], content])
}

/// An entity as the state holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// 1 when the entity was created, one more with every set since. A deleted and created again
    /// starts at 1.
    pub version: u64,
    /// From when on the ledger removes the entity, in microseconds since 1970.
    pub expires_at: Option<u64>,
    /// The value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

impl Entity {
    /// The content of the entity: what is hashed, and also how the row is stored.
    pub fn encode(&self) -> Vec<u8> {
        self.view().encode()
    }

    /// Reads what [`Entity::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Entity, WireError> {
        EntityView::decode(bytes).map(|view| view.to_owned())
    }

    pub(crate) fn view(&self) -> EntityView<'_> {
        EntityView {
            version: self.version,
            expires_at: self.expires_at,
            value: &self.value,
        }
    }
}

/// An entity whose value is borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityView<'a> {
    /// See [`Entity::version`].
    pub version: u64,
    /// See [`Entity::expires_at`].
    pub expires_at: Option<u64>,
    /// The value.
    pub value: &'a [u8],
}

impl<'a> EntityView<'a> {
    /// The content of the entity.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(self.value.len() + 17));
        out.u64(self.version);
        out.optional_u64(self.expires_at);
        out.raw(self.value);
        out.0
    }

    /// Reads what [`EntityView::encode`] writes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u64("the version of an entity")?;
        let expires_at = reader.optional_u64("the expiry of an entity")?;
        Ok(EntityView {
            version,
            expires_at,
            value: reader.rest(),
        })
    }

    /// The entity with a value of its own.
    pub fn to_owned(&self) -> Entity {
        Entity {
            version: self.version,
            expires_at: self.expires_at,
            value: self.value.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn an_entity_and_a_relationship_never_share_a_path() {
        let relationship = Relationship::new("r", "l", "s");
        let encoded = StateKey::Relationship(relationship.clone()).encode();
        let twin = StateKey::Entity(encoded[1..].to_vec());
        assert_ne!(twin.path(), StateKey::Relationship(relationship).path());
    }

    #[test]
    fn names_cannot_run_into_each_other() {
        let path =
            |a: &str, b: &str, c: &str| StateKey::Relationship(Relationship::new(a, b, c)).path();
        assert_ne!(path("ab", "c", "d"), path("a", "bc", "d"));
        assert_ne!(path("a", "bc", "d"), path("a", "b", "cd"));
    }

    #[test]
    fn the_short_ways_to_a_path_agree_with_the_definition() {
        assert_eq!(entity_path(b"k"), StateKey::Entity(b"k".to_vec()).path());
        assert_eq!(
            relationship_path("a", "b", "c"),
            StateKey::Relationship(Relationship::new("a", "b", "c")).path()
        );
    }

    #[test]
    fn an_entity_reads_back_as_it_was_written() {
        for expires_at in [None, Some(0), Some(u64::MAX)] {
            for value in [&b""[..], b"v"] {
                let entity = Entity {
                    version: 7,
                    expires_at,
                    value: value.to_vec(),
                };
                assert_eq!(Entity::decode(&entity.encode()), Ok(entity));
            }
        }
    }

    #[test]
    fn a_damaged_entity_is_an_error() {
        let whole = Entity {
            version: 7,
            expires_at: Some(9),
            value: vec![],
        }
        .encode();
        for length in 0..whole.len() {
            assert!(Entity::decode(&whole[..length]).is_err(), "{length} bytes");
        }
        let mut tagged = whole;
        tagged[8] = 2;
        assert!(matches!(
            Entity::decode(&tagged),
            Err(WireError::Tag { tag: 2, .. })
        ));
    }
}
