//! `folio demo`: a cluster in one process, real data, a leader that stops, and a check of everything at the end.

mod check;
mod cluster;
mod data;
mod load;
mod report;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::cluster::{Cluster, node_file};
use self::data::DataSet;
use self::load::Load;
use self::report::{NodeReport, Outage, Report};
use crate::output::{self, Format};
use crate::run::{self, Failure};

/// From how many nodes on the others can go on when one stops.
const NODES_TO_SURVIVE: u64 = 3;

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio demo                              load 69,659 purchases into three nodes, and stop the leader
  folio demo --keep ./demo --nodes 5      five nodes, with their files in ./demo
  folio demo --data sales.csv             purchases of your own: date,customer,discs,cents
  folio demo --format json | jq .nodes    for programs")]
pub struct Arguments {
    /// Load this CSV file instead, with the columns date,customer,discs,cents
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Put the nodes' files here, instead of into a new directory for temporary files
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// How many nodes; from 3 on the leader is stopped part-way
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    run::log_at("off")?;
    let data = Arc::new(DataSet::load(arguments.data.as_deref()).map_err(Failure::error)?);
    let directory = directory(arguments)?;
    let report = run::runtime()?.block_on(demo(arguments, data, &directory))?;
    match arguments.format {
        Format::Table => output::print(&report.to_string()),
        Format::Json => output::print_json(&report),
    }
}

/// The directory for the nodes' files, without any.
fn directory(arguments: &Arguments) -> Result<PathBuf, Failure> {
    let Some(directory) = &arguments.keep else {
        let directory = tempfile::Builder::new().prefix("folio-demo-").tempdir();
        return directory.map(tempfile::TempDir::keep).map_err(|error| {
            Failure::Error(format!(
                "cannot create a directory for temporary files: {error}"
            ))
        });
    };
    let failed = |error| Failure::Error(format!("{}: {error}", directory.display()));
    std::fs::create_dir_all(directory).map_err(failed)?;
    for entry in directory.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "folio")
        {
            return Err(Failure::Error(format!(
                "{}: there is a file of an earlier run; remove it, or name another directory with --keep",
                path.display()
            )));
        }
    }
    // The report shows paths that work from anywhere.
    directory.canonicalize().map_err(failed)
}

async fn demo(
    arguments: &Arguments,
    data: Arc<DataSet>,
    directory: &Path,
) -> Result<Report, Failure> {
    let narrator = Narrator::new(data.totals.purchases, arguments.format);
    let cluster = Arc::new(Cluster::start(directory, arguments.nodes).await?);
    narrator.say(&format!(
        "{} in {}, talking TCP over loopback",
        if arguments.nodes == 1 {
            "1 node".to_owned()
        } else {
            format!("{} nodes", arguments.nodes)
        },
        directory.display()
    ));
    let survivable = arguments.nodes >= NODES_TO_SURVIVE;
    let bar = narrator.bar.clone();
    let load = Load::prepare(cluster.clone(), data.clone(), survivable, move || {
        bar.inc(1)
    })
    .await?;

    let start = Instant::now();
    let loading = tokio::spawn({
        let load = load.clone();
        async move {
            load.run().await?;
            Ok(start.elapsed())
        }
    });
    let stopping = async {
        if survivable {
            return stop_and_return(&cluster, &load, &narrator).await.map(Some);
        }
        narrator.say("the leader is not stopped: it takes three nodes for the others to go on");
        Ok(None)
    };
    let (took, outage) = both(loading, stopping).await?;
    let entries = cluster.settle().await?;

    narrator.checking();
    let mut checks = Vec::new();
    for (id, node) in cluster.running() {
        let (vault, expected) = (load.vault(), data.totals);
        checks.push((
            id,
            tokio::spawn(async move { check::check(&node, vault, expected).await }),
        ));
    }
    let mut found = Vec::new();
    for (id, checking) in checks {
        found.push((id, joined(checking.await)?));
    }
    let agreed = check::agree(&found)?;
    let flushes = cluster.shut_down().await?;
    narrator.finish();

    let nodes = found.iter().map(|(id, found)| {
        let file = node_file(directory, *id);
        let file_bytes = std::fs::metadata(&file)
            .map_err(|error| Failure::Error(format!("{}: {error}", file.display())))?
            .len();
        Ok(NodeReport {
            id: *id,
            file,
            file_bytes,
            height: found.height,
            state_root: found.state_root,
            block_hash: found.block_hash,
            flushes: flushes.get(id).copied().unwrap_or_default(),
        })
    });
    Ok(Report {
        data: data.name.clone(),
        totals: agreed.totals,
        entries,
        took,
        outage,
        directory: directory.to_owned(),
        nodes: nodes.collect::<Result<_, Failure>>()?,
    })
}

/// Stops the leader at two fifths of the load, and brings the node back at seven tenths.
async fn stop_and_return(
    cluster: &Cluster,
    load: &Load,
    narrator: &Narrator,
) -> Result<Outage, Failure> {
    let purchases = narrator.purchases;
    load.acknowledged(purchases * 2 / 5).await;
    let node = cluster.kill_leader(|node| load.outage_begins(node)).await?;
    narrator.say(&format!("node {node}, the leader, stopped without warning"));
    let failover = load.outage_over().await;
    narrator.say(&format!(
        "the others went on after {} ms",
        failover.as_millis()
    ));
    load.acknowledged(purchases * 7 / 10).await;
    cluster.reopen(node).await?;
    narrator.say(&format!("node {node} is back and catches up"));
    Ok(Outage { node, failover })
}

/// Waits for the load and for what happens meanwhile, but no longer than until one of them fails.
async fn both(
    loading: tokio::task::JoinHandle<Result<Duration, Failure>>,
    meanwhile: impl Future<Output = Result<Option<Outage>, Failure>>,
) -> Result<(Duration, Option<Outage>), Failure> {
    let loading = async { joined(loading.await) };
    tokio::try_join!(loading, meanwhile)
}

fn joined<T>(ended: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    ended.map_err(|error| Failure::Error(format!("a task of the demo broke off: {error}")))?
}

/// Tells people what happens, on standard error. Programs that asked for JSON get silence.
struct Narrator {
    bar: ProgressBar,
    purchases: u64,
    format: Format,
}

impl Narrator {
    fn new(purchases: u64, format: Format) -> Self {
        // Hidden by itself when standard error is not a terminal.
        let bar = match format {
            Format::Table => ProgressBar::new(purchases),
            Format::Json => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template("{msg:9} [{bar:40}] {pos}/{len} {per_sec}");
        bar.set_style(
            style
                .expect("the template is a good one")
                .progress_chars("=> "),
        );
        bar.set_message("loading");
        Narrator {
            bar,
            purchases,
            format,
        }
    }

    fn say(&self, what: &str) {
        if self.format == Format::Table {
            self.bar.suspend(|| eprintln!("{what}"));
        }
    }

    fn checking(&self) {
        self.bar.finish_and_clear();
        self.say("checking every row, block and hash on every node");
    }

    fn finish(&self) {
        self.say("");
    }
}
