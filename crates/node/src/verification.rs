//! Verifying the file of a running node.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use folio_ledger::Ledger;
use folio_raft::ReplicatedDatabase;
use folio_store::{Scrub, ScrubOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many problems are told; a damaged file may have one for each page.
const MAX_PROBLEMS: usize = 100;

/// How far a verification is, or how it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerificationState {
    /// None was asked for since the node started.
    #[default]
    None,
    /// It is under way.
    Running,
    /// It has found nothing wrong.
    Sound,
    /// It has found damage.
    Damaged,
    /// It was stopped before its end.
    Stopped,
    /// It could not go on; `error` says why.
    Failed,
}

/// The verification that was asked for last.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// How far it is.
    pub state: VerificationState,
    /// The size of a page in bytes.
    pub page_size: u64,
    /// Pages read so far.
    pub pages: u64,
    /// Of about how many.
    pub total: u64,
    /// Tables walked, once it is at its end.
    pub tables: u64,
    /// Rows counted, once it is at its end.
    pub rows: u64,
    /// How many problems there are.
    pub problem_count: usize,
    /// The first of them.
    pub problems: Vec<VerificationProblem>,
    /// Why it could not go on.
    pub error: Option<String>,
}

/// Something wrong with the file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct VerificationProblem {
    /// The page, if it is about one.
    pub page: Option<u64>,
    /// The table, where it is known.
    pub table: Option<String>,
    /// What is wrong.
    pub fault: String,
}

impl std::fmt::Display for VerificationProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let problem = folio_store::Problem {
            page: self.page,
            table: self.table.clone(),
            fault: self.fault.clone(),
        };
        problem.fmt(f)
    }
}

/// Runs one verification at a time.
#[derive(Default)]
pub(crate) struct Verifications {
    running: Mutex<Option<Scrub>>,
    last: Arc<Mutex<Verification>>,
}

/// The parts are plain values, each of them whole whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Verifications {
    /// Starts one. False if there is one already.
    pub fn start(
        &self,
        ledger: &ReplicatedDatabase<Ledger>,
        rate: u64,
    ) -> Result<bool, folio_raft::Error> {
        let mut running = lock(&self.running);
        if lock(&self.last).state == VerificationState::Running {
            return Ok(false);
        }
        let page_size = ledger.statistics()?.page_size;
        let before = std::mem::replace(
            &mut *lock(&self.last),
            Verification {
                state: VerificationState::Running,
                page_size,
                ..Verification::default()
            },
        );
        let (reading, ending) = (self.last.clone(), self.last.clone());
        let options = ScrubOptions::new()
            .rate(rate)
            .once()
            .on_progress(move |pages, total| {
                let mut last = lock(&reading);
                (last.pages, last.total) = (pages, total);
            })
            .on_pass(move |pass| lock(&ending).end(pass));
        match ledger.start_scrub(options) {
            Ok(scrub) => {
                *running = Some(scrub);
                Ok(true)
            }
            Err(error) => {
                *lock(&self.last) = before;
                Err(error)
            }
        }
    }

    pub fn last(&self) -> Verification {
        lock(&self.last).clone()
    }

    /// Stops the one that is under way, if there is one.
    pub fn stop(&self) {
        let mut running = lock(&self.running);
        // Waits for the thread, which then changes nothing any more.
        *running = None;
        let mut last = lock(&self.last);
        if last.state == VerificationState::Running {
            last.state = VerificationState::Stopped;
        }
    }
}

impl Verification {
    fn end(&mut self, pass: Result<&folio_store::VerifyReport, &folio_store::Error>) {
        let report = match pass {
            Ok(report) => report,
            Err(error) => {
                self.state = VerificationState::Failed;
                self.error = Some(error.to_string());
                return;
            }
        };
        self.state = match report.problems.is_empty() {
            true => VerificationState::Sound,
            false => VerificationState::Damaged,
        };
        (self.pages, self.tables, self.rows) = (report.pages, report.tables, report.rows);
        self.problem_count = report.problems.len();
        let first = report.problems.iter().take(MAX_PROBLEMS);
        self.problems = first
            .map(|problem| VerificationProblem {
                page: problem.page,
                table: problem.table.clone(),
                fault: problem.fault.clone(),
            })
            .collect();
    }
}
