//! Tables of a write transaction.

use std::{
    borrow::Borrow,
    ops::{Deref, RangeBounds},
};

use super::{
    Entry, ExtractIf, Loader, Stored, TableView,
    codec::{KeyView, OwnedKey, OwnedValue, Row, ValueView, decode_row, encode, encode_range},
    raw::{EVERYTHING, RawMut},
};
use crate::{
    error::Result,
    tree::{Batch, Direction, StoredBytes},
    types::RowTypes,
};

/// A table of a write transaction. Reads like a [`TableView`] and sees its own writes.
pub struct TableMut<'t, T> {
    view: TableView<'t, T>,
    rows: RawMut<'t>,
}

impl<'t, T: RowTypes> TableMut<'t, T> {
    pub(super) fn new(rows: RawMut<'t>) -> Self {
        Self {
            view: TableView::new(rows.duplicate()),
            rows,
        }
    }

    pub(super) fn rows_mut(&mut self) -> &mut RawMut<'t> {
        &mut self.rows
    }

    /// As [`RawView::duplicate`].
    pub(super) fn duplicate_view(&self) -> TableView<'t, T> {
        TableView::new(self.rows.duplicate())
    }

    /// Sets a row; gives back the value that it had.
    ///
    /// # Errors
    ///
    /// If the encoded key or value is too long, nothing happens. If a page cannot be read or written, the transaction
    /// is poisoned. Costs a copy of each page on the path, once for each transaction. A long value that is replaced is
    /// read.
    pub fn insert<'k, 'v>(
        &mut self,
        key: impl Borrow<KeyView<'k, T>>,
        value: impl Borrow<ValueView<'v, T>>,
    ) -> Result<Option<Stored<T::Value>>> {
        let (key, value) = (
            encode::<T::Key>(key.borrow()),
            encode::<T::Value>(value.borrow()),
        );
        let old = self.rows.insert(&key, &value)?;
        Ok(old.map(|bytes| self.view.stored(bytes)))
    }

    /// The row of a key, there or not, to look at it and then change it.
    ///
    /// ```
    /// # use folio_store::{Database, Entry, Table};
    /// # struct Counts;
    /// # impl Table for Counts {
    /// #     const NAME: &'static str = "counts";
    /// #     type Key = &'static str;
    /// #     type Value = u64;
    /// # }
    /// # fn main() -> folio_store::Result<()> {
    /// # let db = Database::in_memory()?;
    /// # let txn = db.begin_write()?;
    /// # let mut counts = txn.table::<Counts>()?;
    /// for word in ["to", "be", "or", "not", "to", "be"] {
    ///     match counts.entry(word)? {
    ///         Entry::Occupied(entry) => {
    ///             let count = entry.get()?;
    ///             entry.insert(count + 1)?;
    ///         }
    ///         Entry::Vacant(entry) => entry.insert(1)?,
    ///     }
    /// }
    /// assert_eq!(counts.get("be")?, Some(2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`get`](TableView::get). Costs a look-up, and a change through the entry costs as much as one by the key.
    pub fn entry<'k>(&mut self, key: impl Borrow<KeyView<'k, T>>) -> Result<Entry<'_, 't, T>> {
        let key = encode::<T::Key>(key.borrow()).into_owned();
        Entry::find(&mut self.rows, key)
    }

    /// Sets the value of a key to `new`, or removes the row if that is `None`, provided that it has the value `expected`,
    /// or does not exist if that is `None`. If it is otherwise nothing happens, and what is there comes back as the inner
    /// error. Two values are the same if their encodings are.
    ///
    /// ```
    /// # use folio_store::{Database, Table};
    /// # struct Owners;
    /// # impl Table for Owners {
    /// #     const NAME: &'static str = "owners";
    /// #     type Key = u64;
    /// #     type Value = &'static str;
    /// # }
    /// # fn main() -> folio_store::Result<()> {
    /// # let db = Database::in_memory()?;
    /// # let txn = db.begin_write()?;
    /// # let mut owners = txn.table::<Owners>()?;
    /// assert!(owners.compare_and_swap(1, None, Some(&"Ada"))?.is_ok());
    /// let found = owners.compare_and_swap(1, None, Some(&"Bob"))?.expect_err("Ada has it");
    /// assert_eq!(found.expect("there is a row").view()?, "Ada");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`insert`](Self::insert).
    pub fn compare_and_swap<'k>(
        &mut self,
        key: impl Borrow<KeyView<'k, T>>,
        expected: Option<&ValueView<'_, T>>,
        new: Option<&ValueView<'_, T>>,
    ) -> Result<Result<(), Option<Stored<T::Value>>>> {
        let key = encode::<T::Key>(key.borrow());
        let found = self.rows.get(&key)?;
        let expected = expected.map(encode::<T::Value>);
        if found.as_ref().map(StoredBytes::as_slice) != expected.as_deref() {
            return Ok(Err(found.map(|bytes| self.view.stored(bytes))));
        }
        drop(found);
        match new {
            Some(new) => drop(self.rows.insert(&key, &encode::<T::Value>(new))?),
            None if expected.is_some() => drop(self.rows.remove(&key)?),
            None => {}
        }
        Ok(Ok(()))
    }

    /// Removes a row; gives back the value that it had.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or written; the transaction is then poisoned. Costs as much as [`insert`](Self::insert), and
    /// only a look-up if there is no such row. A long value is read; [`remove_range`](Self::remove_range) of the one key
    /// does not read it.
    pub fn remove<'k>(
        &mut self,
        key: impl Borrow<KeyView<'k, T>>,
    ) -> Result<Option<Stored<T::Value>>> {
        let old = self.rows.remove(&encode::<T::Key>(key.borrow()))?;
        Ok(old.map(|bytes| self.view.stored(bytes)))
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
        self.rows.remove_range(&encode_range::<T, B>(range))
    }

    /// Removes all rows; gives back how many there were. Costs a read for each branch page, and for each leaf that may hold
    /// long values.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn clear(&mut self) -> Result<u64> {
        self.rows.remove_range(&EVERYTHING)
    }

    /// Removes the row with the least key and gives it back.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove); or the row is not an encoding of the table's types, and it is gone.
    pub fn pop_first(&mut self) -> Result<Option<Row<T>>> {
        self.pop(Direction::Forward)
    }

    /// Removes the row with the greatest key and gives it back.
    ///
    /// # Errors
    ///
    /// As for [`pop_first`](Self::pop_first).
    pub fn pop_last(&mut self) -> Result<Option<Row<T>>> {
        self.pop(Direction::Backward)
    }

    fn pop(&mut self, end: Direction) -> Result<Option<Row<T>>> {
        let row = self.rows.pop(end)?;
        row.map(|(key, value)| decode_row::<T>(&key, value.as_slice()))
            .transpose()
    }

    /// Keeps the rows for which `keep` is true and removes the others; gives back how many went. `keep` sees the rows in
    /// the order of their keys.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove), or if a row is not an encoding of the table's types; rows before it are then gone.
    /// Reads all rows, and changes each leaf once at most.
    pub fn retain(
        &mut self,
        mut keep: impl FnMut(&OwnedKey<T>, &OwnedValue<T>) -> bool,
    ) -> Result<u64> {
        self.rows.extract(EVERYTHING).run(|key, value| {
            let (key, value) = decode_row::<T>(&key, value.as_slice())?;
            Ok((!keep(&key, &value)).then_some(()))
        })
    }

    /// Removes the rows of a range for which `choose` is true, and gives them back one by one.
    ///
    /// Rows that the iterator has given back are removed, also if it is dropped before its end; the others stay. (If it is
    /// leaked instead of dropped, the last ones stay, too.)
    ///
    /// ```
    /// # use folio_store::{Database, Table};
    /// # struct Jobs;
    /// # impl Table for Jobs {
    /// #     const NAME: &'static str = "jobs";
    /// #     type Key = u64;
    /// #     type Value = bool;
    /// # }
    /// # fn main() -> folio_store::Result<()> {
    /// # let db = Database::in_memory()?;
    /// # let txn = db.begin_write()?;
    /// # let mut jobs = txn.table::<Jobs>()?;
    /// for id in 0..100 {
    ///     jobs.insert(id, id % 10 == 0)?;
    /// }
    /// let done = jobs.extract_if(50.., |_, done| *done)?;
    /// let ids: Vec<u64> = done.map(|row| row.map(|(id, _)| id)).collect::<Result<_, _>>()?;
    /// assert_eq!(ids, [50, 60, 70, 80, 90]);
    /// assert_eq!(jobs.len()?, 95);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// None today; reserved. Errors met on the way are items of the iterator. Reads the rows of the range, and changes each
    /// leaf once at most.
    pub fn extract_if<'k, B, F>(
        &mut self,
        range: impl RangeBounds<B>,
        choose: F,
    ) -> Result<ExtractIf<'_, T, F>>
    where
        B: Borrow<KeyView<'k, T>>,
        F: FnMut(&OwnedKey<T>, &OwnedValue<T>) -> bool,
    {
        let rows = self.rows.extract(encode_range::<T, B>(range));
        Ok(ExtractIf::new(rows, choose))
    }

    /// Begins to append rows, which must come in the order of their keys and after those of the table.
    ///
    /// # Errors
    ///
    /// As for [`get`](TableView::get).
    pub fn loader(&mut self) -> Result<Loader<'_, 't, T>> {
        let batch = Batch::last_leaf(&self.rows.source, self.rows.root().at);
        let batch = self.rows.named(batch)?;
        Ok(Loader::new(&self.rows, batch))
    }
}

impl<T: RowTypes<Value = &'static [u8]>> TableMut<'_, T> {
    /// Sets a row to a value of `length` bytes that `fill` writes where they will lie; gives back the value that it had.
    /// A long value is never in memory as a whole.
    ///
    /// `fill` is called with one part of the value after the other, all zeros: once for a value that lies in a leaf, once
    /// for each page of a long one. [`Read::read_exact`](std::io::Read::read_exact) fits.
    ///
    /// ```
    /// # use folio_store::{Database, Table};
    /// # struct Files;
    /// # impl Table for Files {
    /// #     const NAME: &'static str = "files";
    /// #     type Key = &'static str;
    /// #     type Value = &'static [u8];
    /// # }
    /// # fn main() -> folio_store::Result<()> {
    /// # let db = Database::in_memory()?;
    /// # let txn = db.begin_write()?;
    /// # let mut files = txn.table::<Files>()?;
    /// use std::io::Read;
    ///
    /// let mut source = std::io::repeat(7).take(100_000); // a file, a socket
    /// files.insert_reserve("sevens", 100_000, |part| source.read_exact(part))?;
    /// assert_eq!(files.get("sevens")?, Some(vec![7; 100_000]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`insert`](Self::insert). If `fill` fails, nothing happens, and its error is there as
    /// [`Error::Io`](crate::Error::Io).
    pub fn insert_reserve<'k>(
        &mut self,
        key: impl Borrow<KeyView<'k, T>>,
        length: usize,
        fill: impl FnMut(&mut [u8]) -> std::io::Result<()>,
    ) -> Result<Option<Stored<T::Value>>> {
        let key = encode::<T::Key>(key.borrow());
        let old = self.rows.insert_reserve(&key, length, fill)?;
        Ok(old.map(|bytes| self.view.stored(bytes)))
    }
}

impl<'t, T> Deref for TableMut<'t, T> {
    type Target = TableView<'t, T>;

    fn deref(&self) -> &Self::Target {
        &self.view
    }
}

impl<T: RowTypes> std::fmt::Debug for TableMut<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TableMut")
            .field("name", &self.rows.name)
            .finish_non_exhaustive()
    }
}
