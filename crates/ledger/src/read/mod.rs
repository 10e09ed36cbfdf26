//! Reading the ledger.

mod feed;
mod list;
mod page;
mod past;
mod prove;

pub use feed::{FeedItem, FeedPosition, ParsePositionError};
pub use list::{EntityPage, Order, RelationshipList};
pub use page::{Page, PageLimit};
pub use past::{NotRetained, PastEntity};

use std::ops::Bound;

use folio_store::ReadTransaction;
use serde::{Deserialize, Serialize};

use crate::block::BlockHeader;
use crate::command::{Counter, TokenKey};
use crate::digest::Digest;
use crate::error::{LedgerError, Result};
use crate::limits::MAX_PAGE;
use crate::record::Record;
use crate::state_key::Entity;
use crate::tables::{
    Blocks, Cleanup, Cleanups, Counters, Entities, Sessions, TokenKeys, Transactions, VaultRow,
    Vaults, counter,
};

/// A vault and the end of its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultInfo {
    /// Its number.
    pub vault: u64,
    /// What people call it.
    pub name: String,
    /// The height of the latest block.
    pub height: u64,
    /// The hash of the latest block.
    pub block_hash: Digest,
    /// The proposer's time of the latest block, in microseconds since 1970.
    pub time: u64,
    /// The state root.
    pub state_root: Digest,
    /// How many entities there are.
    pub entities: u64,
    /// How many relationships there are.
    pub relationships: u64,
    /// How many blocks back its entities can be read.
    pub retention: u64,
    /// The lowest height as of which its entities can be read; never above `height`.
    pub retained_from: u64,
}

/// A view of the ledger: everything read through it is of one moment.
///
/// Lists come in pages ([`PageLimit`]): of so many rows and bytes at most.
#[derive(Clone, Copy)]
pub struct LedgerView<'v> {
    view: &'v ReadTransaction,
}

impl<'v> LedgerView<'v> {
    /// The ledger as `view` has it.
    pub fn new(view: &'v ReadTransaction) -> Self {
        LedgerView { view }
    }

    /// A vault; `None` when there is none with this number.
    pub fn vault(&self, vault: u64) -> Result<Option<VaultInfo>> {
        let row = self.view.table::<Vaults>()?.get(vault)?;
        Ok(row.map(|row| vault_info(vault, row)))
    }

    /// The vaults after this number, in ascending order; 0 starts from the first.
    pub fn vaults(&self, after: u64, limit: usize) -> Result<Vec<VaultInfo>> {
        let table = self.view.table::<Vaults>()?;
        let rows = table.range((Bound::Excluded(after), Bound::Unbounded))?;
        rows.take(limit.min(MAX_PAGE))
            .map(|row| {
                row.map(|(vault, row)| vault_info(vault, row))
                    .map_err(Into::into)
            })
            .collect()
    }

    /// Whether there was a vault with this number, and it was deleted.
    pub fn was_deleted(&self, vault: u64) -> Result<bool> {
        let created = self.last_number(counter::VAULT)?;
        let vaults = self.view.table::<Vaults>()?;
        Ok((1..=created).contains(&vault) && !vaults.contains_key(vault)?)
    }

    /// The last number that was allocated by this counter, 0 if none was.
    pub fn last_allocated(&self, counter: Counter) -> Result<u64> {
        self.last_number(counter.name())
    }

    fn last_number(&self, counter: &str) -> Result<u64> {
        Ok(self.view.table::<Counters>()?.get(counter)?.unwrap_or(0))
    }

    /// The key that page tokens are made with, once there is one.
    pub fn token_key(&self) -> Result<Option<TokenKey>> {
        Ok(self.view.table::<TokenKeys>()?.get(())?.map(TokenKey))
    }

    /// Whether rows of the vault may be shown: those of a deleted one go little by little.
    fn is_live(&self, vault: u64) -> Result<bool> {
        let cleanup = self.view.table::<Cleanups>()?.get(vault)?;
        Ok(cleanup != Some(Cleanup::Deleted))
    }

    /// An entity.
    pub fn entity(&self, vault: u64, key: &[u8]) -> Result<Option<Entity>> {
        if !self.is_live(vault)? {
            return Ok(None);
        }
        self.stored_entity(vault, key)
    }

    /// An entity, also of a vault that is being deleted.
    pub(crate) fn stored_entity(&self, vault: u64, key: &[u8]) -> Result<Option<Entity>> {
        let row = self.view.table::<Entities>()?.get_stored((vault, key))?;
        row.map(|row| decode_entity(vault, key, row.bytes()))
            .transpose()
    }

    /// The header of a block.
    pub fn block(&self, vault: u64, height: u64) -> Result<Option<BlockHeader>> {
        if !self.is_live(vault)? {
            return Ok(None);
        }
        let row = self.view.table::<Blocks>()?.get((vault, height))?;
        row.map(|row| {
            BlockHeader::decode(&row).map_err(|source| LedgerError::Row {
                row: format!("block {height} of vault {vault}"),
                source,
            })
        })
        .transpose()
    }

    /// The records of the transactions of a block, in order, in their canonical encoding.
    pub fn encoded_records(&self, vault: u64, height: u64) -> Result<Vec<Vec<u8>>> {
        if !self.is_live(vault)? {
            return Ok(Vec::new());
        }
        let table = self.view.table::<Transactions>()?;
        let rows = table.range((vault, height, 0)..=(vault, height, u32::MAX))?;
        Ok(rows
            .map(|row| row.map(|(_, record)| record))
            .collect::<folio_store::Result<_>>()?)
    }

    /// The record of a transaction, in its canonical encoding.
    pub fn encoded_record(
        &self,
        vault: u64,
        height: u64,
        position: u32,
    ) -> Result<Option<Vec<u8>>> {
        if !self.is_live(vault)? {
            return Ok(None);
        }
        let table = self.view.table::<Transactions>()?;
        Ok(table.get((vault, height, position))?)
    }

    /// The records of the transactions of a block, in order.
    pub fn records(&self, vault: u64, height: u64) -> Result<Vec<Record>> {
        (0..)
            .zip(self.encoded_records(vault, height)?)
            .map(|(position, row): (u32, _)| {
                Record::decode(&row).map_err(|source| LedgerError::Row {
                    row: format!("transaction {position} of block {height} of vault {vault}"),
                    source,
                })
            })
            .collect()
    }

    /// How many sessions are remembered.
    pub fn sessions(&self) -> Result<u64> {
        Ok(self.view.table::<Sessions>()?.len()?)
    }
}

pub(crate) fn decode_entity(vault: u64, key: &[u8], row: &[u8]) -> Result<Entity> {
    Entity::decode(row).map_err(|source| LedgerError::Row {
        row: format!("entity \"{}\" of vault {vault}", key.escape_ascii()),
        source,
    })
}

fn vault_info(vault: u64, row: VaultRow) -> VaultInfo {
    let VaultRow {
        name,
        height,
        block_hash,
        time,
        state_root,
        entities,
        relationships,
        retention,
        retained_from,
    } = row;
    VaultInfo {
        vault,
        name,
        height,
        block_hash,
        time,
        state_root,
        entities,
        relationships,
        retention,
        retained_from,
    }
}
