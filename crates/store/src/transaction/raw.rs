//! Tables of bytes: what the handles of users are made of.

use std::{
    io,
    ops::{Bound, Deref},
};

use super::{
    ReadTransaction, WriteTransaction, codec::WalkedRow, extract::Extraction, name::TableName,
    reserve, write::Source,
};
use crate::{
    error::{Error, Result},
    node::max_key,
    pager::PageSource,
    space::Purpose,
    tree::{BorrowedBytes, Cursor, Direction, KeyRange, StoredBytes, Tree, TreeRoot},
};

/// The longest value, in bytes.
const MAX_VALUE: usize = u32::MAX as usize;

pub(super) const EVERYTHING: KeyRange = (Bound::Unbounded, Bound::Unbounded);

/// A table that is read.
pub(super) struct RawView<'t> {
    pub source: Source<'t>,
    root: Root<'t>,
    pub name: TableName,
}

#[derive(Clone, Copy)]
enum Root<'t> {
    Fixed(TreeRoot),
    /// The table at this place of the running transaction, whose root moves.
    Open(&'t WriteTransaction, usize),
}

impl<'t> RawView<'t> {
    pub fn of_view(view: &'t ReadTransaction, root: TreeRoot, name: TableName) -> Self {
        Self {
            source: Source::View(view.engine()),
            root: Root::Fixed(root),
            name,
        }
    }

    /// Not for users: with a copy of a writer's view they could walk a table and change it at the same time.
    pub fn duplicate(&self) -> Self {
        Self {
            source: self.source,
            root: self.root,
            name: self.name.clone(),
        }
    }

    pub fn root(&self) -> TreeRoot {
        match self.root {
            Root::Fixed(root) => root,
            Root::Open(transaction, index) => transaction.root(index),
        }
    }

    pub fn named<R>(&self, result: Result<R>) -> Result<R> {
        result.map_err(|error| error.in_table(&self.name))
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<StoredBytes>> {
        self.named(self.root().get(&self.source, key))
    }

    pub fn get_in_parts(
        &self,
        key: &[u8],
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Option<u64>> {
        let pager = self.source.pager();
        let take = |part: &[u8]| {
            take(part).map_err(|source| pager.io_error("hand over a part of a value", source))
        };
        self.named(self.root().get_in_parts(&self.source, key, take))
    }

    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        self.named(self.root().contains(&self.source, key))
    }

    pub fn range(&self, range: KeyRange) -> RawRange<'t> {
        RawRange {
            cursor: Cursor::new(self.source, self.root().at, range),
            name: self.name.clone(),
            buffer: Vec::new(),
        }
    }
}

/// The rows of a range. After an error there are no more.
pub(super) struct RawRange<'t> {
    cursor: Cursor<Source<'t>>,
    pub name: TableName,
    buffer: Vec<u8>,
}

impl RawRange<'_> {
    /// Takes a row from one end and reads it with `read`.
    pub fn step<R>(
        &mut self,
        direction: Direction,
        read: impl FnOnce(WalkedRow<'_>) -> Result<R>,
    ) -> Option<Result<R>> {
        let source = *self.cursor.source();
        let buffer = &mut self.buffer;
        let row = self.cursor.step(direction).transpose()?;
        let result = row.and_then(|row| {
            read(WalkedRow {
                source,
                row,
                buffer,
            })
        });
        if result.is_err() {
            self.cursor.stop();
        }
        Some(result.map_err(|error| error.in_table(&self.name)))
    }

    /// Takes a row from one end: the key and the value, which are there until the walk goes on.
    #[inline]
    pub fn step_borrowed(&mut self, direction: Direction) -> Result<Option<BorrowedBytes<'_>>> {
        let source = *self.cursor.source();
        let row = self.cursor.step(direction);
        let row = row.and_then(|row| {
            row.map(|row| row.borrowed(&source, &mut self.buffer))
                .transpose()
        });
        row.map_err(|error| error.in_table(&self.name))
    }
}

/// A table of a write transaction.
pub(super) struct RawMut<'t> {
    view: RawView<'t>,
    transaction: &'t WriteTransaction,
    index: usize,
}

impl<'t> RawMut<'t> {
    pub fn new(transaction: &'t WriteTransaction, index: usize, name: TableName) -> Self {
        let view = RawView {
            source: Source::of_writer(transaction),
            root: Root::Open(transaction, index),
            name,
        };
        Self {
            view,
            transaction,
            index,
        }
    }

    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<Option<StoredBytes>> {
        self.check_lengths(key, value.len())?;
        self.change(|tree| tree.insert(key, value))
    }

    pub fn insert_reserve(
        &mut self,
        key: &[u8],
        length: usize,
        fill: impl FnMut(&mut [u8]) -> io::Result<()>,
    ) -> Result<Option<StoredBytes>> {
        self.check_lengths(key, length)?;
        reserve::insert(self.transaction, self.index, key, length, fill)
    }

    pub fn check_lengths(&self, key: &[u8], value: usize) -> Result<()> {
        let (table, limit) = (&self.view.name, max_key(self.transaction.page_size()));
        if key.len() > limit {
            return Err(Error::KeyTooLong {
                table: (**table).into(),
                length: key.len(),
                limit,
            });
        }
        if value > MAX_VALUE {
            return Err(Error::ValueTooLong {
                table: (**table).into(),
                length: value,
                limit: MAX_VALUE,
            });
        }
        Ok(())
    }

    pub fn remove(&mut self, key: &[u8]) -> Result<Option<StoredBytes>> {
        self.transaction
            .change(self.index, Purpose::Removal, |tree| tree.remove(key))
    }

    pub fn remove_range(&mut self, range: &KeyRange) -> Result<u64> {
        self.transaction
            .change(self.index, Purpose::Removal, |tree| {
                tree.remove_range(range)
            })
    }

    /// Removes the row at one end.
    pub fn pop(&mut self, end: Direction) -> Result<Option<(Vec<u8>, StoredBytes)>> {
        let key = self
            .view
            .range(EVERYTHING)
            .step(end, |mut row| Ok(row.key().to_vec()));
        let Some(key) = key.transpose()? else {
            return Ok(None);
        };
        // A key that is met at the end of the tree and cannot be found by going down means a damaged branch.
        let value = self.remove(&key)?.ok_or_else(|| {
            let page = self.view.root().at.page;
            let fault = "leads to a row that cannot be found by its key";
            let pager = self.view.source.pager();
            pager.corrupted(page, fault).in_table(&self.view.name)
        })?;
        Ok(Some((key, value)))
    }

    pub fn extract(&mut self, range: KeyRange) -> Extraction<'_> {
        Extraction::new(self.transaction, self.index, range, self.view.name.clone())
    }

    pub fn change<R>(&self, change: impl FnOnce(&mut Tree<'_>) -> Result<R>) -> Result<R> {
        self.transaction.change(self.index, Purpose::Growth, change)
    }

    pub fn page_size(&self) -> usize {
        self.transaction.page_size()
    }
}

impl<'t> Deref for RawMut<'t> {
    type Target = RawView<'t>;

    fn deref(&self) -> &Self::Target {
        &self.view
    }
}

impl Drop for RawMut<'_> {
    fn drop(&mut self) {
        self.transaction.let_go(self.index);
    }
}
