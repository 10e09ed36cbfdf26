//! What can go wrong, where, and what to do about it.

use std::{io, sync::Arc};

use crate::types::DecodeError;

/// The result of every fallible operation of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine. Every variant that concerns a file names it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a call.
    #[error("{file}: cannot {operation}: {source}")]
    Io {
        /// The file concerned.
        file: Arc<str>,
        /// What was being done, as a verb phrase.
        operation: &'static str,
        /// The system's own error.
        source: Arc<io::Error>,
    },

    /// The device or a quota has no room for the file to grow. Nothing is lost and the handle goes on: transactions that
    /// only remove rows still find room, which is kept back for them.
    #[error(
        "{file}: no room to grow by {needed} bytes: {source}; remove rows, for which room is kept back, or make room on the device"
    )]
    Full {
        /// The file concerned.
        file: Arc<str>,
        /// By how much the file had to grow at least, in bytes.
        needed: u64,
        /// The system's own error.
        source: Arc<io::Error>,
    },

    /// A page does not hold what the tree above it says it holds.
    #[error("{file}: page {page}{}: {fault}; restore the file from a replica or a backup", in_table(.table))]
    Corrupted {
        /// The file concerned.
        file: Arc<str>,
        /// The number of the page, counted in pages from the start of the file.
        page: u64,
        /// The table that was being read, where it is known.
        table: Option<Arc<str>>,
        /// What is wrong with the page.
        fault: String,
    },

    /// Another handle has used a page again that a handle for reading still needed: the one that writes could not know of
    /// the reader. Nothing is damaged.
    #[error(
        "{file}: page {page} was used again for a later commit than the one that is being read; open the file again"
    )]
    Outlived {
        /// The file concerned.
        file: Arc<str>,
        /// The number of the page.
        page: u64,
    },

    /// The file is not a Folio database, or its header is damaged beyond recognition.
    #[error("{file}: not a Folio database: {reason}")]
    NotADatabase {
        /// The file concerned.
        file: Arc<str>,
        /// What was expected and what was found.
        reason: String,
    },

    /// The file was written by a newer version of Folio.
    #[error(
        "{file}: written in format {found}, and this version of Folio reads up to format {supported}; open it with a newer Folio"
    )]
    NewerFormat {
        /// The file concerned.
        file: Arc<str>,
        /// The format version, or the feature bits, found in the file.
        found: String,
        /// The newest format version this build understands.
        supported: u32,
    },

    /// The file uses another page size than the one asked for.
    #[error(
        "{file}: the page size is {found} bytes and {wanted} were asked for; the page size is fixed when a file is created"
    )]
    PageSize {
        /// The file concerned.
        file: Arc<str>,
        /// The page size of the file, in bytes.
        found: usize,
        /// The page size asked for, in bytes.
        wanted: usize,
    },

    /// Another handle or process holds the file.
    #[error("{file}: already open by another handle or process; close it there first")]
    InUse {
        /// The file concerned.
        file: Arc<str>,
    },

    /// Neither commit slot describes a whole commit.
    #[error("{file}: no usable commit: {reason}; restore from a replica or a backup")]
    NoCommit {
        /// The file concerned.
        file: Arc<str>,
        /// What is wrong with each slot.
        reason: String,
    },

    /// A commit that was acknowledged as durable is not in the file.
    #[error(
        "{file}: transaction {acknowledged} was acknowledged as durable, but the newest whole commit is transaction {found} ({reason}); \
         restore from a replica or a backup, or accept the loss explicitly with `Builder::accept_loss`"
    )]
    LostCommit {
        /// The file concerned.
        file: Arc<str>,
        /// The transaction that somebody was told is durable.
        acknowledged: u64,
        /// The newest transaction the file can still offer.
        found: u64,
        /// Why the newer commit cannot be used.
        reason: String,
    },

    /// A newer commit than the newest whole one may have been acknowledged as durable; what would tell is damaged, too.
    #[error(
        "{file}: the newest whole commit is transaction {found}; a newer one cannot be used ({reason}), and the acknowledgement that \
         would tell whether it was durable is damaged; restore from a replica or a backup, or accept the possible loss explicitly with \
         `Builder::accept_loss`"
    )]
    DoubtfulCommit {
        /// The file concerned.
        file: Arc<str>,
        /// The newest transaction the file can still offer.
        found: u64,
        /// Why a newer commit cannot be used.
        reason: String,
    },

    /// The file ends before the pages its last commit describes.
    #[error(
        "{file}: truncated: the last commit covers {expected} bytes and the file has {found}; restore from a replica or a backup"
    )]
    Truncated {
        /// The file concerned.
        file: Arc<str>,
        /// The length the last commit describes, in bytes.
        expected: u64,
        /// The length of the file, in bytes.
        found: u64,
    },

    /// An earlier write or sync failed, so nothing more is written through this handle.
    #[error(
        "{file}: writing stopped after a failure: {reason}; reads go on; reopen the file to write again"
    )]
    Latched {
        /// The file concerned.
        file: Arc<str>,
        /// The failure that stopped the handle.
        reason: Arc<str>,
    },

    /// The file holds this table with other types than the program's.
    #[error(
        "{file}: table `{table}` holds {found} and the program asks for {wanted}; ask for what it holds, or use another name"
    )]
    TableTypes {
        /// The file concerned.
        file: Arc<str>,
        /// The table.
        table: Arc<str>,
        /// Key type, value type and group in the file.
        found: String,
        /// Key type, value type and group of the program.
        wanted: String,
    },

    /// A handle to the same table is alive in the same write transaction.
    #[error(
        "table `{table}` is already open in this transaction; drop the first handle before opening another"
    )]
    TableInUse {
        /// The table.
        table: Arc<str>,
    },

    /// The table named does not exist.
    #[error("table `{table}` does not exist; `tables` lists those that do")]
    NoSuchTable {
        /// The table.
        table: Arc<str>,
    },

    /// There is a table of the name that another one was to get.
    #[error("table `{table}` exists already; delete it first or choose another name")]
    TableExists {
        /// The table.
        table: Arc<str>,
    },

    /// A row for a [`Loader`](crate::Loader) does not come behind all others.
    #[error(
        "table `{table}`: a row to be appended has a key that does not follow the greatest one; sort the rows by their keys, \
         or insert them one by one"
    )]
    OutOfOrder {
        /// The table.
        table: Arc<str>,
    },

    /// The encoded key is longer than the page size allows.
    #[error(
        "table `{table}`: the key is {length} bytes long; with this page size at most {limit} are possible; files of larger pages take longer keys, up to 16320 bytes"
    )]
    KeyTooLong {
        /// The table.
        table: Arc<str>,
        /// The length of the encoded key, in bytes.
        length: usize,
        /// The longest possible encoded key, in bytes.
        limit: usize,
    },

    /// The encoded value is longer than 4 GiB - 1.
    #[error("table `{table}`: the value is {length} bytes long; at most {limit} are possible")]
    ValueTooLong {
        /// The table.
        table: Arc<str>,
        /// The length of the encoded value, in bytes.
        length: usize,
        /// The longest possible encoded value, in bytes.
        limit: usize,
    },

    /// Stored bytes are not an encoding of the table's type.
    #[error("table `{table}`: {source}")]
    Decode {
        /// The table.
        table: Arc<str>,
        /// What the type found wrong.
        source: DecodeError,
    },

    /// A write was asked of a database opened for reading only.
    #[error("{file}: opened for reading only; to write, open it by `Database::open`")]
    ReadOnly {
        /// The file concerned.
        file: Arc<str>,
    },

    /// The database was closed through another handle.
    #[error("{file}: closed by another handle; open the file again")]
    Closed {
        /// The file concerned.
        file: Arc<str>,
    },

    /// An earlier operation of this transaction failed half-way or panicked, so it can only be aborted.
    #[error(
        "the transaction cannot be used any more: an earlier operation failed half-way ({reason}); abort it and begin another"
    )]
    Poisoned {
        /// What happened first.
        reason: Arc<str>,
    },

    /// The savepoint is of another transaction, or was released or passed over when the transaction went back further.
    #[error(
        "the savepoint is not one of this transaction's, or not any more: it was released, or passed over by going back further"
    )]
    NoSuchSavepoint,

    /// There is no savepoint of this name in the file.
    #[error("there is no savepoint `{name}`; `Database::savepoints` lists those that there are")]
    UnknownSavepoint {
        /// The name.
        name: Arc<str>,
    },

    /// There is a savepoint of the name that another one was to get.
    #[error("there is a savepoint `{name}` already; release it first or choose another name")]
    SavepointExists {
        /// The name.
        name: Arc<str>,
    },

    /// The stream of a backup is damaged, ends early or is none of Folio's. Nothing was changed.
    #[error("the backup cannot be used: {fault}; nothing was changed")]
    BackupDamaged {
        /// What is wrong with it.
        fault: String,
    },

    /// An incremental backup belongs on another copy than the one that it was to be applied to, or made from.
    #[error("{file}: not the copy that the incremental backup is based on: {reason}")]
    BackupBase {
        /// The file concerned.
        file: Arc<str>,
        /// What differs.
        reason: String,
    },

    /// The one who was told of the progress asked for the end. What was written so far is of no use.
    #[error("{file}: interrupted on request")]
    Interrupted {
        /// The file concerned.
        file: Arc<str>,
    },

    /// A setting of the builder is out of its range.
    #[error("{0}")]
    Configuration(String),
}

fn in_table(table: &Option<Arc<str>>) -> String {
    table
        .as_ref()
        .map_or_else(String::new, |name| format!(" of table `{name}`"))
}

impl Error {
    /// Whether the error means that bytes of the file, or of a backup, are damaged or missing.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(
            self,
            Self::Corrupted { .. }
                | Self::NotADatabase { .. }
                | Self::NoCommit { .. }
                | Self::LostCommit { .. }
                | Self::DoubtfulCommit { .. }
                | Self::Truncated { .. }
                | Self::Decode { .. }
                | Self::BackupDamaged { .. }
        )
    }

    /// What is wrong, in an error that names the file already.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Corrupted { page, fault, .. } => format!("page {page} {fault}"),
            other => other.to_string(),
        }
    }

    /// Adds the table's name to an error about a page, where it is not known yet.
    pub(crate) fn in_table(self, name: &str) -> Self {
        match self {
            Self::Corrupted {
                file,
                page,
                table: None,
                fault,
            } => Self::Corrupted {
                file,
                page,
                table: Some(name.into()),
                fault,
            },
            other => other,
        }
    }
}
