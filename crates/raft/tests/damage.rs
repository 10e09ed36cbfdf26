//! Damage, by region: what a flipped bit in the file of one of three nodes costs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use common::cluster::{Cluster, Node, PATIENCE, Wires, quick};
use common::script::{self, Promise, Truth};
use common::store::Operations;
use common::{CounterMachine, add, counters, history};
use folio_raft::snapshot::{SnapshotError, write_snapshot};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, Error, NodeId, RaftLogStore, ReadLevel, StateMachine, StoreOptions};
use folio_store::Database;
use folio_store::storage::{MemoryStorage, Storage};
use openraft::RaftLogReader;

const PAGE: u64 = 4096;
const FIXED_PAGES: u64 = 8;

/// The log is compacted, so that a state cannot come back from the log alone.
fn compacting() -> Config {
    Config {
        snapshot_after_entries: 20,
        log_entries_kept: 5,
        purge_batch: 1,
        ..quick()
    }
}

async fn cluster(config: Config) -> Cluster {
    Cluster::start(3, config, Wires::Memory(MemoryNetwork::new())).await
}

async fn state(node: &Node) -> folio_raft::Result<(Vec<(String, u64)>, usize)> {
    node.read(ReadLevel::Local, |view| {
        (counters(view), history(view).len())
    })
    .await
}

/// Writes through whoever leads; the index of the last entry.
async fn write(cluster: &Cluster, count: u64) -> u64 {
    let mut last = 0;
    for number in 0..count {
        last = loop {
            let (_, leader) = cluster.leader().await;
            match leader
                .write(add(&format!("counter {}", number % 7), 1))
                .await
            {
                Ok(written) => break written.index,
                Err(Error::NotLeader { .. } | Error::Unknown { .. } | Error::Rebuilding { .. }) => {
                }
                Err(error) => panic!("{error}"),
            }
        };
    }
    last
}

fn image(path: &Path) -> MemoryStorage {
    let bytes = std::fs::read(path).unwrap();
    let image = MemoryStorage::new();
    image.grow(0, bytes.len() as u64).unwrap();
    image.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
    image
}

fn flip(storage: &dyn Storage, page: u64) {
    let at = page * PAGE + 200;
    let mut byte = [0];
    storage.read_at(at, &mut byte).unwrap();
    storage
        .write_at(at, &[IoSlice::new(&[byte[0] ^ 4])])
        .unwrap();
}

fn flip_in_file(path: &Path, pages: impl IntoIterator<Item = u64>) {
    let mut bytes = std::fs::read(path).unwrap();
    for page in pages {
        bytes[(page * PAGE + 200) as usize] ^= 4;
    }
    std::fs::write(path, bytes).unwrap();
}

/// The pages of each table; those of catalogs under the name of their group.
fn regions(path: &Path) -> BTreeMap<String, BTreeSet<u64>> {
    let sound = image(path);
    let mut regions: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for page in FIXED_PAGES..sound.len().unwrap() / PAGE {
        let damaged = sound.clone();
        flip(&damaged, page);
        let Ok(database) = Database::builder().open_read_only_on(Arc::new(damaged)) else {
            regions.entry("manifest".into()).or_default().insert(page);
            continue;
        };
        let report = database.verify(|_, _| {}).unwrap();
        for problem in report.problems.iter().filter(|p| p.page == Some(page)) {
            let catalog = problem.fault.split(':').next().unwrap_or_default();
            let region = problem.table.clone().unwrap_or_else(|| catalog.into());
            regions.entry(region).or_default().insert(page);
        }
    }
    regions
}

/// A node that is down, on a file in which everything of the state is in a checkpoint.
async fn down(cluster: &mut Cluster, id: NodeId) -> std::path::PathBuf {
    let node = cluster.nodes.remove(&id).unwrap();
    node.shutdown().await.unwrap();
    let path = cluster.path(id);
    flush_once_more(&path);
    path
}

/// The last flush lists what it wrote, and damage there is a lost commit. After another one damage is
/// what it is meant to be.
fn flush_once_more(path: &std::path::Path) {
    let database = Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.table::<common::Scratch>()
        .unwrap()
        .insert(1, 1)
        .unwrap();
    txn.commit().unwrap();
    database.close().unwrap();
}

async fn rebuilt(cluster: &Cluster, id: NodeId) -> Node {
    let node = cluster.nodes[&id].clone();
    node.wait_for("the state to be rebuilt", PATIENCE, |s| {
        s.rebuilding.is_none()
    })
    .await
    .unwrap();
    node
}

async fn equal(cluster: &Cluster, last: u64) {
    cluster.applied(last).await;
    let (_, leader) = cluster.leader().await;
    let expected = state(&leader).await.unwrap();
    for id in cluster.nodes.keys() {
        let node = rebuilt(cluster, *id).await;
        assert_eq!(state(&node).await.unwrap(), expected, "node {id}");
    }
}

async fn a_damaged_state_is_rebuilt(leading: bool, damaged: &[&str]) {
    let mut cluster = cluster(compacting()).await;
    write(&cluster, 60).await;
    let (leader, _) = cluster.leader().await;
    let victim = cluster
        .nodes
        .keys()
        .copied()
        .find(|id| (*id == leader) == leading);
    let victim = victim.unwrap();
    let path = down(&mut cluster, victim).await;
    write(&cluster, 10).await;

    let regions = regions(&path);
    let pages: BTreeSet<u64> = damaged
        .iter()
        .flat_map(|name| &regions[*name])
        .copied()
        .collect();
    flip_in_file(&path, pages.clone());
    cluster.bring_up(victim).await;
    let last = write(&cluster, 30).await;
    equal(&cluster, last).await;

    // It is a full member again: with another one away, the two go on, whoever of them leads.
    let other = cluster
        .nodes
        .keys()
        .copied()
        .find(|id| *id != victim)
        .unwrap();
    cluster.kill(other).await;
    let last = write(&cluster, 10).await;
    equal(&cluster, last).await;
    let path = down(&mut cluster, victim).await;
    let database = Database::open(path).unwrap();
    assert_eq!(
        database.verify(|_, _| {}).unwrap().problems,
        [],
        "{pages:?}"
    );
    for node in cluster.nodes.values() {
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_followers_state_are_rebuilt_from_the_leader() {
    a_damaged_state_is_rebuilt(false, &["counters", "history"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_state_is_damaged_follows_until_it_is_rebuilt() {
    a_damaged_state_is_rebuilt(true, &["counters", "history"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_does_not_know_where_it_is_is_rebuilt() {
    a_damaged_state_is_rebuilt(false, &["raft_state"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_whose_tables_cannot_be_found_is_rebuilt() {
    a_damaged_state_is_rebuilt(false, &["catalog of group 0"]).await;
    a_damaged_state_is_rebuilt(true, &["catalog of group 0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_met_while_applying_does_not_stop_the_node() {
    let mut cluster = cluster(compacting()).await;
    let last = write(&cluster, 60).await;
    cluster.applied(last).await;
    let (leader, _) = cluster.leader().await;
    let victim = cluster
        .nodes
        .keys()
        .copied()
        .find(|id| *id != leader)
        .unwrap();
    let path = down(&mut cluster, victim).await;
    let regions = regions(&path);
    flip_in_file(&path, regions["counters"].iter().copied());
    cluster.bring_up(victim).await;
    let node = cluster.nodes[&victim].clone();
    assert_eq!(
        node.status().rebuilding,
        None,
        "nobody has read the damaged page yet"
    );

    let last = write(&cluster, 1).await;
    cluster.applied(last).await;
    equal(&cluster, last).await;
    assert_eq!(node.status().error, None);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_rebuilt_votes_and_answers_no_read() {
    let network = MemoryNetwork::new();
    let mut cluster = Cluster::start(3, compacting(), Wires::Memory(network.clone())).await;
    let last = write(&cluster, 60).await;
    cluster.applied(last).await;
    let (leader, _) = cluster.leader().await;
    let others: Vec<_> = cluster
        .nodes
        .keys()
        .copied()
        .filter(|id| *id != leader)
        .collect();
    // Its requests for a state are lost; what others ask of it passes.
    for id in cluster.nodes.keys() {
        network.drop_link(others[0], *id);
    }
    let node = cluster.nodes[&others[0]].clone();
    node.rebuild("a test".into()).await.unwrap();
    assert!(node.status().rebuilding.is_some());
    let refused = state(&node).await.unwrap_err();
    assert!(matches!(refused, Error::Rebuilding { .. }), "{refused}");

    // Restarted it is where it was.
    cluster.kill(others[0]).await;
    cluster.bring_up(others[0]).await;
    assert!(cluster.nodes[&others[0]].status().rebuilding.is_some());
    network.heal();
    let last = write(&cluster, 3).await;
    equal(&cluster, last).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_whole_log_a_node_needs_nobody() {
    let cluster = Cluster::start(1, quick(), Wires::Memory(MemoryNetwork::new())).await;
    write(&cluster, 30).await;
    let (_, node) = cluster.leader().await;
    let before = state(&node).await.unwrap();
    node.rebuild("a test".into()).await.unwrap();
    rebuilt(&cluster, 1).await;
    assert_eq!(state(&node).await.unwrap(), before);
    let last = write(&cluster, 3).await;
    equal(&cluster, last).await;
    cluster.stop().await;
}

/// A node refuses to start on its file for good, and a new one takes its place.
async fn replaced(mut cluster: Cluster, victim: NodeId, path: &Path, refusal: Error, word: &str) {
    let text = refusal.to_string();
    let advice = format!("remove node {victim} from the membership");
    assert!(text.contains(word) && text.contains(&advice), "{text}");
    assert!(path.exists(), "the file is kept");

    write(&cluster, 5).await;
    let (_, leader) = cluster.leader().await;
    cluster.bring_up(4).await;
    leader
        .add_learner(4, cluster.addresses[&4].clone())
        .await
        .unwrap();
    let voters = [1, 2, 3, 4]
        .into_iter()
        .filter(|id| *id != victim)
        .collect();
    leader.change_membership(voters).await.unwrap();
    let last = write(&cluster, 5).await;
    equal(&cluster, last).await;
    cluster.stop().await;
}

async fn start(cluster: &Cluster, id: NodeId, database: Database) -> Error {
    let Wires::Memory(network) = &cluster.wires else {
        panic!("in memory");
    };
    let config = cluster.config.clone();
    let started = Node::start(config, id, database, CounterMachine, network.transport()).await;
    started.map(drop).unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_log_above_what_is_applied_or_in_the_vote_ends_the_membership() {
    for region in ["raft_log", "raft_vote", "catalog of group 1"] {
        let mut cluster = cluster(quick()).await;
        write(&cluster, 60).await;
        let (leader, _) = cluster.leader().await;
        // Killed: its log has what no checkpoint covers.
        cluster.kill(leader).await;
        let path = cluster.path(leader);
        flush_once_more(&path);
        let regions = regions(&path);
        flip_in_file(&path, regions[region].iter().copied());
        let refusal = start(&cluster, leader, Database::open(&path).unwrap()).await;
        assert!(matches!(refusal, Error::LogDamaged { .. }), "{refusal}");
        replaced(cluster, leader, &path, refusal, "is damaged").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_commit_ends_the_membership_also_when_the_loss_was_accepted() {
    let mut cluster = cluster(quick()).await;
    write(&cluster, 20).await;
    let (leader, _) = cluster.leader().await;
    cluster.kill(leader).await;
    let path = cluster.path(leader);
    let regions = regions(&path);
    flip_in_file(&path, regions["manifest"].iter().copied());
    let refused = Database::open(&path).unwrap_err();
    assert!(
        matches!(refused, folio_store::Error::LostCommit { .. }),
        "{refused}"
    );

    let database = Database::builder().accept_loss(true).open(&path).unwrap();
    let refusal = start(&cluster, leader, database).await;
    assert!(matches!(refusal, Error::LostCommits { .. }), "{refusal}");
    // Nor does the file forget when something was written on top.
    let database = Database::builder().accept_loss(true).open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.table::<common::Scratch>()
        .unwrap()
        .insert(1, 1)
        .unwrap();
    txn.commit().unwrap();
    database.close().unwrap();
    let refusal = start(&cluster, leader, Database::open(&path).unwrap()).await;
    replaced(cluster, leader, &path, refusal, "lost commits").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salvaged_file_is_no_members() {
    let mut cluster = cluster(quick()).await;
    write(&cluster, 20).await;
    let (leader, _) = cluster.leader().await;
    let path = down(&mut cluster, leader).await;
    let out = path.with_extension("salvaged");
    folio_store::salvage(&path, &out, |_, _, _| {}).unwrap();
    let refusal = start(&cluster, leader, Database::open(&out).unwrap()).await;
    assert!(matches!(refusal, Error::LostCommits { .. }), "{refusal}");
    replaced(cluster, leader, &path, refusal, "salvaged").await;
}

/// Starts a node that may have to be started once more, because it then drops a part of its log. None
/// if what is damaged hides where the log ends.
async fn start_again(cluster: &Cluster, id: NodeId) -> Option<Node> {
    let Wires::Memory(network) = &cluster.wires else {
        panic!("in memory");
    };
    let mut failed = false;
    loop {
        let database = Database::open(cluster.path(id)).unwrap();
        let config = cluster.config.clone();
        let transport = network.transport();
        match Node::start(config, id, database, CounterMachine, transport).await {
            Ok(node) => return Some(node),
            Err(Error::LogDamaged { .. }) => return None,
            Err(error) => {
                assert!(
                    !failed && error.to_string().contains("start the node again"),
                    "{error}"
                );
                failed = true;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_applied_part_of_the_log_costs_that_part_and_others_get_snapshots() {
    let mut cluster = Cluster::start(1, quick(), Wires::Memory(MemoryNetwork::new())).await;
    write(&cluster, 400).await;
    let path = down(&mut cluster, 1).await;
    let sound = std::fs::read(&path).unwrap();
    let log: Vec<_> = regions(&path)["raft_log"].iter().copied().collect();
    let (mut dropped, mut refused) = (0, 0);
    for page in log {
        std::fs::write(&path, &sound).unwrap();
        flip_in_file(&path, [page]);
        let Some(node) = start_again(&cluster, 1).await else {
            refused += 1;
            continue;
        };
        dropped += 1;
        let _ = std::fs::remove_file(cluster.path(2));
        cluster.bring_up(2).await;
        node.wait_for_leader(PATIENCE).await.unwrap();

        // A new node needs the log from its beginning, which meets the damage at the latest.
        let address = cluster.addresses[&2].clone();
        let adding = {
            let (node, address) = (node.clone(), address.clone());
            tokio::spawn(async move { node.add_learner(2, address).await })
        };
        let node = match adding.await.unwrap() {
            Ok(_) => node,
            Err(error) => {
                let reason = node.status().error.unwrap();
                assert!(reason.contains("start the node again"), "{error}: {reason}");
                node.kill().await;
                let node = start_again(&cluster, 1).await.unwrap();
                node.wait_for_leader(PATIENCE).await.unwrap();
                node.add_learner(2, address).await.unwrap();
                node
            }
        };
        assert!(
            node.status().purged.is_some(),
            "page {page}: the damaged part is gone"
        );
        let last = node.write(add("last", 1)).await.unwrap().index;
        cluster.applied(last).await;
        let expected = state(&node).await.unwrap();
        assert_eq!(state(&cluster.nodes[&2]).await.unwrap(), expected);
        node.shutdown().await.unwrap();
        cluster.kill(2).await;
        let database = Database::open(&path).unwrap();
        assert_eq!(database.verify(|_, _| {}).unwrap().problems, []);
        database.close().unwrap();
    }
    // The root of the table, and its last leaf.
    assert_eq!((dropped > 1, refused), (true, 2), "{dropped}");
}

/// Every bit of the fixed pages would be too many; each page gets a few.
#[tokio::test]
async fn whichever_page_is_damaged_a_store_that_opens_has_forgotten_nothing() {
    let truth = Truth::find().await;
    let disk = Arc::new(MemoryStorage::new());
    let database = Database::builder().create_on(disk.clone()).unwrap();
    let mut promise = Promise::default();
    script::run(&database, &truth, |now| promise = now.clone())
        .await
        .unwrap();
    database.kill();
    let sound = MemoryStorage::clone(&disk);
    let log = &promise.logs[0];

    let (mut refused, mut rebuilt, mut served) = (0, 0, 0);
    for at in (0..sound.len().unwrap()).step_by(509) {
        let image = sound.clone();
        let mut byte = [0];
        image.read_at(at, &mut byte).unwrap();
        image
            .write_at(at, &[IoSlice::new(&[byte[0] ^ 16])])
            .unwrap();
        let Ok(database) = Database::builder().open_on(Arc::new(image)) else {
            refused += 1;
            continue;
        };
        let options = StoreOptions::default();
        let mut store = match RaftLogStore::open(database.clone(), 1, CounterMachine, options) {
            Ok(store) => store,
            Err(Error::LogDamaged { .. } | Error::Store(_)) => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("byte {at}: {error}"),
        };
        assert_eq!(store.read_vote().await.unwrap(), promise.vote, "byte {at}");
        let ends = store.get_log_state().await.unwrap();
        assert_eq!(ends.last_log_id.as_ref(), log.last(), "byte {at}");
        let (applied, _) = store.last_applied_state().await.unwrap();
        let next = applied.map_or(0, |id| id.index + 1);
        let above = store.try_get_log_entries(next..).await.unwrap();
        let ids: Vec<_> = above.iter().map(|entry| entry.log_id).collect();
        assert_eq!(ids, log[next as usize..], "byte {at}");

        let view = database.begin_read().unwrap();
        let mut bytes = Vec::new();
        match write_snapshot(&view, &CounterMachine.tables().definitions(), &mut bytes) {
            Ok(_) => {
                assert!(
                    bytes == truth.states[next as usize],
                    "byte {at}: a wrong state"
                );
                served += 1;
            }
            Err(SnapshotError::NoState) => rebuilt += 1,
            Err(SnapshotError::Store(error)) => assert!(error.is_corruption(), "{error}"),
            Err(error) => panic!("byte {at}: {error}"),
        }
        store.close();
    }
    assert!(
        refused > 5 && rebuilt > 5 && served > 5,
        "{refused} {rebuilt} {served}"
    );
}
