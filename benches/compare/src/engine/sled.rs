//! sled: batches, then `flush`, the most that it offers.

use std::path::Path;

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};
use sled::{Batch, Config, Db, Tree};

use super::{Commit, Engine, Reader, Result, Settings, Table, Writer};

pub struct Sled {
    database: Db,
    log: Tree,
    rows: Tree,
}

impl Engine for Sled {
    const NAME: &'static str = "sled";
    const SETTINGS: &'static str = "as it comes, cache as given; batches and `flush`, which on Linux calls `sync_file_range` and does not flush the device: **less durable than the others**, so its durable figures are out of competition";

    type Writer<'w> = SledWriter;
    type Reader<'r> = &'r Tree;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let database = Config::default()
            .path(directory)
            .cache_capacity(settings.cache)
            .open()?;
        let log = database.open_tree("log")?;
        let rows = database.open_tree("rows")?;
        Ok(Self {
            database,
            log,
            rows,
        })
    }

    fn write<T>(
        &self,
        tables: &[Table],
        commit: Commit,
        mut work: impl FnMut(&mut SledWriter) -> Result<T>,
    ) -> Result<T> {
        let mut writer = SledWriter::default();
        let output = work(&mut writer)?;
        match tables {
            [Table::Log] => self.log.apply_batch(writer.log)?,
            [Table::Rows] => self.rows.apply_batch(writer.rows)?,
            _ => (&self.log, &self.rows)
                .transaction(|(log, rows)| {
                    log.apply_batch(&writer.log)?;
                    rows.apply_batch(&writer.rows)?;
                    Ok::<_, ConflictableTransactionError<()>>(())
                })
                .map_err(|error: TransactionError<()>| format!("{error:?}"))?,
        }
        if commit == Commit::Durable {
            self.database.flush()?;
        }
        Ok(output)
    }

    fn read<T>(&self, table: Table, work: impl FnOnce(&&Tree) -> Result<T>) -> Result<T> {
        work(&match table {
            Table::Log => &self.log,
            Table::Rows => &self.rows,
        })
    }

    fn compact(self, _directory: &Path) -> Result<()> {
        // It cleans up by itself; there is no call.
        self.close()
    }

    fn close(self) -> Result<()> {
        self.database.flush()?;
        Ok(())
    }
}

#[derive(Default)]
pub struct SledWriter {
    log: Batch,
    rows: Batch,
}

impl SledWriter {
    fn batch(&mut self, table: Table) -> &mut Batch {
        match table {
            Table::Log => &mut self.log,
            Table::Rows => &mut self.rows,
        }
    }
}

impl Writer for SledWriter {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch(table).insert(key, value);
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.batch(table).remove(key);
        Ok(())
    }
}

impl Reader for &Tree {
    fn get<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(Tree::get(self, key)?.map(|value| with(&value)))
    }

    fn scan(&self, from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        for row in self.range(from..) {
            let (key, value) = row?;
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}
