//! The load: clients that each wait for the answer to a write before the next.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::client::Client;
use super::cluster::Cluster;
use crate::data::{VALUE, mix};
use crate::engine::Result;
use crate::syncs;

/// Before a measurement, so that connections and caches are warm.
const WARMING: Duration = Duration::from_millis(500);
/// How long calls are counted under strace.
const COUNTING: Duration = Duration::from_secs(1);

/// What the clients of a load saw.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Acknowledged writes a second.
    pub rate: f64,
    /// Seconds from the request to the answer.
    pub median: f64,
    /// What one in a hundred exceeds.
    pub tail: f64,
    /// System calls that wait for the disk, of each node for each write, if they were counted.
    pub syncs: Option<f64>,
}

/// Runs that many clients for some time. At the end each reads back what it wrote last.
pub async fn run(
    cluster: &Cluster,
    clients: usize,
    round: u64,
    time: Duration,
) -> Result<Measured> {
    let next = Arc::new(AtomicU64::new(mix(round ^ clients as u64)));
    write(cluster, clients, &next, WARMING).await?;
    let began = Instant::now();
    let mut waits = write(cluster, clients, &next, time).await?;
    let seconds = began.elapsed().as_secs_f64();
    waits.sort_by(f64::total_cmp);
    let at = |part: f64| waits.get((waits.len() as f64 * part) as usize).copied();
    Ok(Measured {
        rate: waits.len() as f64 / seconds,
        median: at(0.5).ok_or("no write was acknowledged")?,
        tail: at(0.99).ok_or("no write was acknowledged")?,
        syncs: None,
    })
}

/// Counts the calls that wait for the disk while that many clients write; nothing where there is no strace.
pub async fn syncs(
    cluster: &Cluster,
    clients: usize,
    round: u64,
    directory: &Path,
) -> Result<Option<f64>> {
    if !syncs::possible() {
        return Ok(None);
    }
    let trace = directory.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&trace);
    command.args(["-e", &format!("trace={}", syncs::WAITING.join(","))]);
    for process in cluster.processes() {
        command.args(["-p", &process.to_string()]);
    }
    let mut strace = command.stderr(Stdio::null()).spawn()?;
    // It says nothing when it has attached to all threads; what is missed of the first moments is written by few.
    tokio::time::sleep(WARMING).await;
    let next = Arc::new(AtomicU64::new(mix(!round ^ clients as u64)));
    let writes = write(cluster, clients, &next, COUNTING).await;
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&strace),
        rustix::process::Signal::INT,
    )?;
    strace.wait()?;
    let writes = writes?.len();
    let calls: u64 = syncs::count(&std::fs::read_to_string(&trace)?)
        .values()
        .sum();
    let each = calls as f64 / writes.max(1) as f64 / cluster.processes().count() as f64;
    Ok(Some(each))
}

/// Seconds that each write took.
async fn write(
    cluster: &Cluster,
    clients: usize,
    next: &Arc<AtomicU64>,
    time: Duration,
) -> Result<Vec<f64>> {
    let mut writers = JoinSet::new();
    for _ in 0..clients {
        let mut client = Client::connect(cluster.system, cluster.address).await?;
        let next = next.clone();
        writers.spawn(async move {
            let mut waits = Vec::new();
            let end = Instant::now() + time;
            let mut last = None;
            while Instant::now() < end {
                let key = mix(next.fetch_add(1, Ordering::Relaxed));
                let began = Instant::now();
                client.put(key, &value(key)).await?;
                waits.push(began.elapsed().as_secs_f64());
                last = Some(key);
            }
            if let Some(key) = last
                && client.get(key).await?.as_deref() != Some(&value(key)[..])
            {
                return Err(format!("what was written to {key:016x} does not read back").into());
            }
            Result::Ok(waits)
        });
    }
    let mut waits = Vec::new();
    for written in writers.join_all().await {
        waits.append(&mut written?);
    }
    Ok(waits)
}

/// The value of a key: text, because one of the systems knows nothing else.
fn value(key: u64) -> [u8; VALUE] {
    std::array::from_fn(|at| {
        let word = mix(key ^ (at as u64 / 8));
        b'a' + ((word >> (at % 8 * 8)) as u8 % 26)
    })
}
