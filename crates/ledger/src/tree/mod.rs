//! The commitment as it is stored: updated a batch at a time, read for proofs, checked against its
//! own hashes.
//!
//! What the tree means is defined in [`commitment`](crate::commitment); this module is about its
//! rows.
//!
//! - An **item** is a row of its own: its path, and the hash of its content. So the items of any
//!   subtree are neighbours.
//! - A subtree at depth 0, 3, 6, .. with at most [`GROUP_CAPACITY`] items is a **group**: nothing is
//!   stored of its inside, which is hashed anew from its items when one of them changes.
//! - A larger one at such a depth is a **fan**: a row with the hashes of the eight subtrees three
//!   levels below, each a group or a fan. What lies between is hashed anew from the eight.
//!
//! What is stored follows from the items alone, as the root does. A change touches the page with its
//! item, where most of its group lies too, and a row of 264 bytes for every three levels above, which
//! changes of the same entry share the more the higher they are (docs/adr/0026).

mod check;
mod fan;
mod update;
mod walk;

pub(crate) use check::check;
pub(crate) use update::{Change, Tables, Update};
pub(crate) use walk::{Rows, find_bucket};

/// How many levels there are between a fan and its children.
const LEVELS: u16 = 3;

/// How many items a group has at most.
const GROUP_CAPACITY: usize = 64;
