//! What the engine costs where files are large: the time to open one after a kill, memory against the configured cache,
//! and the size of a file under a steady load of updates.
//!
//! Each measurement is a process of its own, since the system counts the most memory of a process, not of a function.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use folio_store::{
    Database, Durability, GroupSet, ReadTransaction, Result, Table,
    storage::{CountingStorage, FileStorage, SplitMix64},
};

use super::{Scratch, check::size_of};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Phase {
    /// Loading the file, then updates until killed.
    Load,
    /// Small durable transactions until killed.
    Commits,
    /// Opening it.
    Open,
    /// Reading every row.
    Scan,
    /// Verifying every page.
    Verify,
    /// A steady load of updates in a file of its own.
    Updates,
}

/// What a measuring process is told.
#[derive(Clone, Debug, clap::Args)]
pub struct MeasureArguments {
    /// What is measured.
    #[arg(long)]
    pub phase: Phase,
    /// The file.
    #[arg(long)]
    pub file: PathBuf,
    /// The memory for pages, in MiB.
    #[arg(long)]
    pub cache: usize,
    /// The size of the file to load, in MiB; for updates, how many thousand.
    #[arg(long)]
    pub amount: u64,
}

const SEED: u64 = 1;

fn value(random: &mut SplitMix64, buffer: &mut Vec<u8>) {
    let length = match random.below(100) {
        0..70 => 20 + random.below(300),
        70..98 => 300 + random.below(1_700),
        _ => 4_000 + random.below(30_000),
    };
    buffer.clear();
    while buffer.len() < length as usize {
        buffer.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    buffer.truncate(length as usize);
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// The most memory that this process ever had, in MiB, and what it has now.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        number.unwrap_or(0) >> 10
    };
    (field("VmHWM:"), field("VmRSS:"))
}

fn say(what: &str) {
    let (most, now) = memory();
    println!("{what}; memory: {now} MiB now, {most} MiB at most");
}

/// The measuring process.
///
/// # Errors
///
/// Those of the engine. None is expected.
pub fn measure(arguments: &MeasureArguments) -> Result<()> {
    match arguments.phase {
        Phase::Load => load(arguments),
        Phase::Commits => commits(arguments),
        Phase::Open => open(arguments).map(drop),
        Phase::Scan => scan(arguments),
        Phase::Verify => verify(arguments),
        Phase::Updates => updates(arguments),
    }
}

fn builder(arguments: &MeasureArguments) -> folio_store::Builder {
    Database::builder().cache_size(arguments.cache << 20)
}

fn load(arguments: &MeasureArguments) -> Result<()> {
    let database = builder(arguments).create(&arguments.file)?;
    let mut random = SplitMix64::new(SEED);
    let mut bytes = Vec::new();
    let (mut rows, mut written, mut batches) = (0, 0, 0_u64);
    let began = Instant::now();
    while written < arguments.amount << 20 {
        let mut transaction = database.begin_write()?;
        if !batches.is_multiple_of(16) {
            transaction.set_durability(Durability::Eventual);
        }
        let mut table = transaction.table::<Rows>()?;
        for _ in 0..1_000 {
            value(&mut random, &mut bytes);
            table.insert(rows, &bytes[..])?;
            rows += 1;
            written += bytes.len() as u64;
        }
        drop(table);
        transaction.commit()?;
        batches += 1;
    }
    database.checkpoint(GroupSet::ALL)?;
    say(&format!(
        "loaded {rows} rows, {:.0} MiB of values in {:.0} s, file {:.0} MiB",
        mebibytes(written),
        began.elapsed().as_secs_f64(),
        mebibytes(size_of(&arguments.file))
    ));
    // Updates, a durable transaction in ten, until somebody kills this process.
    for batch in 1_u64.. {
        let mut transaction = database.begin_write()?;
        if !batch.is_multiple_of(10) {
            transaction.set_durability(Durability::Eventual);
        }
        let mut table = transaction.table::<Rows>()?;
        for _ in 0..200 {
            value(&mut random, &mut bytes);
            table.insert(random.below(rows), &bytes[..])?;
        }
        drop(table);
        transaction.commit()?;
        if batch == 500 {
            say("updating at random");
            println!("now");
        }
    }
    Ok(())
}

/// What most programs do: a few rows at a time, each time durably.
fn commits(arguments: &MeasureArguments) -> Result<()> {
    let database = builder(arguments).open(&arguments.file)?;
    let mut random = SplitMix64::new(SEED + 1);
    let mut bytes = Vec::new();
    let rows = database.begin_read()?.table::<Rows>()?.len()?;
    for commit in 1_u64.. {
        let transaction = database.begin_write()?;
        let mut table = transaction.table::<Rows>()?;
        for _ in 0..4 {
            value(&mut random, &mut bytes);
            table.insert(random.below(rows), &bytes[..])?;
        }
        drop(table);
        transaction.commit()?;
        if commit == 1_000 {
            say("1000 durable transactions of 4 rows");
            println!("now");
        }
    }
    Ok(())
}

fn open(arguments: &MeasureArguments) -> Result<Database> {
    let file = FileStorage::open(&arguments.file).expect("the file");
    let storage = Arc::new(CountingStorage::new(Arc::new(file)));
    let began = Instant::now();
    let database = builder(arguments).open_on(storage.clone())?;
    let opened = began.elapsed();
    let view: ReadTransaction = database.begin_read()?;
    let first = view.table::<Rows>()?.first()?.is_some();
    let read = began.elapsed();
    let counts = storage.counts();
    say(&format!(
        "opened in {:.2} ms, first row ({first}) after {:.2} ms; {} reads of {} KiB, {} writes, {} syncs",
        opened.as_secs_f64() * 1e3,
        read.as_secs_f64() * 1e3,
        counts.reads,
        counts.bytes_read >> 10,
        counts.writes,
        counts.syncs
    ));
    Ok(database)
}

fn scan(arguments: &MeasureArguments) -> Result<()> {
    let database = builder(arguments).open(&arguments.file)?;
    let began = Instant::now();
    let view = database.begin_read()?;
    let (mut rows, mut bytes) = (0_u64, 0);
    for row in view.table::<Rows>()?.iter()? {
        rows += 1;
        bytes += row?.1.len() as u64;
    }
    say(&format!(
        "scanned {rows} rows, {:.0} MiB in {:.1} s",
        mebibytes(bytes),
        began.elapsed().as_secs_f64()
    ));
    drop(view);
    database.close()
}

fn verify(arguments: &MeasureArguments) -> Result<()> {
    let database = builder(arguments).open(&arguments.file)?;
    let began = Instant::now();
    let report = database.verify(|_, _| ())?;
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    say(&format!(
        "verified {} pages, {} rows in {:.1} s",
        report.pages,
        report.rows,
        began.elapsed().as_secs_f64()
    ));
    database.close()
}

/// A steady load: rows of mixed sizes, updated at random in durable batches, beside a view that is kept for a while.
fn updates(arguments: &MeasureArguments) -> Result<()> {
    const ROWS: u64 = 200_000;
    const BATCH: u64 = 1_000;
    let database = builder(arguments).create(&arguments.file)?;
    let mut random = SplitMix64::new(SEED);
    let mut bytes = Vec::new();
    let mut lengths = vec![0_u32; ROWS as usize];
    let mut batch = |keys: &mut dyn FnMut(&mut SplitMix64) -> u64| -> Result<()> {
        let transaction = database.begin_write()?;
        let mut table = transaction.table::<Rows>()?;
        for _ in 0..BATCH {
            let key = keys(&mut random);
            value(&mut random, &mut bytes);
            table.insert(key, &bytes[..])?;
            lengths[key as usize] = bytes.len() as u32;
        }
        drop(table);
        transaction.commit()?;
        Ok(())
    };
    let mut next = 0;
    while next < ROWS {
        batch(&mut |_| {
            next += 1;
            next - 1
        })?;
    }
    let began = Instant::now();
    let batches = arguments.amount;
    let mut kept = None;
    let tell = |done: u64, note: &str| {
        let statistics = database.statistics();
        let page = statistics.page_size;
        say(&format!(
            "{:>7} thousand updates, {:>5.0} s{note}: file {:.0} MiB, of which used once {:.0}, free now {:.0}",
            done * BATCH / 1_000,
            began.elapsed().as_secs_f64(),
            mebibytes(size_of(&arguments.file)),
            mebibytes(statistics.length_pages * page),
            mebibytes(statistics.free_pages * page),
        ));
    };
    tell(0, "");
    for done in 1..=batches {
        batch(&mut |random| random.below(ROWS))?;
        // A reader for a tenth of the time.
        if done == batches * 2 / 5 {
            kept = Some(database.begin_read()?);
        } else if done == batches / 2 {
            tell(done, ", before the view is closed");
            kept = None;
        }
        if done.is_multiple_of((batches / 20).max(1)) {
            let note = if kept.is_some() {
                ", beside a view"
            } else {
                ""
            };
            tell(done, note);
        }
    }
    let live: u64 = lengths.iter().map(|&length| u64::from(length) + 8).sum();
    println!("live data: {:.0} MiB", mebibytes(live));
    database.close()
}

/// Measures all of it and prints what it finds.
///
/// # Panics
///
/// If a measuring process fails.
pub fn footprint(program: &Path, gigabytes: f64, thousands_of_updates: u64, cache: usize) {
    let scratch = Scratch::new();
    let file = scratch.path().join("large.folio");
    let command = |phase: &str, file: &Path, amount: u64| {
        let mut command = Command::new(program);
        command.args(["measure", "--phase", phase, "--cache", &cache.to_string()]);
        command.args(["--amount", &amount.to_string(), "--file"]);
        command.arg(file).stdout(Stdio::piped());
        command
    };
    let run = |phase: &str, file: &Path, amount: u64| {
        let mut child = command(phase, file, amount).spawn().expect("a process");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        for line in output.lines() {
            let line = line.expect("a line");
            // Killed under load, a little after it said so.
            if line == "now" {
                std::thread::sleep(Duration::from_millis(137));
                child.kill().expect("SIGKILL");
                println!("{phase}: killed");
            } else {
                println!("{phase}: {line}");
            }
        }
        let status = child.wait().expect("its end");
        let killed = ["load", "commits"].contains(&phase);
        assert!(status.success() || killed, "{phase}: {status}");
    };
    println!("cache: {cache} MiB");
    run("load", &file, (gigabytes * 1024.0) as u64);
    println!("file: {:.0} MiB", mebibytes(size_of(&file)));
    // The first opening of each two is the recovery; the system's cache is empty if it may be emptied.
    let empty = || match fs::write("/proc/sys/vm/drop_caches", "3") {
        Ok(()) => println!("the system's cache is empty"),
        Err(error) => println!("the system's cache cannot be emptied: {error}"),
    };
    empty();
    run("open", &file, 0);
    run("open", &file, 0);
    run("commits", &file, 0);
    empty();
    run("open", &file, 0);
    run("open", &file, 0);
    run("scan", &file, 0);
    run("verify", &file, 0);
    fs::remove_file(&file).expect("remove the file");
    if thousands_of_updates > 0 {
        run(
            "updates",
            &scratch.path().join("updates.folio"),
            thousands_of_updates,
        );
    }
}
