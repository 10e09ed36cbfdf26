//! `folio bench`: how much a cluster does, and how long it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use folio_client::api::Bytes;
use folio_client::{Client, ReadLevel, transaction};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Asking, carry_out};
use crate::amount::{Size, Span};
use crate::output::{self, Format, Table, grouped};
use crate::run::Failure;

#[derive(Args)]
#[command(after_help = "\
Creates a vault, works on it with so many clients at a time, and deletes it. The clients of a load are on this machine, so
they share its processors with a node that is here, too.

Loads:
  write   each request sets one new entity, in a session
  read    each request reads one of a thousand entities, linearizable
  local   the same, as the node that is asked has it
  mixed   one write for nine reads

Examples:
  folio bench
  folio bench read --clients 64 --for 30s
  folio bench write --value-size 4K --format json | jq .latency

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
    let client = arguments.asking.cluster.client()?;
    let length = usize::try_from(arguments.value_size.0).unwrap_or(usize::MAX);
    if length > 1 << 20 {
        return Err(Failure::Usage("--value-size is at most 1M".into()));
    }
    let mut session = client.open_session().await?;
    let vault = session.create_vault("bench", 0).await?.vault;
    let value = Bytes(vec![b'v'; length]);
    let done = load(arguments, &client, vault, &value).await;
    // Also when the load failed: the vault is nobody's.
    let deleted = session.delete_vault(vault).await;
    let report = done?;
    deleted?;
    session.close().await?;
    match arguments.asking.format {
        Format::Json => output::print_json(&report),
        Format::Table => output::print(&describe(&report)),
    }
}

async fn load(
    arguments: &Arguments,
    client: &Client,
    vault: u64,
    value: &Bytes,
) -> Result<Report, Failure> {
    if arguments.load != Load::Write {
        let mut session = client.open_session().await?;
        for from in (0..READ).step_by(100) {
            let sets = (from..from + 100).fold(transaction(), |transaction, number| {
                transaction.set(key(number), value.clone())
            });
            session.submit(vault, &sets).await?;
        }
        session.close().await?;
    }
    let next = Arc::new(AtomicU64::new(READ));
    let begun = Instant::now();
    let end = begun + arguments.time.0;
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..arguments.clients {
        let (client, next, value) = (client.clone(), next.clone(), value.clone());
        workers.spawn(work(arguments.load, client, vault, value, next, end));
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

fn key(number: u64) -> Bytes {
    Bytes(format!("key-{number:012}").into_bytes())
}

async fn work(
    load: Load,
    client: Client,
    vault: u64,
    value: Bytes,
    next: Arc<AtomicU64>,
    end: Instant,
) -> Result<Histogram<u64>, Failure> {
    let mut times = histogram()?;
    let mut session = client.open_session().await?;
    while Instant::now() < end {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let writes = match load {
            Load::Write => true,
            Load::Read | Load::Local => false,
            Load::Mixed => number.is_multiple_of(10),
        };
        if writes {
            let set = transaction().set(key(number), value.clone());
            session.submit(vault, &set).await?;
        } else {
            let level = match load {
                Load::Local => ReadLevel::Local,
                _ => ReadLevel::Linearizable,
            };
            let Bytes(key) = key(number % READ);
            client.entity(vault, &key, level).await?;
        }
        times.saturating_record(microseconds(begun.elapsed()));
    }
    session.close().await?;
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
    let most = latency
        .histogram
        .iter()
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(1)
        .max(1);
    let mut bars = Table::list();
    for (up_to, count) in &latency.histogram {
        let width = usize::try_from(count * 50 / most).unwrap_or(50);
        bars.row([
            format!("up to {}", milliseconds(*up_to)),
            grouped(*count),
            "#".repeat(width.max(1)),
        ]);
    }
    format!("{table}\n{bars}")
}

fn milliseconds(micros: u64) -> String {
    format!("{:.2} ms", micros as f64 / 1000.0)
}
