//! Walking the rows of a range, from either end.

use std::{borrow::Cow, cmp::Ordering, ops::Bound};

use super::{
    StoredBytes, overflow,
    position::{Direction, Position, Target},
    read_value,
};
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

/// Rows that are on their way to the processor while a walk hands out the one before them. In a leaf that was filled in the
/// order of arrival neighbours lie anywhere, and without this each costs the time of a read from memory.
const PREFETCHED: usize = 4;

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

/// A key and a value that lie in a leaf, unless they are long or in pieces.
pub(crate) type BorrowedBytes<'b> = (&'b [u8], Cow<'b, [u8]>);

/// A row of a leaf that the cursor holds.
pub(crate) struct Row<'c> {
    pub leaf: &'c PageBytes,
    pub index: usize,
}

impl<'c> Row<'c> {
    #[inline]
    fn node(&self) -> Node<'c> {
        Node::new(self.leaf)
    }

    pub fn key(&self) -> Vec<u8> {
        self.node().key(self.index)
    }

    /// The key, put together in `buffer` if it does not lie in one piece.
    #[inline]
    pub fn key_in<'b>(&self, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        'c: 'b,
    {
        let (prefix, suffix) = (self.node().prefix(), self.node().suffix(self.index));
        if prefix.is_empty() {
            return suffix;
        }
        buffer.clear();
        buffer.reserve(prefix.len() + suffix.len());
        buffer.extend_from_slice(prefix);
        buffer.extend_from_slice(suffix);
        buffer
    }

    /// The key and the value, for one who looks at them here.
    #[inline]
    pub fn borrowed<'b>(
        self,
        source: &impl PageSource,
        buffer: &'b mut Vec<u8>,
    ) -> Result<BorrowedBytes<'b>>
    where
        'c: 'b,
    {
        let value = self.value(source)?;
        Ok((self.key_in(buffer), value))
    }

    /// The key and the value, for one who keeps them.
    #[inline]
    pub fn stored(&self, source: &impl PageSource) -> Result<(StoredBytes, StoredBytes)> {
        let node = self.node();
        let key = StoredBytes::of_key(node.prefix(), node.suffix(self.index));
        Ok((key, read_value(source, self.leaf, self.index)?))
    }

    /// The value, or where it is: what the leaf holds.
    #[inline]
    pub fn body(&self) -> &[u8] {
        self.node().body(self.index)
    }

    /// The value.
    #[inline]
    pub fn value(&self, source: &impl PageSource) -> Result<Cow<'c, [u8]>> {
        Ok(match self.node().overflow(self.index) {
            Some(at) => Cow::Owned(overflow::read(source, at)?),
            None => Cow::Borrowed(self.node().body(self.index)),
        })
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

    /// The next row from the front.
    pub fn next(&mut self) -> Result<Option<Row<'_>>> {
        self.step(Direction::Forward)
    }

    /// The next row from one end. After an error or the end there are no more rows.
    pub fn step(&mut self, direction: Direction) -> Result<Option<Row<'_>>> {
        if self.done {
            return Ok(None);
        }
        let (own, other) = match direction {
            Direction::Forward => (&mut self.front, &self.back),
            Direction::Backward => (&mut self.back, &self.front),
        };
        let walk = Walk {
            source: &self.source,
            range: &self.range,
            direction,
        };
        // Set for the case of an error below; a row found takes it back.
        self.done = true;
        let end = match own {
            Some(end) => end,
            None => own.insert(walk.seek(self.root)?),
        };
        while !end.has_rows(direction, other.as_ref()) {
            if end.last || end.meets(other.as_ref()).is_some() {
                return Ok(None);
            }
            if !end.position.move_beside(&self.source, direction)? {
                return Ok(None);
            }
            walk.enter(end);
        }
        self.done = false;
        Ok(Some(end.take_row(direction)))
    }
}

impl End {
    /// The other end, if it is in the same leaf.
    #[inline]
    fn meets<'o>(&self, other: Option<&'o End>) -> Option<&'o End> {
        other.filter(|other| other.position.at == self.position.at)
    }

    /// Whether there are rows in this leaf that neither end has returned.
    #[inline]
    fn has_rows(&self, direction: Direction, other: Option<&End>) -> bool {
        let (mut start, mut end) = (self.rows.start, self.rows.end);
        if let Some(other) = self.meets(other) {
            match direction {
                Direction::Forward => end = end.min(other.rows.end),
                Direction::Backward => start = start.max(other.rows.start),
            }
        }
        start < end
    }

    /// Has the processor fetch the row that comes when as many as `ahead` were taken.
    #[inline]
    fn prefetch(&self, direction: Direction, ahead: usize) {
        let index = match direction {
            Direction::Forward => self.rows.start + ahead,
            Direction::Backward => self.rows.end.saturating_sub(1 + ahead),
        };
        if self.rows.contains(&index) {
            let cell = self.position.node().cell(index);
            self.position.leaf.prefetch(cell);
        }
    }

    /// The next row. There is one.
    #[inline]
    fn take_row(&mut self, direction: Direction) -> Row<'_> {
        self.prefetch(direction, PREFETCHED);
        let index = match direction {
            Direction::Forward => {
                self.rows.start += 1;
                self.rows.start - 1
            }
            Direction::Backward => {
                self.rows.end -= 1;
                self.rows.end
            }
        };
        Row {
            leaf: &self.position.leaf,
            index,
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
        let mut end = End {
            position: Position::find(self.source, root, target)?,
            rows: 0..0,
            last: false,
        };
        self.enter(&mut end);
        Ok(end)
    }

    /// Looks which rows of the leaf lie in the range.
    fn enter(&self, end: &mut End) {
        let node = end.position.node();
        end.rows = lower_index(node, &self.range.0)..upper_index(node, &self.range.1);
        end.last = match self.direction {
            Direction::Forward => end.rows.end < node.len(),
            Direction::Backward => end.rows.start > 0,
        };
        for ahead in 0..PREFETCHED {
            end.prefetch(self.direction, ahead);
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
