//! Blocks: the end of an entry.

use super::{Entry, OpenVault};
use crate::block::{BlockHeader, transactions_root};
use crate::error::{LedgerError, Result};
use crate::history;
use crate::merkle;
use crate::tables::VaultRow;
use crate::tree::{Change, Update};

impl Entry<'_> {
    /// Gives each vault that the entry changed its new state root and its block.
    pub(super) fn seal_blocks(&mut self) -> Result<()> {
        for (vault, open) in std::mem::take(&mut self.vaults) {
            self.seal(vault, open)?;
        }
        Ok(())
    }

    /// Ends what the entry did to a vault.
    pub(super) fn seal(&mut self, vault: u64, open: OpenVault) -> Result<()> {
        let OpenVault {
            mut row,
            height,
            changes,
            records,
            retention,
        } = open;
        let had_versions = row.retention > 0;
        if !records.is_empty() {
            if !changes.is_empty() {
                let changes: Vec<Change> = changes
                    .into_iter()
                    .map(|(path, content)| Change { path, content })
                    .collect();
                row.state_root = Update::new(&mut self.tables.tree, vault).apply(&changes)?;
            }
            row.retain_at(height);
            row = self.add_block(vault, height, row, &records)?;
        }
        if let Some(retention) = retention {
            row.set_retention(retention);
            self.tables.vaults.insert(vault, &row)?;
        }
        if had_versions {
            self.trim_later(vault, &row)?;
        }
        Ok(())
    }

    /// Adds the block at `height`. `row` is the vault at the block before, with the state after
    /// this one. Returns the vault at the new block.
    pub(super) fn add_block(
        &mut self,
        vault: u64,
        height: u64,
        row: VaultRow,
        records: &[Vec<u8>],
    ) -> Result<VaultRow> {
        let mut chain = history::load(&self.tables.history, vault, height)?;
        let header = BlockHeader {
            vault,
            height,
            log_index: self.at.index,
            log_term: self.at.term,
            time: self.at.time,
            previous: row.block_hash,
            history_root: chain.root(),
            transactions: u32::try_from(records.len()).map_err(|_| {
                LedgerError::Inconsistent("a block has more than 2^32 transactions".to_owned())
            })?,
            transactions_root: transactions_root(records.iter().map(Vec::as_slice)),
            entities: row.entities,
            relationships: row.relationships,
            state_root: row.state_root,
        };
        let encoded = header.encode();
        let hash = merkle::leaf_hash(&encoded);
        self.tables.blocks.insert((vault, height), &encoded[..])?;
        for (position, record) in (0_u32..).zip(records) {
            self.tables
                .transactions
                .insert((vault, height, position), &record[..])?;
        }
        for (level, index, subtree) in chain.append(hash) {
            self.tables
                .history
                .insert((vault, level, index), subtree.0)?;
        }
        let row = VaultRow {
            height,
            block_hash: hash,
            time: self.at.time,
            ..row
        };
        self.tables.vaults.insert(vault, &row)?;
        Ok(row)
    }
}
