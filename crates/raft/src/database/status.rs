//! What a node says about itself.

use std::collections::BTreeMap;

use openraft::{RaftMetrics, ServerState};

use crate::store::Standing;
use crate::types::{Node, NodeId};

/// A node's part in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Role {
    /// Takes part in elections and follows a leader.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Receives the log and does not vote.
    Learner,
    /// Is shutting down or stopped.
    Stopped,
}

impl Role {
    fn of(state: ServerState) -> Self {
        match state {
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Stopped,
        }
    }
}

/// The state of one node, as it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its part in the cluster.
    pub role: Role,
    /// The newest term it has seen.
    pub term: u64,
    /// The leader it follows, or itself.
    pub leader: Option<NodeId>,
    /// Index of the last entry in its log.
    pub last_log: Option<u64>,
    /// Index of the last entry applied.
    pub applied: Option<u64>,
    /// Index of the last entry whose effect is durable in the tables; the rest would be applied
    /// again after a crash.
    pub checkpointed: Option<u64>,
    /// Index up to which there is a snapshot.
    pub snapshot: Option<u64>,
    /// Index up to which the log is gone.
    pub purged: Option<u64>,
    /// The voting members and their addresses.
    pub voters: BTreeMap<NodeId, String>,
    /// The members that do not vote.
    pub learners: BTreeMap<NodeId, String>,
    /// What was damaged, while the state of this node is being rebuilt. Until that is done the node
    /// votes and keeps the log, and does not lead or answer reads.
    pub rebuilding: Option<String>,
    /// Whether this node is a [`Witness`](crate::Witness).
    pub witness: bool,
    /// Why this node takes no writes, if its disk is full or nearly so: see
    /// [`Config::disk_reserve`](crate::Config::disk_reserve). It goes on by itself once there is room.
    pub disk_full: Option<String>,
    /// Why the node stopped, if it did.
    pub error: Option<String>,
}

impl Status {
    pub(super) fn new(
        metrics: &RaftMetrics<NodeId, Node>,
        checkpointed: Option<u64>,
        standing: &Standing,
        fault: Option<String>,
    ) -> Self {
        let membership = metrics.membership_config.membership();
        let address = |id: NodeId| {
            let node = membership.get_node(&id);
            (id, node.map(|node| node.addr.clone()).unwrap_or_default())
        };
        Self {
            node: metrics.id,
            role: Role::of(metrics.state),
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log: metrics.last_log_index,
            applied: metrics.last_applied.map(|id| id.index),
            checkpointed,
            snapshot: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            voters: membership.voter_ids().map(address).collect(),
            learners: membership.learner_ids().map(address).collect(),
            rebuilding: match standing {
                Standing::Rebuilding { damage } => Some(damage.clone()),
                Standing::Whole | Standing::Witness => None,
            },
            witness: *standing == Standing::Witness,
            disk_full: None,
            error: fault.or_else(|| {
                let error = metrics.running_state.as_ref().err();
                error.map(ToString::to_string)
            }),
        }
    }

    /// The address of the leader, where known.
    pub fn leader_address(&self) -> Option<&str> {
        let leader = self.leader?;
        self.voters
            .get(&leader)
            .or_else(|| self.learners.get(&leader))
            .map(String::as_str)
    }
}
