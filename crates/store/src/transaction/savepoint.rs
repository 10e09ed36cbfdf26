//! Going back to an earlier state within a write transaction.

use super::{
    WriteTransaction,
    write::{Core, OpenTable},
};
use crate::{
    engine::Groups,
    error::{Error, Result},
    types::GroupSet,
    workspace::SavedPages,
};

/// A state of a write transaction to which it can go back. It costs memory for the private pages of the transaction that
/// are changed afterwards, until it is released or the transaction ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Savepoint {
    /// A number that nothing else has.
    number: u64,
}

/// What a savepoint remembers.
pub(super) struct SavedState {
    number: u64,
    pages: SavedPages,
    groups: Groups,
    tables: Vec<OpenTable>,
    next_table: u32,
    moved_catalogs: GroupSet,
}

impl WriteTransaction {
    /// Remembers the state of the transaction. Savepoints nest. No handle to a table may be alive.
    ///
    /// # Errors
    ///
    /// If the transaction is poisoned. Costs a little for each page that the transaction has in memory, of which there are
    /// no more than a share of the cache.
    ///
    /// ```
    /// use folio_store::{Database, Table};
    ///
    /// struct Stock;
    /// impl Table for Stock {
    ///     const NAME: &'static str = "stock";
    ///     type Key = &'static str;
    ///     type Value = u64;
    /// }
    ///
    /// # fn main() -> folio_store::Result<()> {
    /// let db = Database::in_memory()?;
    /// let mut txn = db.begin_write()?;
    /// txn.table::<Stock>()?.insert("pears", 3)?;
    /// let before = txn.savepoint()?;
    /// txn.table::<Stock>()?.insert("apples", 9)?;
    /// txn.rollback_to(&before)?;
    /// assert_eq!(txn.table::<Stock>()?.len()?, 1);
    /// txn.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn savepoint(&mut self) -> Result<Savepoint> {
        let core = self.core_mut();
        core.check()?;
        let pages = core.workspace.save();
        let number = core.workspace.stamp;
        core.saved.push(SavedState {
            number,
            pages,
            groups: core.groups,
            tables: core.tables.clone(),
            next_table: core.next_table,
            moved_catalogs: core.moved_catalogs,
        });
        Ok(Savepoint { number })
    }

    /// Goes back to a savepoint, which stays; those made after it are gone. Also mends a transaction that an error had
    /// poisoned since, such as one that found no room on the disk; not one in which an operation panicked.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchSavepoint`] if it is not one of this transaction, or is gone; [`Error::Poisoned`] after a panic. Reads
    /// no page.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<()> {
        let core = self.core_mut();
        if core.busy {
            return core.check();
        }
        let index = core.saved_at(savepoint)?;
        core.saved.truncate(index + 1);
        let state = &core.saved[index];
        core.workspace.restore(&state.pages);
        core.groups = state.groups;
        core.tables.clone_from(&state.tables);
        core.next_table = state.next_table;
        core.moved_catalogs = state.moved_catalogs;
        core.poisoned = None;
        Ok(())
    }

    /// Forgets a savepoint and those made after it; what was done since stays.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchSavepoint`] as for [`rollback_to`](Self::rollback_to).
    pub fn release(&mut self, savepoint: Savepoint) -> Result<()> {
        let core = self.core_mut();
        let index = core.saved_at(&savepoint)?;
        core.saved.truncate(index);
        if core.saved.is_empty() {
            core.workspace.forget_saved();
        }
        Ok(())
    }
}

impl Core {
    fn saved_at(&self, savepoint: &Savepoint) -> Result<usize> {
        let number = savepoint.number;
        self.saved
            .iter()
            .position(|state| state.number == number)
            .ok_or(Error::NoSuchSavepoint)
    }
}
