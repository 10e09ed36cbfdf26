//! Walks over the rows of a range.

use std::{borrow::Cow, marker::PhantomData};

use super::{
    Stored,
    codec::{KeyView, OwnedKey, Row, StoredRow, ValueView},
    raw::RawRange,
    stored::undecodable,
};
use crate::{
    error::Result,
    tree::Direction,
    types::{BorrowedValue, RowTypes},
};

/// The rows of a range. An error is an item, and then there are no more.
pub struct Range<'t, T> {
    rows: RawRange<'t>,
    table: PhantomData<fn() -> T>,
}

impl<'t, T: RowTypes> Range<'t, T> {
    pub(super) fn new(rows: RawRange<'t>) -> Self {
        Self {
            rows,
            table: PhantomData,
        }
    }

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
        self.rows.step(direction, |row| row.decode::<T>())
    }
}

impl<T: RowTypes> Iterator for Range<'_, T> {
    type Item = Result<Row<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward)
    }
}

impl<T: RowTypes> DoubleEndedIterator for Range<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Backward)
    }
}

impl<T: RowTypes> std::iter::FusedIterator for Range<'_, T> {}

impl<T: RowTypes> std::fmt::Debug for Range<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Range")
            .field("table", &self.rows.name)
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

impl<T: RowTypes> StoredRange<'_, T> {
    /// The next row where it lies, which is there until the walk goes on: the fastest way through many rows, with nothing
    /// copied or counted for any of them.
    ///
    /// ```
    /// # use folio_store::{Database, Table};
    /// # struct Balances;
    /// # impl Table for Balances {
    /// #     const NAME: &'static str = "balances";
    /// #     type Key = u64;
    /// #     type Value = i64;
    /// # }
    /// # fn main() -> folio_store::Result<()> {
    /// # let db = Database::in_memory()?;
    /// # let txn = db.begin_write()?;
    /// # let mut balances = txn.table::<Balances>()?;
    /// # for account in 0..10 { balances.insert(account, 100)?; }
    /// let mut sum = 0;
    /// let mut rows = balances.iter()?.stored();
    /// while let Some(row) = rows.next_borrowed()? {
    ///     sum += row.value()?;
    /// }
    /// assert_eq!(sum, 1000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If a page cannot be read or is damaged; there are no more rows then.
    #[inline]
    pub fn next_borrowed(&mut self) -> Result<Option<BorrowedRow<'_, T>>> {
        self.borrow(Direction::Forward)
    }

    /// The same from the other end.
    ///
    /// # Errors
    ///
    /// As for [`next_borrowed`](Self::next_borrowed).
    #[inline]
    pub fn next_back_borrowed(&mut self) -> Result<Option<BorrowedRow<'_, T>>> {
        self.borrow(Direction::Backward)
    }

    #[inline]
    fn borrow(&mut self, direction: Direction) -> Result<Option<BorrowedRow<'_, T>>> {
        let Some((key, value)) = self.0.rows.step_borrowed(direction)? else {
            return Ok(None);
        };
        Ok(Some(BorrowedRow {
            key,
            value,
            table: PhantomData,
        }))
    }

    fn step(&mut self, direction: Direction) -> Option<Result<StoredRow<T>>> {
        self.0.rows.step(direction, |row| row.stored::<T>())
    }
}

impl<T: RowTypes> Iterator for StoredRange<'_, T> {
    type Item = Result<(Stored<T::Key>, Stored<T::Value>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward)
    }
}

impl<T: RowTypes> DoubleEndedIterator for StoredRange<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Backward)
    }
}

impl<T: RowTypes> std::iter::FusedIterator for StoredRange<'_, T> {}

impl<T: RowTypes> std::fmt::Debug for StoredRange<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("StoredRange").field(&self.0).finish()
    }
}

/// A row that [`StoredRange::next_borrowed`] has come to.
pub struct BorrowedRow<'r, T> {
    key: &'r [u8],
    value: Cow<'r, [u8]>,
    table: PhantomData<fn() -> T>,
}

impl<T: RowTypes> BorrowedRow<'_, T> {
    /// The encoded key.
    #[must_use]
    pub fn key_bytes(&self) -> &[u8] {
        self.key
    }

    /// The encoded value.
    #[must_use]
    pub fn value_bytes(&self) -> &[u8] {
        &self.value
    }

    /// The key, borrowed.
    ///
    /// # Errors
    ///
    /// If the bytes are not an encoding of the type.
    pub fn key(&self) -> Result<KeyView<'_, T>>
    where
        T::Key: BorrowedValue,
    {
        T::Key::view(self.key).map_err(|source| undecodable(T::TABLE, source))
    }

    /// The value, borrowed.
    ///
    /// # Errors
    ///
    /// If the bytes are not an encoding of the type.
    pub fn value(&self) -> Result<ValueView<'_, T>>
    where
        T::Value: BorrowedValue,
    {
        T::Value::view(&self.value).map_err(|source| undecodable(T::TABLE, source))
    }
}

impl<T: RowTypes> std::fmt::Debug for BorrowedRow<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BorrowedRow")
            .field("key", &self.key)
            .field("value", &self.value)
            .finish()
    }
}

/// The keys of a [`Range`].
pub struct Keys<'t, T>(Range<'t, T>);

impl<T: RowTypes> Keys<'_, T> {
    fn step(&mut self, direction: Direction) -> Option<Result<OwnedKey<T>>> {
        self.0.rows.step(direction, |row| row.decode_key::<T>())
    }
}

impl<T: RowTypes> Iterator for Keys<'_, T> {
    type Item = Result<OwnedKey<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward)
    }
}

impl<T: RowTypes> DoubleEndedIterator for Keys<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Backward)
    }
}

impl<T: RowTypes> std::iter::FusedIterator for Keys<'_, T> {}

impl<T: RowTypes> std::fmt::Debug for Keys<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Keys").field(&self.0).finish()
    }
}
