//! Walks over a table of several values a key.

use std::{borrow::Borrow, marker::PhantomData, ops::Bound};

use super::{
    super::{Cursor, raw::RawRange, stored::undecodable},
    KeyView, OwnedKey, OwnedValue, Pair, ValueView, pair, start_of,
};
use crate::{
    error::Result,
    tree::Direction,
    types::{DecodeError, Key, MultiTable, Pairs, range_of},
};

/// The values of one key. An error is an item, and then there are no more.
pub struct MultiValues<'t, T> {
    pairs: RawRange<'t>,
    /// How many bytes of each pair are the key's.
    key_length: usize,
    table: PhantomData<fn() -> T>,
}

impl<'t, T: MultiTable> MultiValues<'t, T> {
    pub(super) fn new(pairs: RawRange<'t>, key_length: usize) -> Self {
        Self {
            pairs,
            key_length,
            table: PhantomData,
        }
    }

    fn step(&mut self, direction: Direction) -> Option<Result<OwnedValue<T>>> {
        let key_length = self.key_length;
        self.pairs.step(direction, |mut row| {
            let mut rest = row.key().get(key_length..).unwrap_or_default();
            let value = T::Value::decode_part(&mut rest).and_then(|value| match rest.len() {
                0 => Ok(value),
                count => Err(DecodeError::trailing::<T::Value>(count)),
            });
            value.map_err(|source| undecodable(T::NAME, source))
        })
    }
}

impl<T: MultiTable> Iterator for MultiValues<'_, T> {
    type Item = Result<OwnedValue<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward)
    }
}

impl<T: MultiTable> DoubleEndedIterator for MultiValues<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Backward)
    }
}

impl<T: MultiTable> std::iter::FusedIterator for MultiValues<'_, T> {}

impl<T: MultiTable> std::fmt::Debug for MultiValues<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MultiValues")
            .field("table", &T::NAME)
            .finish_non_exhaustive()
    }
}

/// Goes behind all pairs that begin with these bytes.
fn seek_behind<T: MultiTable>(cursor: &mut Cursor<'_, Pairs<T>>, start: Vec<u8>) -> Result<()> {
    match range_of(start).1 {
        Bound::Included(next) | Bound::Excluded(next) => cursor.seek_to(&next, false),
        Bound::Unbounded => {
            cursor.seek_end();
            Ok(())
        }
    }
}

/// The keys of a [`MultiTable`], each once. An error is an item, and then there are no more.
pub struct MultiKeys<'t, T> {
    cursor: Cursor<'t, Pairs<T>>,
    done: bool,
}

impl<'t, T: MultiTable> MultiKeys<'t, T> {
    pub(super) fn new(cursor: Cursor<'t, Pairs<T>>) -> Self {
        Self {
            cursor,
            done: false,
        }
    }

    fn step(&mut self) -> Result<Option<OwnedKey<T>>> {
        let Some(pair) = self.cursor.next_key()? else {
            return Ok(None);
        };
        let mut rest = pair.as_slice();
        let key = T::Key::decode_part(&mut rest).map_err(|source| undecodable(T::NAME, source))?;
        let start = pair[..pair.len() - rest.len()].to_vec();
        seek_behind(&mut self.cursor, start)?;
        Ok(Some(key))
    }
}

impl<T: MultiTable> Iterator for MultiKeys<'_, T> {
    type Item = Result<OwnedKey<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step();
        self.done = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

impl<T: MultiTable> std::iter::FusedIterator for MultiKeys<'_, T> {}

impl<T: MultiTable> std::fmt::Debug for MultiKeys<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MultiKeys")
            .field("table", &T::NAME)
            .finish_non_exhaustive()
    }
}

/// A place in a [`MultiTable`]: before the first pair of a key and one of its values, between two, or behind the last.
/// It moves as a [`Cursor`] does.
///
/// ```
/// # use folio_store::{Database, MultiTable};
/// # struct Tags;
/// # impl MultiTable for Tags {
/// #     const NAME: &'static str = "tags";
/// #     type Key = &'static str;
/// #     type Value = u64;
/// # }
/// # fn main() -> folio_store::Result<()> {
/// # let db = Database::in_memory()?;
/// # let txn = db.begin_write()?;
/// # let mut tags = txn.multi_table::<Tags>()?;
/// for (tag, page) in [("rust", 3), ("rust", 9), ("tree", 4)] {
///     tags.insert(tag, page)?;
/// }
/// let mut cursor = tags.cursor();
/// cursor.seek_pair("rust", 5)?;
/// assert_eq!(cursor.next()?, Some(("rust".to_owned(), 9)));
/// cursor.seek("rust")?;
/// assert_eq!(cursor.next()?, Some(("rust".to_owned(), 3)));
/// cursor.seek_after("rust")?;
/// assert_eq!(cursor.next()?, Some(("tree".to_owned(), 4)));
/// # Ok(())
/// # }
/// ```
pub struct MultiCursor<'t, T: MultiTable> {
    cursor: Cursor<'t, Pairs<T>>,
}

impl<'t, T: MultiTable> MultiCursor<'t, T> {
    pub(super) fn new(cursor: Cursor<'t, Pairs<T>>) -> Self {
        Self { cursor }
    }

    /// Goes to the place before the first value of `key` or, if it has none, of the next greater key.
    ///
    /// # Errors
    ///
    /// As for [`Cursor::seek`]; the same goes for every method here.
    pub fn seek<'k>(&mut self, key: impl Borrow<KeyView<'k, T>>) -> Result<()> {
        self.cursor.seek_to(&start_of::<T>(key.borrow()), false)
    }

    /// Goes to the place behind the last value of `key`: before those of the next greater key.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    pub fn seek_after<'k>(&mut self, key: impl Borrow<KeyView<'k, T>>) -> Result<()> {
        seek_behind(&mut self.cursor, start_of::<T>(key.borrow()))
    }

    /// Goes to the place before the pair of `key` and `value` or, if there is none, before the next greater one.
    ///
    /// # Errors
    ///
    /// As for [`seek`](Self::seek).
    pub fn seek_pair<'k, 'v>(
        &mut self,
        key: impl Borrow<KeyView<'k, T>>,
        value: impl Borrow<ValueView<'v, T>>,
    ) -> Result<()> {
        let pair = pair::<T>(key.borrow(), value.borrow());
        self.cursor.seek_to(&pair, false)
    }

    /// Goes to the place before the first pair.
    pub fn seek_start(&mut self) {
        self.cursor.seek_start();
    }

    /// Goes to the place behind the last pair.
    pub fn seek_end(&mut self) {
        self.cursor.seek_end();
    }

    /// Goes over the next pair and gives it back; `None` at the end.
    ///
    /// # Errors
    ///
    /// As for [`Cursor::next`].
    #[expect(
        clippy::should_implement_trait,
        reason = "it goes both ways and may fail"
    )]
    pub fn next(&mut self) -> Result<Option<Pair<T>>> {
        Ok(self.cursor.next()?.map(|(pair, ())| pair))
    }

    /// Goes back over the pair before and gives it back; `None` at the start.
    ///
    /// # Errors
    ///
    /// As for [`Cursor::next`].
    pub fn prev(&mut self) -> Result<Option<Pair<T>>> {
        Ok(self.cursor.prev()?.map(|(pair, ())| pair))
    }
}

impl<T: MultiTable> std::fmt::Debug for MultiCursor<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("MultiCursor")
            .field(&self.cursor)
            .finish()
    }
}
