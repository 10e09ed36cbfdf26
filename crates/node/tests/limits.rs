//! What clients can hold on to, and what happens to those who send too much, too slowly or nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/authority.rs"]
mod authority;
mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use authority::Authority;
use common::{
    PATIENCE, Server, free_port, get, send, serve_within, start_cluster, start_node, until,
};
use folio_node::access::Access;
use folio_node::{Limits, api, serve};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Limits of time that no test reaches.
const PATIENT: Limits = {
    let never = Duration::from_secs(60 * 60);
    Limits {
        connections: 1024,
        handshake: never,
        waiting: never,
        body: never,
        body_bytes: 64 << 20,
        stalled: never,
    }
};

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
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    match read.await.expect("the connection is closed") {
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
        ..PATIENT
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
    // Two more are there in any case.
    for (count, status) in [(62, "200"), (63, "431"), (500, "431")] {
        let headers: String = (0..count).map(|n| format!("X-{n}: y\r\n")).collect();
        let answer = rest(connected(address, &head("/v1/status", &headers)).await).await;
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&expected), "{count}: {answer}");
    }

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

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let limits = Limits {
        handshake: Duration::from_millis(200),
        ..PATIENT
    };
    let directory = tempfile::tempdir().unwrap();
    let node = start_node(directory.path(), 1).await;
    let authority = Authority::new(&directory.path().join("certificates"));
    let listener = free_port().await;
    let address = listener.local_addr().unwrap();
    let router = api::router(node, BTreeMap::new(), Access::open(), &limits);
    let tls = Some(authority.node(1));
    tokio::spawn(serve(listener, router, tls, limits, std::future::pending()));
    // The beginning of a hello.
    for sent in ["", "\u{16}", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}"] {
        assert_eq!(rest(connected(address, sent).await).await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_take_the_answers_is_given_up() {
    let limits = Limits {
        stalled: Duration::from_millis(200),
        ..PATIENT
    };
    let (_directory, _server, address) = served(limits).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    // Many times what the system keeps for a socket.
    let request = "GET /v1/openapi.json HTTP/1.1\r\nHost: t\r\n\r\n";
    stream
        .write_all(request.repeat(200).as_bytes())
        .await
        .unwrap();
    stream.readable().await.unwrap();
    // Nobody reads what is sent from now on, until nothing can be sent any more.
    until("the node closes the connection", async || {
        stream
            .try_write(b" ")
            .is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
    })
    .await;
}

/// The head of a request with a body of this length.
fn announced(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_answered_408() {
    let limits = Limits {
        body: Duration::from_millis(200),
        ..PATIENT
    };
    let (_directory, _server, address) = served(limits).await;
    let path = "/v1/vaults/1/transactions";
    let chunked =
        format!("POST {path} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n");
    for sent in [announced(path, 100), announced(path, 100) + "{", chunked] {
        let answer = rest(connected(address, &sent).await).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("\"code\":\"body_timeout\""), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bodies_of_all_requests_together_have_a_bound() {
    let limits = Limits {
        body_bytes: 100_000,
        ..PATIENT
    };
    let (_directory, _server, address) = served(limits).await;
    let path = "/v1/vaults/1/transactions";
    let submit = async |length: usize| {
        let value = "x".repeat(length);
        let body = json!({ "operations": [{ "set": { "key": "a", "value": value } }] });
        common::post(address, path, &body).await
    };
    let alone = submit(90_000).await;
    assert_eq!(alone.status, 200, "{alone:?}");
    let mut held = Vec::new();
    for _ in 0..2 {
        let begun = announced(path, 50_000) + &"x".repeat(30_000);
        held.push(connected(address, &begun).await);
    }
    // What is announced does not count, what has come does.
    until("both have their room", async || {
        submit(90_000).await.status == 503
    })
    .await;
    let refused = submit(60_000).await;
    assert_eq!((refused.status, refused.code()), (503, "too_many_bytes"));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(get(address, "/v1/status").await.status, 200);
    assert_eq!(submit(30_000).await.status, 200);
    held.pop();
    until("a client that is gone holds nothing", async || {
        submit(60_000).await.status == 200
    })
    .await;
    // The other is answered when it has come whole, and holds nothing any more.
    let mut last = held.pop().unwrap();
    last.write_all(&[b'x'; 20_000]).await.unwrap();
    last.read_u8().await.unwrap();
    until("what is answered holds nothing", async || {
        submit(90_000).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_need_not_say_who_it_is_may_send_little() {
    let (_directory, _server, address) = served(PATIENT).await;
    for path in ["/v1/join", "/v1/join/7"] {
        let large = json!({ "invitation": "x".repeat(40_000), "address": "a:1" });
        let refused = common::post(address, path, &large).await;
        assert_eq!((refused.status, refused.code()), (413, "too_large"));
        let small = json!({ "invitation": "x".repeat(30_000), "address": "a:1" });
        // What it says is looked at.
        let refused = common::post(address, path, &small).await;
        assert!([400, 403].contains(&refused.status), "{refused:?}");
        // The same without saying how long it is.
        let chunk = "x".repeat(40_000);
        let chunked = format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{chunk}\r\n0\r\n\r\n",
            chunk.len()
        );
        let refused = send(address, &chunked).await;
        assert_eq!((refused.status, refused.code()), (413, "too_large"));
    }
}
