//! What a leader and its followers do with entries that are on their way to a disk.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use common::cluster::{Node, PATIENCE, still};
use common::{CounterMachine, add, counters};
use folio_raft::ReadLevel;
use folio_raft::transport::MemoryNetwork;
use folio_store::Database;
use folio_store::storage::{MemoryStorage, Storage};
use parking_lot::{Condvar, Mutex};

/// How long it is watched that something does not happen. What is wrong happens at once.
const WATCHED: Duration = Duration::from_millis(300);

/// A disk whose syncs can be held up.
#[derive(Debug, Default)]
struct Held {
    inner: MemoryStorage,
    held: Mutex<bool>,
    released: Condvar,
}

impl Held {
    fn hold(&self, held: bool) {
        *self.held.lock() = held;
        self.released.notify_all();
    }
}

impl Storage for Held {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        self.inner.write_at(offset, buffers)
    }

    fn sync(&self) -> io::Result<()> {
        let mut held = self.held.lock();
        self.released.wait_while(&mut held, |held| *held);
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        self.inner.grow(from, to)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }

    fn name(&self) -> String {
        "a disk that is held up".to_owned()
    }
}

/// Node 1, which leads, and its followers, in which nothing happens by itself.
struct Nodes {
    disks: Vec<Arc<Held>>,
    nodes: Vec<Node>,
    /// The last entry that all of them have applied.
    last: u64,
}

impl Nodes {
    async fn start() -> Self {
        let network = MemoryNetwork::new();
        let (mut disks, mut nodes) = (Vec::new(), Vec::new());
        for id in 1..=3 {
            let disk = Arc::new(Held::default());
            let database = Database::builder().create_on(disk.clone()).unwrap();
            let transport = network.transport();
            let node = Node::start(still(), id, database, CounterMachine, transport);
            nodes.push(node.await.unwrap());
            disks.push(disk);
        }
        let members = (1..=3).map(|id| (id, format!("memory:{id}")));
        let members: BTreeMap<_, _> = members.collect();
        nodes[0].initialize(members).await.unwrap();
        nodes[0].wait_for_leader(PATIENCE).await.unwrap();
        let last = nodes[0].write(add("first", 1)).await.unwrap().index;
        for node in &nodes {
            node.wait_for_applied(last, PATIENCE).await.unwrap();
        }
        Self { disks, nodes, last }
    }

    fn hold(&self, of: impl IntoIterator<Item = usize>, held: bool) {
        of.into_iter().for_each(|node| self.disks[node].hold(held));
    }

    async fn has_entry(&self, node: usize, index: u64) {
        let has = self.nodes[node].wait_for("the entry", PATIENCE, |s| s.last_log >= Some(index));
        has.await.unwrap();
    }

    async fn a_follower_has(&self, index: u64) {
        tokio::select! {
            () = self.has_entry(1, index) => {}
            () = self.has_entry(2, index) => {}
        }
    }

    async fn sees(&self, node: usize) -> Vec<(String, u64)> {
        let seen = self.nodes[node].read(ReadLevel::Local, counters);
        seen.await.unwrap()
    }

    async fn end(self) {
        for node in self.nodes {
            node.kill().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_an_entry_while_the_leader_flushes_it_and_nobody_is_told_before_it_has() {
    let cluster = Nodes::start().await;
    cluster.hold([0], true);
    let leader = cluster.nodes[0].clone();
    let mut write = tokio::spawn(async move { leader.write(add("second", 2)).await });
    // What would tell the other follower may tell it of the commit already, and waits then.
    cluster.a_follower_has(cluster.last + 1).await;
    // That follower has it on its disk, and the leader counts itself: a majority.
    let early = tokio::time::timeout(WATCHED, &mut write).await;
    assert!(early.is_err(), "answered: {early:?}");
    for node in 0..3 {
        assert_eq!(
            cluster.sees(node).await,
            [("first".to_owned(), 1)],
            "{node}"
        );
    }
    cluster.hold([0], false);
    let written = write.await.unwrap().unwrap();
    for node in &cluster.nodes {
        node.wait_for_applied(written.index, PATIENCE)
            .await
            .unwrap();
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_only_the_leader_has_flushed_is_not_answered() {
    let cluster = Nodes::start().await;
    cluster.hold([1, 2], true);
    let leader = cluster.nodes[0].clone();
    let mut write = tokio::spawn(async move { leader.write(add("second", 2)).await });
    for follower in [1, 2] {
        cluster.has_entry(follower, cluster.last + 1).await;
    }
    let early = tokio::time::timeout(WATCHED, &mut write).await;
    assert!(early.is_err(), "answered: {early:?}");
    assert_eq!(cluster.sees(0).await, [("first".to_owned(), 1)]);
    // One of them is enough.
    cluster.hold([2], false);
    write.await.unwrap().unwrap();
    cluster.hold([1], false);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_come_while_another_is_flushed_follow_it() {
    let cluster = Nodes::start().await;
    cluster.hold([0], true);
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..50 {
        let leader = cluster.nodes[0].clone();
        writes.spawn(async move { leader.write(add("many", number)).await });
        tokio::task::yield_now().await;
    }
    cluster.a_follower_has(cluster.last + 1).await;
    cluster.hold([0], false);
    let mut last = 0;
    while let Some(written) = writes.join_next().await {
        last = written.unwrap().unwrap().index.max(last);
    }
    let expected = [("first".to_owned(), 1), ("many".to_owned(), (0..50).sum())];
    for node in 0..3 {
        let applied = cluster.nodes[node].wait_for_applied(last, PATIENCE);
        applied.await.unwrap();
        assert_eq!(cluster.sees(node).await, expected);
    }
    cluster.end().await;
}
