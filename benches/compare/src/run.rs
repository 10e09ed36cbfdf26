//! Runs loads: each phase in a process of its own, the engines one after the other within each load.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::Result;
use crate::load::{End, Load, Outcome, Phase, Reopened};
use crate::process::bytes_of;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub data: PathBuf,
    pub scale: f64,
    pub runs: u64,
    pub seed: u64,
    pub engines: Vec<String>,
    pub loads: Vec<&'static Load>,
    pub patience: Duration,
}

/// What one engine did in one load of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub run: u64,
    pub load: String,
    pub engine: String,
    #[serde(flatten)]
    pub result: Found,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    Measured {
        outcome: Outcome,
        reopened: Reopened,
        /// Bytes of the files after the load.
        bytes: u64,
        /// Seconds that the same number of flushes of as many pages took, with nothing around them.
        limit: Option<f64>,
    },
    Failed(String),
}

impl Plan {
    /// Runs everything; `told` gets each record as it comes.
    pub fn run(&self, mut told: impl FnMut(&Record) -> Result<()>) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for run in 0..self.runs {
            self.remove_data()?;
            for load in &self.loads {
                // Another one begins each time, so that none has the quieter moment always.
                let mut engines = self.engines.clone();
                let turn = (run as usize) % engines.len().max(1);
                engines.rotate_left(turn);
                for engine in engines {
                    let result = self
                        .run_load(load, &engine, run)
                        .unwrap_or_else(|error| Found::Failed(error.to_string()));
                    let record = Record {
                        run,
                        load: load.name.to_owned(),
                        engine,
                        result,
                    };
                    told(&record)?;
                    records.push(record);
                }
            }
            self.remove_data()?;
        }
        Ok(records)
    }

    fn remove_data(&self) -> Result<()> {
        for engine in &self.engines {
            let directory = self.data.join(engine);
            if directory.exists() {
                fs::remove_dir_all(directory)?;
            }
        }
        Ok(())
    }

    fn run_load(&self, load: &'static Load, engine: &str, run: u64) -> Result<Found> {
        let directory = self.data.join(engine).join(load.place);
        if load.fresh && directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let seed = self.seed + run;
        let phase = |phase| self.child(load, engine, phase, &directory, seed);
        if load.prepared {
            phase(Phase::Prepare)?;
        }
        // What earlier phases left to be written is no part of this one.
        rustix::fs::sync();
        let outcome: Outcome = serde_json::from_str(&phase(Phase::Measure)?)?;
        let bytes = bytes_of(&directory)?;
        let reopened: Reopened = serde_json::from_str(&phase(Phase::Check)?)?;
        let limit = if load.durable && outcome.counted.flushes > 0 {
            Some(self.limit(&outcome)?.seconds)
        } else {
            None
        };
        if load.place != "rows" {
            fs::remove_dir_all(&directory)?;
        }
        Ok(Found::Measured {
            outcome,
            reopened,
            bytes,
            limit,
        })
    }

    fn child(
        &self,
        load: &Load,
        engine: &str,
        phase: Phase,
        directory: &Path,
        seed: u64,
    ) -> Result<String> {
        let mut command = itself(load.durable && phase == Phase::Measure)?;
        command
            .args(["child", "--engine", engine, "--load", load.name])
            .args(["--phase", &format!("{phase:?}").to_lowercase()])
            .args(["--scale", &self.scale.to_string()])
            .args(["--seed", &seed.to_string()])
            .arg("--directory")
            .arg(directory);
        let killed = phase == Phase::Measure && load.end == End::Killed;
        self.wait(command, killed)
    }

    fn limit(&self, outcome: &Outcome) -> Result<Outcome> {
        let mut command = itself(true)?;
        command
            .args(["limit", "--pages"])
            // The slot that makes the pages valid, and the twin of the one before.
            .arg((outcome.counted.pages / outcome.counted.flushes + 2).to_string())
            .args(["--flushes", &outcome.counted.flushes.to_string()])
            .arg("--directory")
            .arg(&self.data);
        Ok(serde_json::from_str(&self.wait(command, false)?)?)
    }

    /// The output of a process. One that kills itself at the end has succeeded if it said something before.
    fn wait(&self, mut command: Command, killed: bool) -> Result<String> {
        let (output, errors) = (self.data.join("output"), self.data.join("errors"));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if start.elapsed() > self.patience {
                child.kill()?;
                child.wait()?;
                return Err(format!("not done after {:?}", self.patience).into());
            }
            sleep(Duration::from_millis(5));
        };
        let output = fs::read_to_string(output)?;
        if status.success() || (killed && !output.is_empty()) {
            return Ok(output);
        }
        let errors = fs::read_to_string(errors)?;
        Err(format!("{status}: {}", errors.trim()).into())
    }
}

/// This program again. One that waits for the disk all the time gets real-time priority if the system permits it: on a
/// busy machine it would otherwise measure how long a wake-up takes.
fn itself(waits: bool) -> Result<Command> {
    let program = std::env::current_exe()?;
    if waits && real_time() {
        let mut command = Command::new("chrt");
        command.args(["-r", "5"]).arg(program);
        return Ok(command);
    }
    Ok(Command::new(program))
}

/// Whether `chrt -r` is there and permitted.
pub fn real_time() -> bool {
    let tried = Command::new("chrt")
        .args(["-r", "5", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// Where records are kept, one a line, as they come.
pub struct Kept(File);

impl Kept {
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self(File::create(path)?))
    }

    pub fn add(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        Ok(self.0.write_all(&line)?)
    }
}

/// The records that [`Kept`] left.
pub fn read_records(path: &Path) -> Result<Vec<Record>> {
    let lines = fs::read_to_string(path)?;
    let records = lines.lines().map(serde_json::from_str);
    Ok(records.collect::<std::result::Result<_, _>>()?)
}
