//! The Raft types of this crate: how openraft's generic parameters are filled in.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use openraft::impls::OneshotResponder;
use serde::{Deserialize, Serialize};

use crate::runtime::Runtime;
use crate::snapshot::SnapshotData;
use crate::state_machine::StateMachine;

/// Names a node for ever: an id is never given to another node, nor to the same node with an
/// emptied disk.
pub type NodeId = u64;
/// A member's address, as the transport understands it.
pub type Node = openraft::BasicNode;
/// Term, leader and index of a log entry. It travels and is stored whole.
pub type LogId = openraft::LogId<NodeId>;
/// A membership and the id of the entry that set it.
pub type StoredMembership = openraft::StoredMembership<NodeId, Node>;
/// A vote, with its `committed` flag.
pub type Vote = openraft::Vote<NodeId>;
/// What openraft knows about a snapshot.
pub type SnapshotMeta = openraft::SnapshotMeta<NodeId, Node>;
/// The storage error of openraft; any of them stops the node.
pub type StorageError = openraft::StorageError<NodeId>;
/// A log entry.
pub type Entry<S> = openraft::Entry<TypeConfig<S>>;

/// The commands of one log entry, stamped by the leader that proposed them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch<C> {
    /// The proposer's clock in microseconds since the Unix epoch.
    pub time: u64,
    /// What the clients asked for, in order of arrival.
    pub commands: Vec<C>,
}

/// openraft's type configuration for the state machine `S`.
pub struct TypeConfig<S>(PhantomData<fn() -> S>);

impl<S: StateMachine> openraft::RaftTypeConfig for TypeConfig<S> {
    type D = Batch<S::Command>;
    type R = Vec<S::Response>;
    type NodeId = NodeId;
    type Node = Node;
    type Entry = openraft::Entry<Self>;
    type SnapshotData = SnapshotData;
    type AsyncRuntime = Runtime;
    type Responder = OneshotResponder<Self>;
}

// openraft asks for these of a type that has no values to compare; deriving them would ask the
// same of `S`.
impl<S> Clone for TypeConfig<S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for TypeConfig<S> {}
impl<S> Default for TypeConfig<S> {
    fn default() -> Self {
        TypeConfig(PhantomData)
    }
}
impl<S> fmt::Debug for TypeConfig<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypeConfig")
    }
}
impl<S> PartialEq for TypeConfig<S> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<S> Eq for TypeConfig<S> {}
impl<S> PartialOrd for TypeConfig<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<S> Ord for TypeConfig<S> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
