//! Reading the rows of a commitment.

use folio_store::TableView;

use super::fan::{CHILDREN, Fan, Form, halves};
use super::{GROUP_CAPACITY, LEVELS};
use crate::commitment::{BUCKET_CAPACITY, Item, split, subtree_hash};
use crate::digest::Digest;
use crate::error::{LedgerError, Result};
use crate::prefix::Prefix;
use crate::tables::{Fans, Items};

/// The rows of the commitments: of a view, or of a transaction that may have changed them.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'r, 't> {
    pub(crate) items: &'r TableView<'t, Items>,
    pub(crate) fans: &'r TableView<'t, Fans>,
}

/// The items of the subtree at a prefix, which should be no more than `limit`.
pub(super) fn items(
    rows: Rows<'_, '_>,
    vault: u64,
    prefix: &Prefix,
    limit: usize,
) -> Result<Vec<Item>> {
    let (first, last) = prefix.paths();
    let mut items = Vec::with_capacity(limit.min(GROUP_CAPACITY));
    let mut range = rows
        .items
        .range((vault, first.0)..=(vault, last.0))?
        .stored();
    while let Some(row) = range.next_borrowed()? {
        let path = row.key_bytes().last_chunk::<32>();
        let content = row.value_bytes().try_into().ok();
        let (Some(&path), Some(content)) = (path, content) else {
            return Err(damaged("an item", vault, prefix));
        };
        if items.len() == limit {
            return Err(damaged("the number of items", vault, prefix));
        }
        items.push(Item {
            path: Digest(path),
            content: Digest(content),
        });
    }
    Ok(items)
}

/// The row key of the fan at a prefix.
pub(super) fn fan_key(vault: u64, prefix: &Prefix) -> (u64, u16, &[u8]) {
    (vault, prefix.depth(), prefix.bytes())
}

/// The fan at a prefix, if the subtree there is one.
pub(super) fn find_fan(rows: Rows<'_, '_>, vault: u64, prefix: &Prefix) -> Result<Option<Fan>> {
    let Some(row) = rows.fans.get_stored(fan_key(vault, prefix))? else {
        return Ok(None);
    };
    // No item is in two places, so two of them part at the last bit at the latest: fewer than a group
    // holds agree in all bits but three.
    Fan::decode(row.bytes())
        .filter(|_| prefix.depth() + LEVELS < 256)
        .map(Some)
        .ok_or_else(|| damaged("the fan", vault, prefix))
}

/// The fan at a prefix, where one has to be.
pub(super) fn fan(rows: Rows<'_, '_>, vault: u64, prefix: &Prefix) -> Result<Fan> {
    find_fan(rows, vault, prefix)?.ok_or_else(|| damaged("the fan", vault, prefix))
}

pub(super) fn damaged(what: &str, vault: u64, prefix: &Prefix) -> LedgerError {
    LedgerError::Inconsistent(format!(
        "{what} at {prefix} of the commitment of vault {vault} is missing or damaged"
    ))
}

/// The bucket that `path` leads to, and the hashes of the subtrees beside the way there, the root's
/// child first.
pub(crate) fn find_bucket(
    rows: Rows<'_, '_>,
    vault: u64,
    path: &Digest,
) -> Result<(Vec<Item>, Vec<Digest>)> {
    let mut siblings = Vec::new();
    let mut prefix = Prefix::ROOT;
    let mut held = find_fan(rows, vault, &prefix)?;
    while let Some(current) = held {
        let mut part = 0..CHILDREN;
        while part.len() > 1 {
            if current.is_bucket(part.clone()) {
                return Ok((items(rows, vault, &prefix, BUCKET_CAPACITY)?, siblings));
            }
            let bit = path.bit(prefix.depth());
            let [left, right] = halves(&part);
            let (own, other) = if bit { (right, left) } else { (left, right) };
            siblings.push(current.hash(rows, vault, &prefix.child(!bit), other)?);
            (part, prefix) = (own, prefix.child(bit));
        }
        held = match current.children[part.start].form {
            Form::Fan => Some(fan(rows, vault, &prefix)?),
            Form::Group(_) => None,
        };
    }
    let group = items(rows, vault, &prefix, GROUP_CAPACITY)?;
    let (mut bucket, mut depth) = (&group[..], prefix.depth());
    while bucket.len() > BUCKET_CAPACITY {
        let (left, right) = split(bucket, depth);
        let bit = path.bit(depth);
        let (own, other) = if bit { (right, left) } else { (left, right) };
        depth += 1;
        siblings.push(subtree_hash(other, depth));
        bucket = own;
    }
    Ok((bucket.to_vec(), siblings))
}
