//! Tables of several values a key: pairs in a plain table.

mod table;
mod view;
mod walks;

use std::{
    borrow::Borrow,
    ops::{Bound, RangeBounds},
};

pub use self::{
    table::MultiTableMut,
    view::MultiTableView,
    walks::{MultiCursor, MultiKeys, MultiValues},
};
use super::{Keys, ReadTransaction, WriteTransaction};
use crate::{
    error::Result,
    tree::KeyRange,
    types::{Key, MultiTable, Pairs, Value, range_of},
};

type KeyView<'a, T> = <<T as MultiTable>::Key as Value>::View<'a>;
type ValueView<'a, T> = <<T as MultiTable>::Value as Value>::View<'a>;
type OwnedKey<T> = <<T as MultiTable>::Key as Value>::Owned;
type OwnedValue<T> = <<T as MultiTable>::Value as Value>::Owned;
type Pair<T> = (OwnedKey<T>, OwnedValue<T>);

/// Pairs of a key and one of its values. An error is an item, and then there are no more.
pub type MultiRange<'t, T> = Keys<'t, Pairs<T>>;

impl ReadTransaction {
    /// Opens a table of several values a key. One that nobody has created is empty.
    ///
    /// # Errors
    ///
    /// As for [`table`](Self::table).
    pub fn multi_table<T: MultiTable>(&self) -> Result<MultiTableView<'_, T>> {
        Ok(MultiTableView::new(self.table()?))
    }
}

impl WriteTransaction {
    /// Opens a table of several values a key, creating it if there is none of its name.
    ///
    /// # Errors
    ///
    /// As for [`table`](Self::table).
    pub fn multi_table<T: MultiTable>(&self) -> Result<MultiTableMut<'_, T>> {
        Ok(MultiTableMut::new(self.table()?))
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
