//! Removing the rows of a range that somebody chooses one by one.

use std::{marker::PhantomData, ops::Bound};

use super::{
    WriteTransaction,
    codec::{OwnedKey, OwnedValue, Row, decode_row},
    name::TableName,
    write::Source,
};
use crate::{
    error::Result,
    node::Node,
    page::PageBytes,
    space::Purpose,
    tree::{
        Direction, KeyRange, Position, StoredBytes, Target, is_empty, lower_index, read_value,
        upper_index,
    },
    types::RowTypes,
};

/// A walk that removes. Rows that are chosen stay in their leaf until the walk leaves it, or is dropped; then they go in
/// one change of that leaf. No page is held across the change: the walk goes on by the key where it was.
pub(super) struct Extraction<'e> {
    transaction: &'e WriteTransaction,
    index: usize,
    pub name: TableName,
    /// What has not been looked at, but for the rows of the present leaf.
    rest: KeyRange,
    leaf: Option<Leaf>,
    /// Rows of the present leaf that were chosen.
    chosen: Vec<usize>,
    done: bool,
}

struct Leaf {
    position: Position,
    /// Rows that have not been looked at.
    rows: std::ops::Range<usize>,
    /// Whether the range ends inside the leaf.
    last: bool,
}

impl<'e> Extraction<'e> {
    pub fn new(
        transaction: &'e WriteTransaction,
        index: usize,
        range: KeyRange,
        name: TableName,
    ) -> Self {
        Self {
            transaction,
            index,
            name,
            done: is_empty(&range),
            rest: range,
            leaf: None,
            chosen: Vec::new(),
        }
    }

    /// Removes the next row for which `choose` gives something, and gives that back. After an error there are no more.
    pub fn next<R>(
        &mut self,
        mut choose: impl FnMut(Vec<u8>, StoredBytes) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        if self.done {
            return Ok(None);
        }
        // Set for the case of an error below; a row found takes it back.
        self.done = true;
        let found = self.advance(&mut choose);
        let found = found.map_err(|error| error.in_table(&self.name))?;
        self.done = found.is_none();
        Ok(found)
    }

    /// Goes through all of the range; gives back how many rows were removed.
    pub fn run(
        mut self,
        mut choose: impl FnMut(Vec<u8>, StoredBytes) -> Result<Option<()>>,
    ) -> Result<u64> {
        let mut removed = 0;
        while self.next(&mut choose)?.is_some() {
            removed += 1;
        }
        Ok(removed)
    }

    fn advance<R>(
        &mut self,
        choose: &mut impl FnMut(Vec<u8>, StoredBytes) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let source = Source::of_writer(self.transaction);
        loop {
            if let Some(leaf) = &mut self.leaf {
                for index in leaf.rows.by_ref() {
                    let value = read_value(&source, &leaf.position.leaf, index)?;
                    if let Some(found) = choose(leaf.position.node().key(index), value)? {
                        self.chosen.push(index);
                        return Ok(Some(found));
                    }
                }
            }
            let next = match self.leaf.take() {
                Some(leaf) if leaf.last => {
                    self.remove_chosen(leaf.position.leaf)?;
                    return Ok(None);
                }
                // The leaf stays as it is, so the way to it does, too.
                Some(mut leaf) if self.chosen.is_empty() => {
                    let moved = leaf.position.move_beside(&source, Direction::Forward)?;
                    moved.then_some(leaf.position)
                }
                Some(leaf) => {
                    let node = leaf.position.node();
                    self.rest.0 = Bound::Excluded(node.key(node.len() - 1));
                    self.remove_chosen(leaf.position.leaf)?;
                    self.seek(&source)?
                }
                None => self.seek(&source)?,
            };
            let Some(position) = next else {
                return Ok(None);
            };
            let node = position.node();
            let rows = lower_index(node, &self.rest.0)..upper_index(node, &self.rest.1);
            let last = rows.end < node.len();
            self.leaf = Some(Leaf {
                position,
                rows,
                last,
            });
        }
    }

    fn seek(&self, source: &Source<'_>) -> Result<Option<Position>> {
        let root = self.transaction.root(self.index).at;
        if root.is_none() {
            return Ok(None);
        }
        let target = match &self.rest.0 {
            Bound::Included(key) | Bound::Excluded(key) => Target::Key(key),
            Bound::Unbounded => Target::First,
        };
        Position::find(source, root, target).map(Some)
    }

    fn remove_chosen(&mut self, leaf: PageBytes) -> Result<()> {
        let chosen = std::mem::take(&mut self.chosen);
        let Some(&first) = chosen.first() else {
            return Ok(());
        };
        let key = Node::new(&leaf).key(first);
        drop(leaf);
        self.transaction
            .change(self.index, Purpose::Removal, |tree| {
                tree.remove_rows(&key, &chosen)
            })
    }
}

impl Drop for Extraction<'_> {
    fn drop(&mut self) {
        if let Some(leaf) = self.leaf.take() {
            // A failure poisons the transaction, so it does not go unnoticed.
            drop(self.remove_chosen(leaf.position.leaf));
        }
    }
}

/// The rows that [`TableMut::extract_if`](super::TableMut::extract_if) removes. An error is an item, and then there are no more.
#[must_use = "rows are removed when the iterator comes to them"]
pub struct ExtractIf<'e, T, F> {
    rows: Extraction<'e>,
    choose: F,
    table: PhantomData<fn() -> T>,
}

impl<'e, T, F> ExtractIf<'e, T, F> {
    pub(super) fn new(rows: Extraction<'e>, choose: F) -> Self {
        Self {
            rows,
            choose,
            table: PhantomData,
        }
    }
}

impl<T, F> Iterator for ExtractIf<'_, T, F>
where
    T: RowTypes,
    F: FnMut(&OwnedKey<T>, &OwnedValue<T>) -> bool,
{
    type Item = Result<Row<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.rows.next(|key, value| {
            let row = decode_row::<T>(&key, value.as_slice())?;
            Ok((self.choose)(&row.0, &row.1).then_some(row))
        });
        found.transpose()
    }
}

impl<T, F> std::iter::FusedIterator for ExtractIf<'_, T, F>
where
    T: RowTypes,
    F: FnMut(&OwnedKey<T>, &OwnedValue<T>) -> bool,
{
}

impl<T: RowTypes, F> std::fmt::Debug for ExtractIf<'_, T, F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ExtractIf")
            .field("table", &self.rows.name)
            .finish_non_exhaustive()
    }
}
