//! The page of results: written by the program from what it measured, losses included.

use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

use crate::engine::{Engine, Result, WithEngine, with_engine};
use crate::large;
use crate::load::{Cache, Context, LOADS, Load, Outcome, Reopened};
use crate::run::{Found, Record, real_time};

mod goals;
pub mod machine;
pub mod numbers;
mod plot;
pub mod scale;

use goals::{GOALS, Goal, Other};
use numbers::{median, short, spread};

const FOLIO: &str = "folio";

/// Everything measured, and how to ask for it.
struct Results<'a> {
    records: &'a [Record],
    engines: Vec<&'a str>,
    scale: f64,
    /// The version of Folio.
    folio: String,
}

/// What [`Found::Measured`] holds.
struct Measured<'a> {
    outcome: &'a Outcome,
    reopened: &'a Reopened,
    bytes: u64,
    limit: Option<f64>,
}

impl Measured<'_> {
    /// Operations a second.
    fn rate(&self, load: &str) -> f64 {
        if load == "open" {
            1.0 / self.reopened.open
        } else {
            self.outcome.operations as f64 / self.outcome.seconds
        }
    }
}

impl<'a> Results<'a> {
    fn measured(&self, run: u64, load: &str, engine: &str) -> Option<Measured<'a>> {
        let record = self
            .records
            .iter()
            .find(|record| record.run == run && record.load == load && record.engine == engine)?;
        match &record.result {
            Found::Measured {
                outcome,
                reopened,
                bytes,
                limit,
            } => Some(Measured {
                outcome,
                reopened,
                bytes: *bytes,
                limit: *limit,
            }),
            Found::Failed(_) => None,
        }
    }

    fn runs(&self) -> u64 {
        self.records
            .iter()
            .map(|record| record.run + 1)
            .max()
            .unwrap_or(0)
    }

    /// A figure of each run in which the engine did the load.
    fn each(&self, load: &str, engine: &str, of: impl Fn(&Measured<'_>) -> f64) -> Vec<f64> {
        (0..self.runs())
            .filter_map(|run| Some(of(&self.measured(run, load, engine)?)))
            .collect()
    }

    fn middle(&self, load: &str, engine: &str, of: impl Fn(&Measured<'_>) -> f64) -> Option<f64> {
        median(&self.each(load, engine, of))
    }

    /// Loads that any engine did, in their order.
    fn loads(&self) -> impl Iterator<Item = &'static Load> {
        LOADS
            .iter()
            .filter(|load| self.records.iter().any(|record| record.load == load.name))
    }

    /// The ratios within each run, ascending, and whom Folio was compared with in most of them.
    fn ratio(&self, goal: &Goal) -> Option<(Vec<f64>, String)> {
        let mut ratios = Vec::new();
        let mut others = Vec::new();
        for run in 0..self.runs() {
            let own = self.measured(run, goal.load, FOLIO)?.rate(goal.load);
            let (name, other) = match goal.other {
                Other::Itself(load) => (
                    format!("its own {load}"),
                    self.measured(run, load, FOLIO)?.rate(load),
                ),
                Other::Best(engines) => engines
                    .iter()
                    .filter_map(|engine| {
                        let rate = self.measured(run, goal.load, engine)?.rate(goal.load);
                        Some(((*engine).to_owned(), rate))
                    })
                    .max_by(|one, other| one.1.total_cmp(&other.1))?,
            };
            ratios.push(own / other);
            others.push(name);
        }
        others.sort();
        let often = others
            .chunk_by(|one, other| one == other)
            .max_by_key(|chunk| chunk.len())?;
        ratios.sort_by(f64::total_cmp);
        Some((ratios, often[0].clone()))
    }
}

/// Name and settings of an engine.
struct Described;

impl WithEngine for Described {
    type Output = (&'static str, &'static str);

    fn with<E: Engine>(self) -> Self::Output {
        (E::NAME, E::SETTINGS)
    }
}

fn described(engine: &str) -> (&'static str, &'static str) {
    with_engine(engine, Described).unwrap_or(("?", "?"))
}

fn version(engine: &str, folio: &str) -> String {
    let package = match engine {
        FOLIO => return folio.to_owned(),
        "lmdb" => {
            return format!(
                "heed {}, lmdb-master-sys {}",
                machine::version("heed"),
                machine::version("lmdb-master-sys")
            );
        }
        "sqlite" => "rusqlite",
        "inferadb" => "inferadb-ledger-store",
        other => other,
    };
    machine::version(package).to_owned()
}

/// Writes the page.
pub fn write(
    path: &Path,
    records: &[Record],
    engines: &[String],
    scale: f64,
    data: &Path,
    syncs: &[(String, String)],
    folio: Option<&str>,
) -> Result<()> {
    let results = Results {
        records,
        engines: engines.iter().map(String::as_str).collect(),
        scale,
        folio: folio.map_or_else(machine::commit, str::to_owned),
    };
    let mut page = String::new();
    introduction(&mut page, &results, data)?;
    throughput(&mut page, &results)?;
    goals(&mut page, &results)?;
    limits(&mut page, &results)?;
    kills(&mut page, &results)?;
    sizes(&mut page, &results)?;
    memory(&mut page, &results)?;
    processor(&mut page, &results)?;
    if !syncs.is_empty() {
        section(
            &mut page,
            "Syncs",
            "System calls that wait for the disk, per durable commit of one log entry, counted under strace over 200 commits: \
             `fsync`, `fdatasync`, `msync`, `sync_file_range`, and writes to files opened with `O_DSYNC` or `O_SYNC`.",
        )?;
        heading(&mut page, &["engine", "calls per commit"])?;
        for (engine, calls) in syncs {
            writeln!(page, "| {} | {calls} |", described(engine).0)?;
        }
    }
    failures(&mut page, &results)?;
    // What other commands wrote stays.
    let earlier = std::fs::read_to_string(path).unwrap_or_default();
    for heading in [scale::HEADING, large::HEADING] {
        if let Some(place) = part(&earlier, heading) {
            page.push_str(&earlier[place]);
        }
    }
    Ok(std::fs::write(path, page)?)
}

/// Where the part of a page is that begins with a heading.
fn part(page: &str, heading: &str) -> Option<Range<usize>> {
    let start = page.find(heading)?;
    let after = start + heading.len();
    let end = page[after..].find("\n## ");
    Some(start..end.map_or(page.len(), |end| after + end))
}

/// Puts a part in the place of the one that the page has, or at its end.
pub fn replace(path: &Path, heading: &str, part_of_it: &str) -> Result<()> {
    let mut page = std::fs::read_to_string(path).unwrap_or_default();
    let place = part(&page, heading).unwrap_or(page.len()..page.len());
    page.replace_range(place, part_of_it);
    Ok(std::fs::write(path, page)?)
}

fn section(page: &mut String, title: &str, words: &str) -> std::fmt::Result {
    writeln!(page, "\n## {title}\n\n{words}\n")
}

/// The head of a table.
pub fn heading(page: &mut String, columns: &[&str]) -> std::fmt::Result {
    writeln!(page, "| {} |", columns.join(" | "))?;
    writeln!(page, "|{}", " --- |".repeat(columns.len()))
}

/// A table with a row for each load and a column for each engine.
fn by_engine(
    page: &mut String,
    results: &Results<'_>,
    first: &str,
    loads: impl Iterator<Item = &'static Load>,
    cell: impl Fn(&Load, &str) -> Option<String>,
) -> std::fmt::Result {
    let mut columns = vec![first];
    columns.extend(results.engines.iter().map(|engine| described(engine).0));
    heading(page, &columns)?;
    for load in loads {
        write!(page, "| {} |", load.title)?;
        for engine in &results.engines {
            write!(
                page,
                " {} |",
                cell(load, engine).unwrap_or_else(|| "-".to_owned())
            )?;
        }
        writeln!(page)?;
    }
    Ok(())
}

fn introduction(page: &mut String, results: &Results<'_>, data: &Path) -> std::fmt::Result {
    let sizes = crate::load::Sizes::of(results.scale);
    writeln!(
        page,
        "# Benchmarks\n\n\
         The same loads over Folio and other embedded stores, side by side. This page is written by the program that measures:\n\n\
         ```sh\ncargo run --release --manifest-path benches/compare/Cargo.toml -- --scale {}\n```\n\n\
         The engines take turns within each load, each load is a process of its own, and there are {} runs with different data. \
         Figures are medians, `±` is the distance of the farthest run. Ratios are medians of the ratios within each run. After \
         each load another process opens the files and compares every row with what should be there; what is read is \
         compared as well. A durable commit is on the disk when it returns, with every engine whose settings do not say otherwise.\n\n\
         Measured on {}{}. {} rows of 24-byte random keys and 150-byte values, a state of {} such rows, entries of 256 bytes, \
         caches of {} MiB unless a load says otherwise.\n",
        results.scale,
        results.runs(),
        machine::machine(data),
        if real_time() {
            ", durable loads with real-time priority"
        } else {
            ""
        },
        short(sizes.rows as f64),
        short(sizes.state as f64),
        sizes.cache >> 20,
    )?;
    heading(page, &["engine", "version", "settings"])?;
    for engine in &results.engines {
        let (name, settings) = described(engine);
        writeln!(
            page,
            "| {name} | {} | {settings} |",
            version(engine, &results.folio)
        )?;
    }
    Ok(())
}

fn throughput(page: &mut String, results: &Results<'_>) -> std::fmt::Result {
    section(
        page,
        "Throughput",
        "Operations a second: entries, rows, reads, scans. Opening is in the table of kills.",
    )?;
    let loads = results.loads().filter(|load| load.name != "open");
    noise(page, results)?;
    by_engine(page, results, "load", loads, |load, engine| {
        let rates = results.each(load.name, engine, |measured| measured.rate(load.name));
        let spread = spread(&rates)? * 100.0;
        Some(format!("{} ±{spread:.0}%", short(median(&rates)?)))
    })
}

/// Says how far the runs are apart, so that nobody takes more from the figures than is in them.
fn noise(page: &mut String, results: &Results<'_>) -> std::fmt::Result {
    let spreads: Vec<f64> = results
        .loads()
        .flat_map(|load| {
            results
                .engines
                .iter()
                .map(move |engine| (load.name, *engine))
        })
        .filter_map(|(load, engine)| {
            spread(&results.each(load, engine, |measured| measured.rate(load)))
        })
        .collect();
    let wide = spreads.iter().filter(|spread| **spread > 0.15).count();
    if wide * 4 > spreads.len() {
        writeln!(
            page,
            "**In {wide} of {} figures the runs are more than 15% apart: the machine had other work.** Their ratios are rough; \
             processor time, below, is the better guide for loads that do not wait for the disk.\n",
            spreads.len()
        )?;
    }
    Ok(())
}

fn goals(page: &mut String, results: &Results<'_>) -> std::fmt::Result {
    section(
        page,
        "Goals",
        "How many times as fast as the best of those it is compared with Folio is, and was meant to be: the median, and \
         the lowest and highest of the runs. A goal is open where some runs reach it and others do not.",
    )?;
    heading(page, &["load", "Folio to", "ratio", "runs", "goal", ""])?;
    for goal in GOALS {
        let Some((ratios, other)) = results.ratio(goal) else {
            continue;
        };
        let (Some(least), Some(ratio), Some(most)) =
            (ratios.first(), median(&ratios), ratios.last())
        else {
            continue;
        };
        let title = LOADS
            .iter()
            .find(|load| load.name == goal.load)
            .map_or("?", |load| load.title);
        let other =
            with_engine(&other, Described).map_or(other.clone(), |(name, _)| name.to_owned());
        let met = if *least >= goal.at_least {
            "met"
        } else if *most < goal.at_least {
            "**not met**"
        } else {
            "open"
        };
        writeln!(
            page,
            "| {title} | {other} | {ratio:.2} | {least:.2} to {most:.2} | {:.2} | {met} |",
            goal.at_least
        )?;
    }
    Ok(())
}

fn limits(page: &mut String, results: &Results<'_>) -> std::fmt::Result {
    section(
        page,
        "The limit",
        "What Folio's flushes cost beside as many writes of as many pages with one `pwritev` and one `fdatasync` each, into \
         space that was written before, in the same run. The goal for small commits is 1.15.",
    )?;
    heading(
        page,
        &[
            "load",
            "pages a flush",
            "write calls a flush",
            "flushes",
            "µs a flush",
            "the limit, µs",
            "ratio",
        ],
    )?;
    for load in results.loads().filter(|load| load.durable) {
        let middle = |of: &dyn Fn(&Measured<'_>) -> f64| results.middle(load.name, FOLIO, of);
        let flushes = |measured: &Measured<'_>| measured.outcome.counted.flushes as f64;
        let row = (|| {
            Some(format!(
                "| {} | {:.1} | {:.1} | {} | {} | {} | {:.2} |",
                load.title,
                middle(&|measured| measured.outcome.counted.pages as f64 / flushes(measured))?,
                middle(&|measured| measured.outcome.counted.write_calls as f64 / flushes(measured))?,
                short(middle(&flushes)?),
                short(middle(
                    &|measured| measured.outcome.seconds * 1e6 / flushes(measured)
                )?),
                short(middle(&|measured| measured.limit.unwrap_or(f64::NAN)
                    * 1e6
                    / flushes(measured))?),
                middle(&|measured| measured.outcome.seconds / measured.limit.unwrap_or(f64::NAN))?,
            ))
        })();
        if let Some(row) = row {
            writeln!(page, "{row}")?;
        }
    }
    Ok(())
}

fn kills(page: &mut String, results: &Results<'_>) -> std::fmt::Result {
    section(
        page,
        "After kill -9",
        "Milliseconds to open and to read the first row after the process was killed, the files in the system's cache. Where \
         Folio's rows follow from its log, what is not in a checkpoint is applied again; how many entries, and how long that took, is \
         in brackets.",
    )?;
    let loads = results
        .loads()
        .filter(|load| load.end == crate::load::End::Killed);
    by_engine(page, results, "after", loads, |load, engine| {
        let open = results.middle(load.name, engine, |found| found.reopened.open * 1e3)?;
        let replayed = results.middle(load.name, engine, |found| found.reopened.replayed as f64)?;
        let replay = results.middle(load.name, engine, |found| found.reopened.replay * 1e3)?;
        Some(if replayed > 0.0 {
            format!("{} ({replayed:.0} in {} ms)", short(open), short(replay))
        } else {
            short(open)
        })
    })
}

fn sizes(page: &mut String, results: &Results<'_>) -> std::fmt::Result {
    section(
        page,
        "File size",
        "MiB on the device after the load. The goal is the smaller of LMDB's and redb's.",
    )?;
    by_engine(page, results, "after", results.loads(), |load, engine| {
        let bytes = |engine: &str| results.middle(load.name, engine, |found| found.bytes as f64);
        let own = bytes(engine)?;
        let least = [bytes("redb"), bytes("lmdb")]
            .into_iter()
            .flatten()
            .fold(f64::INFINITY, f64::min);
        let over = engine == FOLIO && own > least;
        let size = short(own / 1048576.0);
        Some(if over { format!("**{size}**") } else { size })
    })
}

fn memory(page: &mut String, results: &Results<'_>) -> std::fmt::Result {
    section(
        page,
        "Memory",
        "The most MiB that the process held while the load ran, less what it held before the engine was opened. LMDB's includes \
         the pages of its map, which the system may take back. The goal for Folio is the cache and 64 MiB.",
    )?;
    by_engine(page, results, "load", results.loads(), |load, engine| {
        let bytes = results.middle(load.name, engine, |found| found.outcome.memory as f64)?;
        let cache = Context::new(load, Path::new(""), results.scale, 0)
            .settings
            .cache;
        let over = engine == FOLIO && bytes > (cache + (64 << 20)) as f64;
        let note = match load.cache {
            Cache::Usual => String::new(),
            Cache::Ample | Cache::Tenth => format!(" of {}", cache >> 20),
        };
        let bytes = short(bytes / 1048576.0);
        Some(if over {
            format!("**{bytes}**{note}")
        } else {
            format!("{bytes}{note}")
        })
    })
}

fn processor(page: &mut String, results: &Results<'_>) -> std::fmt::Result {
    section(
        page,
        "Processor time",
        "Microseconds of all cores for an operation, the system's share included: steadier than throughput on a machine with other work.",
    )?;
    let loads = results.loads().filter(|load| load.name != "open");
    by_engine(page, results, "load", loads, |load, engine| {
        let each =
            |found: &Measured<'_>| found.outcome.processor * 1e6 / found.outcome.operations as f64;
        Some(short(results.middle(load.name, engine, each)?))
    })
}

fn failures(page: &mut String, results: &Results<'_>) -> std::fmt::Result {
    let mut failed: Vec<(&str, &str, &str)> = results
        .records
        .iter()
        .filter_map(|record| match &record.result {
            Found::Failed(error) => Some((
                described(&record.engine).0,
                record.load.as_str(),
                error.lines().next_back().unwrap_or_default(),
            )),
            Found::Measured { .. } => None,
        })
        .collect();
    failed.sort_unstable();
    failed.dedup();
    if failed.is_empty() {
        return Ok(());
    }
    section(
        page,
        "What failed",
        "Loads that an engine did not finish, or after which its rows were not right.",
    )?;
    heading(page, &["engine", "load", "error"])?;
    for (engine, load, error) in failed {
        writeln!(
            page,
            "| {engine} | {load} | {} |",
            error.replace('|', "\\|")
        )?;
    }
    Ok(())
}
