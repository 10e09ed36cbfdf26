//! Reading a snapshot, a chunk at a time, believing nothing.

use std::io::Read;

use serde::Deserialize;

use super::SnapshotError;
use super::format::{Chunk, Kind, MAGIC, Running, SnapshotHeader, Source, Trailer, VERSION};

/// Reads a snapshot: the header when it is opened, then the rows, then the trailer, which is
/// checked before the end is reported. Until [`next_rows`](Self::next_rows) has returned `None`
/// nothing that was read may be used.
pub struct SnapshotReader<R> {
    source: Source<R>,
    header: SnapshotHeader,
    digest: Running,
    counts: Vec<u64>,
    /// The table of the last chunk, and its last key: what comes next must be greater.
    table: u32,
    last_key: Option<Vec<u8>>,
    summary: Option<Summary>,
}

/// What a whole snapshot amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The rows of each table, in the order of the header.
    pub rows: Vec<u64>,
    /// The digest over header, rows and counts.
    pub digest: [u8; 32],
}

/// Some rows of one table, in order of key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The number of the table in the header.
    pub table: usize,
    /// Keys and values as stored.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads and checks the header.
    pub fn new(inner: R) -> Result<Self, SnapshotError> {
        let mut source = Source::new(inner);
        if &source.exact::<8>()? != MAGIC {
            return Err(SnapshotError::Damaged {
                offset: 0,
                reason: "it does not begin as a snapshot does".into(),
            });
        }
        let found = u16::from_le_bytes(source.exact()?);
        if found != VERSION {
            return Err(SnapshotError::Version {
                found,
                supported: VERSION,
            });
        }
        let start = source.offset;
        let (kind, payload) = source.frame()?;
        if kind != Kind::Header {
            return Err(damaged(
                start,
                format!("a {kind:?} stands in place of the header"),
            ));
        }
        let mut digest = Running::new();
        digest.add(kind, &payload);
        let header: SnapshotHeader = decode(start, &payload)?;
        let counts = vec![0; header.tables.len()];
        Ok(Self {
            source,
            header,
            digest,
            counts,
            table: 0,
            last_key: None,
            summary: None,
        })
    }

    /// What the snapshot says about itself.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// The row counts and the digest, once the end was reached.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// The next rows, or `None` when the snapshot is complete and its trailer agrees.
    pub fn next_rows(&mut self) -> Result<Option<Rows>, SnapshotError> {
        if self.summary.is_some() {
            return Ok(None);
        }
        let start = self.source.offset;
        let (kind, payload) = self.source.frame()?;
        match kind {
            Kind::Header => Err(damaged(start, "a second header".into())),
            Kind::Chunk => self.rows(start, &payload).map(Some),
            Kind::Trailer => {
                self.finish(start, &payload)?;
                Ok(None)
            }
        }
    }

    fn rows(&mut self, start: u64, payload: &[u8]) -> Result<Rows, SnapshotError> {
        self.digest.add(Kind::Chunk, payload);
        let chunk: Chunk<'_> = decode(start, payload)?;
        let table = chunk.table as usize;
        let Some(count) = self.counts.get_mut(table) else {
            return Err(damaged(
                start,
                format!("rows of table {table}, which does not exist"),
            ));
        };
        if chunk.table < self.table {
            return Err(damaged(
                start,
                format!("rows of table {table} out of order"),
            ));
        }
        if chunk.table > self.table {
            self.table = chunk.table;
            self.last_key = None;
        }
        let mut rows = Vec::with_capacity(chunk.rows.len());
        for (key, value) in chunk.rows {
            let key = key.to_vec();
            if self.last_key.as_ref().is_some_and(|last| *last >= key) {
                return Err(damaged(start, "keys that do not ascend".into()));
            }
            self.last_key = Some(key.clone());
            rows.push((key, value.to_vec()));
        }
        *count += rows.len() as u64;
        Ok(Rows { table, rows })
    }

    fn finish(&mut self, start: u64, payload: &[u8]) -> Result<(), SnapshotError> {
        let trailer: Trailer = decode(start, payload)?;
        if trailer.rows != self.counts {
            return Err(damaged(start, "the row counts differ from the rows".into()));
        }
        let counts = postcard::to_allocvec(&self.counts)
            .map_err(|e| damaged(start, format!("the row counts cannot be encoded: {e}")))?;
        let mut digest = self.digest.clone();
        digest.add(Kind::Trailer, &counts);
        if digest.finish() != trailer.digest {
            return Err(damaged(
                start,
                "the digest differs from the contents".into(),
            ));
        }
        if !self.source.at_end()? {
            return Err(damaged(self.source.offset, "bytes follow the end".into()));
        }
        self.summary = Some(Summary {
            rows: trailer.rows,
            digest: trailer.digest,
        });
        Ok(())
    }
}

fn damaged(offset: u64, reason: String) -> SnapshotError {
    SnapshotError::Damaged { offset, reason }
}

fn decode<'a, T: Deserialize<'a>>(start: u64, payload: &'a [u8]) -> Result<T, SnapshotError> {
    let (part, rest) = postcard::take_from_bytes(payload)
        .map_err(|e| damaged(start, format!("it does not decode: {e}")))?;
    if rest.is_empty() {
        Ok(part)
    } else {
        Err(damaged(
            start,
            format!("{} bytes are left over", rest.len()),
        ))
    }
}
