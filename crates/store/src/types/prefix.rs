//! Beginnings of keys, which stand for all keys that begin with them.

use std::ops::Bound;

use super::{Key, escape};
use crate::tree::KeyRange;

/// What a key of type `K` can begin with. [`TableView::prefix`](crate::TableView::prefix) takes one.
///
/// | keys | prefixes |
/// |---|---|
/// | `&'static str` | `&str` |
/// | `&'static [u8]`, `[u8; N]` | `&[u8]` |
/// | `(A, B, C)` | `(a,)` and `(a, b)`: elements as they are passed in a key |
/// | the same | [`Beginning`]`((a, ..))`: the first element whole, then a prefix of the second |
pub trait Prefix<K: Key> {
    /// Appends what the encodings of exactly those keys begin with that begin with this.
    fn encode_prefix(&self, out: &mut Vec<u8>);

    /// The same for keys inside a tuple: what their [parts](Key::encode_part) begin with. By default that is the same,
    /// which is right for tuples and for keys of a fixed width.
    fn encode_part_prefix(&self, out: &mut Vec<u8>) {
        self.encode_prefix(out);
    }
}

/// A [`Prefix`] of tuples that ends inside an element: the last element here is a prefix of that one.
///
/// ```
/// use folio_store::{Beginning, Database, Table};
///
/// struct Files; // by folder and name
/// impl Table for Files {
///     const NAME: &'static str = "files";
///     type Key = (u64, &'static str);
///     type Value = ();
/// }
///
/// # fn main() -> folio_store::Result<()> {
/// let db = Database::in_memory()?;
/// let txn = db.begin_write()?;
/// let mut files = txn.table::<Files>()?;
/// for key in [(1, "index"), (2, "image"), (2, "index"), (2, "notes")] {
///     files.insert(key, ())?;
/// }
/// assert_eq!(files.prefix((2,))?.count(), 3);
/// assert_eq!(files.prefix(Beginning((2, "i")))?.count(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beginning<P>(pub P);

impl Prefix<&'static str> for &str {
    fn encode_prefix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn encode_part_prefix(&self, out: &mut Vec<u8>) {
        escape::escape_beginning(self.as_bytes(), out);
    }
}

impl Prefix<&'static [u8]> for &[u8] {
    fn encode_prefix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn encode_part_prefix(&self, out: &mut Vec<u8>) {
        escape::escape_beginning(self, out);
    }
}

impl<const N: usize> Prefix<[u8; N]> for &[u8] {
    fn encode_prefix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// The byte strings that begin with `prefix`.
pub(crate) fn range_of(prefix: Vec<u8>) -> KeyRange {
    let mut end = prefix.clone();
    // The least string greater than all of them: the last byte that can be counted up is.
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return (Bound::Included(prefix), Bound::Excluded(end));
        }
    }
    (Bound::Included(prefix), Bound::Unbounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_string_that_does_not_have_it() {
        let end = |prefix: &[u8]| range_of(prefix.to_vec()).1;
        assert_eq!(end(b"ab"), Bound::Excluded(b"ac".to_vec()));
        assert_eq!(end(b"a\xFF\xFF"), Bound::Excluded(b"b".to_vec()));
        assert_eq!(end(b"\xFF"), Bound::Unbounded);
        assert_eq!(end(b""), Bound::Unbounded);
    }
}
