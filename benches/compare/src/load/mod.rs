//! The loads: what is prepared, what is measured, and what must be there afterwards.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::data::{Data, Random, Sum, named_by};
use crate::engine::{Counted, Engine, Error, Reader, Result, Settings, Table, WithEngine};
use crate::process;

mod bulk;
mod delete;
mod inserts;
mod log;
mod mixed;
mod open;
mod purge;
mod reads;

/// How a load ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The engine is closed in order.
    Closed,
    /// The process is killed.
    Killed,
}

/// What memory an engine gets for its cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cache {
    /// A gigabyte at full scale, a little more than the rows.
    Usual,
    /// Several times the rows.
    Ample,
    /// A tenth of the rows.
    Tenth,
}

/// A line of the comparison.
#[derive(Debug)]
pub struct Load {
    pub name: &'static str,
    pub title: &'static str,
    /// The folder that it works in; loads that share one follow each other on the same rows.
    pub place: &'static str,
    /// Whether it begins with an empty folder.
    pub fresh: bool,
    /// Whether loads in the same folder that follow need what it leaves there.
    pub changes: bool,
    /// Whether rows have to be put there first, not measured.
    pub prepared: bool,
    /// Whether it waits for the disk all the time.
    pub durable: bool,
    pub cache: Cache,
    pub end: End,
}

const BASE: Load = Load {
    name: "",
    title: "",
    place: "rows",
    fresh: false,
    changes: false,
    prepared: false,
    durable: false,
    cache: Cache::Usual,
    end: End::Closed,
};

/// All loads, in the order in which they run.
pub const LOADS: &[Load] = &[
    Load {
        name: "log-1",
        title: "durable append to a log, one entry a batch",
        place: "log",
        fresh: true,
        durable: true,
        ..BASE
    },
    Load {
        name: "log-16",
        title: "durable append to a log, batches of 16",
        place: "log",
        fresh: true,
        durable: true,
        ..BASE
    },
    Load {
        name: "log-256",
        title: "durable append to a log, batches of 256",
        place: "log",
        fresh: true,
        durable: true,
        ..BASE
    },
    Load {
        name: "mixed",
        title: "16 durable log entries and 16 rows that follow from them",
        place: "mixed",
        fresh: true,
        prepared: true,
        durable: true,
        end: End::Killed,
        ..BASE
    },
    Load {
        name: "mixed-atomic",
        title: "16 log entries and 16 rows, durable in one transaction",
        place: "mixed",
        fresh: true,
        prepared: true,
        durable: true,
        end: End::Killed,
        ..BASE
    },
    Load {
        name: "purge",
        title: "purge of nine tenths of a log in durable steps of 1,000",
        place: "log",
        fresh: true,
        prepared: true,
        durable: true,
        ..BASE
    },
    Load {
        name: "bulk-sorted",
        title: "bulk load, sorted",
        fresh: true,
        place: "sorted",
        ..BASE
    },
    Load {
        name: "bulk-random",
        title: "bulk load, random keys, transactions of 10,000",
        changes: true,
        fresh: true,
        ..BASE
    },
    Load {
        name: "read-1",
        title: "random point reads, warm, 1 thread",
        cache: Cache::Ample,
        ..BASE
    },
    Load {
        name: "read-2",
        title: "random point reads, warm, 2 threads",
        cache: Cache::Ample,
        ..BASE
    },
    Load {
        name: "read-small-cache",
        title: "random point reads, cache a tenth of the data",
        cache: Cache::Tenth,
        ..BASE
    },
    Load {
        name: "scan-10",
        title: "scans of 10 rows from random starts",
        cache: Cache::Ample,
        ..BASE
    },
    Load {
        name: "scan-all",
        title: "full scans",
        cache: Cache::Ample,
        ..BASE
    },
    Load {
        name: "insert-1",
        title: "one durable random insert at a time",
        changes: true,
        durable: true,
        ..BASE
    },
    Load {
        name: "insert-32",
        title: "32 threads of durable single inserts",
        changes: true,
        durable: true,
        ..BASE
    },
    Load {
        name: "open",
        title: "open and first read after kill -9",
        changes: true,
        end: End::Killed,
        ..BASE
    },
    Load {
        name: "delete-compact",
        title: "delete half of the rows, then compact",
        changes: true,
        ..BASE
    },
];

/// The load of a name.
pub fn find(name: &str) -> Result<&'static Load> {
    LOADS
        .iter()
        .find(|load| load.name == name)
        .ok_or_else(|| format!("there is no load {name}").into())
}

/// How much of everything, by the scale; at 1 it is what the titles say in full.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sizes {
    pub rows: u64,
    pub state: u64,
    pub log: u64,
    pub commits: u64,
    pub shared_commits: u64,
    pub reads: u64,
    pub replay: u64,
    pub cache: u64,
}

impl Sizes {
    pub fn of(scale: f64) -> Self {
        let scaled = |full: f64, least: u64| ((full * scale) as u64).max(least);
        Self {
            rows: scaled(5e6, 1000),
            state: scaled(1e6, 500),
            log: scaled(1e6, 2000),
            commits: scaled(2e4, 20),
            shared_commits: scaled(1e5, 320),
            reads: scaled(1e7, 2000),
            replay: scaled(65_536.0, 64),
            cache: scaled(1_073_741_824.0, 32 << 20),
        }
    }

    /// Rows that the folder `rows` holds after a load of those that work in it, the removed ones included.
    fn rows_after(&self, load: &str) -> u64 {
        let order = ["insert-1", "insert-32", "open", "delete-compact"];
        let added = [self.commits, self.shared_commits, 1, 0];
        let done = order.iter().position(|name| *name == load);
        self.rows
            + added
                .iter()
                .take(done.map_or(0, |done| done + 1))
                .sum::<u64>()
    }

    /// Commits of the log load with so many entries a batch.
    fn log_commits(&self, batch: u64) -> u64 {
        if batch > 16 {
            (self.commits / 5).max(4)
        } else {
            self.commits
        }
    }
}

/// Where and how large.
#[derive(Clone, Debug)]
pub struct Context {
    pub directory: PathBuf,
    pub sizes: Sizes,
    pub data: Data,
    pub settings: Settings,
}

impl Context {
    pub fn new(load: &Load, directory: &Path, scale: f64, seed: u64) -> Self {
        let sizes = Sizes::of(scale);
        let bytes = sizes.rows * (crate::data::KEY + crate::data::VALUE) as u64;
        let cache = match load.cache {
            Cache::Usual => sizes.cache,
            Cache::Ample => (bytes * 4).max(64 << 20),
            Cache::Tenth => (bytes / 10).max(1 << 20),
        };
        Self {
            directory: directory.to_owned(),
            sizes,
            data: Data { seed },
            settings: Settings {
                cache,
                replay: sizes.replay,
            },
        }
    }

    fn row(&self, row: u64, version: u32) -> crate::engine::Row {
        (self.data.key(row), self.data.value(row, version))
    }

    fn random(&self, purpose: u64) -> Random {
        Random::new(self.data.seed ^ purpose.wrapping_mul(0xa5a5_a5a5))
    }
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub operations: u64,
    pub seconds: f64,
    /// Seconds of all processors that the process used meanwhile.
    pub processor: f64,
    /// Of what was read; the same for every engine.
    pub checksum: u64,
    /// The most memory of the process while the load ran, less what it had before, in bytes.
    pub memory: u64,
    /// What the engine counted meanwhile; nothing if it does not count.
    pub counted: Counted,
    /// What else a load found, by name.
    pub more: std::collections::BTreeMap<String, f64>,
}

/// What a process that opened the engine afterwards found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reopened {
    /// Seconds to open and to read a row.
    pub open: f64,
    /// Entries that were applied again, and seconds for it.
    pub replayed: u64,
    pub replay: f64,
}

/// Runs `work` and measures it.
fn measure<E: Engine>(
    engine: &E,
    operations: u64,
    work: impl FnOnce() -> Result<u64>,
) -> Result<Outcome> {
    let before = engine.counted();
    let (start, processor) = (Instant::now(), process::processor_seconds());
    let checksum = work()?;
    let seconds = start.elapsed().as_secs_f64();
    let processor = process::processor_seconds() - processor;
    let counted = match (before, engine.counted()) {
        (Some(before), Some(after)) => after.since(before),
        _ => Counted::default(),
    };
    Ok(Outcome {
        operations,
        seconds,
        processor,
        checksum,
        counted,
        ..Outcome::default()
    })
}

/// The phases of a load, each in a process of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Phase {
    Prepare,
    Measure,
    Check,
}

/// A phase of a load, for an engine that is known by its name.
pub struct Run<'a> {
    pub load: &'static Load,
    pub phase: Phase,
    pub context: &'a Context,
}

impl WithEngine for Run<'_> {
    type Output = Result<String>;

    fn with<E: Engine>(self) -> Result<String> {
        let (load, context) = (self.load, self.context);
        match self.phase {
            Phase::Prepare => {
                let engine = E::open(&context.directory, context.settings)?;
                match load.name {
                    "mixed" | "mixed-atomic" => mixed::prepare(&engine, context)?,
                    "purge" => purge::prepare(&engine, context)?,
                    other => return Err(format!("{other} prepares nothing").into()),
                }
                engine.close()?;
                Ok("{}".to_owned())
            }
            Phase::Measure => {
                let before = process::memory_now()?;
                let mut outcome = measure_load::<E>(load, context)?;
                outcome.memory = process::memory_at_most()?.saturating_sub(before);
                Ok(serde_json::to_string(&outcome)?)
            }
            Phase::Check => Ok(serde_json::to_string(&check::<E>(load, context)?)?),
        }
    }
}

fn measure_load<E: Engine>(load: &Load, context: &Context) -> Result<Outcome> {
    if load.name == "bulk-sorted" {
        return bulk::sorted::<E>(context);
    }
    let engine = E::open(&context.directory, context.settings)?;
    let outcome = match load.name {
        "log-1" => log::append(&engine, context, 1),
        "log-16" => log::append(&engine, context, 16),
        "log-256" => log::append(&engine, context, 256),
        "mixed" => mixed::apply(&engine, context, E::append_and_apply),
        "mixed-atomic" => mixed::apply(&engine, context, E::append_with_rows),
        "purge" => purge::purge(&engine, context),
        "bulk-random" => bulk::random(&engine, context),
        "read-1" => reads::points(&engine, context, 1),
        "read-2" => reads::points(&engine, context, 2),
        "read-small-cache" => reads::points_with_small_cache(&engine, context),
        "scan-10" => reads::short_scans(&engine, context),
        "scan-all" => reads::full_scans(&engine, context),
        "insert-1" => inserts::one_at_a_time(&engine, context),
        "insert-32" => inserts::by_many_threads(&engine, context),
        "open" => open::before(&engine, context),
        "delete-compact" => return delete::delete_and_compact(engine, context),
        other => Err(Error::from(format!("{other} measures nothing"))),
    }?;
    match load.end {
        End::Closed => engine.close()?,
        // Killed by the caller; until then nothing of it may be closed.
        End::Killed => std::mem::forget(engine),
    }
    Ok(outcome)
}

/// Opens what a load left, brings state up to its log, and compares every row with what should be there.
fn check<E: Engine>(load: &Load, context: &Context) -> Result<Reopened> {
    let (log, rows) = expected(load, context)?;
    let start = Instant::now();
    let engine = E::open(&context.directory, context.settings)?;
    let table = if rows.rows > 0 {
        Table::Rows
    } else {
        Table::Log
    };
    engine.read(table, |reader| reader.scan(&[0], |_, _| false))?;
    let open = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let data = context.data;
    let replayed = if load.name == "mixed" {
        engine.recover(|entry| {
            let (row, version) = named_by(entry).ok_or("an entry is too short")?;
            Ok((data.key(row), data.value(row, version)))
        })?
    } else {
        0
    };
    let replay = start.elapsed().as_secs_f64();
    for (table, expected) in [(Table::Log, log), (Table::Rows, rows)] {
        let found = sum(&engine, table)?;
        if found != expected {
            return Err(format!(
                "{table:?} holds {found:?} after {}, and should hold {expected:?}",
                load.name
            )
            .into());
        }
    }
    engine.close()?;
    Ok(Reopened {
        open,
        replayed,
        replay,
    })
}

/// Sums up a table, and checks that its keys ascend.
fn sum<E: Engine>(engine: &E, table: Table) -> Result<Sum> {
    engine.read(table, |reader| {
        let mut sum = Sum::default();
        let mut last = Vec::new();
        let mut ascending = true;
        // LMDB takes no empty key.
        reader.scan(&[0], |key, value| {
            ascending &= last.as_slice() < key;
            last.clear();
            last.extend_from_slice(key);
            sum.add(key, value);
            true
        })?;
        if ascending {
            Ok(sum)
        } else {
            Err("the keys do not ascend".into())
        }
    })
}

/// What log and rows should hold after a load.
fn expected(load: &Load, context: &Context) -> Result<(Sum, Sum)> {
    let sizes = &context.sizes;
    let (mut log, mut rows) = (Sum::default(), Sum::default());
    let mut add_row = |row: u64, version: u32| {
        let (key, value) = context.row(row, version);
        rows.add(&key, &value);
    };
    match load.place {
        "log" => {
            let entries = match load.name {
                "log-1" => 0..sizes.log_commits(1),
                "log-16" => 0..16 * sizes.log_commits(16),
                "log-256" => 0..256 * sizes.log_commits(256),
                _ => purge::left(sizes),
            };
            for index in entries {
                log.add(&index.to_be_bytes(), &log::entry(context, index));
            }
        }
        "mixed" => {
            let versions = mixed::versions(context, |index, entry| {
                log.add(&index.to_be_bytes(), entry);
            });
            for (row, version) in (0..).zip(versions) {
                add_row(row, version);
            }
        }
        "sorted" => (0..sizes.rows).for_each(|row| add_row(row, 0)),
        _ => {
            let kept = |row: &u64| load.name != "delete-compact" || !delete::removed(*row);
            (0..sizes.rows_after(load.name))
                .filter(kept)
                .for_each(|row| add_row(row, 0));
        }
    }
    Ok((log, rows))
}
