//! Moves a large state from one node to another by a snapshot, while writes go on, and measures the
//! memory of both.
//!
//! ```text
//! cargo run --release -p folio-raft --example large_snapshot -- [MiB of state] [MiB of cache]
//! ```
//!
//! The nodes are processes of their own, on files in the temporary directory, connected by TCP. Their
//! peak memory is what the kernel says (`VmHWM`), reset before the transfer. At the end both write
//! their state as a snapshot at the same index, which must be the same bytes. Fails if a node took
//! more than 64 MiB above its cache.
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use folio_raft::snapshot::write_snapshot;
use folio_raft::transport::{NetworkConfig, TcpTransport};
use folio_raft::{Config, ReadLevel, ReplicatedDatabase, StateMachine};
use folio_store::Database;
use folio_store::storage::SplitMix64;

#[path = "../tests/common/noise.rs"]
mod noise;

use noise::{Noise, Put, VALUE};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Above the cache.
const ALLOWANCE: u64 = 64 << 20;
const ROWS_PER_MIB: u64 = (1 << 20) / VALUE as u64;
const LONG: Duration = Duration::from_secs(3600);

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| match arguments.get(at) {
        Some(text) => text.parse::<u64>(),
        None => Ok(default),
    };
    match arguments.first().map(String::as_str) {
        Some("node") => {
            let path = arguments.get(3).ok_or("no path")?;
            node(number(1, 1)?, number(2, 64)? << 20, path)
        }
        _ => measure(number(0, 2048)?, number(1, 64)?),
    }
}

// The nodes.

/// Runs a node that takes orders from its standard input, a line each, and answers with a line each.
#[tokio::main]
async fn node(id: u64, cache: u64, path: &str) -> Outcome<()> {
    let database = Database::builder()
        .cache_size(usize::try_from(cache)?)
        .create(path)?;
    let config = Config {
        snapshot_after_entries: 500,
        log_entries_kept: 10,
        purge_batch: 1,
        ..Config::default()
    };
    let transport = TcpTransport::bind("127.0.0.1:0", NetworkConfig::new("large")).await?;
    let address = transport.local_address().to_string();
    let node = ReplicatedDatabase::start(config, id, database, Noise, transport).await?;
    println!("{address}");
    let writing = Arc::new(AtomicBool::new(false));
    let mut writer = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["lead", mebibytes] => {
                node.initialize(BTreeMap::from([(id, address.clone())]))
                    .await?;
                node.wait_for_leader(LONG).await?;
                for number in 0..mebibytes.parse::<u64>()? {
                    let put = Put {
                        first: number * ROWS_PER_MIB,
                        count: ROWS_PER_MIB,
                    };
                    node.write(put).await?;
                }
                node.trigger_snapshot().await?;
                node.wait_for("a compacted log", LONG, |s| s.purged > Some(1))
                    .await?;
                println!("filled");
            }
            ["write", rows] => {
                writing.store(true, Ordering::Relaxed);
                let (node, writing, rows) = (node.clone(), writing.clone(), rows.parse()?);
                writer = Some(tokio::spawn(write_on(node, writing, rows)));
                println!("writing");
            }
            ["stop"] => {
                writing.store(false, Ordering::Relaxed);
                let written = match writer.take() {
                    Some(writer) => writer.await??,
                    None => (0, 0),
                };
                println!("{} {}", written.0, written.1);
            }
            ["add", other, address] => {
                node.add_learner(other.parse()?, (*address).to_owned())
                    .await?;
                println!("added");
            }
            ["digest", index] => {
                node.wait_for_applied(index.parse()?, LONG).await?;
                let tables = Noise.tables().definitions();
                let mut length = Length(0);
                let (digest, length) = node
                    .read(ReadLevel::Local, move |view| {
                        let digest = write_snapshot(view, &tables, &mut length);
                        digest.map(|digest| (digest, length.0))
                    })
                    .await??;
                println!("{length} {digest:x?}");
            }
            order => return Err(format!("unknown order {order:?}").into()),
        }
    }
    node.kill().await;
    Ok(())
}

/// Changes random rows until told to stop; gives the last index and the number of writes.
async fn write_on(
    node: ReplicatedDatabase<Noise>,
    writing: Arc<AtomicBool>,
    rows: u64,
) -> Result<(u64, u64), folio_raft::Error> {
    let mut random = SplitMix64::new(7);
    let (mut index, mut count) = (0, 0);
    while writing.load(Ordering::Relaxed) {
        let put = Put {
            first: random.below(rows),
            count: 1,
        };
        index = node.write(put).await?.index;
        count += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok((index, count))
}

/// Counts what is written to it.
struct Length(u64);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// What watches them.

struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: String,
}

impl Process {
    fn start(id: u64, cache: u64, directory: &std::path::Path) -> Outcome<Self> {
        let mut child = Program::new(std::env::current_exe()?)
            .args(["node", &id.to_string(), &cache.to_string()])
            .arg(directory.join(id.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no input")?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("no output")?);
        let address = line(&mut answers)?;
        Ok(Self {
            child,
            orders,
            answers,
            address,
        })
    }

    fn tell(&mut self, order: &str) -> Outcome<String> {
        writeln!(self.orders, "{order}")?;
        line(&mut self.answers)
    }

    /// Forgets the peak so far, and gives the memory now.
    fn reset_peak(&self) -> Outcome<u64> {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?;
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        Ok(number.ok_or("no such field")?.parse::<u64>()? << 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(answers: &mut impl BufRead) -> Outcome<String> {
    let mut line = String::new();
    if answers.read_line(&mut line)? == 0 {
        return Err("a node ended; its error is above".into());
    }
    Ok(line.trim_end().to_owned())
}

fn measure(state: u64, cache: u64) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let mut leader = Process::start(1, cache, directory.path())?;
    leader.tell(&format!("lead {state}"))?;
    let resting = leader.reset_peak()?;
    println!("state of {state} MiB, caches of {cache} MiB");
    println!("leader: {} MiB resident before", resting >> 20);

    let mut learner = Process::start(2, cache, directory.path())?;
    leader.tell(&format!("write {}", state * ROWS_PER_MIB))?;
    let begun = Instant::now();
    leader.tell(&format!("add 2 {}", learner.address))?;
    let took = begun.elapsed();
    let written = leader.tell("stop")?;
    let (index, writes) = written.split_once(' ').ok_or("no numbers")?;
    println!("transfer: {took:.1?}, {writes} writes meanwhile");

    let mut within = true;
    for (name, process) in [("leader", &leader), ("learner", &learner)] {
        let peak = process.memory("VmHWM:")?;
        let above = peak.saturating_sub(cache << 20);
        within &= above <= ALLOWANCE;
        println!(
            "{name}: peak {} MiB, {} MiB above the cache",
            peak >> 20,
            above >> 20
        );
    }
    let digests = [&mut leader, &mut learner].map(|node| node.tell(&format!("digest {index}")));
    let [sent, received] = digests;
    let (sent, received) = (sent?, received?);
    let (length, _) = sent.split_once(' ').ok_or("no numbers")?;
    println!("snapshot at the end: {length} bytes");
    if sent != received {
        return Err(format!("the states differ: {sent} and {received}").into());
    }
    if !within {
        return Err("a node took more than 64 MiB above its cache".into());
    }
    println!("the states are equal, and the memory is within 64 MiB above the cache");
    Ok(())
}
