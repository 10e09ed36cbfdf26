//! The errors of this crate.

use std::time::Duration;

use crate::config::FollowerReads;
use crate::snapshot::SnapshotError;
use crate::types::NodeId;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a replicated database.
///
/// For a write, [`NotLeader`](Error::NotLeader), [`Busy`](Error::Busy), [`DiskFull`](Error::DiskFull), [`TooLarge`](Error::TooLarge)
/// and [`ShuttingDown`](Error::ShuttingDown) mean that the command was not proposed and may be sent
/// again anywhere. After [`Unknown`](Error::Unknown) it may have been carried out, or may still be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused or failed.
    #[error(transparent)]
    Store(#[from] folio_store::Error),
    /// A setting makes no sense.
    #[error("bad configuration: {reason}")]
    Config {
        /// Which setting, and why.
        reason: String,
    },
    /// The table set of the state machine cannot be stored.
    #[error("bad table set: {reason}")]
    Tables {
        /// Which table, and why.
        reason: String,
    },
    /// The file belongs to another node.
    #[error(
        "this file belongs to node {found}, and was opened for node {wanted}: start it under its own id, or give node {wanted} its own file"
    )]
    WrongNode {
        /// The node the file was made for.
        found: NodeId,
        /// The node it was opened for.
        wanted: NodeId,
    },
    /// The log above what is applied, or the vote, is damaged, so that the node may have promised
    /// what it does not know any more.
    #[error(
        "the log or the vote of node {node} is damaged: {reason}; it may have acknowledged what it cannot show any more, so it does not take part: {}",
        rejoin(node)
    )]
    LogDamaged {
        /// This node.
        node: NodeId,
        /// What is damaged.
        reason: String,
    },
    /// Commits are missing from the file that others were told of.
    #[error(
        "this file of node {node} {what}, so its vote and its log may be older than what it told other nodes, and it does not take part: {}",
        rejoin(node)
    )]
    LostCommits {
        /// This node.
        node: NodeId,
        /// What became of the file.
        what: &'static str,
    },
    /// The state of this node was damaged and comes back from another node.
    #[error("the state of this node is being rebuilt ({damage}); ask another node meanwhile")]
    Rebuilding {
        /// What was damaged.
        damage: String,
    },
    /// This node is a witness, which holds no state.
    #[error(
        "this node is a witness, which holds no state and answers nothing about it; ask another node"
    )]
    Witness,
    /// The file cannot be a witness's.
    #[error(
        "this file holds a state, and a witness has none: give the witness a new id and an empty file"
    )]
    NotAWitness,
    /// This node does not lead; ask the one that does.
    #[error("this node is not the leader; {}", leader_hint(leader, address))]
    NotLeader {
        /// The leader, where known.
        leader: Option<NodeId>,
        /// Its address, where known.
        address: Option<String>,
    },
    /// A follower read was refused because this node lacks more than
    /// [`Config::follower_reads`](crate::Config::follower_reads) allows, or cannot tell what it
    /// lacks.
    #[error("{}", too_far_behind(*entries, *age, *bound, cause.as_deref()))]
    TooFarBehind {
        /// Entries that the leader had committed, by its last answer, and this node has not
        /// applied. None: it never answered.
        entries: Option<u64>,
        /// This node has everything that was answered to anybody until so long ago. None: it
        /// cannot tell.
        age: Option<Duration>,
        /// What is allowed.
        bound: FollowerReads,
        /// Why the leader could not be asked, if it could not.
        cause: Option<Box<Error>>,
    },
    /// Another member did not do what it was asked.
    #[error("node {node} was asked and did not answer: {reason}")]
    Peer {
        /// The member.
        node: NodeId,
        /// What it or the transport said.
        reason: String,
    },
    /// The leadership was not given away.
    #[error("the leadership was not handed over: {reason}")]
    Handover {
        /// Why.
        reason: String,
    },
    /// No quorum of the members answered.
    #[error("no quorum of the members answered; it may do so later")]
    NoQuorum,
    /// The command, or the change of membership, was proposed and its outcome is not known: it may
    /// have been carried out, or may be later.
    #[error(
        "the outcome is unknown ({reason}): it may have been carried out; ask before sending it again"
    )]
    Unknown {
        /// What happened to the proposal.
        reason: String,
    },
    /// The command was not proposed before its deadline, because too many were waiting.
    #[error(
        "too many writes are waiting: this one waited {waited:?} for its turn and was not proposed; try again later"
    )]
    Busy {
        /// How long it waited. Zero: it was not to wait.
        waited: Duration,
    },
    /// The disk of this node is full or nearly so, and the command was not proposed. Reads go on, and so do
    /// writes once there is room.
    #[error("the disk is full, so this node takes no writes: {reason}")]
    DiskFull {
        /// What there is and what is needed.
        reason: String,
    },
    /// The command is larger than an entry may be.
    #[error("the command takes {bytes} bytes, above the limit of {limit}; split it")]
    TooLarge {
        /// Its encoded length.
        bytes: usize,
        /// [`Config::batch_max_bytes`](crate::Config::batch_max_bytes).
        limit: usize,
    },
    /// The command cannot be encoded.
    #[error("the command cannot be encoded: {reason}")]
    Encode {
        /// What the encoder said.
        reason: String,
    },
    /// The database is shutting down or was shut down.
    #[error("the database is shut down")]
    ShuttingDown,
    /// The node stopped because of an error in its storage, its state machine or Raft.
    #[error("the node has stopped: {reason}; mend the cause and start it again")]
    Stopped {
        /// The first error.
        reason: String,
    },
    /// The change of membership was refused.
    #[error("the membership was not changed: {reason}")]
    Membership {
        /// Why.
        reason: String,
    },
    /// The awaited state was not reached in time.
    #[error("waited {waited:?} for {what}")]
    Timeout {
        /// What was awaited.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// A snapshot was refused.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The transport could not be set up.
    #[error("the transport failed: {0}")]
    Transport(#[from] crate::transport::TransportError),
    /// A thread of the store could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

fn rejoin(node: &NodeId) -> String {
    format!(
        "remove node {node} from the membership and add a node with a new id and an empty file; keep this file until that is done"
    )
}

fn leader_hint(leader: &Option<NodeId>, address: &Option<String>) -> String {
    match (leader, address) {
        (Some(id), Some(address)) => format!("node {id} at {address} leads"),
        (Some(id), None) => format!("node {id} leads"),
        (None, _) => "no leader is known".into(),
    }
}

fn too_far_behind(
    entries: Option<u64>,
    age: Option<Duration>,
    bound: FollowerReads,
    cause: Option<&Error>,
) -> String {
    let entries = match entries {
        Some(entries) => format!("{entries} entries"),
        None => "an unknown number of entries".into(),
    };
    let age = match age {
        Some(age) => format!("{age:?}"),
        None => "an unknown time".into(),
    };
    let cause = match cause {
        Some(cause) => format!(" ({cause})"),
        None => String::new(),
    };
    format!(
        "this node is {entries} and {age} behind the leader{cause}, where {} entries and {:?} are allowed: ask another node, or this one later",
        bound.entries, bound.age
    )
}
