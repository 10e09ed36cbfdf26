//! Answers that a client can check with a block hash that it trusts. What is in one is of one moment.

use folio_proof::proof::{BlockProof, ExtensionProof, StateProof, TransactionProof};
use serde::{Deserialize, Serialize};

use crate::{BlockHead, Entity};

/// An entity, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EntityAnswer {
    /// The block whose state root the proof leads to.
    pub block: BlockHead,
    /// Absent if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<Entity>,
    /// The proof of that.
    pub proof: StateProof,
}

/// Whether a relationship is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RelationshipAnswer {
    /// The block whose state root the proof leads to.
    pub block: BlockHead,
    /// Whether it is.
    pub exists: bool,
    /// The proof of that.
    pub proof: StateProof,
}

/// A transaction in its block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TransactionAnswer {
    /// The block.
    pub block: BlockHead,
    /// The canonical encoding of its record, in base64.
    pub record: String,
    /// The proof that the record is in the block.
    pub proof: TransactionProof,
}

/// A block in the chain that ends with another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockAnswer {
    /// The block.
    pub block: BlockHead,
    /// The end of the chain.
    pub head: BlockHead,
    /// The proof.
    pub proof: BlockProof,
}

/// The end of a chain, and a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExtensionAnswer {
    /// The earlier end.
    pub from: BlockHead,
    /// The later one.
    pub to: BlockHead,
    /// The proof that the chain goes on from the one to the other.
    pub proof: ExtensionProof,
}
