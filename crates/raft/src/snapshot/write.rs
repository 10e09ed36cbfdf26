//! Writing a snapshot from a read transaction.

use std::io::Write;

use folio_store::{ReadTransaction, TableDefinition};

use super::SnapshotError;
use super::format::{
    CHUNK_BYTES, Chunk, Kind, MAGIC, ROW_LIMIT, Running, SnapshotHeader, SnapshotTable, Trailer,
    VERSION, write_frame,
};
use crate::store::state_record;

/// Writes a snapshot of `tables` as `view` shows them, and returns its digest.
///
/// Log id, membership and time come from the same view, so they fit the rows.
pub fn write_snapshot(
    view: &ReadTransaction,
    tables: &[TableDefinition],
    out: &mut impl Write,
) -> Result<[u8; 32], SnapshotError> {
    let record = state_record(view)?;
    let header = SnapshotHeader {
        last_log_id: record.last_applied,
        membership: record.membership,
        time: record.time,
        tables: tables.iter().map(SnapshotTable::from).collect(),
    };
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    let mut digest = Running::new();
    let payload = encode(&header)?;
    digest.add(Kind::Header, &payload);
    write_frame(out, Kind::Header, &payload)?;

    let mut counts = Vec::with_capacity(tables.len());
    for (number, table) in (0u32..).zip(tables) {
        counts.push(write_rows(view, number, table, &mut digest, out)?);
    }

    let trailer = Trailer {
        digest: {
            digest.add(Kind::Trailer, &encode(&counts)?);
            digest.finish()
        },
        rows: counts,
    };
    write_frame(out, Kind::Trailer, &encode(&trailer)?)?;
    out.flush()?;
    Ok(trailer.digest)
}

/// Writes the rows of one table and returns their number.
fn write_rows(
    view: &ReadTransaction,
    number: u32,
    table: &TableDefinition,
    digest: &mut Running,
    out: &mut impl Write,
) -> Result<u64, SnapshotError> {
    let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    let mut count = 0u64;
    let source = view.untyped(table)?;
    let mut flush = |rows: &mut Vec<(Vec<u8>, Vec<u8>)>| -> Result<(), SnapshotError> {
        let payload = encode(&Chunk {
            table: number,
            rows: rows
                .iter()
                .map(|(key, value)| (key.as_slice(), value.as_slice()))
                .collect(),
        })?;
        digest.add(Kind::Chunk, &payload);
        write_frame(out, Kind::Chunk, &payload)?;
        rows.clear();
        Ok(())
    };
    for row in source.iter()? {
        let (key, value) = row?;
        let length = key.len() + value.len();
        if length > ROW_LIMIT {
            return Err(SnapshotError::RowTooLarge {
                table: table.name.clone(),
                bytes: length,
                limit: ROW_LIMIT,
            });
        }
        rows.push((key, value));
        count += 1;
        bytes += length;
        if bytes >= CHUNK_BYTES {
            flush(&mut rows)?;
            bytes = 0;
        }
    }
    if !rows.is_empty() {
        flush(&mut rows)?;
    }
    Ok(count)
}

fn encode<T: serde::Serialize>(part: &T) -> Result<Vec<u8>, SnapshotError> {
    postcard::to_allocvec(part).map_err(|e| SnapshotError::Mismatch {
        reason: format!("a part cannot be encoded: {e}"),
    })
}
