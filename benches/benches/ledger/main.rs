//! The ledger on one node: what applying, reading and proving cost at several sizes of a vault, and how much of it is the
//! price of state roots.
//!
//! ```sh
//! cargo bench -p folio-benches --bench ledger
//! cargo bench -p folio-benches --bench ledger -- --scale 10000 --batch 1000 --rounds 5
//! cargo bench -p folio-benches --bench ledger -- --write docs/ledger-benchmarks.md
//! ```
//!
//! `--folder` says where the files are to lie, `--cache` how large the cache of each is, in MiB. On a machine that does
//! other work at the same time, `--time processor` counts the time that the thread was running, instead of the time that
//! passed.

mod load;
mod measure;
mod report;
mod time;
mod unproved;

use std::{path::PathBuf, str::FromStr};

use time::Time;

/// What is to be measured.
struct Options {
    /// Items of the vault.
    scales: Vec<u64>,
    /// Operations in a transaction.
    batches: Vec<u64>,
    rounds: usize,
    /// Bytes.
    cache: usize,
    folder: Option<PathBuf>,
    write: Option<PathBuf>,
    time: Time,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options {
        scales: vec![10_000, 1_000_000, 10_000_000],
        batches: vec![1, 10, 100, 1000],
        rounds: 9,
        cache: 4 << 30,
        folder: None,
        write: None,
        time: Time::Passed,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--bench" {
            // Cargo's own.
            continue;
        }
        let value = arguments
            .next()
            .ok_or(format!("{argument} needs a value"))?;
        match &argument[..] {
            "--scale" => options.scales = list(&value)?,
            "--batch" => options.batches = list(&value)?,
            "--rounds" => options.rounds = value.parse()?,
            "--cache" => options.cache = value.parse::<usize>()? << 20,
            "--folder" => options.folder = Some(value.into()),
            "--time" => options.time = value.parse()?,
            "--write" => options.write = Some(value.into()),
            _ => return Err(format!("there is no option {argument}").into()),
        }
    }
    let mut results = Vec::new();
    for &scale in &options.scales {
        results.push(measure::measure(&options, scale)?);
        report::show(results.last().into_iter());
    }
    if let Some(path) = &options.write {
        std::fs::write(path, report::document(&options, &results))?;
    }
    Ok(())
}

fn list<T: FromStr>(text: &str) -> Result<Vec<T>, T::Err> {
    text.split(',').map(str::parse).collect()
}
