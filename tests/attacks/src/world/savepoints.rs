//! Savepoints that outlive the process, beside what the model says of them.

use std::sync::Arc;

use folio_store::{Error, Result};

use super::{ALL, World};

impl World {
    /// The place of one of the savepoints, if there are any.
    pub(super) fn savepoint(&self, choice: u8) -> Option<usize> {
        usize::from(choice).checked_rem(self.newest.savepoints.len())
    }

    pub(super) fn create_savepoint(&mut self, name: &str) -> Result<()> {
        if self
            .newest
            .savepoints
            .iter()
            .any(|(taken, _)| taken == name)
        {
            return match self.db().create_savepoint(name) {
                Err(Error::SavepointExists { .. }) => Ok(()),
                Err(error) => Err(error),
                Ok(_) => self.fail("a savepoint is made twice"),
            };
        }
        let mut after = self.flushed(ALL);
        Arc::make_mut(&mut after.savepoints).push((name.to_owned(), self.newest.groups.clone()));
        let savepoints = after.savepoints.clone();
        self.durably(after, |world| world.db().create_savepoint(name).map(drop))?;
        self.newest.savepoints = savepoints;
        self.note_flush(ALL);
        self.figures.add("savepoints", 1);
        Ok(())
    }

    pub(super) fn release_savepoint(&mut self, index: usize) -> Result<()> {
        let name = self.newest.savepoints[index].0.clone();
        let mut after = self.flushed(ALL);
        Arc::make_mut(&mut after.savepoints).remove(index);
        let savepoints = after.savepoints.clone();
        self.durably(after, |world| world.db().release_savepoint(&name))?;
        self.newest.savepoints = savepoints;
        self.note_flush(ALL);
        Ok(())
    }

    pub(super) fn restore_savepoint(&mut self, index: usize) -> Result<()> {
        let (name, groups) = self.newest.savepoints[index].clone();
        let mut after = self.newest.clone();
        after.groups = groups;
        Arc::make_mut(&mut after.savepoints).truncate(index + 1);
        let expected = after.clone();
        let done = self.durably(after, |world| world.db().restore_savepoint(&name).map(drop));
        // Published first, flushed then.
        let published = self.db().published_transaction();
        if std::mem::replace(&mut self.published, published) != published {
            self.newest.groups = expected.groups.clone();
        }
        done?;
        self.newest = expected;
        self.note_flush(ALL);
        self.figures.add("savepoints gone back to", 1);
        self.compare_newest()
    }

    pub(super) fn compare_savepoints(&self) -> Result<()> {
        if let Some(difference) = self.newest.savepoints_differ(self.db())? {
            self.fail(&difference);
        }
        Ok(())
    }
}
