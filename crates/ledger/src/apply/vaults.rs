//! Vaults come, change their retention, and go.
//!
//! A deleted vault is gone at once: its row is, and without it nothing of the vault can be read or
//! written. Its other rows go later, a bounded number with each log entry ([`cleanup`](super::cleanup)).
//! Numbers come from a counter, so that of a deleted vault is never given to another.

use super::{Entry, OpenVault};
use crate::digest::Digest;
use crate::error::Result;
use crate::merkle;
use crate::response::{Rejection, Response};
use crate::tables::{Cleanup, VaultRow, counter};

impl Entry<'_> {
    /// Creates a vault with its block 0.
    pub(super) fn create_vault(&mut self, name: &str, retention: u64) -> Result<Response> {
        let vault = self.take_numbers(counter::VAULT, 1)?;
        let row = VaultRow {
            name: name.to_owned(),
            height: 0,
            block_hash: Digest::ZERO,
            time: 0,
            state_root: merkle::EMPTY,
            entities: 0,
            relationships: 0,
            retention,
            retained_from: 0,
        };
        self.add_block(vault, 0, row, &[])?;
        Ok(Response::VaultCreated {
            vault,
            log_index: self.at.index,
        })
    }

    /// Deletes a vault. What the entry did to it before is sealed first, so that the answer names
    /// the end of the whole chain.
    pub(super) fn delete_vault(&mut self, vault: u64) -> Result<Response> {
        if self.vault(vault)?.is_none() {
            return self.no_vault(vault);
        }
        if let Some(open) = self.vaults.remove(&vault) {
            self.seal(vault, open)?;
        }
        let Some(row) = self.tables.vaults.remove(vault)? else {
            return self.no_vault(vault);
        };
        let row = row.decode()?;
        self.tables.cleanups.insert(vault, Cleanup::Deleted)?;
        Ok(Response::VaultDeleted {
            vault,
            height: row.height,
            block_hash: row.block_hash,
            log_index: self.at.index,
        })
    }

    /// Sets how many blocks back the entities of a vault can be read, from the next entry on.
    pub(super) fn set_retention(&mut self, vault: u64, retention: u64) -> Result<Response> {
        match self.vault(vault)? {
            None => self.no_vault(vault),
            Some(open) => {
                open.retention = Some(retention);
                Ok(Response::RetentionSet { vault, retention })
            }
        }
    }

    /// The answer to a command on a vault that is not there.
    pub(super) fn no_vault(&self, vault: u64) -> Result<Response> {
        let created = self.tables.counters.get(counter::VAULT)?.unwrap_or(0);
        Ok(Response::Rejected(if (1..=created).contains(&vault) {
            Rejection::VaultDeleted { vault }
        } else {
            Rejection::UnknownVault { vault }
        }))
    }

    /// The vault, or `None` when there is none with this number.
    pub(super) fn vault(&mut self, vault: u64) -> Result<Option<&mut OpenVault>> {
        if !self.vaults.contains_key(&vault) {
            let Some(row) = self.tables.vaults.get(vault)? else {
                return Ok(None);
            };
            self.vaults.insert(vault, OpenVault::new(vault, row)?);
        }
        Ok(self.vaults.get_mut(&vault))
    }
}
