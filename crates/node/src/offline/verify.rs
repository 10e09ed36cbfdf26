//! Checking a file: every page by the engine, then every block and the whole state of every vault by the ledger.

use std::ops::ControlFlow;
use std::path::Path;

use folio_ledger::LedgerView;
use folio_ledger::digest::Digest;
use folio_ledger::error::LedgerError;
use folio_ledger::verify::{VerifyError, verify_chain, verify_shared, verify_state};
use folio_store::{ReadTransaction, VerifyOptions};
use serde::Serialize;

use super::{OpenError, RaftSummary, open};

/// How many problems are reported; a damaged file may have one per page.
const MAX_PROBLEMS: usize = 100;
/// How many vaults are read at a time.
const VAULTS_AT_A_TIME: usize = 100;

/// What was checked, and what is wrong.
#[derive(Debug, Serialize)]
pub struct VerifyReport {
    /// The file.
    pub file: String,
    /// Its length in bytes.
    pub file_bytes: u64,
    /// Pages read and checked.
    pub pages: u64,
    /// Tables walked.
    pub tables: u64,
    /// Rows read.
    pub rows: u64,
    /// The Raft state, with the log that the node applies when it starts.
    pub raft: RaftSummary,
    /// The vaults that are sound.
    pub vaults: Vec<VaultCheck>,
    /// How many problems there are.
    pub problem_count: usize,
    /// The first of them.
    pub problems: Vec<String>,
}

/// A vault whose blocks, from the first to the last, and whose state are what its hashes say.
#[derive(Debug, Serialize)]
pub struct VaultCheck {
    /// The vault.
    pub vault: u64,
    /// The height of its last block.
    pub height: u64,
    /// The hash of its last block.
    pub block_hash: Digest,
    /// Its state root, computed from all its rows.
    pub state_root: Digest,
    /// Transactions in all blocks.
    pub transactions: u64,
    /// Entities in the state.
    pub entities: u64,
    /// Relationships in the state.
    pub relationships: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    /// How many log entries are not applied in this file.
    pub fn entries_to_apply(&self) -> u64 {
        let applied = self.raft.applied.map_or(0, |index| index + 1);
        self.raft
            .last_log
            .map_or(0, |index| index + 1)
            .saturating_sub(applied)
    }

    fn add_problem(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}

/// Checks a file. Damage is in the report, unless it is such that the file cannot be opened. `progress` is told what is
/// being checked, how much of it is done, and of how much. The rate of `options` is that of the reading of pages.
pub fn verify(
    file: &Path,
    options: VerifyOptions,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<VerifyReport, OpenError> {
    let (database, file_bytes) = open(file)?;
    let pages = database.verify_with(options, |done, total| {
        progress("pages", done, total);
        ControlFlow::Continue(())
    })?;
    let mut report = VerifyReport {
        file: file.display().to_string(),
        file_bytes,
        pages: pages.pages,
        tables: pages.tables,
        rows: pages.rows,
        raft: RaftSummary::default(),
        vaults: Vec::new(),
        problem_count: 0,
        problems: Vec::new(),
    };
    for problem in &pages.problems {
        report.add_problem(problem.to_string());
    }
    let view = database.begin_read()?;
    match RaftSummary::read(&view) {
        Ok(raft) => report.raft = raft,
        Err(error) => record(&mut report, error.into())?,
    }
    if let Err(error) = verify_vaults(&view, &mut report, progress) {
        record(&mut report, error)?;
    }
    if let Err(error) = verify_shared(&view) {
        record(&mut report, error)?;
    }
    Ok(report)
}

fn verify_vaults(
    view: &ReadTransaction,
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<(), VerifyError> {
    let mut after = 0;
    loop {
        let vaults = LedgerView::new(view).vaults(after, VAULTS_AT_A_TIME)?;
        let Some(last) = vaults.last() else {
            return Ok(());
        };
        after = last.vault;
        for vault in &vaults {
            match verify_vault(view, vault.vault, progress) {
                Ok(check) => report.vaults.push(check),
                Err(error) => record(report, error).map_err(LedgerError::from)?,
            }
        }
    }
}

fn verify_vault(
    view: &ReadTransaction,
    vault: u64,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<VaultCheck, VerifyError> {
    let chain = verify_chain(view, vault, &mut |done, total| {
        progress("blocks", done, total)
    })?;
    let state = verify_state(view, vault, &mut |done, total| {
        progress("state", done, total)
    })?;
    Ok(VaultCheck {
        vault,
        height: chain.blocks - 1,
        block_hash: chain.head,
        state_root: state.state_root,
        transactions: chain.transactions,
        entities: state.entities,
        relationships: state.relationships,
    })
}

/// Notes damage in the report. What is no damage ends the check.
fn record(report: &mut VerifyReport, error: VerifyError) -> Result<(), folio_store::Error> {
    match error {
        VerifyError::Ledger(LedgerError::Store(error)) if !error.is_corruption() => Err(error),
        damage => {
            report.add_problem(damage.to_string());
            Ok(())
        }
    }
}
