//! Cursors: places in a table that can be moved in both directions and to any key.

use std::{borrow::Borrow, marker::PhantomData};

use super::{
    codec::{KeyView, Row, StoredRow, WalkedRow, encode},
    name::TableName,
    write::Source,
};
use crate::{
    error::Result,
    tree::{Direction, Seeker},
    types::RowTypes,
};

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
    seeker: Seeker<Source<'t>>,
    name: TableName,
    buffer: Vec<u8>,
    table: PhantomData<fn() -> T>,
}

impl<'t, T: RowTypes> Cursor<'t, T> {
    pub(super) fn new(seeker: Seeker<Source<'t>>, name: TableName) -> Self {
        Self {
            seeker,
            name,
            buffer: Vec::new(),
            table: PhantomData,
        }
    }

    /// Goes to the place before the first row whose key has this encoding or a greater one, or behind that row.
    pub(super) fn seek_to(&mut self, key: &[u8], behind: bool) -> Result<()> {
        let result = self.seeker.seek(key, behind);
        result.map_err(|error| error.in_table(&self.name))
    }

    /// Goes to the place before the first row whose key is `key` or greater.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or is damaged; the cursor is then where it was.
    pub fn seek<'k>(&mut self, key: impl Borrow<KeyView<'k, T>>) -> Result<()> {
        self.seek_to(&encode::<T::Key>(key.borrow()), false)
    }

    /// Goes to the place before the first row whose key is greater than `key`.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    pub fn seek_after<'k>(&mut self, key: impl Borrow<KeyView<'k, T>>) -> Result<()> {
        self.seek_to(&encode::<T::Key>(key.borrow()), true)
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
    /// As for [`seek`](Self::seek); or the row is not an encoding of the table's types, and the cursor has gone over it.
    #[expect(
        clippy::should_implement_trait,
        reason = "it goes both ways and may fail"
    )]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Row<T>>> {
        self.step(Direction::Forward, |row| row.decode::<T>())
    }

    /// Goes back over the row before and gives it back; `None` at the start.
    ///
    /// # Errors
    ///
    /// As for [`next`](Self::next).
    pub fn prev(&mut self) -> Result<Option<Row<T>>> {
        self.step(Direction::Backward, |row| row.decode::<T>())
    }

    /// As [`next`](Self::next), not decoded, and the value not copied where it lies in a page.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    pub fn next_stored(&mut self) -> Result<Option<StoredRow<T>>> {
        self.step(Direction::Forward, |row| row.stored::<T>())
    }

    /// As [`prev`](Self::prev), not decoded, and the value not copied where it lies in a page.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    pub fn prev_stored(&mut self) -> Result<Option<StoredRow<T>>> {
        self.step(Direction::Backward, |row| row.stored::<T>())
    }

    /// The encoding of the next key, over whose row the cursor goes. A long value is not read.
    pub(super) fn next_key(&mut self) -> Result<Option<Vec<u8>>> {
        self.step(Direction::Forward, |mut row| Ok(row.key().to_vec()))
    }

    fn step<R>(
        &mut self,
        direction: Direction,
        read: impl FnOnce(WalkedRow<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        let source = *self.seeker.source();
        let buffer = &mut self.buffer;
        let row = self.seeker.step(direction);
        let read = |row| {
            read(WalkedRow {
                source,
                row,
                buffer,
            })
        };
        let result = row.and_then(|row| row.map(read).transpose());
        result.map_err(|error| error.in_table(&self.name))
    }
}

impl<T: RowTypes> std::fmt::Debug for Cursor<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Cursor")
            .field("table", &self.name)
            .finish_non_exhaustive()
    }
}
