//! canopydb: a write-ahead log with checkpoints in the background, its default.

use std::path::Path;

use canopydb::{Database, DbOptions, EnvOptions, Error as CanopyError, Tree};

use super::{Commit, Engine, Reader, Result, Settings, Table, Writer};

pub struct Canopy {
    database: Database,
}

fn name(table: Table) -> &'static [u8] {
    match table {
        Table::Log => b"log",
        Table::Rows => b"rows",
    }
}

impl Canopy {
    fn transact<T>(
        &self,
        tables: &[Table],
        sync: bool,
        concurrent: bool,
        mut work: impl FnMut(&mut CanopyWriter<'_>) -> Result<T>,
    ) -> Result<T> {
        loop {
            let txn = self.database.begin_write_with(concurrent)?;
            let output = {
                let open = |table| {
                    tables
                        .contains(&table)
                        .then(|| txn.get_or_create_tree(name(table)))
                        .transpose()
                };
                let mut writer = CanopyWriter {
                    log: open(Table::Log)?,
                    rows: open(Table::Rows)?,
                };
                work(&mut writer)?
            };
            match txn.commit_with(sync) {
                Err(CanopyError::WriteConflict) if concurrent => {}
                committed => return committed.map(|_| output).map_err(Into::into),
            }
        }
    }
}

impl Engine for Canopy {
    const NAME: &'static str = "canopydb";
    const SETTINGS: &'static str = "as it comes (log, checkpoints of 64 MB), cache as given, `commit_with(true)`; `commit_with(false)` for all but the last transaction of a bulk load; concurrent transactions where threads write";

    type Writer<'w> = CanopyWriter<'w>;
    type Reader<'r> = CanopyReader<'r>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let mut options = EnvOptions::new(directory);
        options.page_cache_size = settings.cache as usize;
        let database = Database::with_options(options, DbOptions::default())?;
        let engine = Self { database };
        engine.write(&[Table::Log, Table::Rows], Commit::Durable, |_| Ok(()))?;
        Ok(engine)
    }

    fn write<T>(
        &self,
        tables: &[Table],
        commit: Commit,
        work: impl FnMut(&mut CanopyWriter<'_>) -> Result<T>,
    ) -> Result<T> {
        self.transact(tables, commit == Commit::Durable, false, work)
    }

    fn write_beside_others<T>(
        &self,
        tables: &[Table],
        work: impl FnMut(&mut CanopyWriter<'_>) -> Result<T>,
    ) -> Result<T> {
        self.transact(tables, true, true, work)
    }

    fn read<T>(
        &self,
        table: Table,
        work: impl FnOnce(&CanopyReader<'_>) -> Result<T>,
    ) -> Result<T> {
        let txn = self.database.begin_read()?;
        let tree = txn.get_tree(name(table))?.ok_or("no such tree")?;
        work(&CanopyReader(tree))
    }

    fn compact(self, _directory: &Path) -> Result<()> {
        self.database.compact()?;
        self.close()
    }

    fn close(self) -> Result<()> {
        // So that the next opening has nothing to replay, as with the others that end in order.
        self.database.checkpoint()?;
        Ok(())
    }
}

pub struct CanopyWriter<'t> {
    log: Option<Tree<'t>>,
    rows: Option<Tree<'t>>,
}

impl<'t> CanopyWriter<'t> {
    fn tree(&mut self, table: Table) -> Result<&mut Tree<'t>> {
        Ok(match table {
            Table::Log => self.log.as_mut(),
            Table::Rows => self.rows.as_mut(),
        }
        .ok_or("not open")?)
    }
}

impl Writer for CanopyWriter<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.tree(table)?.insert(key, value)?)
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.tree(table)?.delete(key)?;
        Ok(())
    }

    fn purge(&mut self, from: u64, to: u64) -> Result<()> {
        self.tree(Table::Log)?
            .delete_range(from.to_be_bytes()..to.to_be_bytes())?;
        Ok(())
    }
}

pub struct CanopyReader<'t>(Tree<'t>);

impl Reader for CanopyReader<'_> {
    fn get<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.0.get(key)?.map(|value| with(&value)))
    }

    fn scan(&self, from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        for row in self.0.range(from..)? {
            let (key, value) = row?;
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}
