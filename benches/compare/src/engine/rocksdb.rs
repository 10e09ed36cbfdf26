//! RocksDB: write batches, the log synced with every durable one.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, Direction,
    IngestExternalFileOptions, IteratorMode, Options, ReadOptions, SnapshotWithThreadMode,
    SstFileWriter, WriteBatch, WriteOptions,
};

use super::{Commit, Engine, Reader, Result, Row, Settings, Table, Writer};

pub struct Rocks {
    database: DB,
    sorted: std::path::PathBuf,
}

fn name(table: Table) -> &'static str {
    match table {
        Table::Log => "log",
        Table::Rows => "rows",
    }
}

impl Rocks {
    fn family(&self, table: Table) -> Result<&ColumnFamily> {
        Ok(self
            .database
            .cf_handle(name(table))
            .ok_or("no such column family")?)
    }
}

impl Engine for Rocks {
    const NAME: &'static str = "RocksDB";
    const SETTINGS: &'static str = "built without compression, bloom filters of 10 bits, cache as given, `sync` write batches; an ingested table file for the sorted load, `compact_range` to compact";

    type Writer<'w> = RocksWriter<'w>;
    type Reader<'r> = RocksReader<'r>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(settings.cache as usize));
        blocks.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_block_based_table_factory(&blocks);
        let families =
            ["log", "rows"].map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
        Ok(Self {
            database: DB::open_cf_descriptors(&options, directory.join("data"), families)?,
            sorted: directory.join("sorted"),
        })
    }

    fn write<T>(
        &self,
        _tables: &[Table],
        commit: Commit,
        mut work: impl FnMut(&mut RocksWriter<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut writer = RocksWriter {
            batch: WriteBatch::default(),
            engine: self,
        };
        let output = work(&mut writer)?;
        let mut options = WriteOptions::default();
        options.set_sync(commit == Commit::Durable);
        self.database.write_opt(&writer.batch, &options)?;
        Ok(output)
    }

    fn read<T>(&self, table: Table, work: impl FnOnce(&RocksReader<'_>) -> Result<T>) -> Result<T> {
        work(&RocksReader {
            snapshot: self.database.snapshot(),
            family: self.family(table)?,
        })
    }

    fn load_sorted(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<()> {
        let options = Options::default();
        let mut file = SstFileWriter::create(&options);
        file.open(&self.sorted)?;
        for (key, value) in rows {
            file.put(key, value)?;
        }
        file.finish()?;
        let mut moving = IngestExternalFileOptions::default();
        moving.set_move_files(true);
        let family = self.family(Table::Rows)?;
        Ok(self
            .database
            .ingest_external_file_cf_opts(family, &moving, vec![&self.sorted])?)
    }

    fn compact(self, _directory: &Path) -> Result<()> {
        let family = self.family(Table::Rows)?;
        self.database.flush_cf(family)?;
        self.database
            .compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
        self.close()
    }

    fn close(self) -> Result<()> {
        Ok(self.database.flush_wal(true)?)
    }
}

pub struct RocksWriter<'t> {
    batch: WriteBatch,
    engine: &'t Rocks,
}

impl Writer for RocksWriter<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.put_cf(self.engine.family(table)?, key, value);
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.batch.delete_cf(self.engine.family(table)?, key);
        Ok(())
    }

    fn purge(&mut self, from: u64, to: u64) -> Result<()> {
        let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
        self.batch
            .delete_range_cf(self.engine.family(Table::Log)?, from, to);
        Ok(())
    }
}

pub struct RocksReader<'t> {
    snapshot: SnapshotWithThreadMode<'t, DB>,
    family: &'t ColumnFamily,
}

impl Reader for RocksReader<'_> {
    fn get<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let found = self
            .snapshot
            .get_pinned_cf_opt(self.family, key, ReadOptions::default())?;
        Ok(found.map(|value| with(&value)))
    }

    fn scan(&self, from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let mode = IteratorMode::From(from, Direction::Forward);
        for row in self.snapshot.iterator_cf(self.family, mode) {
            let (key, value) = row?;
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}
