//! Tables of bytes: what typed tables are made of, and what tools use.

use std::{
    ops::{Bound, Deref},
    sync::Arc,
};

use super::{
    ReadTransaction, TableStatistics, UntypedCursor, UntypedLoader, WriteTransaction,
    extract::Extraction, reserve, write::Source,
};
use crate::{
    error::{Error, Result},
    node::max_key,
    pager::PageSource,
    space::Purpose,
    tree::{
        Batch, Cursor, Direction, KeyRange, Row, Seeker, StoredBytes, Tree, TreeRoot, read_value,
    },
    types::range_of,
};

/// The longest value, in bytes.
const MAX_VALUE: usize = u32::MAX as usize;

type OwnedRow = (Vec<u8>, Vec<u8>);

/// A table read as bytes.
pub struct UntypedTableView<'t> {
    pub(super) source: Source<'t>,
    root: Root<'t>,
    pub(super) name: Arc<str>,
}

#[derive(Clone, Copy)]
enum Root<'t> {
    Fixed(TreeRoot),
    /// The table at this place of the running transaction, whose root moves.
    Open(&'t WriteTransaction, usize),
}

impl<'t> UntypedTableView<'t> {
    pub(super) fn of_view(view: &'t ReadTransaction, root: TreeRoot, name: Arc<str>) -> Self {
        Self {
            source: Source::View(view.engine()),
            root: Root::Fixed(root),
            name,
        }
    }

    /// Not for users: with a copy of a writer's view they could walk a table and change it at the same time.
    pub(super) fn duplicate(&self) -> Self {
        Self {
            source: self.source,
            root: self.root,
            name: self.name.clone(),
        }
    }

    pub(super) fn root(&self) -> TreeRoot {
        match self.root {
            Root::Fixed(root) => root,
            Root::Open(transaction, index) => transaction.root(index),
        }
    }

    pub(super) fn named<R>(&self, result: Result<R>) -> Result<R> {
        result.map_err(|error| error.in_table(&self.name))
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or is damaged; the same goes for every method here. Costs one page for each level of the
    /// tree.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.get_stored(key)?.map(StoredBytes::into_vec))
    }

    pub(super) fn get_stored(&self, key: &[u8]) -> Result<Option<StoredBytes>> {
        self.named(self.root().get(&self.source, key))
    }

    /// Whether the table has a row of this key.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn contains_key(&self, key: &[u8]) -> Result<bool> {
        self.named(self.root().contains(&self.source, key))
    }

    /// The row with the least key.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn first(&self) -> Result<Option<OwnedRow>> {
        self.iter().next().transpose()
    }

    /// The row with the greatest key.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn last(&self) -> Result<Option<OwnedRow>> {
        self.iter().next_back().transpose()
    }

    /// The number of rows. O(1).
    ///
    /// # Errors
    ///
    /// None today; reserved.
    pub fn len(&self) -> Result<u64> {
        Ok(self.root().rows)
    }

    /// Whether the table has no rows. O(1).
    ///
    /// # Errors
    ///
    /// As for [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The rows whose keys lie in a range, in order, from either end. Errors met on the way are items.
    #[must_use]
    pub fn range(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> UntypedRange<'_> {
        self.range_owned((range.0.map(<[u8]>::to_vec), range.1.map(<[u8]>::to_vec)))
    }

    /// The rows whose keys begin with `prefix`, in order, from either end. Errors met on the way are items.
    #[must_use]
    pub fn prefix(&self, prefix: &[u8]) -> UntypedRange<'_> {
        self.range_owned(range_of(prefix.to_vec()))
    }

    /// All rows, in order, from either end. Errors met on the way are items.
    #[must_use]
    pub fn iter(&self) -> UntypedRange<'_> {
        self.range_owned((Bound::Unbounded, Bound::Unbounded))
    }

    pub(super) fn range_owned(&self, range: KeyRange) -> UntypedRange<'_> {
        UntypedRange {
            cursor: Cursor::new(self.source, self.root().at, range),
            name: self.name.clone(),
        }
    }

    /// A cursor before the first row. Costs nothing until it is moved.
    #[must_use]
    pub fn cursor(&self) -> UntypedCursor<'_> {
        let seeker = Seeker::new(self.source, self.root().at);
        UntypedCursor::new(seeker, self.name.clone())
    }

    /// What the table takes in the file.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get). Reads every page of the tree, and one page of each long value.
    pub fn statistics(&self) -> Result<TableStatistics> {
        let root = self.root();
        let measure = self.named(root.measure(&self.source))?;
        Ok(TableStatistics::new(root.rows, &measure, &self.source))
    }
}

impl std::fmt::Debug for UntypedTableView<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("UntypedTableView")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The rows of a range as bytes. Reports an error as its last item.
pub struct UntypedRange<'t> {
    cursor: Cursor<Source<'t>>,
    pub(super) name: Arc<str>,
}

impl UntypedRange<'_> {
    /// Takes a row from one end and reads it with `read`, which gets the key and the value.
    pub(super) fn step<R>(
        &mut self,
        direction: Direction,
        read: impl FnOnce(Vec<u8>, StoredBytes) -> Result<R>,
    ) -> Option<Result<R>> {
        self.step_row(direction, |source, row| {
            read(row.key(), read_value(source, row.leaf, row.index)?)
        })
    }

    /// The same for the key alone; a long value is not read.
    pub(super) fn step_key<R>(
        &mut self,
        direction: Direction,
        read: impl FnOnce(&[u8]) -> Result<R>,
    ) -> Option<Result<R>> {
        self.step_row(direction, |_, row| read(&row.key()))
    }

    fn step_row<R>(
        &mut self,
        direction: Direction,
        read: impl FnOnce(&Source<'_>, &Row<'_>) -> Result<R>,
    ) -> Option<Result<R>> {
        let source = *self.cursor.source();
        let row = match direction {
            Direction::Forward => self.cursor.next(),
            Direction::Backward => self.cursor.next_back(),
        };
        let result = match row {
            Ok(None) => return None,
            Ok(Some(row)) => read(&source, &row),
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.cursor.stop();
        }
        Some(result.map_err(|error| error.in_table(&self.name)))
    }
}

pub(super) fn owned_row(key: Vec<u8>, value: StoredBytes) -> Result<OwnedRow> {
    Ok((key, value.into_vec()))
}

impl Iterator for UntypedRange<'_> {
    type Item = Result<OwnedRow>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward, owned_row)
    }
}

impl DoubleEndedIterator for UntypedRange<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Backward, owned_row)
    }
}

impl std::iter::FusedIterator for UntypedRange<'_> {}

impl std::fmt::Debug for UntypedRange<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("UntypedRange")
            .field("table", &self.name)
            .finish_non_exhaustive()
    }
}

/// A table of a write transaction, as bytes. Reads like an [`UntypedTableView`] and sees its own writes.
pub struct UntypedTableMut<'t> {
    view: UntypedTableView<'t>,
    transaction: &'t WriteTransaction,
    index: usize,
}

impl<'t> UntypedTableMut<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction, index: usize, name: Arc<str>) -> Self {
        let view = UntypedTableView {
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

    /// Sets a row. True if there was one of this key.
    ///
    /// # Errors
    ///
    /// If the key or value is too long, nothing happens. If a page cannot be read or written, the transaction is
    /// poisoned.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<bool> {
        Ok(self.insert_stored(key, value)?.is_some())
    }

    pub(super) fn insert_stored(
        &mut self,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<StoredBytes>> {
        self.check_lengths(key, value.len())?;
        self.transaction
            .change(self.index, Purpose::Growth, |tree| tree.insert(key, value))
    }

    /// Sets a row to a value of `length` bytes that `fill` writes. `fill` is called with one part of the value after the
    /// other, all zeros: once for a value that lies in a leaf, once for each page of a long one. True if there was a row
    /// of this key.
    ///
    /// # Errors
    ///
    /// As for [`insert`](Self::insert). If `fill` fails, nothing happens, and its error is there as [`Error::Io`].
    pub fn insert_reserve(
        &mut self,
        key: &[u8],
        length: usize,
        fill: impl FnMut(&mut [u8]) -> std::io::Result<()>,
    ) -> Result<bool> {
        let old = self.insert_reserve_stored(key, length, fill)?;
        Ok(old.is_some())
    }

    pub(super) fn insert_reserve_stored(
        &mut self,
        key: &[u8],
        length: usize,
        fill: impl FnMut(&mut [u8]) -> std::io::Result<()>,
    ) -> Result<Option<StoredBytes>> {
        self.check_lengths(key, length)?;
        reserve::insert(self.transaction, self.index, key, length, fill)
    }

    pub(super) fn check_lengths(&self, key: &[u8], value: usize) -> Result<()> {
        let (table, limit) = (&self.view.name, max_key(self.transaction.page_size()));
        if key.len() > limit {
            return Err(Error::KeyTooLong {
                table: table.clone(),
                length: key.len(),
                limit,
            });
        }
        if value > MAX_VALUE {
            return Err(Error::ValueTooLong {
                table: table.clone(),
                length: value,
                limit: MAX_VALUE,
            });
        }
        Ok(())
    }

    /// Removes a row. True if there was one.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or written; the transaction is then poisoned.
    pub fn remove(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.remove_stored(key)?.is_some())
    }

    pub(super) fn remove_stored(&mut self, key: &[u8]) -> Result<Option<StoredBytes>> {
        self.transaction
            .change(self.index, Purpose::Removal, |tree| tree.remove(key))
    }

    /// Removes the rows whose keys lie in a range; gives back how many there were. Leaves wholly inside are given up
    /// without being read, unless they may hold long values.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn remove_range(&mut self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<u64> {
        self.remove_range_owned(&(range.0.map(<[u8]>::to_vec), range.1.map(<[u8]>::to_vec)))
    }

    pub(crate) fn remove_range_owned(&mut self, range: &KeyRange) -> Result<u64> {
        self.transaction
            .change(self.index, Purpose::Removal, |tree| {
                tree.remove_range(range)
            })
    }

    /// Removes all rows; gives back how many there were. Costs a read for each branch page, and for each leaf that may hold
    /// long values.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn clear(&mut self) -> Result<u64> {
        self.remove_range_owned(&(Bound::Unbounded, Bound::Unbounded))
    }

    /// Removes the row with the least key and gives it back.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn pop_first(&mut self) -> Result<Option<OwnedRow>> {
        let row = self.pop(Direction::Forward)?;
        Ok(row.map(|(key, value)| (key, value.into_vec())))
    }

    /// Removes the row with the greatest key and gives it back.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn pop_last(&mut self) -> Result<Option<OwnedRow>> {
        let row = self.pop(Direction::Backward)?;
        Ok(row.map(|(key, value)| (key, value.into_vec())))
    }

    pub(super) fn pop(&mut self, end: Direction) -> Result<Option<(Vec<u8>, StoredBytes)>> {
        let key = self.view.iter().step_key(end, |key| Ok(key.to_vec()));
        let Some(key) = key.transpose()? else {
            return Ok(None);
        };
        // A key that is met at the end of the tree and cannot be found by going down means a damaged branch.
        let value = self.remove_stored(&key)?.ok_or_else(|| {
            let page = self.view.root().at.page;
            let fault = "leads to a row that cannot be found by its key";
            let pager = self.view.source.pager();
            pager.corrupted(page, fault).in_table(&self.view.name)
        })?;
        Ok(Some((key, value)))
    }

    /// Keeps the rows for which `keep` is true and removes the others; gives back how many went.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove). Reads all rows, and changes each leaf once at most.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) -> Result<u64> {
        self.extract((Bound::Unbounded, Bound::Unbounded))
            .run(|key, value| Ok((!keep(&key, value.as_slice())).then_some(())))
    }

    pub(super) fn extract(&mut self, range: KeyRange) -> Extraction<'_> {
        Extraction::new(self.transaction, self.index, range, self.view.name.clone())
    }

    /// Begins to append rows, which must come in the order of their keys and after those of the table.
    ///
    /// # Errors
    ///
    /// As for [`get`](UntypedTableView::get).
    pub fn loader(&mut self) -> Result<UntypedLoader<'_, 't>> {
        let batch = Batch::last_leaf(&self.view.source, self.view.root().at);
        let batch = self.view.named(batch)?;
        Ok(UntypedLoader::new(self, batch))
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Tree<'_>) -> Result<R>) -> Result<R> {
        self.transaction.change(self.index, Purpose::Growth, change)
    }

    pub(super) fn page_size(&self) -> usize {
        self.transaction.page_size()
    }

    pub(super) fn as_view(&self) -> &UntypedTableView<'t> {
        &self.view
    }
}

impl<'t> Deref for UntypedTableMut<'t> {
    type Target = UntypedTableView<'t>;

    fn deref(&self) -> &Self::Target {
        &self.view
    }
}

impl Drop for UntypedTableMut<'_> {
    fn drop(&mut self) {
        self.transaction.let_go(self.index);
    }
}

impl std::fmt::Debug for UntypedTableMut<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("UntypedTableMut")
            .field("name", &self.view.name)
            .finish_non_exhaustive()
    }
}
