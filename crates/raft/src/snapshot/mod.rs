//! `CombinedSnapshot`: Raft's metadata and every table of the state machine, as one stream.
//!
//! The stream is written from a read transaction and read a chunk at a time, so neither side's
//! memory depends on its size. The same state gives the same stream, on any node: it contains the
//! tables in order of name, their rows in order of key, cut into chunks by a fixed rule, and nothing
//! of the node that wrote it. (The snapshot's id is therefore not in it; it travels beside it, in
//! openraft's `SnapshotMeta`.)
//!
//! ```text
//! magic "FOLIOSNP", format version u16
//! frame: header    last log id, membership, time, tables (name, key type, value type)
//! frame: chunk     table number and rows; as many as it takes, in order
//! frame: trailer   row count of each table, sha-256 over everything before, uncompressed
//! end of the stream
//!
//! frame = kind u8, raw length u32, stored length u32, stored bytes, crc32 of all these
//! ```
//! Integers are little-endian. Payloads are postcard; those of chunks are compressed with zstd.
//!
//! A stream of changes, which nodes send each other, is the same with two more kinds of frame (see
//! `changes`): behind the header the log id from which on the receiver may be, and among the chunks
//! the ranges of rows that it has already.

mod changes;
mod data;
mod format;
#[cfg(test)]
mod hostile_tests;
mod read;
mod write;

pub use data::SnapshotData;
pub use format::{SnapshotHeader, SnapshotTable};
pub use read::{Rows, SnapshotReader, Summary};
pub use write::write_snapshot;

pub(crate) use changes::{CHANGES_LIMIT, write_changes};
pub(crate) use data::SnapshotSource;
pub(crate) use format::Kept;
pub(crate) use read::{Piece, SnapshotParser};

pub(crate) use write::SnapshotWriter;

/// Why a snapshot was refused or could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The stream ended early.
    #[error("the snapshot is cut off at byte {offset}; transfer it again")]
    Truncated {
        /// Where it ended.
        offset: u64,
    },
    /// The bytes are not those that were written.
    #[error("the snapshot is damaged at byte {offset}: {reason}; transfer it again")]
    Damaged {
        /// Where the damaged part begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by another version of the format.
    #[error("the snapshot has format version {found}, and this program reads version {supported}")]
    Version {
        /// The version of the stream.
        found: u16,
        /// The version that can be read.
        supported: u16,
    },
    /// It is a sound snapshot of something else.
    #[error("the snapshot does not fit: {reason}")]
    Mismatch {
        /// What differs.
        reason: String,
    },
    /// The node has no state to make one of: its own is being rebuilt, or it is a witness.
    #[error("this node holds no state; ask another one for a snapshot")]
    NoState,
    /// A row is too large for a snapshot.
    #[error(
        "a row of table `{table}` takes {bytes} bytes, above the limit of {limit} for a snapshot"
    )]
    RowTooLarge {
        /// The table.
        table: String,
        /// The length of key and value.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The engine failed.
    #[error(transparent)]
    Store(#[from] folio_store::Error),
    /// The stream could not be read or written.
    #[error("snapshot stream: {0}")]
    Io(#[from] std::io::Error),
}
