//! The nodes of the demo, all in this process, talking TCP over loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use folio_ledger::command::Command;
use folio_ledger::response::Response;
use folio_node::{Node, NodeOptions};
use folio_raft::{Config, NodeId, Role};

use crate::run::Failure;

/// How long anything may take before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether there is a leader again.
const LEADER_POLL: Duration = Duration::from_millis(2);

/// The nodes, running or stopped.
pub struct Cluster {
    directory: PathBuf,
    addresses: BTreeMap<NodeId, SocketAddr>,
    state: Mutex<State>,
    /// Held by whoever looks for the leader, so that one task looks and the others wait for what it finds.
    search: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<NodeId, Node>,
    leader: Option<Node>,
    /// What nodes did before they were stopped.
    flushes: BTreeMap<NodeId, Flushes>,
}

/// Durable commits, and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flushes {
    pub flushes: u64,
    pub fdatasyncs: u64,
}

impl std::ops::Add for Flushes {
    type Output = Flushes;

    fn add(self, other: Flushes) -> Flushes {
        Flushes {
            flushes: self.flushes + other.flushes,
            fdatasyncs: self.fdatasyncs + other.fdatasyncs,
        }
    }
}

/// A write that a node acknowledged.
pub struct Acknowledged {
    pub response: Response,
    pub by: NodeId,
}

/// Settings for nodes that share a machine: a leader that stops is missed sooner than by default.
fn raft_config() -> Config {
    Config {
        heartbeat_interval: Duration::from_millis(200),
        election_timeout_min: Duration::from_millis(800),
        election_timeout_max: Duration::from_millis(1600),
        ..Config::default()
    }
}

/// The file of a node.
pub fn node_file(directory: &Path, id: NodeId) -> PathBuf {
    directory.join(format!("node-{id}.folio"))
}

impl Cluster {
    /// Starts `count` new nodes with files in `directory`, and makes them a cluster.
    pub async fn start(directory: &Path, count: u64) -> Result<Cluster, Failure> {
        let mut cluster = Cluster {
            directory: directory.to_owned(),
            addresses: BTreeMap::new(),
            state: Mutex::default(),
            search: tokio::sync::Mutex::default(),
        };
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        for id in 1..=count {
            let node = cluster.start_node(id, any_port).await?;
            cluster.addresses.insert(id, node.peer_address());
        }
        let members = cluster
            .addresses
            .iter()
            .map(|(id, address)| (*id, address.to_string()))
            .collect();
        let first = cluster
            .running()
            .remove(&1)
            .expect("there is at least one node, and they count from 1");
        first.form_cluster(members).await.map_err(Failure::error)?;
        Ok(cluster)
    }

    async fn start_node(&self, id: NodeId, peer_listen: SocketAddr) -> Result<Node, Failure> {
        let options = NodeOptions {
            id,
            file: node_file(&self.directory, id),
            cluster: "demo".to_owned(),
            peer_listen,
            tls: None,
            cache_bytes: folio_node::DEFAULT_CACHE_BYTES,
            raft: raft_config(),
        };
        let node = Node::start(options)
            .await
            .map_err(|error| Failure::Error(format!("node {id}: {error}")))?;
        self.state().running.insert(id, node.clone());
        Ok(node)
    }

    /// The nodes that run now.
    pub fn running(&self) -> BTreeMap<NodeId, Node> {
        self.state().running.clone()
    }

    /// Has the cluster carry out a command, and repeats it until a leader answers. Across a change of leaders only a
    /// command in a session is carried out exactly once.
    pub async fn write(&self, command: &Command) -> Result<Acknowledged, Failure> {
        use folio_raft::Error;

        let start = Instant::now();
        loop {
            let leader = self.leader(start).await?;
            match leader.ledger().write(command.clone()).await {
                Ok(written) => {
                    return Ok(Acknowledged {
                        response: written.response,
                        by: leader.id(),
                    });
                }
                Err(Error::Busy { .. }) if start.elapsed() < PATIENCE => {}
                Err(
                    Error::NotLeader { .. }
                    | Error::NoQuorum
                    | Error::Unknown { .. }
                    | Error::ShuttingDown
                    | Error::Stopped { .. }
                    | Error::Timeout { .. },
                ) if start.elapsed() < PATIENCE => self.forget_leader(leader.id()),
                Err(error) => return Err(Failure::Error(format!("node {}: {error}", leader.id()))),
            }
        }
    }

    /// The node that leads, as soon as there is one.
    pub async fn leader(&self, since: Instant) -> Result<Node, Failure> {
        if let Some(leader) = &self.state().leader {
            return Ok(leader.clone());
        }
        let _searching = self.search.lock().await;
        loop {
            if let Some(leader) = self.look_for_leader() {
                return Ok(leader);
            }
            if since.elapsed() > PATIENCE {
                return Err(Failure::Unavailable(format!(
                    "there was no leader within {PATIENCE:?}"
                )));
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }

    /// The leader that is known, or the node that says it is.
    fn look_for_leader(&self) -> Option<Node> {
        let mut state = self.state();
        if state.leader.is_none() {
            let statuses = state
                .running
                .values()
                .map(|node| (node.ledger().status(), node));
            let leading = statuses
                .filter(|(status, _)| status.role == Role::Leader && status.error.is_none());
            state.leader = leading
                .max_by_key(|(status, _)| status.term)
                .map(|(_, leader)| leader.clone());
        }
        state.leader.clone()
    }

    fn forget_leader(&self, id: NodeId) {
        let mut state = self.state();
        if state
            .leader
            .as_ref()
            .is_some_and(|leader| leader.id() == id)
        {
            state.leader = None;
        }
    }

    /// Stops the leader as a crash would, and tells which node that was. `just_before` is called with it at the last
    /// moment.
    pub async fn kill_leader(&self, just_before: impl FnOnce(NodeId)) -> Result<NodeId, Failure> {
        let leader = self.leader(Instant::now()).await?;
        let id = leader.id();
        self.count_flushes(&leader);
        just_before(id);
        self.state().running.remove(&id);
        self.forget_leader(id);
        leader.ledger().kill().await;
        Ok(id)
    }

    /// Starts a stopped node again, with its file and at its address.
    pub async fn reopen(&self, id: NodeId) -> Result<(), Failure> {
        let address = *self
            .addresses
            .get(&id)
            .expect("a node that was stopped had been started");
        self.start_node(id, address).await?;
        Ok(())
    }

    /// Waits until every running node has applied all there is, and returns the index of the last entry.
    pub async fn settle(&self) -> Result<u64, Failure> {
        let leader = self.leader(Instant::now()).await?;
        let last = leader.ledger().status().last_log.unwrap_or(0);
        for node in self.running().values() {
            let caught_up = node.ledger().wait_for_applied(last, PATIENCE).await;
            caught_up.map_err(|error| Failure::Error(format!("node {}: {error}", node.id())))?;
        }
        Ok(last)
    }

    /// Stops all nodes cleanly, and returns what each of them did since the cluster was started.
    pub async fn shut_down(&self) -> Result<BTreeMap<NodeId, Flushes>, Failure> {
        for (id, node) in self.running() {
            self.count_flushes(&node);
            self.state().running.remove(&id);
            node.ledger()
                .shutdown()
                .await
                .map_err(|error| Failure::Error(format!("node {id}: {error}")))?;
        }
        Ok(std::mem::take(&mut self.state().flushes))
    }

    fn count_flushes(&self, node: &Node) {
        // A node that has stopped by itself has nothing to tell, and is found out otherwise.
        if let Ok(statistics) = node.ledger().statistics() {
            let now = Flushes {
                flushes: statistics.flushes,
                fdatasyncs: statistics.syncs,
            };
            let mut state = self.state();
            let sum = state.flushes.entry(node.id()).or_default();
            *sum = *sum + now;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever held it has changed one field at a time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
