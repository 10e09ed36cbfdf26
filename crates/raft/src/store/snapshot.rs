//! Building, staging and installing snapshots.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Arc;

use folio_store::{Database, Durability, TableDefinition, WriteTransaction};

use super::failure::{Failure, Result};
use super::shared::{Shared, state_record};
use super::standing::change_position;
use super::tables::{Log, Members, MembersRecord, Purged, PurgedRecord, StateRecord};
use crate::metrics::Meters;
use crate::snapshot::{
    Rows, SnapshotData, SnapshotError, SnapshotHeader, SnapshotParser, SnapshotSource,
    SnapshotTable,
};
use crate::state_machine::{STAGED_PREFIX, StateMachine};
use crate::types::{LogId, SnapshotMeta};

/// Bytes of rows staged in one transaction, at least; it bounds how long other writers wait.
const STAGE_BYTES: usize = 1 << 20;
/// Bytes of a snapshot file read at a time.
const READ_BYTES: usize = 256 << 10;

/// The right to the staged tables. There is one at a time, and what is in the tables belongs to
/// whoever has it.
pub(crate) struct Place(#[expect(dead_code, reason = "it is there to be dropped")] Arc<()>);

/// A snapshot that is arriving: its rows go to the staged tables as they come.
pub(crate) struct Staging {
    place: Place,
    parser: SnapshotParser,
    /// What the staged tables will be.
    tables: Vec<TableDefinition>,
    /// Whether the header was compared with the tables of this node.
    checked: bool,
}

impl Staging {
    /// The next rows of what has arrived.
    fn next_rows(&mut self) -> Result<Option<Rows>> {
        loop {
            if let Some(rows) = self.parser.next_rows()? {
                return Ok(Some(rows));
            }
            let header = self.parser.header().filter(|_| !self.checked);
            let Some(header) = header else {
                return Ok(None);
            };
            let expected: Vec<_> = self.tables.iter().map(SnapshotTable::from).collect();
            if header.tables != expected {
                return Err(SnapshotError::Mismatch {
                    reason: format!(
                        "it has the tables {:?}, and the state machine of this node has {expected:?}",
                        header.tables
                    ),
                }
                .into());
            }
            self.checked = true;
        }
    }
}

/// A whole snapshot whose rows are in the staged tables.
pub(crate) struct Staged {
    pub(super) header: SnapshotHeader,
    _place: Place,
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
    #[tracing::instrument(name = "snapshot", level = "debug", skip_all, fields(node = self.node))]
    pub fn build_snapshot(&self, database: &Database) -> Result<(SnapshotMeta, SnapshotData)> {
        let view = database.begin_read()?;
        let record = state_record(&view)?;
        // What is reported as covered by a snapshot may be purged, so it must be durable first.
        database.checkpoint(folio_store::Group::DEFAULT.into())?;
        self.note_checkpoint(record.applied_index());
        let meta = self.meta_of(&record);

        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        change_position(&txn, |position| {
            position.snapshot = Some(meta.clone());
            Ok(())
        })?;
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

    pub(super) fn meta_of(&self, record: &StateRecord) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: record.last_applied,
            last_membership: record.membership.clone(),
            snapshot_id: self.next_snapshot_id(record.last_applied.as_ref()),
        }
    }

    pub(super) fn data_of(&self, view: folio_store::ReadTransaction) -> SnapshotData {
        SnapshotData::lazy(SnapshotSource {
            view,
            tables: self.tables.clone(),
            directory: self.spool_directory.clone(),
            _lease: self.lease(),
        })
    }

    /// Takes the right to the staged tables and removes what is in them.
    pub(super) fn take_place(&self, database: &Database) -> Result<Place> {
        let place = Arc::new(());
        {
            let mut taken = self.staging.lock();
            if taken.strong_count() > 0 {
                return Err(Failure::StagingTaken);
            }
            *taken = Arc::downgrade(&place);
        }
        let place = Place(place);
        if self.is_rebuilding() {
            // They go with the damaged ones.
            return Ok(place);
        }
        let cleared = eventually(database, |txn| {
            for table in &self.tables {
                txn.delete_table(&staged_table(table))?;
            }
            Ok(())
        });
        match cleared {
            Err(failure) if failure.damage().is_some() => {
                let _turn = self.state.lock();
                self.give_up_state(database, &failure.to_string())?;
            }
            cleared => cleared?,
        }
        Ok(place)
    }

    /// Begins to stage a snapshot. The state is not touched before it is installed.
    pub fn begin_staging(&self, database: &Database) -> Result<Staging> {
        let place = self.take_place(database)?;
        self.discard_damaged(database)?;
        eventually(database, |txn| {
            for table in &self.tables {
                txn.untyped(&staged_table(table))?;
            }
            Ok(())
        })?;
        Ok(Staging {
            place,
            parser: SnapshotParser::default(),
            tables: self.tables.clone(),
            checked: false,
        })
    }

    /// Stages nothing, which is all that a witness needs to install a snapshot.
    pub fn stage_nothing(&self, database: &Database, meta: &SnapshotMeta) -> Result<Staged> {
        Ok(Staged {
            header: SnapshotHeader {
                last_log_id: meta.last_log_id,
                membership: meta.last_membership.clone(),
                time: 0,
                tables: Vec::new(),
            },
            _place: self.take_place(database)?,
        })
    }

    /// Checks what has arrived and stages its rows. After an error the staging is of no use.
    pub fn stage(&self, database: &Database, staging: &mut Staging, bytes: &[u8]) -> Result<()> {
        staging.parser.push(bytes);
        let mut more = true;
        while more {
            more = false;
            eventually(database, |txn| {
                let mut bytes = 0;
                while let Some(rows) = staging.next_rows()? {
                    let Some(definition) = self.tables.get(rows.table) else {
                        return Err(SnapshotError::Mismatch {
                            reason: format!("rows of table {}, which does not exist", rows.table),
                        }
                        .into());
                    };
                    let mut table = txn.untyped(&staged_table(definition))?;
                    for (key, value) in &rows.rows {
                        table.insert(key.as_slice(), value.as_slice())?;
                        bytes += key.len() + value.len();
                    }
                    if bytes >= STAGE_BYTES {
                        more = true;
                        break;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Ends a staging: everything has arrived and agrees.
    pub fn finish_staging(&self, database: &Database, staging: Staging) -> Result<Staged> {
        staging.parser.finish()?;
        let header = staging.parser.header().cloned();
        let header = header.ok_or(SnapshotError::Truncated { offset: 0 })?;
        // Most of the pages reach the disk here, so that the installation has few to flush.
        self.checkpoint(database)?;
        Ok(Staged {
            header,
            _place: staging.place,
        })
    }

    /// Removes staged rows that nobody will install. Does nothing while somebody may.
    pub fn clear_staged(&self, database: &Database) -> Result<()> {
        match self.take_place(database) {
            Ok(_) | Err(Failure::StagingTaken) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Stages a whole snapshot from a file.
    pub fn stage_file(&self, database: &Database, file: &mut File) -> Result<Staged> {
        file.rewind()?;
        let mut staging = self.begin_staging(database)?;
        let staged = self
            .stage_all(database, &mut staging, file)
            .and_then(|()| self.finish_staging(database, staging));
        if staged.is_err() {
            self.clear_staged(database)?;
        }
        staged
    }

    fn stage_all(&self, database: &Database, staging: &mut Staging, file: &mut File) -> Result<()> {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match file.read(&mut bytes)? {
                0 => return Ok(()),
                read => self.stage(database, staging, &bytes[..read])?,
            }
        }
    }

    /// Replaces the state with a staged snapshot: tables, metadata and purge point in one durable
    /// transaction over both groups. A crash leaves the old state or the new one.
    ///
    /// If the old state is damaged so that it cannot be replaced, it is given up, and the node stands
    /// where the snapshot does, without a state.
    #[tracing::instrument(level = "debug", skip_all, fields(node = self.node, snapshot = %meta.snapshot_id))]
    pub fn install(&self, database: &Database, meta: &SnapshotMeta, staged: &Staged) -> Result<()> {
        staged.check(meta)?;
        let mut counted = self.state.lock();
        let record = StateRecord {
            last_applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
            time: staged.header.time,
            snapshot: Some(meta.clone()),
        };
        match self.install_in(database, &record, |txn| self.put_state(txn, &record)) {
            Ok(()) => self.note_whole(),
            Err(failure) if failure.damage().is_some() => {
                self.give_up_state(database, &failure.to_string())?;
                self.install_in(database, &record, |txn| {
                    change_position(txn, |position| {
                        position.clone_from(&record);
                        Ok(())
                    })
                })?;
            }
            Err(failure) => return Err(failure),
        }
        *counted = meta.last_log_id;
        Meters::add(&self.meters.snapshots_installed, 1);
        Ok(())
    }

    /// Commits what `put` does, with the purge that belongs to it.
    fn install_in(
        &self,
        database: &Database,
        record: &StateRecord,
        put: impl FnOnce(&WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        let purge = self.purge_of_install(&database.begin_read()?, record)?;
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate);
        put(&txn)?;
        if let Some(log_id) = purge {
            let membership = record.membership.clone();
            txn.table::<Log<S>>()?.remove_range(..=log_id.index)?;
            txn.table::<Purged>()?
                .insert(&(), &PurgedRecord { log_id })?;
            txn.table::<Members>()?
                .insert(&(), &MembersRecord { membership })?;
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
        record: &StateRecord,
    ) -> Result<Option<LogId>> {
        let stored = view
            .table::<Purged>()?
            .get(&())?
            .map(|record| record.log_id);
        let pending = self
            .pending_purge
            .lock()
            .filter(|pending| Some(pending.index) <= record.applied_index());
        Ok(stored.max(pending).max(record.last_applied))
    }
}

pub(super) fn staged_table(table: &TableDefinition) -> TableDefinition {
    table.renamed(format!("{STAGED_PREFIX}{}", table.name))
}

/// Runs `change` in a transaction that is not flushed.
pub(super) fn eventually(
    database: &Database,
    change: impl FnOnce(&folio_store::WriteTransaction) -> Result<()>,
) -> Result<()> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Eventual);
    change(&txn)?;
    txn.commit()?;
    Ok(())
}
