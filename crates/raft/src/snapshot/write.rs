//! Writing a snapshot from a read transaction, as far as somebody asks for it.

use std::io::Write;
use std::ops::Bound;

use folio_store::{ReadTransaction, TableDefinition};

use super::SnapshotError;
use super::format::{
    CHUNK_BYTES, Kind, MAGIC, ROW_LIMIT, Running, SnapshotHeader, SnapshotTable, Trailer, VERSION,
    encode, put_frame,
};
use crate::store::{holds_state, state_record};

/// How much of a snapshot is in memory when it is written to a file.
const WRITE_BYTES: usize = 256 << 10;

/// Writes a snapshot of `tables` as `view` shows them, and returns its digest.
///
/// Log id, membership and time come from the same view, so they fit the rows.
pub fn write_snapshot(
    view: &ReadTransaction,
    tables: &[TableDefinition],
    out: &mut impl Write,
) -> Result<[u8; 32], SnapshotError> {
    let mut writer = SnapshotWriter::new(tables);
    let mut bytes = Vec::new();
    loop {
        let digest = writer.write(view, &mut bytes, WRITE_BYTES)?;
        out.write_all(&bytes)?;
        bytes.clear();
        if let Some(digest) = digest {
            out.flush()?;
            return Ok(digest);
        }
    }
}

/// A snapshot that is being written: where it stands, and what its end will say.
pub(crate) struct SnapshotWriter {
    pub(super) tables: Vec<TableDefinition>,
    pub(super) digest: Running,
    counts: Vec<u64>,
    next: Next,
}

#[derive(Clone)]
enum Next {
    Header,
    /// The rows of a table behind a key.
    Rows(usize, Option<Vec<u8>>),
    Nothing([u8; 32]),
}

impl SnapshotWriter {
    pub fn new(tables: &[TableDefinition]) -> Self {
        Self {
            tables: tables.to_vec(),
            digest: Running::default(),
            counts: vec![0; tables.len()],
            next: Next::Header,
        }
    }

    /// Appends to `out` until that has `length` bytes, a chunk more, or everything. Gives the
    /// digest at the end. The view must be the same in each call.
    pub fn write(
        &mut self,
        view: &ReadTransaction,
        out: &mut Vec<u8>,
        length: usize,
    ) -> Result<Option<[u8; 32]>, SnapshotError> {
        loop {
            match self.next.clone() {
                // Before the length is looked at: an end that fills a part is told with that part.
                Next::Nothing(digest) => return Ok(Some(digest)),
                _ if out.len() >= length => return Ok(None),
                Next::Header => {
                    self.header(view, out)?;
                    self.next = Next::Rows(0, None);
                }
                Next::Rows(table, after) => {
                    self.next = match self.tables.get(table).cloned() {
                        None => Next::Nothing(self.trailer(out)?),
                        Some(definition) => {
                            match self.rows(view, &definition, table, after, out, length)? {
                                None => Next::Rows(table + 1, None),
                                after => Next::Rows(table, after),
                            }
                        }
                    }
                }
            }
        }
    }

    pub(super) fn header(
        &mut self,
        view: &ReadTransaction,
        out: &mut Vec<u8>,
    ) -> Result<(), SnapshotError> {
        if !holds_state(view)? {
            return Err(SnapshotError::NoState);
        }
        let record = state_record(view)?;
        let header = SnapshotHeader {
            last_log_id: record.last_applied,
            membership: record.membership,
            time: record.time,
            tables: self.tables.iter().map(SnapshotTable::from).collect(),
        };
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let payload = encode(&header)?;
        self.digest.add(Kind::Header, &payload);
        put_frame(out, Kind::Header, &payload)
    }

    pub(super) fn trailer(&mut self, out: &mut Vec<u8>) -> Result<[u8; 32], SnapshotError> {
        self.digest.add(Kind::Trailer, &encode(&self.counts)?);
        let digest = self.digest.clone().finish();
        let trailer = Trailer {
            rows: self.counts.clone(),
            digest,
        };
        put_frame(out, Kind::Trailer, &encode(&trailer)?)?;
        Ok(digest)
    }

    /// Writes chunks of a table from behind a key until `out` is long enough. Gives the last key,
    /// or none at the end of the table.
    fn rows(
        &mut self,
        view: &ReadTransaction,
        definition: &TableDefinition,
        table: usize,
        after: Option<Vec<u8>>,
        out: &mut Vec<u8>,
        length: usize,
    ) -> Result<Option<Vec<u8>>, SnapshotError> {
        let source = view.untyped(definition)?;
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut chunk = Chunk::default();
        for row in source.range::<&[u8]>((start, Bound::Unbounded))? {
            let (key, value) = row?;
            chunk.push(&definition.name, &key, &value)?;
            if chunk.bytes >= CHUNK_BYTES {
                self.chunk(table, &mut chunk, out)?;
                if out.len() >= length {
                    return Ok(Some(key));
                }
            }
        }
        self.chunk(table, &mut chunk, out)?;
        Ok(None)
    }

    /// Writes a chunk, if it has rows, and empties it.
    pub(super) fn chunk(
        &mut self,
        table: usize,
        chunk: &mut Chunk,
        out: &mut Vec<u8>,
    ) -> Result<(), SnapshotError> {
        if chunk.rows == 0 {
            return Ok(());
        }
        let mut payload = encode(&(number(table)?, chunk.rows))?;
        payload.append(&mut chunk.encoded);
        self.digest.add(Kind::Chunk, &payload);
        self.counts[table] += std::mem::take(chunk).rows;
        put_frame(out, Kind::Chunk, &payload)
    }
}

/// The number of a table, as the stream has it.
pub(super) fn number(table: usize) -> Result<u32, SnapshotError> {
    u32::try_from(table).map_err(|_| SnapshotError::Mismatch {
        reason: format!("table {table} has no number in a snapshot"),
    })
}

/// Rows that will be a chunk, encoded as a postcard list of pairs of byte strings without its
/// length.
#[derive(Default)]
pub(super) struct Chunk {
    encoded: Vec<u8>,
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl Chunk {
    /// Adds a row of a table.
    pub fn push(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        let bytes = key.len() + value.len();
        if bytes > ROW_LIMIT {
            return Err(SnapshotError::RowTooLarge {
                table: table.to_owned(),
                bytes,
                limit: ROW_LIMIT,
            });
        }
        for part in [key, value] {
            self.encoded.append(&mut encode(&(part.len() as u64))?);
            self.encoded.extend_from_slice(part);
        }
        self.rows += 1;
        self.bytes += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use folio_store::{Database, Table};

    use super::*;

    struct Rows;
    impl Table for Rows {
        const NAME: &'static str = "rows";
        type Key = u64;
        type Value = u64;
    }

    /// The sender tells the end with the last bytes; without any left it could not.
    #[test]
    fn the_last_bytes_of_a_snapshot_come_with_its_end_however_long_the_parts_are() {
        let database = Database::in_memory().expect("creates");
        let txn = database.begin_write().expect("a transaction");
        for row in 0..5 {
            let mut rows = txn.table::<Rows>().expect("the table");
            rows.insert(&row, &row).expect("inserted");
        }
        txn.commit().expect("committed");
        let view = database.begin_read().expect("a view");
        let tables = [TableDefinition::of::<Rows>()];
        let mut whole = Vec::new();
        write_snapshot(&view, &tables, &mut whole).expect("written");
        for length in 1..=whole.len() + 1 {
            let mut writer = SnapshotWriter::new(&tables);
            let mut written = Vec::new();
            loop {
                let mut part = Vec::new();
                let end = writer.write(&view, &mut part, length).expect("written");
                assert!(!part.is_empty(), "parts of {length} bytes");
                written.append(&mut part);
                if end.is_some() {
                    break;
                }
            }
            assert!(written == whole, "parts of {length} bytes");
        }
    }
}
