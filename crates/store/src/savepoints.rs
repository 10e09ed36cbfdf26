//! Named states that outlive their transaction and the process.

use crate::{database::Database, error::Result, space::SavepointRow, transaction::ReadTransaction};

/// A named state of the database: see [`Database::create_savepoint`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PersistentSavepoint {
    /// Its name.
    pub name: String,
    /// The newest transaction of its state.
    pub transaction: u64,
}

impl From<SavepointRow> for PersistentSavepoint {
    fn from(row: SavepointRow) -> Self {
        Self {
            name: row.name,
            transaction: row.transaction,
        }
    }
}

/// How many pages a savepoint keeps from being used again: see [`Database::savepoint_pages`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SavepointPages {
    /// The savepoint.
    pub savepoint: PersistentSavepoint,
    /// Pages that would be free if it were released.
    pub alone: u64,
    /// Further pages that no newer state has, and that would be free if the older savepoints were released as well.
    pub with_older: u64,
}

/// Savepoints that outlive their transaction. Those within a transaction are
/// [`WriteTransaction::savepoint`](crate::WriteTransaction::savepoint).
impl Database {
    /// Makes everything durable, and gives this state a name under which it can be [looked at](Self::begin_read_at) and
    /// [gone back to](Self::restore_savepoint) until it is [released](Self::release_savepoint): by this process or a later
    /// one. Waits for the writer.
    ///
    /// A savepoint keeps the pages of its state from being used again. Keeping them costs nothing but their place: no
    /// transaction reads or writes more because of it. But what it keeps is not freed when rows are removed, so with a
    /// savepoint removing rows makes no room on a full disk; releasing the savepoint does, and the room that this takes
    /// is kept back.
    ///
    /// Opening a file with savepoints reads their list as well, and a file that has never had one is opened as before.
    /// Versions of Folio that do not know of savepoints refuse a file that has had one, by
    /// [`Error::NewerFormat`](crate::Error::NewerFormat).
    ///
    /// # Errors
    ///
    /// [`Error::SavepointExists`](crate::Error::SavepointExists);
    /// [`Error::Configuration`](crate::Error::Configuration) if the name has not 1 to 255 bytes or there are 1,024
    /// savepoints; [`Error::Full`](crate::Error::Full) if the disk has no room for what must be kept back; and as for a
    /// durable commit. Costs one flush, and one sync more for the first one of a file.
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
    /// let set = |count: u64| {
    ///     let txn = db.begin_write()?;
    ///     txn.table::<Stock>()?.insert("apples", count)?;
    ///     txn.commit()
    /// };
    /// set(12)?;
    /// db.create_savepoint("before the upgrade")?;
    /// set(0)?;
    ///
    /// let before = db.begin_read_at("before the upgrade")?;
    /// assert_eq!(before.table::<Stock>()?.get("apples")?, Some(12));
    ///
    /// db.restore_savepoint("before the upgrade")?;
    /// db.release_savepoint("before the upgrade")?;
    /// let now = db.begin_read()?;
    /// assert_eq!(now.table::<Stock>()?.get("apples")?, Some(12));
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_savepoint(&self, name: &str) -> Result<PersistentSavepoint> {
        let row = self.handle().engine().create_savepoint(name)?;
        Ok(row.into())
    }

    /// The savepoints of the file, oldest first. Reads nothing. Waits while one is made or ended.
    ///
    /// # Errors
    ///
    /// If the database was closed.
    pub fn savepoints(&self) -> Result<Vec<PersistentSavepoint>> {
        let rows = self.handle().engine().savepoints()?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// What each savepoint keeps, oldest first: the answer to why a file is so large. All numbers together are what the
    /// savepoints keep together.
    ///
    /// Others may read and commit meanwhile. Costs a read for each branch page, and each leaf with long values, that was
    /// changed since the oldest savepoint.
    ///
    /// # Errors
    ///
    /// If the database was closed or a page cannot be read.
    pub fn savepoint_pages(&self) -> Result<Vec<SavepointPages>> {
        let kept = self.handle().engine().savepoint_pages()?;
        let public = kept.into_iter().map(|kept| SavepointPages {
            savepoint: kept.savepoint.into(),
            alone: kept.alone,
            with_older: kept.shared,
        });
        Ok(public.collect())
    }

    /// Opens a view of a savepoint. It stays as it is even if the savepoint is released.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSavepoint`](crate::Error::UnknownSavepoint), and if the database was closed. Reads nothing.
    pub fn begin_read_at(&self, savepoint: &str) -> Result<ReadTransaction> {
        ReadTransaction::begin_at(self.handle(), savepoint)
    }

    /// Makes the state of a savepoint the newest state, in one durable transaction, whose number it gives back. The
    /// savepoint stays; those made after it are gone. Views stay what they are. If it fails, or the process ends before
    /// it returns, everything is as it was or restored as a whole. Waits for the writer.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSavepoint`](crate::Error::UnknownSavepoint), if a page cannot be read, and as for a durable
    /// commit. Costs a read for each branch page, and each leaf with long values, that was written since the savepoint
    /// and is still in use, and a flush.
    pub fn restore_savepoint(&self, name: &str) -> Result<u64> {
        self.handle().engine().restore_savepoint(name)
    }

    /// Ends a savepoint, durably. The pages that it alone kept are free then, or when the last view of them is gone.
    /// Waits for the writer.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSavepoint`](crate::Error::UnknownSavepoint), if a page cannot be read, and as for a durable
    /// commit. Costs a read for each branch page, and each leaf with long values, that was changed between the savepoint
    /// and the next one or the newest state, and a flush.
    pub fn release_savepoint(&self, name: &str) -> Result<()> {
        self.handle().engine().release_savepoint(name)
    }
}
