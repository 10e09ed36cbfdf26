//! The processes of a cluster on loopback.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::System;
use super::client::Client;
use crate::engine::Result;
use crate::process;

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    pub system: System,
    nodes: Vec<Child>,
    /// The node that leads, and where it listens to clients.
    leader: usize,
    pub address: SocketAddr,
}

impl Cluster {
    /// Starts a cluster and waits until it has a leader. `program` is what nodes of this program are run by, if not by itself.
    pub async fn start(system: System, directory: &Path, program: Option<&Path>) -> Result<Self> {
        let count = system.nodes() as usize;
        let (peers, clients) = (free_addresses(count)?, free_addresses(count)?);
        let mut cluster = Self {
            system,
            nodes: Vec::new(),
            leader: 0,
            address: clients[0],
        };
        // The first is to lead, and finds the others there.
        for at in (0..count).rev() {
            let folder = directory.join((at + 1).to_string());
            std::fs::create_dir_all(&folder)?;
            let mut command = match system {
                System::Etcd => etcd(at, &folder, &peers, &clients),
                System::Redis => redis(&folder, clients[at]),
                _ => node(system, at, &folder, &peers, clients[at], program)?,
            };
            let said = directory.join(format!("{}.log", at + 1));
            let spawned = command
                .stdin(Stdio::null())
                .stdout(File::create(&said)?)
                .stderr(File::create(said.with_extension("errors"))?)
                .spawn();
            cluster
                .nodes
                .insert(0, spawned.map_err(|error| format!("{command:?}: {error}"))?);
        }
        let began = Instant::now();
        loop {
            if let Some(leader) = cluster.find_leader(&clients).await {
                cluster.leader = leader;
                cluster.address = clients[leader];
                return Ok(cluster);
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{system:?} has no leader after {PATIENCE:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The node that leads and answers.
    async fn find_leader(&self, clients: &[SocketAddr]) -> Option<usize> {
        for (at, address) in clients.iter().enumerate() {
            if let Ok(mut client) = Client::connect(self.system, *address).await
                && client.leads().await.is_ok_and(|leads| leads)
                && client.put(0, &[b'0'; crate::data::VALUE]).await.is_ok()
            {
                return Some(at);
            }
        }
        None
    }

    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().map(Child::id)
    }

    /// The most bytes of memory that the leader ever had.
    pub fn memory(&self) -> Result<u64> {
        process::memory_of(self.nodes[self.leader].id())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // One that ended by itself cannot be killed, which is as well.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// Whether a program is on the path.
pub fn installed(program: &str) -> bool {
    let tried = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok()
}

/// The first line that a program says of its version.
pub fn version(program: &str) -> Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::result::Result<_, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr);
    Ok(addresses.collect::<std::result::Result<_, _>>()?)
}

fn joined(addresses: &[SocketAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    texts.join(",")
}

fn node(
    system: System,
    at: usize,
    folder: &Path,
    peers: &[SocketAddr],
    clients: SocketAddr,
    program: Option<&Path>,
) -> Result<Command> {
    let mut command = match program {
        Some(program) => Command::new(program),
        None => Command::new(std::env::current_exe()?),
    };
    let name = clap::ValueEnum::to_possible_value(&system).ok_or("a system without a name")?;
    command
        .args(["cluster-node", "--system", name.get_name()])
        .args(["--id", &(at + 1).to_string()])
        .args(["--peers", &joined(peers)])
        .args(["--clients", &clients.to_string(), "--directory"])
        .arg(folder);
    Ok(command)
}

fn etcd(at: usize, folder: &Path, peers: &[SocketAddr], clients: &[SocketAddr]) -> Command {
    let members: Vec<_> = (1..)
        .zip(peers)
        .map(|(number, peer)| format!("n{number}=http://{peer}"))
        .collect();
    let peer = format!("http://{}", peers[at]);
    let client = format!("http://{}", clients[at]);
    let mut command = Command::new("etcd");
    command
        .args(["--name", &format!("n{}", at + 1)])
        .args(["--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer])
        .args(["--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client])
        .args(["--initial-cluster", &members.join(",")])
        .args(["--log-level", "error", "--data-dir"])
        .arg(folder.join("data"));
    command
}

fn redis(folder: &Path, clients: SocketAddr) -> Command {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &clients.port().to_string()])
        .args(["--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(folder);
    command
}
