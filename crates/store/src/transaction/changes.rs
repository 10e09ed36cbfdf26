//! What of a table was changed since a transaction.

use std::ops::RangeBounds;

use super::{TableView, codec::encode_range, write::Source};
use crate::{
    error::Result,
    tree::{self, read_value},
    types::Untyped,
};

/// A part of a table, as [`TableView::changes_since`] gives them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The rows from the key `first` to the key `last` are those that were there before, and there are no others between
    /// them.
    Kept {
        /// The key of the first row.
        first: Vec<u8>,
        /// The key of the last row.
        last: Vec<u8>,
        /// How many there are.
        rows: u64,
    },
    /// A row that may be new or changed.
    Row {
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
}

/// The parts of a table in order of key. An error is an item, and then there are no more.
pub struct Changes<'t> {
    changes: tree::Changes<Source<'t>>,
    name: super::name::TableName,
    done: bool,
}

impl Iterator for Changes<'_> {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let source = *self.changes.source();
        let next = self.changes.next().and_then(|change| {
            Ok(match change {
                None => None,
                Some(tree::Change::Kept { first, last, rows }) => {
                    Some(Change::Kept { first, last, rows })
                }
                Some(tree::Change::Row(row)) => Some(Change::Row {
                    key: row.key(),
                    value: read_value(&source, row.leaf, row.index)?
                        .as_slice()
                        .to_vec(),
                }),
            })
        });
        self.done = !matches!(next, Ok(Some(_)));
        next.map_err(|error| error.in_table(&self.name)).transpose()
    }
}

impl std::iter::FusedIterator for Changes<'_> {}

impl std::fmt::Debug for Changes<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Changes")
            .field("table", &self.name)
            .finish_non_exhaustive()
    }
}

impl TableView<'_, Untyped> {
    /// The whole table in order of key, where rows that nobody has changed after the transaction of that
    /// [number](crate::ReadTransaction::number) are told of by their ends and their number.
    ///
    /// So it brings any copy of the table as it was at the end of that transaction, *or at any time between then and
    /// now*, to what the table is now: what lies in none of the parts is removed from the copy, and the rows are put. If
    /// the copy has more rows in a part that is kept than there are, it is no such copy, or some were removed with their
    /// whole page: in both cases it needs the whole table.
    ///
    /// It knows what was changed by the pages that were written, so rows beside changed ones come, too. And it knows
    /// nothing of tables that were given other rows as a whole, by
    /// [`replace_table`](crate::WriteTransaction::replace_table),
    /// [`rename_table`](crate::WriteTransaction::rename_table) or by going back to a savepoint: after these, ask for
    /// nothing older.
    ///
    /// ```
    /// # use folio_store::{Change, Database, Table, TableDefinition};
    /// # struct Visits;
    /// # impl Table for Visits {
    /// #     const NAME: &'static str = "visits";
    /// #     type Key = u64;
    /// #     type Value = u64;
    /// # }
    /// # fn main() -> folio_store::Result<()> {
    /// # let db = Database::in_memory()?;
    /// let txn = db.begin_write()?;
    /// for day in 0..10_000 {
    ///     txn.table::<Visits>()?.insert(day, 1)?;
    /// }
    /// txn.commit()?;
    /// let before = db.begin_read()?.number();
    ///
    /// let txn = db.begin_write()?;
    /// txn.table::<Visits>()?.insert(5_000, 2)?;
    /// txn.commit()?;
    /// let view = db.begin_read()?;
    /// let visits = view.untyped(&TableDefinition::of::<Visits>())?;
    /// let mut kept = 0;
    /// for change in visits.changes_since(before) {
    ///     if let Change::Kept { rows, .. } = change? {
    ///         kept += rows;
    ///     }
    /// }
    /// assert!(kept > 9_000); // what came as rows is one page of them
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those met on the way are items. Costs a read of each page written since, and two ways down the tree for each run of
    /// older ones.
    #[must_use]
    pub fn changes_since(&self, transaction: u64) -> Changes<'_> {
        let rows = self.rows();
        Changes {
            changes: tree::Changes::new(rows.source, rows.root(), transaction),
            name: rows.name.clone(),
            done: false,
        }
    }

    /// The number of rows whose keys lie in a range. Costs two ways down the tree, however many there are.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn count<'k>(&self, range: impl RangeBounds<&'k [u8]>) -> Result<u64> {
        let rows = self.rows();
        let range = encode_range::<Untyped, &[u8]>(range);
        rows.named(rows.root().count(&rows.source, &range))
    }
}
