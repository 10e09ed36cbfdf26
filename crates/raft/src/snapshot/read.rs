//! Reading a snapshot as it arrives, believing nothing.

use std::io::{self, Read};

use super::SnapshotError;
use super::format::{
    CHUNK_BYTES, Frames, Kept, Kind, Running, SnapshotHeader, Trailer, VERSION, damaged, decode,
    decode_first, encode,
};
use crate::types::LogId;

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

/// What a stream consists of, between header and trailer.
pub(crate) enum Piece {
    /// The stream holds changes, for a state of this log id or a later one.
    Base(LogId),
    Rows(Rows),
    Kept(Kept),
}

/// Takes a snapshot in pieces of any size and gives what is in it. Until [`summary`](Self::summary) is
/// there nothing that was given may be used.
#[derive(Default)]
pub(crate) struct SnapshotParser {
    frames: Frames,
    header: Option<SnapshotHeader>,
    digest: Running,
    counts: Vec<u64>,
    /// The table of the last chunk, and its last key: what comes next must be greater.
    table: u32,
    last_key: Option<Vec<u8>>,
    summary: Option<Summary>,
    begun: bool,
    /// Whether this is a stream of changes; none as long as that may turn out.
    changes: Option<bool>,
}

impl SnapshotParser {
    /// Takes more of the stream. Rows of what came before should have been taken out.
    pub fn push(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
    }

    /// What the snapshot says about itself, as soon as it has arrived.
    pub fn header(&self) -> Option<&SnapshotHeader> {
        self.header.as_ref()
    }

    /// Row counts and digest, once everything has arrived and agrees.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// The error for a stream that ends here, if it may not.
    pub fn finish(&self) -> Result<&Summary, SnapshotError> {
        self.summary.as_ref().ok_or(SnapshotError::Truncated {
            offset: self.frames.end(),
        })
    }

    /// The next piece of what has arrived; none when there are no more, which is the end only if
    /// there is a summary. Stops behind the header, too, so that it can be looked at before rows.
    pub fn next(&mut self) -> Result<Option<Piece>, SnapshotError> {
        if self.summary.is_some() {
            return if self.frames.is_empty() {
                Ok(None)
            } else {
                Err(damaged(self.frames.offset(), "bytes follow the end".into()))
            };
        }
        if !self.begun {
            match self.frames.preamble()? {
                None => return Ok(None),
                Some(VERSION) => self.begun = true,
                Some(found) => {
                    return Err(SnapshotError::Version {
                        found,
                        supported: VERSION,
                    });
                }
            }
        }
        let Some(frame) = self.frames.next()? else {
            return Ok(None);
        };
        let (start, payload) = (frame.offset, frame.payload.as_slice());
        match (frame.kind, &self.header) {
            (Kind::Header, None) => {
                self.digest.add(Kind::Header, payload);
                let header: SnapshotHeader = decode(start, payload)?;
                self.counts = vec![0; header.tables.len()];
                self.header = Some(header);
                Ok(None)
            }
            (Kind::Base, Some(_)) if self.changes.is_none() => {
                self.digest.add(Kind::Base, payload);
                self.changes = Some(true);
                decode(start, payload).map(|base| Some(Piece::Base(base)))
            }
            (Kind::Kept, Some(_)) if self.changes == Some(true) => self
                .kept(start, payload)
                .map(|kept| Some(Piece::Kept(kept))),
            (Kind::Chunk, Some(_)) => {
                self.changes.get_or_insert(false);
                self.rows(start, payload)
                    .map(|rows| Some(Piece::Rows(rows)))
            }
            (Kind::Trailer, Some(_)) => {
                self.end(start, payload)?;
                // Whether something follows.
                self.next()
            }
            (Kind::Header | Kind::Base | Kind::Kept, Some(_)) => Err(damaged(
                start,
                format!("a {:?} where none may be", frame.kind),
            )),
            (kind, None) => Err(damaged(
                start,
                format!("a {kind:?} stands in place of the header"),
            )),
        }
    }

    /// Takes note of a table that comes up. Its number is one of the header's, and tables do not
    /// come back.
    fn enter(&mut self, start: u64, table: u32) -> Result<(), SnapshotError> {
        if table as usize >= self.counts.len() {
            let reason = format!("rows of table {table}, which does not exist");
            return Err(damaged(start, reason));
        }
        if table < self.table {
            let reason = format!("rows of table {table} out of order");
            return Err(damaged(start, reason));
        }
        if table > self.table {
            self.table = table;
            self.last_key = None;
        }
        Ok(())
    }

    fn kept(&mut self, start: u64, payload: &[u8]) -> Result<Kept, SnapshotError> {
        self.digest.add(Kind::Kept, payload);
        let kept: Kept = decode(start, payload)?;
        self.enter(start, kept.table)?;
        let last = self.last_key.as_ref();
        if last.is_some_and(|last| *last >= kept.first) || kept.first > kept.last {
            return Err(damaged(start, "keys that do not ascend".into()));
        }
        self.last_key = Some(kept.last.clone());
        Ok(kept)
    }

    fn rows(&mut self, start: u64, payload: &[u8]) -> Result<Rows, SnapshotError> {
        self.digest.add(Kind::Chunk, payload);
        let (table, rest) = decode_first::<u32>(start, payload)?;
        let (count, mut rest) = decode_first::<u64>(start, rest)?;
        self.enter(start, table)?;
        if count == 0 {
            return Err(damaged(start, "a chunk without rows".into()));
        }
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        for _ in 0..count {
            // The writer closes a chunk here. It also bounds what a chunk of tiny rows takes.
            if bytes >= CHUNK_BYTES {
                return Err(damaged(start, "more rows than a chunk has".into()));
            }
            let ((key, value), after) = decode_first::<(&[u8], &[u8])>(start, rest)?;
            rest = after;
            let last = rows.last().map(|(key, _)| key).or(self.last_key.as_ref());
            if last.is_some_and(|last| last.as_slice() >= key) {
                return Err(damaged(start, "keys that do not ascend".into()));
            }
            bytes += key.len() + value.len();
            rows.push((key.to_vec(), value.to_vec()));
        }
        if !rest.is_empty() {
            let reason = format!("{} bytes are left over", rest.len());
            return Err(damaged(start, reason));
        }
        self.last_key = rows.last().map(|(key, _)| key.clone());
        self.counts[table as usize] += count;
        Ok(Rows {
            table: table as usize,
            rows,
        })
    }

    fn end(&mut self, start: u64, payload: &[u8]) -> Result<(), SnapshotError> {
        let trailer: Trailer = decode(start, payload)?;
        if trailer.rows != self.counts {
            return Err(damaged(start, "the row counts differ from the rows".into()));
        }
        let mut digest = self.digest.clone();
        digest.add(Kind::Trailer, &encode(&self.counts)?);
        if digest.finish() != trailer.digest {
            let reason = "the digest differs from the contents";
            return Err(damaged(start, reason.into()));
        }
        self.summary = Some(Summary {
            rows: trailer.rows,
            digest: trailer.digest,
        });
        Ok(())
    }
}

/// Reads a snapshot: the header when it is opened, then the rows, then the trailer, which is
/// checked before the end is reported. Until [`next_rows`](Self::next_rows) has returned `None`
/// nothing that was read may be used.
pub struct SnapshotReader<R> {
    inner: R,
    parser: SnapshotParser,
    header: SnapshotHeader,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads and checks the header.
    pub fn new(mut inner: R) -> Result<Self, SnapshotError> {
        let mut parser = SnapshotParser::default();
        loop {
            let more = read_some(&mut inner, &mut parser)?;
            parser.next()?;
            if let Some(header) = parser.header().cloned() {
                return Ok(Self {
                    inner,
                    parser,
                    header,
                });
            }
            if !more {
                parser.finish()?;
            }
        }
    }

    /// What the snapshot says about itself.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// The row counts and the digest, once the end was reached.
    pub fn summary(&self) -> Option<&Summary> {
        self.parser.summary()
    }

    /// The next rows, or `None` when the snapshot is complete and its trailer agrees.
    pub fn next_rows(&mut self) -> Result<Option<Rows>, SnapshotError> {
        loop {
            match self.parser.next()? {
                Some(Piece::Rows(rows)) => return Ok(Some(rows)),
                Some(Piece::Base(_) | Piece::Kept(_)) => {
                    return Err(SnapshotError::Mismatch {
                        reason: "it holds changes to a state, and no whole one".into(),
                    });
                }
                None => {}
            }
            if !read_some(&mut self.inner, &mut self.parser)? {
                self.parser.finish()?;
                return Ok(None);
            }
        }
    }
}

/// Gives the parser what one read yields. False at the end.
fn read_some(inner: &mut impl Read, parser: &mut SnapshotParser) -> Result<bool, SnapshotError> {
    let mut bytes = [0u8; 16 << 10];
    loop {
        match inner.read(&mut bytes) {
            Ok(read) => {
                parser.push(&bytes[..read]);
                return Ok(read > 0);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}
