//! Removing entities whose time has come.

use std::collections::BTreeMap;

use super::Entry;
use crate::error::{LedgerError, Result};
use crate::limits::ENTITIES_EXPIRED_PER_ENTRY;
use crate::record::{Origin, Record};
use crate::response::Outcome;
use crate::transaction::Transaction;

impl Entry<'_> {
    /// An entity is there until an entry removes it: what is stored, what conditions see and what
    /// the state root commits to is the same at any moment.
    pub(super) fn expire_entities(&mut self) -> Result<()> {
        let mut due = Vec::new();
        for row in self
            .tables
            .expiries
            .iter()?
            .take(ENTITIES_EXPIRED_PER_ENTRY)
        {
            let ((time, vault, key), ()) = row?;
            if time > self.at.time {
                break;
            }
            due.push((time, vault, key));
        }
        self.expire(due)
    }

    /// Removes entities that are listed to expire: time, vault, key.
    pub(super) fn expire(&mut self, due: Vec<(u64, u64, Vec<u8>)>) -> Result<()> {
        let mut records = BTreeMap::new();
        for (time, vault, key) in due {
            if self.vault(vault)?.is_none() {
                // The vault was deleted; the entity would have gone with its other rows.
                self.tables.expiries.remove((time, vault, &key[..]))?;
                self.tables.entities.remove((vault, &key[..]))?;
                continue;
            }
            let version = self.remove_expired(vault, &key, time)?;
            let record = records.entry(vault).or_insert_with(|| Record {
                origin: Origin::Expiry,
                transaction: Transaction::new(vault),
                outcomes: Vec::new(),
            });
            record.transaction = std::mem::take(&mut record.transaction).delete(key);
            record.outcomes.push(Outcome::EntityDeleted { version });
        }
        for (vault, record) in records {
            self.open_vault(vault)?.records.push(record.encode());
        }
        Ok(())
    }

    /// Removes an entity that the list of expiries names for `time`; gives its version.
    fn remove_expired(&mut self, vault: u64, key: &[u8], time: u64) -> Result<u64> {
        match self.tables.head(vault, key)? {
            Some(head) if head.expires_at == Some(time) => {
                self.write_entity(vault, key, Some(head), None)?;
                Ok(head.version)
            }
            _ => Err(LedgerError::Inconsistent(format!(
                "entity \"{}\" of vault {vault} is listed to expire at {time}, and is not set to",
                key.escape_ascii()
            ))),
        }
    }
}
