//! Tables of bytes: what typed tables are made of, and what tools use.

use std::{
    ops::{Bound, Deref},
    sync::Arc,
};

use super::{ReadTransaction, WriteTransaction, write::Source};
use crate::{
    error::{Error, Result},
    tree::{Cursor, KeyRange, Row, StoredBytes, TreeRoot, read_value},
};

/// The longest value, in bytes.
const MAX_VALUE: usize = u32::MAX as usize;

/// A table read as bytes.
pub struct UntypedTableView<'t> {
    source: Source<'t>,
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

    fn root(&self) -> TreeRoot {
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
        Ok(self.get_stored(key)?.map(|stored| match stored {
            StoredBytes::Owned(bytes) => bytes,
            stored => stored.as_slice().to_vec(),
        }))
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

    /// The rows whose keys lie in a range, in order.
    #[must_use]
    pub fn range(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> UntypedRange<'_> {
        self.range_owned((range.0.map(<[u8]>::to_vec), range.1.map(<[u8]>::to_vec)))
    }

    /// All rows, in order.
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
        back: bool,
        read: impl FnOnce(&[u8], &[u8]) -> Result<R>,
    ) -> Option<Result<R>> {
        let source = *self.cursor.source();
        let row = if back {
            self.cursor.next_back()
        } else {
            self.cursor.next()
        };
        let result = match row {
            Ok(None) => return None,
            Ok(Some(row)) => read_row(&source, &row, read),
            Err(error) => Err(error),
        };
        Some(result.map_err(|error| error.in_table(&self.name)))
    }
}

fn read_row<R>(
    source: &Source<'_>,
    row: &Row<'_>,
    read: impl FnOnce(&[u8], &[u8]) -> Result<R>,
) -> Result<R> {
    let value = read_value(source, row.leaf, row.index)?;
    read(&row.key(), value.as_slice())
}

fn copied(key: &[u8], value: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok((key.to_vec(), value.to_vec()))
}

impl Iterator for UntypedRange<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false, copied)
    }
}

impl DoubleEndedIterator for UntypedRange<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true, copied)
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
        let limit = self.transaction.max_key();
        if key.len() > limit {
            return Err(Error::KeyTooLong {
                table: self.view.name.clone(),
                length: key.len(),
                limit,
            });
        }
        if value.len() > MAX_VALUE {
            return Err(Error::ValueTooLong {
                table: self.view.name.clone(),
                length: value.len(),
                limit: MAX_VALUE,
            });
        }
        self.transaction.insert(self.index, key, value)
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
        self.transaction.remove(self.index, key)
    }

    pub(crate) fn remove_range_owned(&mut self, range: &KeyRange) -> Result<u64> {
        self.transaction.remove_range(self.index, range)
    }

    /// Removes all rows; gives back how many there were. Costs a read for each branch page.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn clear(&mut self) -> Result<u64> {
        self.remove_range_owned(&(Bound::Unbounded, Bound::Unbounded))
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
