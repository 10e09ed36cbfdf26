//! A leaf of a tree, and how to get to the ones beside it.

use crate::{
    error::Result,
    node::Node,
    page::{PageBytes, PageRef},
    pager::PageSource,
};

/// Which way a walk goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// Which leaf is wanted.
#[derive(Clone, Copy)]
pub(crate) enum Target<'k> {
    First,
    Last,
    /// The leaf where this key belongs.
    Key(&'k [u8]),
}

/// A leaf, kept in memory, and the branches above it with the child taken in each.
pub(crate) struct Position {
    pub path: Vec<(PageRef, usize)>,
    pub at: PageRef,
    pub leaf: PageBytes,
}

impl Position {
    /// Goes down from the root to a leaf.
    pub fn find(source: &impl PageSource, root: PageRef, target: Target<'_>) -> Result<Self> {
        Self::descend(source, Vec::new(), root, None, target)
    }

    fn descend(
        source: &impl PageSource,
        mut path: Vec<(PageRef, usize)>,
        mut at: PageRef,
        mut level: Option<u8>,
        target: Target<'_>,
    ) -> Result<Self> {
        loop {
            let (leaf, down) = source.visit_node(at, level, |bytes, node| {
                if node.is_leaf() {
                    return (Some(bytes.clone()), None);
                }
                let index = match target {
                    Target::Key(key) => node.child_index(key),
                    Target::First => 0,
                    Target::Last => node.len() - 1,
                };
                (None, Some((index, node.child(index).at, node.level() - 1)))
            })?;
            if let Some(leaf) = leaf {
                return Ok(Self { path, at, leaf });
            }
            if let Some((index, child, child_level)) = down {
                path.push((at, index));
                (at, level) = (child, Some(child_level));
            }
        }
    }

    pub fn node(&self) -> Node<'_> {
        Node::new(&self.leaf)
    }

    /// The leaf beside this one; `None` at the end of the tree.
    pub fn beside(&self, source: &impl PageSource, direction: Direction) -> Result<Option<Self>> {
        for (depth, &(at, index)) in self.path.iter().enumerate().rev() {
            let next = source.visit_node(at, None, |_, node| {
                let next = match direction {
                    Direction::Forward => index.checked_add(1),
                    Direction::Backward => index.checked_sub(1),
                };
                next.filter(|&next| next < node.len())
                    .map(|next| (next, node.child(next).at, node.level()))
            })?;
            if let Some((next, child, level)) = next {
                let mut path = self.path[..depth].to_vec();
                path.push((at, next));
                let target = match direction {
                    Direction::Forward => Target::First,
                    Direction::Backward => Target::Last,
                };
                let beside = Self::descend(source, path, child, level.checked_sub(1), target)?;
                self.check_order(source, &beside, direction)?;
                return Ok(Some(beside));
            }
        }
        Ok(None)
    }

    /// Keys go on in order from leaf to leaf. A damaged branch that leads to one leaf many times is found out here,
    /// before a walk through it takes for ever.
    fn check_order(
        &self,
        source: &impl PageSource,
        beside: &Self,
        direction: Direction,
    ) -> Result<()> {
        let (before, after) = match direction {
            Direction::Forward => (self.node(), beside.node()),
            Direction::Backward => (beside.node(), self.node()),
        };
        if before.key(before.len() - 1) < after.key(0) {
            return Ok(());
        }
        let fault = "holds keys out of order with the leaf beside it";
        Err(source.pager().corrupted(beside.at.page, fault))
    }
}
