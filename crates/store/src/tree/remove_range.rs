//! Removing all rows of a range. Leaves that lie wholly inside are given up without being read, unless some value in
//! them has overflow pages.

use super::{
    Tree, TreeRoot,
    cursor::{KeyRange, covers, is_empty, lower_index, upper_index},
    overflow,
};
use crate::{
    error::Result,
    node::{Child, Node, NodeMut},
    page::{PageBytes, PageRef},
    pager::PageSource,
};

/// A child of a branch after the removal: `None` if nothing is left of it.
type Remainder = Option<Child>;

impl Tree<'_> {
    /// Removes the rows of a range; gives back how many there were. Costs O(height) pages at the two ends and one read
    /// for each branch between them.
    pub fn remove_range(&mut self, range: &KeyRange) -> Result<u64> {
        self.workspace.relieve()?;
        if self.root.at.is_none() || is_empty(range) {
            return Ok(0);
        }
        let whole = Child {
            at: self.root.at,
            rows: self.root.rows,
            overflow: true,
        };
        let (rest, removed) = if covers(range, None, None) {
            let level = self
                .workspace
                .visit_node(whole.at, None, |_, node| node.level())?;
            self.free_subtree(whole, Some(level))?;
            (None, whole.rows)
        } else {
            self.prune(whole, None, range, None, None)?
        };
        let at = rest.map_or(PageRef::NONE, |child| child.at);
        *self.root = TreeRoot {
            at,
            rows: self.root.rows.wrapping_sub(removed),
        };
        self.lower_root()?;
        Ok(removed)
    }

    /// Removes the range from a subtree whose keys lie between `low` and `high`.
    fn prune(
        &mut self,
        tree: Child,
        level: Option<u8>,
        range: &KeyRange,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
    ) -> Result<(Remainder, u64)> {
        let bytes = self
            .workspace
            .visit_node(tree.at, level, |bytes, _| bytes.clone())?;
        let node = Node::new(&bytes);
        if node.is_leaf() {
            self.prune_leaf(tree, &bytes, range)
        } else {
            self.prune_branch(tree, node, range, low, high)
        }
    }

    fn prune_leaf(
        &mut self,
        tree: Child,
        bytes: &PageBytes,
        range: &KeyRange,
    ) -> Result<(Remainder, u64)> {
        let node = Node::new(bytes);
        let rows = lower_index(node, &range.0)..upper_index(node, &range.1);
        if rows.is_empty() {
            return Ok((Some(tree), 0));
        }
        let removed = rows.len() as u64;
        self.free_values(node, rows.clone())?;
        if rows.len() == node.len() {
            self.workspace.free(tree.at, self.owner)?;
            return Ok((None, removed));
        }
        let at = self.workspace.make_private(tree.at, self.owner)?;
        NodeMut::new(self.workspace.edit(at)).remove(rows);
        Ok((
            Some(Child {
                at,
                rows: tree.rows.wrapping_sub(removed),
                ..tree
            }),
            removed,
        ))
    }

    fn prune_branch(
        &mut self,
        tree: Child,
        node: Node<'_>,
        range: &KeyRange,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
    ) -> Result<(Remainder, u64)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let level = node.level() - 1;
        let first = match &range.0 {
            Included(key) | Excluded(key) => node.child_index(key),
            Unbounded => 0,
        };
        let last = match &range.1 {
            Included(key) | Excluded(key) => node.child_index(key),
            Unbounded => node.len() - 1,
        };
        let mut removed: u64 = 0;
        let mut remainders = Vec::with_capacity(last + 1 - first);
        for index in first..=last {
            let child = node.child(index);
            let child_low = if index == 0 {
                low.map(<[u8]>::to_vec)
            } else {
                Some(node.key(index))
            };
            let child_high = if index + 1 == node.len() {
                high.map(<[u8]>::to_vec)
            } else {
                Some(node.key(index + 1))
            };
            let (child_low, child_high) = (child_low.as_deref(), child_high.as_deref());
            if covers(range, child_low, child_high) {
                self.free_subtree(child, Some(level))?;
                removed = removed.wrapping_add(child.rows);
                remainders.push(None);
            } else {
                let (rest, rows) = self.prune(child, Some(level), range, child_low, child_high)?;
                removed = removed.wrapping_add(rows);
                remainders.push(rest);
            }
        }
        if removed == 0 {
            return Ok((Some(tree), 0));
        }
        if remainders.len() == node.len() && remainders.iter().all(Option::is_none) {
            self.workspace.free(tree.at, self.owner)?;
            return Ok((None, removed));
        }
        let at = self.workspace.make_private(tree.at, self.owner)?;
        // From the back, so that the indices before stay what they are.
        for (offset, rest) in remainders.iter().enumerate().rev() {
            let index = first + offset;
            let mut branch = NodeMut::new(self.workspace.edit(at));
            match rest {
                Some(child) => branch.set_child(index, *child),
                None => branch.remove(index..index + 1),
            }
        }
        self.join_if_small(at, first)?;
        Ok((
            Some(Child {
                at,
                rows: tree.rows.wrapping_sub(removed),
                ..tree
            }),
            removed,
        ))
    }

    /// The children at the edges of the removed range may be small: they are neighbours now, at `index`.
    fn join_if_small(&mut self, parent: PageRef, index: usize) -> Result<()> {
        for index in [index + 1, index] {
            let child = self.workspace.visit_node(parent, None, |_, node| {
                (index < node.len()).then(|| (node.child(index).at, node.level() - 1))
            })?;
            if let Some((child, level)) = child
                && self
                    .workspace
                    .visit_node(child, Some(level), |_, node| node.is_underfull())?
            {
                self.join_neighbours(parent, index)?;
            }
        }
        Ok(())
    }

    fn free_subtree(&mut self, tree: Child, level: Option<u8>) -> Result<()> {
        if self.workspace.keeps(tree.at) {
            return Ok(());
        }
        if level != Some(0) || tree.overflow {
            let bytes = self
                .workspace
                .visit_node(tree.at, level, |bytes, _| bytes.clone())?;
            let node = Node::new(&bytes);
            if node.is_leaf() {
                self.free_values(node, 0..node.len())?;
            } else {
                for index in 0..node.len() {
                    self.free_subtree(node.child(index), Some(node.level() - 1))?;
                }
            }
        }
        self.workspace.free(tree.at, self.owner)
    }

    fn free_values(&mut self, leaf: Node<'_>, rows: std::ops::Range<usize>) -> Result<()> {
        for index in rows {
            if let Some(at) = leaf.overflow(index) {
                overflow::free(self.workspace, at, self.owner)?;
            }
        }
        Ok(())
    }
}
