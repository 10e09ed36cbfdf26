//! Folio, as `folio-raft` uses it: log and state in groups of their own, the state made durable by checkpoints of a thread.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use folio_store::{
    Builder, CompactOptions, Database, Durability, Group, Table as FolioTable, TableMut, TableView,
};

use super::{Change, Commit, Counted, Engine, Reader, Result, Row, Settings, Table, Writer};

const STATE: Group = Group::new(2);

pub struct Log;
impl FolioTable for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(1);
    type Key = &'static [u8];
    type Value = &'static [u8];
}

pub struct Rows;
impl FolioTable for Rows {
    const NAME: &'static str = "rows";
    const GROUP: Group = STATE;
    type Key = &'static [u8];
    type Value = &'static [u8];
}

/// The last entry that the rows contain; one row.
struct Applied;
impl FolioTable for Applied {
    const NAME: &'static str = "applied";
    const GROUP: Group = STATE;
    type Key = ();
    type Value = u64;
}

pub struct Folio {
    database: Database,
    settings: Settings,
    checkpointer: Mutex<Checkpointer>,
}

/// The thread that makes checkpoints, and how far it is.
struct Checkpointer {
    /// The last entry that a checkpoint was asked for.
    asked: u64,
    /// The last entry that one covers.
    done: Arc<AtomicU64>,
    thread: Option<(SyncSender<u64>, JoinHandle<Result<()>>)>,
}

impl Checkpointer {
    /// Asks for a checkpoint when half as many entries as may be applied again are not in one, and waits for the one that
    /// is under way when it is all of them.
    fn applied(&mut self, entry: u64, replay: u64, database: &Database) -> Result<()> {
        if entry - self.asked < replay / 2 {
            return Ok(());
        }
        let (sender, _) = self.thread.get_or_insert_with(|| {
            let (sender, receiver) = sync_channel::<u64>(0);
            let (database, done) = (database.clone(), self.done.clone());
            let thread = std::thread::spawn(move || {
                while let Ok(entry) = receiver.recv() {
                    database.checkpoint(STATE.into())?;
                    done.store(entry, Ordering::Release);
                }
                Ok(())
            });
            (sender, thread)
        });
        if entry - self.done.load(Ordering::Acquire) >= replay {
            sender.send(entry)?;
            self.asked = entry;
        } else if sender.try_send(entry).is_ok() {
            self.asked = entry;
        }
        Ok(())
    }
}

impl Engine for Folio {
    const NAME: &'static str = "Folio";
    const SETTINGS: &'static str = "as it comes, cache as given; log and rows in two groups, the rows eventual with checkpoints where a load says so";

    type Writer<'w> = FolioWriter<'w>;
    type Reader<'r> = TableReader<'r>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let database = Builder::default()
            .cache_size(settings.cache as usize)
            .open_or_create(directory.join("data.folio"))?;
        let txn = database.begin_write()?;
        txn.table::<Log>()?;
        txn.table::<Rows>()?;
        let applied = txn.table::<Applied>()?.get(())?.unwrap_or(0);
        txn.commit()?;
        Ok(Self {
            database,
            settings,
            checkpointer: Mutex::new(Checkpointer {
                asked: applied,
                done: Arc::new(AtomicU64::new(applied)),
                thread: None,
            }),
        })
    }

    fn write<T>(
        &self,
        tables: &[Table],
        commit: Commit,
        mut work: impl FnMut(&mut FolioWriter<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(match commit {
            Commit::Durable => Durability::Immediate,
            Commit::Later => Durability::Eventual,
        });
        let output = {
            let mut writer = FolioWriter {
                log: tables
                    .contains(&Table::Log)
                    .then(|| txn.table())
                    .transpose()?,
                rows: tables
                    .contains(&Table::Rows)
                    .then(|| txn.table())
                    .transpose()?,
            };
            work(&mut writer)?
        };
        txn.commit()?;
        Ok(output)
    }

    fn read<T>(&self, table: Table, work: impl FnOnce(&TableReader<'_>) -> Result<T>) -> Result<T> {
        let view = self.database.begin_read()?;
        match table {
            Table::Log => work(&TableReader::Log(view.table()?)),
            Table::Rows => work(&TableReader::Rows(view.table()?)),
        }
    }

    fn append_and_apply(&self, changes: &[Change]) -> Result<()> {
        self.write(&[Table::Log], Commit::Durable, |writer| {
            changes
                .iter()
                .try_for_each(|change| writer.put(Table::Log, &change.index, &change.entry))
        })?;
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        {
            let mut rows = txn.table::<Rows>()?;
            for change in changes {
                rows.insert(&change.key[..], &change.value[..])?;
            }
        }
        let last = changes
            .last()
            .map_or(0, |change| u64::from_be_bytes(change.index));
        txn.table::<Applied>()?.insert((), last)?;
        txn.commit()?;
        self.checkpointer
            .lock()
            .map_err(|_| "a thread panicked")?
            .applied(last, self.settings.replay, &self.database)
    }

    fn recover(&self, row: impl Fn(&[u8]) -> Result<Row>) -> Result<u64> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        let mut replayed = 0;
        {
            let mut rows = txn.table::<Rows>()?;
            let mut applied = txn.table::<Applied>()?;
            let from = applied.get(())?.map_or(0, |index| index + 1);
            let mut last = None;
            for found in txn
                .table::<Log>()?
                .range(&from.to_be_bytes()[..]..)?
                .stored()
            {
                let (key, value) = found?;
                let (row_key, row_value) = row(value.bytes())?;
                rows.insert(&row_key[..], &row_value[..])?;
                last = key
                    .bytes()
                    .first_chunk()
                    .map(|index| u64::from_be_bytes(*index));
                replayed += 1;
            }
            if let Some(last) = last {
                applied.insert((), last)?;
            }
        }
        txn.commit()?;
        Ok(replayed)
    }

    fn load_sorted(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<()> {
        let txn = self.database.begin_write()?;
        {
            let mut table = txn.table::<Rows>()?;
            let mut loader = table.loader()?;
            for (key, value) in rows {
                loader.push(&key[..], &value[..])?;
            }
            loader.finish()?;
        }
        txn.commit()?;
        Ok(())
    }

    fn compact(self, _directory: &Path) -> Result<()> {
        self.database.compact(CompactOptions::default(), |_, _| {
            std::ops::ControlFlow::Continue(())
        })?;
        self.close()
    }

    fn close(self) -> Result<()> {
        let checkpointer = self
            .checkpointer
            .into_inner()
            .map_err(|_| "a thread panicked")?;
        if let Some((sender, thread)) = checkpointer.thread {
            drop(sender);
            thread
                .join()
                .map_err(|_| "the checkpoint thread panicked")??;
        }
        self.database.close()?;
        Ok(())
    }

    fn counted(&self) -> Option<Counted> {
        let statistics = self.database.statistics();
        Some(Counted {
            pages: statistics.pages_written,
            flushes: statistics.flushes,
            write_calls: statistics.write_calls,
            read_calls: statistics.read_calls,
            evictions: statistics.evictions,
        })
    }
}

pub struct FolioWriter<'t> {
    log: Option<TableMut<'t, Log>>,
    rows: Option<TableMut<'t, Rows>>,
}

impl Writer for FolioWriter<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        match table {
            Table::Log => self.log.as_mut().ok_or("not open")?.insert(key, value)?,
            Table::Rows => self.rows.as_mut().ok_or("not open")?.insert(key, value)?,
        };
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()> {
        match table {
            Table::Log => self.log.as_mut().ok_or("not open")?.remove(key)?,
            Table::Rows => self.rows.as_mut().ok_or("not open")?.remove(key)?,
        };
        Ok(())
    }

    fn purge(&mut self, from: u64, to: u64) -> Result<()> {
        let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
        let log = self.log.as_mut().ok_or("not open")?;
        log.remove_range(&from[..]..&to[..])?;
        Ok(())
    }
}

pub enum TableReader<'t> {
    Log(TableView<'t, Log>),
    Rows(TableView<'t, Rows>),
}

impl Reader for TableReader<'_> {
    fn get<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let stored = match self {
            Self::Log(table) => table.get_stored(key)?,
            Self::Rows(table) => table.get_stored(key)?,
        };
        Ok(stored.map(|value| with(value.bytes())))
    }

    fn scan(&self, from: &[u8], each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        fn walk<T: FolioTable<Key = &'static [u8], Value = &'static [u8]>>(
            table: &TableView<'_, T>,
            from: &[u8],
            mut each: impl FnMut(&[u8], &[u8]) -> bool,
        ) -> Result<()> {
            let mut rows = table.range(from..)?.stored();
            while let Some(row) = rows.next_borrowed()? {
                if !each(row.key_bytes(), row.value_bytes()) {
                    break;
                }
            }
            Ok(())
        }
        match self {
            Self::Log(table) => walk(table, from, each),
            Self::Rows(table) => walk(table, from, each),
        }
    }
}
