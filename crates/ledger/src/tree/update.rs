//! Changing a commitment: all changes of a log entry at once, each touched subtree hashed once.

use std::collections::BTreeMap;

use folio_store::TableMut;

use super::band::{Band, Link};
use super::walk::{self, row_key};
use crate::commitment::{BUCKET_CAPACITY, Item, bucket_hash, encode_bucket, split};
use crate::digest::Digest;
use crate::error::Result;
use crate::merkle::node_hash;
use crate::prefix::Prefix;
use crate::tables::{Bands, Buckets};

/// What an item becomes: another content, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) path: Digest,
    pub(crate) content: Option<Digest>,
}

/// The tables of the commitments, open for writing.
pub(crate) type Tables<'t> = (TableMut<'t, Buckets>, TableMut<'t, Bands>);

/// An update of the commitment of one vault.
pub(crate) struct Update<'u, 't> {
    tables: &'u mut Tables<'t>,
    vault: u64,
    /// The bands that this update has read, as they are to be; written at the end.
    bands: BTreeMap<Prefix, Band>,
}

/// A subtree after its update. Its row, if it is a bucket, is for the caller to write: the subtree
/// may yet be merged with its sibling.
enum Subtree {
    Bucket(Vec<Item>),
    Node(Digest),
}

impl<'u, 't> Update<'u, 't> {
    pub(crate) fn new(tables: &'u mut Tables<'t>, vault: u64) -> Self {
        Update {
            tables,
            vault,
            bands: BTreeMap::new(),
        }
    }

    /// Carries out `changes`, which are in ascending order of path, each path once, and returns the
    /// new root.
    pub(crate) fn apply(mut self, changes: &[Change]) -> Result<Digest> {
        debug_assert!(changes.is_sorted_by(|a, b| a.path < b.path));
        let is_node = walk::band(self.tables, self.vault, &Prefix::ROOT)?.is_some();
        let root = match self.change(Prefix::ROOT, is_node, changes)? {
            Subtree::Node(hash) => hash,
            Subtree::Bucket(items) => self.write_bucket(&Prefix::ROOT, &items)?,
        };
        for (prefix, band) in std::mem::take(&mut self.bands) {
            let key = row_key(self.vault, &prefix);
            if band.is_empty() {
                self.tables.1.remove(key)?;
            } else {
                self.tables.1.insert(key, &band.encode()[..])?;
            }
        }
        Ok(root)
    }

    /// Carries out changes below `prefix`, of which there is at least one.
    fn change(&mut self, prefix: Prefix, is_node: bool, changes: &[Change]) -> Result<Subtree> {
        if is_node {
            self.change_node(prefix, changes)
        } else {
            self.change_bucket(prefix, changes)
        }
    }

    fn change_bucket(&mut self, prefix: Prefix, changes: &[Change]) -> Result<Subtree> {
        let items = merge(&walk::bucket(self.tables, self.vault, &prefix)?, changes);
        if items.len() <= BUCKET_CAPACITY {
            return Ok(Subtree::Bucket(items));
        }
        self.write_bucket(&prefix, &[])?;
        self.build_node(prefix, &items).map(Subtree::Node)
    }

    fn change_node(&mut self, prefix: Prefix, changes: &[Change]) -> Result<Subtree> {
        let vault = self.vault;
        let links = walk::children(self.band(&prefix.child(false))?, vault, &prefix)?;
        let middle = changes.partition_point(|change| !change.path.bit(prefix.depth()));
        let (left, right) = changes.split_at(middle);
        let mut changed = [None, None];
        for (side, part) in [(0, left), (1, right)] {
            if !part.is_empty() {
                changed[side] =
                    Some(self.change(prefix.child(side == 1), links[side].is_node, part)?);
            }
        }
        // Only what became smaller can have become small enough for one bucket.
        if changes.iter().any(|change| change.content.is_none())
            && let Some(items) = self.merged(&prefix, &links, &changed)?
        {
            for bit in [false, true] {
                let child = prefix.child(bit);
                self.write_bucket(&child, &[])?;
                self.set_link(&child, None)?;
            }
            return Ok(Subtree::Bucket(items));
        }
        let mut hashes = links.map(|link| link.hash);
        for (side, subtree) in changed.into_iter().enumerate() {
            let child = prefix.child(side == 1);
            let link = match subtree {
                None => continue,
                Some(Subtree::Node(hash)) => Link {
                    hash,
                    is_node: true,
                },
                Some(Subtree::Bucket(items)) => Link {
                    hash: self.write_bucket(&child, &items)?,
                    is_node: false,
                },
            };
            hashes[side] = link.hash;
            self.set_link(&child, Some(link))?;
        }
        Ok(Subtree::Node(node_hash(&hashes[0], &hashes[1])))
    }

    /// The items of both children of a node, when they are buckets and fit one.
    fn merged(
        &self,
        prefix: &Prefix,
        links: &[Link; 2],
        changed: &[Option<Subtree>; 2],
    ) -> Result<Option<Vec<Item>>> {
        let mut all = Vec::new();
        for (side, subtree) in changed.iter().enumerate() {
            match subtree {
                Some(Subtree::Node(_)) => return Ok(None),
                None if links[side].is_node => return Ok(None),
                Some(Subtree::Bucket(items)) => all.extend_from_slice(items),
                None => all.extend(walk::bucket(
                    self.tables,
                    self.vault,
                    &prefix.child(side == 1),
                )?),
            }
        }
        Ok((all.len() <= BUCKET_CAPACITY).then_some(all))
    }

    /// Writes the subtree of more items than a bucket holds, where nothing is stored yet.
    fn build_node(&mut self, prefix: Prefix, items: &[Item]) -> Result<Digest> {
        let (left, right) = split(items, prefix.depth());
        let mut hashes = [Digest::ZERO; 2];
        for (side, part) in [(0, left), (1, right)] {
            let child = prefix.child(side == 1);
            let link = if part.len() > BUCKET_CAPACITY {
                Link {
                    hash: self.build_node(child, part)?,
                    is_node: true,
                }
            } else {
                Link {
                    hash: self.write_bucket(&child, part)?,
                    is_node: false,
                }
            };
            hashes[side] = link.hash;
            self.set_link(&child, Some(link))?;
        }
        Ok(node_hash(&hashes[0], &hashes[1]))
    }

    fn write_bucket(&mut self, prefix: &Prefix, items: &[Item]) -> Result<Digest> {
        let key = row_key(self.vault, prefix);
        if items.is_empty() {
            self.tables.0.remove(key)?;
        } else {
            self.tables.0.insert(key, &encode_bucket(items)[..])?;
        }
        Ok(bucket_hash(items))
    }

    fn set_link(&mut self, prefix: &Prefix, link: Option<Link>) -> Result<()> {
        self.band(prefix)?.set(prefix, link);
        Ok(())
    }

    /// The band that holds the link to the subtree at `prefix`.
    fn band(&mut self, prefix: &Prefix) -> Result<&mut Band> {
        let top = Band::holding(prefix);
        if !self.bands.contains_key(&top) {
            let stored = walk::band(self.tables, self.vault, &top)?.unwrap_or_default();
            self.bands.insert(top, stored);
        }
        Ok(self.bands.entry(top).or_default())
    }
}

/// The items after the changes. Both are in ascending order of path.
fn merge(items: &[Item], changes: &[Change]) -> Vec<Item> {
    let mut merged = Vec::with_capacity(items.len() + changes.len());
    let mut items = items.iter().peekable();
    for change in changes {
        merged.extend(std::iter::from_fn(|| {
            items.next_if(|item| item.path < change.path)
        }));
        items.next_if(|item| item.path == change.path);
        merged.extend(change.content.map(|content| Item {
            path: change.path,
            content,
        }));
    }
    merged.extend(items);
    merged
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
