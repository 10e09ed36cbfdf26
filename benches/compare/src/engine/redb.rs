//! redb: one commit phase, the default; `Durability::None` where a later commit covers it.

use std::path::Path;

use redb::{
    Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, Table as RedbTable,
    TableDefinition,
};

use super::{Commit, Engine, Reader, Result, Settings, Table, Writer};

const LOG: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("log");
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

pub struct Redb {
    database: Database,
}

impl Engine for Redb {
    const NAME: &'static str = "redb";
    const SETTINGS: &'static str = "as it comes (one-phase commits, no quick repair), cache as given; `Durability::None` for all but the last transaction of a bulk load";

    type Writer<'w> = RedbWriter<'w>;
    type Reader<'r> = ReadOnlyTable<&'static [u8], &'static [u8]>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let database = Builder::new()
            .set_cache_size(settings.cache as usize)
            .create(directory.join("data.redb"))?;
        if database.begin_read()?.open_table(ROWS).is_err() {
            let txn = database.begin_write()?;
            txn.open_table(LOG)?;
            txn.open_table(ROWS)?;
            txn.commit()?;
        }
        Ok(Self { database })
    }

    fn write<T>(
        &self,
        tables: &[Table],
        commit: Commit,
        mut work: impl FnMut(&mut RedbWriter<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut txn = self.database.begin_write()?;
        if commit == Commit::Later {
            txn.set_durability(Durability::None)?;
        }
        let output = {
            let open = |table, definition| {
                tables
                    .contains(&table)
                    .then(|| txn.open_table(definition))
                    .transpose()
            };
            let mut writer = RedbWriter {
                log: open(Table::Log, LOG)?,
                rows: open(Table::Rows, ROWS)?,
            };
            work(&mut writer)?
        };
        txn.commit()?;
        Ok(output)
    }

    fn read<T>(
        &self,
        table: Table,
        work: impl FnOnce(&Self::Reader<'_>) -> Result<T>,
    ) -> Result<T> {
        let txn = self.database.begin_read()?;
        work(&txn.open_table(match table {
            Table::Log => LOG,
            Table::Rows => ROWS,
        })?)
    }

    fn compact(mut self, _directory: &Path) -> Result<()> {
        while self.database.compact()? {}
        self.close()
    }

    fn close(self) -> Result<()> {
        Ok(self.database.close()?)
    }
}

pub struct RedbWriter<'t> {
    log: Option<RedbTable<'t, &'static [u8], &'static [u8]>>,
    rows: Option<RedbTable<'t, &'static [u8], &'static [u8]>>,
}

impl<'t> RedbWriter<'t> {
    fn table(&mut self, table: Table) -> Result<&mut RedbTable<'t, &'static [u8], &'static [u8]>> {
        Ok(match table {
            Table::Log => self.log.as_mut(),
            Table::Rows => self.rows.as_mut(),
        }
        .ok_or("not open")?)
    }
}

impl Writer for RedbWriter<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.table(table)?.insert(key, value)?;
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.table(table)?.remove(key)?;
        Ok(())
    }

    fn purge(&mut self, from: u64, to: u64) -> Result<()> {
        let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
        self.table(Table::Log)?
            .retain_in(&from[..]..&to[..], |_, _| false)?;
        Ok(())
    }
}

impl Reader for ReadOnlyTable<&'static [u8], &'static [u8]> {
    fn get<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(ReadOnlyTable::get(self, key)?.map(|value| with(value.value())))
    }

    fn scan(&self, from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        for row in self.range(from..)? {
            let (key, value) = row?;
            if !each(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }
}
