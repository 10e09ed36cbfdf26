//! The database handle and how to get one.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    engine::{
        Engine, GROWTH, Handle, OpenMode, OpenOptions, Patience, Reader, Scrub, ScrubOptions,
        SystemClock, VerifyOptions, VerifyReport, is_blank,
    },
    error::{Error, Result},
    file::{LOSS_ACCEPTED, SALVAGED},
    page::PAGE_SIZES,
    statistics::Statistics,
    storage::{FileStorage, MemoryStorage, Storage},
    transaction::{Durability, ReadTransaction, WriteTransaction},
    types::{Group, GroupSet},
};

/// 64 MiB: small enough for a program that uses a database on the side.
const DEFAULT_CACHE: usize = 64 << 20;

/// An open database. Cloning gives another handle to the same one.
///
/// When the last handle and transaction is gone the database closes as by [`close`](Self::close); an error then has
/// nobody to go to but the log, so a program that cares closes it itself.
///
/// ```
/// use folio_store::{Database, Table};
///
/// struct Stock;
/// impl Table for Stock {
///     const NAME: &'static str = "stock";
///     type Key = &'static str;
///     type Value = u64;
/// }
///
/// # fn main() -> folio_store::Result<()> {
/// let db = Database::in_memory()?;
/// let txn = db.begin_write()?;
/// txn.table::<Stock>()?.insert("apples", 12)?;
/// txn.commit()?;
///
/// let view = db.begin_read()?;
/// assert_eq!(view.table::<Stock>()?.get("apples")?, Some(12));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Database {
    handle: Arc<Handle>,
    path: Option<Arc<Path>>,
}

impl Database {
    /// Creates a database in a new file. The file must not exist.
    ///
    /// # Errors
    ///
    /// If there is a file of that name, or it cannot be written. Costs two syncs.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().create(path)
    }

    /// Opens the database in an existing file, for this handle alone.
    ///
    /// # Errors
    ///
    /// If there is none, another process or handle has it open, or its newest acknowledged commit is not whole. Costs as
    /// much as reading the last commit, whatever the size of the file, and a sync if the file was not closed in order.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path)
    }

    /// Opens the database in an existing file for reading, at its newest durable commit. Nothing is written to it.
    ///
    /// Any number of handles may read, in any processes, beside one that writes and beside any that come to write later.
    /// Nobody waits for another. The handle shows the same commit for as long as it is open; what is committed later is
    /// seen by opening the file again. The pages of that commit are not used again until the handle is closed, its
    /// last view is gone or its process has died, and the writer's next flush has noticed
    /// ([`readers`](Self::readers) lists them).
    ///
    /// That is so on Linux, with a filesystem that is mounted there and not reached through NFS. Elsewhere a file is open
    /// for one handle that writes or for any number that read.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), and where readers exclude the writer, [`Error::InUse`]. Costs as much as reading the last
    /// commit, and a sync if nobody has the file open for writing and it was not closed in order.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open_read_only(path)
    }

    /// A database in memory, for tests and scratch data.
    ///
    /// # Errors
    ///
    /// None today; reserved.
    pub fn in_memory() -> Result<Self> {
        Self::builder().in_memory()
    }

    /// Settings for opening or creating a database.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens a view of the newest published state. Waits for nobody, and reads nothing.
    ///
    /// # Errors
    ///
    /// If the database was closed.
    pub fn begin_read(&self) -> Result<ReadTransaction> {
        ReadTransaction::begin(&self.handle)
    }

    /// Begins the write transaction, waiting until the one before is finished. A thread that has one already waits for
    /// itself, for ever.
    ///
    /// # Errors
    ///
    /// If the database was closed, is open for reading only, or has stopped writing after a failure. Costs no system call,
    /// unless many committed pages wait for a flush and some of them have to be written to make room in memory.
    pub fn begin_write(&self) -> Result<WriteTransaction> {
        let endless = WriteTransaction::begin(&self.handle, Patience::Endless)?;
        Ok(endless.expect("an endless wait has one end"))
    }

    /// Begins the write transaction if nobody else has one; `None` otherwise. Does not wait.
    ///
    /// # Errors
    ///
    /// As for [`begin_write`](Self::begin_write).
    pub fn try_begin_write(&self) -> Result<Option<WriteTransaction>> {
        self.begin_write_within(Duration::ZERO)
    }

    /// Begins the write transaction, waiting no longer than `limit` for the one before to finish; `None` if it has not.
    ///
    /// # Errors
    ///
    /// As for [`begin_write`](Self::begin_write).
    pub fn begin_write_within(&self, limit: Duration) -> Result<Option<WriteTransaction>> {
        let patience = Instant::now()
            .checked_add(limit)
            .map_or(Patience::Endless, Patience::Until);
        WriteTransaction::begin(&self.handle, patience)
    }

    /// Makes the newest published state of these groups durable.
    ///
    /// # Errors
    ///
    /// If a write or the sync fails; the handle then stops writing. Costs one `fdatasync`, and none if they are durable.
    pub fn checkpoint(&self, groups: GroupSet) -> Result<()> {
        self.handle.engine().checkpoint(groups)
    }

    /// The number of the newest published transaction.
    #[must_use]
    pub fn published_transaction(&self) -> u64 {
        self.handle.engine().published_transaction()
    }

    /// The transaction up to which a group is durable.
    #[must_use]
    pub fn durable_transaction(&self, group: Group) -> u64 {
        self.handle.engine().durable_transaction(group)
    }

    /// What the database did and holds. Reads no page. For one table there is
    /// [`TableView::statistics`](crate::TableView::statistics).
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let (scrub_passes, scrub_problems) = self.handle.scrubs.counted();
        Statistics {
            scrub_passes,
            scrub_problems,
            ..Statistics::collect(self.handle.engine())
        }
    }

    /// How many bytes of pages can be taken before the disk is full: what the storage can grow by, and what is free or not
    /// used yet in the file. `None` if the storage does not know. Others who use the disk may take some of it first. Costs a
    /// system call.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn room(&self) -> Result<Option<u64>> {
        self.handle.engine().room()
    }

    /// The open views, oldest first: which states are kept, by how many, for how long, and what that costs. Verifications
    /// and backups come first, together; readers in other processes, or through other handles, last. Those a handle
    /// that writes knows as of its last flush. One that reads knows of other readers that they are there, and which
    /// commit they have pinned.
    #[must_use]
    pub fn readers(&self) -> Vec<Reader> {
        self.handle.engine().readers()
    }

    /// Makes a checkpoint of all groups, then reads every page that the durable state refers to, past the cache, and
    /// checks checksums, order, levels, row counts, the length of long values, and free space, page by page. Damage is in
    /// the report; `progress` is told how many pages have been read, and of about how many.
    ///
    /// Others may read, commit and flush meanwhile; so may `progress`. What is checked is one moment. Until the end its
    /// pages are not used again, as with an open view. Takes two bits of memory a page, and three with savepoints, whose
    /// states are checked as well.
    ///
    /// # Errors
    ///
    /// If the checkpoint fails, or the database was closed. A handle that has stopped writing verifies what was durable
    /// then, and one that is open for reading what it was opened at.
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Result<VerifyReport> {
        self.verify_with(VerifyOptions::new(), |done, total| {
            progress(done, total);
            ControlFlow::Continue(())
        })
    }

    /// As [`verify`](Self::verify), at a limited rate, and until `progress` asks for the end.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn verify_with(
        &self,
        options: VerifyOptions,
        progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<VerifyReport> {
        let engine = self.handle.engine();
        engine.verify(options, &SystemClock::start(), progress)
    }

    /// Starts a thread that verifies the newest durable state at a limited rate, rests, and begins again, until the
    /// [`Scrub`] is dropped or the database closes, which it does not keep open. There is none unless it is asked for.
    ///
    /// Each page of damage is logged as an error; [`Statistics`] count passes and problems, and
    /// [`ScrubOptions::on_pass`] is told of every pass. While a pass is under way the pages of the state that it checks
    /// are not used again, so a slow pass over a file with many changes makes the file grow by up to those changes.
    ///
    /// # Errors
    ///
    /// If the database was closed, or the system gives no thread.
    pub fn start_scrub(&self, options: ScrubOptions) -> Result<Scrub> {
        self.handle.scrubs.start(self.handle.engine(), options)
    }

    /// Whether something may be missing from this file that somebody was told is durable. It is written in the file, and
    /// goes with its copies.
    #[must_use]
    pub fn losses(&self) -> Losses {
        let marks = self.handle.engine().marks();
        Losses {
            accepted: marks & LOSS_ACCEPTED != 0,
            salvaged: marks & SALVAGED != 0,
        }
    }

    /// Makes everything durable and ends all handles. Open views go on, and hold the file until the last is gone;
    /// transactions that begin, or commit, get [`Error::Closed`].
    ///
    /// # Errors
    ///
    /// If the last flush fails, or the handle had stopped writing before. Costs a flush, and nothing if this handle wrote
    /// nothing. Waits for a scrub to end.
    pub fn close(self) -> Result<()> {
        self.handle.scrubs.end();
        self.handle.engine().close()
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Ends all handles as the death of the process would: nothing more is written, and what was not durable is lost.
    /// For tests of recovery.
    pub fn kill(self) {
        self.handle.scrubs.end();
        self.handle.engine().kill();
    }

    /// The path of the file, as it was given; none for a database in memory or in a storage of the caller's.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

/// What may be missing from a file: see [`Database::losses`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Losses {
    /// It was opened by [`Builder::accept_loss`] at an older commit than one that was acknowledged, or may have been.
    pub accepted: bool,
    /// It is the outcome of a [salvage](crate::salvage).
    pub salvaged: bool,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Database")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Settings for opening or creating a database.
#[derive(Clone, Debug)]
pub struct Builder {
    options: OpenOptions,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            options: OpenOptions {
                cache_size: DEFAULT_CACHE,
                page_size: None,
                accept_loss: false,
                growth: GROWTH,
                durability: Durability::default(),
            },
        }
    }
}

impl Builder {
    /// The memory for pages, in bytes: committed pages, dirty ones included, and those of the running transaction.
    /// The default is 64 MiB. A transaction larger than the cache is written in parts before it commits.
    #[must_use]
    pub fn cache_size(mut self, bytes: usize) -> Self {
        self.options.cache_size = bytes;
        self
    }

    /// The page size of a new file, in bytes: a power of two from 4,096 to 65,536. The default is 4,096. Opening a file
    /// that has another one is an error.
    #[must_use]
    pub fn page_size(mut self, bytes: usize) -> Self {
        self.options.page_size = Some(bytes);
        self
    }

    /// By how much the file grows at a time: by as much as it has grown since it was opened and by a quarter of its length
    /// at most, but by `least` bytes at least and `most` at most. The defaults are 256 KiB and 64 MiB. Closing the database
    /// gives back what is free at the end of the file. The new part is written with zeros at once, so that a commit into it costs
    /// one device flush; that, and the room it takes on the device, speaks for small steps, the number of calls for
    /// large ones.
    #[must_use]
    pub fn growth(mut self, least: u64, most: u64) -> Self {
        self.options.growth = (least, most.max(least));
        self
    }

    /// When commits return unless a transaction says otherwise. The default is [`Durability::Immediate`]. Code that is
    /// handed a database and promises something about its commits asks for what it needs in each transaction.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// Opens a file although a commit that was acknowledged as durable is missing from it, or may be, at the newest commit
    /// that is whole: instead of [`Error::LostCommit`] and [`Error::DoubtfulCommit`]. The default is false.
    #[must_use]
    pub fn accept_loss(mut self, accept: bool) -> Self {
        self.options.accept_loss = accept;
        self
    }

    /// Creates a database in a new file. See [`Database::create`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Database> {
        self.check()?;
        let path = path.as_ref();
        let storage = FileStorage::create(path).map_err(|error| {
            let operation = match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    "create the file, which `Builder::open_or_create` would open"
                }
                _ => "create the file",
            };
            open_error(path, operation, error)
        })?;
        let engine = Engine::create(Arc::new(storage), self.options)?;
        Ok(self.database(engine, Some(path)))
    }

    /// Opens the database in an existing file. See [`Database::open`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Database> {
        self.check()?;
        let path = path.as_ref();
        let storage = FileStorage::open(path).map_err(|error| {
            let operation = match error.kind() {
                io::ErrorKind::NotFound => {
                    "open the file, which `Builder::open_or_create` would create"
                }
                _ => "open the file",
            };
            open_error(path, operation, error)
        })?;
        let engine = Engine::open(Arc::new(storage), OpenMode::ReadWrite, self.options)?;
        Ok(self.database(engine, Some(path)))
    }

    /// Opens the database in a file, or creates it if there is no file, or only what an interrupted creation left.
    ///
    /// # Errors
    ///
    /// As for [`Database::create`] and [`Database::open`].
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Database> {
        self.check()?;
        let path = path.as_ref();
        let storage = match FileStorage::create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => FileStorage::open(path),
            created => created,
        };
        let storage =
            storage.map_err(|error| open_error(path, "open or create the file", error))?;
        let blank = is_blank(&storage).map_err(|error| open_error(path, "read the file", error))?;
        let engine = if blank {
            Engine::create(Arc::new(storage), self.options)?
        } else {
            Engine::open(Arc::new(storage), OpenMode::ReadWrite, self.options)?
        };
        Ok(self.database(engine, Some(path)))
    }

    /// Opens the database in an existing file for reading. See [`Database::open_read_only`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open_read_only(&self, path: impl AsRef<Path>) -> Result<Database> {
        self.check()?;
        let path = path.as_ref();
        let storage = FileStorage::open_beside_writer(path)
            .map_err(|error| open_error(path, "open the file", error))?;
        let engine = Engine::open(Arc::new(storage), OpenMode::ReadOnly, self.options)?;
        Ok(self.database(engine, Some(path)))
    }

    /// A database in memory. See [`Database::in_memory`].
    ///
    /// # Errors
    ///
    /// If a setting is out of its range.
    pub fn in_memory(&self) -> Result<Database> {
        self.create_on(Arc::new(MemoryStorage::new()))
    }

    /// Creates a database in a storage of the caller's, which must be empty: for tests by
    /// [a simulated disk](crate::storage), or for bytes that are in no file.
    ///
    /// # Errors
    ///
    /// As for [`Database::create`].
    pub fn create_on(&self, storage: Arc<dyn Storage>) -> Result<Database> {
        self.check()?;
        Ok(self.database(Engine::create(storage, self.options)?, None))
    }

    /// Opens the database in a storage of the caller's.
    ///
    /// # Errors
    ///
    /// As for [`Database::open`].
    pub fn open_on(&self, storage: Arc<dyn Storage>) -> Result<Database> {
        self.check()?;
        Ok(self.database(
            Engine::open(storage, OpenMode::ReadWrite, self.options)?,
            None,
        ))
    }

    /// Opens the database in a storage of the caller's for reading. Another handle may write to the same bytes if the storage
    /// has [`Pins`](crate::storage::Pins).
    ///
    /// # Errors
    ///
    /// As for [`Database::open_read_only`].
    pub fn open_read_only_on(&self, storage: Arc<dyn Storage>) -> Result<Database> {
        self.check()?;
        let engine = Engine::open(storage, OpenMode::ReadOnly, self.options)?;
        Ok(self.database(engine, None))
    }

    fn check(&self) -> Result<()> {
        match self.options.page_size {
            Some(size) if !PAGE_SIZES.contains(&size) || !size.is_power_of_two() => {
                Err(Error::Configuration(format!(
                    "a page size of {size} bytes was asked for; it is a power of two from {} to {}",
                    PAGE_SIZES.start(),
                    PAGE_SIZES.end()
                )))
            }
            _ => Ok(()),
        }
    }

    fn database(&self, engine: Arc<Engine>, path: Option<&Path>) -> Database {
        Database {
            handle: Handle::new(engine),
            path: path.map(Into::into),
        }
    }
}

pub(crate) fn open_error(path: &Path, operation: &'static str, error: io::Error) -> Error {
    let file: Arc<str> = PathBuf::from(path).display().to_string().into();
    if error.kind() == io::ErrorKind::WouldBlock {
        return Error::InUse { file };
    }
    Error::Io {
        file,
        operation,
        source: Arc::new(error),
    }
}
