//! Copies of a database that is in use: whole ones, compacted ones, and what changed since an earlier one.
//!
//! A copy shows one durable moment. A pin keeps the pages of that moment as they are while they are read, as for a
//! verification; nobody waits. Every page is checked on the way, so what comes out is sound or an error.

mod apply;
mod compacted;
mod image;
mod incremental;
mod moment;
mod stream;

use std::{
    io::{Read, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use self::{apply::NewFile, incremental::damaged};
pub use self::{
    apply::apply_backup,
    moment::BackupMoment,
    stream::{BackupContents, check_backup, unpack_backup},
};
use crate::{
    bytes::{array, read_u64, read_u128},
    database::Database,
    engine::read_header,
    error::{Error, Result},
    file::{Header, Slot},
    storage::FileStorage,
    types::Group,
};

/// How to make a backup.
#[derive(Clone, Debug, Default)]
pub struct BackupOptions {
    rate: u64,
    compacted: bool,
    scratch: Option<PathBuf>,
}

impl BackupOptions {
    /// An exact copy, as fast as it goes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The most bytes to read in a second, so that a busy database hardly notices; 0 for as many as possible.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = bytes_per_second;
        self
    }

    /// A new database with the same rows, in full pages and without free ones, instead of an exact copy. It is another
    /// database, with an identity of its own: an incremental backup cannot be put onto it.
    #[must_use]
    pub fn compacted(mut self) -> Self {
        self.compacted = true;
        self
    }

    /// Where a compacted copy is built before it is handed out. Without this, in the folder of the system for temporary
    /// files, or beside the copy if that is a file.
    #[must_use]
    pub fn scratch(mut self, folder: impl Into<PathBuf>) -> Self {
        self.scratch = Some(folder.into());
        self
    }
}

/// What a backup holds.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BackupReport {
    /// The newest transaction in it.
    pub transaction: u64,
    /// Pages that were copied.
    pub pages: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Where an incremental backup may start that is to be put onto this copy; none for a compacted one.
    pub point: Option<BackupPoint>,
}

/// The moment that an exact copy shows: what [`Database::backup_since`] starts from. It can be kept beside the copy
/// ([`to_bytes`](Self::to_bytes)) or read from it ([`of_file`](Self::of_file)).
///
/// A number of a transaction would not do. One that began before the copy was made and ended after has a smaller number
/// than the copy, and each group stands at a transaction of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackupPoint {
    identity: [u8; 16],
    sequence: u64,
    transaction: u64,
    /// Of the slot of the copy.
    digest: u128,
    groups: [u64; Group::COUNT],
}

impl BackupPoint {
    /// The length of [`to_bytes`](Self::to_bytes).
    pub const LENGTH: usize = 8 + 16 + 8 + 8 + 16 + 8 * Group::COUNT + 8;

    const MAGIC: [u8; 8] = *b"FolioPnt";

    fn new(header: &Header, slot: &Slot) -> Self {
        let encoded = slot.encode(header.page_size, &header.identity);
        Self {
            identity: header.identity,
            sequence: slot.sequence,
            transaction: slot.transaction,
            digest: xxhash_rust::xxh3::xxh3_128(&encoded),
            groups: slot.groups.map(|group| group.transaction),
        }
    }

    /// The point of an exact copy that nobody has changed. Reads five pages.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, somebody writes to it, or it is not a database.
    pub fn of_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let storage = FileStorage::open_read_only(path)
            .map_err(|error| crate::database::open_error(path, "open the file", error))?;
        let header = read_header(&storage, None)?;
        Self::of_storage(&storage, &header)
    }

    /// The point of what a backup comes to, whole or incremental, by its beginning: no more of it is read or checked than
    /// that.
    ///
    /// # Errors
    ///
    /// [`Error::BackupDamaged`] if it does not begin as a backup.
    pub fn of_backup(reader: impl Read) -> Result<Self> {
        stream::point(reader)
    }

    /// The newest transaction of the copy.
    #[must_use]
    pub fn transaction(&self) -> u64 {
        self.transaction
    }

    /// The point as bytes, with a checksum.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Self::MAGIC.to_vec();
        bytes.extend(self.identity);
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.transaction.to_le_bytes());
        bytes.extend(self.digest.to_le_bytes());
        self.groups
            .iter()
            .for_each(|group| bytes.extend(group.to_le_bytes()));
        bytes.extend(xxhash_rust::xxh3::xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// The point that [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    ///
    /// [`Error::BackupDamaged`] for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let end = Self::LENGTH - 8;
        let whole = bytes.len() == Self::LENGTH
            && bytes[..8] == Self::MAGIC
            && read_u64(bytes, end) == xxhash_rust::xxh3::xxh3_64(&bytes[..end]);
        match whole {
            true => Ok(Self {
                identity: array(bytes, 8),
                sequence: read_u64(bytes, 24),
                transaction: read_u64(bytes, 32),
                digest: read_u128(bytes, 40),
                groups: std::array::from_fn(|group| read_u64(bytes, 56 + 8 * group)),
            }),
            false => Err(damaged("the point of a backup is not whole")),
        }
    }

    /// Why this is not the other point.
    fn difference(&self, found: &Self) -> String {
        if self.identity != found.identity {
            return "it is a copy of another database".into();
        }
        if self.transaction != found.transaction {
            return format!(
                "it is a copy of transaction {} and one of transaction {} is needed",
                found.transaction, self.transaction
            );
        }
        "it was changed since it was made".into()
    }
}

impl Database {
    /// Writes a copy of the database, from its first byte to its last, while others read and commit. What it has is
    /// durable with `writer`'s own means; see [`backup_to`](Self::backup_to) for a file.
    ///
    /// An exact copy shows what is durable after a checkpoint that is made first. It is the same database at that
    /// moment, with the same identity, which is part of every checksum. So it may take the place of the original, or be
    /// read; but when both are written to, pages of the one pass for those of the other, and an incremental backup of
    /// one does not fit the other, which is noticed. Free pages come out as zeros, and what was grown ahead does not. The
    /// [savepoints](Self::create_savepoint) come along; with some, everything is read twice.
    ///
    /// A [compacted](BackupOptions::compacted) copy has the rows of a view, in a database of its own, and no savepoints.
    ///
    /// `progress` is told how many pages were copied and of about how many, or rows for a compacted copy. Until the end the
    /// pages of the moment are not used again, as with an open view. Takes a bit of memory a page and one read of
    /// everything in use.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupted`] with the page if one is damaged, [`Error::Interrupted`] if `progress` asks for the end, and if
    /// `writer` fails. What was written is of no use then.
    pub fn backup(
        &self,
        options: BackupOptions,
        writer: impl Write,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        if options.compacted {
            return compacted::write(self, &options, writer, &mut progress);
        }
        self.begin_backup()?
            .write(0, options.rate, writer, progress)
    }

    /// Writes a copy to a file, as [`backup`](Self::backup) does. It is written beside the place, synced, and then put
    /// there; a file that was there is replaced by a whole one or not at all. It is for its owner alone, whoever may read
    /// the original.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn backup_to(
        &self,
        mut options: BackupOptions,
        path: impl AsRef<Path>,
        progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        let path = path.as_ref();
        let real = |path: &Path| path.canonicalize().ok();
        if real(path).is_some_and(|place| self.path().and_then(real) == Some(place)) {
            return Err(Error::Configuration(
                "a backup cannot take the place of the file that it is made from".into(),
            ));
        }
        if options.scratch.is_none() {
            options.scratch = path.parent().map(Path::to_owned);
        }
        let mut aside = NewFile::create(path)?;
        let report = self.backup(options, &mut aside, progress)?;
        aside.replace(path)?;
        Ok(report)
    }

    /// Writes what has changed since an exact copy was made, for [`apply_backup`] to put onto that copy. Reads and writes
    /// the pages that are new since then and no others, so it costs what has changed. The result names the
    /// point to start from next time.
    ///
    /// # Errors
    ///
    /// As for [`backup`](Self::backup), and [`Error::BackupBase`] if the point is of another database or from the
    /// future. If this file has gone back since to before the point, which only [`Builder::accept_loss`] does, the
    /// stream lacks pages; applying it then fails, and a whole copy is needed.
    ///
    /// [`Builder::accept_loss`]: crate::Builder::accept_loss
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use folio_store::{BackupOptions, Database, Table, apply_backup};
    ///
    /// struct Stock;
    /// impl Table for Stock {
    ///     const NAME: &'static str = "stock";
    ///     type Key = &'static str;
    ///     type Value = u64;
    /// }
    ///
    /// # fn main() -> folio_store::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a temporary folder");
    /// let db = Database::in_memory()?;
    /// let go_on = |_, _| ControlFlow::Continue(());
    /// let copy = folder.path().join("copy.folio");
    /// let whole = db.backup_to(BackupOptions::new(), &copy, go_on)?;
    ///
    /// let txn = db.begin_write()?;
    /// txn.table::<Stock>()?.insert("apples", 12)?;
    /// txn.commit()?;
    ///
    /// let mut changes = Vec::new();
    /// let point = whole.point.expect("an exact copy has one");
    /// db.backup_since(&point, BackupOptions::new(), &mut changes, go_on)?;
    /// apply_backup(&copy, changes.as_slice())?;
    /// let view = Database::open_read_only(&copy)?.begin_read()?;
    /// assert_eq!(view.table::<Stock>()?.get("apples")?, Some(12));
    /// # Ok(())
    /// # }
    /// ```
    pub fn backup_since(
        &self,
        base: &BackupPoint,
        options: BackupOptions,
        writer: impl Write,
        progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        self.begin_backup()?
            .write_since(base, options.rate, writer, progress)
    }
}
