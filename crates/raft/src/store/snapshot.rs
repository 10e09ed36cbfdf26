//! Building, staging and installing snapshots.

use std::fs::File;
use std::io::{BufReader, Seek};

use folio_store::{Database, Durability, TableDefinition};

use super::failure::{Failure, Result};
use super::shared::{Shared, state_record};
use super::tables::{Log, Purged, PurgedRecord, State, StateRecord};
use crate::snapshot::{
    SnapshotData, SnapshotError, SnapshotHeader, SnapshotReader, SnapshotSource, SnapshotTable,
};
use crate::state_machine::{STAGED_PREFIX, StateMachine};
use crate::types::{LogId, SnapshotMeta};

/// Bytes of rows staged in one transaction, at least; it bounds how long other writers wait.
const STAGE_BYTES: usize = 1 << 20;

/// A snapshot whose rows are in the staged tables.
pub(crate) struct Staged {
    pub header: SnapshotHeader,
    /// The number of the staging; a later one removes these rows.
    pub number: u64,
}

impl Staged {
    /// What Raft was told about the snapshot must be what the snapshot says itself.
    pub fn check(&self, meta: &SnapshotMeta) -> Result<()> {
        let header = &self.header;
        if meta.last_log_id != header.last_log_id || meta.last_membership != header.membership {
            return Err(Failure::Snapshot(SnapshotError::Mismatch {
                reason: format!(
                    "it was announced as {meta}, and holds the state at {:?}",
                    header.last_log_id
                ),
            }));
        }
        Ok(())
    }
}

impl<S: StateMachine> Shared<S> {
    /// "Builds" a snapshot: makes the state durable and gives a handle to the view it was in. No
    /// byte of it is written before somebody reads the handle.
    pub fn build_snapshot(&self, database: &Database) -> Result<(SnapshotMeta, SnapshotData)> {
        let view = database.begin_read()?;
        let record = state_record(&view)?;
        // What is reported as covered by a snapshot may be purged, so it must be durable first.
        database.checkpoint(folio_store::Group::DEFAULT.into())?;
        self.note_checkpoint(record.applied_index());
        let meta = self.meta_of(&record);

        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        {
            let mut states = txn.table::<State>()?;
            let mut current = states.get(&())?.unwrap_or_default();
            current.snapshot = Some(meta.clone());
            states.insert(&(), &current)?;
        }
        txn.commit()?;
        Ok((meta, self.data_of(view)))
    }

    /// The current snapshot: none before the first was built or installed, else one of the state
    /// as it is now, which is never older.
    pub fn current_snapshot(
        &self,
        database: &Database,
    ) -> Result<Option<(SnapshotMeta, SnapshotData)>> {
        let view = database.begin_read()?;
        let record = state_record(&view)?;
        let meta = match &record.snapshot {
            None => return Ok(None),
            Some(meta) if meta.last_log_id == record.last_applied => meta.clone(),
            Some(_) => self.meta_of(&record),
        };
        Ok(Some((meta, self.data_of(view))))
    }

    fn meta_of(&self, record: &StateRecord) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: record.last_applied,
            last_membership: record.membership.clone(),
            snapshot_id: self.next_snapshot_id(record.last_applied.as_ref()),
        }
    }

    fn data_of(&self, view: folio_store::ReadTransaction) -> SnapshotData {
        SnapshotData::lazy(SnapshotSource {
            view,
            tables: self.tables.clone(),
            directory: self.spool_directory.clone(),
            lease: self.lease(),
        })
    }

    /// Reads and checks a whole snapshot, and puts its rows into staged tables. The state is not
    /// touched. A later staging or a restart removes what is staged.
    pub fn stage(&self, database: &Database, file: &mut File) -> Result<Staged> {
        let mut number = self.staging.lock();
        *number += 1;
        file.rewind()?;
        let mut reader = SnapshotReader::new(BufReader::new(file))?;
        let expected: Vec<_> = self.tables.iter().map(SnapshotTable::from).collect();
        if reader.header().tables != expected {
            return Err(SnapshotError::Mismatch {
                reason: format!(
                    "it has the tables {:?}, and the state machine of this node has {expected:?}",
                    reader.header().tables
                ),
            }
            .into());
        }
        let staged: Vec<_> = self.tables.iter().map(staged_table).collect();
        eventually(database, |txn| {
            for table in &staged {
                txn.delete_table(table)?;
                txn.untyped(table)?;
            }
            Ok(())
        })?;
        let outcome = stage_rows(database, &staged, &mut reader);
        if outcome.is_err() {
            eventually(database, |txn| {
                for table in &staged {
                    txn.delete_table(table)?;
                }
                Ok(())
            })?;
        }
        outcome?;
        // Most of the pages reach the disk here, so that the installation has few to flush.
        self.checkpoint(database)?;
        Ok(Staged {
            header: reader.header().clone(),
            number: *number,
        })
    }

    /// Replaces the state with a staged snapshot: tables, metadata and purge point in one durable
    /// transaction over both groups. A crash leaves the old state or the new one.
    pub fn install(&self, database: &Database, meta: &SnapshotMeta, staged: &Staged) -> Result<()> {
        staged.check(meta)?;
        let number = self.staging.lock();
        if *number != staged.number {
            return Err(SnapshotError::Mismatch {
                reason: "another snapshot was staged meanwhile".into(),
            }
            .into());
        }
        let view = database.begin_read()?;
        let purge = self.purge_of_install(&view, meta)?;
        let record = StateRecord {
            last_applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
            time: staged.header.time,
            snapshot: Some(meta.clone()),
        };
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate);
        for table in &self.tables {
            txn.replace_table(&staged_table(table), table)?;
        }
        txn.table::<State>()?.insert(&(), &record)?;
        if let Some(log_id) = purge {
            txn.table::<Log<S>>()?.remove_range(..=log_id.index)?;
            txn.table::<Purged>()?
                .insert(&(), &PurgedRecord { log_id })?;
        }
        txn.commit()?;
        self.note_checkpoint(record.applied_index());
        if let Some(log_id) = purge {
            self.settle_pending_purge(log_id);
        }
        Ok(())
    }

    /// Up to where the log goes with an installation: what the snapshot covers, and a purge that
    /// was asked for before.
    fn purge_of_install(
        &self,
        view: &folio_store::ReadTransaction,
        meta: &SnapshotMeta,
    ) -> Result<Option<LogId>> {
        let stored = view
            .table::<Purged>()?
            .get(&())?
            .map(|record| record.log_id);
        let pending = self
            .pending_purge
            .lock()
            .filter(|pending| Some(pending.index) <= meta.last_log_id.map(|id| id.index));
        Ok(stored.max(pending).max(meta.last_log_id))
    }
}

fn staged_table(table: &TableDefinition) -> TableDefinition {
    table.renamed(format!("{STAGED_PREFIX}{}", table.name))
}

fn stage_rows(
    database: &Database,
    staged: &[TableDefinition],
    reader: &mut SnapshotReader<BufReader<&mut File>>,
) -> Result<()> {
    let mut complete = false;
    while !complete {
        eventually(database, |txn| {
            let mut bytes = 0;
            while bytes < STAGE_BYTES {
                let Some(rows) = reader.next_rows()? else {
                    complete = true;
                    break;
                };
                let Some(definition) = staged.get(rows.table) else {
                    return Err(SnapshotError::Mismatch {
                        reason: format!("rows of table {}, which does not exist", rows.table),
                    }
                    .into());
                };
                let mut table = txn.untyped(definition)?;
                for (key, value) in &rows.rows {
                    table.insert(key.as_slice(), value.as_slice())?;
                    bytes += key.len() + value.len();
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Runs `change` in a transaction that is not flushed.
fn eventually(
    database: &Database,
    change: impl FnOnce(&folio_store::WriteTransaction) -> Result<()>,
) -> Result<()> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Eventual);
    change(&txn)?;
    txn.commit()?;
    Ok(())
}
