//! Nodes with their HTTP API on loopback, and a client that shows exactly what was sent and answered.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use folio_node::access::Access;
use folio_node::{Limits, Node, NodeOptions, api};
use folio_raft::{Config, NodeId};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A node and the address of its API.
pub struct Server {
    pub node: Node,
    pub address: SocketAddr,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

impl Answer {
    /// The stable name of the problem.
    pub fn code(&self) -> &str {
        assert_eq!(
            self.headers.get("content-type").map(String::as_str),
            Some("application/problem+json"),
            "{self:?}"
        );
        assert_eq!(self.body["status"], self.status, "{self:?}");
        self.body["code"].as_str().expect("a problem has a code")
    }
}

pub async fn start_node(directory: &Path, id: NodeId) -> Node {
    start_node_with(directory, id, Config::default()).await
}

async fn start_node_with(directory: &Path, id: NodeId, raft: Config) -> Node {
    let options = NodeOptions {
        id,
        file: directory.join(format!("node-{id}.folio")),
        cluster: "test".to_owned(),
        peer_listen: (Ipv4Addr::LOCALHOST, 0).into(),
        tls: None,
        cache_bytes: folio_node::DEFAULT_CACHE_BYTES,
        raft,
    };
    Node::start(options).await.expect("the node starts")
}

/// A cluster of `count` nodes with their APIs, of which one leads. The nodes know each other's APIs if `acquainted`.
pub async fn start_cluster(directory: &Path, count: u64, acquainted: bool) -> Vec<Server> {
    start_cluster_with(directory, count, acquainted, &Config::default()).await
}

/// The same with settings of Raft.
pub async fn start_cluster_with(
    directory: &Path,
    count: u64,
    acquainted: bool,
    raft: &Config,
) -> Vec<Server> {
    let mut parts = Vec::new();
    for id in 1..=count {
        let listener = free_port().await;
        let address = listener.local_addr().expect("it is bound");
        let node = start_node_with(directory, id, raft.clone()).await;
        parts.push((node, listener, address));
    }
    let members = parts
        .iter()
        .map(|(node, _, _)| (node.id(), node.peer_address().to_string()))
        .collect();
    parts[0]
        .0
        .form_cluster(members)
        .await
        .expect("a new cluster");
    let mut apis = BTreeMap::new();
    if acquainted {
        apis = parts
            .iter()
            .map(|(node, _, address)| (node.id(), address.to_string()))
            .collect();
    }
    let mut servers = Vec::new();
    for (node, listener, address) in parts {
        node.ledger()
            .wait_for_leader(PATIENCE)
            .await
            .expect("a leader is elected");
        serve(listener, &node, apis.clone(), Access::open());
        servers.push(Server { node, address });
    }
    servers
}

/// Serves a node's API until the test is over.
pub fn serve(
    listener: TcpListener,
    node: &Node,
    apis: BTreeMap<NodeId, String>,
    access: Access,
) -> SocketAddr {
    let address = listener.local_addr().expect("it is bound");
    serve_within(Limits::default(), listener, node, apis, access);
    address
}

/// The same within other limits.
pub fn serve_within(
    limits: Limits,
    listener: TcpListener,
    node: &Node,
    apis: BTreeMap<NodeId, String>,
    access: Access,
) {
    let router = api::router(node.clone(), apis, access, &limits);
    let serving = folio_node::serve(listener, router, None, limits, std::future::pending());
    tokio::spawn(serving);
}

/// Asks until it is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    asked.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A listener on a free port.
pub async fn free_port() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    listener.expect("a free port")
}

/// The one that leads.
pub async fn leader(servers: &[Server]) -> &Server {
    let leader = servers[0].node.ledger().wait_for_leader(PATIENCE).await;
    let leader = leader.expect("one is elected");
    let found = servers.iter().find(|server| server.node.id() == leader);
    found.expect("it is one of them")
}

/// Waits until all of them have applied an entry.
pub async fn applied(servers: impl IntoIterator<Item = &Server>, index: u64) {
    for server in servers {
        let ledger = server.node.ledger();
        let applied = ledger.wait_for_applied(index, PATIENCE).await;
        applied.expect("it is replicated");
    }
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    send(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"),
    )
    .await
}

pub async fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    post_as(address, path, "application/json", &body.to_string()).await
}

pub async fn patch(address: SocketAddr, path: &str, body: &Value) -> Answer {
    with_body(
        address,
        "PATCH",
        path,
        "application/json",
        &body.to_string(),
    )
    .await
}

pub async fn post_as(address: SocketAddr, path: &str, content_type: &str, body: &str) -> Answer {
    with_body(address, "POST", path, content_type, body).await
}

/// Opens a session. Returns its id.
pub async fn open_session(address: SocketAddr) -> String {
    let opened = post(address, "/v1/sessions", &Value::Null).await;
    assert_eq!(opened.status, 201, "{opened:?}");
    opened.body["session"].as_str().expect("an id").to_owned()
}

pub async fn delete(address: SocketAddr, path: &str) -> Answer {
    let request = format!("DELETE {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    send(address, &request).await
}

async fn with_body(
    address: SocketAddr,
    method: &str,
    path: &str,
    content_type: &str,
    body: &str,
) -> Answer {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    send(address, &(head + body)).await
}

pub async fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address)
        .await
        .expect("the server listens");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the server reads");
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .await
        .expect("the server answers");
    let answer = String::from_utf8(answer).expect("answers are text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .expect("a status");
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.into()));
    let headers: BTreeMap<String, String> = headers.collect();
    let is_text = headers["content-type"].starts_with("text/");
    Answer {
        status,
        body: match is_text {
            true => Value::String(body.to_owned()),
            false => serde_json::from_str(body).expect("answers are JSON"),
        },
        headers,
    }
}
