//! Snapshots for a node that has an older state: what was changed since.
//!
//! The stream names ranges of rows that the node has (first and last key, and how many), and gives
//! the rows between them. It is made from the pages of the sender's view: those that are older than
//! a point of the log hold what was there at that point, and at any later one. So it fits a node
//! that is anywhere between that point and the snapshot, and everything that lies in no range is
//! removed there. That the ranges have as many rows as the stream says is checked: then each holds
//! the sender's rows and no others.

use std::io::Write;

use folio_store::Change;

use super::SnapshotError;
use super::SnapshotSource;
use super::format::{CHUNK_BYTES, Kept, Kind, encode, put_frame};
use super::write::{Chunk, SnapshotWriter};
use crate::store::Point;

/// Bytes of a stream of changes, at most. They are put on the state in one transaction, and that is
/// for how long Raft waits.
pub(crate) const CHANGES_LIMIT: u64 = 64 << 20;

/// Writes what was changed since `base`, unless it is more than [`CHANGES_LIMIT`] or more than half
/// of all rows: then false, and what was written is of no use.
pub(crate) fn write_changes(
    source: &SnapshotSource,
    base: Point,
    out: &mut impl Write,
) -> Result<bool, SnapshotError> {
    let mut writer = SnapshotWriter::new(&source.tables);
    let mut bytes = Vec::new();
    let mut written = 0;
    let mut rows_left = 0;
    for table in &source.tables {
        rows_left += source.view.untyped(table)?.len()?;
    }
    rows_left /= 2;

    writer.header(&source.view, &mut bytes)?;
    let payload = encode(&base.log_id)?;
    writer.digest.add(Kind::Base, &payload);
    put_frame(&mut bytes, Kind::Base, &payload)?;
    for (table, definition) in source.tables.iter().enumerate() {
        let view = source.view.untyped(definition)?;
        let mut chunk = Chunk::default();
        for change in view.changes_since(base.transaction) {
            match change? {
                Change::Row { key, value } => {
                    if rows_left == 0 {
                        return Ok(false);
                    }
                    rows_left -= 1;
                    chunk.push(&definition.name, &key, &value)?;
                }
                Change::Kept { first, last, rows } => {
                    writer.chunk(table, &mut chunk, &mut bytes)?;
                    let table = super::write::number(table)?;
                    let payload = encode(&Kept {
                        table,
                        first,
                        last,
                        rows,
                    })?;
                    writer.digest.add(Kind::Kept, &payload);
                    put_frame(&mut bytes, Kind::Kept, &payload)?;
                }
            }
            if chunk.bytes >= CHUNK_BYTES {
                writer.chunk(table, &mut chunk, &mut bytes)?;
            }
            if bytes.len() >= CHUNK_BYTES {
                written += bytes.len() as u64;
                if written > CHANGES_LIMIT {
                    return Ok(false);
                }
                out.write_all(&bytes)?;
                bytes.clear();
            }
        }
        writer.chunk(table, &mut chunk, &mut bytes)?;
    }
    writer.trailer(&mut bytes)?;
    out.write_all(&bytes)?;
    out.flush()?;
    Ok(written + bytes.len() as u64 <= CHANGES_LIMIT)
}
