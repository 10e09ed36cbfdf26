//! Carrying out the history in a file again, and comparing: see [`folio_ledger::replay`] for what that can show.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use folio_ledger::error::LedgerError;
use folio_ledger::replay::{Difference, Scope, compare, compare_chains, replay_blocks};
use folio_ledger::{Ledger, LedgerView};
use folio_raft::Applied;
use folio_raft::store::{StoredLog, StoredLogError, StoredState};
use folio_store::{BackupOptions, Database, Durability, ReadTransaction};
use serde::Serialize;

use super::{OpenError, open};

/// Entries of the log that are carried out in one transaction.
const ENTRIES_AT_A_TIME: u64 = 64;
/// How many vaults are read at a time.
const VAULTS_AT_A_TIME: usize = 1_000;

/// How a replay is to be done.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// An earlier copy of the file, or of the file of another node of the cluster, to begin with; without one the replay begins with nothing.
    pub from: Option<PathBuf>,
    /// An empty directory for the ledger that is made; it takes as much room as the ledger does.
    pub scratch: PathBuf,
}

/// What was carried out again, and what came of it.
#[derive(Debug, Serialize)]
pub struct ReplayReport {
    /// The file.
    pub file: String,
    /// What the replay began with.
    pub from: Option<String>,
    /// What was carried out.
    pub by: History,
    /// The log entry up to which the state of the file goes.
    pub applied: Option<u64>,
    /// Entries in the log beyond that: they were not carried out, since there is nothing to compare them with.
    pub entries_beyond: u64,
    /// Log entries that were carried out.
    pub entries: u64,
    /// Vaults in the file.
    pub vaults: u64,
    /// Blocks that were compared.
    pub blocks: u64,
    /// What was compared.
    pub compared: &'static str,
    /// What was not, and why.
    pub not_compared: Vec<&'static str>,
    /// The first difference.
    pub difference: Option<Difference>,
}

/// The history that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// The Raft log: every command.
    Log,
    /// The blocks of all vaults: every transaction.
    Blocks,
}

/// Where a state stands to which nothing was done.
pub(super) const NOTHING: StoredState = StoredState {
    applied: None,
    time: 0,
};

type Progress<'p> = dyn FnMut(&str, u64, u64) + 'p;

/// Carries out the history of a file again. Where the log has every entry since the beginning (of everything, or of what
/// `from` has not), by the log; else by the blocks. `progress` is told what is being done, how much of it is done, and of
/// how much.
pub fn replay(
    file: &Path,
    options: &ReplayOptions,
    progress: &mut Progress<'_>,
) -> Result<ReplayReport, OpenError> {
    let (database, _) = open(file)?;
    let stored = database.begin_read()?;
    let log = StoredLog::<Ledger>::new(&stored);
    let state = state_of(&stored, file)?;
    let scratch = begin(options)?;
    let start = match &options.from {
        Some(from) => state_of(&scratch.begin_read()?, from)?,
        None => NOTHING,
    };
    let applied = state.applied.map(|id| id.index);
    let mut report = ReplayReport {
        file: file.display().to_string(),
        from: options.from.as_ref().map(|from| from.display().to_string()),
        by: History::Log,
        applied,
        entries_beyond: entries_after(log.last()?, applied),
        entries: 0,
        vaults: 0,
        blocks: 0,
        compared: "every row of the ledger",
        not_compared: Vec::new(),
        difference: None,
    };
    if applied < start.applied.map(|id| id.index) {
        return Err(OpenError::Other(format!(
            "what the replay is to begin with has entry {} applied, and {} only what is before it: begin with an earlier copy",
            start.applied.map_or(0, |id| id.index),
            file.display()
        )));
    }
    if is_whole(&log, start, applied)? {
        by_log(&stored, &scratch, start, applied, &mut report, progress)?;
    } else {
        by_blocks(&stored, &scratch, &mut report, progress)?;
    }
    Ok(report)
}

fn entries_after(last: Option<u64>, applied: Option<u64>) -> u64 {
    let next = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
    next(last).saturating_sub(next(applied))
}

pub(super) fn state_of(view: &ReadTransaction, file: &Path) -> Result<StoredState, OpenError> {
    StoredLog::<Ledger>::new(view).state()?.ok_or_else(|| {
        OpenError::Other(format!(
            "{}: there is no state in it: it is being rebuilt, or the node is a witness",
            file.display()
        ))
    })
}

/// The database in which everything is carried out: new, or a copy.
fn begin(options: &ReplayOptions) -> Result<Database, OpenError> {
    let path = options.scratch.join("replay.folio");
    let Some(from) = &options.from else {
        return Ok(Database::create(&path)?);
    };
    let (earlier, _) = open(from)?;
    earlier.backup_to(
        BackupOptions::new(),
        &path,
        |_, _| ControlFlow::Continue(()),
    )?;
    Ok(Database::open(&path)?)
}

/// Whether the log has every entry after the start, up to what is applied.
pub(super) fn is_whole(
    log: &StoredLog<'_, Ledger>,
    start: StoredState,
    applied: Option<u64>,
) -> Result<bool, OpenError> {
    let first = start.applied.map_or(0, |id| id.index.saturating_add(1));
    let begins = log.purged()?.is_none_or(|purged| purged < first) && log.entry(first)?.is_some();
    // Entries are contiguous from the first to the last.
    Ok(applied.is_none_or(|applied| applied < first) || (begins && log.last()? >= applied))
}

fn by_log(
    stored: &ReadTransaction,
    scratch: &Database,
    start: StoredState,
    applied: Option<u64>,
    report: &mut ReplayReport,
    progress: &mut Progress<'_>,
) -> Result<(), OpenError> {
    let log = StoredLog::<Ledger>::new(stored);
    let mut next = start.applied.map_or(0, |id| id.index.saturating_add(1));
    let mut time = start.time;
    let end = applied.map_or(0, |index| index.saturating_add(1));
    let total = end.saturating_sub(next);
    while next < end {
        let mut txn = scratch.begin_write()?;
        txn.set_durability(Durability::Eventual);
        for index in next..end.min(next.saturating_add(ENTRIES_AT_A_TIME)) {
            let entry = log.entry(index)?.ok_or(StoredLogError::Missing { index })?;
            if let Some(batch) = &entry.batch {
                time = time.max(batch.time);
                let at = Applied {
                    index,
                    term: entry.log_id.leader_id.term,
                    position: 0,
                    time,
                };
                Ledger.apply_entry(&txn, at, &batch.commands)?;
            }
            report.entries += 1;
        }
        txn.commit()?;
        next = next.saturating_add(ENTRIES_AT_A_TIME).min(end);
        progress("entries", report.entries, total);
    }
    let replayed = scratch.begin_read()?;
    let mut blocks = 0;
    report.difference = compare_chains(stored, &replayed, &mut |what, done, total| {
        if what == "blocks" {
            blocks = done;
        }
        progress(what, done, total);
    })?;
    report.blocks = blocks;
    report.vaults = count_vaults(stored)?;
    if report.difference.is_none() {
        let mut rows = |done, total| progress("rows", done, total);
        let found = compare(stored, &replayed, Scope::Everything, 1, &mut rows)?;
        report.difference = found.into_iter().next();
    }
    Ok(())
}

fn count_vaults(view: &ReadTransaction) -> Result<u64, OpenError> {
    let (mut count, mut after) = (0, 0);
    loop {
        let vaults = LedgerView::new(view).vaults(after, VAULTS_AT_A_TIME)?;
        let Some(last) = vaults.last() else {
            return Ok(count);
        };
        after = last.vault;
        count += vaults.len() as u64;
    }
}

fn by_blocks(
    stored: &ReadTransaction,
    scratch: &Database,
    report: &mut ReplayReport,
    progress: &mut Progress<'_>,
) -> Result<(), OpenError> {
    let log = StoredLog::<Ledger>::new(stored);
    let mut commands = |index| {
        let entry = log.entry(index).ok()??;
        entry.batch.map(|batch| batch.commands)
    };
    let replayed = replay_blocks(stored, scratch, &mut commands, progress)?;
    report.by = History::Blocks;
    report.entries = replayed.entries;
    report.vaults = replayed.vaults;
    report.blocks = replayed.blocks;
    report.compared =
        "every block, and what the vaults hold: entities, relationships, commitments, expiries";
    report.not_compared = vec![
        "sessions, counters, names and retention of vaults, past versions, refused commands: no block records them, and the log does not reach back",
    ];
    if replayed.vaults_deleted {
        report.not_compared.push("vaults that were deleted");
    }
    report.difference = replayed.difference;
    Ok(())
}

impl From<StoredLogError> for OpenError {
    fn from(error: StoredLogError) -> Self {
        match error {
            StoredLogError::Store(error) => error.into(),
            damaged => OpenError::Inconsistent(LedgerError::Inconsistent(damaged.to_string())),
        }
    }
}
