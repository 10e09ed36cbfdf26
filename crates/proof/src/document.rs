//! A proof together with what it is about: a file that is checked with nothing but a hash to trust.
//!
//! As JSON, hashes and byte strings are hexadecimal. `folio proof get` writes such files.
//!
//! ```json
//! {
//!   "folio_proof": 1,
//!   "head": { "vault": 1, "height": 7, "state_root": "..", ".." : ".." },
//!   "claim": { "entity": { "key": "6b", "entity": { "version": 1, "expires_at": null, "value": "76" },
//!                          "proof": { "siblings": [".."], "bucket": [{ "path": "..", "content": ".." }] } } }
//! }
//! ```
//!
//! | claim | says | checked by |
//! |---|---|---|
//! | `entity` | what is at a key, or that nothing is, after the block `head` | its hash, or its state root |
//! | `relationship` | whether a relationship is there, after the block `head` | the same |
//! | `transaction` | that a record is in a block of the chain that ends with `head` | its hash |
//! | `block` | that a block is in the chain that ends with `head` | its hash |
//! | `extension` | that the chain that ends with `head` goes on from an earlier end | its hash, or that of the earlier end |

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::block::BlockHeader;
use crate::digest::Digest;
use crate::proof::{BlockProof, ExtensionProof, ProofError, StateProof, TransactionProof};
use crate::record::Record;
use crate::state_key::{Entity, Relationship, StateKey};
use crate::wire::WireError;

/// The version of the form that is described here.
pub const VERSION: u32 = 1;

/// A proof and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of the form: [`VERSION`].
    pub folio_proof: u32,
    /// The block that the proof leads to.
    pub head: BlockHeader,
    /// What is proved.
    pub claim: Claim,
}

/// What a document proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Claim {
    /// What is at a key.
    Entity {
        /// The key.
        #[serde(with = "hex")]
        key: Vec<u8>,
        /// What is there; `None` if nothing is.
        entity: Option<Content>,
        /// The proof.
        proof: StateProof,
    },
    /// Whether a relationship is there.
    Relationship {
        /// The relationship.
        relationship: Relationship,
        /// Whether it is.
        exists: bool,
        /// The proof.
        proof: StateProof,
    },
    /// A record is in a block.
    Transaction {
        /// The block.
        block: BlockHeader,
        /// That the block is in the chain.
        chain: BlockProof,
        /// The canonical encoding of the record.
        #[serde(with = "hex")]
        record: Vec<u8>,
        /// That the record is in the block.
        proof: TransactionProof,
    },
    /// A block is in the chain.
    Block {
        /// The block.
        block: BlockHeader,
        /// The proof.
        proof: BlockProof,
    },
    /// The chain goes on from an earlier end.
    Extension {
        /// The last block of the earlier chain.
        earlier: BlockHeader,
        /// The proof.
        proof: ExtensionProof,
    },
}

/// What is at a key, as [`Entity`] has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// See [`Entity::version`].
    pub version: u64,
    /// See [`Entity::expires_at`].
    pub expires_at: Option<u64>,
    /// The value.
    #[serde(with = "hex")]
    pub value: Vec<u8>,
}

impl From<Entity> for Content {
    fn from(entity: Entity) -> Self {
        Content {
            version: entity.version,
            expires_at: entity.expires_at,
            value: entity.value,
        }
    }
}

/// What whoever checks a document trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trusted {
    /// The hash of the last block of a chain.
    Block(Digest),
    /// A state root. It says nothing of vault and height.
    StateRoot(Digest),
    /// The hash of the last block of a chain as it was earlier, for the proof that it only grew.
    Earlier(Digest),
}

/// Why a document proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It has another form.
    #[error("the document has version {0}, this verifier knows version {VERSION}")]
    Version(u32),
    /// It leads to a block that is not the one that is trusted.
    #[error(
        "the proof leads to the block {found}, which is not the one that is trusted, {trusted}"
    )]
    OtherBlock {
        /// The hash of the block that it leads to.
        found: Digest,
        /// The hash that is trusted.
        trusted: Digest,
    },
    /// What is claimed does not follow from what is trusted, whatever the proof.
    #[error("this claim is checked by the hash of the block that the proof leads to: {0}")]
    NeedsBlock(&'static str),
    /// The state does not hold what is claimed.
    #[error(transparent)]
    State(#[from] ProofError),
    /// The record does not decode.
    #[error("the record does not decode: {0}")]
    Record(#[from] WireError),
    /// The hashes do not lead there.
    #[error("the hashes do not show that {0}")]
    Unproved(&'static str),
}

impl Document {
    /// Checks what the document claims with nothing but `trusted`. With a state root, `head` is not checked; with an earlier
    /// hash, `head` is the end of some chain that goes on from there.
    pub fn verify(&self, trusted: &Trusted) -> Result<(), DocumentError> {
        if self.folio_proof != VERSION {
            return Err(DocumentError::Version(self.folio_proof));
        }
        let root = match (*trusted, &self.claim) {
            (Trusted::StateRoot(root), Claim::Entity { .. } | Claim::Relationship { .. }) => root,
            (Trusted::StateRoot(_), _) => {
                return Err(DocumentError::NeedsBlock(
                    "a state root says nothing of blocks",
                ));
            }
            (Trusted::Block(trusted), _) => Self::root_of(&self.head, trusted)?,
            (Trusted::Earlier(trusted), Claim::Extension { earlier, .. }) => {
                Self::root_of(earlier, trusted)?
            }
            (Trusted::Earlier(_), _) => {
                return Err(DocumentError::NeedsBlock(
                    "it is not about an earlier end of the chain",
                ));
            }
        };
        match &self.claim {
            Claim::Entity {
                key,
                entity: None,
                proof,
            } => {
                proof.verify_absent(&root, &StateKey::Entity(key.clone()))?;
                Ok(())
            }
            Claim::Entity {
                key,
                entity: Some(content),
                proof,
            } => {
                let entity = Entity {
                    version: content.version,
                    expires_at: content.expires_at,
                    value: content.value.clone(),
                };
                proof.verify_entity(&root, key, &entity)?;
                Ok(())
            }
            Claim::Relationship {
                relationship,
                exists,
                proof,
            } => {
                let key = StateKey::Relationship(relationship.clone());
                match exists {
                    true => proof.verify_present(&root, &key)?,
                    false => proof.verify_absent(&root, &key)?,
                }
                Ok(())
            }
            Claim::Transaction {
                block,
                chain,
                record,
                proof,
            } => {
                self.verify_block(block, chain)?;
                let decoded = Record::decode(record)?;
                if decoded.transaction.vault != block.vault || !proof.verify(block, record) {
                    return Err(DocumentError::Unproved("the record is in the block"));
                }
                Ok(())
            }
            Claim::Block { block, proof } => self.verify_block(block, proof),
            Claim::Extension { earlier, proof } => match proof.verify(earlier, &self.head) {
                true => Ok(()),
                false => Err(DocumentError::Unproved(
                    "the chain goes on from the earlier block",
                )),
            },
        }
    }

    /// The state root of a block that is the one that is trusted.
    fn root_of(block: &BlockHeader, trusted: Digest) -> Result<Digest, DocumentError> {
        let found = block.hash();
        if found != trusted {
            return Err(DocumentError::OtherBlock { found, trusted });
        }
        Ok(block.state_root)
    }

    fn verify_block(&self, block: &BlockHeader, proof: &BlockProof) -> Result<(), DocumentError> {
        let there = block.vault == self.head.vault && block.height == proof.height;
        match there && proof.verify(&self.head, &block.hash()) {
            true => Ok(()),
            false => Err(DocumentError::Unproved("the block is in the chain")),
        }
    }
}

/// Byte strings as hexadecimal digits.
mod hex {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|digit| {
                digit
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            })
            .collect();
        let wrong = || D::Error::custom("a byte string is an even number of hexadecimal digits");
        let digits = digits.ok_or_else(wrong)?;
        let (pairs, rest) = digits.as_chunks::<2>();
        match rest.is_empty() {
            true => Ok(pairs.iter().map(|[high, low]| high * 16 + low).collect()),
            false => Err(wrong()),
        }
    }
}
