//! Views.

use std::sync::Arc;

use super::{TableView, name::TableName, raw::RawView};
use crate::{
    catalog,
    engine::{Engine, Groups, Handle},
    error::Result,
    page::{PageBytes, PageRef},
    pager::{PageSource, Pager},
    tree::TreeRoot,
    types::{Group, Table, TableDefinition, Untyped},
};

/// A view: the whole database as it was when the view was opened, whatever is committed meanwhile.
///
/// A view owns its database, may move to another thread and be shared between threads, and waits for nobody. While it
/// lives, the pages of its state are not used again, so a view kept for long makes the file grow.
pub struct ReadTransaction {
    handle: Arc<Handle>,
    /// The number under which it is registered.
    registered: u64,
    transaction: u64,
    groups: Groups,
}

impl ReadTransaction {
    pub(crate) fn begin(handle: &Arc<Handle>) -> Result<Self> {
        let (transaction, groups) = handle.engine().open_view()?;
        Ok(Self {
            handle: handle.clone(),
            registered: transaction,
            transaction,
            groups,
        })
    }

    pub(crate) fn begin_at(handle: &Arc<Handle>, savepoint: &str) -> Result<Self> {
        let (registered, transaction, groups) = handle.engine().open_savepoint_view(savepoint)?;
        Ok(Self {
            handle: handle.clone(),
            registered,
            transaction,
            groups,
        })
    }

    /// The number of the transaction that the view shows.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.transaction
    }

    /// Opens a table. One that nobody has created is empty.
    ///
    /// # Errors
    ///
    /// If the file holds the table with other types, or its catalog cannot be read. Costs one lookup in the catalog.
    pub fn table<T: Table>(&self) -> Result<TableView<'_, T>> {
        let name = TableName::Constant(T::NAME);
        Ok(TableView::new(
            self.rows(&TableDefinition::of::<T>(), name)?,
        ))
    }

    /// Opens a table by its definition, to read keys and values as bytes.
    ///
    /// # Errors
    ///
    /// As for [`table`](Self::table).
    pub fn untyped(&self, table: &TableDefinition) -> Result<TableView<'_, Untyped>> {
        let name = TableName::Counted(table.name.as_str().into());
        Ok(TableView::new(self.rows(table, name)?))
    }

    fn rows(&self, table: &TableDefinition, name: TableName) -> Result<RawView<'_>> {
        let record = catalog::find(self.engine(), self.catalog(table.group), &table.name)?;
        let root = match record {
            Some(record) => {
                record.check(&self.engine().pager.file, table)?;
                record.root
            }
            None => TreeRoot::EMPTY,
        };
        Ok(RawView::of_view(self, root, name))
    }

    /// The tables of all groups, by group and name.
    ///
    /// # Errors
    ///
    /// If a catalog cannot be read.
    pub fn tables(&self) -> Result<Vec<TableDefinition>> {
        let mut tables = Vec::new();
        for group in crate::types::GroupSet::ALL {
            for (name, record) in catalog::list(self.engine(), self.catalog(group))? {
                tables.push(record.definition(name, group));
            }
        }
        Ok(tables)
    }

    pub(super) fn engine(&self) -> &Engine {
        self.handle.engine()
    }

    fn catalog(&self, group: Group) -> TreeRoot {
        self.groups[usize::from(group.index())]
    }
}

impl Drop for ReadTransaction {
    fn drop(&mut self) {
        self.engine().close_view(self.registered);
    }
}

impl std::fmt::Debug for ReadTransaction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ReadTransaction")
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}

impl PageSource for Engine {
    fn pager(&self) -> &Pager {
        &self.pager
    }

    fn visit<R>(&self, at: PageRef, visit: impl FnOnce(&PageBytes) -> R) -> Result<R> {
        self.pager.visit(at, visit)
    }
}
