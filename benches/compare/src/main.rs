//! The same loads over Folio and other embedded stores, side by side: one program, one command.
//!
//! ```sh
//! cargo run --release --manifest-path benches/compare/Cargo.toml
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

mod clusters;
mod data;
mod engine;
mod large;
mod limit;
mod load;
mod process;
mod report;
mod run;
mod syncs;

use engine::{NAMES, Result, with_engine};
use load::{Context, End, LOADS, Phase, Run};
use run::{Found, Plan, Record};

#[derive(Parser)]
#[command(about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Task>,
    #[command(flatten)]
    compare: Compare,
}

#[derive(Subcommand)]
enum Task {
    /// Folio alone at a tenth and a third of the rows and at all of them: how costs grow.
    Scale(Compare),
    /// Every load over every engine with few rows: whether it works, not how fast.
    Smoke(Place),
    /// Counts the system calls of a durable commit that wait for the disk, under strace.
    Syncs(Place),
    /// One large file of Folio's: loaded, changed, opened, read, verified, compacted.
    Large(large::Large),
    /// Clusters of three nodes instead: Folio beside openraft's store on RocksDB, etcd and Redis.
    Clusters(clusters::Clusters),
    /// A node of a cluster, in this process.
    #[command(hide = true)]
    ClusterNode(clusters::node::Node),
    /// A phase of a load, in this process.
    #[command(hide = true)]
    Child(Child),
    /// Flushes of pages with nothing around them, in this process.
    #[command(hide = true)]
    Limit {
        #[arg(long)]
        pages: u64,
        #[arg(long)]
        flushes: u64,
        #[arg(long)]
        directory: PathBuf,
    },
}

#[derive(Args, Clone)]
struct Place {
    /// A folder on the file system to be measured. What it holds of earlier runs is removed.
    #[arg(long, default_value = "target/compare")]
    data: PathBuf,
}

#[derive(Args)]
struct Compare {
    #[command(flatten)]
    place: Place,
    /// How large: at 1 there are 5 million rows.
    #[arg(long, default_value_t = 0.1)]
    scale: f64,
    #[arg(long, default_value_t = 3)]
    runs: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which engines, all by default.
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(NAMES))]
    engines: Vec<String>,
    /// Which loads, all by default. Those that go on with the rows of others bring these with them.
    #[arg(long, value_delimiter = ',')]
    loads: Vec<String>,
    /// Seconds after which a phase of a load is given up.
    #[arg(long, default_value_t = 900)]
    patience: u64,
    /// Where to write what was measured, one record a line; beside the data by default.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure nothing, and write the page from the records that an earlier run of the same scale left.
    #[arg(long)]
    again: bool,
    /// What to call the version of Folio; the commit by default.
    #[arg(long)]
    folio: Option<String>,
    /// Where to write the page of results.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/benchmarks.md"))]
    report: PathBuf,
}

#[derive(Args)]
struct Child {
    #[arg(long)]
    engine: String,
    #[arg(long)]
    load: String,
    #[arg(long)]
    phase: Phase,
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    scale: f64,
    #[arg(long)]
    seed: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        None => compare(&arguments.compare),
        Some(Task::Scale(asked)) => grow(&asked),
        Some(Task::Smoke(place)) => smoke(place),
        Some(Task::Syncs(place)) => {
            for (engine, calls) in count_syncs(&prepared(&place)?, NAMES)? {
                println!("{engine:9} {calls}");
            }
            Ok(())
        }
        Some(Task::Large(asked)) => large::run(&asked),
        Some(Task::Clusters(asked)) => clusters::run(&asked),
        Some(Task::ClusterNode(node)) => clusters::node::run(&node),
        Some(Task::Child(child)) => run_child(&child),
        Some(Task::Limit {
            pages,
            flushes,
            directory,
        }) => {
            let outcome = limit::measure(&directory, pages, flushes)?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
    }
}

fn compare(asked: &Compare) -> Result<()> {
    let engines = if asked.engines.is_empty() {
        NAMES.iter().map(|name| (*name).to_owned()).collect()
    } else {
        asked.engines.clone()
    };
    let plan = Plan {
        data: prepared(&asked.place)?,
        scale: asked.scale,
        runs: asked.runs,
        seed: asked.seed,
        engines,
        loads: chosen(&asked.loads)?,
        patience: Duration::from_secs(asked.patience),
    };
    let json = asked
        .json
        .clone()
        .unwrap_or_else(|| plan.data.join("records.jsonl"));
    let records = if asked.again {
        run::read_records(&json)?
    } else {
        let mut kept = run::Kept::create(&json)?;
        plan.run(|record| {
            tell(record);
            kept.add(record)
        })?
    };
    let syncs = count_syncs(&plan.data, &plan.engines)?;
    report::write(
        &asked.report,
        &records,
        &plan.engines,
        plan.scale,
        &plan.data,
        &syncs,
        asked.folio.as_deref(),
    )
}

fn grow(asked: &Compare) -> Result<()> {
    let mut scales = Vec::new();
    for scale in [asked.scale / 10.0, asked.scale / 3.0, asked.scale] {
        let plan = Plan {
            data: prepared(&asked.place)?,
            scale,
            runs: asked.runs,
            seed: asked.seed,
            engines: vec!["folio".to_owned()],
            loads: chosen(&asked.loads)?,
            patience: Duration::from_secs(asked.patience),
        };
        let records = plan.run(|record| {
            tell(record);
            Ok(())
        })?;
        scales.push((scale, records));
    }
    report::scale::write(&asked.report, &scales)
}

/// Nothing where there is no strace.
fn count_syncs(data: &Path, engines: &[impl AsRef<str>]) -> Result<Vec<(String, String)>> {
    if !syncs::possible() {
        return Ok(Vec::new());
    }
    let count = |engine: &str| Ok((engine.to_owned(), syncs::per_commit(engine, data)?));
    engines
        .iter()
        .map(|engine| count(engine.as_ref()))
        .collect()
}

fn smoke(place: Place) -> Result<()> {
    let plan = Plan {
        data: prepared(&place)?,
        scale: 0.0004,
        runs: 1,
        seed: 1,
        engines: NAMES.iter().map(|name| (*name).to_owned()).collect(),
        loads: LOADS.iter().collect(),
        patience: Duration::from_secs(60),
    };
    let records = plan.run(|_| Ok(()))?;
    let failures: Vec<String> = records
        .iter()
        .filter_map(|record| match &record.result {
            Found::Failed(error) => Some(format!("{} {}: {error}", record.engine, record.load)),
            Found::Measured { .. } => None,
        })
        .collect();
    if !failures.is_empty() {
        return Err(failures.join("\n").into());
    }
    println!("{} loads ran, and their rows are right", records.len());
    large::smoke(&plan.data)?;
    clusters::smoke(&plan.data)
}

fn prepared(place: &Place) -> Result<PathBuf> {
    std::fs::create_dir_all(&place.data)?;
    Ok(place.data.canonicalize()?)
}

/// The loads of these names, and those without which they have no rows to work on.
fn chosen(names: &[String]) -> Result<Vec<&'static load::Load>> {
    for name in names {
        load::find(name)?;
    }
    let asked = |name: &str| names.is_empty() || names.iter().any(|asked| asked == name);
    let last = LOADS
        .iter()
        .rposition(|load| load.place == "rows" && asked(load.name));
    Ok(LOADS
        .iter()
        .enumerate()
        .filter(|(at, load)| {
            let needed =
                load.place == "rows" && load.changes && last.is_some_and(|last| *at < last);
            asked(load.name) || needed
        })
        .map(|(_, load)| load)
        .collect())
}

fn tell(record: &Record) {
    let Record {
        run,
        load,
        engine,
        result,
    } = record;
    match result {
        Found::Measured {
            outcome,
            reopened,
            bytes,
            limit,
        } => println!(
            "{run} {load:17} {engine:9} {:>11.0}/s  {:7.2} s  {:8.3} us cpu  file {:6.1} MiB  memory {:6.1} MiB  open {:8.2} ms  replayed {} in {:.0} ms  limit {:.2}  {:?}",
            outcome.operations as f64 / outcome.seconds,
            outcome.seconds,
            outcome.processor * 1e6 / outcome.operations as f64,
            *bytes as f64 / 1048576.0,
            outcome.memory as f64 / 1048576.0,
            reopened.open * 1e3,
            reopened.replayed,
            reopened.replay * 1e3,
            limit.map_or(f64::NAN, |limit| outcome.seconds / limit),
            outcome.more,
        ),
        Found::Failed(error) => println!("{run} {load:17} {engine:9} failed: {error}"),
    }
}

fn run_child(child: &Child) -> Result<()> {
    let load = load::find(&child.load)?;
    let context = Context::new(load, &child.directory, child.scale, child.seed);
    let work = Run {
        load,
        phase: child.phase,
        context: &context,
    };
    println!("{}", with_engine(&child.engine, work)??);
    if child.phase == Phase::Measure && load.end == End::Killed {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    }
    Ok(())
}
