//! SQLite: a write-ahead log, synced with every commit (`synchronous = FULL`).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};

use super::{Commit, Engine, Reader, Result, Settings, Table, Writer};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS log (key INTEGER PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
";

pub struct Sqlite {
    file: PathBuf,
    settings: Settings,
    /// There is one writer at a time; waiting for a lock of ours costs less than the sleep of SQLite's busy handler.
    writer: Mutex<Connection>,
    /// Connections that read and are not in use.
    readers: Mutex<Vec<Connection>>,
}

fn connect(file: &Path, settings: Settings) -> Result<Connection> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -((settings.cache / 1024) as i64))?;
    Ok(connection)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number that a key of the log is.
fn number(key: &[u8]) -> Result<i64> {
    Ok(i64::from_be_bytes(key.try_into()?))
}

impl Sqlite {
    fn transact<T>(
        connection: &Connection,
        work: impl FnOnce(&mut SqliteWriter<'_>) -> Result<T>,
    ) -> Result<T> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let output = work(&mut SqliteWriter(connection))?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(output)
    }
}

impl Engine for Sqlite {
    const NAME: &'static str = "SQLite";
    const SETTINGS: &'static str = "WAL, `synchronous = FULL`, cache as given; the rows in a table `WITHOUT ROWID`; `synchronous = NORMAL` for all but the last transaction of a bulk load";

    type Writer<'w> = SqliteWriter<'w>;
    type Reader<'r> = SqliteReader<'r>;

    fn open(directory: &Path, settings: Settings) -> Result<Self> {
        let file = directory.join("data.sqlite");
        let writer = connect(&file, settings)?;
        writer.execute_batch(TABLES)?;
        Ok(Self {
            file,
            settings,
            writer: Mutex::new(writer),
            readers: Mutex::default(),
        })
    }

    fn write<T>(
        &self,
        _tables: &[Table],
        commit: Commit,
        mut work: impl FnMut(&mut SqliteWriter<'_>) -> Result<T>,
    ) -> Result<T> {
        let connection = lock(&self.writer);
        if commit == Commit::Durable {
            return Self::transact(&connection, &mut work);
        }
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let output = Self::transact(&connection, &mut work)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(output)
    }

    fn read<T>(
        &self,
        table: Table,
        work: impl FnOnce(&SqliteReader<'_>) -> Result<T>,
    ) -> Result<T> {
        let idle = lock(&self.readers).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.file, self.settings)?,
        };
        connection.prepare_cached("BEGIN")?.execute([])?;
        let output = work(&SqliteReader {
            connection: &connection,
            table,
        })?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        lock(&self.readers).push(connection);
        Ok(output)
    }

    fn compact(self, _directory: &Path) -> Result<()> {
        lock(&self.writer).execute_batch("VACUUM")?;
        self.close()
    }

    fn close(self) -> Result<()> {
        // The last connection to close brings the log into the file and removes it.
        drop(self.readers);
        let writer = self
            .writer
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        writer.close().map_err(|(_, error)| error.into())
    }
}

pub struct SqliteWriter<'t>(&'t Connection);

impl Writer for SqliteWriter<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        match table {
            Table::Log => self
                .0
                .prepare_cached("INSERT OR REPLACE INTO log VALUES (?, ?)")?
                .execute(params![number(key)?, value])?,
            Table::Rows => self
                .0
                .prepare_cached("INSERT OR REPLACE INTO rows VALUES (?, ?)")?
                .execute(params![key, value])?,
        };
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()> {
        match table {
            Table::Log => self
                .0
                .prepare_cached("DELETE FROM log WHERE key = ?")?
                .execute(params![number(key)?])?,
            Table::Rows => self
                .0
                .prepare_cached("DELETE FROM rows WHERE key = ?")?
                .execute(params![key])?,
        };
        Ok(())
    }

    fn purge(&mut self, from: u64, to: u64) -> Result<()> {
        self.0
            .prepare_cached("DELETE FROM log WHERE key >= ? AND key < ?")?
            .execute(params![from as i64, to as i64])?;
        Ok(())
    }
}

pub struct SqliteReader<'t> {
    connection: &'t Connection,
    table: Table,
}

impl Reader for SqliteReader<'_> {
    fn get<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT value FROM rows WHERE key = ?")?;
        let mut rows = statement.query(params![key])?;
        match rows.next()? {
            Some(row) => Ok(Some(with(row.get_ref(0)?.as_blob()?))),
            None => Ok(None),
        }
    }

    fn scan(&self, from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        match self.table {
            Table::Log => {
                let mut statement = self
                    .connection
                    .prepare_cached("SELECT key, value FROM log ORDER BY key")?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    let key: i64 = row.get(0)?;
                    let key = key.to_be_bytes();
                    if &key[..] >= from && !each(&key, row.get_ref(1)?.as_blob()?) {
                        break;
                    }
                }
            }
            Table::Rows => {
                let mut statement = self
                    .connection
                    .prepare_cached("SELECT key, value FROM rows WHERE key >= ? ORDER BY key")?;
                let mut rows = statement.query(params![from])?;
                while let Some(row) = rows.next()? {
                    if !each(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}
