//! LMDB by heed: default syncs, no writable map. Its cache is the system's.

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{
    CommitOrAbort, CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode,
    PutFlags, RoTxn, RwTxn, WithTls,
};

use super::{Commit, Engine, Reader, Result, Row, Settings, Table, Writer};

type Tree = Database<'static, Bytes, Bytes>;

/// Addresses only; the file grows as it is used.
const MAP: usize = 256 << 30;

pub struct Lmdb {
    env: Env<WithTls>,
    log: Tree,
    rows: Tree,
}

impl Lmdb {
    fn tree(&self, table: Table) -> Tree {
        match table {
            Table::Log => self.log,
            Table::Rows => self.rows,
        }
    }

    /// A bulk load in transactions that need not be durable: `MDB_NOSYNC` until the end, which LMDB has in the place of
    /// commits that are durable later.
    fn without_syncs(&self, load: impl FnOnce() -> Result<()>) -> Result<()> {
        #[allow(
            unsafe_code,
            reason = "heed asks for it: a crash here may leave a file that cannot be used"
        )]
        let switch = |mode| unsafe { self.env.set_flags(EnvFlags::NO_SYNC, mode) };
        switch(FlagSetMode::Enable)?;
        load()?;
        switch(FlagSetMode::Disable)?;
        Ok(self.env.force_sync()?)
    }
}

impl Engine for Lmdb {
    const NAME: &'static str = "LMDB";
    const SETTINGS: &'static str = "as it comes (every commit synced, no `WRITEMAP`); `NOSYNC` during bulk loads with a sync at the end, `APPEND` for sorted ones; cached by the system";

    type Writer<'w> = LmdbWriter<'w>;
    type Reader<'r> = LmdbReader<'r>;

    fn open(directory: &Path, _settings: Settings) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP).max_dbs(2).max_readers(128);
        #[allow(
            unsafe_code,
            reason = "heed asks for it: nobody else changes the file while it is mapped"
        )]
        let env = unsafe { options.open(directory) }?;
        let opened = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let log = opener.create_database::<Bytes, Bytes>(txn, Some("log"))?;
            let rows = opener.create_database::<Bytes, Bytes>(txn, Some("rows"))?;
            heed::Result::Ok(CommitOrAbort::<_, ()>::Commit((log, rows)))
        })?;
        let (log, rows) = opened.commit().ok_or("the tables were not created")?;
        Ok(Self { env, log, rows })
    }

    fn write<T>(
        &self,
        _tables: &[Table],
        commit: Commit,
        mut work: impl FnMut(&mut LmdbWriter<'_>) -> Result<T>,
    ) -> Result<T> {
        // A durable commit, unless the load has switched syncs off.
        let _ = commit;
        let mut writer = LmdbWriter {
            txn: self.env.write_txn()?,
            engine: self,
        };
        let output = work(&mut writer)?;
        writer.txn.commit()?;
        Ok(output)
    }

    fn read<T>(&self, table: Table, work: impl FnOnce(&LmdbReader<'_>) -> Result<T>) -> Result<T> {
        work(&LmdbReader {
            txn: self.env.read_txn()?,
            tree: self.tree(table),
        })
    }

    fn load(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<()> {
        self.without_syncs(|| {
            super::in_transactions(rows, |batch, _| {
                let mut txn = self.env.write_txn()?;
                for (key, value) in batch {
                    self.rows.put(&mut txn, key, value)?;
                }
                Ok(txn.commit()?)
            })
        })
    }

    fn load_sorted(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<()> {
        self.without_syncs(|| {
            super::in_transactions(rows, |batch, _| {
                let mut txn = self.env.write_txn()?;
                for (key, value) in batch {
                    self.rows
                        .put_with_flags(&mut txn, PutFlags::APPEND, key, value)?;
                }
                Ok(txn.commit()?)
            })
        })
    }

    fn compact(self, directory: &Path) -> Result<()> {
        let copy = directory.join("copy.mdb");
        self.env
            .copy_to_path(&copy, CompactionOption::Enabled)?
            .sync_all()?;
        self.close()?;
        std::fs::rename(copy, directory.join("data.mdb"))?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

pub struct LmdbWriter<'t> {
    txn: RwTxn<'t>,
    engine: &'t Lmdb,
}

impl Writer for LmdbWriter<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.engine.tree(table).put(&mut self.txn, key, value)?)
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.engine.tree(table).delete(&mut self.txn, key)?;
        Ok(())
    }

    fn purge(&mut self, from: u64, to: u64) -> Result<()> {
        let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
        let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        self.engine.log.delete_range(&mut self.txn, &range)?;
        Ok(())
    }
}

pub struct LmdbReader<'t> {
    txn: RoTxn<'t, WithTls>,
    tree: Tree,
}

impl Reader for LmdbReader<'_> {
    fn get<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.tree.get(&self.txn, key)?.map(with))
    }

    fn scan(&self, from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let range = (Bound::Included(from), Bound::Unbounded);
        for row in self.tree.range(&self.txn, &range)? {
            let (key, value) = row?;
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }
}
