//! `folio bench`: how much a cluster or a file does, and how long it takes.

mod target;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::amount::{Size, Span};
use crate::output::{self, Drawing, Format, Table, grouped};
use crate::remote::{Asking, carry_out};
use crate::run::Failure;
use target::{Target, Writer};

#[derive(Args)]
#[command(after_help = "\
Creates a vault, works on it with so many clients at a time, and deletes it. The clients of a load are on this machine, so
they share its processors with a node that is here, too.

With --file the node of that file runs in this process, without a network and without others: what the file, its disk and the ledger
cost. The file may be that of a node that has stopped; one that is not there is made, and removed at the end.

Loads:
  write   each request sets one new entity, in a session
  read    each request reads one of a thousand entities, linearizable
  local   the same, as the node that is asked has it
  mixed   one write for nine reads

Examples:
  folio bench
  folio bench read --clients 64 --for 30s
  folio bench write --value-size 4K --format json | jq .latency
  folio bench mixed --file /var/lib/folio/bench.folio

Exit codes: 0 done, 1 error, 4 nobody can answer.")]
pub struct Arguments {
    /// What the clients do
    #[arg(value_enum, default_value_t = Load::Write)]
    load: Load,
    /// How many work at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: u32,
    /// How long
    #[arg(long = "for", value_name = "TIME", default_value = "10s")]
    time: Span,
    /// The length of a value
    #[arg(long, value_name = "BYTES", default_value = "100")]
    value_size: Size,
    /// Work on this file instead, in this process
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Load {
    Write,
    Read,
    Local,
    Mixed,
}

/// How many entities are read.
const READ: u64 = 1000;

#[derive(Serialize)]
struct Report {
    load: Load,
    clients: u32,
    value_bytes: u64,
    seconds: f64,
    requests: u64,
    per_second: f64,
    latency: Latency,
}

/// In microseconds.
#[derive(Serialize)]
struct Latency {
    least: u64,
    half: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    most: u64,
    /// How many took at most so long, by powers of two.
    histogram: Vec<(u64, u64)>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    carry_out(bench(arguments))
}

async fn bench(arguments: &Arguments) -> Result<(), Failure> {
    let length = usize::try_from(arguments.value_size.0).unwrap_or(usize::MAX);
    if length > 1 << 20 {
        return Err(Failure::Usage("--value-size is at most 1M".into()));
    }
    let target = match &arguments.file {
        Some(file) => Target::of_file(file).await?,
        None => Target::of_cluster(arguments.asking.cluster.client()?).await?,
    };
    let value: Arc<[u8]> = vec![b'v'; length].into();
    let done = load(arguments, &target, &value).await;
    // Also when the load failed: what was created is nobody's.
    let ended = target.end().await;
    let report = done?;
    ended?;
    match arguments.asking.format {
        Format::Json => output::print_json(&report),
        Format::Table => output::print(&describe(&report)),
    }
}

async fn load(
    arguments: &Arguments,
    target: &Target,
    value: &Arc<[u8]>,
) -> Result<Report, Failure> {
    if arguments.load != Load::Write {
        let mut writer = target.writer().await?;
        for from in (0..READ).step_by(100) {
            writer.set((from..from + 100).map(key), value).await?;
        }
        writer.close().await;
    }
    let next = Arc::new(AtomicU64::new(READ));
    let mut writers = Vec::new();
    for _ in 0..arguments.clients {
        writers.push(target.writer().await?);
    }
    let begun = Instant::now();
    let end = begun + arguments.time.0;
    let mut workers = tokio::task::JoinSet::new();
    for writer in writers {
        let (target, next, value) = (target.clone(), next.clone(), value.clone());
        workers.spawn(work(arguments.load, target, writer, value, next, end));
    }
    let mut all = histogram()?;
    while let Some(worker) = workers.join_next().await {
        all.add(worker.map_err(Failure::error)??)
            .map_err(Failure::error)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let requests = all.len();
    Ok(Report {
        load: arguments.load,
        clients: arguments.clients,
        value_bytes: arguments.value_size.0,
        seconds,
        requests,
        per_second: requests as f64 / seconds,
        latency: Latency {
            least: all.min(),
            half: all.value_at_quantile(0.5),
            p90: all.value_at_quantile(0.9),
            p99: all.value_at_quantile(0.99),
            p999: all.value_at_quantile(0.999),
            most: all.max(),
            histogram: all
                .iter_log(64, 2.0)
                .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
                .filter(|(_, count)| *count > 0)
                .collect(),
        },
    })
}

/// Up to an hour, to three digits.
fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).map_err(Failure::error)
}

fn key(number: u64) -> Vec<u8> {
    format!("key-{number:012}").into_bytes()
}

async fn work(
    load: Load,
    target: Target,
    mut writer: Writer,
    value: Arc<[u8]>,
    next: Arc<AtomicU64>,
    end: Instant,
) -> Result<Histogram<u64>, Failure> {
    let mut times = histogram()?;
    // Once at least: a measurement of nothing says nothing.
    while times.is_empty() || Instant::now() < end {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let writes = match load {
            Load::Write => true,
            Load::Read | Load::Local => false,
            Load::Mixed => number.is_multiple_of(10),
        };
        if writes {
            writer.set(std::iter::once(key(number)), &value).await?;
        } else {
            let local = load == Load::Local;
            target.read(key(number % READ), local).await?;
        }
        times.saturating_record(microseconds(begun.elapsed()));
    }
    writer.close().await;
    Ok(times)
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn describe(report: &Report) -> String {
    let Report {
        clients,
        value_bytes,
        seconds,
        latency,
        ..
    } = report;
    let load = format!("{:?}", report.load).to_lowercase();
    let mut table = Table::list();
    table
        .row([
            "load".to_owned(),
            format!("{load}, {clients} clients, values of {value_bytes} bytes"),
        ])
        .row([
            "requests".to_owned(),
            format!("{} in {seconds:.1} s", grouped(report.requests)),
        ])
        .row(["a second".to_owned(), grouped(report.per_second as u64)]);
    for (name, micros) in [
        ("least", latency.least),
        ("half within", latency.half),
        ("9 of 10", latency.p90),
        ("99 of 100", latency.p99),
        ("999 of 1000", latency.p999),
        ("most", latency.most),
    ] {
        table.row([name.to_owned(), milliseconds(micros)]);
    }
    let counts = latency.histogram.iter().map(|(_, count)| *count);
    let most = counts.max().unwrap_or(1);
    let drawing = Drawing::of_stdout();
    let mut bars = Table::list();
    for (up_to, count) in &latency.histogram {
        bars.row([
            format!("up to {}", milliseconds(*up_to)),
            grouped(*count),
            drawing.bar(*count, most, 50),
        ]);
    }
    format!("{table}\n{bars}")
}

fn milliseconds(micros: u64) -> String {
    format!("{:.2} ms", micros as f64 / 1000.0)
}
