//! Questions to the state machine of another node.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use folio_raft::transport::MemoryNetwork;
use folio_raft::{
    Applied, ApplyError, Config, Error, NodeId, ReplicatedDatabase, StateMachine, TableSet,
};
use folio_store::{Database, ReadTransaction, Table, WriteTransaction};

const PATIENCE: Duration = Duration::from_secs(30);

struct Words;
impl Table for Words {
    const NAME: &'static str = "words";
    type Key = &'static str;
    type Value = u64;
}

/// Remembers where words were said, and tells others.
struct Listener;

impl StateMachine for Listener {
    type Command = String;
    type Response = ();

    fn tables(&self) -> TableSet {
        TableSet::new().with::<Words>()
    }

    fn apply(&self, txn: &WriteTransaction, at: Applied, word: &String) -> Result<(), ApplyError> {
        txn.table::<Words>()?.insert(word.as_str(), at.index)?;
        Ok(())
    }

    fn answer(&self, view: &ReadTransaction, question: &[u8]) -> Result<Vec<u8>, String> {
        let word = std::str::from_utf8(question).map_err(|error| error.to_string())?;
        let words = view.table::<Words>().map_err(|error| error.to_string())?;
        let index = words.get(word).map_err(|error| error.to_string())?;
        Ok(index.unwrap_or(0).to_be_bytes().to_vec())
    }
}

type Node = ReplicatedDatabase<Listener>;

async fn cluster(network: &MemoryNetwork) -> BTreeMap<NodeId, Node> {
    let mut nodes = BTreeMap::new();
    for id in 1..=3 {
        let database = Database::in_memory().unwrap();
        let node = Node::start(
            Config::default(),
            id,
            database,
            Listener,
            network.transport(),
        );
        nodes.insert(id, node.await.unwrap());
    }
    let members = (1..=3).map(|id| (id, format!("memory:{id}")));
    nodes[&1].initialize(members.collect()).await.unwrap();
    nodes[&1].wait_for_leader(PATIENCE).await.unwrap();
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_from_the_state_of_the_node_that_is_asked() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network).await;
    let leader = nodes[&1].wait_for_leader(PATIENCE).await.unwrap();
    let index = nodes[&leader]
        .write("hello".to_owned())
        .await
        .unwrap()
        .index;
    for (id, node) in &nodes {
        node.wait_for_applied(index, PATIENCE).await.unwrap();
        for peer in nodes.keys().filter(|peer| *peer != id) {
            let peer_applied = nodes[peer].wait_for_applied(index, PATIENCE).await;
            peer_applied.unwrap();
            let answer = node.ask(*peer, b"hello".to_vec(), PATIENCE).await.unwrap();
            assert_eq!(answer, index.to_be_bytes(), "{id} asks {peer}");
        }
    }
    let asked = nodes[&1].ask(2, vec![0xff], PATIENCE).await;
    assert!(
        matches!(asked, Err(Error::Peer { node: 2, .. })),
        "{asked:?}"
    );
    for node in nodes.values() {
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_or_has_no_state_is_not_asked_in_vain() {
    let network = MemoryNetwork::new();
    let nodes = cluster(&network).await;
    let asked = nodes[&1].ask(9, b"hello".to_vec(), PATIENCE).await;
    assert!(
        matches!(asked, Err(Error::Peer { node: 9, .. })),
        "{asked:?}"
    );
    nodes[&2].kill().await;
    let asked = nodes[&1]
        .ask(2, b"hello".to_vec(), Duration::from_millis(500))
        .await;
    assert!(
        matches!(asked, Err(Error::Peer { node: 2, .. })),
        "{asked:?}"
    );
    for id in [1, 3] {
        nodes[&id].kill().await;
    }
}
