//! inferadb-ledger-store: its tables for the Raft log and for entities.

use std::path::Path;

use inferadb_ledger_store::tables::{Entities, RaftLog};
use inferadb_ledger_store::{
    Database, DatabaseConfig, FileBackend, ReadTransaction, TableId, WriteTransaction,
};

use super::{Commit, Engine, Reader, Result, Settings, Table, Writer};

pub struct Inferadb {
    database: Database<FileBackend>,
}

fn id(table: Table) -> TableId {
    match table {
        Table::Log => TableId::RaftLog,
        Table::Rows => TableId::Entities,
    }
}

impl Engine for Inferadb {
    const NAME: &'static str = "inferadb-ledger-store";
    const SETTINGS: &'static str = "as it comes (`sync_on_commit`), cache as given; every commit is durable, those of a bulk load too, since a file is opened one way or the other; `compact_all_tables` to compact";

    type Writer<'w> = WriteTransaction<'w, FileBackend>;
    type Reader<'r> = InferadbReader<'r>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let file = directory.join("data.db");
        let config = DatabaseConfig {
            cache_size: (settings.cache / 4096) as usize,
            ..DatabaseConfig::default()
        };
        let database = if file.exists() {
            Database::open_with_config(file, config)?
        } else {
            Database::create_with_config(file, config)?
        };
        Ok(Self { database })
    }

    fn write<T>(
        &self,
        _tables: &[Table],
        _commit: Commit,
        mut work: impl FnMut(&mut Self::Writer<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut txn = self.database.write()?;
        let output = work(&mut txn)?;
        txn.commit()?;
        Ok(output)
    }

    fn read<T>(
        &self,
        table: Table,
        work: impl FnOnce(&Self::Reader<'_>) -> Result<T>,
    ) -> Result<T> {
        work(&InferadbReader {
            txn: self.database.read()?,
            table,
        })
    }

    fn compact(self, _directory: &Path) -> Result<()> {
        let mut txn = self.database.write()?;
        // Leaves that are less full than this are merged, so that as many as can be are.
        txn.compact_all_tables(1.0)?;
        txn.commit()?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

impl Writer for WriteTransaction<'_, FileBackend> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.insert_raw(id(table), key, value)?)
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.delete_raw(id(table), key)?;
        Ok(())
    }
}

pub struct InferadbReader<'t> {
    txn: ReadTransaction<'t, FileBackend>,
    table: Table,
}

impl Reader for InferadbReader<'_> {
    fn get<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self
            .txn
            .get_raw(id(self.table), key)?
            .map(|value| with(&value)))
    }

    fn scan(&self, from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        match self.table {
            Table::Log => {
                let mut rows = self.txn.iter::<RaftLog>()?;
                while let Some((key, value)) = rows.next_entry()? {
                    if key.as_slice() >= from && !each(&key, &value) {
                        break;
                    }
                }
            }
            Table::Rows => {
                let mut rows = self.txn.range::<Entities>(Some(&from.to_vec()), None)?;
                while let Some((key, value)) = rows.next_entry()? {
                    if !each(&key, &value) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}
