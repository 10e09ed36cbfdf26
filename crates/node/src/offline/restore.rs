//! A new cluster from a copy of a node.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::path::Path;

use folio_ledger::command::{Action, Command, Counter, TokenKey};
use folio_ledger::digest::Digest;
use folio_ledger::error::LedgerError;
use folio_ledger::verify::{VerifyError, verify_state};
use folio_ledger::{Ledger, LedgerView, replace_token_key};
use folio_raft::NodeId;
use folio_raft::store::{StoredLog, refound};
use folio_store::{BackupOptions, Database, ReadTransaction, WriteTransaction};
use serde::Serialize;

use super::replay::{NOTHING, is_whole, state_of};
use super::{OpenError, RaftSummary, open};

/// What a restored node begins with.
#[derive(Debug, Serialize)]
pub struct RestoreReport {
    /// Its id, above all that the copy knows of.
    pub node: NodeId,
    /// The node that the copy was made of.
    pub copied_from: Option<NodeId>,
    /// Index of the last log entry whose effect is in the state, if there is one.
    pub applied: Option<u64>,
    /// Log entries that the node applies when it starts.
    pub to_apply: u64,
    /// The block that was asked for, the last one of its vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<RestoredBlock>,
}

/// A block that a state was carried to.
#[derive(Debug, Serialize)]
pub struct RestoredBlock {
    /// Its vault.
    pub vault: u64,
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: Digest,
    /// The root of the vault's state, which was computed anew and is that of the block.
    pub state_root: Digest,
}

/// A moment at which a block was the last one of its vault: right after the log entry that made it, or a later one that a copy
/// is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// The vault.
    pub vault: u64,
    /// The height of the block.
    pub height: u64,
}

impl Until {
    /// Whether a copy is of that moment or of a later one, so that later copies are of no use.
    pub fn is_passed(&self, copy: &Path) -> Result<bool, OpenError> {
        let (database, _) = open(copy)?;
        Ok(self.compare(&database.begin_read()?)? != Ordering::Less)
    }

    /// Where a state stands beside that moment.
    fn compare(&self, view: &ReadTransaction) -> Result<Ordering, OpenError> {
        let ledger = LedgerView::new(view);
        Ok(match ledger.vault(self.vault)? {
            Some(info) => info.height.cmp(&self.height),
            None if ledger.was_deleted(self.vault)? => Ordering::Greater,
            None => Ordering::Less,
        })
    }
}

/// Where a restored state comes from.
#[derive(Debug, Clone, Copy)]
pub struct Copies<'p> {
    /// The copy.
    pub copy: &'p Path,
    /// An earlier one of the same cluster, to go to a moment between the two.
    pub before: Option<&'p Path>,
}

/// Makes `out`, which must not be there, the file of the only node of a new cluster, with the ledger that a copy has, or
/// had at an earlier moment. Reads and checks every page of the copy, and changes nothing in it. `progress` is told rows, and
/// of about how many.
///
/// A state cannot be carried back. So for a moment before that of the copy its log is carried out upon an earlier copy, or
/// upon nothing if the log reaches back to the beginning; for one after, upon the copy itself.
///
/// The node gets an id above all that the copy knows of. Invitations, page tokens and sessions of the old cluster are not good in
/// the new one.
///
/// The file is made in `scratch`, a directory of the same filesystem that nobody else uses, so that no node starts on a part
/// of it.
pub fn restore(
    copies: Copies<'_>,
    until: Option<Until>,
    scratch: &Path,
    out: &Path,
    progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<RestoreReport, OpenError> {
    let other = |error: &dyn std::fmt::Display| OpenError::Other(error.to_string());
    if out.exists() {
        return Err(OpenError::Other(format!(
            "{} is there already, and is kept",
            out.display()
        )));
    }
    let (database, _) = open(copies.copy)?;
    let view = database.begin_read()?;
    let raft = RaftSummary::read(&view)?;
    let node = new_id(&view, &raft)?;

    let aside = &scratch.join("node.folio");
    let take = |from: &Database, progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>| {
        from.backup_to(BackupOptions::new().compacted(), aside, progress)?;
        Ok::<_, OpenError>(Database::open(aside)?)
    };
    let (new, block) = match until {
        None => (take(&database, &mut { progress })?, None),
        Some(until) => {
            let new = match start(copies, &view, until)? {
                Start::Copy => take(&database, &mut { progress })?,
                Start::Before(before) => take(&before, &mut { progress })?,
                Start::Nothing => Database::create(aside)?,
            };
            let block = carry_to(until, &view, &new)?;
            (new, Some(block))
        }
    };
    drop(view);
    let mut key = TokenKey([0; 32]);
    getrandom::fill(&mut key.0)
        .map_err(|error| OpenError::Other(format!("no random bytes: {error}")))?;
    // Nobody knows yet where the node will be found: it says so when it starts.
    let made = refound::<Ledger>(&new, node, format!("restored-node-{node}:1"), |txn| {
        replace_token_key(txn, &key)
    });
    let made = made.map_err(|error| match error {
        folio_raft::Error::Store(error) => OpenError::from(error),
        folio_raft::Error::LogDamaged { reason, .. } => OpenError::Inconsistent(
            LedgerError::Inconsistent(format!("the log in the copy: {reason}")),
        ),
        error => other(&error),
    })?;
    new.close()?;
    std::fs::rename(aside, out).map_err(|error| other(&error))?;
    Ok(RestoreReport {
        node,
        copied_from: raft.node,
        applied: made.applied,
        to_apply: made.to_apply,
        block,
    })
}

/// The state that the log of a copy is carried out upon.
enum Start {
    Copy,
    Before(Database),
    Nothing,
}

fn start(copies: Copies<'_>, view: &ReadTransaction, until: Until) -> Result<Start, OpenError> {
    if until.compare(view)? != Ordering::Greater {
        return Ok(Start::Copy);
    }
    let log = StoredLog::<Ledger>::new(view);
    let applied = state_of(view, copies.copy)?.applied.map(|id| id.index);
    let earliest = match LedgerView::new(view).vault(until.vault)? {
        Some(info) => format!("from height {} on", info.height),
        None => "at no height, because it was deleted".to_owned(),
    };
    let Some(path) = copies.before else {
        return match is_whole(&log, NOTHING, applied)? {
            true => Ok(Start::Nothing),
            false => Err(OpenError::Other(format!(
                "vault {} can be restored {earliest}, and not at height {}: the log in the copy does not reach back to the \
                 beginning; begin with an earlier copy",
                until.vault, until.height
            ))),
        };
    };
    let (before, _) = open(path)?;
    let earlier = before.begin_read()?;
    if is_whole(&log, state_of(&earlier, path)?, applied)? {
        return Ok(Start::Before(before));
    }
    let info = LedgerView::new(&earlier).vault(until.vault)?;
    let up_to = info.map_or_else(
        || "not there yet".to_owned(),
        |info| format!("at height {}", info.height),
    );
    Err(OpenError::Other(format!(
        "vault {} can be restored as the copy before has it, {up_to}, and {earliest}, and not at height {}: the log of the later \
         copy begins in between; copies that are made more often, or a larger log-entries-kept, leave no such gap",
        until.vault, until.height
    )))
}

/// Carries out what a log has beyond a state, up to a block, and compares that block with the one in the copy.
fn carry_to(
    until: Until,
    view: &ReadTransaction,
    new: &Database,
) -> Result<RestoredBlock, OpenError> {
    let reached = |view: &ReadTransaction| Ok(until.compare(view)? == Ordering::Equal);
    let apply = |txn: &WriteTransaction, at, commands: &[Command]| {
        Ledger.apply_entry(txn, at, commands)?;
        Ok::<_, OpenError>(())
    };
    let found = StoredLog::<Ledger>::new(view).carry_out_in(new, apply, reached)?;
    let carried = new.begin_read()?;
    let ledger = LedgerView::new(&carried);
    let info = match ledger.vault(until.vault)? {
        Some(info) if found => info,
        newest => {
            let newest = newest.map_or_else(
                || "there is no such vault in it".to_owned(),
                |info| format!("the last one in it is {}", info.height),
            );
            return Err(OpenError::Other(format!(
                "the copy has no block {} of vault {}: {newest}",
                until.height, until.vault
            )));
        }
    };
    let state =
        verify_state(&carried, until.vault, &mut |_, _| {}).map_err(|error| match error {
            VerifyError::Ledger(error) => error,
            other => LedgerError::Inconsistent(other.to_string()),
        })?;
    let recorded = LedgerView::new(view).block(until.vault, until.height)?;
    if recorded.is_some_and(|block| block.hash() != info.block_hash) {
        return Err(OpenError::Inconsistent(LedgerError::Inconsistent(format!(
            "carried out again, block {} of vault {} is not the one that the copy has: `folio replay` tells more",
            until.height, until.vault
        ))));
    }
    Ok(RestoredBlock {
        vault: until.vault,
        height: info.height,
        hash: info.block_hash,
        state_root: state.state_root,
    })
}

/// An id above all that the copy knows of, in its state or in the log above it.
fn new_id(view: &ReadTransaction, raft: &RaftSummary) -> Result<NodeId, OpenError> {
    let members = raft.voters.keys().chain(raft.learners.keys());
    let known = members.chain(&raft.node).chain(&raft.voted_for).max();
    let mut highest = known.copied().unwrap_or(0);
    let mut counted = LedgerView::new(view).last_allocated(Counter::Node)?;
    let log = StoredLog::<Ledger>::new(view);
    let first = raft.applied.map_or(0, |applied| applied.saturating_add(1));
    for index in first..=u64::MAX {
        // What has entries beyond a gap is refused later.
        let Some(entry) = log.entry(index)? else {
            break;
        };
        highest = highest.max(entry.members.last().copied().unwrap_or(0));
        for command in entry.batch.into_iter().flat_map(|batch| batch.commands) {
            if let Action::AllocateNumbers {
                counter: Counter::Node,
                count,
            } = command.action
            {
                counted = counted.saturating_add(count.into());
            }
        }
    }
    Ok(highest.max(counted).saturating_add(1))
}
