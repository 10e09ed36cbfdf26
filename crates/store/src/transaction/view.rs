//! Tables that are read.

use std::{borrow::Borrow, io, marker::PhantomData, ops::RangeBounds};

use super::{
    Cursor, Range, Stored, TableStatistics,
    codec::{KeyView, OwnedValue, Row, encode, encode_range},
    raw::{EVERYTHING, RawView},
};
use crate::{
    error::Result,
    tree::{Seeker, StoredBytes},
    types::{Prefix, RowTypes, range_of},
};

/// A table that is read: a [`Table`](crate::Table) through its types, or any one as bytes if `T` is
/// [`Untyped`](crate::Untyped).
pub struct TableView<'t, T> {
    rows: RawView<'t>,
    table: PhantomData<fn() -> T>,
}

impl<'t, T: RowTypes> TableView<'t, T> {
    pub(super) fn new(rows: RawView<'t>) -> Self {
        Self {
            rows,
            table: PhantomData,
        }
    }

    pub(super) fn rows(&self) -> &RawView<'t> {
        &self.rows
    }

    pub(super) fn stored(&self, bytes: StoredBytes) -> Stored<T::Value> {
        Stored::of::<T>(bytes)
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
        let bytes = self.rows.get(&encode::<T::Key>(key.borrow()))?;
        Ok(bytes.map(|bytes| self.stored(bytes)))
    }

    /// Whether the table has a row of this key.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn contains_key<'k>(&self, key: impl Borrow<KeyView<'k, T>>) -> Result<bool> {
        self.rows.contains(&encode::<T::Key>(key.borrow()))
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
        Ok(self.rows.root().rows)
    }

    /// Whether the table has no rows. O(1).
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
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
        Ok(Range::new(self.rows.range(encode_range::<T, B>(range))))
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
        Ok(Range::new(self.rows.range(range_of(bytes))))
    }

    /// A cursor before the first row. Costs nothing until it is moved.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'_, T> {
        let seeker = Seeker::new(self.rows.source, self.rows.root().at);
        Cursor::new(seeker, self.rows.name.clone())
    }

    /// What the table takes in the file.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get). Reads every page of the tree, and one page of each long value.
    pub fn statistics(&self) -> Result<TableStatistics> {
        let root = self.rows.root();
        let measure = self.rows.named(root.measure(&self.rows.source))?;
        Ok(TableStatistics::new(root.rows, &measure, &self.rows.source))
    }

    /// All rows, in the order of their keys, from either end.
    ///
    /// # Errors
    ///
    /// As for [`range`](Self::range).
    pub fn iter(&self) -> Result<Range<'_, T>> {
        Ok(Range::new(self.rows.range(EVERYTHING)))
    }
}

impl<T: RowTypes<Value = &'static [u8]>> TableView<'_, T> {
    /// Hands the value of a key to `take`, one part after the other, and gives back its length; `None` if there is no
    /// such row. A long value is never in memory as a whole: it comes a page at a time. What
    /// [`insert_reserve`](super::TableMut::insert_reserve) is for writing, this is for reading.
    /// [`Write::write_all`](std::io::Write::write_all) fits.
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
    /// files.insert("sevens", [7; 100_000].as_slice())?;
    /// use std::io::Write;
    ///
    /// let mut target = std::io::sink(); // a file, a socket
    /// let length = files.get_in_parts("sevens", |part| target.write_all(part))?;
    /// assert_eq!(length, Some(100_000));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get). If `take` fails, its error is there as [`Error::Io`](crate::Error::Io).
    pub fn get_in_parts<'k>(
        &self,
        key: impl Borrow<KeyView<'k, T>>,
        take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Option<u64>> {
        self.rows
            .get_in_parts(&encode::<T::Key>(key.borrow()), take)
    }
}

impl<T: RowTypes> std::fmt::Debug for TableView<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TableView")
            .field("name", &self.rows.name)
            .finish_non_exhaustive()
    }
}
