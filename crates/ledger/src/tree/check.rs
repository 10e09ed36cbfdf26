//! Checking a stored commitment against its own hashes.

use super::GROUP_CAPACITY;
use super::fan::{CHILDREN, Fan, Form, Subtree, child_prefixes};
use super::walk::{Rows, damaged, fan, find_fan, items};
use crate::commitment::subtree_hash;
use crate::digest::Digest;
use crate::error::Result;
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
    rows: Rows<'_, '_>,
    vault: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Checked> {
    let mut checker = Checker {
        rows,
        vault,
        items: 0,
        progress,
    };
    let root = match find_fan(rows, vault, &Prefix::ROOT)? {
        None => checker.group(&Prefix::ROOT)?,
        Some(top) => checker.fan(&Prefix::ROOT, &top)?,
    };
    Ok(Checked {
        root: root.hash,
        items: checker.items,
    })
}

struct Checker<'c, 't> {
    rows: Rows<'c, 't>,
    vault: u64,
    items: u64,
    progress: &'c mut dyn FnMut(u64),
}

impl Checker<'_, '_> {
    /// The depth of the recursion is that of the tree by three: at most 85, and some ten without
    /// collisions made on purpose.
    fn fan(&mut self, prefix: &Prefix, stored: &Fan) -> Result<Subtree> {
        for (&child, prefix) in stored.children.iter().zip(child_prefixes(prefix)) {
            let found = match child.form {
                Form::Group(_) => self.group(&prefix)?,
                Form::Fan => {
                    let below = fan(self.rows, self.vault, &prefix)?;
                    self.fan(&prefix, &below)?
                }
            };
            if found != child {
                return Err(damaged("the hash of the subtree", self.vault, &prefix));
            }
        }
        if stored.is_small() {
            return Err(damaged("the fan of a small subtree", self.vault, prefix));
        }
        Ok(Subtree {
            hash: stored.hash(self.rows, self.vault, prefix, 0..CHILDREN)?,
            form: Form::Fan,
        })
    }

    fn group(&mut self, prefix: &Prefix) -> Result<Subtree> {
        let items = items(self.rows, self.vault, prefix, GROUP_CAPACITY)?;
        self.items += items.len() as u64;
        (self.progress)(self.items);
        Ok(Subtree {
            hash: subtree_hash(&items, prefix.depth()),
            form: Form::Group(items.len() as u8),
        })
    }
}
