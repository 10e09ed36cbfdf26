//! What the demo saw, for people and for programs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use folio_ledger::digest::Digest;
use folio_raft::NodeId;
use serde::{Serialize, Serializer};
use serde_json::json;

use super::cluster::Flushes;
use super::data::Totals;
use crate::output::{Table, grouped, size};

/// What the demo saw.
pub struct Report {
    /// Where the purchases came from.
    pub data: String,
    /// What every node has, added up from its rows.
    pub totals: Totals,
    /// Log entries.
    pub entries: u64,
    /// How long the load took, the outage included.
    pub took: Duration,
    pub outage: Option<Outage>,
    pub directory: PathBuf,
    pub nodes: Vec<NodeReport>,
}

/// The leader that was stopped.
pub struct Outage {
    pub node: NodeId,
    /// From its stop to the first write that another node acknowledged.
    pub failover: Duration,
}

pub struct NodeReport {
    pub id: NodeId,
    pub file: PathBuf,
    pub file_bytes: u64,
    pub height: u64,
    pub state_root: Digest,
    pub block_hash: Digest,
    pub flushes: Flushes,
}

impl Report {
    fn per_second(&self) -> f64 {
        self.totals.purchases as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    fn per_purchase(&self, count: u64) -> f64 {
        count as f64 / self.totals.purchases as f64
    }

    fn flushes(&self) -> Flushes {
        self.nodes
            .iter()
            .fold(Flushes::default(), |sum, node| sum + node.flushes)
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Totals {
            purchases,
            customers,
            discs,
            cents,
        } = self.totals;
        let Flushes {
            flushes,
            fdatasyncs,
        } = self.flushes();
        let nodes = self.nodes.iter().map(|node| {
            json!({
                "id": node.id,
                "file": node.file,
                "file_bytes": node.file_bytes,
                "height": node.height,
                "state_root": node.state_root,
                "block_hash": node.block_hash,
                "durable_commits": node.flushes.flushes,
                "fdatasyncs": node.flushes.fdatasyncs,
            })
        });
        json!({
            "data": self.data,
            "purchases": purchases,
            "customers": customers,
            "discs": discs,
            "cents": cents,
            "entries": self.entries,
            "seconds": self.took.as_secs_f64(),
            "transactions_per_second": self.per_second(),
            "durable_commits": flushes,
            "fdatasyncs": fdatasyncs,
            "fdatasyncs_per_transaction": self.per_purchase(fdatasyncs),
            "failover_ms": self.outage.as_ref().map(|outage| outage.failover.as_millis() as u64),
            "stopped_node": self.outage.as_ref().map(|outage| outage.node),
            "directory": self.directory,
            "nodes": nodes.collect::<Vec<_>>(),
        })
        .serialize(serializer)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals {
            purchases,
            customers,
            discs,
            cents,
        } = self.totals;
        let Flushes {
            flushes,
            fdatasyncs,
        } = self.flushes();
        let mut table = Table::figures();
        table
            .row([
                "purchases".to_owned(),
                grouped(purchases),
                format!("of {} customers", grouped(customers)),
            ])
            .row([
                "discs".to_owned(),
                grouped(discs),
                "as in the data, on every node".to_owned(),
            ])
            .row([
                "cents".to_owned(),
                grouped(cents),
                "as in the data, on every node".to_owned(),
            ])
            .row([
                "log entries".to_owned(),
                grouped(self.entries),
                String::new(),
            ])
            .row([
                "transactions/s".to_owned(),
                grouped(self.per_second() as u64),
                self.duration(),
            ])
            .row([
                "durable commits".to_owned(),
                grouped(flushes),
                self.each(flushes),
            ])
            .row([
                "fdatasync calls".to_owned(),
                grouped(fdatasyncs),
                self.each(fdatasyncs),
            ]);
        match &self.outage {
            Some(Outage { node, failover }) => table.row([
                "failover".to_owned(),
                format!("{} ms", failover.as_millis()),
                format!("from the stop of node {node} to the next acknowledged write"),
            ]),
            None => table.row([
                "failover",
                "none",
                "it takes three nodes for the others to go on",
            ]),
        };
        writeln!(f, "{table}")?;

        let mut nodes = Table::new(&["node", "height", "state root", "block hash", "size", "file"]);
        for node in &self.nodes {
            nodes.row([
                node.id.to_string(),
                node.height.to_string(),
                short(&node.state_root),
                short(&node.block_hash),
                size(node.file_bytes),
                node.file.display().to_string(),
            ]);
        }
        writeln!(f, "{nodes}")?;
        let agreement = match self.nodes.len() {
            1 => "The node's chain of blocks and its state were verified".to_owned(),
            nodes => format!(
                "All {nodes} nodes agree, and the chain of blocks and the state of each were verified"
            ),
        };
        writeln!(
            f,
            "{agreement}, from the first block to the last.\n\nLook for yourself:"
        )?;
        if let Some(node) = self.nodes.first() {
            writeln!(
                f,
                "  folio verify {0}\n  folio stat {0}",
                node.file.display()
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn duration(&self) -> String {
        let outage = if self.outage.is_some() {
            ", the failover included"
        } else {
            ""
        };
        format!("in {:.1} s{outage}", self.took.as_secs_f64())
    }

    fn each(&self, count: u64) -> String {
        let nodes = self.nodes.len();
        let of = if nodes == 1 {
            "on the node".to_owned()
        } else {
            format!("on {nodes} nodes together")
        };
        format!("{:.3} per transaction, {of}", self.per_purchase(count))
    }
}

/// The first digits of a hash.
fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(16).collect()
}
