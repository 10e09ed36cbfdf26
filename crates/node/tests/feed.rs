//! The feed of a vault over HTTP: resumed anywhere, it misses and repeats nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;

use common::{PATIENCE, applied, get, leader, post, send, start_cluster};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// An open feed.
struct Feed {
    stream: BufReader<TcpStream>,
    status: u16,
    /// What came and was not yet taken, without the frames of the transfer.
    text: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Feed {
    async fn open(address: SocketAddr, query: &str, last: Option<&str>) -> Feed {
        Feed::open_at(address, &format!("/v1/vaults/1/changes{query}"), last).await
    }

    async fn open_at(address: SocketAddr, path: &str, last: Option<&str>) -> Feed {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        while !line.trim().is_empty() {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
        }
        Feed {
            stream,
            status,
            text: String::new(),
        }
    }

    /// The next event; `None` at the end of the feed.
    async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.text = rest;
                    // A comment keeps the connection alive.
                    if !event.starts_with(':') {
                        return Some(parse(&event));
                    }
                } else {
                    let chunk = self.chunk().await?;
                    self.text += &chunk;
                }
            }
        })
        .await
        .unwrap()
    }

    async fn chunk(&mut self) -> Option<String> {
        let mut length = String::new();
        if self.stream.read_line(&mut length).await.ok()? == 0 {
            return None;
        }
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).await.ok()?;
        bytes.truncate(length);
        (length > 0).then(|| String::from_utf8(bytes).unwrap())
    }
}

fn parse(text: &str) -> Event {
    let field = |name: &str| {
        let lines = text.lines();
        let mut found = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.next().map(str::to_owned)
    };
    Event {
        name: field("event").unwrap(),
        id: field("id"),
        data: serde_json::from_str(&field("data").unwrap()).unwrap(),
    }
}

async fn create_vault(address: SocketAddr) {
    let created = post(address, "/v1/vaults", &json!({ "name": "v" })).await;
    assert_eq!(created.status, 201, "{created:?}");
}

async fn set(address: SocketAddr, number: u64, value: &str) {
    let key = format!("{number:04}");
    let operations = json!({ "operations": [{ "set": { "key": key, "value": value } }] });
    let done = post(address, "/v1/vaults/1/transactions", &operations).await;
    assert_eq!(done.status, 200, "{done:?}");
}

/// The keys that the transactions of the events set.
fn keys(events: &[Event]) -> Vec<u64> {
    let transactions = events.iter().filter(|event| event.name == "transaction");
    transactions
        .map(|event| {
            let key = event.data["operations"][0]["set"]["key"].as_str();
            key.unwrap().parse().unwrap()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_has_the_past_and_then_the_present() {
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 1, true).await;
    let address = servers[0].address;
    create_vault(address).await;
    set(address, 1, "before").await;
    let mut feed = Feed::open(address, "", None).await;
    assert_eq!(feed.status, 200);
    let creation = feed.next().await.unwrap();
    assert_eq!(
        (&creation.name[..], creation.id.as_deref()),
        ("block", Some("0"))
    );
    let first = feed.next().await.unwrap();
    assert_eq!(first.id.as_deref(), Some("1.0"));
    assert_eq!(
        first.data["outcomes"][0],
        json!({ "outcome": "entity_created", "version": 1 })
    );
    let block = feed.next().await.unwrap();
    let head = get(address, "/v1/vaults/1").await.body;
    assert_eq!(block.data["hash"], head["block_hash"]);

    for number in 2..5 {
        set(address, number, "now").await;
        let event = feed.next().await.unwrap();
        assert_eq!(keys(&[event]), [number]);
        assert_eq!(feed.next().await.unwrap().id, Some(number.to_string()));
    }
    let mut later = Feed::open(address, "?from=4", None).await;
    assert_eq!(later.next().await.unwrap().id.as_deref(), Some("4.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_breaks_off_anywhere_goes_on_at_any_node() {
    const WRITES: u64 = 60;
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 3, true).await;
    let leading = leader(&servers).await;
    let address = leading.address;
    create_vault(address).await;
    let index = leading.node.ledger().status().last_log.unwrap();
    applied(&servers, index).await;
    let writer = tokio::spawn(async move {
        for number in 0..WRITES {
            set(address, number, "value").await;
        }
    });
    let mut seen: Vec<Event> = Vec::new();
    let mut visits = 0;
    while keys(&seen).len() < WRITES as usize {
        let last = seen.last().and_then(|event| event.id.clone());
        let node = &servers[visits % servers.len()];
        let mut feed = Feed::open(node.address, "?read=local", last.as_deref()).await;
        for _ in 0..=visits % 4 {
            seen.push(feed.next().await.unwrap());
        }
        visits += 1;
    }
    writer.await.unwrap();
    assert_eq!(keys(&seen), (0..WRITES).collect::<Vec<_>>());
    let mut ids: Vec<_> = seen.iter().map(|event| event.id.clone().unwrap()).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "an event came twice");
    assert!(visits > 20, "{visits} visits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_makes_the_node_read_no_further() {
    const WRITES: u64 = 300;
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 1, true).await;
    let address = servers[0].address;
    create_vault(address).await;
    let mut feed = Feed::open(address, "", None).await;
    let value = "x".repeat(100_000);
    for number in 0..WRITES {
        set(address, number, &value).await;
    }
    let metrics = get(address, "/metrics").await;
    let text = metrics.body.as_str().unwrap();
    let number = |name: &str| -> u64 {
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next().unwrap().parse().unwrap()
    };
    assert_eq!(number("folio_feeds"), 1);
    // What the sockets hold is far less than 30 MB.
    let handed = number("folio_feed_events_total");
    assert!(
        handed < WRITES,
        "{handed} events were made of {}",
        2 * WRITES
    );
    let mut seen = Vec::new();
    while keys(&seen).last() != Some(&(WRITES - 1)) {
        seen.push(feed.next().await.unwrap());
    }
    assert_eq!(keys(&seen), (0..WRITES).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_ends_with_its_vault_and_with_its_node() {
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 1, true).await;
    let address = servers[0].address;
    create_vault(address).await;
    let mut feed = Feed::open(address, "?from=1", None).await;
    let delete = "DELETE /v1/vaults/1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    assert_eq!(send(address, delete).await.status, 200);
    assert_eq!(feed.next().await.unwrap().name, "vault_deleted");
    assert_eq!(feed.next().await, None);
    assert_eq!(Feed::open(address, "", Some("0")).await.status, 410);

    create_vault(address).await;
    let mut other = Feed::open_at(address, "/v1/vaults/2/changes", None).await;
    assert_eq!(other.next().await.unwrap().name, "block");
    servers[0].node.end_streams();
    assert_eq!(other.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_feed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 1, true).await;
    let address = servers[0].address;
    assert_eq!(Feed::open(address, "", None).await.status, 404);
    create_vault(address).await;
    for wrong in ["x", "1.", "-1", "1.2.3"] {
        assert_eq!(
            Feed::open(address, "", Some(wrong)).await.status,
            400,
            "{wrong}"
        );
    }
    assert_eq!(Feed::open(address, "?since=1", None).await.status, 400);
    let mut feeds = Vec::new();
    loop {
        let feed = Feed::open(address, "", None).await;
        if feed.status == 503 {
            break;
        }
        assert_eq!(feed.status, 200);
        feeds.push(feed);
        assert!(feeds.len() <= 256);
    }
    assert_eq!(feeds.len(), 256);
    feeds.pop();
    while Feed::open(address, "", None).await.status == 503 {}
}
