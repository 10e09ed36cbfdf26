//! Who belongs to the cluster.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ChangeMembers;
use openraft::error::{ClientWriteError, RaftError};

use super::ReplicatedDatabase;
use crate::error::{Error, Result};
use crate::state_machine::StateMachine;
use crate::types::{Node, NodeId};

impl<S: StateMachine> ReplicatedDatabase<S> {
    /// Makes a cluster of `members`, ids and addresses, all of them voters. On one node, once in
    /// the life of the cluster; a node that joins an existing one is added there instead.
    pub async fn initialize(&self, members: BTreeMap<NodeId, String>) -> Result<()> {
        self.inner.store.shared().standing.borrow().check()?;
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
            })?;
        let settled = self.inner.store.shared().settled().await;
        settled.map_err(|failure| super::stopped(&failure))
    }

    /// Adds a member that does not vote. The log, or a snapshot, is sent to it from now on. Returns
    /// the index of the entry that did it.
    ///
    /// The id must be a new one: it never belonged to another node, nor to this one before its disk
    /// was lost. Adding a member that is there already does nothing.
    pub async fn add_learner(&self, node: NodeId, address: String) -> Result<u64> {
        let _turn = self.inner.changes.lock().await;
        self.add(node, address).await
    }

    /// Gives the learner `node` a vote, once it has the whole log as it is now. Returns the index of
    /// the entry that did it.
    pub async fn promote(&self, node: NodeId) -> Result<u64> {
        let _turn = self.inner.changes.lock().await;
        let mut voters = self.voters();
        voters.insert(node);
        self.make_voters(voters).await
    }

    /// Puts the new node `new` in the place of the voter `old`: adds it, waits until it has the
    /// whole log, and changes the voters in one step. This is how a node that lost its disk comes
    /// back: under a new id. Returns the index of the entry that did it.
    pub async fn replace(&self, old: NodeId, new: NodeId, address: String) -> Result<u64> {
        let _turn = self.inner.changes.lock().await;
        let mut voters = self.voters();
        if !voters.remove(&old) {
            return Err(not_changed(format!("node {old} does not vote")));
        }
        voters.insert(new);
        self.check_leader_stays(&voters)?;
        self.add(new, address).await?;
        self.make_voters(voters).await
    }

    /// Takes `node`, a voter or a learner, out of the cluster. A leader is not removed: it gives its
    /// leadership away first. Returns the index of the entry that did it.
    ///
    /// The node itself may not hear of it. Shut it down.
    pub async fn remove(&self, node: NodeId) -> Result<u64> {
        let _turn = self.inner.changes.lock().await;
        let mut voters = self.voters();
        if voters.remove(&node) {
            return self.make_voters(voters).await;
        }
        self.address_of(node)?;
        self.change(ChangeMembers::RemoveNodes([node].into())).await
    }

    /// Tells the cluster that `node` is found at another address. It must be the same node, with
    /// its file. Returns the index of the entry that did it.
    pub async fn set_address(&self, node: NodeId, address: String) -> Result<u64> {
        let _turn = self.inner.changes.lock().await;
        self.address_of(node)?;
        let nodes = BTreeMap::from([(node, Node::new(address))]);
        self.change(ChangeMembers::SetNodes(nodes)).await
    }

    /// Makes `voters`, which must be members already, the voting members in one step. Those no
    /// longer among them leave the cluster. Waits until each has the whole log. Returns the index of
    /// the entry that did it.
    pub async fn change_membership(&self, voters: BTreeSet<NodeId>) -> Result<u64> {
        let _turn = self.inner.changes.lock().await;
        self.make_voters(voters).await
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.voter_ids().collect()
    }

    fn address_of(&self, node: NodeId) -> Result<String> {
        self.ensure_leading()?;
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let known = metrics.membership_config.membership().get_node(&node);
        known
            .map(|node| node.addr.clone())
            .ok_or_else(|| not_changed(format!("node {node} is no member")))
    }

    fn check_leader_stays(&self, voters: &BTreeSet<NodeId>) -> Result<()> {
        self.ensure_leading()?;
        let node = self.inner.link.node;
        if voters.contains(&node) {
            return Ok(());
        }
        Err(not_changed(format!(
            "node {node} leads: transfer the leadership, and have the new leader remove it"
        )))
    }

    async fn add(&self, node: NodeId, address: String) -> Result<u64> {
        match self.address_of(node) {
            Ok(known) if known != address => {
                return Err(not_changed(format!(
                    "node {node} is a member already, at {known}: set its address, or choose another id for another node"
                )));
            }
            Ok(_) | Err(Error::Membership { .. }) => {}
            Err(error) => return Err(error),
        }
        let nodes = BTreeMap::from([(node, Node::new(address))]);
        self.change(ChangeMembers::AddNodes(nodes)).await
    }

    /// A voter without the log would keep everything that follows from being committed, so new ones
    /// are waited for.
    async fn make_voters(&self, voters: BTreeSet<NodeId>) -> Result<u64> {
        self.check_leader_stays(&voters)?;
        let present = self.voters();
        let timeout = self.inner.config.membership_timeout;
        for new in voters.difference(&present) {
            self.address_of(*new)?;
            let level = self.wait_until_level(*new);
            if tokio::time::timeout(timeout, level).await.is_err() {
                return Err(not_changed(format!(
                    "node {new} did not get the whole log within {timeout:?}: see that it runs and can be reached, and try again"
                )));
            }
        }
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    async fn change(&self, change: ChangeMembers<NodeId, Node>) -> Result<u64> {
        self.ensure_leading()?;
        let unknown = |reason| Err(Error::Unknown { reason });
        let timeout = self.inner.config.membership_timeout;
        let change = self.inner.raft.change_membership(change, false);
        match tokio::time::timeout(timeout, change).await {
            Ok(Ok(done)) => Ok(done.log_id.index),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                Err(refused(&error))
            }
            // It did lead, so the entry may have been taken.
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                unknown("this node lost the leadership".into())
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(super::stopped(&fatal)),
            Err(_) => unknown(format!("no answer within {timeout:?}")),
        }
    }
}

fn refused(error: &dyn std::error::Error) -> Error {
    not_changed(error.to_string())
}

fn not_changed(reason: String) -> Error {
    Error::Membership { reason }
}
