//! The parts of the stream, their limits, and the frames they travel in.

use std::io::{self, Read};

use folio_store::TableDefinition;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SnapshotError;
use crate::types::{LogId, StoredMembership};

pub(super) const MAGIC: &[u8; 8] = b"FOLIOSNP";
pub(super) const VERSION: u16 = 1;

/// A chunk is closed when its rows reach this many bytes.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// Key and value of one row, at most. A larger row than [`CHUNK_BYTES`] is a chunk of its own.
pub(super) const ROW_LIMIT: usize = 64 << 20;
/// The header and the trailer, at most.
const META_LIMIT: usize = 1 << 20;
/// A chunk, at most: the rows that fit, a last one that does not, and what postcard adds.
const CHUNK_LIMIT: usize = CHUNK_BYTES + ROW_LIMIT + 1024;
/// zstd's own default; the chunks are too small for more effort to pay.
const ZSTD_LEVEL: i32 = 3;
/// The window of that level is 2 MiB at most. A larger one would be memory that a stranger chose.
const ZSTD_WINDOW_LOG: u32 = 22;
/// Kind, length of the payload, length as stored.
const FRAME_HEAD: usize = 9;
const FRAME_CHECK: usize = 4;

/// What a snapshot says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// The last entry whose effect is in the rows.
    pub last_log_id: Option<LogId>,
    /// The membership at that entry.
    pub membership: StoredMembership,
    /// The newest proposer time applied, in microseconds since the Unix epoch.
    pub time: u64,
    /// The tables, in the order in which their rows follow.
    pub tables: Vec<SnapshotTable>,
}

/// A table of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTable {
    /// Its name.
    pub name: String,
    /// Its key type, as the engine names it.
    pub key_type: String,
    /// Its value type, as the engine names it.
    pub value_type: String,
}

impl From<&TableDefinition> for SnapshotTable {
    fn from(table: &TableDefinition) -> Self {
        Self {
            name: table.name.clone(),
            key_type: table.key_type.clone(),
            value_type: table.value_type.clone(),
        }
    }
}

/// The end of the stream.
#[derive(Serialize, Deserialize)]
pub(super) struct Trailer {
    pub rows: Vec<u64>,
    pub digest: [u8; 32],
}

/// Rows that the receiver has: from the first key to the last there are so many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub table: u32,
    pub first: Vec<u8>,
    pub last: Vec<u8>,
    pub rows: u64,
}

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Header = 1,
    Chunk = 2,
    Trailer = 3,
    /// The log id from which on a receiver may be: what follows are changes.
    Base = 4,
    Kept = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::{Base, Chunk, Header, Kept, Trailer};
        [Header, Chunk, Trailer, Base, Kept]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }

    fn limit(self) -> usize {
        match self {
            Kind::Header | Kind::Trailer | Kind::Base | Kind::Kept => META_LIMIT,
            Kind::Chunk => CHUNK_LIMIT,
        }
    }
}

/// The digest over the uncompressed payloads, so that it does not depend on the compressor.
#[derive(Clone)]
pub(super) struct Running(Sha256);

impl Default for Running {
    fn default() -> Self {
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(VERSION.to_le_bytes());
        Running(hash)
    }
}

impl Running {
    pub fn add(&mut self, kind: Kind, payload: &[u8]) {
        self.0.update([kind as u8]);
        self.0.update((payload.len() as u64).to_le_bytes());
        self.0.update(payload);
    }

    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Appends one frame to `out`.
pub(super) fn put_frame(
    out: &mut Vec<u8>,
    kind: Kind,
    payload: &[u8],
) -> Result<(), SnapshotError> {
    let compressed;
    let stored = if kind == Kind::Chunk {
        compressed = zstd::bulk::compress(payload, ZSTD_LEVEL)?;
        compressed.as_slice()
    } else {
        payload
    };
    let start = out.len();
    out.push(kind as u8);
    out.extend_from_slice(&length(payload)?.to_le_bytes());
    out.extend_from_slice(&length(stored)?.to_le_bytes());
    out.extend_from_slice(stored);
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
    Ok(())
}

fn length(bytes: &[u8]) -> Result<u32, SnapshotError> {
    u32::try_from(bytes.len()).map_err(|_| SnapshotError::Mismatch {
        reason: format!("a part of {} bytes does not fit a frame", bytes.len()),
    })
}

/// Cuts a stream into frames as it arrives. Holds what has arrived of one frame, whose length was
/// checked before more was taken.
#[derive(Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    /// Where in the buffer the next frame begins.
    next: usize,
    /// Where in the stream the buffer begins.
    start: u64,
}

/// One frame: where in the stream it began, and what it holds, checked and uncompressed.
pub(super) struct Frame {
    pub offset: u64,
    pub kind: Kind,
    pub payload: Vec<u8>,
}

impl Frames {
    /// Takes more of the stream. All whole frames should have been taken out before.
    pub fn push(&mut self, bytes: &[u8]) {
        self.start = self.offset();
        self.buffer.drain(..self.next);
        self.next = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Where in the stream the next frame begins.
    pub fn offset(&self) -> u64 {
        self.start + self.next as u64
    }

    /// Where in the stream that which has arrived ends.
    pub fn end(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// Whether everything that has arrived was taken out.
    pub fn is_empty(&self) -> bool {
        self.next == self.buffer.len()
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.next..]
    }

    /// The magic and the version at the start of a stream; none if they have not arrived yet.
    pub fn preamble(&mut self) -> Result<Option<u16>, SnapshotError> {
        let rest = self.rest();
        let magic = &rest[..rest.len().min(MAGIC.len())];
        if !MAGIC.starts_with(magic) {
            return Err(damaged(0, "it does not begin as a snapshot does".into()));
        }
        let Some(version) = array_at(rest, MAGIC.len()) else {
            return Ok(None);
        };
        self.next += MAGIC.len() + 2;
        Ok(Some(u16::from_le_bytes(version)))
    }

    /// The next frame; none if it has not arrived as a whole.
    pub fn next(&mut self) -> Result<Option<Frame>, SnapshotError> {
        let offset = self.offset();
        let rest = self.rest();
        let (Some(&kind), Some(raw), Some(stored)) =
            (rest.first(), array_at(rest, 1), array_at(rest, 5))
        else {
            return Ok(None);
        };
        let kind =
            Kind::of(kind).ok_or_else(|| damaged(offset, format!("no part has kind {kind}")))?;
        let raw = u32::from_le_bytes(raw) as usize;
        let stored = u32::from_le_bytes(stored) as usize;
        // Incompressible bytes grow a little.
        if raw > kind.limit() || stored > zstd::zstd_safe::compress_bound(kind.limit()) {
            return Err(damaged(
                offset,
                format!(
                    "a {kind:?} of {raw} bytes ({stored} stored) is above the limit of {}",
                    kind.limit()
                ),
            ));
        }
        let end = FRAME_HEAD + stored;
        let Some(crc) = array_at(rest, end) else {
            return Ok(None);
        };
        if crc32fast::hash(&rest[..end]) != u32::from_le_bytes(crc) {
            return Err(damaged(offset, "its checksum is wrong".into()));
        }
        let bytes = &rest[FRAME_HEAD..end];
        let payload = if kind == Kind::Chunk {
            decompress(bytes, raw)
                .map_err(|e| damaged(offset, format!("it does not decompress: {e}")))?
        } else {
            bytes.to_vec()
        };
        if payload.len() != raw {
            return Err(damaged(
                offset,
                format!("it holds {} bytes instead of {raw}", payload.len()),
            ));
        }
        self.next += end + FRAME_CHECK;
        Ok(Some(Frame {
            offset,
            kind,
            payload,
        }))
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Decompresses at most one byte more than announced, growing as it goes.
fn decompress(bytes: &[u8], raw: usize) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    decoder.take(raw as u64 + 1).read_to_end(&mut payload)?;
    Ok(payload)
}

pub(super) fn damaged(offset: u64, reason: String) -> SnapshotError {
    SnapshotError::Damaged { offset, reason }
}

/// Decodes a part that must take up all of `payload`.
pub(super) fn decode<'a, T: Deserialize<'a>>(
    offset: u64,
    payload: &'a [u8],
) -> Result<T, SnapshotError> {
    match decode_first(offset, payload)? {
        (part, []) => Ok(part),
        (_, rest) => Err(damaged(
            offset,
            format!("{} bytes are left over", rest.len()),
        )),
    }
}

/// Decodes the part that `payload` begins with, and gives what follows it.
pub(super) fn decode_first<'a, T: Deserialize<'a>>(
    offset: u64,
    payload: &'a [u8],
) -> Result<(T, &'a [u8]), SnapshotError> {
    postcard::take_from_bytes(payload)
        .map_err(|e| damaged(offset, format!("it does not decode: {e}")))
}

pub(super) fn encode<T: Serialize>(part: &T) -> Result<Vec<u8>, SnapshotError> {
    postcard::to_allocvec(part).map_err(|e| SnapshotError::Mismatch {
        reason: format!("a part cannot be encoded: {e}"),
    })
}
