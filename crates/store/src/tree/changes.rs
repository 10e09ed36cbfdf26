//! What of a tree was written after a transaction, and how many rows lie in a range of it.

use std::ops::Bound;

use super::{
    KeyRange, Row, TreeRoot,
    cursor::{is_empty, lower_index},
    position::{Position, Target},
};
use crate::{
    error::Result,
    node::{Child, Node},
    page::{PageBytes, PageRef},
    pager::PageSource,
};

/// A tree in order of its keys: rows of leaves that were written after a transaction, and what lies between them.
///
/// A page that was written before stands for its rows: whoever changes a row writes the pages above it anew. So what is
/// below it is skipped without being read, but for the leaves at the ends of each run of such pages.
pub(crate) struct Changes<S> {
    source: S,
    after: u64,
    /// The branches above the present place, and the next child of each.
    path: Vec<(PageBytes, usize)>,
    /// The root, before the walk has begun.
    root: Option<Child>,
    leaf: Option<(PageBytes, usize)>,
    /// The older pages met since the last leaf.
    run: Option<Run>,
    /// What comes next is greater.
    last_key: Option<Vec<u8>>,
}

/// Pages side by side that were written before.
struct Run {
    first: PageRef,
    last: PageRef,
    rows: u64,
}

pub(crate) enum Change<'c> {
    /// The rows from the first key to the last, which were there before as they are now, and no others between them.
    Kept {
        first: Vec<u8>,
        last: Vec<u8>,
        rows: u64,
    },
    Row(Row<'c>),
}

impl<S: PageSource> Changes<S> {
    pub fn new(source: S, root: TreeRoot, after: u64) -> Self {
        let whole = Child {
            at: root.at,
            rows: root.rows,
            overflow: true,
        };
        Self {
            source,
            after,
            path: Vec::new(),
            root: (!root.at.is_none()).then_some(whole),
            leaf: None,
            run: None,
            last_key: None,
        }
    }

    pub fn source(&self) -> &S {
        &self.source
    }

    /// The next part. After an error there are no more.
    pub fn next(&mut self) -> Result<Option<Change<'_>>> {
        let mut path = std::mem::take(&mut self.path);
        let found = self.advance(&mut path);
        if found.is_err() {
            (self.leaf, self.run, self.root) = (None, None, None);
            found?;
        } else {
            self.path = path;
        }
        if let Some(run) = self.run.take() {
            return self.kept(&run).map(Some);
        }
        let Some((leaf, next)) = &mut self.leaf else {
            return Ok(None);
        };
        *next += 1;
        let (leaf, index) = (&*leaf, *next - 1);
        Ok(Some(Change::Row(Row { leaf, index })))
    }

    /// Goes on to the next row of a leaf, or to the end. What was skipped on the way is the run.
    fn advance(&mut self, path: &mut Vec<(PageBytes, usize)>) -> Result<()> {
        if let Some((leaf, next)) = &self.leaf {
            if *next < Node::new(leaf).len() {
                return Ok(());
            }
            let node = Node::new(leaf);
            self.last_key = Some(node.key(node.len() - 1));
            self.leaf = None;
        }
        loop {
            let (child, level) = match (self.root.take(), path.last_mut()) {
                (Some(root), _) => (root, None),
                (None, None) => return Ok(()),
                (None, Some((bytes, next))) => {
                    let node = Node::new(bytes);
                    if *next == node.len() {
                        path.pop();
                        continue;
                    }
                    *next += 1;
                    (node.child(*next - 1), node.level().checked_sub(1))
                }
            };
            let at = child.at;
            if at.transaction <= self.after {
                let run = self.run.get_or_insert(Run {
                    first: at,
                    last: at,
                    rows: 0,
                });
                run.last = at;
                run.rows = run.rows.saturating_add(child.rows);
                continue;
            }
            let bytes = self
                .source
                .visit_node(at, level, |bytes, _| PageBytes::clone(bytes))?;
            let node = Node::new(&bytes);
            if node.is_leaf() {
                if self.run.is_none() {
                    self.check_order(at, &node.key(0))?;
                }
                self.leaf = Some((bytes, 0));
                return Ok(());
            }
            path.push((bytes, 0));
        }
    }

    fn kept(&mut self, run: &Run) -> Result<Change<'_>> {
        let first = Position::find(&self.source, run.first, Target::First)?;
        let first = first.node().key(0);
        self.check_order(run.first, &first)?;
        let last = Position::find(&self.source, run.last, Target::Last)?;
        let last = last.node().key(last.node().len() - 1);
        if let Some((leaf, _)) = &self.leaf
            && Node::new(leaf).key(0) <= last
        {
            return Err(self.out_of_order(run.last));
        }
        if last < first {
            return Err(self.out_of_order(run.last));
        }
        self.last_key = Some(last.clone());
        Ok(Change::Kept {
            first,
            last,
            rows: run.rows,
        })
    }

    /// A damaged branch that leads to one page many times is found out here, before the walk takes for ever.
    fn check_order(&self, at: PageRef, key: &[u8]) -> Result<()> {
        match &self.last_key {
            Some(last) if last.as_slice() >= key => Err(self.out_of_order(at)),
            _ => Ok(()),
        }
    }

    fn out_of_order(&self, at: PageRef) -> crate::error::Error {
        let fault = "holds keys out of order with the pages beside it";
        self.source.pager().corrupted(at.page, fault)
    }
}

impl TreeRoot {
    /// The number of rows of a range. Costs two ways down the tree.
    pub fn count(self, source: &impl PageSource, range: &KeyRange) -> Result<u64> {
        if self.at.is_none() || is_empty(range) {
            return Ok(0);
        }
        let before = match &range.0 {
            Bound::Unbounded => 0,
            start => self.rank(source, start)?,
        };
        let end = match &range.1 {
            Bound::Unbounded => self.rows,
            // The rows up to the end are those before what comes behind it.
            Bound::Included(end) => self.rank(source, &Bound::Excluded(end.clone()))?,
            Bound::Excluded(end) => self.rank(source, &Bound::Included(end.clone()))?,
        };
        Ok(end.saturating_sub(before))
    }

    /// The number of rows before the first one that a range with this start has.
    fn rank(self, source: &impl PageSource, start: &Bound<Vec<u8>>) -> Result<u64> {
        let (Bound::Included(key) | Bound::Excluded(key)) = start else {
            return Ok(0);
        };
        let (mut at, mut level, mut rank) = (self.at, None, 0u64);
        loop {
            let (rows, child) = source.visit_node(at, level, |_, node| {
                if node.is_leaf() {
                    return (lower_index(node, start) as u64, None);
                }
                let index = node.child_index(key);
                let rows = (0..index).map(|index| node.child(index).rows);
                let rows = rows.fold(0, u64::saturating_add);
                (rows, Some((node.child(index).at, node.level() - 1)))
            })?;
            rank = rank.saturating_add(rows);
            match child {
                None => return Ok(rank),
                Some((child, child_level)) => (at, level) = (child, Some(child_level)),
            }
        }
    }
}
