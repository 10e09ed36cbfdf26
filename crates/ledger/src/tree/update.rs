//! Changing a commitment: all changes of a log entry at once, each touched subtree hashed once.

use folio_store::TableMut;

use super::fan::{CHILDREN, Fan, Form, Subtree, child_of};
use super::walk::{Rows, damaged, fan, fan_key, find_fan, items};
use super::{GROUP_CAPACITY, LEVELS};
use crate::commitment::{Item, subtree_hash};
use crate::digest::Digest;
use crate::error::Result;
use crate::prefix::Prefix;
use crate::tables::{Fans, Items};

/// What an item becomes: another content, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) path: Digest,
    pub(crate) content: Option<Digest>,
}

/// The tables of the commitments, open for writing.
pub(crate) type Tables<'t> = (TableMut<'t, Items>, TableMut<'t, Fans>);

/// An update of the commitment of one vault.
pub(crate) struct Update<'u, 't> {
    tables: &'u mut Tables<'t>,
    vault: u64,
}

impl<'u, 't> Update<'u, 't> {
    pub(crate) fn new(tables: &'u mut Tables<'t>, vault: u64) -> Self {
        Update { tables, vault }
    }

    /// Carries out `changes`, which are in ascending order of path, each path once, and returns the
    /// new root.
    pub(crate) fn apply(mut self, changes: &[Change]) -> Result<Digest> {
        debug_assert!(changes.is_sorted_by(|a, b| a.path < b.path));
        let root = match find_fan(self.rows(), self.vault, &Prefix::ROOT)? {
            None => self.change_group(Prefix::ROOT, changes)?,
            Some(fan) => self.change_fan(Prefix::ROOT, fan, changes)?,
        };
        Ok(root.hash)
    }

    fn rows(&self) -> Rows<'_, 't> {
        Rows {
            items: &self.tables.0,
            fans: &self.tables.1,
        }
    }

    fn change_group(&mut self, prefix: Prefix, changes: &[Change]) -> Result<Subtree> {
        for change in changes {
            let key = (self.vault, change.path.0);
            match change.content {
                Some(content) => drop(self.tables.0.insert(key, content.0)?),
                None => drop(self.tables.0.remove(key)?),
            }
        }
        let limit = GROUP_CAPACITY + changes.len();
        let items = items(self.rows(), self.vault, &prefix, limit)?;
        self.store(prefix, &items)
    }

    fn change_fan(&mut self, prefix: Prefix, old: Fan, changes: &[Change]) -> Result<Subtree> {
        let mut new = old.clone();
        let depth = prefix.depth();
        let child = |path: &Digest| child_of(path, depth);
        for own in changes.chunk_by(|a, b| child(&a.path) == child(&b.path)) {
            let index = child(&own[0].path);
            let prefix = Prefix::of(&own[0].path, depth + LEVELS);
            new.children[index] = match old.children[index].form {
                Form::Group(_) => self.change_group(prefix, own)?,
                Form::Fan => {
                    let below = fan(self.rows(), self.vault, &prefix)?;
                    self.change_fan(prefix, below, own)?
                }
            };
        }
        if new.is_small() {
            self.tables.1.remove(fan_key(self.vault, &prefix))?;
            let items = items(self.rows(), self.vault, &prefix, GROUP_CAPACITY)?;
            return self.store(prefix, &items);
        }
        if new != old {
            self.write(&prefix, &new)?;
        }
        self.fan_of(&prefix, &new)
    }

    /// Stores the subtree of these items, of which the rows are there already, and nothing else is.
    fn store(&mut self, prefix: Prefix, items: &[Item]) -> Result<Subtree> {
        if items.len() <= GROUP_CAPACITY {
            return Ok(Subtree {
                hash: subtree_hash(items, prefix.depth()),
                form: Form::Group(items.len() as u8),
            });
        }
        if prefix.depth() + LEVELS >= 256 {
            return Err(damaged("the number of items", self.vault, &prefix));
        }
        let mut fan = Fan::EMPTY;
        let child = |path: &Digest| child_of(path, prefix.depth());
        for own in items.chunk_by(|a, b| child(&a.path) == child(&b.path)) {
            let below = Prefix::of(&own[0].path, prefix.depth() + LEVELS);
            fan.children[child(&own[0].path)] = self.store(below, own)?;
        }
        self.write(&prefix, &fan)?;
        self.fan_of(&prefix, &fan)
    }

    fn write(&mut self, prefix: &Prefix, fan: &Fan) -> Result<()> {
        let key = fan_key(self.vault, prefix);
        self.tables.1.insert(key, &fan.encode()[..])?;
        Ok(())
    }

    fn fan_of(&self, prefix: &Prefix, fan: &Fan) -> Result<Subtree> {
        Ok(Subtree {
            hash: fan.hash(self.rows(), self.vault, prefix, 0..CHILDREN)?,
            form: Form::Fan,
        })
    }
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
