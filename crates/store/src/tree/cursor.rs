//! Walking the rows of a range, from either end.

use std::{cmp::Ordering, ops::Bound};

use super::position::{Direction, Position, Target};
use crate::{
    error::Result,
    node::Node,
    page::{PageBytes, PageRef},
    pager::PageSource,
};

/// A range of encoded keys.
pub(crate) type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Whether no key can lie in a range.
pub(crate) fn is_empty((start, end): &KeyRange) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
    }
}

/// The first entry of a leaf that is not before the start of a range.
pub(crate) fn lower_index(node: Node<'_>, start: &Bound<Vec<u8>>) -> usize {
    match start {
        Bound::Unbounded => 0,
        Bound::Included(key) => node.search(key).unwrap_or_else(|index| index),
        Bound::Excluded(key) => node
            .search(key)
            .map_or_else(|index| index, |index| index + 1),
    }
}

/// The first entry of a leaf that is beyond the end of a range.
pub(crate) fn upper_index(node: Node<'_>, end: &Bound<Vec<u8>>) -> usize {
    match end {
        Bound::Unbounded => node.len(),
        Bound::Included(key) => node
            .search(key)
            .map_or_else(|index| index, |index| index + 1),
        Bound::Excluded(key) => node.search(key).unwrap_or_else(|index| index),
    }
}

/// One end of a walk: a leaf, and which of its rows lie in the range and are not yet returned.
struct End {
    position: Position,
    /// Rows left in this leaf, as far as this end knows.
    rows: std::ops::Range<usize>,
    /// Whether the bound of the other end of the range lies in this leaf or before it.
    last: bool,
}

/// A double-ended walk over a range of a tree. Each end keeps one leaf in memory.
pub(crate) struct Cursor<S> {
    source: S,
    root: PageRef,
    range: KeyRange,
    front: Option<End>,
    back: Option<End>,
    done: bool,
}

/// A row of a leaf that the cursor holds.
pub(crate) struct Row<'c> {
    pub leaf: &'c PageBytes,
    pub index: usize,
}

impl Row<'_> {
    fn node(&self) -> Node<'_> {
        Node::new(self.leaf)
    }

    pub fn key(&self) -> Vec<u8> {
        self.node().key(self.index)
    }

    /// The value, or where it is: what the leaf holds.
    pub fn body(&self) -> &[u8] {
        self.node().body(self.index)
    }
}

impl<S: PageSource> Cursor<S> {
    pub fn new(source: S, root: PageRef, range: KeyRange) -> Self {
        let done = root.is_none() || is_empty(&range);
        Self {
            source,
            root,
            range,
            front: None,
            back: None,
            done,
        }
    }

    pub fn source(&self) -> &S {
        &self.source
    }

    /// Ends the walk: there are no more rows.
    pub fn stop(&mut self) {
        self.done = true;
    }

    /// The next row from the front. After an error or the end there are no more rows.
    pub fn next(&mut self) -> Result<Option<Row<'_>>> {
        self.advance(Direction::Forward)
    }

    /// The next row from the back.
    pub fn next_back(&mut self) -> Result<Option<Row<'_>>> {
        self.advance(Direction::Backward)
    }

    fn advance(&mut self, direction: Direction) -> Result<Option<Row<'_>>> {
        if self.done {
            return Ok(None);
        }
        // Set for the case of an error below; a row found takes it back.
        self.done = true;
        let (own, other) = match direction {
            Direction::Forward => (&mut self.front, &self.back),
            Direction::Backward => (&mut self.back, &self.front),
        };
        let walk = Walk {
            source: &self.source,
            range: &self.range,
            direction,
        };
        let mut end = match own.take() {
            Some(end) => end,
            None => walk.seek(self.root)?,
        };
        loop {
            let mut rows = end.rows.clone();
            let meets = other
                .as_ref()
                .filter(|other| other.position.at == end.position.at);
            if let Some(other) = meets {
                match direction {
                    Direction::Forward => rows.end = rows.end.min(other.rows.end),
                    Direction::Backward => rows.start = rows.start.max(other.rows.start),
                }
            }
            if !rows.is_empty() {
                let index = match direction {
                    Direction::Forward => {
                        end.rows.start += 1;
                        rows.start
                    }
                    Direction::Backward => {
                        end.rows.end -= 1;
                        rows.end - 1
                    }
                };
                self.done = false;
                let end = own.insert(end);
                return Ok(Some(Row {
                    leaf: &end.position.leaf,
                    index,
                }));
            }
            if end.last || meets.is_some() {
                return Ok(None);
            }
            match end.position.beside(&self.source, direction)? {
                Some(next) => end = walk.enter(next),
                None => return Ok(None),
            }
        }
    }
}

struct Walk<'c, S> {
    source: &'c S,
    range: &'c KeyRange,
    direction: Direction,
}

impl<S: PageSource> Walk<'_, S> {
    fn seek(&self, root: PageRef) -> Result<End> {
        let bound = match self.direction {
            Direction::Forward => &self.range.0,
            Direction::Backward => &self.range.1,
        };
        let target = match (bound, self.direction) {
            (Bound::Included(key) | Bound::Excluded(key), _) => Target::Key(key),
            (Bound::Unbounded, Direction::Forward) => Target::First,
            (Bound::Unbounded, Direction::Backward) => Target::Last,
        };
        Ok(self.enter(Position::find(self.source, root, target)?))
    }

    fn enter(&self, position: Position) -> End {
        let node = position.node();
        let rows = lower_index(node, &self.range.0)..upper_index(node, &self.range.1);
        let last = match self.direction {
            Direction::Forward => rows.end < node.len(),
            Direction::Backward => rows.start > 0,
        };
        End {
            position,
            rows,
            last,
        }
    }
}

/// Whether a range holds everything between two keys, the second excluded; an absent key is the end of the order.
pub(crate) fn covers((start, end): &KeyRange, low: Option<&[u8]>, high: Option<&[u8]>) -> bool {
    let starts_before = match (start, low) {
        (Bound::Unbounded, _) => true,
        (_, None) => false,
        (Bound::Included(start), Some(low)) => start.as_slice().cmp(low) != Ordering::Greater,
        (Bound::Excluded(start), Some(low)) => start.as_slice() < low,
    };
    let ends_after = match (end, high) {
        (Bound::Unbounded, _) => true,
        (_, None) => false,
        (Bound::Included(end) | Bound::Excluded(end), Some(high)) => end.as_slice() >= high,
    };
    starts_before && ends_after
}
