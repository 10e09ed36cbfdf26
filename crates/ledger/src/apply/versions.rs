//! Past versions of entities, for as many blocks as their vault wants.
//!
//! A row says what an entity was *before* a block that changed it. So a vault that retains nothing
//! writes nothing here, and the entity as of a height is in the first row above that height or, if
//! there is none, the one of today.

use super::Entry;
use super::cleanup::units;
use crate::error::Result;
use crate::tables::{Cleanup, VaultRow};

impl Entry<'_> {
    /// Keeps an entity as it is before the entry's block changes it for the first time.
    pub(super) fn keep_version(&mut self, vault: u64, key: &[u8], block: u64) -> Result<()> {
        if self.tables.versions.contains_key((vault, key, block))? {
            return Ok(());
        }
        let before = self.tables.entities.get_stored((vault, key))?;
        let before = before.as_ref().map_or(&[][..], |stored| stored.bytes());
        self.tables.versions.insert((vault, key, block), before)?;
        self.tables
            .version_heights
            .insert((vault, block, key), ())?;
        self.kept += 1 + units(before.len());
        Ok(())
    }

    /// Has what a vault retains no more removed, if there is such.
    pub(super) fn trim_later(&mut self, vault: u64, row: &VaultRow) -> Result<()> {
        let oldest = self.tables.version_heights.prefix((vault,))?.keys().next();
        if let Some((_, block, _)) = oldest.transpose()?
            && block <= row.retained_from
        {
            self.tables.cleanups.insert(vault, Cleanup::Trimmed)?;
        }
        Ok(())
    }
}
