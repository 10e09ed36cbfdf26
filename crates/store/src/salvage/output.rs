//! The new database, filled in bounded transactions.

use std::ops::Bound;

use super::{
    source::Source,
    walk::{Lost, Marks, Visitor},
};
use crate::{
    Database, Durability, TableDefinition, TableMut, Untyped, WriteTransaction, error::Result,
    node::Node, page::PageBytes, space::PageBits,
};

/// A transaction ends when it has written about this much.
const TRANSACTION_BYTES: usize = 4 << 20;

pub(super) struct Output<'d> {
    target: &'d Database,
    transaction: Option<WriteTransaction>,
    written: usize,
}

impl<'d> Output<'d> {
    pub fn new(target: &'d Database) -> Self {
        Self {
            target,
            transaction: None,
            written: 0,
        }
    }

    pub fn target(&self) -> &'d Database {
        self.target
    }

    /// Changes a table of the new database.
    pub fn change<R>(
        &mut self,
        table: &TableDefinition,
        change: impl FnOnce(&mut TableMut<'_, Untyped>, &mut usize) -> Result<R>,
    ) -> Result<R> {
        let mut transaction = match self.transaction.take() {
            Some(transaction) => transaction,
            None => self.target.begin_write()?,
        };
        let mut table = transaction.untyped(table)?;
        let result = change(&mut table, &mut self.written)?;
        drop(table);
        if self.written < TRANSACTION_BYTES {
            self.transaction = Some(transaction);
        } else {
            transaction.set_durability(Durability::Eventual);
            transaction.commit()?;
            self.written = 0;
        }
        Ok(result)
    }

    /// Commits what is left, durably.
    pub fn finish(self) -> Result<()> {
        if let Some(transaction) = self.transaction {
            transaction.commit()?;
        }
        self.target.checkpoint(crate::GroupSet::ALL)
    }
}

/// A value that is not in the new database because a part of it could not be read.
pub(super) struct LostValue {
    pub key: Vec<u8>,
    pub fault: String,
}

/// What becomes of one table.
pub(super) struct Copy<'c, 'd> {
    pub source: &'c Source,
    pub output: &'c mut Output<'d>,
    pub definition: &'c TableDefinition,
    pub number: u32,
    pub rows: u64,
    pub lost: Vec<Lost>,
    /// Further lost parts, and the rows recorded for them.
    pub more_lost: (u64, u64),
    pub values: LostValues,
}

/// Further lost parts of a table are counted and not looked for.
const MOST_LOST: usize = 100_000;

/// Further lost values are counted and not named.
const MOST_VALUES: usize = 10_000;

/// The first lost values of a table, and how many there are.
#[derive(Default)]
pub(super) struct LostValues {
    pub first: std::collections::BTreeMap<Vec<u8>, String>,
    pub more: u64,
}

impl LostValues {
    pub fn extend(&mut self, values: Vec<LostValue>) {
        for LostValue { key, fault } in values {
            if self.first.len() < MOST_VALUES || self.first.contains_key(&key) {
                self.first.insert(key, fault);
            } else {
                self.more += 1;
            }
        }
    }
}

impl Visitor for Copy<'_, '_> {
    fn leaf(&mut self, marks: &mut Marks, bytes: &PageBytes) -> Result<()> {
        let (source, number) = (self.source, self.number);
        let rows = 0..Node::new(bytes).len();
        let (written, values) = self.output.change(self.definition, |table, weight| {
            write_rows(
                source,
                number,
                table,
                bytes,
                rows,
                &mut marks.referenced,
                weight,
            )
        })?;
        self.rows += written;
        self.values.extend(values);
        Ok(())
    }

    fn lost(&mut self, lost: Lost) -> Result<()> {
        if self.lost.len() < MOST_LOST {
            self.lost.push(lost);
        } else {
            self.more_lost.0 += 1;
            self.more_lost.1 += lost.rows.unwrap_or(0);
        }
        Ok(())
    }
}

/// Writes some rows of a leaf. `met` gets the pages of long values.
pub(super) fn write_rows(
    source: &Source,
    number: u32,
    table: &mut TableMut<'_, Untyped>,
    leaf: &PageBytes,
    rows: std::ops::Range<usize>,
    met: &mut PageBits,
    weight: &mut usize,
) -> Result<(u64, Vec<LostValue>)> {
    let node = Node::new(leaf);
    let (mut written, mut lost) = (0, Vec::new());
    for index in rows {
        let key = node.key(index);
        let value = match node.overflow(index) {
            None => Ok(std::borrow::Cow::Borrowed(node.body(index))),
            Some(value) => source.read_value(value, number, met).map(Into::into),
        };
        match value {
            Ok(value) => {
                *weight += key.len() + value.len();
                table.insert(key.as_slice(), &*value)?;
                written += 1;
            }
            Err(fault) => lost.push(LostValue { key, fault }),
        }
    }
    Ok((written, lost))
}

/// A part of a table that is filled from pages that nothing refers to.
pub(super) struct Gap {
    pub lost: Lost,
    /// Rows found for it.
    pub found: u64,
    /// Rows found whose value was not.
    pub values: u64,
}

impl Gap {
    pub fn new(lost: Lost) -> Self {
        Self {
            lost,
            found: 0,
            values: 0,
        }
    }

    /// Whether all its rows were found, if not all their values.
    pub fn is_closed(&self) -> bool {
        self.lost.rows == Some(self.found + self.values)
    }

    /// Whether a key lies in it.
    pub fn admits(&self, key: &[u8]) -> bool {
        !self.is_before(key) && !self.begins_after(key)
    }

    fn is_before(&self, key: &[u8]) -> bool {
        self.lost.high.as_deref().is_some_and(|high| high <= key)
    }

    fn begins_after(&self, key: &[u8]) -> bool {
        self.lost.low.as_deref().is_some_and(|low| low > key)
    }

    /// Removes the rows between the bounds from the new table, for a gap that is filled anew.
    pub fn empty(&mut self, table: &mut TableMut<'_, Untyped>) -> Result<()> {
        let low = self
            .lost
            .low
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Included);
        let high = self
            .lost
            .high
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        table.remove_range::<&[u8]>((low, high))?;
        (self.found, self.values) = (0, 0);
        Ok(())
    }
}

/// Puts the rows of a leaf where they fall into gaps. What older leaves had between its first and its last key is
/// removed: when this one was written, all rows there were in it.
pub(super) fn fill(
    source: &Source,
    number: u32,
    table: &mut TableMut<'_, Untyped>,
    leaf: &PageBytes,
    gaps: &mut [Gap],
    weight: &mut usize,
) -> Result<Vec<LostValue>> {
    let node = Node::new(leaf);
    let mut lost = Vec::new();
    // Versions of a leaf share their long values; within one leaf each has its own.
    let mut met = PageBits::default();
    let mut first = 0;
    while first < node.len() {
        let key = node.key(first);
        let gap = gaps.partition_point(|gap| gap.is_before(&key));
        let Some(gap) = gaps.get_mut(gap) else { break };
        if gap.begins_after(&key) {
            first += 1;
            continue;
        }
        let inside = (first..node.len()).take_while(|&index| !gap.is_before(&node.key(index)));
        let end = first + inside.count();
        // Up to the bounds of the gap where the leaf goes on beyond them.
        let low = match first {
            0 => Bound::Included(key),
            _ => gap
                .lost
                .low
                .clone()
                .map_or(Bound::Unbounded, Bound::Included),
        };
        let high = match end == node.len() {
            true => Bound::Included(node.key(end - 1)),
            false => gap
                .lost
                .high
                .clone()
                .map_or(Bound::Unbounded, Bound::Excluded),
        };
        let (low, high) = (
            low.as_ref().map(Vec::as_slice),
            high.as_ref().map(Vec::as_slice),
        );
        let removed = table.remove_range::<&[u8]>((low, high))?;
        let (written, values) =
            write_rows(source, number, table, leaf, first..end, &mut met, weight)?;
        gap.found = (gap.found + written).saturating_sub(removed);
        gap.values += values.len() as u64;
        lost.extend(values);
        first = end;
    }
    Ok(lost)
}
