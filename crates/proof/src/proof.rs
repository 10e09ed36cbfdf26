//! Proofs that a client can check without the ledger: that an item of the state is there, with
//! which content, or that it is not there; and that a transaction is in a block.
//!
//! Everything in here works on hashes alone. What the proofs are checked against, a state root or a
//! block header, has to come from somewhere the client trusts.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::block::BlockHeader;
use crate::commitment::{BUCKET_CAPACITY, Item, bucket_hash};
use crate::digest::Digest;
use crate::merkle::{self, node_hash};
use crate::prefix::Prefix;
use crate::state_key::{Entity, StateKey, content_hash};

/// The bucket that a key leads to, and the hashes beside the way there.
///
/// It is at most `64 * 8 + 32 * depth` bytes of hashes: about 1.3 KiB in a vault of ten million
/// items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StateProof {
    /// The hashes of the subtrees beside the way from the root to the bucket; the first is a child
    /// of the root.
    pub siblings: Vec<Digest>,
    /// All items of the bucket, in ascending order of path.
    pub bucket: Vec<Item>,
}

/// A proof that does not prove it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// More siblings or items than any proof has.
    #[error("the proof is longer than any proof can be")]
    TooLong,
    /// The items of the bucket are not in ascending order, or do not belong into this bucket.
    #[error("the bucket of the proof is not one that this key leads to")]
    WrongBucket,
    /// The hashes lead to another root.
    #[error("the proof leads to the root {computed}, not to {expected}")]
    WrongRoot {
        /// The root that the proof leads to.
        computed: Digest,
        /// The root that it was checked against.
        expected: Digest,
    },
    /// The proof is sound, and shows that the item is not there.
    #[error("the proof shows that {0} is not there")]
    Absent(StateKey),
    /// The proof is sound, and shows that the item is there.
    #[error("the proof shows that {0} is there")]
    Present(StateKey),
    /// The proof is sound, and shows that the item has another content.
    #[error("the proof shows that {0} has another content")]
    OtherContent(StateKey),
}

impl StateProof {
    /// What the proof says of `key` under `root`: the hash of its content, or that it is not there.
    pub fn content_of(&self, root: &Digest, key: &StateKey) -> Result<Option<Digest>, ProofError> {
        let depth = match u16::try_from(self.siblings.len()) {
            Ok(depth) if depth < 256 && self.bucket.len() <= BUCKET_CAPACITY => depth,
            _ => return Err(ProofError::TooLong),
        };
        let path = key.path();
        let prefix = Prefix::of(&path, depth);
        let ascending = self.bucket.is_sorted_by(|a, b| a.path < b.path);
        if !ascending || !self.bucket.iter().all(|item| prefix.covers(&item.path)) {
            return Err(ProofError::WrongBucket);
        }
        let mut computed = bucket_hash(&self.bucket);
        for (level, sibling) in (0..depth).zip(&self.siblings).rev() {
            computed = if path.bit(level) {
                node_hash(sibling, &computed)
            } else {
                node_hash(&computed, sibling)
            };
        }
        if computed != *root {
            return Err(ProofError::WrongRoot {
                computed,
                expected: *root,
            });
        }
        Ok(self
            .bucket
            .iter()
            .find(|item| item.path == path)
            .map(|item| item.content))
    }

    /// Checks that `key` is an entity that is there, just like `entity`.
    pub fn verify_entity(
        &self,
        root: &Digest,
        key: &[u8],
        entity: &Entity,
    ) -> Result<(), ProofError> {
        self.verify_content(root, StateKey::Entity(key.to_vec()), &entity.encode())
    }

    /// Checks that `key` is there: a relationship, or an entity whatever its content.
    pub fn verify_present(&self, root: &Digest, key: &StateKey) -> Result<(), ProofError> {
        match self.content_of(root, key)? {
            Some(_) => Ok(()),
            None => Err(ProofError::Absent(key.clone())),
        }
    }

    /// Checks that `key` is not there.
    pub fn verify_absent(&self, root: &Digest, key: &StateKey) -> Result<(), ProofError> {
        match self.content_of(root, key)? {
            None => Ok(()),
            Some(_) => Err(ProofError::Present(key.clone())),
        }
    }

    fn verify_content(
        &self,
        root: &Digest,
        key: StateKey,
        content: &[u8],
    ) -> Result<(), ProofError> {
        match self.content_of(root, &key)? {
            Some(hash) if hash == content_hash(content) => Ok(()),
            Some(_) => Err(ProofError::OtherContent(key)),
            None => Err(ProofError::Absent(key)),
        }
    }
}

/// The audit path of a transaction in its block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TransactionProof {
    /// The place of the transaction in the block, from 0.
    pub position: u32,
    /// The RFC 6962 audit path, the lowest sibling first.
    pub path: Vec<Digest>,
}

impl TransactionProof {
    /// Whether the transaction with this canonical encoding is in the block with this header.
    pub fn verify(&self, header: &BlockHeader, transaction: &[u8]) -> bool {
        let (size, index) = (header.transactions.into(), self.position.into());
        merkle::verify_inclusion(
            &header.transactions_root,
            size,
            index,
            &merkle::leaf_hash(transaction),
            &self.path,
        )
    }
}

/// The audit path of a block in the history of a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockProof {
    /// The height of the block.
    pub height: u64,
    /// The RFC 6962 audit path, the lowest sibling first.
    pub path: Vec<Digest>,
}

impl BlockProof {
    /// Whether the block with this hash is in the chain that ends with the block with this header.
    /// The last block of a chain is in it without a path.
    pub fn verify(&self, head: &BlockHeader, block_hash: &Digest) -> bool {
        if self.height == head.height {
            return self.path.is_empty() && *block_hash == head.hash();
        }
        let (root, size) = (&head.history_root, head.height);
        merkle::verify_inclusion(root, size, self.height, block_hash, &self.path)
    }
}

/// The proof that a chain goes on from an earlier end of it: nothing that the earlier end commits to
/// was changed or left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExtensionProof {
    /// That the earlier block is in the later chain.
    pub block: BlockProof,
    /// That the history of the earlier block is the beginning of that of the later one: the RFC 6962
    /// consistency proof between their history roots, the lowest hash first.
    pub history: Vec<Digest>,
}

impl ExtensionProof {
    /// Whether the chain that ends with `later` is the one that ended with `earlier`, grown. Whoever
    /// trusts only the hash of the earlier block checks that first against
    /// [`hash`](BlockHeader::hash) of its header.
    pub fn verify(&self, earlier: &BlockHeader, later: &BlockHeader) -> bool {
        earlier.vault == later.vault
            && self.block.height == earlier.height
            && self.block.verify(later, &earlier.hash())
            && merkle::verify_consistency(
                (earlier.height, &earlier.history_root),
                (later.height, &later.history_root),
                &self.history,
            )
    }
}
