//! Appending rows that come in order, a leaf at a time.

use super::{Position, Target, Tree, TreeRoot, overflow, write::Split};
use crate::{
    error::Result,
    node::{Entry, LeafSize, Node, NodeMut, build, separator},
    page::PageRef,
    pager::PageSource,
    space::Lifetime,
};

/// The rows of what is or will be the last leaf of a tree. Those at its front may be in the tree already, in its last
/// leaf; the others are put there by [`Tree::append`].
#[derive(Default)]
pub(crate) struct Batch {
    /// Keys and bodies, one behind the other.
    bytes: Vec<u8>,
    rows: Vec<BatchRow>,
    size: LeafSize,
    /// How many rows are in the tree.
    stored: usize,
}

struct BatchRow {
    start: usize,
    /// Where the key ends and the body begins.
    body: usize,
    end: usize,
    overflow: bool,
}

impl Batch {
    /// The rows of the last leaf of a tree, to be added to.
    pub fn last_leaf(source: &impl PageSource, root: PageRef) -> Result<Self> {
        let mut batch = Self::default();
        if root.is_none() {
            return Ok(batch);
        }
        let last = Position::find(source, root, Target::Last)?;
        let node = last.node();
        for index in 0..node.len() {
            let overflow = node.overflow(index).is_some();
            let fits = batch.push(usize::MAX, &node.key(index), node.body(index), overflow);
            debug_assert!(fits, "there is no limit");
        }
        batch.stored = batch.rows.len();
        Ok(batch)
    }

    /// Whether all rows are in the tree.
    pub fn is_stored(&self) -> bool {
        self.stored == self.rows.len()
    }

    fn entry(&self, row: &BatchRow) -> Entry<'_> {
        let key = &self.bytes[row.start..row.body];
        Entry::new(key, &self.bytes[row.body..row.end], row.overflow)
    }

    fn entries(&self) -> Vec<Entry<'_>> {
        self.rows.iter().map(|row| self.entry(row)).collect()
    }

    fn key(&self, row: Option<&BatchRow>) -> &[u8] {
        row.map_or(&[], |row| &self.bytes[row.start..row.body])
    }

    /// The greatest key of the batch, and so of the tree.
    pub fn last_key(&self) -> Option<&[u8]> {
        self.rows.last().map(|row| self.key(Some(row)))
    }

    /// Adds a row that is greater than the others. False, and nothing changed, if the leaf has no room for it.
    pub fn push(&mut self, page_size: usize, key: &[u8], body: &[u8], overflow: bool) -> bool {
        let size = self.size.with(self.key(self.rows.first()), key, body.len());
        if size.bytes() > page_size {
            return false;
        }
        self.size = size;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(body);
        self.rows.push(BatchRow {
            start,
            body: start + key.len(),
            end: start + key.len() + body.len(),
            overflow,
        });
        true
    }

    /// Begins the next leaf. Only when all rows are in the tree.
    pub fn next_leaf(&mut self) {
        debug_assert!(self.is_stored(), "rows must not get lost");
        self.bytes.clear();
        self.rows.clear();
        (self.size, self.stored) = (LeafSize::default(), 0);
    }
}

impl Tree<'_> {
    /// Puts the rows of a batch that are not in the tree behind those that are, into one leaf. Costs O(height) pages.
    pub fn append(&mut self, batch: &mut Batch) -> Result<()> {
        let added = (batch.rows.len() - batch.stored) as u64;
        if added == 0 {
            return Ok(());
        }
        self.workspace.relieve()?;
        let entries = batch.entries();
        let overflow = entries[batch.stored..].iter().any(|entry| entry.overflow);
        if self.root.at.is_none() {
            let at = self.workspace.allocate(self.owner, Lifetime::Long)?;
            NodeMut::format(self.workspace.edit(at), 0, at, self.table);
            self.fill_leaf(at, &entries);
            *self.root = TreeRoot { at, rows: added };
        } else if batch.stored > 0 {
            let (descent, _) = self.descend_last()?;
            let leaf = self.workspace.make_private(descent.leaf, self.owner)?;
            self.fill_leaf(leaf, &entries);
            self.propagate(&descent, leaf, added, overflow, None)?;
        } else {
            let (descent, bytes) = self.descend_last()?;
            let left = Node::new(&bytes);
            let last_key = left.key(left.len() - 1);
            let last = Entry::new(&last_key, &[], false);
            if entries[0].key() <= last_key {
                return Err(self.misplaced(descent.leaf));
            }
            let right = self.workspace.allocate(self.owner, Lifetime::Long)?;
            NodeMut::format(self.workspace.edit(right), 0, right, self.table);
            self.fill_leaf(right, &entries);
            let split = Split {
                left: descent.leaf,
                separator: separator(&last, &entries[0]),
                right,
            };
            self.propagate(&descent, descent.leaf, added, overflow, Some(split))?;
        }
        batch.stored = batch.rows.len();
        Ok(())
    }

    /// Appends a row whose value is too long for a leaf. It is in the tree at once, so that no page is ever without a row
    /// that refers to it.
    pub fn append_long(&mut self, batch: &mut Batch, key: &[u8], value: &[u8]) -> Result<()> {
        let page_size = self.workspace.page_size();
        let reference = overflow::write(self.workspace, value, self.owner, self.table)?.encode();
        if !batch.push(page_size, key, &reference, true) {
            self.append(batch)?;
            batch.next_leaf();
            let fits = batch.push(page_size, key, &reference, true);
            debug_assert!(fits, "an entry takes at most a quarter page");
        }
        self.append(batch)
    }

    fn fill_leaf(&mut self, at: PageRef, entries: &[Entry<'_>]) {
        let fits = build(&mut NodeMut::new(self.workspace.edit(at)), entries);
        debug_assert!(fits, "the batch counts what a leaf takes");
    }
}
