//! Who belongs to the cluster.

use std::collections::{BTreeMap, BTreeSet};

use openraft::error::{ClientWriteError, RaftError};

use super::ReplicatedDatabase;
use crate::error::{Error, Result};
use crate::state_machine::StateMachine;
use crate::types::{Node, NodeId};

impl<S: StateMachine> ReplicatedDatabase<S> {
    /// Makes a cluster of `members`, ids and addresses, all of them voters. On one node, once in
    /// the life of the cluster; a node that joins an existing one is added there instead.
    pub async fn initialize(&self, members: BTreeMap<NodeId, String>) -> Result<()> {
        let members: BTreeMap<NodeId, Node> = members
            .into_iter()
            .map(|(id, address)| (id, Node::new(address)))
            .collect();
        self.inner
            .raft
            .initialize(members)
            .await
            .map_err(|error| match error {
                RaftError::APIError(error) => refused(&error),
                RaftError::Fatal(fatal) => super::stopped(&fatal),
            })
    }

    /// Adds a member that does not vote, and waits until it has nearly the whole log. Returns the
    /// index of the entry that did it.
    pub async fn add_learner(&self, node: NodeId, address: String) -> Result<u64> {
        let _turn = self.inner.changes.lock().await;
        let added = self
            .inner
            .raft
            .add_learner(node, Node::new(address), true)
            .await;
        added.map(|added| added.log_id.index).map_err(changed)
    }

    /// Makes `voters`, which must be members already, the voting members. Those no longer among
    /// them leave the cluster. Returns the index of the entry that did it.
    pub async fn change_membership(&self, voters: BTreeSet<NodeId>) -> Result<u64> {
        let _turn = self.inner.changes.lock().await;
        let done = self.inner.raft.change_membership(voters, false).await;
        done.map(|done| done.log_id.index).map_err(changed)
    }
}

fn changed(error: RaftError<NodeId, ClientWriteError<NodeId, Node>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => Error::NotLeader {
            leader: forward.leader_id,
            address: forward.leader_node.map(|node| node.addr),
        },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => refused(&error),
        RaftError::Fatal(fatal) => super::stopped(&fatal),
    }
}

fn refused(error: &dyn std::error::Error) -> Error {
    Error::Membership {
        reason: error.to_string(),
    }
}
