//! Removing some rows of one leaf at a time, for walks that choose what to remove.

use super::{Tree, overflow};
use crate::{
    error::Result,
    node::{Node, NodeMut},
};

impl Tree<'_> {
    /// Removes the rows at `indices`, which ascend, of the leaf where `key` belongs. The leaf is changed once, however
    /// many they are.
    pub fn remove_rows(&mut self, key: &[u8], indices: &[usize]) -> Result<()> {
        self.workspace.relieve()?;
        let Some(&last) = indices.last() else {
            return Ok(());
        };
        let (descent, bytes) = self.descend(key)?;
        let node = Node::new(&bytes);
        if last >= node.len() {
            return Err(self.misplaced(descent.leaf));
        }
        for &index in indices {
            if let Some(at) = node.overflow(index) {
                overflow::free(self.workspace, at, self.owner)?;
            }
        }
        // Without the bytes held here, a page that is private already is changed in place.
        let path = descent.path;
        drop(bytes);
        let leaf = self.workspace.make_private(descent.leaf, self.owner)?;
        let mut node = NodeMut::new(self.workspace.edit(leaf));
        // From the back, so that the indices before stay what they are.
        for run in indices.chunk_by(|one, next| one + 1 == *next).rev() {
            if let (Some(&first), Some(&last)) = (run.first(), run.last()) {
                node.remove(first..last + 1);
            }
        }
        self.settle(path, leaf, indices.len() as u64)
    }
}
