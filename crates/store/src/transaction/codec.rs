//! Rows as their types have them, and as bytes.

use std::{
    borrow::{Borrow, Cow},
    ops::{Bound, RangeBounds},
};

use super::{Stored, stored::undecodable, write::Source};
use crate::{
    error::Result,
    tree::{self, KeyRange},
    types::{RowTypes, Value},
};

pub(super) type OwnedKey<T> = <<T as RowTypes>::Key as Value>::Owned;
pub(super) type OwnedValue<T> = <<T as RowTypes>::Value as Value>::Owned;
pub(super) type Row<T> = (OwnedKey<T>, OwnedValue<T>);
pub(super) type StoredRow<T> = (Stored<<T as RowTypes>::Key>, Stored<<T as RowTypes>::Value>);
pub(super) type KeyView<'a, T> = <<T as RowTypes>::Key as Value>::View<'a>;
pub(super) type ValueView<'a, T> = <<T as RowTypes>::Value as Value>::View<'a>;

/// What an encoding of no fixed width is given at first. Most keys fit, and need not be moved as they grow.
const USUAL_LENGTH: usize = 64;

pub(super) fn encode<'v, V: Value>(view: &'v V::View<'_>) -> Cow<'v, [u8]> {
    match V::encoded(view) {
        Some(bytes) => Cow::Borrowed(bytes),
        None => {
            let mut bytes = Vec::with_capacity(V::FIXED_WIDTH.unwrap_or(USUAL_LENGTH));
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

fn decode_key<T: RowTypes>(bytes: &[u8]) -> Result<OwnedKey<T>> {
    T::Key::decode(bytes).map_err(|source| undecodable(T::TABLE, source))
}

pub(super) fn decode_row<T: RowTypes>(key: &[u8], value: &[u8]) -> Result<Row<T>> {
    let key = decode_key::<T>(key)?;
    let value = T::Value::decode(value).map_err(|source| undecodable(T::TABLE, source))?;
    Ok((key, value))
}

/// A row that a walk has come to, in its leaf.
pub(super) struct WalkedRow<'w> {
    pub source: Source<'w>,
    pub row: tree::Row<'w>,
    /// For a key that does not lie in one piece: memory used again and again.
    pub buffer: &'w mut Vec<u8>,
}

impl WalkedRow<'_> {
    /// The encoding of its key.
    #[inline]
    pub fn key(&mut self) -> &[u8] {
        self.row.key_in(self.buffer)
    }

    pub fn decode_key<T: RowTypes>(mut self) -> Result<OwnedKey<T>> {
        decode_key::<T>(self.key())
    }

    pub fn decode<T: RowTypes>(self) -> Result<Row<T>> {
        let value = self.row.value(&self.source)?;
        decode_row::<T>(self.row.key_in(self.buffer), &value)
    }

    pub fn stored<T: RowTypes>(self) -> Result<StoredRow<T>> {
        let (key, value) = self.row.stored(&self.source)?;
        Ok((Stored::of::<T>(key), Stored::of::<T>(value)))
    }
}
