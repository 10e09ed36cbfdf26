//! Nodes with their HTTP API on loopback, each on a runtime of its own, so that one can be stopped without warning.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use folio_client::{Client, Settings};
use folio_node::access::Access;
use folio_node::{Limits, Node, NodeOptions, api};
use folio_raft::Config;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A node, the address of its API, and what it runs on.
pub struct Running {
    pub node: Node,
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    /// Stops the node where it stands: it says nothing to anybody.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A cluster, and where its files are.
pub struct Cluster {
    pub nodes: Vec<Running>,
    _directory: tempfile::TempDir,
}

impl Cluster {
    /// A cluster of `count` nodes, of which one leads. The nodes know each other's APIs if `acquainted`.
    pub async fn start(count: u64, acquainted: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut parts = Vec::new();
        for id in 1..=count {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let options = NodeOptions {
                id,
                file: directory.path().join(format!("node-{id}.folio")),
                cluster: "test".to_owned(),
                peer_listen: (Ipv4Addr::LOCALHOST, 0).into(),
                tls: None,
                cache_bytes: 16 << 20,
                raft: Config::default(),
            };
            let started = runtime.spawn(async move {
                let node = Node::start(options).await.unwrap();
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                (node, listener)
            });
            let (node, listener) = started.await.unwrap();
            parts.push((runtime, node, listener));
        }
        let members = parts.iter();
        let members = members.map(|(_, node, _)| (node.id(), node.peer_address().to_string()));
        parts[0].1.form_cluster(members.collect()).await.unwrap();
        let mut apis = BTreeMap::new();
        for (_, node, listener) in &parts {
            node.ledger().wait_for_leader(PATIENCE).await.unwrap();
            if acquainted {
                apis.insert(node.id(), listener.local_addr().unwrap().to_string());
            }
        }
        let nodes = parts.into_iter().map(|(runtime, node, listener)| {
            let router = api::router(
                node.clone(),
                apis.clone(),
                Access::open(),
                &Limits::default(),
            );
            let address = listener.local_addr().unwrap();
            let stop = std::future::pending();
            runtime.spawn(folio_node::serve(
                listener,
                router,
                None,
                Limits::default(),
                stop,
            ));
            Running {
                node,
                address,
                runtime: Some(runtime),
            }
        });
        Cluster {
            nodes: nodes.collect(),
            _directory: directory,
        }
    }

    /// A client that knows all nodes.
    pub fn client(&self) -> Client {
        Client::new(self.settings()).unwrap()
    }

    pub fn settings(&self) -> Settings {
        let urls = self.nodes.iter().map(Running::url);
        Settings::new(urls).unwrap().deadline(PATIENCE)
    }

    /// The place of the node that leads, among those that run.
    pub async fn leader(&self) -> usize {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let running = self.nodes.iter().filter(|node| node.runtime.is_some());
            for node in running {
                let status = node.node.ledger().status();
                let leads = |other: &Running| Some(other.node.id()) == status.leader;
                let place = self.nodes.iter().position(leads);
                if let Some(place) = place.filter(|place| self.nodes[*place].runtime.is_some()) {
                    return place;
                }
            }
            assert!(std::time::Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
