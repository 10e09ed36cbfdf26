//! fjall: batches, each with the journal synced (`PersistMode::SyncData`, which its documentation names for durable ones).

use std::path::Path;

use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Snapshot,
};

use super::{Commit, Engine, Reader, Result, Row, Settings, Table, Writer};

pub struct Fjall {
    database: Database,
    log: Keyspace,
    rows: Keyspace,
}

impl Fjall {
    fn keyspace(&self, table: Table) -> &Keyspace {
        match table {
            Table::Log => &self.log,
            Table::Rows => &self.rows,
        }
    }
}

impl Engine for Fjall {
    const NAME: &'static str = "fjall";
    const SETTINGS: &'static str = "as it comes (LZ4, memtables of 64 MiB), cache as given; write batches with `PersistMode::SyncData`; `start_ingestion` for the sorted load, `major_compact` to compact";

    type Writer<'w> = FjallWriter<'w>;
    type Reader<'r> = FjallReader<'r>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let database = Database::builder(directory)
            .cache_size(settings.cache)
            .open()?;
        let log = database.keyspace("log", KeyspaceCreateOptions::default)?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        Ok(Self {
            database,
            log,
            rows,
        })
    }

    fn write<T>(
        &self,
        _tables: &[Table],
        commit: Commit,
        mut work: impl FnMut(&mut FjallWriter<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut writer = FjallWriter {
            batch: self.database.batch().durability(match commit {
                Commit::Durable => Some(PersistMode::SyncData),
                Commit::Later => None,
            }),
            engine: self,
        };
        let output = work(&mut writer)?;
        writer.batch.commit()?;
        Ok(output)
    }

    fn read<T>(&self, table: Table, work: impl FnOnce(&FjallReader<'_>) -> Result<T>) -> Result<T> {
        work(&FjallReader {
            snapshot: self.database.snapshot(),
            keyspace: self.keyspace(table),
        })
    }

    fn load_sorted(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<()> {
        let mut ingestion = self.rows.start_ingestion()?;
        for (key, value) in rows {
            ingestion.write(key, value)?;
        }
        ingestion.finish()?;
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn compact(self, _directory: &Path) -> Result<()> {
        self.rows.rotate_memtable_and_wait()?;
        self.rows.major_compact()?;
        self.close()
    }

    fn close(self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

pub struct FjallWriter<'t> {
    batch: OwnedWriteBatch,
    engine: &'t Fjall,
}

impl Writer for FjallWriter<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.insert(self.engine.keyspace(table), key, value);
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.batch.remove(self.engine.keyspace(table), key);
        Ok(())
    }
}

pub struct FjallReader<'t> {
    snapshot: Snapshot,
    keyspace: &'t Keyspace,
}

impl Reader for FjallReader<'_> {
    fn get<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self
            .snapshot
            .get(self.keyspace, key)?
            .map(|value| with(&value)))
    }

    fn scan(&self, from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        for row in self.snapshot.range(self.keyspace, from..) {
            let (key, value) = row.into_inner()?;
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}
