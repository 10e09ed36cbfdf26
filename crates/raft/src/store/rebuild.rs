//! Getting a state back that was given up: from a snapshot of another node and this node's own log.
//!
//! The node goes on as a member meanwhile. Raft believes that everything up to the stored position is
//! applied, so the rebuilt state is brought there before it counts.

use std::ops::Bound;

use folio_store::{Database, Durability, WriteTransaction};

use super::failure::{Failure, Result};
use super::opening::read_promises;
use super::shared::{Shared, state_record};
use super::snapshot::{Staged, staged_table};
use super::standing::Standing;
use super::tables::{
    Damaged, DamagedRecord, Purged, State, StateRecord, Stateless, StatelessRecord,
};
use crate::error::Error;
use crate::snapshot::SnapshotData;
use crate::state_machine::StateMachine;
use crate::types::SnapshotMeta;

/// Bytes of log applied at a time while a rebuilt state is brought up to date.
const REPLAY_BYTES: usize = 1 << 20;

impl<S: StateMachine> Shared<S> {
    /// The state as it is now, for a node that rebuilds its own.
    pub fn snapshot_now(&self, database: &Database) -> Result<(SnapshotMeta, SnapshotData)> {
        let view = database.begin_read()?;
        let meta = self.meta_of(&state_record(&view)?);
        Ok((meta, self.data_of(view)))
    }

    /// Empties the tables of a state that was given up. Their pages are not read.
    pub(super) fn discard_damaged(&self, database: &Database) -> Result<()> {
        if self.is_rebuilding() {
            let mut txn = database.begin_write()?;
            txn.set_durability(Durability::Eventual);
            txn.discard_group(folio_store::Group::DEFAULT)?;
            txn.commit()?;
        }
        Ok(())
    }

    /// Puts the staged tables and `record` in place of the state. A witness keeps the record only.
    pub(super) fn put_state(&self, txn: &WriteTransaction, record: &StateRecord) -> Result<()> {
        let mut stateless = txn.table::<Stateless>()?;
        if *self.standing.borrow() == Standing::Witness {
            let reason = super::tables::Reason::Witness;
            let position = record.clone();
            stateless.insert(&(), &StatelessRecord { reason, position })?;
            return Ok(());
        }
        stateless.remove(&())?;
        for table in &self.tables {
            txn.replace_table(&staged_table(table), table)?;
        }
        txn.table::<State>()?.insert(&(), record)?;
        Ok(())
    }

    pub fn is_rebuilding(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Rebuilding { .. })
    }

    /// The state is there again.
    pub(super) fn note_whole(&self) {
        self.standing.send_if_modified(|standing| match standing {
            Standing::Rebuilding { .. } => {
                *standing = Standing::Whole;
                true
            }
            Standing::Whole | Standing::Witness => false,
        });
    }

    /// Rebuilds the state from a staged snapshot that is not ahead of this node's position, and from
    /// the log after it. Does nothing if there is a state.
    pub fn rebuild(&self, database: &Database, meta: &SnapshotMeta, staged: &Staged) -> Result<()> {
        staged.check(meta)?;
        if !staged.is_whole() {
            return Err(Failure::NoBase("it holds changes to a state".into()));
        }
        self.rebuild_at(
            database,
            StateRecord {
                last_applied: meta.last_log_id,
                membership: meta.last_membership.clone(),
                time: staged.header.time,
                snapshot: Some(meta.clone()),
            },
        )
    }

    /// The same from the log alone. False if the log does not begin at the beginning.
    pub fn rebuild_from_log(&self, database: &Database) -> Result<bool> {
        let first = (Bound::Included(0), Bound::Included(0));
        if self.read_entries(database, first, REPLAY_BYTES)?.is_empty() {
            return Ok(false);
        }
        // Empty tables are staged.
        let _staging = self.begin_staging(database)?;
        self.rebuild_at(database, StateRecord::default())?;
        Ok(true)
    }

    fn rebuild_at(&self, database: &Database, record: StateRecord) -> Result<()> {
        let counted = self.state.lock();
        let view = database.begin_read()?;
        if !self.is_rebuilding() {
            return Ok(());
        }
        let base = record.applied_index();
        let position = counted.map(|log_id| log_id.index);
        let purged = view.table::<Purged>()?.get(&())?;
        let purged = purged.map(|record| record.log_id.index);
        if base < purged || base > position {
            return Err(Failure::NoBase(format!(
                "it is of entry {base:?}, and the log has what follows entry {purged:?} and is applied up to {position:?}"
            )));
        }
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate);
        self.put_state(&txn, &record)?;
        let transaction = txn.commit()?;
        self.points
            .lock()
            .replaced(record.last_applied, transaction);
        // Nothing beyond may be purged before the next checkpoint.
        self.checkpointed.send_replace(base);
        if let Err(failure) = self.replay(database, base, position) {
            self.give_up_state(database, &failure.to_string())?;
            return Err(failure);
        }
        self.note_whole();
        Ok(())
    }

    /// Applies the entries after `base`, up to `position`.
    fn replay(&self, database: &Database, base: Option<u64>, position: Option<u64>) -> Result<()> {
        let mut next = base.map_or(0, |index| index.saturating_add(1));
        let end = position.map_or(0, |index| index.saturating_add(1));
        while next < end {
            let range = (Bound::Included(next), Bound::Excluded(end));
            let entries = self.read_entries(database, range, REPLAY_BYTES)?;
            match (entries.first(), entries.last()) {
                (Some(first), Some(last)) if first.log_id.index == next => {
                    next = last.log_id.index.saturating_add(1);
                }
                _ => {
                    return Err(Failure::NoBase(format!("entry {next} is not in the log")));
                }
            }
            self.apply_entries(database, &entries)?;
        }
        Ok(())
    }

    /// What damage in the log means: below what is applied it costs that part of the log, which goes
    /// at the next start; above it, or in the vote, it costs the membership.
    pub(super) fn explain_log_damage(&self, database: &Database, failure: Failure) -> Failure {
        let damaged = matches!(failure, Failure::Entry { .. }) || failure.damage().is_some();
        if !damaged {
            return failure;
        }
        let reason = failure.to_string();
        match self.mark_applied_damage(database, &reason) {
            Ok(true) => Failure::AppliedEntry { reason },
            Ok(false) => Failure::LogDamaged(
                Error::LogDamaged {
                    node: self.node,
                    reason,
                }
                .to_string(),
            ),
            Err(failure) => failure,
        }
    }

    /// Notes for the next start that a part of the log is damaged, if all that is not durable in the
    /// state can still be read; else tells that it cannot.
    fn mark_applied_damage(&self, database: &Database, damage: &str) -> Result<bool> {
        let next = self
            .checkpointed()
            .map_or(0, |index| index.saturating_add(1));
        if !self.holds_state() || read_promises::<S>(&database.begin_read()?, next).is_err() {
            return Ok(false);
        }
        let damage = damage.to_owned();
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate);
        txn.table::<Damaged>()?
            .insert(&(), &DamagedRecord { damage })?;
        txn.commit()?;
        Ok(true)
    }
}
