//! The state root: one hash that commits to every entity and every relationship of a vault.
//!
//! # The definition
//!
//! The root is a function of the contents alone. It does not depend on the order of writes, on how
//! they were batched, on what was deleted meanwhile, nor on restarts. It can be computed from a
//! dump of the vault as follows.
//!
//! 1. Every item of the state has a *path* of 256 bits and a *content hash* of 32 bytes; both are
//!    defined in [`state_key`](crate::state_key). Bit 0 of a path is the most significant bit of
//!    its first byte.
//! 2. The *subtree* at a prefix of bits holds the items whose paths start with it. The whole vault
//!    is the subtree at the empty prefix.
//! 3. The hash of a subtree is
//!    - of no items: the hash of the empty tree in RFC 6962, `SHA-256("")`;
//!    - of 1 to [`BUCKET_CAPACITY`] items, which is eight: a **bucket**, the leaf hash
//!      `SHA-256(0x00 || path_1 || content_1 || ... || path_n || content_n)`, where the items are
//!      in ascending order of path (as byte strings), every path is written whole (32 bytes), and
//!      every content hash follows its path;
//!    - of more items: a **node**, `SHA-256(0x01 || left || right)`, where left is the hash of the
//!      subtree at the prefix with a 0 bit appended and right the one with a 1 bit appended.
//! 4. The **state root** is the hash of the subtree at the empty prefix.
//!
//! So a bucket splits when it would hold a ninth item, and two buckets under one node become one
//! when they hold eight or fewer together. A node may have an empty subtree on one side.
//!
//! The vault's number is not part of it: vaults with equal contents have equal state roots. The
//! block header names the vault.
//!
//! ```
//! use folio_proof::commitment::{Item, root_of};
//! use folio_proof::state_key::{Entity, Relationship, StateKey, content_hash};
//!
//! let colour = StateKey::Entity(b"colour".to_vec());
//! let blue = Entity { version: 1, expires_at: None, value: b"blue".to_vec() };
//! let owner = StateKey::Relationship(Relationship::new("car:1", "owner", "user:7"));
//! let mut items = vec![
//!     Item { path: colour.path(), content: content_hash(&blue.encode()) },
//!     Item { path: owner.path(), content: content_hash(b"") },
//! ];
//! items.sort();
//! assert_eq!(
//!     root_of(&items).to_string(),
//!     "4e96cef4a1b0c2a187e3b25d87e323fddba6f4d0b50d5c1d10b7617e7a75ed80"
//! );
//! ```
//!
//! # Why this cannot lie
//!
//! A path leads to exactly one bucket, so a proof of what is in that bucket is a proof about every
//! path that leads there, of presence and of absence alike ([`proof`](crate::proof)). Paths of a
//! bucket are hashed whole, so an item cannot be moved to another place. Leaves, nodes, paths and
//! contents have different first bytes before they are hashed, so none can be passed off as
//! another.
//!
//! # Cost
//!
//! Paths are spread evenly, so a bucket of a vault with `n` items lies about `log2(n / 5.5)` levels
//! deep, and so many hashes a proof has. Changing an item changes that many hashes and two more; who
//! stores fewer of them computes more. Somebody who searches for keys
//! with colliding paths can make his part of the tree deeper; a level costs him twice the search of
//! the one before.

use crate::digest::Digest;
use crate::merkle::{self, node_hash};

/// How many items a bucket holds at most.
pub const BUCKET_CAPACITY: usize = 8;

/// The length of an item in the encoding of a bucket.
pub const ITEM_BYTES: usize = 64;

/// One item of the state, as the commitment sees it. Items are ordered by path.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Item {
    /// Where the item is.
    pub path: Digest,
    /// The hash of its content.
    pub content: Digest,
}

/// The hash of a bucket of these items, in ascending order of path.
///
/// # Panics
/// When there are more items than [`BUCKET_CAPACITY`].
pub fn bucket_hash(items: &[Item]) -> Digest {
    if items.is_empty() {
        merkle::EMPTY
    } else {
        let mut data = [0; BUCKET_CAPACITY * ITEM_BYTES];
        let data = data
            .get_mut(..items.len() * ITEM_BYTES)
            .expect("a bucket holds no more");
        for (place, item) in data.chunks_exact_mut(ITEM_BYTES).zip(items) {
            place[..32].copy_from_slice(item.path.as_bytes());
            place[32..].copy_from_slice(item.content.as_bytes());
        }
        merkle::leaf_hash(data)
    }
}

/// The state root over all items of a vault, in ascending order of path.
pub fn root_of(items: &[Item]) -> Digest {
    subtree_hash(items, 0)
}

/// The hash of the subtree of these items, which agree in the first `depth` bits of their paths, in
/// ascending order of path, each path once.
pub fn subtree_hash(items: &[Item], depth: u16) -> Digest {
    if items.len() <= BUCKET_CAPACITY {
        return bucket_hash(items);
    }
    let (left, right) = split(items, depth);
    node_hash(
        &subtree_hash(left, depth + 1),
        &subtree_hash(right, depth + 1),
    )
}

/// The items whose paths have a 0, and those that have a 1, at bit `depth`. They agree on the bits
/// before.
pub fn split(items: &[Item], depth: u16) -> (&[Item], &[Item]) {
    items.split_at(items.partition_point(|item| !item.path.bit(depth)))
}
