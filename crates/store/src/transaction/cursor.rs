//! Cursors: places in a table that can be moved in both directions and to any key.

use std::{borrow::Borrow, marker::PhantomData, sync::Arc};

use super::{
    table::{KeyView, Row, StoredRow, decode_row, encode, stored_row},
    untyped::owned_row,
    write::Source,
};
use crate::{
    error::Result,
    tree::{Direction, Seeker, StoredBytes, read_value},
    types::Table,
};

/// A place between two rows of a table of bytes. See [`Cursor`].
pub struct UntypedCursor<'t> {
    seeker: Seeker<Source<'t>>,
    name: Arc<str>,
}

impl<'t> UntypedCursor<'t> {
    pub(super) fn new(seeker: Seeker<Source<'t>>, name: Arc<str>) -> Self {
        Self { seeker, name }
    }

    /// Goes to the place before the first row whose key is `key` or greater.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or is damaged; the cursor is then where it was. The same goes for every method here.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        let result = self.seeker.seek(key, false);
        result.map_err(|error| error.in_table(&self.name))
    }

    /// Goes to the place before the first row whose key is greater than `key`.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    pub fn seek_after(&mut self, key: &[u8]) -> Result<()> {
        let result = self.seeker.seek(key, true);
        result.map_err(|error| error.in_table(&self.name))
    }

    /// Goes to the place before the first row.
    pub fn seek_start(&mut self) {
        self.seeker.seek_start();
    }

    /// Goes to the place behind the last row.
    pub fn seek_end(&mut self) {
        self.seeker.seek_end();
    }

    /// Goes over the next row and gives it back; `None` at the end.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    #[expect(
        clippy::should_implement_trait,
        reason = "it goes both ways and may fail"
    )]
    pub fn next(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        self.step(Direction::Forward, owned_row)
    }

    /// Goes back over the row before and gives it back; `None` at the start.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    pub fn prev(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        self.step(Direction::Backward, owned_row)
    }

    pub(super) fn step<R>(
        &mut self,
        direction: Direction,
        read: impl FnOnce(Vec<u8>, StoredBytes) -> Result<R>,
    ) -> Result<Option<R>> {
        let source = *self.seeker.source();
        let row = match direction {
            Direction::Forward => self.seeker.next(),
            Direction::Backward => self.seeker.prev(),
        };
        let result = row.and_then(|row| {
            let read = |row: crate::tree::Row<'_>| {
                read(row.key(), read_value(&source, row.leaf, row.index)?)
            };
            row.map(read).transpose()
        });
        result.map_err(|error| error.in_table(&self.name))
    }

    /// The same for the key alone; a long value is not read.
    pub(super) fn next_key(&mut self) -> Result<Option<Vec<u8>>> {
        let row = self.seeker.next();
        row.map(|row| row.map(|row| row.key()))
            .map_err(|error| error.in_table(&self.name))
    }
}

impl std::fmt::Debug for UntypedCursor<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("UntypedCursor")
            .field("table", &self.name)
            .finish_non_exhaustive()
    }
}

/// A place in a table: before the first row, between two rows, or behind the last one.
///
/// [`next`](Self::next) gives the row behind the place and moves over it, [`prev`](Self::prev) the row before it; so
/// after `next`, `prev` gives the same row again. A seek inside the leaf where the cursor is costs no page, any other one
/// a page for each level of the tree. A cursor keeps one leaf in memory.
///
/// ```
/// # use folio_store::{Database, Table};
/// # struct Words;
/// # impl Table for Words {
/// #     const NAME: &'static str = "words";
/// #     type Key = &'static str;
/// #     type Value = u64;
/// # }
/// # fn main() -> folio_store::Result<()> {
/// # let db = Database::in_memory()?;
/// # let txn = db.begin_write()?;
/// # let mut words = txn.table::<Words>()?;
/// for (number, word) in (1..).zip(["ant", "bee", "cat", "dog"]) {
///     words.insert(word, number)?;
/// }
/// let mut cursor = words.cursor();
/// cursor.seek("c")?;
/// assert_eq!(cursor.next()?, Some(("cat".to_owned(), 3)));
/// assert_eq!(cursor.next()?, Some(("dog".to_owned(), 4)));
/// assert_eq!(cursor.next()?, None);
/// cursor.seek("bee")?;
/// assert_eq!(cursor.prev()?, Some(("ant".to_owned(), 1)));
/// # Ok(())
/// # }
/// ```
pub struct Cursor<'t, T> {
    cursor: UntypedCursor<'t>,
    table: PhantomData<fn() -> T>,
}

impl<'t, T: Table> Cursor<'t, T> {
    pub(super) fn new(cursor: UntypedCursor<'t>) -> Self {
        Self {
            cursor,
            table: PhantomData,
        }
    }

    /// Goes to the place before the first row whose key is `key` or greater.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or is damaged; the cursor is then where it was.
    pub fn seek<'k>(&mut self, key: impl Borrow<KeyView<'k, T>>) -> Result<()> {
        self.cursor.seek(&encode::<T::Key>(key.borrow()))
    }

    /// Goes to the place before the first row whose key is greater than `key`.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    pub fn seek_after<'k>(&mut self, key: impl Borrow<KeyView<'k, T>>) -> Result<()> {
        self.cursor.seek_after(&encode::<T::Key>(key.borrow()))
    }

    /// Goes to the place before the first row.
    pub fn seek_start(&mut self) {
        self.cursor.seek_start();
    }

    /// Goes to the place behind the last row.
    pub fn seek_end(&mut self) {
        self.cursor.seek_end();
    }

    /// Goes over the next row and gives it back; `None` at the end.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek); or the row is not an encoding of the table's types, and the cursor has gone over it.
    #[expect(
        clippy::should_implement_trait,
        reason = "it goes both ways and may fail"
    )]
    pub fn next(&mut self) -> Result<Option<Row<T>>> {
        self.step(Direction::Forward)
    }

    /// Goes back over the row before and gives it back; `None` at the start.
    ///
    /// # Errors
    ///
    /// As for [`next`](Self::next).
    pub fn prev(&mut self) -> Result<Option<Row<T>>> {
        self.step(Direction::Backward)
    }

    /// As [`next`](Self::next), not decoded, and the value not copied where it lies in a page.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    pub fn next_stored(&mut self) -> Result<Option<StoredRow<T>>> {
        self.step_stored(Direction::Forward)
    }

    /// As [`prev`](Self::prev), not decoded, and the value not copied where it lies in a page.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    pub fn prev_stored(&mut self) -> Result<Option<StoredRow<T>>> {
        self.step_stored(Direction::Backward)
    }

    fn step(&mut self, direction: Direction) -> Result<Option<Row<T>>> {
        let name = self.cursor.name.clone();
        self.cursor.step(direction, |key, value| {
            decode_row::<T>(&name, &key, value.as_slice())
        })
    }

    fn step_stored(&mut self, direction: Direction) -> Result<Option<StoredRow<T>>> {
        let name = self.cursor.name.clone();
        self.cursor.step(direction, |key, value| {
            Ok(stored_row::<T>(&name, key, value))
        })
    }
}

impl<T: Table> std::fmt::Debug for Cursor<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Cursor")
            .field("table", &T::NAME)
            .finish_non_exhaustive()
    }
}
