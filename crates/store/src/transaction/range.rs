//! Walks over the rows of a range.

use std::marker::PhantomData;

use super::{
    Stored,
    codec::{OwnedKey, Row, StoredRow, decode, decode_row, stored_row},
    raw::RawRange,
};
use crate::{error::Result, tree::Direction, types::RowTypes};

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
        let name = self.rows.name.clone();
        self.rows.step(direction, |key, value| {
            decode_row::<T>(&name, &key, value.as_slice())
        })
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
    fn step(&mut self, direction: Direction) -> Option<Result<StoredRow<T>>> {
        let name = self.0.rows.name.clone();
        self.0.rows.step(direction, |key, value| {
            Ok(stored_row::<T>(&name, key, value))
        })
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

/// The keys of a [`Range`].
pub struct Keys<'t, T>(Range<'t, T>);

impl<T: RowTypes> Keys<'_, T> {
    fn step(&mut self, direction: Direction) -> Option<Result<OwnedKey<T>>> {
        let name = self.0.rows.name.clone();
        self.0
            .rows
            .step_key(direction, |key| decode::<T::Key>(&name, &key))
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
