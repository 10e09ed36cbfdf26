//! One large file of Folio's through its whole life, each step in a process of its own.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::{Args, ValueEnum};
use folio_store::{Builder, CompactOptions, Database, Table};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

use crate::data::{Data, Random, head_of};
use crate::engine::Result;
use crate::process;
use crate::report;
use crate::report::numbers::short;

/// Where this part of the page begins.
pub const HEADING: &str = "\n## A large file\n";
const DATA: Data = Data { seed: 1 };
/// Transactions of changes, and rows that each of them changes.
const TRANSACTIONS: u64 = 100;
const CHANGES: u64 = 1_000;
const READS: u64 = 100_000;

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

/// What is asked for.
#[derive(Args)]
pub struct Large {
    /// A folder with room for about 250 bytes a row.
    #[arg(long, default_value = "target/compare")]
    data: PathBuf,
    #[arg(long, default_value_t = 100_000_000)]
    rows: u64,
    /// MiB of cache.
    #[arg(long, default_value_t = 1024)]
    cache: usize,
    /// The page of results, whose part on the large file is replaced.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/benchmarks.md"))]
    report: PathBuf,
    /// Only this step, in this process.
    #[arg(long, hide = true)]
    step: Option<Step>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Step {
    Load,
    Change,
    Open,
    Read,
    Scan,
    Verify,
    Remove,
    Compact,
}

impl Step {
    fn title(self, rows: u64) -> String {
        let [rows, transactions, changes, reads] =
            [rows, TRANSACTIONS, CHANGES, READS].map(|number| short(number as f64));
        match self {
            Self::Load => {
                format!("load {rows} rows in the order of their keys, durable at the end")
            }
            Self::Change => format!(
                "{transactions} durable transactions of {changes} rows anywhere, then kill -9"
            ),
            Self::Open => "open after that, and read a row".to_owned(),
            Self::Read => format!("{reads} reads of rows anywhere, by one thread"),
            Self::Scan => {
                "read every row in order, and compare it with what was written".to_owned()
            }
            Self::Verify => "verify".to_owned(),
            Self::Remove => "remove a quarter of the rows in one durable transaction".to_owned(),
            Self::Compact => "compact".to_owned(),
        }
    }
}

/// What a step took.
#[derive(Serialize, Deserialize)]
struct Took {
    seconds: f64,
    /// The most of this process.
    memory: u64,
}

/// Runs all steps and writes them down, or one of them.
pub fn run(asked: &Large) -> Result<()> {
    if let Some(step) = asked.step {
        return asked.take(step);
    }
    std::fs::create_dir_all(&asked.data)?;
    let mut part = format!(
        "{HEADING}\n{} rows of 8-byte keys and {}-byte values, a cache of {} MiB; each step is a process of its own, and what the system \
         has of the file in its cache is dropped before it. Written by the same program with `large`.\n\n",
        short(asked.rows as f64),
        crate::data::VALUE,
        asked.cache
    );
    report::heading(&mut part, &["step", "seconds", "memory, MiB", "file, MiB"])?;
    asked.each_step(forget_files, |step, took, bytes| {
        let (title, mebibyte) = (step.title(asked.rows), 1_048_576.0);
        let line = format!(
            "| {title} | {} | {:.0} | {:.0} |",
            short(took.seconds),
            took.memory as f64 / mebibyte,
            bytes as f64 / mebibyte
        );
        println!("{line}");
        Ok(writeln!(part, "{line}")?)
    })?;
    report::replace(&asked.report, HEADING, &part)
}

/// All steps with few rows: whether they work.
pub fn smoke(data: &Path) -> Result<()> {
    let few = Large {
        data: data.to_owned(),
        rows: 10_000,
        cache: 1,
        report: PathBuf::new(),
        step: None,
    };
    few.each_step(|| Ok(()), |_, _, _| Ok(()))
}

/// Has the system drop the pages of files that it keeps in memory.
fn forget_files() -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "1")
        .map_err(|error| format!("/proc/sys/vm/drop_caches: {error}; run this as root").into())
}

impl Large {
    fn file(&self) -> PathBuf {
        self.data.join("large.folio")
    }

    /// Takes one step after the other; tells of each, with the length of the file after it.
    fn each_step(
        &self,
        before: impl Fn() -> Result<()>,
        mut told: impl FnMut(Step, &Took, u64) -> Result<()>,
    ) -> Result<()> {
        let file = self.file();
        if file.exists() {
            std::fs::remove_file(&file)?;
        }
        for step in Step::value_variants() {
            before()?;
            let took = self.in_a_process(*step)?;
            told(*step, &took, file.metadata()?.len())?;
        }
        Ok(std::fs::remove_file(&file)?)
    }

    fn in_a_process(&self, step: Step) -> Result<Took> {
        let value = step.to_possible_value().ok_or("no such step")?;
        let child = Command::new(std::env::current_exe()?)
            .args(["large", "--step", value.get_name()])
            .args(["--rows", &self.rows.to_string()])
            .args(["--cache", &self.cache.to_string(), "--data"])
            .arg(&self.data)
            .stdout(Stdio::piped())
            .spawn()?
            .wait_with_output()?;
        serde_json::from_slice(&child.stdout)
            .map_err(|_| format!("{step:?} ended with {}", child.status).into())
    }

    /// Carries a step out and prints what it took.
    fn take(&self, step: Step) -> Result<()> {
        let file = self.file();
        let builder = Builder::default().cache_size(self.cache << 20);
        let start = Instant::now();
        let database = match step {
            Step::Load => builder.create(file)?,
            _ => builder.open(file)?,
        };
        match step {
            Step::Load => self.load(&database)?,
            Step::Change => self.change(&database)?,
            Step::Open => drop(self.value(&database, self.rows / 2)?),
            Step::Read => self.read(&database)?,
            Step::Scan => self.scan(&database)?,
            Step::Verify => verify(&database)?,
            Step::Remove => self.remove(&database)?,
            Step::Compact => {
                database.compact(CompactOptions::default(), |_, _| ControlFlow::Continue(()))?;
            }
        }
        let took = Took {
            seconds: start.elapsed().as_secs_f64(),
            memory: process::memory_at_most()?,
        };
        println!("{}", serde_json::to_string(&took)?);
        if let Step::Change = step {
            kill_process(getpid(), Signal::KILL)?;
        }
        Ok(database.close()?)
    }

    fn load(&self, database: &Database) -> Result<()> {
        let txn = database.begin_write()?;
        {
            let mut table = txn.table::<Rows>()?;
            let mut loader = table.loader()?;
            for row in 0..self.rows {
                loader.push(&row, &DATA.value(row, 0)[..])?;
            }
            loader.finish()?;
        }
        txn.commit()?;
        Ok(())
    }

    /// The rows that are changed, some of them more than once.
    fn changed(&self) -> impl Iterator<Item = u64> {
        let mut random = Random::new(2);
        let rows = self.rows;
        (0..TRANSACTIONS * CHANGES).map(move |_| random.below(rows))
    }

    fn change(&self, database: &Database) -> Result<()> {
        let mut changed = self.changed();
        for _ in 0..TRANSACTIONS {
            let txn = database.begin_write()?;
            {
                let mut table = txn.table::<Rows>()?;
                for row in changed.by_ref().take(CHANGES as usize) {
                    table.insert(&row, &DATA.value(row, 1)[..])?;
                }
            }
            txn.commit()?;
        }
        Ok(())
    }

    fn value(&self, database: &Database, row: u64) -> Result<Vec<u8>> {
        let view = database.begin_read()?;
        let value = view.table::<Rows>()?.get_stored(&row)?;
        Ok(value.ok_or("a row is missing")?.bytes().to_vec())
    }

    fn read(&self, database: &Database) -> Result<()> {
        let view = database.begin_read()?;
        let table = view.table::<Rows>()?;
        let mut random = Random::new(3);
        for _ in 0..READS {
            let row = random.below(self.rows);
            let value = table.get_stored(&row)?.ok_or("a row is missing")?;
            let head = head_of(value.bytes());
            if head != DATA.head(row, 0) && head != DATA.head(row, 1) {
                return Err(format!("row {row} is wrong").into());
            }
        }
        Ok(())
    }

    fn scan(&self, database: &Database) -> Result<()> {
        let mut changed: Vec<u64> = self.changed().collect();
        changed.sort_unstable();
        changed.dedup();
        let mut changed = changed.into_iter().peekable();
        let view = database.begin_read()?;
        let table = view.table::<Rows>()?;
        let mut rows = table.range::<u64>(..)?.stored();
        let mut next = 0;
        while let Some(row) = rows.next_borrowed()? {
            let version = u32::from(changed.next_if_eq(&next).is_some());
            let is_right = row.key_bytes() == next.to_be_bytes()
                && head_of(row.value_bytes()) == DATA.head(next, version);
            if !is_right {
                return Err(format!("row {next} is wrong").into());
            }
            next += 1;
        }
        match next == self.rows {
            true => Ok(()),
            false => Err(format!("{next} rows are there").into()),
        }
    }

    fn remove(&self, database: &Database) -> Result<()> {
        let txn = database.begin_write()?;
        let quarter = self.rows / 4;
        let removed = txn.table::<Rows>()?.remove_range(quarter..2 * quarter)?;
        if removed != quarter {
            return Err(format!("{removed} rows were removed").into());
        }
        txn.commit()?;
        Ok(())
    }
}

fn verify(database: &Database) -> Result<()> {
    let report = database.verify(|_, _| {})?;
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => Err(format!("{problem:?}").into()),
    }
}
