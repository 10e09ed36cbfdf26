//! The history tree of a vault as it is stored: the complete subtrees over its block headers.

use folio_store::TableMut;

use crate::block::BlockHeader;
use crate::digest::Digest;
use crate::error::{LedgerError, Result};
use crate::merkle::Frontier;
use crate::tables::History;

/// The index of the log entry that made the block after `block`, at least: an entry gives a vault one block, and the
/// block that begins its chain besides.
pub(crate) fn least_log_index_after(block: &BlockHeader) -> u64 {
    block.log_index.saturating_add(u64::from(block.height > 0))
}

/// The right edge of the tree over the first `blocks` headers of a vault.
pub(crate) fn load(rows: &TableMut<'_, History>, vault: u64, blocks: u64) -> Result<Frontier> {
    Frontier::load(blocks, |level, index| {
        let stored = rows.get((vault, level, index))?;
        stored.map(Digest).ok_or_else(|| {
            LedgerError::Inconsistent(format!(
                "subtree {index} of level {level} of the history of vault {vault} is missing"
            ))
        })
    })
}
