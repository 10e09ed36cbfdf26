//! Building, staging and installing snapshots.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::ops::Bound;
use std::sync::Arc;

use folio_store::{Database, Durability, TableDefinition, WriteTransaction};

use super::failure::{Failure, Result};
use super::shared::{Shared, state_record};
use super::standing::change_position;
use super::tables::{Log, Members, MembersRecord, Purged, PurgedRecord, State, StateRecord};
use crate::metrics::Meters;
use crate::snapshot::{
    CHANGES_LIMIT, Kept, Piece, Rows, SnapshotData, SnapshotError, SnapshotHeader, SnapshotParser,
    SnapshotSource, SnapshotTable,
};
use crate::state_machine::{STAGED_PREFIX, StateMachine};
use crate::types::{LogId, SnapshotMeta};

/// Bytes of rows staged in one transaction, at least; it bounds how long other writers wait.
const STAGE_BYTES: usize = 1 << 20;
/// Bytes of rows staged between two flushes.
const FLUSH_BYTES: usize = 16 << 20;
/// Bytes of a snapshot file read at a time.
const READ_BYTES: usize = 256 << 10;

/// The right to the staged tables. There is one at a time, and what is in the tables belongs to
/// whoever has it.
pub(crate) struct Place(#[expect(dead_code, reason = "it is there to be dropped")] Arc<()>);

/// A snapshot that is arriving. The rows of a whole one go to the staged tables as they come; a
/// stream of changes goes to a file, since it is put on the state itself.
pub(crate) struct Staging {
    place: Place,
    parser: SnapshotParser,
    /// The tables of this node.
    tables: Vec<TableDefinition>,
    /// Whether the header was compared with the tables of this node.
    checked: bool,
    /// What has arrived, as long as it is not known which of the two it is.
    undecided: Option<Vec<u8>>,
    changes: Option<Changes>,
    /// Bytes of rows that were staged since the last checkpoint.
    unflushed: usize,
}

/// A stream of changes.
struct Changes {
    file: File,
    length: u64,
    /// The state may be at this log id or a later one.
    base: LogId,
}

impl Staging {
    /// The next piece of what has arrived.
    fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.parser.next()? {
                return Ok(Some(piece));
            }
            let header = self.parser.header().filter(|_| !self.checked);
            let Some(header) = header else {
                return Ok(None);
            };
            let expected: Vec<_> = self.tables.iter().map(SnapshotTable::from).collect();
            if header.tables != expected {
                return Err(mismatch(format!(
                    "it has the tables {:?}, and the state machine of this node has {expected:?}",
                    header.tables
                )));
            }
            self.checked = true;
        }
    }
}

fn mismatch(reason: String) -> Failure {
    SnapshotError::Mismatch { reason }.into()
}

/// A snapshot that has arrived as a whole, and which was checked: in the staged tables, or changes.
pub(crate) struct Staged {
    pub(super) header: SnapshotHeader,
    changes: Option<Changes>,
    _place: Place,
}

impl Staged {
    /// Whether it is a state, and not changes to one.
    pub fn is_whole(&self) -> bool {
        self.changes.is_none()
    }

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
            // After the view: what replaces the state later also removes its points.
            points: self.points.lock().clone(),
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
            undecided: Some(Vec::new()),
            changes: None,
            unflushed: 0,
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
            changes: None,
            _place: self.take_place(database)?,
        })
    }

    /// Checks what has arrived and stages it. After an error the staging is of no use.
    pub fn stage(&self, database: &Database, staging: &mut Staging, bytes: &[u8]) -> Result<()> {
        staging.parser.push(bytes);
        if let Some(undecided) = &mut staging.undecided {
            undecided.extend_from_slice(bytes);
        }
        if let Some(changes) = &mut staging.changes {
            changes.put(bytes)?;
        }
        let mut more = true;
        while more {
            more = false;
            eventually(database, |txn| {
                let mut bytes = 0;
                while let Some(piece) = staging.next()? {
                    match piece {
                        Piece::Base(base) => {
                            let mut changes = Changes {
                                file: tempfile::tempfile_in(&self.spool_directory)?,
                                length: 0,
                                base,
                            };
                            changes.put(&staging.undecided.take().unwrap_or_default())?;
                            staging.changes = Some(changes);
                        }
                        Piece::Rows(rows) if staging.changes.is_none() => {
                            staging.undecided = None;
                            bytes += self.stage_rows(txn, &rows)?;
                        }
                        // They are in the file.
                        Piece::Rows(_) => {}
                        Piece::Kept(kept) => self.check_kept(txn, &kept)?,
                    }
                    if bytes >= STAGE_BYTES {
                        more = true;
                        break;
                    }
                }
                staging.unflushed += bytes;
                Ok(())
            })?;
            // The engine remembers each page that it has written and not flushed.
            if staging.unflushed >= FLUSH_BYTES {
                staging.unflushed = 0;
                self.checkpoint(database)?;
            }
        }
        Ok(())
    }

    /// Puts rows into the staged tables; gives their bytes.
    fn stage_rows(&self, txn: &WriteTransaction, rows: &Rows) -> Result<usize> {
        let mut table = txn.untyped(&staged_table(self.table(rows.table)?))?;
        let mut bytes = 0;
        for (key, value) in &rows.rows {
            table.insert(key.as_slice(), value.as_slice())?;
            bytes += key.len() + value.len();
        }
        Ok(bytes)
    }

    fn table(&self, number: usize) -> Result<&TableDefinition> {
        let table = self.tables.get(number);
        table.ok_or_else(|| mismatch(format!("rows of table {number}, which does not exist")))
    }

    /// Compares what changes leave as it is with the state.
    fn check_kept(&self, txn: &WriteTransaction, kept: &Kept) -> Result<()> {
        let definition = self.table(kept.table as usize)?;
        let range = kept.first.as_slice()..=kept.last.as_slice();
        let found = txn.untyped(definition)?.count(range)?;
        if found == kept.rows {
            return Ok(());
        }
        Err(mismatch(format!(
            "it leaves {} rows of table `{}` as they are where this node has {found}: take the whole snapshot",
            kept.rows, definition.name
        )))
    }

    /// Ends a staging: everything has arrived and agrees.
    pub fn finish_staging(&self, database: &Database, staging: Staging) -> Result<Staged> {
        staging.parser.finish()?;
        let header = staging.parser.header().cloned();
        let header = header.ok_or(SnapshotError::Truncated { offset: 0 })?;
        if let Some(changes) = &staging.changes {
            let record = state_record(&database.begin_read()?)?;
            changes.check(record.last_applied, header.last_log_id)?;
        }
        // Most of the pages reach the disk here, so that the installation has few to flush.
        self.checkpoint(database)?;
        Ok(Staged {
            header,
            changes: staging.changes,
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
        if staged.changes.is_some() && !self.holds_state() {
            // What they were to be put on was given up meanwhile.
            self.stand_at(database, &record)?;
        } else {
            match self.install_in(database, &record, |txn| self.put(txn, &record, staged)) {
                Ok(()) => self.note_whole(),
                Err(failure) if failure.damage().is_some() => {
                    self.give_up_state(database, &failure.to_string())?;
                    self.stand_at(database, &record)?;
                }
                Err(failure) => return Err(failure),
            }
        }
        *counted = meta.last_log_id;
        Meters::add(&self.meters.snapshots_installed, 1);
        Ok(())
    }

    /// Puts what was staged in the place of the state.
    fn put(&self, txn: &WriteTransaction, record: &StateRecord, staged: &Staged) -> Result<()> {
        let Some(changes) = &staged.changes else {
            return self.put_state(txn, record);
        };
        let mut states = txn.table::<State>()?;
        let current = states.get(&())?.unwrap_or_default();
        changes.check(current.last_applied, record.last_applied)?;
        self.put_changes(txn, &changes.file)?;
        states.insert(&(), record)?;
        Ok(())
    }

    /// Notes that everything up to `record` counts as applied, although there is no state.
    fn stand_at(&self, database: &Database, record: &StateRecord) -> Result<()> {
        self.install_in(database, record, |txn| {
            change_position(txn, |position| {
                position.clone_from(record);
                Ok(())
            })
        })
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
        let transaction = txn.commit()?;
        if let Some(log_id) = purge {
            self.recent.lock().purge(log_id.index);
        }
        self.points
            .lock()
            .replaced(record.last_applied, transaction);
        self.note_checkpoint(record.applied_index());
        if let Some(log_id) = purge {
            self.settle_pending_purge(log_id);
        }
        Ok(())
    }

    /// Puts a stream of changes on the state: rows that it neither names nor leaves go.
    fn put_changes(&self, txn: &WriteTransaction, mut file: &File) -> Result<()> {
        file.rewind()?;
        let mut parser = SnapshotParser::default();
        let mut bytes = vec![0; READ_BYTES];
        // Up to here the table is as it will be.
        let mut table = 0;
        let mut done = Bound::Unbounded;
        let finish = |table: usize, from: Bound<Vec<u8>>, to: Bound<&[u8]>| -> Result<()> {
            let mut rows = txn.untyped(self.table(table)?)?;
            rows.remove_range::<&[u8]>((from.as_ref().map(Vec::as_slice), to))?;
            Ok(())
        };
        loop {
            let read = file.read(&mut bytes)?;
            parser.push(&bytes[..read]);
            // It stops behind the header once.
            let mut before_header = parser.header().is_none();
            loop {
                let (next, rows, kept) = match parser.next()? {
                    Some(Piece::Base(_)) => continue,
                    Some(Piece::Rows(rows)) => (rows.table, Some(rows), None),
                    Some(Piece::Kept(kept)) => (kept.table as usize, None, Some(kept)),
                    None if before_header && parser.header().is_some() => {
                        before_header = false;
                        continue;
                    }
                    None => break,
                };
                while table < next {
                    finish(
                        table,
                        std::mem::replace(&mut done, Bound::Unbounded),
                        Bound::Unbounded,
                    )?;
                    table += 1;
                }
                for (key, value) in rows.iter().flat_map(|rows| &rows.rows) {
                    let from = std::mem::replace(&mut done, Bound::Excluded(key.clone()));
                    finish(table, from, Bound::Excluded(key.as_slice()))?;
                    let mut rows = txn.untyped(self.table(table)?)?;
                    rows.insert(key.as_slice(), value.as_slice())?;
                }
                if let Some(kept) = kept {
                    let from = std::mem::replace(&mut done, Bound::Excluded(kept.last.clone()));
                    finish(table, from, Bound::Excluded(kept.first.as_slice()))?;
                    self.check_kept(txn, &kept)?;
                }
            }
            if read == 0 {
                break;
            }
        }
        parser.finish()?;
        while table < self.tables.len() {
            finish(
                table,
                std::mem::replace(&mut done, Bound::Unbounded),
                Bound::Unbounded,
            )?;
            table += 1;
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
            .borrow()
            .filter(|pending| Some(pending.index) <= record.applied_index());
        Ok(stored.max(pending).max(record.last_applied))
    }
}

impl Changes {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        if self.length > CHANGES_LIMIT {
            return Err(mismatch(format!(
                "its changes take more than the limit of {CHANGES_LIMIT} bytes"
            )));
        }
        Ok(self.file.write_all(bytes)?)
    }

    /// Changes fit a state between the one that they begin with and the one that they lead to.
    fn check(&self, applied: Option<LogId>, target: Option<LogId>) -> Result<()> {
        if applied >= Some(self.base) && applied <= target {
            return Ok(());
        }
        Err(mismatch(format!(
            "it holds the changes from {} to {target:?}, and this node is at {applied:?}",
            self.base
        )))
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
