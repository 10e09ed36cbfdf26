//! Typed tables.

use std::{
    borrow::Borrow,
    marker::PhantomData,
    ops::{Bound, Deref, RangeBounds},
    sync::Arc,
};

use super::{
    Cursor, Entry, Loader, Stored, TableStatistics, UntypedTableMut, UntypedTableView,
    extract::Extraction, stored::undecodable, untyped::UntypedRange,
};
use crate::{
    error::Result,
    tree::{Direction, KeyRange, StoredBytes},
    types::{Prefix, Table, Value, range_of},
};

pub(super) type OwnedKey<T> = <<T as Table>::Key as Value>::Owned;
pub(super) type OwnedValue<T> = <<T as Table>::Value as Value>::Owned;
pub(super) type Row<T> = (OwnedKey<T>, OwnedValue<T>);
pub(super) type StoredRow<T> = (Stored<<T as Table>::Key>, Stored<<T as Table>::Value>);
pub(super) type KeyView<'a, T> = <<T as Table>::Key as Value>::View<'a>;
pub(super) type ValueView<'a, T> = <<T as Table>::Value as Value>::View<'a>;

/// A table read through its types.
pub struct TableView<'t, T> {
    rows: UntypedTableView<'t>,
    table: PhantomData<fn() -> T>,
}

pub(super) fn encode<V: Value>(view: &V::View<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V::encode(view, &mut bytes);
    bytes
}

pub(super) fn encode_into<V: Value>(view: &V::View<'_>, bytes: &mut Vec<u8>) {
    bytes.clear();
    V::encode(view, bytes);
}

fn encode_range<'k, T: Table, B: Borrow<KeyView<'k, T>>>(range: impl RangeBounds<B>) -> KeyRange {
    let bound = |bound: Bound<&B>| bound.map(|key| encode::<T::Key>(key.borrow()));
    (bound(range.start_bound()), bound(range.end_bound()))
}

pub(super) fn decode_row<T: Table>(name: &Arc<str>, key: &[u8], value: &[u8]) -> Result<Row<T>> {
    let key = T::Key::decode(key).map_err(|source| undecodable(name, source))?;
    let value = T::Value::decode(value).map_err(|source| undecodable(name, source))?;
    Ok((key, value))
}

pub(super) fn stored_row<T: Table>(
    name: &Arc<str>,
    key: Vec<u8>,
    value: StoredBytes,
) -> StoredRow<T> {
    let key = Stored::new(StoredBytes::Owned(key), name.clone());
    (key, Stored::new(value, name.clone()))
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

    /// The row with the greatest key below `key`.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn below<'k>(&self, key: impl Borrow<KeyView<'k, T>>) -> Result<Option<Row<T>>> {
        let mut cursor = self.cursor();
        cursor.seek(key)?;
        cursor.prev()
    }

    /// The row of `key` or, if there is none, the one with the greatest key below it.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn at_or_below<'k>(&self, key: impl Borrow<KeyView<'k, T>>) -> Result<Option<Row<T>>> {
        let mut cursor = self.cursor();
        cursor.seek_after(key)?;
        cursor.prev()
    }

    /// The row with the least key above `key`.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn above<'k>(&self, key: impl Borrow<KeyView<'k, T>>) -> Result<Option<Row<T>>> {
        let mut cursor = self.cursor();
        cursor.seek_after(key)?;
        cursor.next()
    }

    /// The row of `key` or, if there is none, the one with the least key above it.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn at_or_above<'k>(&self, key: impl Borrow<KeyView<'k, T>>) -> Result<Option<Row<T>>> {
        let mut cursor = self.cursor();
        cursor.seek(key)?;
        cursor.next()
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

    /// The rows whose keys begin with `prefix`, in the order of their keys, from either end. See [`Prefix`] for what a
    /// prefix is.
    ///
    /// ```
    /// # use folio_store::{Database, Table};
    /// # struct Visits;
    /// # impl Table for Visits {
    /// #     const NAME: &'static str = "visits";
    /// #     type Key = (&'static str, u64);
    /// #     type Value = ();
    /// # }
    /// # fn main() -> folio_store::Result<()> {
    /// # let db = Database::in_memory()?;
    /// # let txn = db.begin_write()?;
    /// # let mut visits = txn.table::<Visits>()?;
    /// for key in [("ada", 3), ("ada", 7), ("adam", 1), ("bob", 2)] {
    ///     visits.insert(key, ())?;
    /// }
    /// let latest = visits.prefix(("ada",))?.keys().next_back().transpose()?;
    /// assert_eq!(latest, Some(("ada".to_owned(), 7)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`range`](Self::range).
    pub fn prefix(&self, prefix: impl Prefix<T::Key>) -> Result<Range<'_, T>> {
        let mut bytes = Vec::new();
        prefix.encode_prefix(&mut bytes);
        Ok(Range {
            rows: self.rows.range_owned(range_of(bytes)),
            table: PhantomData,
        })
    }

    /// A cursor before the first row. Costs nothing until it is moved.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'_, T> {
        Cursor::new(self.rows.cursor())
    }

    /// What the table takes in the file.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get). Reads every page of the tree, and one page of each long value.
    pub fn statistics(&self) -> Result<TableStatistics> {
        self.rows.statistics()
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

impl<'t, T: Table> Range<'t, T> {
    /// The same rows, not decoded, and their values not copied where they lie in a page.
    #[must_use]
    pub fn stored(self) -> StoredRange<'t, T> {
        StoredRange(self)
    }

    /// The keys of the rows. Long values are not read.
    #[must_use]
    pub fn keys(self) -> Keys<'t, T> {
        Keys(self)
    }

    fn step(&mut self, direction: Direction) -> Option<Result<Row<T>>> {
        let name = self.rows.name.clone();
        self.rows.step(direction, |key, value| {
            decode_row::<T>(&name, &key, value.as_slice())
        })
    }
}

impl<T: Table> Iterator for Range<'_, T> {
    type Item = Result<Row<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward)
    }
}

impl<T: Table> DoubleEndedIterator for Range<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Backward)
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

/// The rows of a [`Range`] as they are stored: for keys and values that are looked at without a copy.
///
/// ```
/// # use folio_store::{Database, Table};
/// # struct Names;
/// # impl Table for Names {
/// #     const NAME: &'static str = "names";
/// #     type Key = u64;
/// #     type Value = &'static str;
/// # }
/// # fn main() -> folio_store::Result<()> {
/// # let db = Database::in_memory()?;
/// # let txn = db.begin_write()?;
/// # let mut names = txn.table::<Names>()?;
/// names.insert(1, "Ada")?;
/// for row in names.iter()?.stored() {
///     let (id, name) = row?;
///     let name: &str = name.view()?; // borrowed from the page
///     println!("{} is called {name}", id.view()?);
/// }
/// # Ok(())
/// # }
/// ```
pub struct StoredRange<'t, T>(Range<'t, T>);

impl<T: Table> StoredRange<'_, T> {
    fn step(&mut self, direction: Direction) -> Option<Result<StoredRow<T>>> {
        let name = self.0.rows.name.clone();
        self.0.rows.step(direction, |key, value| {
            Ok(stored_row::<T>(&name, key, value))
        })
    }
}

impl<T: Table> Iterator for StoredRange<'_, T> {
    type Item = Result<(Stored<T::Key>, Stored<T::Value>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward)
    }
}

impl<T: Table> DoubleEndedIterator for StoredRange<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Backward)
    }
}

impl<T: Table> std::iter::FusedIterator for StoredRange<'_, T> {}

impl<T: Table> std::fmt::Debug for StoredRange<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("StoredRange").field(&self.0).finish()
    }
}

/// The keys of a [`Range`].
pub struct Keys<'t, T>(Range<'t, T>);

impl<T: Table> Keys<'_, T> {
    fn step(&mut self, direction: Direction) -> Option<Result<OwnedKey<T>>> {
        let name = self.0.rows.name.clone();
        self.0.rows.step_key(direction, |key| {
            T::Key::decode(key).map_err(|source| undecodable(&name, source))
        })
    }
}

impl<T: Table> Iterator for Keys<'_, T> {
    type Item = Result<OwnedKey<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward)
    }
}

impl<T: Table> DoubleEndedIterator for Keys<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Backward)
    }
}

impl<T: Table> std::iter::FusedIterator for Keys<'_, T> {}

impl<T: Table> std::fmt::Debug for Keys<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Keys").field(&self.0).finish()
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
        let old = self.rows.insert_stored(&key, &value)?;
        Ok(old.map(|bytes| Stored::new(bytes, self.view.rows.name.clone())))
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
        let key = encode::<T::Key>(key.borrow());
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
        let found = self.rows.get_stored(&key)?;
        let expected = expected.map(encode::<T::Value>);
        if found.as_ref().map(StoredBytes::as_slice) != expected.as_deref() {
            return Ok(Err(
                found.map(|bytes| Stored::new(bytes, self.view.rows.name.clone()))
            ));
        }
        drop(found);
        match new {
            Some(new) => drop(self.rows.insert_stored(&key, &encode::<T::Value>(new))?),
            None if expected.is_some() => drop(self.rows.remove_stored(&key)?),
            None => {}
        }
        Ok(Ok(()))
    }

    /// Removes a row; gives back the value that it had.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or written; the transaction is then poisoned. Costs as much as [`insert`](Self::insert), and
    /// only a look-up if there is no such row.
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

    /// Removes all rows; gives back how many there were. Costs a read for each branch page, and for each leaf that may hold
    /// long values.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn clear(&mut self) -> Result<u64> {
        self.rows.clear()
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
        let name = &self.view.rows.name;
        let row = self.rows.pop(end)?;
        row.map(|(key, value)| decode_row::<T>(name, &key, value.as_slice()))
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
        let name = self.view.rows.name.clone();
        let everything = (Bound::Unbounded, Bound::Unbounded);
        self.rows.extract(everything).run(|key, value| {
            let (key, value) = decode_row::<T>(&name, &key, value.as_slice())?;
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
        Ok(ExtractIf {
            rows: self.rows.extract(encode_range::<T, B>(range)),
            choose,
            table: PhantomData,
        })
    }

    /// Begins to append rows, which must come in the order of their keys and after those of the table.
    ///
    /// # Errors
    ///
    /// As for [`get`](TableView::get).
    pub fn loader(&mut self) -> Result<Loader<'_, 't, T>> {
        Ok(Loader::new(self.rows.loader()?))
    }
}

impl<T: Table<Value = &'static [u8]>> TableMut<'_, T> {
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
        let old = self.rows.insert_reserve_stored(&key, length, fill)?;
        Ok(old.map(|bytes| Stored::new(bytes, self.view.rows.name.clone())))
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

/// The rows that [`TableMut::extract_if`] removes. An error is an item, and then there are no more.
#[must_use = "rows are removed when the iterator comes to them"]
pub struct ExtractIf<'e, T, F> {
    rows: Extraction<'e>,
    choose: F,
    table: PhantomData<fn() -> T>,
}

impl<T, F> Iterator for ExtractIf<'_, T, F>
where
    T: Table,
    F: FnMut(&OwnedKey<T>, &OwnedValue<T>) -> bool,
{
    type Item = Result<Row<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.rows.name.clone();
        let found = self.rows.next(|key, value| {
            let row = decode_row::<T>(&name, &key, value.as_slice())?;
            Ok((self.choose)(&row.0, &row.1).then_some(row))
        });
        found.transpose()
    }
}

impl<T, F> std::iter::FusedIterator for ExtractIf<'_, T, F>
where
    T: Table,
    F: FnMut(&OwnedKey<T>, &OwnedValue<T>) -> bool,
{
}

impl<T: Table, F> std::fmt::Debug for ExtractIf<'_, T, F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ExtractIf")
            .field("table", &T::NAME)
            .finish_non_exhaustive()
    }
}
