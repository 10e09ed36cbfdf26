//! Making proofs; [`proof`](crate::proof) checks them.

use super::LedgerView;
use crate::digest::Digest;
use crate::error::{LedgerError, Result};
use crate::merkle::{self, Tree};
use crate::proof::{BlockProof, ExtensionProof, StateProof, TransactionProof};
use crate::state_key::StateKey;
use crate::tables::{Fans, History, Items, Transactions};
use crate::tree::{Rows, find_bucket};

impl LedgerView<'_> {
    /// The proof that an item of the state is there, or that it is not, under the vault's current
    /// state root.
    pub fn prove(&self, vault: u64, key: &StateKey) -> Result<StateProof> {
        if !self.is_live(vault)? {
            return Ok(StateProof {
                siblings: Vec::new(),
                bucket: Vec::new(),
            });
        }
        let (items, fans) = (self.view.table::<Items>()?, self.view.table::<Fans>()?);
        let rows = Rows {
            items: &items,
            fans: &fans,
        };
        let (bucket, siblings) = find_bucket(rows, vault, &key.path())?;
        Ok(StateProof { siblings, bucket })
    }

    /// The proof that a transaction is in its block; `None` when there is no such transaction.
    /// Reads all records of the block.
    pub fn prove_transaction(
        &self,
        vault: u64,
        height: u64,
        position: u32,
    ) -> Result<Option<TransactionProof>> {
        if !self.is_live(vault)? {
            return Ok(None);
        }
        let rows = self.view.table::<Transactions>()?;
        let leaves: Vec<Digest> = rows
            .range((vault, height, 0)..=(vault, height, u32::MAX))?
            .map(|row| row.map(|(_, record)| merkle::leaf_hash(&record)))
            .collect::<folio_store::Result<_>>()?;
        let Ok(index) = usize::try_from(position) else {
            return Ok(None);
        };
        Ok(merkle::inclusion_path(&leaves, index).map(|path| TransactionProof { position, path }))
    }

    /// The proof that the block at `height` is in the chain that ends with the block at `head`;
    /// `None` when there are no such blocks, or they are the other way round. Costs a look-up for each
    /// hash of the proof, and a few more.
    pub fn prove_block(&self, vault: u64, height: u64, head: u64) -> Result<Option<BlockProof>> {
        if height > head || self.block(vault, head)?.is_none() {
            return Ok(None);
        }
        if height == head {
            return Ok(Some(BlockProof {
                height,
                path: Vec::new(),
            }));
        }
        let path = self.in_history(vault, head, |tree| tree.inclusion_path(height))?;
        Ok(path.map(|path| BlockProof { height, path }))
    }

    /// The proof that the chain that ends with the block at `to` goes on from the one that ended with
    /// the block at `from`; `None` when there are no such blocks, or they are the other way round.
    /// Costs a look-up for each hash of the proof, and a few more.
    pub fn prove_extension(
        &self,
        vault: u64,
        from: u64,
        to: u64,
    ) -> Result<Option<ExtensionProof>> {
        let Some(block) = self.prove_block(vault, from, to)? else {
            return Ok(None);
        };
        let history = self.in_history(vault, to, |tree| tree.consistency_path(from))?;
        Ok(history.map(|history| ExtensionProof { block, history }))
    }

    /// Looks into the tree over the headers of the first `blocks` blocks.
    fn in_history<T>(
        &self,
        vault: u64,
        blocks: u64,
        look: impl FnOnce(&mut Tree<&mut dyn FnMut(u8, u64) -> Result<Digest>>) -> Result<T>,
    ) -> Result<T> {
        let rows = self.view.table::<History>()?;
        let mut subtree = |level, index| match rows.get((vault, level, index))? {
            Some(hash) => Ok(Digest(hash)),
            None => Err(LedgerError::Inconsistent(format!(
                "subtree {index} of level {level} of the history of vault {vault} is missing"
            ))),
        };
        look(&mut Tree::new(blocks, &mut subtree))
    }
}
