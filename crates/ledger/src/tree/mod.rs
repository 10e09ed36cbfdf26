//! The commitment as it is stored: updated a batch at a time, read for proofs, checked against its
//! own hashes.
//!
//! What the tree means is defined in [`commitment`](crate::commitment); this module is about its
//! rows.
//!
//! - A **bucket** that is not empty is a row of its own, under its prefix.
//! - **Nodes** are stored three levels to a row, a [`Band`]: the row of the node at depth 0, 3, 6,
//!   .. holds the hashes of the subtrees one, two and three levels below it. There is a row for a
//!   prefix exactly when the subtree at that prefix is a node. A change rewrites one row for every
//!   three levels, instead of one for each.

mod band;
mod check;
mod update;
mod walk;

pub(crate) use check::check;
pub(crate) use update::{Change, Tables, Update};
pub(crate) use walk::{TreeRows, find_bucket};

use band::{Band, Link};
