//! What follows a removal: empty nodes go, small ones join a neighbour, a root with one child gives way to it.

use super::{Tree, TreeRoot};
use crate::{
    error::Result,
    node::{Child, Node, NodeMut, build, gather, size},
    page::PageRef,
    pager::PageSource,
};

impl Tree<'_> {
    /// Tells the branches above a node, from the bottom up, that `removed` rows below it are gone.
    pub(super) fn settle(
        &mut self,
        path: Vec<(PageRef, usize)>,
        node: PageRef,
        removed: u64,
    ) -> Result<()> {
        let mut child = node;
        for (at, index) in path.into_iter().rev() {
            let at = self.workspace.make_private(at, self.owner)?;
            let (len, underfull) = self
                .workspace
                .visit_node(child, None, |_, node| (node.len(), node.is_underfull()))?;
            let mut parent = NodeMut::new(self.workspace.edit(at));
            if len == 0 {
                parent.remove(index..index + 1);
                self.workspace.free(child, self.owner)?;
            } else {
                let old = parent.read().child(index);
                parent.set_child(
                    index,
                    Child {
                        at: child,
                        rows: old.rows.wrapping_sub(removed),
                        ..old
                    },
                );
                if underfull {
                    self.join_neighbours(at, index)?;
                }
            }
            child = at;
        }
        *self.root = TreeRoot {
            at: child,
            rows: self.root.rows.wrapping_sub(removed),
        };
        self.lower_root()
    }

    /// Merges a small child of a private branch with the neighbour before or after it, if both fit one page.
    pub(super) fn join_neighbours(&mut self, parent: PageRef, index: usize) -> Result<()> {
        if index > 0 && self.join(parent, index - 1)? {
            return Ok(());
        }
        self.join(parent, index)?;
        Ok(())
    }

    /// Merges child `index` with the one after it. False, and nothing changed, if there is none or they do not fit.
    fn join(&mut self, parent: PageRef, index: usize) -> Result<bool> {
        let page_size = self.workspace.page_size();
        let node = Node::new(self.workspace.edit(parent));
        if index + 1 >= node.len() {
            return Ok(false);
        }
        let (left, right) = (node.child(index), node.child(index + 1));
        let (separator, level) = (node.key(index + 1), node.level() - 1);
        let fetch = |at| {
            self.workspace
                .visit_node(at, Some(level), |bytes, _| bytes.clone())
        };
        let (left_bytes, right_bytes) = (fetch(left.at)?, fetch(right.at)?);
        let mut entries = gather(Node::new(&left_bytes));
        let joint = entries.len();
        entries.extend(gather(Node::new(&right_bytes)));
        if level > 0
            && let Some(first_of_right) = entries.get_mut(joint)
        {
            *first_of_right = first_of_right.with_key(&separator);
        }
        let first_key = usize::from(level > 0);
        let ordered = |index: usize| {
            index <= first_key
                || index >= entries.len()
                || entries[index - 1].key() < entries[index].key()
        };
        if !ordered(joint) || !ordered(joint + 1) {
            return Err(self.misplaced(parent));
        }
        // An eighth stays free, so that the next insertion does not split what was just joined.
        if size(&entries, level == 0) > page_size - page_size / 8 {
            return Ok(false);
        }
        let at = self.workspace.make_private(left.at, self.owner)?;
        let fits = build(&mut NodeMut::new(self.workspace.edit(at)), &entries);
        debug_assert!(fits, "the size was checked");
        self.workspace.free(right.at, self.owner)?;
        let joined = Child {
            at,
            rows: left.rows.wrapping_add(right.rows),
            overflow: left.overflow | right.overflow,
        };
        let mut parent = NodeMut::new(self.workspace.edit(parent));
        parent.set_child(index, joined);
        parent.remove(index + 1..index + 2);
        Ok(true)
    }

    /// Drops roots that are empty or have a single child.
    pub(super) fn lower_root(&mut self) -> Result<()> {
        loop {
            let at = self.root.at;
            if at.is_none() {
                return Ok(());
            }
            let next = self
                .workspace
                .visit_node(at, None, |_, node| match node.len() {
                    0 => Some(PageRef::NONE),
                    1 if !node.is_leaf() => Some(node.child(0).at),
                    _ => None,
                })?;
            let Some(next) = next else { return Ok(()) };
            self.workspace.free(at, self.owner)?;
            self.root.at = next;
        }
    }
}
