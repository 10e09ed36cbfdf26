//! Checking the chain of a vault from its first block to its last.

use folio_store::ReadTransaction;

use super::{Place, VerifyError};
use crate::block::transactions_root;
use crate::digest::Digest;
use crate::merkle::{self, Frontier};
use crate::read::LedgerView;
use crate::tables::History;

/// A chain that is sound.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ChainReport {
    /// The vault.
    pub vault: u64,
    /// The number of blocks, with block 0.
    pub blocks: u64,
    /// The number of transactions in all of them.
    pub transactions: u64,
    /// The hash of the last block.
    pub head: Digest,
    /// The state root that the last block commits to.
    pub state_root: Digest,
}

/// Checks every block of a vault: its place, its links to the blocks before, its transactions, and the vault's own
/// record of the last one. `progress` gets the number of blocks checked and their total.
///
/// What the blocks say of the state is checked by [`verify_state`](super::verify_state), for the last one.
pub fn verify_chain(
    view: &ReadTransaction,
    vault: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ChainReport, VerifyError> {
    let ledger = LedgerView::new(view);
    let info = ledger.vault(vault)?.ok_or(VerifyError::UnknownVault(vault))?;
    let history = view.table::<History>()?;
    let mut chain = Frontier::new();
    let mut report =
        ChainReport { vault, blocks: 0, transactions: 0, head: Digest::ZERO, state_root: merkle::EMPTY };
    let mut time = 0;
    let mut log_index = 0;
    for height in 0..=info.height {
        let place = Place { vault, describe: || format!("block {height}") };
        let Some(header) = ledger.block(vault, height)? else {
            return Err(VerifyError::Mismatch {
                vault,
                place: (place.describe)(),
                what: "the block",
                found: "missing".to_owned(),
                expected: "there".to_owned(),
            });
        };
        place.compare("the vault", header.vault, vault)?;
        place.compare("the height", header.height, height)?;
        place.compare("the hash of the previous block", header.previous, report.head)?;
        place.compare("the history root", header.history_root, chain.root())?;
        place.compare("the time", header.time, header.time.max(time))?;
        place.compare("the log index", header.log_index, header.log_index.max(log_index))?;
        let transactions = ledger.encoded_transactions(vault, height)?;
        place.compare("the number of transactions", transactions.len() as u64, header.transactions.into())?;
        let root = transactions_root(transactions.iter().map(Vec::as_slice));
        place.compare("the transactions root", header.transactions_root, root)?;
        report.head = header.hash();
        for (level, index, expected) in chain.append(report.head) {
            let stored = history.get((vault, level, index))?.map_or(Digest::ZERO, Digest);
            place.compare("the history tree", stored, expected)?;
        }
        (time, log_index) = (header.time, header.log_index);
        report.blocks += 1;
        report.transactions += u64::from(header.transactions);
        report.state_root = header.state_root;
        if height == info.height {
            let place = Place { vault, describe: || "the vault's record of its last block".to_owned() };
            place.compare("the block hash", info.block_hash, report.head)?;
            place.compare("the time", info.time, header.time)?;
            place.compare("the state root", info.state_root, header.state_root)?;
            place.compare("the number of entities", info.entities, header.entities)?;
            place.compare("the number of relationships", info.relationships, header.relationships)?;
        }
        progress(height + 1, info.height + 1);
    }
    Ok(report)
}
