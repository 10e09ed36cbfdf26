//! Checking a stored commitment against its own hashes.

use super::band::{Band, Link};
use super::walk::{TreeRows, band, bucket, children, damaged};
use crate::commitment::bucket_hash;
use crate::digest::Digest;
use crate::error::Result;
use crate::merkle::node_hash;
use crate::prefix::Prefix;

/// What a whole, sound commitment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) root: Digest,
    pub(crate) items: u64,
}

/// Reads the whole commitment of a vault, hashes it anew, and compares each hash with the stored
/// one. `progress` is called with the items seen so far.
pub(crate) fn check(
    rows: &impl TreeRows,
    vault: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Checked> {
    let mut checker = Checker {
        rows,
        vault,
        items: 0,
        progress,
    };
    let root = match band(rows, vault, &Prefix::ROOT)? {
        None => checker.bucket(&Prefix::ROOT)?,
        Some(top) => checker.node(&Prefix::ROOT, &top)?,
    };
    Ok(Checked {
        root,
        items: checker.items,
    })
}

struct Checker<'c, R> {
    rows: &'c R,
    vault: u64,
    items: u64,
    progress: &'c mut dyn FnMut(u64),
}

impl<R: TreeRows> Checker<'_, R> {
    /// The depth of the recursion is that of the tree: at most 256, and some thirty without
    /// collisions made on purpose.
    fn node(&mut self, prefix: &Prefix, held: &Band) -> Result<Digest> {
        let mut hashes = [Digest::ZERO; 2];
        for (side, link) in children(held, self.vault, prefix)?.into_iter().enumerate() {
            let child = prefix.child(side == 1);
            hashes[side] = self.subtree(&child, link, held)?;
            if hashes[side] != link.hash {
                return Err(damaged("the hash of the subtree", self.vault, &child));
            }
        }
        Ok(node_hash(&hashes[0], &hashes[1]))
    }

    fn subtree(&mut self, prefix: &Prefix, link: Link, held: &Band) -> Result<Digest> {
        if !link.is_node {
            return self.bucket(prefix);
        }
        if Band::holding(&prefix.child(false)) == *prefix {
            let own = band(self.rows, self.vault, prefix)?
                .ok_or_else(|| damaged("the node", self.vault, prefix))?;
            return self.node(prefix, &own);
        }
        self.node(prefix, held)
    }

    fn bucket(&mut self, prefix: &Prefix) -> Result<Digest> {
        let items = bucket(self.rows, self.vault, prefix)?;
        self.items += items.len() as u64;
        (self.progress)(self.items);
        Ok(bucket_hash(&items))
    }
}
