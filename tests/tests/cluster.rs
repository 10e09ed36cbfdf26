//! A bank on three nodes that talk TCP, while its leaders are killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use folio_ledger::command::Command;
use folio_ledger::response::{Rejection, Response};
use folio_ledger::transaction::{Requirement, Transaction};
use folio_ledger::{Ledger, LedgerView};
use folio_raft::transport::{NetworkConfig, TcpTransport};
use folio_raft::{Config, NodeId, ReadLevel, ReplicatedDatabase, Role};
use folio_store::storage::SplitMix64;
use folio_store::{Database, ReadTransaction};
use folio_tests::contents::Contents;
use tempfile::TempDir;
use tokio::sync::watch;

/// Far above what any step takes: it ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);
const ACCOUNTS: u64 = 8;
const OPENING: u64 = 1_000;
const CLIENTS: u64 = 6;
const KILLS: u64 = 3;
/// Transfers acknowledged between two steps of the one who kills.
const STRIDE: u64 = 40;

type Node = ReplicatedDatabase<Ledger>;
type Nodes = BTreeMap<NodeId, Node>;

struct Cluster {
    directory: TempDir,
    addresses: BTreeMap<NodeId, String>,
    running: watch::Sender<Nodes>,
}

impl Cluster {
    async fn start() -> Self {
        let mut cluster = Self {
            directory: tempfile::tempdir().unwrap(),
            addresses: BTreeMap::new(),
            running: watch::Sender::new(Nodes::new()),
        };
        for id in 1..=3 {
            cluster.bring_up(id).await;
        }
        let first = cluster.running.borrow()[&1].clone();
        first.initialize(cluster.addresses.clone()).await.unwrap();
        cluster
    }

    fn path(&self, id: NodeId) -> std::path::PathBuf {
        self.directory.path().join(format!("{id}.folio"))
    }

    async fn bring_up(&mut self, id: NodeId) {
        let address = self.addresses.get(&id).cloned();
        let address = address.unwrap_or_else(|| "127.0.0.1:0".to_owned());
        let transport = TcpTransport::bind(&address, NetworkConfig::new("bank")).await;
        let transport = transport.unwrap();
        self.addresses
            .insert(id, transport.local_address().to_string());
        let config = Config {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout_min: Duration::from_millis(300),
            election_timeout_max: Duration::from_millis(600),
            write_timeout: Duration::from_secs(3),
            ..Config::default()
        };
        let database = Database::builder().open_or_create(self.path(id)).unwrap();
        let node = Node::start(config, id, database, Ledger, transport).await;
        let node = node.unwrap();
        self.running.send_modify(|nodes| {
            nodes.insert(id, node);
        });
    }

    async fn kill(&self, id: NodeId) {
        let mut node = None;
        self.running.send_modify(|nodes| node = nodes.remove(&id));
        node.unwrap().kill().await;
    }
}

/// The running node that leads in the newest term, once there is one.
async fn leader(running: &watch::Receiver<Nodes>) -> (NodeId, Node) {
    loop {
        let nodes = running.borrow().clone();
        let leading = nodes
            .iter()
            .filter(|(_, n)| n.status().role == Role::Leader);
        if let Some((id, node)) = leading.max_by_key(|(_, node)| node.status().term) {
            return (*id, node.clone());
        }
        // Its status changes when it hears of a leader; looking again early does no harm.
        let some = nodes.values().next().unwrap();
        let known = |leader| nodes.contains_key(&leader);
        let wait = some.wait_for("a leader", PATIENCE, |s| s.leader.is_some_and(known));
        let _ = wait.await;
        tokio::task::yield_now().await;
    }
}

/// Sends a command to whoever leads until it is answered.
async fn answered(running: &watch::Receiver<Nodes>, command: &Command) -> Response {
    loop {
        if let Ok(written) = leader(running).await.1.write(command.clone()).await {
            return written.response;
        }
    }
}

async fn read<R: Send + 'static>(
    running: &watch::Receiver<Nodes>,
    read: impl Fn(&ReadTransaction) -> R + Clone + Send + 'static,
) -> R {
    loop {
        if let Ok(result) = leader(running)
            .await
            .1
            .read(ReadLevel::Linearizable, read.clone())
            .await
        {
            return result;
        }
    }
}

fn account(number: u64) -> Vec<u8> {
    format!("account/{number}").into_bytes()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

/// Version and balance of each account.
fn balances(view: &ReadTransaction) -> Vec<(u64, u64)> {
    let ledger = LedgerView::new(view);
    let accounts = ledger.entities(1, b"account/", None, 100).unwrap();
    let balances = accounts
        .items
        .iter()
        .map(|(_, e)| (e.version, number(&e.value)));
    balances.collect()
}

fn total(balances: &[(u64, u64)]) -> u64 {
    balances.iter().map(|(_, balance)| balance).sum()
}

#[derive(Clone, Copy)]
struct Transfer {
    from: usize,
    to: usize,
    amount: u64,
}

/// Transfers until it is told to stop; gives what was acknowledged, by the key of its record.
async fn client(
    seed: u64,
    running: watch::Receiver<Nodes>,
    acknowledged: watch::Sender<u64>,
    stop: watch::Receiver<bool>,
) -> Vec<(Vec<u8>, Transfer)> {
    let mut random = SplitMix64::new(seed);
    let Response::SessionOpened { session } = answered(&running, &Command::open_session()).await
    else {
        panic!("no session")
    };
    let mut done: Vec<(Vec<u8>, Transfer)> = Vec::new();
    for sequence in 1.. {
        if *stop.borrow() {
            break;
        }
        let newest = done.last().map(|(key, _)| key.clone());
        let (accounts, newest_is_there) = read(&running, move |view| {
            let ledger = LedgerView::new(view);
            let there = newest
                .as_ref()
                .is_none_or(|key| ledger.entity(1, key).unwrap().is_some());
            (balances(view), there)
        })
        .await;
        assert!(newest_is_there, "a read missed an acknowledged transfer");
        assert_eq!(total(&accounts), ACCOUNTS * OPENING);
        let from = random.below(ACCOUNTS) as usize;
        let to = (from + 1 + random.below(ACCOUNTS - 1) as usize) % ACCOUNTS as usize;
        let amount = random.below(accounts[from].1 + 1);
        let record = format!("transfer/{session}/{sequence}").into_bytes();
        let set = |place: usize| account(place as u64);
        let transfer = Transaction::new(1)
            .require_entity(set(from), Requirement::VersionIs(accounts[from].0))
            .require_entity(set(to), Requirement::VersionIs(accounts[to].0))
            .set(set(from), (accounts[from].1 - amount).to_be_bytes())
            .set(set(to), (accounts[to].1 + amount).to_be_bytes())
            .set(record.clone(), amount.to_be_bytes());
        let command = Command::submit(transfer).in_session(session, sequence);
        match answered(&running, &command).await {
            Response::Committed(_) => {
                done.push((record, Transfer { from, to, amount }));
                acknowledged.send_modify(|count| *count += 1);
            }
            Response::Rejected(Rejection::ConditionFailed { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_transfer_happens_exactly_once_while_leaders_are_killed() {
    const SEED: u64 = 11;
    println!("seed {SEED}");
    let mut cluster = Cluster::start().await;
    let running = cluster.running.subscribe();
    answered(&running, &Command::create_vault("bank")).await;
    let opening = (0..ACCOUNTS).fold(Transaction::new(1), |opening, number| {
        opening.set(account(number), OPENING.to_be_bytes())
    });
    let Response::SessionOpened { session } = answered(&running, &Command::open_session()).await
    else {
        panic!("no session")
    };
    answered(&running, &Command::submit(opening).in_session(session, 1)).await;

    let (acknowledged, stop) = (watch::Sender::new(0), watch::Sender::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (running, stop) = (running.clone(), stop.subscribe());
        clients.spawn(client(SEED + number, running, acknowledged.clone(), stop));
    }
    let mut progress = acknowledged.subscribe();
    for _ in 0..KILLS {
        for node_is_up in [true, false] {
            let goal = *progress.borrow() + STRIDE;
            let reached = progress.wait_for(|count| *count >= goal);
            tokio::time::timeout(PATIENCE, reached)
                .await
                .unwrap()
                .unwrap();
            if node_is_up {
                let (leading, _) = leader(&running).await;
                cluster.kill(leading).await;
            } else {
                let up = |id: &u64| cluster.running.borrow().contains_key(id);
                let down = (1..=3).find(|id| !up(id)).unwrap();
                cluster.bring_up(down).await;
            }
        }
    }
    stop.send_replace(true);
    let done: Vec<_> = clients.join_all().await.into_iter().flatten().collect();

    let mut expected = vec![OPENING; ACCOUNTS as usize];
    for (_, Transfer { from, to, amount }) in &done {
        expected[*from] = expected[*from].wrapping_sub(*amount);
        expected[*to] = expected[*to].wrapping_add(*amount);
    }
    let found: Vec<_> = read(&running, balances).await;
    let found: Vec<_> = found.into_iter().map(|(_, balance)| balance).collect();
    assert_eq!(found, expected);

    let (_, leading) = leader(&running).await;
    let last = leading.status().last_log.unwrap();
    let nodes = running.borrow().clone();
    assert_eq!(nodes.len(), 3);
    let mut all = Vec::new();
    // All of them before the first one ends: a node that is left alone commits nothing more.
    for node in nodes.values() {
        node.wait_for_applied(last, PATIENCE).await.unwrap();
    }
    for node in nodes.values() {
        all.push(
            node.read(ReadLevel::Local, Contents::verified)
                .await
                .unwrap(),
        );
        let records = node.read(ReadLevel::Local, |view| {
            let records = LedgerView::new(view).entities(1, b"transfer/", None, 10_000);
            records.unwrap().items
        });
        let records: BTreeMap<_, _> = records.await.unwrap().into_iter().collect();
        assert_eq!(records.len(), done.len());
        for (key, transfer) in &done {
            assert_eq!(records[key].version, 1);
            assert_eq!(number(&records[key].value), transfer.amount);
        }
        node.shutdown().await.unwrap();
    }
    for other in &all[1..] {
        all[0].assert_equal(other, "two nodes");
    }
    for id in 1..=3 {
        let database = Database::open(cluster.path(id)).unwrap();
        assert_eq!(database.verify(|_, _| ()).unwrap().problems, []);
    }
}
