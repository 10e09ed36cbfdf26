//! Copies of a node's file over HTTP, while it runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use common::{PATIENCE, Server, get, post, start_cluster};
use folio_node::offline;
use folio_store::{VerifyOptions, apply_backup, check_backup, unpack_backup};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Copy {
    status: u16,
    headers: BTreeMap<String, String>,
    bytes: Vec<u8>,
}

impl Copy {
    /// The name of its moment, without the quotes.
    fn moment(&self) -> &str {
        self.headers["etag"].trim_matches('"')
    }
}

/// Asks for a copy. The answer has no framing of its own, so it ends with the connection.
async fn ask(address: SocketAddr, query: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /v1/backup{query} HTTP/1.0\r\nHost: test\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn copy(address: SocketAddr, query: &str, headers: &str) -> Copy {
    let mut stream = ask(address, query, headers).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.unwrap();
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let (first, rest) = head.split_once("\r\n").unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_lowercase(), value.to_owned())
    };
    Copy {
        status: first.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: rest.lines().map(header).collect(),
        bytes: answer[end + 4..].to_vec(),
    }
}

async fn write(server: &Server, from: u64, count: u64) {
    for number in from..from + count {
        let body = json!({ "operations": [{ "set": { "key": format!("key {number}"), "value": "x".repeat(2000) } }] });
        let answer = post(server.address, "/v1/vaults/1/transactions", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

async fn begin(directory: &std::path::Path) -> Server {
    let server = start_cluster(directory, 1, true).await.remove(0);
    let created = post(server.address, "/v1/vaults", &json!({ "name": "first" })).await;
    assert_eq!(created.status, 201, "{created:?}");
    write(&server, 0, 50).await;
    server
}

async fn copy_when_there_is_a_place(server: &Server) -> Copy {
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        let copied = copy(server.address, "", "").await;
        if copied.status == 200 {
            return copied;
        }
        if tokio::time::Instant::now() > patience {
            // What is still read would keep the test from its end.
            server.node.end_streams();
            panic!("its place stays taken");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_running_node_and_what_changed_since_are_what_it_had() {
    let directory = tempfile::tempdir().unwrap();
    let server = begin(directory.path()).await;
    let whole = copy(server.address, "", "").await;
    assert_eq!(whole.status, 200, "{:?}", whole.headers);
    assert_eq!(
        whole.headers["content-length"],
        whole.bytes.len().to_string()
    );
    check_backup(whole.bytes.as_slice()).unwrap();
    write(&server, 50, 10).await;
    let changes = copy(server.address, &format!("?since={}", whole.moment()), "").await;
    assert_eq!(changes.status, 200, "{:?}", changes.headers);
    let contents = check_backup(changes.bytes.as_slice()).unwrap();
    assert!(contents.base.is_some());

    let file = directory.path().join("copy.folio");
    unpack_backup(whole.bytes.as_slice(), &file).unwrap();
    let heights = |height: u64| {
        let report = offline::verify(&file, VerifyOptions::new(), &mut |_, _, _| {}).unwrap();
        assert_eq!(report.problems, [""; 0]);
        assert_eq!(report.vaults[0].height, height);
    };
    heights(50);
    apply_backup(&file, changes.bytes.as_slice()).unwrap();
    heights(60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_was_interrupted_goes_on_with_the_same_copy_while_the_node_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = begin(directory.path()).await;
    let mut cut = ask(server.address, "", "").await;
    let mut first = [0; 5000];
    cut.read_exact(&mut first).await.unwrap();
    drop(cut);
    let whole = copy(server.address, "", "").await;
    let moment = whole.moment().to_owned();
    // The pages of that moment stay, whatever is written.
    write(&server, 0, 50).await;
    for from in [1, 4096, whole.bytes.len() / 2, whole.bytes.len() - 1] {
        let headers = format!("Range: bytes={from}-\r\nIf-Range: \"{moment}\"\r\n");
        let rest = copy(server.address, "", &headers).await;
        assert_eq!(rest.status, 206, "{:?}", rest.headers);
        let length = whole.bytes.len();
        let range = format!("bytes {from}-{}/{length}", length - 1);
        assert_eq!(rest.headers["content-range"], range);
        assert_eq!(rest.moment(), moment);
        assert!(rest.bytes == whole.bytes[from..], "from {from}");
    }
    // A range of nobody knows which copy, and one behind its end.
    for headers in [
        "Range: bytes=4096-\r\n".to_owned(),
        format!("Range: bytes={}-\r\nIf-Range: \"{moment}\"\r\n", u64::MAX),
    ] {
        let other = copy(server.address, "", &headers).await;
        assert_eq!(other.status, 200, "{headers}");
        check_backup(other.bytes.as_slice()).unwrap();
    }
    // By now another moment is kept, and the answer says so.
    let headers = format!("Range: bytes=4096-\r\nIf-Range: \"{moment}\"\r\n");
    let other = copy(server.address, "", &headers).await;
    assert_eq!(other.status, 200);
    assert_ne!(other.moment(), moment);
    check_backup(other.bytes.as_slice()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_since_a_copy_of_another_node_are_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, other) = (begin(one.path()).await, begin(two.path()).await);
    let foreign = copy(other.address, "", "").await;
    let refused = get(
        server.address,
        &format!("/v1/backup?since={}", foreign.moment()),
    )
    .await;
    assert_eq!((refused.status, refused.code()), (409, "backup_base"));
    for wrong in ["nonsense", "", "AAAA"] {
        let refused = get(server.address, &format!("/v1/backup?since={wrong}")).await;
        assert_eq!((refused.status, refused.code()), (400, "malformed_request"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_take_their_copies_keep_others_out_only_as_long_as_they_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let server = begin(directory.path()).await;
    // Longer than what goes into sockets and pieces.
    for number in 0..20 {
        let body = json!({ "operations": [{ "set": { "key": format!("long {number}"), "value": "x".repeat(1 << 20) } }] });
        let answer = post(server.address, "/v1/vaults/1/transactions", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = ask(server.address, "", "").await;
        stream.read_exact(&mut [0; 64]).await.unwrap();
        waiting.push(stream);
    }
    let refused = get(server.address, "/v1/backup").await;
    assert_eq!((refused.status, refused.code()), (503, "too_many_backups"));
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    write(&server, 0, 3).await;
    drop(waiting.pop());
    let copied = copy_when_there_is_a_place(&server).await;
    check_backup(copied.bytes.as_slice()).unwrap();

    // A node that stops waits for none of them.
    server.node.end_streams();
    let mut rest = Vec::new();
    let length = waiting[0].read_to_end(&mut rest).await.unwrap_or(0);
    assert!(length < copied.bytes.len(), "it came to its end");
    server.node.ledger().shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_gone_gives_its_place_up_however_slowly_it_wanted_its_copy() {
    let directory = tempfile::tempdir().unwrap();
    let server = begin(directory.path()).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        // At a byte a second a copy takes a day.
        let mut stream = ask(server.address, "?rate=1", "").await;
        stream.read_exact(&mut [0; 64]).await.unwrap();
        waiting.push(stream);
    }
    let refused = get(server.address, "/v1/backup").await;
    assert_eq!((refused.status, refused.code()), (503, "too_many_backups"));
    drop(waiting);
    let copied = copy_when_there_is_a_place(&server).await;
    check_backup(copied.bytes.as_slice()).unwrap();
}
