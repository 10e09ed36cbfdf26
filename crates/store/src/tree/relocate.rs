//! Moving the pages of a tree towards the start of the file.

use super::{Tree, overflow};
use crate::{
    error::Result,
    node::{Child, Node, NodeMut},
    page::{PageBytes, PageRef},
    pager::PageSource,
};

/// Which pages to move, and how far that got.
pub(crate) struct Relocation {
    /// Pages from this one on are moved.
    pub bound: u64,
    /// The key to begin at; empty for the first.
    pub from: Vec<u8>,
    /// Enough pages for one transaction.
    pub budget: u64,
    /// Pages that were moved.
    pub moved: u64,
    /// The key to go on at, if the budget ended the walk.
    pub resume: Option<Vec<u8>>,
}

impl Tree<'_> {
    /// Copies the pages that lie at or beyond the bound, which leads to lower places as long as there are free ones. Reads
    /// every branch from `from` on, and of the leaves those that move or have long values. What a savepoint uses stays.
    pub fn relocate(&mut self, relocation: &mut Relocation) -> Result<()> {
        if !self.root.at.is_none() {
            self.root.at = self.relocate_node(self.root.at, None, relocation)?;
        }
        Ok(())
    }

    /// Works from the bottom up, so that no page is edited after a spill on the way may have made it immutable.
    fn relocate_node(
        &mut self,
        at: PageRef,
        level: Option<u8>,
        relocation: &mut Relocation,
    ) -> Result<PageRef> {
        if self.workspace.keeps(at) {
            return Ok(at);
        }
        let bytes = self
            .workspace
            .visit_node(at, level, |bytes, _| bytes.clone())?;
        let node = Node::new(&bytes);
        if node.is_leaf() {
            return self.relocate_leaf(at, &bytes, relocation);
        }
        let level = node.level() - 1;
        let mut moved = Vec::new();
        for index in node.child_index(&relocation.from)..node.len() {
            if relocation.moved >= relocation.budget {
                relocation.resume.get_or_insert_with(|| node.key(index));
                break;
            }
            let child = node.child(index);
            if level > 0 || child.overflow || child.at.page >= relocation.bound {
                let copy = self.relocate_node(child.at, Some(level), relocation)?;
                if copy != child.at {
                    moved.push((index, Child { at: copy, ..child }));
                }
            }
        }
        if moved.is_empty() && at.page < relocation.bound {
            return Ok(at);
        }
        let own = self.relocate_page(at, relocation)?;
        let mut branch = NodeMut::new(self.workspace.edit(own));
        for (index, child) in moved {
            branch.set_child(index, child);
        }
        Ok(own)
    }

    fn relocate_leaf(
        &mut self,
        at: PageRef,
        bytes: &PageBytes,
        relocation: &mut Relocation,
    ) -> Result<PageRef> {
        let node = Node::new(bytes);
        let mut moved = Vec::new();
        for index in 0..node.len() {
            let value = node.overflow(index);
            let Some(value) = value.filter(|value| !self.workspace.keeps(value.at)) else {
                continue;
            };
            let pages = overflow::pages(&*self.workspace, value)?;
            if pages.end > relocation.bound {
                let copy = overflow::copy(self.workspace, value, self.owner, self.table)?;
                overflow::free(self.workspace, value, self.owner)?;
                relocation.moved += pages.count;
                moved.push((index, copy));
            }
        }
        if moved.is_empty() && at.page < relocation.bound {
            return Ok(at);
        }
        let own = self.relocate_page(at, relocation)?;
        let mut leaf = NodeMut::new(self.workspace.edit(own));
        for (index, value) in moved {
            let fitted = leaf.overwrite_body(index, &value.encode(), true);
            debug_assert!(fitted, "a reference takes the place of another");
        }
        Ok(own)
    }

    fn relocate_page(&mut self, at: PageRef, relocation: &mut Relocation) -> Result<PageRef> {
        relocation.moved += u64::from(at.page >= relocation.bound);
        self.workspace.make_private(at, self.owner)
    }
}
