//! What a table of several values a key is.

use std::marker::PhantomData;

use super::{Group, Key, Table};

/// A table that holds for each key a set of values, in their order. A type that is never made a value of.
///
/// In the file it is a plain table whose keys are pairs of key and value, and whose values are empty: [`Pairs`]. So a pair
/// costs what a row costs, a key may have any number of values, and a table of millions of values for one key is as good
/// as one of millions of keys. The limit of keys holds for the pair: what key and value take together, as a tuple
/// ([`Key::encode_part`]), is at most a quarter page less 64 bytes.
///
/// ```
/// use folio_store::{Database, MultiTable};
///
/// struct Tags;
/// impl MultiTable for Tags {
///     const NAME: &'static str = "tags";
///     type Key = u64;
///     type Value = &'static str;
/// }
///
/// # fn main() -> folio_store::Result<()> {
/// let db = Database::in_memory()?;
/// let txn = db.begin_write()?;
/// let mut tags = txn.multi_table::<Tags>()?;
/// assert!(tags.insert(7, "urgent")?);
/// assert!(tags.insert(7, "billing")?);
/// assert!(!tags.insert(7, "urgent")?, "it is there already");
/// let of_seven: Vec<String> = tags.get(7)?.collect::<Result<_, _>>()?;
/// assert_eq!(of_seven, ["billing", "urgent"]);
/// # Ok(())
/// # }
/// ```
pub trait MultiTable: 'static {
    /// What the table is called in the file.
    const NAME: &'static str;

    /// The group it belongs to.
    const GROUP: Group = Group::DEFAULT;

    /// The type of its keys.
    type Key: Key;

    /// The type of its values. They are ordered, so they are keys, too.
    type Value: Key;
}

/// A [`MultiTable`] as the plain table that it is in the file: for its [definition](super::TableDefinition::of), to load
/// it, or to walk it with a cursor.
#[derive(Debug)]
pub struct Pairs<T>(PhantomData<T>);

impl<T: MultiTable> Table for Pairs<T> {
    const NAME: &'static str = T::NAME;
    const GROUP: Group = T::GROUP;
    type Key = (T::Key, T::Value);
    type Value = ();
}
