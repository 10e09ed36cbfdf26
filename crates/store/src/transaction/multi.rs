//! Tables of several values a key: pairs in a plain table.

use std::{
    borrow::Borrow,
    marker::PhantomData,
    ops::{Bound, Deref, RangeBounds},
};

use super::{
    ReadTransaction, TableStatistics, UntypedCursor, UntypedRange, UntypedTableMut,
    UntypedTableView, WriteTransaction, stored::undecodable,
};
use crate::{
    error::Result,
    tree::{Direction, KeyRange},
    types::{DecodeError, Key, MultiTable, Pairs, Table, TableDefinition, Value, range_of},
};

type KeyView<'a, T> = <<T as MultiTable>::Key as Value>::View<'a>;
type ValueView<'a, T> = <<T as MultiTable>::Value as Value>::View<'a>;
type OwnedKey<T> = <<T as MultiTable>::Key as Value>::Owned;
type OwnedValue<T> = <<T as MultiTable>::Value as Value>::Owned;
type Pair<T> = (OwnedKey<T>, OwnedValue<T>);

impl ReadTransaction {
    /// Opens a table of several values a key. One that nobody has created is empty.
    ///
    /// # Errors
    ///
    /// As for [`table`](Self::table).
    pub fn multi_table<T: MultiTable>(&self) -> Result<MultiTableView<'_, T>> {
        let pairs = self.untyped(&TableDefinition::of::<Pairs<T>>())?;
        Ok(MultiTableView::new(pairs))
    }
}

impl WriteTransaction {
    /// Opens a table of several values a key, creating it if there is none of its name.
    ///
    /// # Errors
    ///
    /// As for [`table`](Self::table).
    pub fn multi_table<T: MultiTable>(&self) -> Result<MultiTableMut<'_, T>> {
        let pairs = self.untyped(&TableDefinition::of::<Pairs<T>>())?;
        Ok(MultiTableMut {
            view: MultiTableView::new(pairs.as_view().duplicate()),
            pairs,
        })
    }
}

/// What the pairs of a key begin with. It is the beginning of no other key's.
fn start_of<T: MultiTable>(key: &KeyView<'_, T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    T::Key::encode_part(key, &mut bytes);
    bytes
}

fn pair<T: MultiTable>(key: &KeyView<'_, T>, value: &ValueView<'_, T>) -> Vec<u8> {
    let mut bytes = start_of::<T>(key);
    T::Value::encode_part(value, &mut bytes);
    bytes
}

/// Behind all pairs of a key.
fn behind<T: MultiTable>(key: &KeyView<'_, T>) -> Bound<Vec<u8>> {
    range_of(start_of::<T>(key)).1
}

fn pairs_between<'k, T: MultiTable, B: Borrow<KeyView<'k, T>>>(
    range: impl RangeBounds<B>,
) -> KeyRange {
    let start = match range.start_bound() {
        Bound::Included(key) => Bound::Included(start_of::<T>(key.borrow())),
        Bound::Excluded(key) => match behind::<T>(key.borrow()) {
            Bound::Excluded(next) | Bound::Included(next) => Bound::Included(next),
            // No key comes behind this one.
            Bound::Unbounded => {
                let key = start_of::<T>(key.borrow());
                return (Bound::Excluded(key.clone()), Bound::Excluded(key));
            }
        },
        Bound::Unbounded => Bound::Unbounded,
    };
    let end = match range.end_bound() {
        Bound::Included(key) => behind::<T>(key.borrow()),
        Bound::Excluded(key) => Bound::Excluded(start_of::<T>(key.borrow())),
        Bound::Unbounded => Bound::Unbounded,
    };
    (start, end)
}

/// A [`MultiTable`] that is read.
pub struct MultiTableView<'t, T> {
    pairs: UntypedTableView<'t>,
    table: PhantomData<fn() -> T>,
}

impl<'t, T: MultiTable> MultiTableView<'t, T> {
    fn new(pairs: UntypedTableView<'t>) -> Self {
        Self {
            pairs,
            table: PhantomData,
        }
    }

    /// The values of a key, in their order, from either end.
    ///
    /// # Errors
    ///
    /// None today; reserved. Errors met on the way are items of the iterator.
    pub fn get<'k>(&self, key: impl Borrow<KeyView<'k, T>>) -> Result<MultiValues<'_, T>> {
        let start = start_of::<T>(key.borrow());
        Ok(MultiValues {
            key_length: start.len(),
            pairs: self.pairs.range_owned(range_of(start)),
            table: PhantomData,
        })
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or is damaged; the same goes for every method here. Costs one page for each level of the
    /// tree.
    pub fn contains<'k, 'v>(
        &self,
        key: impl Borrow<KeyView<'k, T>>,
        value: impl Borrow<ValueView<'v, T>>,
    ) -> Result<bool> {
        self.pairs
            .contains_key(&pair::<T>(key.borrow(), value.borrow()))
    }

    /// Whether a key has any value.
    ///
    /// # Errors
    ///
    /// As for [`contains`](Self::contains).
    pub fn contains_key<'k>(&self, key: impl Borrow<KeyView<'k, T>>) -> Result<bool> {
        Ok(self.get(key)?.next().transpose()?.is_some())
    }

    /// The pairs whose keys lie in a range, ordered by key and then by value, from either end.
    ///
    /// # Errors
    ///
    /// None today; reserved. Errors met on the way are items of the iterator.
    pub fn range<'k, B: Borrow<KeyView<'k, T>>>(
        &self,
        range: impl RangeBounds<B>,
    ) -> Result<MultiRange<'_, T>> {
        Ok(MultiRange {
            pairs: self.pairs.range_owned(pairs_between::<T, B>(range)),
            table: PhantomData,
        })
    }

    /// All pairs, ordered by key and then by value, from either end.
    ///
    /// # Errors
    ///
    /// As for [`range`](Self::range).
    pub fn iter(&self) -> Result<MultiRange<'_, T>> {
        Ok(MultiRange {
            pairs: self.pairs.iter(),
            table: PhantomData,
        })
    }

    /// The keys that have values, each once, in their order. The values between are not walked over: a key costs at most
    /// one page for each level of the tree.
    ///
    /// # Errors
    ///
    /// As for [`range`](Self::range).
    pub fn keys(&self) -> Result<MultiKeys<'_, T>> {
        Ok(MultiKeys {
            cursor: self.pairs.cursor(),
            name: self.pairs.name.clone(),
            done: false,
            table: PhantomData,
        })
    }

    /// The number of pairs. O(1).
    ///
    /// # Errors
    ///
    /// As for [`contains`](Self::contains).
    pub fn len(&self) -> Result<u64> {
        self.pairs.len()
    }

    /// Whether no key has a value. O(1).
    ///
    /// # Errors
    ///
    /// As for [`contains`](Self::contains).
    pub fn is_empty(&self) -> Result<bool> {
        self.pairs.is_empty()
    }

    /// What the table takes in the file.
    ///
    /// # Errors
    ///
    /// As for [`contains`](Self::contains). Reads every page of the tree.
    pub fn statistics(&self) -> Result<TableStatistics> {
        self.pairs.statistics()
    }
}

impl<T: MultiTable> std::fmt::Debug for MultiTableView<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MultiTableView")
            .field("name", &T::NAME)
            .finish_non_exhaustive()
    }
}

/// A [`MultiTable`] of a write transaction. Reads like a [`MultiTableView`] and sees its own writes.
pub struct MultiTableMut<'t, T> {
    view: MultiTableView<'t, T>,
    pairs: UntypedTableMut<'t>,
}

impl<T: MultiTable> MultiTableMut<'_, T> {
    /// Gives a key a value. False if it had that value already.
    ///
    /// # Errors
    ///
    /// If key and value together are too long, nothing happens. If a page cannot be read or written, the transaction is
    /// poisoned.
    pub fn insert<'k, 'v>(
        &mut self,
        key: impl Borrow<KeyView<'k, T>>,
        value: impl Borrow<ValueView<'v, T>>,
    ) -> Result<bool> {
        let pair = pair::<T>(key.borrow(), value.borrow());
        Ok(!self.pairs.insert(&pair, &[])?)
    }

    /// Takes a value from a key. False if it did not have that value.
    ///
    /// # Errors
    ///
    /// If a page cannot be read or written; the transaction is then poisoned.
    pub fn remove<'k, 'v>(
        &mut self,
        key: impl Borrow<KeyView<'k, T>>,
        value: impl Borrow<ValueView<'v, T>>,
    ) -> Result<bool> {
        self.pairs.remove(&pair::<T>(key.borrow(), value.borrow()))
    }

    /// Takes all values from a key; gives back how many there were. Leaves full of them are given up without being read.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn remove_all<'k>(&mut self, key: impl Borrow<KeyView<'k, T>>) -> Result<u64> {
        let values = range_of(start_of::<T>(key.borrow()));
        self.pairs.remove_range_owned(&values)
    }

    /// Removes the pairs whose keys lie in a range; gives back how many there were. Leaves wholly inside are given up
    /// without being read.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn remove_range<'k, B: Borrow<KeyView<'k, T>>>(
        &mut self,
        range: impl RangeBounds<B>,
    ) -> Result<u64> {
        self.pairs.remove_range_owned(&pairs_between::<T, B>(range))
    }

    /// Removes all pairs; gives back how many there were. Costs a read for each branch page.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn clear(&mut self) -> Result<u64> {
        self.pairs.clear()
    }

    /// Keeps the pairs for which `keep` is true and removes the others; gives back how many went.
    ///
    /// # Errors
    ///
    /// As for [`TableMut::retain`](super::TableMut::retain).
    pub fn retain(
        &mut self,
        mut keep: impl FnMut(&OwnedKey<T>, &OwnedValue<T>) -> bool,
    ) -> Result<u64> {
        let name = self.view.pairs.name.clone();
        let everything = (Bound::Unbounded, Bound::Unbounded);
        self.pairs.extract(everything).run(|bytes, _| {
            let pair = decode_pair::<T>(&bytes).map_err(|source| undecodable(&name, source))?;
            Ok((!keep(&pair.0, &pair.1)).then_some(()))
        })
    }
}

impl<'t, T> Deref for MultiTableMut<'t, T> {
    type Target = MultiTableView<'t, T>;

    fn deref(&self) -> &Self::Target {
        &self.view
    }
}

impl<T: MultiTable> std::fmt::Debug for MultiTableMut<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MultiTableMut")
            .field("name", &T::NAME)
            .finish_non_exhaustive()
    }
}

fn decode_pair<T: MultiTable>(bytes: &[u8]) -> Result<Pair<T>, DecodeError> {
    <Pairs<T> as Table>::Key::decode(bytes)
}

/// The values of one key. An error is an item, and then there are no more.
pub struct MultiValues<'t, T> {
    pairs: UntypedRange<'t>,
    /// How many bytes of each pair are the key's.
    key_length: usize,
    table: PhantomData<fn() -> T>,
}

impl<T: MultiTable> MultiValues<'_, T> {
    fn step(&mut self, direction: Direction) -> Option<Result<OwnedValue<T>>> {
        let (name, key_length) = (self.pairs.name.clone(), self.key_length);
        self.pairs.step_key(direction, |bytes| {
            let mut rest = bytes.get(key_length..).unwrap_or_default();
            let value = T::Value::decode_part(&mut rest).and_then(|value| match rest.len() {
                0 => Ok(value),
                count => Err(DecodeError::trailing::<T::Value>(count)),
            });
            value.map_err(|source| undecodable(&name, source))
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

/// Pairs of a key and one of its values. An error is an item, and then there are no more.
pub struct MultiRange<'t, T> {
    pairs: UntypedRange<'t>,
    table: PhantomData<fn() -> T>,
}

impl<T: MultiTable> MultiRange<'_, T> {
    fn step(&mut self, direction: Direction) -> Option<Result<Pair<T>>> {
        let name = self.pairs.name.clone();
        self.pairs.step_key(direction, |bytes| {
            decode_pair::<T>(bytes).map_err(|source| undecodable(&name, source))
        })
    }
}

impl<T: MultiTable> Iterator for MultiRange<'_, T> {
    type Item = Result<(OwnedKey<T>, OwnedValue<T>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward)
    }
}

impl<T: MultiTable> DoubleEndedIterator for MultiRange<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Backward)
    }
}

impl<T: MultiTable> std::iter::FusedIterator for MultiRange<'_, T> {}

impl<T: MultiTable> std::fmt::Debug for MultiRange<'_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MultiRange")
            .field("table", &T::NAME)
            .finish_non_exhaustive()
    }
}

/// The keys of a [`MultiTable`], each once. An error is an item, and then there are no more.
pub struct MultiKeys<'t, T> {
    cursor: UntypedCursor<'t>,
    name: std::sync::Arc<str>,
    done: bool,
    table: PhantomData<fn() -> T>,
}

impl<T: MultiTable> MultiKeys<'_, T> {
    fn step(&mut self) -> Result<Option<OwnedKey<T>>> {
        let Some(pair) = self.cursor.next_key()? else {
            return Ok(None);
        };
        let mut rest = pair.as_slice();
        let key =
            T::Key::decode_part(&mut rest).map_err(|source| undecodable(&self.name, source))?;
        let start = pair[..pair.len() - rest.len()].to_vec();
        match range_of(start).1 {
            Bound::Included(next) | Bound::Excluded(next) => self.cursor.seek(&next)?,
            Bound::Unbounded => self.cursor.seek_end(),
        }
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
