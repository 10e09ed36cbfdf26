//! Reading a table of several values a key.

use std::{borrow::Borrow, ops::RangeBounds};

use super::{
    super::{Range, TableStatistics, TableView},
    KeyView, MultiCursor, MultiKeys, MultiRange, MultiValues, Pair, ValueView, pair, pairs_between,
    start_of,
};
use crate::{
    error::Result,
    tree::KeyRange,
    types::{MultiTable, Pairs, Prefix, range_of},
};

/// A [`MultiTable`] that is read.
pub struct MultiTableView<'t, T> {
    pairs: TableView<'t, Pairs<T>>,
}

impl<'t, T: MultiTable> MultiTableView<'t, T> {
    pub(super) fn new(pairs: TableView<'t, Pairs<T>>) -> Self {
        Self { pairs }
    }

    /// The values of a key, in their order, from either end.
    ///
    /// # Errors
    ///
    /// None today; reserved. Errors met on the way are items of the iterator.
    pub fn get<'k>(&self, key: impl Borrow<KeyView<'k, T>>) -> Result<MultiValues<'_, T>> {
        let start = start_of::<T>(key.borrow());
        let key_length = start.len();
        let pairs = self.pairs.rows().range(range_of(start));
        Ok(MultiValues::new(pairs, key_length))
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
        let pair = pair::<T>(key.borrow(), value.borrow());
        self.pairs.rows().contains(&pair)
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
        Ok(self.walk(pairs_between::<T, B>(range)))
    }

    /// The pairs whose keys begin with `prefix`, ordered by key and then by value, from either end. See [`Prefix`] for
    /// what a prefix is.
    ///
    /// # Errors
    ///
    /// As for [`range`](Self::range).
    pub fn prefix(&self, prefix: impl Prefix<T::Key>) -> Result<MultiRange<'_, T>> {
        let mut bytes = Vec::new();
        prefix.encode_part_prefix(&mut bytes);
        Ok(self.walk(range_of(bytes)))
    }

    fn walk(&self, range: KeyRange) -> MultiRange<'_, T> {
        Range::new(self.pairs.rows().range(range)).keys()
    }

    /// All pairs, ordered by key and then by value, from either end.
    ///
    /// # Errors
    ///
    /// As for [`range`](Self::range).
    pub fn iter(&self) -> Result<MultiRange<'_, T>> {
        Ok(self.pairs.iter()?.keys())
    }

    /// The keys that have values, each once, in their order. The values between are not walked over: a key costs at most
    /// one page for each level of the tree.
    ///
    /// # Errors
    ///
    /// As for [`range`](Self::range).
    pub fn keys(&self) -> Result<MultiKeys<'_, T>> {
        Ok(MultiKeys::new(self.pairs.cursor()))
    }

    /// The least key with its least value.
    ///
    /// # Errors
    ///
    /// As for [`contains`](Self::contains).
    pub fn first(&self) -> Result<Option<Pair<T>>> {
        self.iter()?.next().transpose()
    }

    /// The greatest key with its greatest value.
    ///
    /// # Errors
    ///
    /// As for [`contains`](Self::contains).
    pub fn last(&self) -> Result<Option<Pair<T>>> {
        self.iter()?.next_back().transpose()
    }

    /// A cursor before the first pair. Costs nothing until it is moved.
    #[must_use]
    pub fn cursor(&self) -> MultiCursor<'_, T> {
        MultiCursor::new(self.pairs.cursor())
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
