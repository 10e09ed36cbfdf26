//! The log, the vote, the committed id and the purge point: the durable half of Raft.

use std::ops::Bound;

use folio_store::{Database, Durability, ReadTransaction};
use openraft::{EntryPayload, ErrorSubject};
use tokio::time::Instant;

use super::failure::{Failure, Result};
use super::shared::{Shared, state_record};
use super::tables::{
    Committed, Log, Members, MembersRecord, Purged, PurgedRecord, VoteRecord, Votes,
};
use crate::state_machine::StateMachine;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// The first byte of an encoded entry.
const ENTRY_FORMAT: u8 = 1;

/// The ends of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogEnds {
    pub purged: Option<LogId>,
    /// The last entry, or the purge point when there is none.
    pub last: Option<LogId>,
}

impl<S: StateMachine> Shared<S> {
    pub fn save_vote(&self, database: &Database, vote: &Vote) -> Result<()> {
        let mut txn = database.begin_write()?;
        // Whatever the database does by default: these are promises to peers.
        txn.set_durability(Durability::Immediate);
        txn.table::<Votes>()?
            .insert(&(), &VoteRecord { vote: *vote })?;
        txn.commit()?;
        Ok(())
    }

    pub fn read_vote(&self, database: &Database) -> Result<Option<Vote>> {
        let view = database.begin_read()?;
        Ok(view.table::<Votes>()?.get(&())?.map(|record| record.vote))
    }

    /// Stores the committed id that was saved after the last append. Flushes nothing.
    pub fn save_committed(&self, database: &Database) -> Result<()> {
        let saved = self.committed.lock().take();
        // The entries that it speaks of may have failed.
        let is_here = |id: LogId| self.flushing.covers(id.index);
        let Some(record) = saved.filter(|record| record.log_id.is_none_or(is_here)) else {
            return Ok(());
        };
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        txn.table::<Committed>()?.insert(&(), &record)?;
        txn.commit()?;
        Ok(())
    }

    pub fn read_committed(&self, database: &Database) -> Result<Option<LogId>> {
        let saved = *self.committed.lock();
        let record = match saved {
            Some(record) => Some(record),
            None => database.begin_read()?.table::<Committed>()?.get(&())?,
        };
        Ok(record.and_then(|record| record.log_id))
    }

    /// The ends of the log, with a purge that still waits for its installation.
    pub fn log_ends(&self, view: &ReadTransaction) -> Result<LogEnds> {
        let purged = self.purge_point(view)?;
        let last = match view.table::<Log<S>>()?.last()? {
            Some((index, bytes)) if purged.is_none_or(|purged| purged.index < index) => {
                Some(decode_log_id(index, &bytes)?.0)
            }
            _ => purged,
        };
        Ok(LogEnds { purged, last })
    }

    /// The purge point, if an installation that is still to come has to fill what is missing before it:
    /// entries behind it would stand behind a hole after a crash.
    pub fn gap(&self, ends: &LogEnds) -> Option<LogId> {
        self.pending_purge
            .borrow()
            .filter(|pending| ends.last == Some(*pending))
    }

    /// Appends `entries`, durable on return. Each goes to the place its index names; a hole is
    /// refused, since Raft looks at the last entry only and would never notice it.
    #[tracing::instrument(level = "debug", skip_all, fields(node = self.node, entries = entries.0.len()))]
    pub fn append(&self, database: &Database, entries: &Encoded) -> Result<()> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let began = Instant::now();
        let ends = self.log_ends(&database.begin_read()?)?;
        if let Some(pending) = self.gap(&ends) {
            return Err(Failure::BeforeInstall {
                index: first,
                purged: pending.index,
            });
        }
        // A log without any past may begin anywhere: that of a restored node does.
        let mut expected = match ends.last {
            Some(last) => first.min(last.index.saturating_add(1)),
            None => first,
        };
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate);
        {
            let mut log = txn.table::<Log<S>>()?;
            for (index, bytes) in &entries.0 {
                if *index != expected {
                    return Err(Failure::Hole {
                        expected,
                        found: *index,
                    });
                }
                log.insert(index, bytes.as_slice())?;
                expected = index.saturating_add(1);
            }
        }
        // In one transaction with the entries, so that it is never durable before what it speaks of. The entries are
        // the last ones, so it speaks of nothing behind them.
        let committed = *self.committed.lock();
        if let Some(record) = &committed {
            txn.table::<Committed>()?.insert(&(), record)?;
        }
        txn.commit()?;
        self.committed
            .lock()
            .take_if(|saved| Some(*saved) == committed);
        self.meters.append_entries.note(entries.0.len() as u64);
        self.meters.append_micros.note_since(began);
        Ok(())
    }

    /// [Appends](Self::append) entries that are [on their way](super::flushing). A failure stops the node, save for want
    /// of room.
    pub fn append_sent(&self, entries: &Encoded) -> Result<()> {
        self.critical_to(&ErrorSubject::Logs, |database| {
            self.append(database, entries)
        })?;
        self.note_room();
        Ok(())
    }

    /// Keeps entries that are appended to read them soon.
    pub fn keep(&self, entries: &Encoded) {
        let mut recent = self.recent.lock();
        for (index, bytes) in &entries.0 {
            recent.append(*index, bytes.clone());
        }
    }

    /// Removes the entries from `index` on. The next append flushes it: nothing is answered to the
    /// leader before that, and until then the old entries may come back, which is the state the
    /// leader saw.
    pub fn truncate(&self, database: &Database, index: u64) -> Result<()> {
        let view = database.begin_read()?;
        if let Some(applied) = state_record(&view)?.applied_index()
            && index <= applied
            && view.table::<Log<S>>()?.contains_key(&index)?
        {
            return Err(Failure::TruncateApplied { index, applied });
        }
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        txn.table::<Log<S>>()?.remove_range(index..)?;
        txn.commit()?;
        self.recent.lock().truncate(index);
        Ok(())
    }

    /// Removes the entries up to `log_id`, inclusive, once their effect is durable.
    ///
    /// The removal itself needs no flush: rows and purge point change in one transaction, so a
    /// crash leaves both or neither.
    pub fn purge(&self, database: &Database, log_id: LogId) -> Result<()> {
        // Gone for every reader from here on, whatever becomes of the rows.
        self.recent.lock().purge(log_id.index);
        // An installation that is under way settles the purges that were asked for before it.
        let _turn = self.state.lock();
        let view = database.begin_read()?;
        let record = state_record(&view)?;
        let applied = record.applied_index();
        if applied < Some(log_id.index) {
            self.pending_purge
                .send_modify(|pending| *pending = (*pending).max(Some(log_id)));
            return Ok(());
        }
        if self.checkpointed() < Some(log_id.index) {
            self.checkpoint(database)?;
        }
        let stored = view.table::<Purged>()?.get(&())?;
        if stored.is_some_and(|stored| stored.log_id >= log_id) {
            return Ok(());
        }
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        // A purge is what makes room again on a full disk.
        txn.use_reserve();
        txn.table::<Log<S>>()?.remove_range(..=log_id.index)?;
        txn.table::<Purged>()?
            .insert(&(), &PurgedRecord { log_id })?;
        let membership = record.membership;
        txn.table::<Members>()?
            .insert(&(), &MembersRecord { membership })?;
        txn.commit()?;
        self.settle_pending_purge(log_id);
        Ok(())
    }

    /// Forgets a purge that waited, now that the log is stored as purged up to `log_id`.
    pub fn settle_pending_purge(&self, log_id: LogId) {
        self.pending_purge
            .send_modify(|pending| *pending = pending.filter(|pending| *pending > log_id));
    }

    /// The entries of a range that are there, contiguous from the first one found, read from a
    /// fresh view. At most `max_bytes` of them, but always one.
    pub fn read_entries(
        &self,
        database: &Database,
        range: (Bound<u64>, Bound<u64>),
        max_bytes: usize,
    ) -> Result<Vec<Entry<S>>> {
        let view = database.begin_read()?;
        let purged = self.purge_point(&view)?;
        let start = match range.0 {
            Bound::Included(start) => start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let start = purged.map_or(start, |purged| start.max(purged.index.saturating_add(1)));
        let end = match range.1 {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => end,
            Bound::Unbounded => u64::MAX,
        };
        if start >= end {
            return Ok(Vec::new());
        }
        let mut entries: Vec<Entry<S>> = Vec::new();
        let mut bytes = 0usize;
        for row in view.table::<Log<S>>()?.range(start..end)? {
            let (index, value) = row?;
            bytes = bytes.saturating_add(value.len());
            if let Some(last) = entries.last()
                && (last.log_id.index.saturating_add(1) != index || bytes > max_bytes)
            {
                break;
            }
            entries.push(decode_entry::<S>(index, &value)?);
        }
        Ok(entries)
    }

    /// As [`read_entries`](Self::read_entries) for a range whose first entry was appended lately; `None` for others. Costs
    /// what decoding them does.
    pub fn read_recent(
        &self,
        start: u64,
        end: u64,
        max_bytes: usize,
    ) -> Option<Result<Vec<Entry<S>>>> {
        let recent = self.recent.lock();
        let entries = recent.range(start, end, max_bytes)?;
        Some(
            entries
                .map(|(index, bytes)| decode_entry::<S>(index, bytes))
                .collect(),
        )
    }

    /// What a replication stream may send: as [`read_entries`](Self::read_entries), but nothing
    /// when `start` itself is gone, since later entries would be a hole for the follower.
    pub fn read_for_replication(
        &self,
        database: &Database,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<S>>> {
        let range = (Bound::Included(start), Bound::Excluded(end));
        let entries = self.read_entries(database, range, self.options.read_max_bytes)?;
        let begins = entries.first().is_some_and(|e| e.log_id.index == start);
        Ok(if begins { entries } else { Vec::new() })
    }

    /// Up to where the log is gone for every reader, whether that is stored yet or not.
    fn purge_point(&self, view: &ReadTransaction) -> Result<Option<LogId>> {
        let stored = view
            .table::<Purged>()?
            .get(&())?
            .map(|record| record.log_id);
        Ok(stored.max(*self.pending_purge.borrow()))
    }
}

/// Entries to be appended, by index.
pub(crate) struct Encoded(Vec<(u64, Vec<u8>)>);

impl Encoded {
    pub fn new<S: StateMachine>(entries: impl IntoIterator<Item = Entry<S>>) -> Result<Self> {
        let entries = entries.into_iter();
        let encoded = entries.map(|entry| Ok((entry.log_id.index, encode_entry::<S>(&entry)?)));
        encoded.collect::<Result<_>>().map(Self)
    }

    /// The index of the first one.
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|(index, _)| *index)
    }

    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// Encodes an entry: the format, its log id, its payload. The id comes first so that it can be read
/// by itself.
pub(super) fn encode_entry<S: StateMachine>(entry: &Entry<S>) -> Result<Vec<u8>> {
    let parts = (entry.log_id, &entry.payload);
    postcard::to_extend(&parts, vec![ENTRY_FORMAT]).map_err(|error| Failure::Encode {
        index: entry.log_id.index,
        reason: error.to_string(),
    })
}

/// Decodes the entry stored at `index`. What does not decode whole is an error, never skipped.
pub(super) fn decode_entry<S: StateMachine>(index: u64, bytes: &[u8]) -> Result<Entry<S>> {
    let (log_id, payload) = decode_log_id(index, bytes)?;
    let damaged = |reason: String| Failure::Entry { index, reason };
    let (payload, rest) = postcard::take_from_bytes::<EntryPayload<TypeConfig<S>>>(payload)
        .map_err(|e| damaged(e.to_string()))?;
    if !rest.is_empty() {
        return Err(damaged(format!("{} bytes follow it", rest.len())));
    }
    Ok(Entry::<S> { log_id, payload })
}

/// Decodes the log id of the entry stored at `index`, and gives the encoded payload.
pub(super) fn decode_log_id(index: u64, bytes: &[u8]) -> Result<(LogId, &[u8])> {
    let damaged = |reason: String| Failure::Entry { index, reason };
    let Some((&ENTRY_FORMAT, encoded)) = bytes.split_first() else {
        return Err(damaged("its format is unknown".into()));
    };
    let (log_id, payload) =
        postcard::take_from_bytes::<LogId>(encoded).map_err(|e| damaged(e.to_string()))?;
    if log_id.index != index {
        return Err(damaged(format!("it says it is entry {}", log_id.index)));
    }
    Ok((log_id, payload))
}
