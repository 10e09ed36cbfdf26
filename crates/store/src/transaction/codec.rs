//! Rows as their types have them, and as bytes.

use std::{
    borrow::{Borrow, Cow},
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use super::{Stored, stored::undecodable};
use crate::{
    error::Result,
    tree::{KeyRange, StoredBytes},
    types::{RowTypes, Value},
};

pub(super) type OwnedKey<T> = <<T as RowTypes>::Key as Value>::Owned;
pub(super) type OwnedValue<T> = <<T as RowTypes>::Value as Value>::Owned;
pub(super) type Row<T> = (OwnedKey<T>, OwnedValue<T>);
pub(super) type StoredRow<T> = (Stored<<T as RowTypes>::Key>, Stored<<T as RowTypes>::Value>);
pub(super) type KeyView<'a, T> = <<T as RowTypes>::Key as Value>::View<'a>;
pub(super) type ValueView<'a, T> = <<T as RowTypes>::Value as Value>::View<'a>;

pub(super) fn encode<'v, V: Value>(view: &'v V::View<'_>) -> Cow<'v, [u8]> {
    match V::encoded(view) {
        Some(bytes) => Cow::Borrowed(bytes),
        None => {
            let mut bytes = Vec::new();
            V::encode(view, &mut bytes);
            Cow::Owned(bytes)
        }
    }
}

/// The same into memory that is used again and again.
pub(super) fn encode_into<'v, V: Value>(view: &'v V::View<'_>, bytes: &'v mut Vec<u8>) -> &'v [u8] {
    if let Some(encoded) = V::encoded(view) {
        return encoded;
    }
    bytes.clear();
    V::encode(view, bytes);
    bytes
}

pub(super) fn encode_range<'k, T: RowTypes, B: Borrow<KeyView<'k, T>>>(
    range: impl RangeBounds<B>,
) -> KeyRange {
    let bound = |bound: Bound<&B>| bound.map(|key| encode::<T::Key>(key.borrow()).into_owned());
    (bound(range.start_bound()), bound(range.end_bound()))
}

pub(super) fn decode<V: Value>(name: &Arc<str>, bytes: &[u8]) -> Result<V::Owned> {
    V::decode(bytes).map_err(|source| undecodable(name, source))
}

pub(super) fn decode_row<T: RowTypes>(name: &Arc<str>, key: &[u8], value: &[u8]) -> Result<Row<T>> {
    Ok((
        decode::<T::Key>(name, key)?,
        decode::<T::Value>(name, value)?,
    ))
}

pub(super) fn stored_row<T: RowTypes>(
    name: &Arc<str>,
    key: Vec<u8>,
    value: StoredBytes,
) -> StoredRow<T> {
    let key = Stored::new(StoredBytes::Owned(key), name.clone());
    (key, Stored::new(value, name.clone()))
}
