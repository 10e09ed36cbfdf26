//! Checking the chain of a vault from its first block to its last.

use std::ops::Bound;

use folio_store::ReadTransaction;

use super::versions::VersionCheck;
use super::{VerifyError, compare};
use crate::block::transactions_root;
use crate::digest::Digest;
use crate::history::least_log_index_after;
use crate::merkle::{self, Frontier};
use crate::read::LedgerView;
use crate::tables::{Blocks, History};

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

/// Checks every block of a vault: its place, its links to the blocks before, its transactions, the
/// past versions of the entities that they changed, and the vault's own record of the last one. `progress` gets the number of blocks checked and their
/// total.
///
/// What the blocks say of the state is checked by [`verify_state`](super::verify_state), for the
/// last one.
pub fn verify_chain(
    view: &ReadTransaction,
    vault: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ChainReport, VerifyError> {
    let ledger = LedgerView::new(view);
    let info = ledger
        .vault(vault)?
        .ok_or(VerifyError::UnknownVault(vault))?;
    let history = view.table::<History>()?;
    let mut chain = Frontier::new();
    let mut report = ChainReport {
        vault,
        blocks: 0,
        transactions: 0,
        head: Digest::ZERO,
        state_root: merkle::EMPTY,
    };
    let mut versions = VersionCheck::new(view, vault, info.retained_from)?;
    let mut time = 0;
    let mut least_log_index = 0;
    for height in 0..=info.height {
        let place = || format!("vault {vault}, block {height}");
        let Some(header) = ledger.block(vault, height)? else {
            return Err(VerifyError::Mismatch {
                place: place(),
                what: "the block",
                found: "missing".to_owned(),
                expected: "there".to_owned(),
            });
        };
        compare(place, "the vault", header.vault, vault)?;
        compare(place, "the height", header.height, height)?;
        compare(
            place,
            "the hash of the previous block",
            header.previous,
            report.head,
        )?;
        compare(place, "the history root", header.history_root, chain.root())?;
        compare(place, "the time", header.time, header.time.max(time))?;
        compare(
            place,
            "the log index",
            header.log_index,
            header.log_index.max(least_log_index),
        )?;
        let transactions = ledger.encoded_records(vault, height)?;
        compare(
            place,
            "the number of transactions",
            transactions.len() as u64,
            header.transactions.into(),
        )?;
        let root = transactions_root(transactions.iter().map(Vec::as_slice));
        compare(
            place,
            "the transactions root",
            header.transactions_root,
            root,
        )?;
        versions.block(height, &transactions)?;
        report.head = header.hash();
        for (level, index, expected) in chain.append(report.head) {
            let stored = history
                .get((vault, level, index))?
                .map_or(Digest::ZERO, Digest);
            compare(place, "the history tree", stored, expected)?;
        }
        (time, least_log_index) = (header.time, least_log_index_after(&header));
        report.blocks += 1;
        report.transactions += u64::from(header.transactions);
        report.state_root = header.state_root;
        if height == info.height {
            let place = || format!("vault {vault}, its record of its last block");
            compare(place, "the block hash", info.block_hash, report.head)?;
            compare(place, "the time", info.time, header.time)?;
            compare(place, "the state root", info.state_root, header.state_root)?;
            compare(
                place,
                "the number of entities",
                info.entities,
                header.entities,
            )?;
            compare(
                place,
                "the number of relationships",
                info.relationships,
                header.relationships,
            )?;
        }
        progress(report.blocks, info.height.saturating_add(1));
    }
    versions.end()?;
    let last = (vault, info.height);
    let beyond = view
        .table::<Blocks>()?
        .range((Bound::Excluded(last), Bound::Included((vault, u64::MAX))))?
        .count();
    compare(
        || format!("vault {vault}"),
        "the number of blocks after the last",
        beyond,
        0,
    )?;
    Ok(report)
}
