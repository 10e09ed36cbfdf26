//! Values as they are stored.

use std::marker::PhantomData;

use crate::{
    error::{Error, Result},
    tree::StoredBytes,
    types::{BorrowedValue, DecodeError, RowTypes, Value},
};

/// A value as the table holds it: not decoded, and not copied where it lies in a page.
///
/// While it lives, it keeps its page in memory.
pub struct Stored<V> {
    bytes: StoredBytes,
    /// The name of the table. Thin, because rows are moved about.
    table: &'static &'static str,
    value: PhantomData<fn() -> V>,
}

impl<V: Value> Stored<V> {
    pub(super) fn of<T: RowTypes>(bytes: StoredBytes) -> Self {
        Self {
            bytes,
            table: const { &T::TABLE },
            value: PhantomData,
        }
    }

    /// The encoded value.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// The value, as one of its own.
    ///
    /// # Errors
    ///
    /// If the bytes are not an encoding of the type.
    pub fn decode(&self) -> Result<V::Owned> {
        V::decode(self.bytes()).map_err(|source| undecodable(self.table, source))
    }

    /// The value, borrowed.
    ///
    /// # Errors
    ///
    /// If the bytes are not an encoding of the type.
    pub fn view(&self) -> Result<V::View<'_>>
    where
        V: BorrowedValue,
    {
        V::view(self.bytes()).map_err(|source| undecodable(self.table, source))
    }
}

impl<V> std::fmt::Debug for Stored<V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Stored")
            .field("bytes", &self.bytes.as_slice())
            .finish_non_exhaustive()
    }
}

pub(super) fn undecodable(table: &str, source: DecodeError) -> Error {
    Error::Decode {
        table: table.into(),
        source,
    }
}
