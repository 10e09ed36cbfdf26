//! Typed tables.

use std::{
    borrow::Borrow,
    marker::PhantomData,
    ops::{Bound, Deref, RangeBounds},
    sync::Arc,
};

use super::{
    Stored, UntypedTableMut, UntypedTableView, stored::undecodable, untyped::UntypedRange,
};
use crate::{
    error::Result,
    tree::KeyRange,
    types::{Table, Value},
};

type OwnedKey<T> = <<T as Table>::Key as Value>::Owned;
type OwnedValue<T> = <<T as Table>::Value as Value>::Owned;
type Row<T> = (OwnedKey<T>, OwnedValue<T>);
type KeyView<'a, T> = <<T as Table>::Key as Value>::View<'a>;
type ValueView<'a, T> = <<T as Table>::Value as Value>::View<'a>;

/// A table read through its types.
pub struct TableView<'t, T> {
    rows: UntypedTableView<'t>,
    table: PhantomData<fn() -> T>,
}

fn encode<V: Value>(view: &V::View<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V::encode(view, &mut bytes);
    bytes
}

fn encode_range<'k, T: Table, B: Borrow<KeyView<'k, T>>>(range: impl RangeBounds<B>) -> KeyRange {
    let bound = |bound: Bound<&B>| bound.map(|key| encode::<T::Key>(key.borrow()));
    (bound(range.start_bound()), bound(range.end_bound()))
}

fn decode_row<T: Table>(name: &Arc<str>, key: &[u8], value: &[u8]) -> Result<Row<T>> {
    let key = T::Key::decode(key).map_err(|source| undecodable(name, source))?;
    let value = T::Value::decode(value).map_err(|source| undecodable(name, source))?;
    Ok((key, value))
}

impl<'t, T: Table> TableView<'t, T> {
    pub(super) fn new(rows: UntypedTableView<'t>) -> Self {
        Self {
            rows,
            table: PhantomData,
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or is damaged, or the row is not an encoding of the table's types; the same goes for
    /// every method here. Costs one page for each level of the tree.
    pub fn get<'k>(&self, key: impl Borrow<KeyView<'k, T>>) -> Result<Option<OwnedValue<T>>> {
        self.get_stored(key)?
            .map(|stored| stored.decode())
            .transpose()
    }

    /// The value of a key, not decoded, and not copied where it lies in a page.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn get_stored<'k>(
        &self,
        key: impl Borrow<KeyView<'k, T>>,
    ) -> Result<Option<Stored<T::Value>>> {
        let bytes = self.rows.get_stored(&encode::<T::Key>(key.borrow()))?;
        Ok(bytes.map(|bytes| Stored::new(bytes, self.rows.name.clone())))
    }

    /// Whether the table has a row of this key.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn contains_key<'k>(&self, key: impl Borrow<KeyView<'k, T>>) -> Result<bool> {
        self.rows.contains_key(&encode::<T::Key>(key.borrow()))
    }

    /// The row with the least key.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn first(&self) -> Result<Option<Row<T>>> {
        self.iter()?.next().transpose()
    }

    /// The row with the greatest key.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn last(&self) -> Result<Option<Row<T>>> {
        self.iter()?.next_back().transpose()
    }

    /// The number of rows. O(1).
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn len(&self) -> Result<u64> {
        self.rows.len()
    }

    /// Whether the table has no rows. O(1).
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn is_empty(&self) -> Result<bool> {
        self.rows.is_empty()
    }

    /// The rows whose keys lie in a range, in the order of their keys, from either end.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get); errors met on the way are items of the iterator.
    pub fn range<'k, B: Borrow<KeyView<'k, T>>>(
        &self,
        range: impl RangeBounds<B>,
    ) -> Result<Range<'_, T>> {
        Ok(Range {
            rows: self.rows.range_owned(encode_range::<T, B>(range)),
            table: PhantomData,
        })
    }

    /// All rows, in the order of their keys, from either end.
    ///
    /// # Errors
    ///
    /// As for [`range`](Self::range).
    pub fn iter(&self) -> Result<Range<'_, T>> {
        Ok(Range {
            rows: self.rows.iter(),
            table: PhantomData,
        })
    }
}

impl<T: Table> std::fmt::Debug for TableView<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TableView")
            .field("name", &T::NAME)
            .finish_non_exhaustive()
    }
}

/// The rows of a range. An error is an item, and then there are no more.
pub struct Range<'t, T> {
    rows: UntypedRange<'t>,
    table: PhantomData<fn() -> T>,
}

impl<T: Table> Range<'_, T> {
    fn step(&mut self, back: bool) -> Option<Result<Row<T>>> {
        let name = self.rows.name.clone();
        self.rows
            .step(back, |key, value| decode_row::<T>(&name, key, value))
    }
}

impl<T: Table> Iterator for Range<'_, T> {
    type Item = Result<Row<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

impl<T: Table> DoubleEndedIterator for Range<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}

impl<T: Table> std::iter::FusedIterator for Range<'_, T> {}

impl<T: Table> std::fmt::Debug for Range<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Range")
            .field("table", &T::NAME)
            .finish_non_exhaustive()
    }
}

/// A table of a write transaction. Reads like a [`TableView`] and sees its own writes.
pub struct TableMut<'t, T> {
    view: TableView<'t, T>,
    rows: UntypedTableMut<'t>,
}

impl<'t, T: Table> TableMut<'t, T> {
    pub(super) fn new(rows: UntypedTableMut<'t>) -> Self {
        Self {
            view: TableView::new(rows.as_view().duplicate()),
            rows,
        }
    }

    /// Sets a row; gives back the value that it had.
    ///
    /// # Errors
    ///
    /// If the encoded key or value is too long, nothing happens. If a page cannot be read or written, the transaction
    /// is poisoned. Costs a copy of each page on the path, once for each transaction.
    pub fn insert<'k, 'v>(
        &mut self,
        key: impl Borrow<KeyView<'k, T>>,
        value: impl Borrow<ValueView<'v, T>>,
    ) -> Result<Option<Stored<T::Value>>> {
        let (key, value) = (
            encode::<T::Key>(key.borrow()),
            encode::<T::Value>(value.borrow()),
        );
        let old = self.rows.insert_stored(&key, &value)?;
        Ok(old.map(|bytes| Stored::new(bytes, self.view.rows.name.clone())))
    }

    /// Removes a row; gives back the value that it had.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or written; the transaction is then poisoned.
    pub fn remove<'k>(
        &mut self,
        key: impl Borrow<KeyView<'k, T>>,
    ) -> Result<Option<Stored<T::Value>>> {
        let old = self.rows.remove_stored(&encode::<T::Key>(key.borrow()))?;
        Ok(old.map(|bytes| Stored::new(bytes, self.view.rows.name.clone())))
    }

    /// Removes the rows whose keys lie in a range; gives back how many there were. Leaves wholly inside are given up
    /// without being read, unless they may hold long values.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn remove_range<'k, B: Borrow<KeyView<'k, T>>>(
        &mut self,
        range: impl RangeBounds<B>,
    ) -> Result<u64> {
        self.rows.remove_range_owned(&encode_range::<T, B>(range))
    }

    /// Removes all rows; gives back how many there were.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn clear(&mut self) -> Result<u64> {
        self.rows.clear()
    }
}

impl<'t, T> Deref for TableMut<'t, T> {
    type Target = TableView<'t, T>;

    fn deref(&self) -> &Self::Target {
        &self.view
    }
}

impl<T: Table> std::fmt::Debug for TableMut<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TableMut")
            .field("name", &T::NAME)
            .finish_non_exhaustive()
    }
}
