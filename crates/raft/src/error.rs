//! The errors of this crate.

use std::time::Duration;

use crate::snapshot::SnapshotError;
use crate::types::NodeId;

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a replicated database.
///
/// For a write, [`NotLeader`](Error::NotLeader), [`Busy`](Error::Busy), [`TooLarge`](Error::TooLarge)
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
    /// This node does not lead; ask the one that does.
    #[error("this node is not the leader; {}", leader_hint(leader, address))]
    NotLeader {
        /// The leader, where known.
        leader: Option<NodeId>,
        /// Its address, where known.
        address: Option<String>,
    },
    /// No quorum of the members answered.
    #[error("no quorum of the members answered; it may do so later")]
    NoQuorum,
    /// The command was proposed and its outcome is not known: it may have been carried out, or may
    /// be later.
    #[error(
        "the outcome of the write is unknown ({reason}): it may have been carried out; ask before sending it again"
    )]
    Unknown {
        /// What happened to the proposal.
        reason: String,
    },
    /// The command was not proposed before its deadline, because too many were waiting.
    #[error("the write waited {waited:?} for its turn and was not proposed; try again later")]
    Busy {
        /// How long it waited.
        waited: Duration,
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

fn leader_hint(leader: &Option<NodeId>, address: &Option<String>) -> String {
    match (leader, address) {
        (Some(id), Some(address)) => format!("node {id} at {address} leads"),
        (Some(id), None) => format!("node {id} leads"),
        (None, _) => "no leader is known".into(),
    }
}
