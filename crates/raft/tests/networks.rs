//! What every transport over a network owes its users, and that a cluster works over each.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/authority.rs"]
mod authority;
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use authority::{Authority, expired};
use common::cluster::{Node, PATIENCE, quick};
use common::echo::Echo;
use common::{CounterMachine, add, counters};
use folio_raft::transport::{
    BoxFuture, GrpcTransport, Handler, NetworkConfig, QuicTransport, TcpTransport, Tls, Transport,
    TransportError,
};
use folio_raft::{Config, NodeId, ReadLevel};
use folio_store::Database;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Network {
    Tcp,
    Quic,
    Grpc,
}

const NETWORKS: [Network; 3] = [Network::Tcp, Network::Quic, Network::Grpc];

impl Network {
    async fn bind(self, address: &str, config: NetworkConfig) -> (Arc<dyn Transport>, String) {
        match self {
            Network::Tcp => {
                let transport = TcpTransport::bind(address, config).await.unwrap();
                let address = transport.local_address().to_string();
                (transport, address)
            }
            Network::Quic => {
                let transport = QuicTransport::bind(address, config).await.unwrap();
                let address = transport.local_address().to_string();
                (transport, address)
            }
            Network::Grpc => {
                let transport = GrpcTransport::bind(address, config).await.unwrap();
                let address = transport.local_address().to_string();
                (transport, address)
            }
        }
    }

    /// A node of the cluster "c" that listens on a port of its own.
    async fn node(self, tls: Tls) -> (Arc<dyn Transport>, String) {
        self.bind("127.0.0.1:0", config("c", tls)).await
    }

    /// Node 2 of the cluster "c", and where it listens.
    async fn serve(self, tls: Tls) -> (Arc<dyn Transport>, String, Arc<Echo>) {
        let (transport, address) = self.node(tls).await;
        let echo = Arc::new(Echo::default());
        transport.serve(2, echo.clone()).unwrap();
        (transport, address, echo)
    }

    /// Node 1 calls node 2, and is not heard. Says why.
    async fn refused(self, client: Tls, server: Tls) -> String {
        let (_server, address, echo) = self.serve(server).await;
        let (client, _) = self.node(client).await;
        let outcome = client.call(1, 2, &address, vec![1], PATIENCE).await;
        assert_eq!(echo.handled(), 0, "{self:?}");
        match outcome {
            Err(TransportError::Refused { reason, .. }) => reason,
            other => panic!("{self:?}: {other:?}"),
        }
    }
}

fn config(cluster: &str, tls: Tls) -> NetworkConfig {
    NetworkConfig {
        tls: Some(tls),
        ..NetworkConfig::new(cluster)
    }
}

#[tokio::test]
async fn requests_are_answered_also_at_the_same_time() {
    for network in NETWORKS {
        let authority = Authority::new();
        let (_server, address, echo) = network.serve(authority.tls(2)).await;
        let (client, _) = network.node(authority.tls(1)).await;
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..50u8 {
            let (client, address) = (client.clone(), address.clone());
            calls.spawn(async move {
                let request = vec![number; 100_000];
                let answer = client.call(1, 2, &address, request.clone(), PATIENCE).await;
                assert_eq!(answer.unwrap(), request, "{network:?}");
            });
        }
        calls.join_all().await;
        assert_eq!(echo.handled(), 50);
    }
}

#[tokio::test]
async fn the_largest_message_passes_and_a_larger_one_is_not_sent() {
    for network in NETWORKS {
        let authority = Authority::new();
        let (_server, address, echo) = network.serve(authority.tls(2)).await;
        let (client, _) = network.node(authority.tls(1)).await;
        let largest = vec![7; Config::MESSAGE_LIMIT];
        let answer = client.call(1, 2, &address, largest.clone(), PATIENCE).await;
        assert!(answer.unwrap() == largest, "{network:?}");
        let larger = vec![7; Config::MESSAGE_LIMIT + 1];
        let refusal = client.call(1, 2, &address, larger, PATIENCE).await;
        assert!(
            matches!(refusal, Err(TransportError::TooLarge { .. })),
            "{network:?}: {refusal:?}"
        );
        assert_eq!(echo.handled(), 1);
    }
}

#[tokio::test]
async fn a_node_of_another_cluster_or_with_another_id_is_refused() {
    for network in NETWORKS {
        let authority = Authority::new();
        let (_server, address, echo) = network.serve(authority.tls(2)).await;
        let elsewhere = config("other", authority.tls(1));
        let (client, _) = network.bind("127.0.0.1:0", elsewhere).await;
        let refusal = client.call(1, 2, &address, vec![1], PATIENCE).await;
        let Err(TransportError::Refused { reason, .. }) = &refusal else {
            panic!("{network:?}: {refusal:?}");
        };
        assert!(reason.contains("another cluster"), "{network:?}: {reason}");

        // The certificate is that of node 2, and somebody took it for node 3.
        let (server, address) = network.node(authority.tls(2)).await;
        server.serve(3, echo.clone()).unwrap();
        let (client, _) = network.node(authority.tls(1)).await;
        let refusal = client.call(1, 2, &address, vec![1], PATIENCE).await;
        let Err(TransportError::Refused { reason, .. }) = &refusal else {
            panic!("{network:?}: {refusal:?}");
        };
        assert!(reason.contains("another node"), "{network:?}: {reason}");
        assert_eq!(echo.handled(), 0);
    }
}

#[tokio::test]
async fn a_peer_that_is_down_is_not_reached_and_comes_back() {
    for network in NETWORKS {
        let authority = Authority::new();
        let (server, address, _) = network.serve(authority.tls(2)).await;
        let (client, _) = network.node(authority.tls(1)).await;
        for round in 0..3u8 {
            let answer = client.call(1, 2, &address, vec![round], PATIENCE).await;
            assert_eq!(answer.unwrap(), [round], "{network:?}");
        }
        server.stop().await;
        let refusal = client.call(1, 2, &address, vec![9], PATIENCE).await;
        assert!(
            matches!(refusal, Err(TransportError::Unreachable { node: 2, .. })),
            "{network:?}: {refusal:?}"
        );

        // Stopping freed the address, and the client's old connections are replaced.
        let (server, _) = network.bind(&address, config("c", authority.tls(2))).await;
        server.serve(2, Arc::new(Echo::default())).unwrap();
        let answer = client.call(1, 2, &address, vec![4], PATIENCE).await;
        assert_eq!(answer.unwrap(), [4], "{network:?}");
    }
}

/// Never answers.
struct Silence;

impl Handler for Silence {
    fn handle(&self, _from: NodeId, _request: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_the_next_is_not_held_up() {
    for network in NETWORKS {
        let authority = Authority::new();
        let (server, address) = network.node(authority.tls(2)).await;
        server.serve(2, Arc::new(Silence)).unwrap();
        let (client, _) = network.node(authority.tls(1)).await;
        for _ in 0..3 {
            let deadline = Duration::from_millis(300);
            let refusal = client.call(1, 2, &address, vec![1], deadline).await;
            assert!(
                matches!(refusal, Err(TransportError::TimedOut { node: 2, .. })),
                "{network:?}: {refusal:?}"
            );
        }
        // Calls under way do not keep a node from stopping.
        tokio::time::timeout(PATIENCE, server.stop()).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_is_foreign_or_expired_is_refused_by_either_side() {
    for network in NETWORKS {
        let (ours, theirs) = (Authority::new(), Authority::new());
        network.refused(theirs.tls(1), ours.tls(2)).await;
        let foreign = ours.tls_from(theirs.certificate(1, |_| ()));
        network.refused(foreign, ours.tls(2)).await;
        let old = |node| ours.tls_from(ours.certificate(node, expired));
        network.refused(ours.tls(1), old(2)).await;
        network.refused(old(1), ours.tls(2)).await;
    }
}

#[tokio::test]
async fn a_certificate_is_good_for_its_own_node_only() {
    for network in NETWORKS {
        let authority = Authority::new();
        // Node 3 says that it is node 1.
        let reason = network.refused(authority.tls(3), authority.tls(2)).await;
        assert!(
            reason.contains("certificate is that of another"),
            "{network:?}: {reason}"
        );
        // Node 3 listens where node 2 is looked for.
        let reason = network.refused(authority.tls(1), authority.tls(3)).await;
        assert!(
            reason.contains("not valid for name") || reason.contains("of another node"),
            "{network:?}: {reason}"
        );
    }
}

#[tokio::test]
async fn a_server_goes_on_while_strangers_knock() {
    for network in NETWORKS {
        let authority = Authority::new();
        let (_server, address, echo) = network.serve(authority.tls(2)).await;
        let mut strangers = Vec::new();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0x16, 3, 1, 0xff, 0xff],
            &[0xff; 1200],
        ] {
            if network == Network::Quic {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.send_to(bytes, &address).await.unwrap();
            } else {
                let mut stream = TcpStream::connect(&address).await.unwrap();
                stream.write_all(bytes).await.unwrap();
                // Left open: the server must not wait for what does not come.
                strangers.push(stream);
            }
        }
        let (client, _) = network.node(authority.tls(1)).await;
        let answer = client.call(1, 2, &address, vec![7], PATIENCE).await;
        assert_eq!(answer.unwrap(), [7], "{network:?}");
        assert_eq!(echo.handled(), 1);
    }
}

#[tokio::test]
async fn grpc_says_what_it_is_to_those_who_ask_for_something_else() {
    let authority = Authority::new();
    let plain = NetworkConfig::new("c");
    let server = GrpcTransport::bind("127.0.0.1:0", plain).await.unwrap();
    server.serve(2, Arc::new(Echo::default())).unwrap();
    // Without certificates nobody proves anything, as over plain TCP.
    let client = GrpcTransport::bind("127.0.0.1:0", NetworkConfig::new("c"));
    let client = client.await.unwrap();
    let address = server.local_address().to_string();
    let answer = client.call(1, 2, &address, vec![3], PATIENCE).await;
    assert_eq!(answer.unwrap(), [3]);
    // HTTP/1 is not spoken.
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The server closes; whether it resets the connection depends on what it left unread.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    // Nor is a client with TLS served by one without.
    let (client, _) = Network::Grpc.node(authority.tls(1)).await;
    let refusal = client.call(1, 2, &address, vec![3], PATIENCE).await;
    assert!(refusal.is_err(), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_works_and_sends_snapshots_over_each() {
    for network in NETWORKS {
        let authority = Authority::new();
        let config = Config {
            snapshot_after_entries: 20,
            log_entries_kept: 0,
            purge_batch: 1,
            snapshot_chunk_bytes: 4096,
            ..quick()
        };
        let mut nodes = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for id in 1..=3 {
            let (transport, address) = network.node(authority.tls(id)).await;
            addresses.insert(id, address);
            let database = Database::in_memory().unwrap();
            let node = Node::start(config.clone(), id, database, CounterMachine, transport).await;
            nodes.insert(id, node.unwrap());
        }
        // The third gets what the others have by a snapshot.
        let learner = addresses.remove(&3).unwrap();
        nodes[&1].initialize(addresses).await.unwrap();
        let leader = nodes[&1].wait_for_leader(PATIENCE).await.unwrap();
        for number in 0..60 {
            let name = format!("{number:0200}");
            nodes[&leader].write(add(&name, 1)).await.unwrap();
        }
        let compacted = nodes[&leader].wait_for("a compacted log", PATIENCE, |status| {
            status.purged.is_some_and(|purged| purged > 20)
        });
        compacted.await.unwrap();
        nodes[&leader].add_learner(3, learner).await.unwrap();
        nodes[&leader].write(add("last", 1)).await.unwrap();
        let applied = nodes[&leader].status().applied.unwrap();
        nodes[&3].wait_for_applied(applied, PATIENCE).await.unwrap();
        let level = ReadLevel::Linearizable;
        let read = nodes[&leader].read(level, counters).await.unwrap();
        assert_eq!(read.len(), 61, "{network:?}");
        for node in nodes.values() {
            tokio::time::timeout(PATIENCE, node.shutdown())
                .await
                .unwrap()
                .unwrap();
        }
    }
}
