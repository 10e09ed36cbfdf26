//! The TCP transport by itself: refusals, limits, and peers that go away.

#[path = "common/echo.rs"]
mod echo;

use std::sync::Arc;
use std::time::Duration;

use echo::Echo;
use folio_raft::NodeId;
use folio_raft::transport::{NetworkConfig, TcpTransport, Transport, TransportError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(30);

async fn bind(cluster: &str) -> Arc<TcpTransport> {
    TcpTransport::bind("127.0.0.1:0", NetworkConfig::new(cluster))
        .await
        .expect("bound")
}

async fn serve(node: NodeId, cluster: &str) -> (Arc<TcpTransport>, String, Arc<Echo>) {
    let transport = bind(cluster).await;
    let echo = Arc::new(Echo::default());
    transport.serve(node, echo.clone()).expect("serves");
    let address = transport.local_address().to_string();
    (transport, address, echo)
}

#[tokio::test]
async fn requests_are_answered_also_at_the_same_time() {
    let (_server, address, _) = serve(2, "c").await;
    let client = bind("c").await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..50u8 {
        let (client, address) = (client.clone(), address.clone());
        calls.spawn(async move {
            let request = vec![number; 10_000];
            let answer = client.call(1, 2, &address, request.clone(), PATIENCE).await;
            assert_eq!(answer.expect("answered"), request);
        });
    }
    calls.join_all().await;
}

#[tokio::test]
async fn a_node_of_another_cluster_or_with_another_id_is_refused() {
    let (_server, address, echo) = serve(2, "c").await;
    for (cluster, to, word) in [("other", 2, "another cluster"), ("c", 3, "another node")] {
        let client = bind(cluster).await;
        let refusal = client.call(1, to, &address, vec![1], PATIENCE).await;
        let Err(TransportError::Refused { reason, .. }) = &refusal else {
            panic!("{refusal:?}");
        };
        assert!(reason.contains(word), "{reason}");
    }
    assert_eq!(echo.handled(), 0);
}

#[tokio::test]
async fn a_peer_that_is_down_is_unreachable_and_comes_back() {
    let (server, address, _) = serve(2, "c").await;
    let client = bind("c").await;
    for round in 0..3u8 {
        let answer = client.call(1, 2, &address, vec![round], PATIENCE).await;
        assert_eq!(answer.expect("answered"), [round]);
    }
    server.stop().await;
    let refusal = client.call(1, 2, &address, vec![9], PATIENCE).await;
    assert!(
        matches!(refusal, Err(TransportError::Unreachable { node: 2, .. })),
        "{refusal:?}"
    );

    // Stopping freed the address, and the client's old connections are replaced.
    let server = TcpTransport::bind(&address, NetworkConfig::new("c"))
        .await
        .expect("the address is free");
    server.serve(2, Arc::new(Echo::default())).expect("serves");
    let answer = client.call(1, 2, &address, vec![4], PATIENCE).await;
    assert_eq!(answer.expect("answered"), [4]);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_costs_no_more_than_the_deadline() {
    // It accepts the connection and says welcome, and nothing after that.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = mute.local_addr().expect("an address").to_string();
    let accepting = tokio::spawn(async move {
        let (mut stream, _) = mute.accept().await.expect("a connection");
        stream.write_u8(0).await.expect("welcomed");
        let mut sink = Vec::new();
        // Ends when the client gives up.
        stream.read_to_end(&mut sink).await.expect("drained");
    });
    let client = bind("c").await;
    let deadline = Duration::from_millis(50);
    let refusal = client.call(1, 2, &address, vec![1], deadline).await;
    assert!(
        matches!(refusal, Err(TransportError::TimedOut { node: 2, .. })),
        "{refusal:?}"
    );
    accepting.await.expect("the connection was closed");
}

#[tokio::test]
async fn a_message_above_the_limit_is_not_sent() {
    let (_server, address, echo) = serve(2, "c").await;
    let client = bind("c").await;
    let limit = NetworkConfig::new("c").frame_limit;
    let refusal = client
        .call(1, 2, &address, vec![0; limit + 1], PATIENCE)
        .await;
    assert!(
        matches!(refusal, Err(TransportError::TooLarge { .. })),
        "{refusal:?}"
    );
    assert_eq!(echo.handled(), 0);
}

#[tokio::test]
async fn a_stranger_is_cut_off_and_the_server_goes_on() {
    let (_server, address, echo) = serve(2, "c").await;
    let mut hello = Vec::new();
    hello.extend_from_slice(b"FOLIORPC");
    hello.extend_from_slice(&1u16.to_le_bytes());
    hello.extend_from_slice(&1u64.to_le_bytes());
    hello.extend_from_slice(&2u64.to_le_bytes());
    hello.extend_from_slice(&[1, b'c']);
    let oversized = [hello.as_slice(), &u32::MAX.to_le_bytes()].concat();
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &oversized] {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        stream.write_all(bytes).await.expect("written");
        let mut answer = Vec::new();
        // The server closes; whether it resets the connection depends on what it left unread.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.len() <= 1, "{answer:?}");
    }
    assert_eq!(echo.handled(), 0);
    let client = bind("c").await;
    let answer = client.call(1, 2, &address, vec![7], PATIENCE).await;
    assert_eq!(answer.expect("answered"), [7]);
}

#[tokio::test]
async fn a_peer_of_another_protocol_version_is_refused_by_name_on_both_sides() {
    // A newer node calls this one: it is told the version that is spoken here.
    let (_server, address, echo) = serve(2, "c").await;
    let mut newer = TcpStream::connect(&address).await.expect("connected");
    newer.write_all(b"FOLIORPC").await.expect("written");
    newer.write_u16_le(9).await.expect("written");
    assert_eq!(newer.read_u8().await.expect("a status"), 1);
    assert_eq!(newer.read_u16_le().await.expect("a version"), 1);
    assert_eq!(echo.handled(), 0);

    // This node calls a newer one, and says what it was told.
    let newer = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = newer.local_addr().expect("an address").to_string();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = newer.accept().await.expect("a connection");
        stream.write_all(&[1, 9, 0]).await.expect("written");
        let mut sink = Vec::new();
        stream.read_to_end(&mut sink).await.expect("drained");
    });
    let client = bind("c").await;
    let refusal = client.call(1, 2, &address, vec![1], PATIENCE).await;
    let Err(TransportError::Refused {
        node: 2, reason, ..
    }) = &refusal
    else {
        panic!("{refusal:?}");
    };
    assert!(
        reason.contains("version 9") && reason.contains("version 1"),
        "{reason}"
    );
    answering.await.expect("the connection was closed");
}
