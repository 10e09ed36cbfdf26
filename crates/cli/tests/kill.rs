//! Three processes whose leaders are killed, or which are restarted one after the other, under load: every write that a
//! client was answered is there at the end, once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::served::{FOLIO, Served, Three, host};
use common::{folio, text};
use folio_client::api::Must;
use folio_client::{Client, ReadLevel, Settings, transaction};
use tokio::task::JoinSet;

/// One cluster at a time: each has the addresses of this process.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How many clients write at a time.
const WRITERS: u64 = 4;

fn client() -> Client {
    let apis = (1..=3).map(|id| format!("http://{}:7001", host(id)));
    let settings = Settings::new(apis).unwrap();
    Client::new(
        settings
            .deadline(Duration::from_secs(120))
            .patience(Duration::from_secs(2)),
    )
    .unwrap()
}

/// Clients that write until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    /// The keys that each of them was answered, with the heights.
    writers: JoinSet<BTreeMap<String, u64>>,
}

impl Load {
    fn start(vault: u64) -> Self {
        let mut load = Load {
            stop: Arc::default(),
            answered: Arc::default(),
            writers: JoinSet::new(),
        };
        for writer in 0..WRITERS {
            let (stop, answered) = (load.stop.clone(), load.answered.clone());
            load.writers.spawn(async move {
                let mut written = BTreeMap::new();
                let mut session = client().open_session().await.unwrap();
                for number in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("{writer}/{number}");
                    // A write that is carried out twice fails the second time.
                    let write = transaction()
                        .require(key.as_str(), Must::NotExist)
                        .set(key.as_str(), number.to_string());
                    let receipt = session.submit(vault, &write).await.unwrap();
                    written.insert(key, receipt.height);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                written
            });
        }
        load
    }

    /// Waits until so many more writes were answered.
    async fn go_on(&self, count: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        while self.answered.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the clients and compares what they were answered with what there is.
    async fn check(mut self, vault: u64) {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = BTreeMap::new();
        while let Some(writer) = self.writers.join_next().await {
            written.extend(writer.unwrap());
        }
        let client = client();
        let found = client
            .entities(vault, "", ReadLevel::Linearizable)
            .limit(1000)
            .all()
            .await
            .unwrap();
        let found: BTreeMap<_, _> = found
            .into_iter()
            .map(|entity| (entity.key.as_text().unwrap().to_owned(), entity.version))
            .collect();
        for key in written.keys() {
            assert_eq!(
                found.get(key),
                Some(&1),
                "{key} was answered and is not there once"
            );
        }
        assert_eq!(
            found.len(),
            written.len(),
            "nothing is there that nobody was told of"
        );
        assert_eq!(written.len() as u64, self.answered.load(Ordering::Relaxed));
    }
}

/// A vault of three nodes that serve.
async fn vault() -> u64 {
    let mut session = client().open_session().await.unwrap();
    session.create_vault("load", 0).await.unwrap().vault
}

/// Every file of the cluster is sound, once nobody has it open.
fn verify(mut three: Three) {
    three.nodes.clear();
    for id in 1..=3 {
        let verified = folio(["verify", text(&three.file(id))]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }
}

async fn leader() -> u64 {
    loop {
        if let Some(leader) = client().members().await.unwrap().leader {
            return leader;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_are_killed_lose_nothing_that_was_answered() {
    let _turn = TURN.lock().await;
    let mut three = Three::start(None);
    let vault = vault().await;
    let load = Load::start(vault);
    for _ in 0..4 {
        load.go_on(20).await;
        let old = leader().await;
        let mut node = three.nodes.remove(&old).unwrap();
        node.process.kill().unwrap();
        node.process.wait().unwrap();
        // The two others go on.
        load.go_on(20).await;
        three.bring_up(old);
    }
    load.go_on(20).await;
    load.check(vault).await;
    verify(three);
}

/// With `UPGRADE_FROM` it is a rolling upgrade from the program that it names.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_loses_nothing_and_refuses_nobody() {
    let _turn = TURN.lock().await;
    let before = std::env::var("UPGRADE_FROM").unwrap_or_else(|_| FOLIO.to_owned());
    let mut three = Three::start_by(Path::new(&before), None);
    three.program = FOLIO.into();
    let vault = vault().await;
    let load = Load::start(vault);
    for id in 1..=3 {
        load.go_on(20).await;
        let mut node = three.nodes.remove(&id).unwrap();
        node.terminate();
        assert_eq!(node.process.wait().unwrap().code(), Some(0));
        load.go_on(20).await;
        three.bring_up(id);
        // The next one is stopped when this one has what the others have.
        caught_up(&three, id).await;
    }
    load.check(vault).await;
    verify(three);
}

fn client_of(node: &Served) -> Client {
    Client::new(Settings::new([format!("http://{}", node.address)]).unwrap()).unwrap()
}

/// Waits until a node has applied what any of them had when it was asked.
async fn caught_up(three: &Three, id: u64) {
    let mut goal = None;
    for node in three.nodes.values() {
        goal = goal.max(client_of(node).status().await.unwrap().applied);
    }
    let it = client_of(&three.nodes[&id]);
    while it.status().await.unwrap().applied < goal {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A limit of the process stands for the end of a disk: what is written there fails as it does on a full one.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_room_is_followed_by_another_and_comes_back_by_itself() {
    use rustix::process::Resource;
    let _turn = TURN.lock().await;
    let three = Three::start(None);
    let vault = vault().await;
    let load = Load::start(vault);
    load.go_on(20).await;
    let full = leader().await;
    let node = &three.nodes[&full];
    let length = std::fs::metadata(three.file(full)).unwrap().len();
    node.limit(Resource::Fsize, Some(length));
    let it = client_of(node);
    while it.status().await.unwrap().disk_full.is_none() {
        load.go_on(20).await;
    }
    load.go_on(100).await;
    for (id, node) in &three.nodes {
        if *id != full {
            assert_ne!(client_of(node).status().await.unwrap().leader, Some(full));
        }
    }
    node.limit(Resource::Fsize, None);
    caught_up(&three, full).await;
    while it.status().await.unwrap().disk_full.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    load.check(vault).await;
    verify(three);
}

/// Bytes that no peer would send, at the ports of peers and of clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_sends_garbage_is_no_trouble() {
    let _turn = TURN.lock().await;
    let three = Three::start(None);
    let vault = vault().await;
    let load = Load::start(vault);
    let mut greeting = b"FOLIORPC".to_vec();
    greeting.extend(1_u16.to_le_bytes());
    greeting.extend(2_u64.to_le_bytes());
    greeting.extend(1_u64.to_le_bytes());
    greeting.push(5);
    greeting.extend(b"folio");
    let frame = |length: u32, bytes: &[u8]| [&length.to_le_bytes()[..], bytes].concat();
    let hostile = [
        vec![0; 100_000],
        vec![0xff; 100_000],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        greeting[..20].to_vec(),
        [&greeting[..], &frame(u32::MAX, b"x")].concat(),
        [&greeting[..], &frame(4, b"\xff\xff\xff\xff")].concat(),
        [&greeting[..], &frame(0, b"")].concat(),
    ];
    for bytes in &hostile {
        for id in 1..=3 {
            for port in [7101, 7001] {
                let mut stream = TcpStream::connect((host(id), port)).unwrap();
                // It may be cut off in the middle.
                drop(stream.write_all(bytes));
            }
        }
    }
    load.go_on(50).await;
    load.check(vault).await;
    for node in three.nodes.values() {
        let health =
            node.send("GET /v1/health/ready HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    }
    verify(three);
}
