//! Blocks: the creation of a vault, and the end of an entry.

use super::{Entry, OpenVault};
use crate::block::{BlockHeader, transactions_root};
use crate::digest::Digest;
use crate::error::{LedgerError, Result};
use crate::history;
use crate::merkle;
use crate::tables::VaultRow;
use crate::tree::{Change, Update};

impl Entry<'_> {
    /// Creates a vault with its block 0 and returns its number.
    pub(super) fn create_vault(&mut self, name: &str) -> Result<u64> {
        let vault = self.next_number("vault")?;
        let row = VaultRow {
            name: name.to_owned(),
            height: 0,
            block_hash: Digest::ZERO,
            time: 0,
            state_root: merkle::EMPTY,
            entities: 0,
            relationships: 0,
        };
        self.add_block(vault, 0, row, &[])?;
        Ok(vault)
    }

    /// Gives each vault that the entry changed its new state root and its block.
    pub(super) fn seal_blocks(&mut self) -> Result<()> {
        for (vault, open) in std::mem::take(&mut self.vaults) {
            let OpenVault {
                mut row,
                changes,
                transactions,
            } = open;
            if changes.is_empty() && transactions.is_empty() {
                continue;
            }
            if !changes.is_empty() {
                let changes: Vec<Change> = changes
                    .into_iter()
                    .map(|(path, content)| Change { path, content })
                    .collect();
                row.state_root = Update::new(&mut self.tables.tree, vault).apply(&changes)?;
            }
            let height = row.height + 1;
            self.add_block(vault, height, row, &transactions)?;
        }
        Ok(())
    }

    /// Adds the block at `height`. `row` is the vault at the block before, with the state after
    /// this one.
    fn add_block(
        &mut self,
        vault: u64,
        height: u64,
        row: VaultRow,
        transactions: &[Vec<u8>],
    ) -> Result<()> {
        let mut chain = history::load(&self.tables.history, vault, height)?;
        let header = BlockHeader {
            vault,
            height,
            log_index: self.at.index,
            log_term: self.at.term,
            time: self.at.time,
            previous: row.block_hash,
            history_root: chain.root(),
            transactions: u32::try_from(transactions.len()).map_err(|_| {
                LedgerError::Inconsistent("a block has more than 2^32 transactions".to_owned())
            })?,
            transactions_root: transactions_root(transactions.iter().map(Vec::as_slice)),
            entities: row.entities,
            relationships: row.relationships,
            state_root: row.state_root,
        };
        let encoded = header.encode();
        let hash = merkle::leaf_hash(&encoded);
        self.tables.blocks.insert((vault, height), &encoded[..])?;
        for (position, transaction) in (0_u32..).zip(transactions) {
            self.tables
                .transactions
                .insert((vault, height, position), &transaction[..])?;
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
        self.tables.vaults.insert(vault, row)?;
        Ok(())
    }
}
