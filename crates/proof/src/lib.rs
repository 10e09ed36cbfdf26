//! What a Folio ledger commits to, and how a client checks that: hashes, canonical encodings, proofs.
//!
//! A client that has a hash it trusts (a state root, or the hash of a block) needs to trust nobody for the rest: it asks
//! any node, or reads a file, and verifies the answer with this crate. It depends on no engine and no network, and not
//! on the standard library, but for an allocator.
//!
//! - [`proof`] has the proofs: an item of the state is there, with which content, or is not there; a transaction is in a
//!   block, a block is in a chain, a chain goes on from where it was.
//! - [`state_key`], [`commitment`], [`record`], [`block`] and [`merkle`] specify what is hashed and how, so that it
//!   can be written again from these pages alone. Test vectors that a second implementation wrote are in `tests/vectors`.
//!
//! ```
//! use folio_proof::commitment::{Item, root_of};
//! use folio_proof::proof::StateProof;
//! use folio_proof::state_key::{Entity, StateKey, content_hash};
//!
//! # fn main() -> Result<(), folio_proof::proof::ProofError> {
//! let blue = Entity { version: 1, expires_at: None, value: b"blue".to_vec() };
//! let item = Item {
//!     path: StateKey::Entity(b"colour".to_vec()).path(),
//!     content: content_hash(&blue.encode()),
//! };
//! let trusted = root_of(&[item]);
//!
//! // What a node answers about a vault of one entity: its only bucket.
//! let proof = StateProof { siblings: vec![], bucket: vec![item] };
//! proof.verify_entity(&trusted, b"colour", &blue)?;
//! proof.verify_absent(&trusted, &StateKey::Entity(b"size".to_vec()))?;
//! # Ok(())
//! # }
//! ```

#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "count-hashes"))]
extern crate std;

pub mod block;
pub mod commitment;
pub mod digest;
pub mod document;
pub mod limits;
pub mod merkle;
pub mod prefix;
pub mod proof;
pub mod record;
pub mod state_key;
pub mod transaction;
mod wire;

pub use wire::WireError;
