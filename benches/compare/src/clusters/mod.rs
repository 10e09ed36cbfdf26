//! Durable writes of clusters of three nodes on one machine, each node a process: Folio beside openraft's own store on
//! RocksDB made durable, beside etcd, and beside a single Redis that syncs every write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

mod client;
mod cluster;
mod folio;
mod limit;
mod load;
pub mod node;
mod protobuf;
mod report;
#[cfg(feature = "rocksstore")]
mod rocks;

use cluster::Cluster;
use limit::Limit;
use load::Measured;

use crate::engine::Result;

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
pub enum System {
    /// `ReplicatedDatabase` with its rows in the file.
    Folio,
    /// The same with openraft's newer storage traits.
    FolioNewer,
    /// The same with a map in memory in place of the rows.
    FolioMap,
    Rocksstore,
    Etcd,
    Redis,
}

impl System {
    fn title(self) -> &'static str {
        match self {
            System::Folio => "Folio",
            System::FolioNewer => "Folio, `storage-v2`",
            System::FolioMap => "Folio, state in a `HashMap`",
            System::Rocksstore => "openraft-rocksstore, made durable",
            System::Etcd => "etcd",
            System::Redis => "Redis, one server",
        }
    }

    /// How many processes make it up.
    fn nodes(self) -> u64 {
        if self == System::Redis { 1 } else { 3 }
    }
}

#[derive(Args)]
pub struct Clusters {
    /// A folder on the file system to be measured.
    #[arg(long, default_value = "target/compare")]
    data: PathBuf,
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// How long each load of a round runs.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Which systems; by default all that are there: `etcd` and `redis-server` on the path, the others as this program was built.
    #[arg(long, value_delimiter = ',')]
    systems: Vec<System>,
    /// This program built with the feature `storage-v2`, to be measured beside itself.
    #[arg(long)]
    newer: Option<PathBuf>,
    /// Where to write the page of results; nowhere by default.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// One system in one round.
struct Record {
    system: System,
    round: u64,
    /// One after the other: the loads of [`CLIENTS`].
    loads: Vec<Measured>,
    /// The most bytes of memory of the node that leads, at the end.
    memory: u64,
    limit: Limit,
}

/// How many clients write at a time, in the loads of a round.
const CLIENTS: [usize; 2] = [1, 64];

pub fn run(asked: &Clusters) -> Result<()> {
    std::fs::create_dir_all(&asked.data)?;
    let data = asked.data.canonicalize()?.join("clusters");
    let systems = match asked.systems.as_slice() {
        [] => available(asked),
        systems => systems.to_vec(),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let mut records = Vec::new();
    for round in 0..asked.rounds {
        let mut turn = systems.clone();
        turn.rotate_left(round as usize % systems.len().max(1));
        for system in turn {
            let record = runtime.block_on(measure(asked, &data, system, round))?;
            report::tell(&record);
            records.push(record);
        }
    }
    if let Some(path) = &asked.report {
        std::fs::write(path, report::page(&records, &systems, asked, &data)?)?;
    }
    std::fs::remove_dir_all(&data)?;
    Ok(())
}

/// Folio's own clusters for a moment: whether they work, not how fast.
pub fn smoke(data: &Path) -> Result<()> {
    run(&Clusters {
        data: data.to_owned(),
        rounds: 1,
        seconds: 0.2,
        systems: vec![System::Folio, System::FolioMap],
        newer: None,
        report: None,
    })
}

async fn measure(asked: &Clusters, data: &Path, system: System, round: u64) -> Result<Record> {
    let directory = data.join(format!("{system:?}"));
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir_all(&directory)?;
    // What others left to be written is no part of this one.
    rustix::fs::sync();
    let limit = limit::measure(&directory)?;
    let program = asked
        .newer
        .as_deref()
        .filter(|_| system == System::FolioNewer);
    let cluster = Cluster::start(system, &directory, program).await?;
    let mut loads = Vec::new();
    for clients in CLIENTS {
        let time = Duration::from_secs_f64(asked.seconds);
        let mut measured = load::run(&cluster, clients, round, time).await?;
        measured.syncs = load::syncs(&cluster, clients, round, &directory).await?;
        loads.push(measured);
    }
    let memory = cluster.memory()?;
    drop(cluster);
    std::fs::remove_dir_all(&directory)?;
    Ok(Record {
        system,
        round,
        loads,
        memory,
        limit,
    })
}

fn available(asked: &Clusters) -> Vec<System> {
    let built = [
        (System::Folio, true),
        (System::FolioNewer, asked.newer.is_some()),
        (System::FolioMap, true),
        (System::Rocksstore, cfg!(feature = "rocksstore")),
        (System::Etcd, cluster::installed("etcd")),
        (System::Redis, cluster::installed("redis-server")),
    ];
    let there = built.into_iter().filter(|(_, there)| *there);
    there.map(|(system, _)| system).collect()
}
