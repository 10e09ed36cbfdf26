//! A new cluster from a copy of a node.

use std::ops::ControlFlow;
use std::path::Path;

use folio_ledger::command::{Action, Counter, TokenKey};
use folio_ledger::error::LedgerError;
use folio_ledger::{Ledger, LedgerView, replace_token_key};
use folio_raft::NodeId;
use folio_raft::store::{StoredLog, StoredLogError, refound};
use folio_store::{BackupOptions, Database, ReadTransaction};
use serde::Serialize;

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
}

/// Makes `out`, which must not be there, the file of the only node of a new cluster, with the ledger that `copy` has.
/// Reads and checks every page of the copy, and changes nothing in it. `progress` is told rows, and of about how many.
///
/// The node gets an id above all that the copy knows of. Invitations, page tokens and sessions of the old cluster are not good in
/// the new one.
pub fn restore(
    copy: &Path,
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
    let (database, _) = open(copy)?;
    let view = database.begin_read()?;
    let raft = RaftSummary::read(&view)?;
    let node = new_id(&view, &raft)?;
    drop(view);

    // Under another name until it is whole, so that no node starts on a part of it.
    let mut aside = out.as_os_str().to_owned();
    aside.push(".restoring");
    let aside = Path::new(&aside);
    database.backup_to(BackupOptions::new().compacted(), aside, progress)?;
    let mut key = TokenKey([0; 32]);
    getrandom::fill(&mut key.0)
        .map_err(|error| OpenError::Other(format!("no random bytes: {error}")))?;
    let new = Database::open(aside)?;
    // Nobody knows yet where the node will be found: it says so when it starts.
    let made = refound::<Ledger>(&new, node, format!("restored-node-{node}:1"), |txn| {
        replace_token_key(txn, &key)
    });
    let made = made.map_err(|error| match error {
        folio_raft::Error::Store(error) => OpenError::from(error),
        error => other(&error),
    })?;
    new.close()?;
    std::fs::rename(aside, out).map_err(|error| other(&error))?;
    Ok(RestoreReport {
        node,
        copied_from: raft.node,
        applied: made.applied,
        to_apply: made.to_apply,
    })
}

/// An id above all that the copy knows of, in its state or in the log above it.
fn new_id(view: &ReadTransaction, raft: &RaftSummary) -> Result<NodeId, OpenError> {
    let damaged = |error: StoredLogError| match error {
        StoredLogError::Store(error) => OpenError::from(error),
        other => OpenError::Inconsistent(LedgerError::Inconsistent(other.to_string())),
    };
    let members = raft.voters.keys().chain(raft.learners.keys());
    let known = members.chain(&raft.node).chain(&raft.voted_for).max();
    let mut highest = known.copied().unwrap_or(0);
    let mut counted = LedgerView::new(view).last_allocated(Counter::Node)?;
    let log = StoredLog::<Ledger>::new(view);
    let first = raft.applied.map_or(0, |applied| applied.saturating_add(1));
    let last = log.last().map_err(damaged)?.unwrap_or(0);
    for index in first..=last {
        let Some(entry) = log.entry(index).map_err(damaged)? else {
            continue;
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
