//! What clients can hold on to, and what happens to those who send too much, too slowly or nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use common::{Server, free_port, get, send, serve_within, start_cluster};
use folio_node::Limits;
use folio_node::access::Access;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A node with a vault, served within these limits.
async fn served(limits: Limits) -> (tempfile::TempDir, Server, SocketAddr) {
    let directory = tempfile::tempdir().unwrap();
    let server = start_cluster(directory.path(), 1, false).await.remove(0);
    let made = common::post(server.address, "/v1/vaults", &json!({ "name": "v" })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let listener = free_port().await;
    let address = listener.local_addr().unwrap();
    let apis = BTreeMap::new();
    serve_within(limits, listener, &server.node, apis, Access::open());
    (directory, server, address)
}

/// A connection on which so much was sent.
async fn connected(address: SocketAddr, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    stream
}

/// What comes until the node closes the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_or_half_a_request_give_way_to_others() {
    let limits = Limits {
        connections: 4,
        ..Limits::default()
    };
    let (_directory, _server, address) = served(limits).await;
    let half = "GET /v1/status HTTP/1.1\r\nHost: t\r\nX: ";
    let whole = "GET /v1/status HTTP/1.1\r\nHost: t\r\n\r\n";
    // The third has been answered, and keeps its connection.
    let mut third = connected(address, whole).await;
    third.read_u8().await.unwrap();
    let mut slow = Vec::new();
    for n in 0..50 {
        slow.push(connected(address, if n % 2 == 0 { "" } else { half }).await);
        let answer = get(address, "/v1/status").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for stream in slow.drain(..40) {
        assert_eq!(rest(stream).await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_connections_are_at_work_another_is_told_to_come_back() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let (_directory, server, address) = served(limits).await;
    let follow = "GET /v1/vaults/1/changes HTTP/1.1\r\nHost: t\r\n\r\n";
    let mut feeds = Vec::new();
    for _ in 0..2 {
        let mut feed = connected(address, follow).await;
        feed.read_u8().await.unwrap();
        feeds.push(feed);
    }
    let refused = get(address, "/v1/status").await;
    assert_eq!(
        (refused.status, refused.code()),
        (503, "too_many_connections")
    );
    assert_eq!(refused.headers["retry-after"], "1");
    // One of them ends, and its place is free.
    drop(feeds.pop());
    let mut answer = get(address, "/v1/status").await;
    while answer.status == 503 {
        // The node learns of it when it has something to send.
        let set = json!({ "operations": [{ "set": { "key": "a", "value": "" } }] });
        common::post(server.address, "/v1/vaults/1/transactions", &set).await;
        answer = get(address, "/v1/status").await;
    }
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_and_a_next_request_that_does_not_are_not_waited_for() {
    let limits = Limits {
        waiting: Duration::from_millis(200),
        ..Limits::default()
    };
    let (_directory, _server, address) = served(limits).await;
    for sent in [
        "",
        "GET /v1/status HTT",
        "GET /v1/status HTTP/1.1\r\nHost: t\r\nX: y\r\n",
    ] {
        let answer = rest(connected(address, sent).await).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let whole = "GET /v1/status HTTP/1.1\r\nHost: t\r\n\r\n";
    let answer = rest(connected(address, whole).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_are_refused() {
    let (_directory, _server, address) = served(Limits::default()).await;
    let head = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n")
    };
    let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    let answer = rest(connected(address, &head("/v1/status", &many)).await).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let some: String = (0..50).map(|n| format!("X-{n}: y\r\n")).collect();
    let answer = rest(connected(address, &head("/v1/status", &some)).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut stream = TcpStream::connect(address).await.unwrap();
    let large = head("/v1/status", &format!("X: {}\r\n", "y".repeat(200_000)));
    // It may stop reading, and close, before all is sent.
    drop(stream.write_all(large.as_bytes()).await);
    let answer = rest(stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );

    let path = |length: usize| format!("/v1/vaults/1/entities/{}", "k".repeat(length));
    let long = send(address, &head(&path(33_000), "")).await;
    assert_eq!((long.status, long.code()), (414, "uri_too_long"));
    let key = send(address, &head(&path(1000), "")).await;
    assert_eq!((key.status, key.code()), (404, "entity_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_any_depth_is_answered() {
    let (_directory, _server, address) = served(Limits::default()).await;
    for depth in [10, 1000, 1_000_000] {
        for open in ["[", "{\"a\":", "{\"operations\":[{\"set\":{\"key\":"] {
            let body = open.repeat(depth.min(8_000_000 / open.len()));
            let path = "/v1/vaults/1/transactions";
            let answer = common::post_as(address, path, "application/json", &body).await;
            assert_eq!((answer.status, answer.code()), (400, "malformed_request"));
        }
    }
}
