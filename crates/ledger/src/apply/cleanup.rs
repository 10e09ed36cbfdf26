//! Removing rows that nobody can reach any more: those of deleted vaults, and past versions of
//! entities beyond what their vault retains.
//!
//! What can be read and what commands do never depends on how far this has come. So it is done in
//! bounded steps, the same on every replica: a budget with each entry, for one vault after the
//! other, in the order of their numbers.

use super::{Entry, following};
use crate::error::Result;
use crate::limits::CLEANUP_PER_ENTRY;
use crate::state_key::EntityView;
use crate::tables::Cleanup;

/// What a removed row counts against the budget: one, and one more for every 4 KiB of its value.
pub(super) fn units(value: usize) -> u64 {
    1 + value as u64 / 4096
}

/// What may yet be removed.
struct Budget(u64);

impl Budget {
    fn spend(&mut self, units: u64) {
        self.0 = self.0.saturating_sub(units);
    }

    /// Takes rows off an iterator that removes them, for as long as the budget lasts. Whether there
    /// are none left.
    fn exhaust<R>(
        &mut self,
        mut rows: impl Iterator<Item = folio_store::Result<R>>,
        value: impl Fn(&R) -> usize,
    ) -> Result<bool> {
        while self.0 > 0 {
            match rows.next() {
                None => return Ok(true),
                Some(row) => self.spend(units(value(&row?))),
            }
        }
        Ok(false)
    }
}

impl Entry<'_> {
    /// Removes unreachable rows. An entry that kept past versions may remove twice as many more, so
    /// that what waits becomes less with every entry.
    pub(super) fn clean_up(&mut self) -> Result<()> {
        let mut budget = Budget(CLEANUP_PER_ENTRY + 2 * self.kept);
        while budget.0 > 0 {
            let Some((vault, cleanup)) = self.tables.cleanups.first()? else {
                return Ok(());
            };
            let done = match cleanup {
                Cleanup::Deleted => self.remove_vault_rows(vault, &mut budget)?,
                Cleanup::Trimmed => self.remove_old_versions(vault, &mut budget)?,
            };
            if done {
                self.tables.cleanups.remove(vault)?;
            }
        }
        Ok(())
    }

    /// Removes rows of a deleted vault; whether there are none left.
    fn remove_vault_rows(&mut self, vault: u64, budget: &mut Budget) -> Result<bool> {
        let next = following(vault, || "the number of a vault".to_owned())?;
        let names = || (vault, "", "", "")..(next, "", "", "");
        let keys = || (vault, &b""[..])..(next, &b""[..]);
        let paths = || (vault, [0; 32])..(next, [0; 32]);
        let prefixes = || (vault, 0, &b""[..])..(next, 0, &b""[..]);
        let tables = &mut self.tables;

        let expiries = &mut tables.expiries;
        let entities = tables.entities.extract_if(keys(), |_, _| true)?;
        let entities = entities.map(|row| {
            let ((_, key), row) = row?;
            // A row that does not decode has no expiry that could be found. Nobody can reach it.
            let time = EntityView::decode(&row).ok().and_then(|e| e.expires_at);
            if let Some(time) = time {
                expiries.remove((time, vault, &key[..]))?;
            }
            Ok(row)
        });
        Ok(budget.exhaust(entities, Vec::len)?
            && budget.exhaust(tables.by_resource.extract_if(names(), |_, ()| true)?, |_| 0)?
            && budget.exhaust(tables.by_subject.extract_if(names(), |_, ()| true)?, |_| 0)?
            && budget.exhaust(tables.tree.0.extract_if(paths(), |_, _| true)?, |_| 0)?
            && budget.exhaust(tables.tree.1.extract_if(prefixes(), |_, _| true)?, |_| 0)?
            && budget.exhaust(
                tables
                    .versions
                    .extract_if((vault, &b""[..], 0)..(next, &b""[..], 0), |_, _| true)?,
                |(_, row)| row.len(),
            )?
            && budget.exhaust(
                tables
                    .version_heights
                    .extract_if((vault, 0, &b""[..])..(next, 0, &b""[..]), |_, ()| true)?,
                |_| 0,
            )?
            && budget.exhaust(
                tables
                    .transactions
                    .extract_if((vault, 0, 0)..(next, 0, 0), |_, _| true)?,
                |(_, row)| row.len(),
            )?
            && budget.exhaust(
                tables
                    .blocks
                    .extract_if((vault, 0)..(next, 0), |_, _| true)?,
                |_| 0,
            )?
            && budget.exhaust(
                tables
                    .history
                    .extract_if((vault, 0, 0)..(next, 0, 0), |_, _| true)?,
                |_| 0,
            )?)
    }

    /// Removes past versions that their vault retains no more; whether there are none left.
    fn remove_old_versions(&mut self, vault: u64, budget: &mut Budget) -> Result<bool> {
        let Some(row) = self.tables.vaults.get(vault)? else {
            return Ok(true);
        };
        let end = row.retained_from.saturating_add(1);
        let versions = &mut self.tables.versions;
        let old = self
            .tables
            .version_heights
            .extract_if((vault, 0, &b""[..])..(vault, end, &b""[..]), |_, ()| true)?
            .map(|row| {
                let ((_, block, key), ()) = row?;
                let version = versions.remove((vault, &key[..], block))?;
                Ok(version.map_or(0, |version| version.bytes().len()))
            });
        budget.exhaust(old, |&bytes| bytes)
    }
}
