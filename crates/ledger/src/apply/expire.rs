//! Removing entities whose time has come.

use super::Entry;
use crate::error::Result;
use crate::limits::ENTITIES_EXPIRED_PER_ENTRY;

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
        for (time, vault, key) in due {
            self.remove_expired(vault, &key, time)?;
        }
        Ok(())
    }
}
