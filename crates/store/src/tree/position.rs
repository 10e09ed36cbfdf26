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
        let mut path = Vec::new();
        let (at, leaf) = descend(source, &mut path, root, None, target)?;
        Ok(Self { path, at, leaf })
    }

    pub fn node(&self) -> Node<'_> {
        Node::new(&self.leaf)
    }

    /// Goes to the leaf beside this one. False at the end of the tree. Then, and after an error, nothing has moved.
    pub fn move_beside(&mut self, source: &impl PageSource, direction: Direction) -> Result<bool> {
        for (depth, &(at, index)) in self.path.iter().enumerate().rev() {
            let next = source.visit_node(at, None, |_, node| {
                let next = match direction {
                    Direction::Forward => index.checked_add(1),
                    Direction::Backward => index.checked_sub(1),
                };
                let next = next.filter(|&next| next < node.len())?;
                Some((next, node.child(next).at, node.level()))
            })?;
            let Some((next, child, level)) = next else {
                continue;
            };
            let target = match direction {
                Direction::Forward => Target::First,
                Direction::Backward => Target::Last,
            };
            // Mostly the leaf has the same parent, and this stays empty.
            let mut below = Vec::new();
            let (leaf_at, leaf) = descend(source, &mut below, child, level.checked_sub(1), target)?;
            check_order(source, &self.leaf, (leaf_at, &leaf), direction)?;
            self.path.truncate(depth);
            self.path.push((at, next));
            self.path.append(&mut below);
            (self.at, self.leaf) = (leaf_at, leaf);
            return Ok(true);
        }
        Ok(false)
    }
}

/// Goes down to a leaf, and notes the way.
fn descend(
    source: &impl PageSource,
    path: &mut Vec<(PageRef, usize)>,
    mut at: PageRef,
    mut level: Option<u8>,
    target: Target<'_>,
) -> Result<(PageRef, PageBytes)> {
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
            return Ok((at, leaf));
        }
        if let Some((index, child, child_level)) = down {
            path.push((at, index));
            (at, level) = (child, Some(child_level));
        }
    }
}

/// Keys go on in order from leaf to leaf. A damaged branch that leads to one leaf many times is found out here, before a
/// walk through it takes for ever.
fn check_order(
    source: &impl PageSource,
    leaf: &PageBytes,
    (beside_at, beside): (PageRef, &PageBytes),
    direction: Direction,
) -> Result<()> {
    let (leaf, beside) = (Node::new(leaf), Node::new(beside));
    let (before, after) = match direction {
        Direction::Forward => (leaf, beside),
        Direction::Backward => (beside, leaf),
    };
    let last = before.key_bytes(before.len() - 1);
    if last.lt(after.key_bytes(0)) {
        return Ok(());
    }
    let fault = "holds keys out of order with the leaf beside it";
    Err(source.pager().corrupted(beside_at.page, fault))
}
