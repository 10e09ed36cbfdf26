//! Changing a table of several values a key.

use std::{
    borrow::Borrow,
    iter::FusedIterator,
    ops::{Deref, RangeBounds},
};

use super::{
    super::{ExtractIf, TableMut},
    KeyView, MultiTableView, OwnedKey, OwnedValue, Pair, ValueView, pair, pairs_between, start_of,
};
use crate::{
    error::Result,
    types::{MultiTable, Pairs, range_of},
};

/// A [`MultiTable`] of a write transaction. Reads like a [`MultiTableView`] and sees its own writes.
pub struct MultiTableMut<'t, T> {
    view: MultiTableView<'t, T>,
    pairs: TableMut<'t, Pairs<T>>,
}

impl<'t, T: MultiTable> MultiTableMut<'t, T> {
    pub(super) fn new(pairs: TableMut<'t, Pairs<T>>) -> Self {
        Self {
            view: MultiTableView::new(pairs.duplicate_view()),
            pairs,
        }
    }

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
        Ok(self.pairs.rows_mut().insert(&pair, &[])?.is_none())
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
        let pair = pair::<T>(key.borrow(), value.borrow());
        Ok(self.pairs.rows_mut().remove(&pair)?.is_some())
    }

    /// Takes all values from a key; gives back how many there were. Leaves full of them are given up without being read.
    ///
    /// # Errors
    ///
    /// As for [`remove`](Self::remove).
    pub fn remove_all<'k>(&mut self, key: impl Borrow<KeyView<'k, T>>) -> Result<u64> {
        let values = range_of(start_of::<T>(key.borrow()));
        self.pairs.rows_mut().remove_range(&values)
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
        self.pairs
            .rows_mut()
            .remove_range(&pairs_between::<T, B>(range))
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
    /// As for [`TableMut::retain`].
    pub fn retain(
        &mut self,
        mut keep: impl FnMut(&OwnedKey<T>, &OwnedValue<T>) -> bool,
    ) -> Result<u64> {
        self.pairs.retain(|(key, value), ()| keep(key, value))
    }

    /// Removes the least pair and gives it back.
    ///
    /// # Errors
    ///
    /// As for [`TableMut::pop_first`].
    pub fn pop_first(&mut self) -> Result<Option<Pair<T>>> {
        Ok(self.pairs.pop_first()?.map(|(pair, ())| pair))
    }

    /// Removes the greatest pair and gives it back.
    ///
    /// # Errors
    ///
    /// As for [`TableMut::pop_first`].
    pub fn pop_last(&mut self) -> Result<Option<Pair<T>>> {
        Ok(self.pairs.pop_last()?.map(|(pair, ())| pair))
    }

    /// Removes the pairs for which `choose` is true, of those whose keys lie in a range, and gives them back one by one.
    /// Pairs that the iterator has not come to stay.
    ///
    /// # Errors
    ///
    /// As for [`TableMut::extract_if`].
    pub fn extract_if<'k, B, F>(
        &mut self,
        range: impl RangeBounds<B>,
        mut choose: F,
    ) -> Result<impl FusedIterator<Item = Result<Pair<T>>>>
    where
        B: Borrow<KeyView<'k, T>>,
        F: FnMut(&OwnedKey<T>, &OwnedValue<T>) -> bool,
    {
        let pairs = self.pairs.rows_mut().extract(pairs_between::<T, B>(range));
        let chosen = ExtractIf::<Pairs<T>, _>::new(pairs, move |pair: &Pair<T>, (): &()| {
            choose(&pair.0, &pair.1)
        });
        Ok(chosen.map(|row| row.map(|(pair, ())| pair)))
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
