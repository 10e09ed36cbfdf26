//! One row of a table, looked at and then changed.

use std::{borrow::Borrow, marker::PhantomData};

use super::{
    Stored,
    codec::{OwnedValue, ValueView, encode},
    raw::RawMut,
};
use crate::{error::Result, tree::StoredBytes, types::RowTypes};

/// The row of a key, there or not. From [`TableMut::entry`](super::TableMut::entry).
#[derive(Debug)]
pub enum Entry<'e, 't, T: RowTypes> {
    /// There is a row.
    Occupied(OccupiedEntry<'e, 't, T>),
    /// There is none.
    Vacant(VacantEntry<'e, 't, T>),
}

impl<'e, 't, T: RowTypes> Entry<'e, 't, T> {
    pub(super) fn find(rows: &'e mut RawMut<'t>, key: Vec<u8>) -> Result<Self> {
        let found = rows.get(&key)?;
        let place = VacantEntry {
            rows,
            key,
            table: PhantomData,
        };
        Ok(match found {
            Some(bytes) => {
                let stored = Stored::of::<T>(bytes);
                Self::Occupied(OccupiedEntry { place, stored })
            }
            None => Self::Vacant(place),
        })
    }

    /// The value that is there, or else `default`, which is then inserted.
    ///
    /// # Errors
    ///
    /// As for [`TableMut::insert`](super::TableMut::insert).
    pub fn or_insert<'v>(self, default: impl Borrow<ValueView<'v, T>>) -> Result<Stored<T::Value>> {
        self.or_insert_with(|| default)
    }

    /// The value that is there, or else what `default` gives, which is then inserted. `default` is called only if there
    /// is no row.
    ///
    /// # Errors
    ///
    /// As for [`TableMut::insert`](super::TableMut::insert).
    pub fn or_insert_with<'v, D: Borrow<ValueView<'v, T>>>(
        self,
        default: impl FnOnce() -> D,
    ) -> Result<Stored<T::Value>> {
        match self {
            Self::Occupied(entry) => Ok(entry.stored),
            Self::Vacant(entry) => {
                let value = encode::<T::Value>(default().borrow()).into_owned();
                entry.rows.insert(&entry.key, &value)?;
                Ok(Stored::of::<T>(StoredBytes::Owned(value)))
            }
        }
    }
}

/// A row that is there.
pub struct OccupiedEntry<'e, 't, T: RowTypes> {
    place: VacantEntry<'e, 't, T>,
    stored: Stored<T::Value>,
}

impl<T: RowTypes> OccupiedEntry<'_, '_, T> {
    /// Its value.
    ///
    /// # Errors
    ///
    /// If the bytes are not an encoding of the type.
    pub fn get(&self) -> Result<OwnedValue<T>> {
        self.stored.decode()
    }

    /// Its value, not decoded, and not copied where it lies in a page.
    #[must_use]
    pub fn stored(&self) -> &Stored<T::Value> {
        &self.stored
    }

    /// Sets its value. What it had is [`stored`](Self::stored).
    ///
    /// # Errors
    ///
    /// As for [`TableMut::insert`](super::TableMut::insert).
    pub fn insert<'v>(self, value: impl Borrow<ValueView<'v, T>>) -> Result<()> {
        let value = encode::<T::Value>(value.borrow());
        // A page that is held would be copied when it is changed.
        drop(self.stored);
        self.place.rows.insert(&self.place.key, &value)?;
        Ok(())
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// As for [`TableMut::remove`](super::TableMut::remove).
    pub fn remove(self) -> Result<()> {
        drop(self.stored);
        self.place.rows.remove(&self.place.key)?;
        Ok(())
    }
}

impl<T: RowTypes> std::fmt::Debug for OccupiedEntry<'_, '_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("OccupiedEntry")
            .field("key", &self.place.key)
            .field("value", &self.stored)
            .finish()
    }
}

/// The place where a row would be.
pub struct VacantEntry<'e, 't, T: RowTypes> {
    rows: &'e mut RawMut<'t>,
    key: Vec<u8>,
    table: PhantomData<fn() -> T>,
}

impl<T: RowTypes> VacantEntry<'_, '_, T> {
    /// Inserts a row there.
    ///
    /// # Errors
    ///
    /// As for [`TableMut::insert`](super::TableMut::insert).
    pub fn insert<'v>(self, value: impl Borrow<ValueView<'v, T>>) -> Result<()> {
        let value = encode::<T::Value>(value.borrow());
        self.rows.insert(&self.key, &value)?;
        Ok(())
    }
}

impl<T: RowTypes> std::fmt::Debug for VacantEntry<'_, '_, T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("VacantEntry")
            .field("key", &self.key)
            .finish()
    }
}
