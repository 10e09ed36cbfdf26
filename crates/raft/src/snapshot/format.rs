//! The parts of the stream, their limits, and the frames they travel in.

use std::io::{self, Read, Write};

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
pub(super) const ZSTD_LEVEL: i32 = 3;

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

/// The rows of a chunk: all of one table.
#[derive(Serialize, Deserialize)]
pub(super) struct Chunk<'a> {
    pub table: u32,
    #[serde(borrow)]
    pub rows: Vec<(&'a [u8], &'a [u8])>,
}

/// The end of the stream.
#[derive(Serialize, Deserialize)]
pub(super) struct Trailer {
    pub rows: Vec<u64>,
    pub digest: [u8; 32],
}

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Header = 1,
    Chunk = 2,
    Trailer = 3,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Kind::Header, Kind::Chunk, Kind::Trailer]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }

    fn limit(self) -> usize {
        match self {
            Kind::Header | Kind::Trailer => META_LIMIT,
            Kind::Chunk => CHUNK_LIMIT,
        }
    }
}

/// The digest over the uncompressed payloads, so that it does not depend on the compressor.
#[derive(Clone)]
pub(super) struct Running(Sha256);

impl Running {
    pub fn new() -> Self {
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(VERSION.to_le_bytes());
        Running(hash)
    }

    pub fn add(&mut self, kind: Kind, payload: &[u8]) {
        self.0.update([kind as u8]);
        self.0.update((payload.len() as u64).to_le_bytes());
        self.0.update(payload);
    }

    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Writes one frame.
pub(super) fn write_frame(
    out: &mut impl Write,
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
    let mut head = [0u8; 9];
    head[0] = kind as u8;
    head[1..5].copy_from_slice(&length(payload)?.to_le_bytes());
    head[5..9].copy_from_slice(&length(stored)?.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head);
    crc.update(stored);
    out.write_all(&head)?;
    out.write_all(stored)?;
    out.write_all(&crc.finalize().to_le_bytes())?;
    Ok(())
}

fn length(bytes: &[u8]) -> Result<u32, SnapshotError> {
    u32::try_from(bytes.len()).map_err(|_| SnapshotError::Mismatch {
        reason: format!("a part of {} bytes does not fit a frame", bytes.len()),
    })
}

/// Reads the stream and counts its bytes.
pub(super) struct Source<R> {
    inner: R,
    pub offset: u64,
}

impl<R: Read> Source<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, offset: 0 }
    }

    pub fn exact<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0u8; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.inner.read_exact(bytes).map_err(|e| self.failed(e))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Reads `length` bytes. The buffer grows with what arrives, so a length that lies costs
    /// nothing.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = Vec::new();
        (&mut self.inner)
            .take(length as u64)
            .read_to_end(&mut bytes)
            .map_err(SnapshotError::Io)?;
        self.offset += bytes.len() as u64;
        if bytes.len() < length {
            return Err(SnapshotError::Truncated {
                offset: self.offset,
            });
        }
        Ok(bytes)
    }

    fn failed(&self, error: io::Error) -> SnapshotError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            SnapshotError::Truncated {
                offset: self.offset,
            }
        } else {
            error.into()
        }
    }

    pub fn at_end(&mut self) -> Result<bool, SnapshotError> {
        let mut byte = [0u8; 1];
        loop {
            match self.inner.read(&mut byte) {
                Ok(read) => return Ok(read == 0),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Reads one frame and gives its payload, checked and uncompressed.
    pub fn frame(&mut self) -> Result<(Kind, Vec<u8>), SnapshotError> {
        let start = self.offset;
        let damaged = |reason: String| SnapshotError::Damaged {
            offset: start,
            reason,
        };
        let head: [u8; 9] = self.exact()?;
        let [kind, r0, r1, r2, r3, s0, s1, s2, s3] = head;
        let raw = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
        let stored = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        let kind = Kind::of(kind).ok_or_else(|| damaged(format!("no part has kind {kind}")))?;
        // Incompressible bytes grow a little.
        if raw > kind.limit() || stored > zstd::zstd_safe::compress_bound(kind.limit()) {
            return Err(damaged(format!(
                "a {kind:?} of {raw} bytes ({stored} stored) is above the limit of {}",
                kind.limit()
            )));
        }
        let bytes = self.take(stored)?;
        let crc = u32::from_le_bytes(self.exact()?);
        let mut expected = crc32fast::Hasher::new();
        expected.update(&head);
        expected.update(&bytes);
        if expected.finalize() != crc {
            return Err(damaged("its checksum is wrong".into()));
        }
        let payload = if kind == Kind::Chunk {
            decompress(&bytes, raw).map_err(|e| damaged(format!("it does not decompress: {e}")))?
        } else {
            bytes
        };
        if payload.len() != raw {
            return Err(damaged(format!(
                "it holds {} bytes instead of {raw}",
                payload.len()
            )));
        }
        Ok((kind, payload))
    }
}

/// Decompresses at most one byte more than announced, growing as it goes.
fn decompress(bytes: &[u8], raw: usize) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    zstd::stream::read::Decoder::with_buffer(bytes)?
        .take(raw as u64 + 1)
        .read_to_end(&mut payload)?;
    Ok(payload)
}
