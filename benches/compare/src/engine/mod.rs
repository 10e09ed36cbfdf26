//! The engines: one trait, one file each.

use std::path::Path;

mod canopydb;
mod fjall;
mod folio;
#[cfg(feature = "inferadb")]
mod inferadb;
mod lmdb;
mod redb;
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;

/// Whatever an engine has to say.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// The tables of the loads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// Numbers, growing, to entries.
    Log,
    /// Random keys to values.
    Rows,
}

/// What an engine is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Memory for its cache, in bytes, if it has one of its own.
    pub cache: u64,
    /// Where state is recoverable from a log, how many entries may have to be applied again after a crash.
    pub replay: u64,
}

/// When a commit returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commit {
    /// When it would survive power loss.
    Durable,
    /// Earlier; a later durable one covers it.
    Later,
}

/// An entry of the log with the row it changes.
pub struct Change {
    pub index: [u8; 8],
    pub entry: [u8; crate::data::ENTRY],
    pub key: [u8; crate::data::KEY],
    pub value: [u8; crate::data::VALUE],
}

/// One engine, configured as its documentation says is best.
pub trait Engine: Sized + Send + Sync + 'static {
    /// What the table calls it.
    const NAME: &'static str;
    /// The settings in words, for the page of results.
    const SETTINGS: &'static str;

    type Writer<'w>: Writer;
    type Reader<'r>: Reader;

    /// Opens what is in a directory of its own, or creates it.
    fn open(directory: &Path, settings: Settings) -> Result<Self>;

    /// One transaction. `work` is called again if the engine finds a conflict.
    fn write<T>(
        &self,
        tables: &[Table],
        commit: Commit,
        work: impl FnMut(&mut Self::Writer<'_>) -> Result<T>,
    ) -> Result<T>;

    /// As [`write`](Self::write), from many threads at a time.
    fn write_beside_others<T>(
        &self,
        tables: &[Table],
        work: impl FnMut(&mut Self::Writer<'_>) -> Result<T>,
    ) -> Result<T> {
        self.write(tables, Commit::Durable, work)
    }

    /// One consistent state, as far as the engine has that.
    fn read<T>(&self, table: Table, work: impl FnOnce(&Self::Reader<'_>) -> Result<T>)
    -> Result<T>;

    /// Appends entries to the log, durably, and changes the rows they name, which need not be durable themselves as long as
    /// [`recover`](Self::recover) brings them back.
    fn append_and_apply(&self, changes: &[Change]) -> Result<()> {
        self.append_with_rows(changes)
    }

    /// Appends entries and changes rows in one durable transaction.
    fn append_with_rows(&self, changes: &[Change]) -> Result<()> {
        self.write(&[Table::Log, Table::Rows], Commit::Durable, |writer| {
            for change in changes {
                writer.put(Table::Log, &change.index, &change.entry)?;
                writer.put(Table::Rows, &change.key, &change.value)?;
            }
            Ok(())
        })
    }

    /// Applies what the log has beyond the rows, after a crash; `row` makes the row that an entry names. Gives back the number
    /// of entries.
    fn recover(
        &self,
        _row: impl Fn(&[u8]) -> Result<([u8; crate::data::KEY], [u8; crate::data::VALUE])>,
    ) -> Result<u64> {
        Ok(0)
    }

    /// Loads sorted rows into an empty table, durably at the end, by what the engine has for that.
    fn load_sorted(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<()> {
        self.load(rows)
    }

    /// Loads rows in any order, in transactions of 10,000, durably at the end.
    fn load(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<()> {
        in_transactions(rows, |batch, last| {
            let commit = if last { Commit::Durable } else { Commit::Later };
            self.write(&[Table::Rows], commit, |writer| {
                batch
                    .iter()
                    .try_for_each(|(key, value)| writer.put(Table::Rows, key, value))
            })
        })
    }

    /// Gives space back to the file system, as far as the engine can.
    fn compact(self, directory: &Path) -> Result<()>;

    /// Ends it in order.
    fn close(self) -> Result<()>;

    /// What it counted so far, if it counts.
    fn counted(&self) -> Option<Counted> {
        None
    }
}

/// A row of the load: key and value.
pub type Row = ([u8; crate::data::KEY], [u8; crate::data::VALUE]);

/// Hands rows over in batches of 10,000, and says which is the last.
fn in_transactions(
    rows: &mut dyn Iterator<Item = Row>,
    mut write: impl FnMut(&[Row], bool) -> Result<()>,
) -> Result<()> {
    let mut rows = rows.peekable();
    let mut batch = Vec::with_capacity(10_000);
    while rows.peek().is_some() {
        batch.clear();
        batch.extend(rows.by_ref().take(10_000));
        write(&batch, rows.peek().is_none())?;
    }
    Ok(())
}

/// What an engine counted since it was opened.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Counted {
    /// Pages written.
    pub pages: u64,
    pub flushes: u64,
    /// Calls that write and that read.
    pub write_calls: u64,
    pub read_calls: u64,
    /// Pages that the cache gave up to make room.
    pub evictions: u64,
}

impl Counted {
    /// What came on top of `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            pages: self.pages - earlier.pages,
            flushes: self.flushes - earlier.flushes,
            write_calls: self.write_calls - earlier.write_calls,
            read_calls: self.read_calls - earlier.read_calls,
            evictions: self.evictions - earlier.evictions,
        }
    }
}

/// The inside of a write transaction.
pub trait Writer {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()>;
    fn remove(&mut self, table: Table, key: &[u8]) -> Result<()>;
    /// Removes the entries of the log with these numbers.
    fn purge(&mut self, from: u64, to: u64) -> Result<()> {
        (from..to).try_for_each(|index| self.remove(Table::Log, &index.to_be_bytes()))
    }
}

/// The inside of a read transaction.
pub trait Reader {
    /// Calls `with` with the value, where the engine has it, without a copy if it can.
    fn get<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>>;
    /// Calls `each` with rows from `from` on, until it says false or there are no more.
    fn scan(&self, from: &[u8], each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<()>;
}

/// Calls something generic over engines with the one of a name.
pub trait WithEngine {
    type Output;
    fn with<E: Engine>(self) -> Self::Output;
}

macro_rules! engines {
    ($($(#[$condition:meta])* $name:literal => $engine:ty,)*) => {
        /// The names by which engines are asked for, in the order of the table.
        pub const NAMES: &[&str] = &[$($(#[$condition])* $name,)*];

        /// Calls `what` with the engine of that name.
        pub fn with_engine<W: WithEngine>(name: &str, what: W) -> Result<W::Output> {
            match name {
                $($(#[$condition])* $name => Ok(what.with::<$engine>()),)*
                _ => Err(format!("there is no engine {name}; there are {}", NAMES.join(", ")).into()),
            }
        }
    };
}

engines! {
    "folio" => folio::Folio,
    "redb" => redb::Redb,
    "lmdb" => lmdb::Lmdb,
    "canopydb" => canopydb::Canopy,
    "fjall" => fjall::Fjall,
    "sled" => sled::Sled,
    #[cfg(feature = "inferadb")]
    "inferadb" => inferadb::Inferadb,
    #[cfg(feature = "sqlite")]
    "sqlite" => sqlite::Sqlite,
}
