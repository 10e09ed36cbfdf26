//! Reading the rows of a commitment.

use folio_store::{TableMut, TableView};

use super::{Band, Link};
use crate::commitment::{Item, decode_bucket};
use crate::digest::Digest;
use crate::error::{LedgerError, Result};
use crate::prefix::Prefix;
use crate::tables::{Bands, Buckets};

/// Where the rows of the commitments come from: a view, or a transaction that may have changed
/// them.
pub(crate) trait TreeRows {
    fn bucket_row(&self, key: (u64, u16, &[u8])) -> folio_store::Result<Option<Vec<u8>>>;
    fn band_row(&self, key: (u64, u16, &[u8])) -> folio_store::Result<Option<Vec<u8>>>;
}

impl TreeRows for (TableView<'_, Buckets>, TableView<'_, Bands>) {
    fn bucket_row(&self, key: (u64, u16, &[u8])) -> folio_store::Result<Option<Vec<u8>>> {
        self.0.get(key)
    }

    fn band_row(&self, key: (u64, u16, &[u8])) -> folio_store::Result<Option<Vec<u8>>> {
        self.1.get(key)
    }
}

impl TreeRows for (TableMut<'_, Buckets>, TableMut<'_, Bands>) {
    fn bucket_row(&self, key: (u64, u16, &[u8])) -> folio_store::Result<Option<Vec<u8>>> {
        self.0.get(key)
    }

    fn band_row(&self, key: (u64, u16, &[u8])) -> folio_store::Result<Option<Vec<u8>>> {
        self.1.get(key)
    }
}

/// The row key of what is stored at a prefix.
pub(super) fn row_key(vault: u64, prefix: &Prefix) -> (u64, u16, &[u8]) {
    (vault, prefix.depth(), prefix.bytes())
}

/// The bucket at a prefix; an empty one has no row.
pub(super) fn bucket(rows: &impl TreeRows, vault: u64, prefix: &Prefix) -> Result<Vec<Item>> {
    let Some(row) = rows.bucket_row(row_key(vault, prefix))? else {
        return Ok(Vec::new());
    };
    decode_bucket(&row)
        .filter(|items| items.is_sorted_by(|a, b| a.path < b.path))
        .filter(|items| items.iter().all(|item| prefix.covers(&item.path)))
        .ok_or_else(|| damaged("the bucket", vault, prefix))
}

/// The band whose top is the node at a prefix; `None` when there is no node there.
pub(super) fn band(rows: &impl TreeRows, vault: u64, prefix: &Prefix) -> Result<Option<Band>> {
    match rows.band_row(row_key(vault, prefix))? {
        None => Ok(None),
        Some(row) => Band::decode(&row)
            .map(Some)
            .ok_or_else(|| damaged("the nodes", vault, prefix)),
    }
}

/// Both links of the node at `prefix`, out of the band that holds them.
///
/// A link to a node is never deeper than 255 levels: two items that agree in all 256 bits of their
/// paths would be a collision of SHA-256. So whoever follows links stays within the bits of a path,
/// whatever the rows say.
pub(super) fn children(held: &Band, vault: u64, prefix: &Prefix) -> Result<[Link; 2]> {
    let child = |bit| {
        let child = prefix.child(bit);
        held.get(&child)
            .filter(|link| !link.is_node || child.depth() < 256)
            .ok_or_else(|| damaged("the link", vault, &child))
    };
    Ok([child(false)?, child(true)?])
}

pub(super) fn damaged(what: &str, vault: u64, prefix: &Prefix) -> LedgerError {
    LedgerError::Inconsistent(format!(
        "{what} at {prefix} of the commitment of vault {vault} is missing or damaged"
    ))
}

/// The bucket that `path` leads to, and the hashes of the subtrees beside the way there, the root's
/// child first.
pub(crate) fn find_bucket(
    rows: &impl TreeRows,
    vault: u64,
    path: &Digest,
) -> Result<(Vec<Item>, Vec<Digest>)> {
    let mut siblings = Vec::new();
    let mut prefix = Prefix::ROOT;
    let mut held = band(rows, vault, &prefix)?;
    while let Some(current) = &held {
        let links = children(current, vault, &prefix)?;
        let bit = path.bit(prefix.depth());
        siblings.push(links[usize::from(!bit)].hash);
        let link = links[usize::from(bit)];
        prefix = prefix.child(bit);
        if !link.is_node {
            break;
        }
        if Band::holding(&prefix.child(false)) == prefix {
            held = Some(
                band(rows, vault, &prefix)?.ok_or_else(|| damaged("the node", vault, &prefix))?,
            );
        }
    }
    Ok((bucket(rows, vault, &prefix)?, siblings))
}
