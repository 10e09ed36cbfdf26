//! Snapshots on their way from node to node: what is lost, cut off, slow or killed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::cluster::{Node, PATIENCE, quick};
use common::{Command, CounterMachine, Counters, add, counters, history};
use folio_raft::snapshot::write_snapshot;
use folio_raft::transport::{
    BoxFuture, Handler, MemoryNetwork, MemoryTransport, Transport, TransportError,
};
use folio_raft::{Config, NodeId, ReadLevel, SnapshotMeta, StateMachine, Vote};
use folio_store::Database;
use folio_store::storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, StorageCall};
use parking_lot::Mutex;
use serde::Deserialize;
use tempfile::NamedTempFile;

/// A step of a transfer, as it is encoded.
#[derive(Clone, Debug, Deserialize)]
enum Step {
    Offer(#[expect(dead_code, reason = "it stands in the message")] SnapshotMeta),
    Part {
        offset: u64,
        last: bool,
        bytes: Vec<u8>,
    },
    Progress,
}

/// The step in a message, and the transfer it belongs to.
fn step_of(message: &[u8]) -> Option<(String, Step)> {
    const SNAPSHOT: u8 = 2;
    let (_version, kind, _vote, transfer, step): (u8, u8, Vote, String, Step) =
        postcard::from_bytes(message).ok()?;
    (kind == SNAPSHOT).then_some((transfer, step))
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Arrives,
    /// The peer never sees it.
    RequestLost,
    /// The peer acts on it, and the sender does not learn that.
    AnswerLost,
    /// It arrives twice.
    Repeated,
    /// Nothing comes back before the deadline.
    Held,
}

type Script = dyn Fn(usize, &Step) -> Fate + Send + Sync;
/// The steps that were sent to each node, with their transfers.
type Seen = Arc<Mutex<BTreeMap<NodeId, Vec<(String, Step)>>>>;

/// A transport that treats the steps of transfers as a script says, by their number on the way to a
/// node, and remembers them.
struct Scripted {
    inner: Arc<MemoryTransport>,
    script: Box<Script>,
    seen: Seen,
}

impl Transport for Scripted {
    fn call<'a>(
        &'a self,
        from: NodeId,
        to: NodeId,
        address: &'a str,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        let Some((transfer, step)) = step_of(&request) else {
            return self.inner.call(from, to, address, request, deadline);
        };
        let number = {
            let mut seen = self.seen.lock();
            let seen = seen.entry(to).or_default();
            seen.push((transfer, step.clone()));
            seen.len() - 1
        };
        let fate = (self.script)(number, &step);
        Box::pin(async move {
            let lost = || TransportError::Unreachable {
                node: to,
                address: address.to_owned(),
                reason: "the script says so".into(),
            };
            let call = |request| self.inner.call(from, to, address, request, deadline);
            match fate {
                Fate::Arrives => call(request).await,
                Fate::RequestLost => Err(lost()),
                Fate::AnswerLost => {
                    call(request).await?;
                    Err(lost())
                }
                Fate::Repeated => {
                    call(request.clone()).await?;
                    call(request).await
                }
                Fate::Held => {
                    tokio::time::sleep(deadline).await;
                    Err(TransportError::TimedOut {
                        node: to,
                        waited: deadline,
                    })
                }
            }
        })
    }

    fn serve(&self, node: NodeId, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        self.inner.serve(node, handler)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.inner.stop()
    }
}

/// Compacts eagerly, and sends a snapshot in many parts.
fn config() -> Config {
    Config {
        snapshot_after_entries: 20,
        log_entries_kept: 5,
        purge_batch: 1,
        snapshot_chunk_bytes: 512,
        snapshot_timeout: Duration::from_secs(1),
        ..quick()
    }
}

async fn start(id: NodeId, database: Database, transport: Arc<dyn Transport>) -> Node {
    Node::start(config(), id, database, CounterMachine, transport)
        .await
        .expect("starts")
}

struct Leader {
    network: MemoryNetwork,
    node: Node,
    seen: Seen,
    last: u64,
}

/// A cluster of one whose log is compacted, and which sends snapshots as `script` says.
async fn leader(script: impl Fn(usize, &Step) -> Fate + Send + Sync + 'static) -> Leader {
    let network = MemoryNetwork::new();
    let seen = Arc::default();
    let transport = Scripted {
        inner: network.transport(),
        script: Box::new(script),
        seen: Arc::clone(&seen),
    };
    let node = start(
        1,
        Database::in_memory().expect("creates"),
        Arc::new(transport),
    )
    .await;
    node.initialize(BTreeMap::from([(1, "memory:1".to_owned())]))
        .await
        .expect("initialized");
    node.wait_for_leader(PATIENCE).await.expect("leads");
    let last = write_until_compacted(&node).await;
    Leader {
        network,
        node,
        seen,
        last,
    }
}

/// Writes entries that compress badly. Returns the last one's index.
async fn write_until_compacted(node: &Node) -> u64 {
    let mut last = 0;
    for number in 0..120u64 {
        let noise = [1, 2, 3].map(|n: u64| (number * 3 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let name = format!("{number} {noise:x?}");
        last = node.write(add(&name, number)).await.expect("written").index;
    }
    node.wait_for("the log to be compacted", PATIENCE, |s| s.purged > Some(5))
        .await
        .expect("compacted");
    last
}

impl Leader {
    /// Adds a new node and waits until it has everything.
    async fn join(&self, id: NodeId) -> Node {
        let database = Database::in_memory().expect("creates");
        let node = start(id, database, self.network.transport()).await;
        self.node
            .add_learner(id, format!("memory:{id}"))
            .await
            .expect("added");
        node.wait_for_applied(self.last, PATIENCE)
            .await
            .expect("it has everything");
        assert_eq!(bytes_of(&node).await, bytes_of(&self.node).await);
        node
    }

    /// The steps that were sent to a node.
    fn seen(&self, to: NodeId) -> Vec<(String, Step)> {
        self.seen.lock().get(&to).cloned().unwrap_or_default()
    }

    /// The parts that were sent to a node, and the offers.
    fn parts_and_offers(&self, to: NodeId) -> (usize, usize) {
        let seen = self.seen(to);
        let is_part = |step: &Step| matches!(step, Step::Part { .. });
        let is_offer = |step: &Step| matches!(step, Step::Offer(_));
        (
            seen.iter().filter(|(_, step)| is_part(step)).count(),
            seen.iter().filter(|(_, step)| is_offer(step)).count(),
        )
    }
}

/// The rows of a node; what else a snapshot says changes when a node joins.
async fn bytes_of(node: &Node) -> (Vec<(String, u64)>, usize) {
    node.read(ReadLevel::Local, |view| {
        (counters(view), history(view).len())
    })
    .await
    .expect("readable")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_sent_once_in_parts_and_with_one_offer() {
    let leader = leader(|_, _| Fate::Arrives).await;
    leader.join(2).await.kill().await;
    let seen = leader.seen(2);
    let (first, step) = &seen[0];
    assert!(matches!(step, Step::Offer(_)), "{step:?}");
    let mut next = 0;
    let mut last_part = false;
    for (transfer, step) in &seen[1..] {
        assert_eq!(transfer, first);
        match step {
            Step::Offer(_) => panic!("offered again"),
            Step::Progress => {}
            Step::Part {
                offset,
                last,
                bytes,
            } => {
                // A part that finds no room is sent again.
                assert!(*offset <= next, "a hole before {offset}");
                assert!(bytes.len() <= config().snapshot_chunk_bytes);
                next = offset + bytes.len() as u64;
                last_part = *last;
            }
        }
    }
    assert!(last_part && next > 8 * 512, "{next} bytes");
    leader.node.kill().await;
}

/// No part lies before one that was sent earlier, and none is of another transfer unless the one before
/// was sent to its end. (The part that was lost is sent again, and so is one that finds no room, as often
/// as that happens; how often depends on the machine.)
fn assert_never_begins_again(seen: &[(String, Step)], what: &str) {
    let mut current: Option<(&str, u64, bool)> = None;
    for (transfer, step) in seen {
        let Step::Part { offset, last, .. } = step else {
            continue;
        };
        match current {
            Some((before, reached, _)) if before == transfer => {
                assert!(*offset >= reached, "{what}: {offset} after {reached}");
            }
            // Of a first part that was lost, nothing is there to go on from.
            Some((_, reached, ended)) => {
                assert!(ended || reached == 0, "{what}: left at {reached}");
            }
            None => {}
        }
        current = Some((transfer, *offset, *last));
    }
    let (_, reached, ended) = current.expect("parts were sent");
    assert!(ended && reached > 0, "{what}: ended at {reached}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_is_cut_at_any_step_goes_on_from_there() {
    for fate in [Fate::RequestLost, Fate::AnswerLost, Fate::Repeated] {
        let cut = Arc::new(Mutex::new(usize::MAX));
        let chosen = cut.clone();
        let leader = leader(move |number, _| {
            let cut = number == *chosen.lock();
            if cut { fate } else { Fate::Arrives }
        })
        .await;
        leader.join(2).await.kill().await;
        let steps = leader.seen(2).len();
        for step in 0..steps {
            *cut.lock() = step;
            let id = step as u64 + 3;
            leader.join(id).await.kill().await;
            assert_never_begins_again(&leader.seen(id), &format!("{fate:?} at {step}"));
        }
        leader.node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_finds_the_disk_full_leaves_nothing_staged_and_the_node_goes_on() {
    let disk = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
    let healed = Arc::new(AtomicBool::new(false));
    let (full, again) = (disk.clone(), healed.clone());
    let leader = leader(move |_, _| {
        // No second attempt before what is left of the first has been looked at.
        match full.failed() > 0 && !again.load(Ordering::Relaxed) {
            true => Fate::RequestLost,
            false => Fate::Arrives,
        }
    })
    .await;
    let last = write_counters(&leader.node, 0, 6_000, 1).await;
    let database = Database::builder()
        .create_on(disk.clone())
        .expect("creates");
    let node = start(2, database.clone(), leader.network.transport()).await;
    disk.follow(FaultPlan {
        calls: &[StorageCall::Grow],
        at: 1,
        fault: Fault::NoSpace,
        lasting: true,
    });
    leader
        .node
        .add_learner(2, "memory:2".into())
        .await
        .expect("added");
    let is_staged = || {
        let tables = database.begin_read().and_then(|view| view.tables());
        let tables = tables.expect("readable");
        tables.iter().any(|table| table.name.starts_with("staged"))
    };
    let given_up = async {
        while disk.failed() == 0 || is_staged() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let given_up = tokio::time::timeout(PATIENCE, given_up).await;
    given_up.expect("what was staged goes");
    let (parts, _) = leader.parts_and_offers(2);
    assert!(parts > 10, "{parts} parts were staged before");
    assert_eq!(node.status().error, None);

    disk.heal();
    healed.store(true, Ordering::Relaxed);
    node.wait_for_applied(last, PATIENCE)
        .await
        .expect("it has everything");
    assert_eq!(bytes_of(&node).await, bytes_of(&leader.node).await);
    node.kill().await;
    leader.node.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_slow_to_stage_is_waited_for_longer_than_the_deadline() {
    let stalled = Arc::new(Mutex::new(None::<Database>));
    let stall = stalled.clone();
    let leader = leader(move |_, step| {
        if let Step::Part { offset: 1024, .. } = step
            && let Some(database) = stall.lock().take()
        {
            // Whoever writes waits for this.
            let transaction = database.begin_write().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(3));
                drop(transaction);
            });
        }
        Fate::Arrives
    })
    .await;
    assert!(config().snapshot_timeout < Duration::from_secs(3));

    let database = Database::in_memory().expect("creates");
    *stalled.lock() = Some(database.clone());
    let node = start(2, database, leader.network.transport()).await;
    leader
        .node
        .add_learner(2, "memory:2".to_owned())
        .await
        .expect("added");
    node.wait_for_applied(leader.last, PATIENCE)
        .await
        .expect("it has everything");
    assert_eq!(leader.parts_and_offers(2).1, 1);
    assert!(stalled.lock().is_none(), "it was stalled");
    node.kill().await;
    leader.node.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_in_mid_transfer_comes_back_with_its_old_state_and_gets_a_new_one() {
    let hold = Arc::new(AtomicBool::new(true));
    let held = hold.clone();
    let leader = leader(move |number, _| {
        let now = number == 6 && held.swap(false, Ordering::Relaxed);
        if now { Fate::Held } else { Fate::Arrives }
    })
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node");
    let database = Database::builder().create(&path).expect("creates");
    let node = start(2, database.clone(), leader.network.transport()).await;
    let mine = bytes_of(&node).await;
    let adding = leader.node.clone();
    let added = tokio::spawn(async move { adding.add_learner(2, "memory:2".into()).await });
    while hold.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(has_staged_tables(&database), "the transfer is on its way");
    assert_eq!(bytes_of(&node).await, mine);
    drop(database);
    node.kill().await;

    let database = Database::builder().open(&path).expect("opens");
    let node = start(2, database, leader.network.transport()).await;
    node.wait_for_applied(leader.last, PATIENCE)
        .await
        .expect("it has everything");
    assert_eq!(bytes_of(&node).await, bytes_of(&leader.node).await);
    added.await.expect("no panic").expect("added");
    node.kill().await;
    leader.node.kill().await;
}

fn has_staged_tables(database: &Database) -> bool {
    let view = database.begin_read().expect("a view");
    let tables = view.tables().expect("tables");
    tables.iter().any(|table| table.name.starts_with("staged:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_in_mid_transfer_is_replaced_and_its_successor_sends_its_own() {
    let network = MemoryNetwork::new();
    let hold = Arc::new(AtomicBool::new(true));
    let seen = Seen::default();
    let up = async |id| {
        let held = hold.clone();
        let transport = Scripted {
            inner: network.transport(),
            script: Box::new(move |number, _| {
                let now = number == 6 && held.swap(false, Ordering::Relaxed);
                if now { Fate::Held } else { Fate::Arrives }
            }),
            seen: seen.clone(),
        };
        let database = Database::in_memory().expect("creates");
        start(id, database, Arc::new(transport)).await
    };
    let mut nodes = BTreeMap::from([(1, up(1).await), (2, up(2).await), (3, up(3).await)]);
    let addresses = [1, 2, 3].map(|id| (id, format!("memory:{id}")));
    nodes[&1]
        .initialize(BTreeMap::from(addresses))
        .await
        .expect("initialized");
    let leading = nodes[&1].wait_for_leader(PATIENCE).await.expect("a leader");
    let last = write_until_compacted(&nodes[&leading]).await;
    for node in nodes.values() {
        node.wait_for_applied(last, PATIENCE)
            .await
            .expect("applied");
        node.trigger_snapshot().await.expect("triggered");
    }
    for node in nodes.values() {
        node.wait_for("the log to be compacted", PATIENCE, |s| s.purged > Some(5))
            .await
            .expect("compacted");
    }

    let joining = up(4).await;
    let adding = nodes[&leading].clone();
    let added = tokio::spawn(async move { adding.add_learner(4, "memory:4".into()).await });
    while hold.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The new member is known to all.
    for node in nodes.values() {
        node.wait_for_applied(last + 1, PATIENCE)
            .await
            .expect("applied");
    }
    nodes.remove(&leading).expect("it runs").kill().await;
    // The caller may have been answered before the leader was gone, or not.
    let _ = added.await.expect("no panic");

    joining
        .wait_for_applied(last, PATIENCE)
        .await
        .expect("it has everything");
    assert_eq!(bytes_of(&joining).await.1, 120);
    let transfers: BTreeSet<_> = seen.lock()[&4].iter().map(|(id, _)| id.clone()).collect();
    assert!(transfers.len() > 1, "{transfers:?}");
    joining.kill().await;
    for node in nodes.values() {
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_replicas_with_different_pasts_are_the_same_bytes() {
    let leader = leader(|_, _| Fate::Arrives).await;
    let bytes = async |node: &Node| {
        let tables = CounterMachine.tables().definitions();
        let written = node.read(ReadLevel::Local, move |view| {
            let mut bytes = Vec::new();
            write_snapshot(view, &tables, &mut bytes).map(|_| bytes)
        });
        written.await.expect("readable").expect("written")
    };
    let directory = tempfile::tempdir().expect("a directory");
    let mut nodes = BTreeMap::new();
    // One after the other, so that they take the state by snapshots of different moments.
    for (id, page_size, cache) in [(2, 4096, 1 << 20), (3, 16384, 4 << 20), (4, 65536, 8 << 20)] {
        let database = Database::builder()
            .page_size(page_size)
            .cache_size(cache)
            .create(directory.path().join(id.to_string()))
            .expect("creates");
        let node = start(id, database, leader.network.transport()).await;
        leader
            .node
            .add_learner(id, format!("memory:{id}"))
            .await
            .expect("added");
        write_until_compacted(&leader.node).await;
        nodes.insert(id, node);
    }
    // One starts again, and has applied part of the log twice.
    nodes.remove(&3).expect("it runs").kill().await;
    let path = directory.path().join("3");
    let database = Database::builder().open(path).expect("opens");
    nodes.insert(3, start(3, database, leader.network.transport()).await);

    let last = leader
        .node
        .write(add("last", 1))
        .await
        .expect("written")
        .index;
    let expected = bytes(&leader.node).await;
    for (id, node) in nodes {
        node.wait_for_applied(last, PATIENCE)
            .await
            .expect("applied");
        assert!(bytes(&node).await == expected, "node {id} differs");
        node.kill().await;
    }
    leader.node.kill().await;
}

/// Writes `count` counters from `first` on, some dozens an entry.
async fn write_counters(node: &Node, first: u64, count: u64, amount: u64) -> u64 {
    let mut last = 0;
    let writes = (first..first + count).map(|number| {
        let name = format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let node = node.clone();
        async move { node.write(add(&name, amount)).await.expect("written").index }
    });
    let mut writes: Vec<_> = writes.map(tokio::spawn).collect();
    for write in writes.drain(..) {
        last = last.max(write.await.expect("no panic"));
    }
    last
}

/// A leader of many counters, and the file of node 2, which had all of them before it was shut down.
async fn left_behind() -> (Leader, NamedTempFile) {
    let leader = leader(|_, _| Fate::Arrives).await;
    write_counters(&leader.node, 0, 6_000, 1).await;
    let file = NamedTempFile::new().expect("a file");
    let database = Database::builder()
        .open_or_create(file.path())
        .expect("creates");
    let node = start(2, database, leader.network.transport()).await;
    leader
        .node
        .add_learner(2, "memory:2".into())
        .await
        .expect("added");
    let index = leader.node.write(add("x", 1)).await.expect("written").index;
    node.wait_for_applied(index, PATIENCE)
        .await
        .expect("applied");
    node.shutdown().await.expect("shuts down");
    (leader, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_a_little_behind_gets_what_was_changed() {
    let (leader, file) = left_behind().await;
    let path = file.path();
    let length = async || {
        let seen = leader.seen(2);
        let length = |(_, step): &(String, Step)| match step {
            Step::Part { bytes, .. } => bytes.len(),
            Step::Offer(_) | Step::Progress => 0,
        };
        seen.iter().map(length).sum::<usize>()
    };
    let whole = length().await;

    for round in 1..=4 {
        // Some rows change, some are new, some go; and the log is compacted beyond what it had.
        for number in 0..40u64 {
            let counter = format!(
                "{:016x}",
                (7 * number + round).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            );
            let remove = Command::Remove { counter };
            leader.node.write(remove).await.expect("written");
        }
        let index = write_counters(&leader.node, 3_000 + 10 * round, 10, 5).await;
        let index = index.max(write_counters(&leader.node, 10_000 * round, 10, 5).await);
        leader
            .node
            .wait_for("the log to be compacted", PATIENCE, |s| {
                s.purged > Some(index - 30)
            })
            .await
            .expect("compacted");

        let before = length().await;
        let database = Database::builder().open(path).expect("opens");
        let node = start(2, database, leader.network.transport()).await;
        node.wait_for_applied(index, PATIENCE)
            .await
            .expect("applied");
        assert_eq!(bytes_of(&node).await, bytes_of(&leader.node).await);
        let sent = length().await - before;
        println!("round {round}: {sent} bytes of {whole}");
        assert!(
            sent > 0 && sent < whole / 2,
            "round {round}: {sent} of {whole}"
        );
        node.shutdown().await.expect("shuts down");
    }
    leader.node.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_do_not_fit_are_refused_and_the_whole_snapshot_is_sent() {
    let (leader, file) = left_behind().await;
    // A row appears that no entry has put there.
    let database = Database::builder().open(file.path()).expect("opens");
    let txn = database.begin_write().expect("a transaction");
    txn.table::<Counters>()
        .and_then(|mut rows| rows.insert("bogus", 1))
        .expect("inserted");
    txn.commit().expect("committed");
    let index = write_until_compacted(&leader.node).await + 1;
    leader.node.write(add("y", 1)).await.expect("written");
    leader
        .node
        .wait_for("the log to be compacted", PATIENCE, |s| {
            s.purged > Some(index - 60)
        })
        .await
        .expect("compacted");
    let (_, offers) = leader.parts_and_offers(2);
    let node = start(2, database, leader.network.transport()).await;
    node.wait_for_applied(index, PATIENCE)
        .await
        .expect("applied");
    assert_eq!(bytes_of(&node).await, bytes_of(&leader.node).await);
    assert_eq!(
        leader.parts_and_offers(2).1 - offers,
        2,
        "changes, then all"
    );
    node.kill().await;
    leader.node.kill().await;
}
