//! Giving leadership away.
//!
//! 1. Find a successor that answers, and wait until no entry is under way and its log is like ours.
//! 2. Step down, by showing our own Raft the vote with which the successor is going to stand. From
//!    here on nobody leads.
//! 3. Show the others the same vote, which frees theirs, until they are a majority.
//! 4. Have the successor stand.
//!
//! Every step is an ordinary event of Raft, and the successor is elected in the ordinary way. When one
//! fails, or is lost, the others stand for election as they always do after a silence, and sooner
//! than after a crash, since there is no promise left that would have to run out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use tokio::sync::mpsc;

use super::propose::Proposer;
use super::{ReplicatedDatabase, not_leader};
use crate::error::{Error, Result};
use crate::network::{Handover, show_vote};
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::types::{NodeId, StoredMembership, Vote};

impl<S: StateMachine> ReplicatedDatabase<S> {
    /// Gives the leadership to the voting member `to`, or to the one whose log is furthest along,
    /// and returns who leads now. Only the leader can.
    ///
    /// Writes that arrive meanwhile wait, and are then refused with [`Error::NotLeader`]; none is
    /// lost, and none has an unknown outcome because of this. Takes no longer than
    /// [`Config::handover_timeout`](crate::Config::handover_timeout). After an [`Error::Handover`]
    /// this node may still lead; if not, another is elected soon.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId> {
        self.ensure_leading()?;
        let proposer = self.inner.proposer.lock().clone();
        let proposer = proposer.ok_or(Error::ShuttingDown)?;
        let limit = self.inner.config.handover_timeout;
        match tokio::time::timeout(limit, self.hand_over(to, &proposer)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(refused(format!("it took longer than {limit:?}"))),
        }
    }

    async fn hand_over(&self, to: Option<NodeId>, proposer: &Proposer<S>) -> Result<NodeId> {
        let _turn = self.inner.changes.lock().await;
        let successor = self.successor(to).await?;
        // Until the end, so that what waits is refused with the name of the new leader.
        let _hold = proposer.hold().await.ok_or(Error::ShuttingDown)?;
        self.wait_until_level(successor).await?;
        // From here on others may break what they promised to us.
        let _suspension = self.inner.leadership.suspend();
        let term = self.status().term;
        let vote = Vote::new(term.saturating_add(1), successor);
        match show_vote(&self.inner.raft, vote).await {
            Ok(true) => {}
            Ok(false) => return Err(not_leader(&self.status())),
            Err(reason) => return Err(refused(reason)),
        }
        tracing::info!(node = self.inner.link.node, successor, term, "handing over");
        self.release_others(vote).await?;
        self.step(successor, Handover::Stand(vote)).await?;

        let node = self.inner.link.node;
        let elected = |leader: Option<NodeId>| leader.filter(|id| *id != node);
        let status = self
            .wait_for("the new leader", Duration::MAX, |status| {
                elected(status.leader).is_some()
            })
            .await?;
        match elected(status.leader) {
            Some(leader) if to.is_none_or(|to| to == leader) => Ok(leader),
            other => Err(refused(format!("node {other:?} was elected instead"))),
        }
    }

    /// A voter that answers: `to`, or the first by the length of its log.
    async fn successor(&self, to: Option<NodeId>) -> Result<NodeId> {
        let node = self.inner.link.node;
        let mut candidates: Vec<NodeId> = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow();
            let matched = |id: &NodeId| metrics.replication.as_ref()?.get(id).copied()?;
            let voters = metrics.membership_config.voter_ids();
            let mut others: Vec<_> = voters.filter(|id| *id != node).collect();
            others.sort_by_key(|id| std::cmp::Reverse(matched(id)));
            others
        };
        if let Some(to) = to {
            if !candidates.contains(&to) {
                return Err(refused(format!("node {to} is no other voting member")));
            }
            candidates = vec![to];
        }
        let mut reason = "there is no other voting member".to_owned();
        for candidate in candidates {
            match self.step(candidate, Handover::Ready).await {
                Ok(()) => return Ok(candidate),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(refused(reason))
    }

    /// Waits until the log of `peer` is as long as this one was when the wait began.
    pub(super) async fn wait_until_level(&self, peer: NodeId) -> Result<()> {
        let mut metrics = self.inner.raft.metrics();
        let last = metrics.borrow().last_log_index;
        let level = metrics.wait_for(|metrics| {
            let replication = metrics.replication.as_ref();
            let matched = replication.and_then(|all| all.get(&peer).copied().flatten());
            metrics.state != ServerState::Leader || matched.map(|id| id.index) >= last
        });
        let leads = match level.await {
            Ok(metrics) => metrics.state == ServerState::Leader,
            Err(_) => return Err(Error::ShuttingDown),
        };
        match leads {
            true => Ok(()),
            false => Err(not_leader(&self.status())),
        }
    }

    /// Shows `vote` to the other members until it, this node and the successor are a majority.
    async fn release_others(&self, vote: Vote) -> Result<()> {
        let membership = self.inner.raft.metrics().borrow().membership_config.clone();
        let mut released = BTreeSet::from([self.inner.link.node, vote.leader_id.node_id]);
        let (done, mut answers) = mpsc::unbounded_channel();
        for peer in membership.voter_ids().filter(|id| !released.contains(id)) {
            let (database, done) = (self.clone(), done.clone());
            runtime::spawn(async move {
                let outcome = database.step(peer, Handover::Release(vote)).await;
                // Nobody listens any more once there is a majority.
                let _ = done.send((peer, outcome));
            });
        }
        drop(done);
        let mut reason = String::new();
        while !is_majority(&membership, &released) {
            match answers.recv().await {
                Some((peer, Ok(()))) => {
                    released.insert(peer);
                }
                Some((_, Err(error))) => reason = error.to_string(),
                None => return Err(refused(reason)),
            }
        }
        Ok(())
    }

    async fn step(&self, peer: NodeId, step: Handover) -> Result<()> {
        let membership = self.inner.raft.metrics().borrow().membership_config.clone();
        let address = membership
            .membership()
            .get_node(&peer)
            .map(|n| n.addr.clone());
        let address = address.ok_or_else(|| refused(format!("node {peer} is no member")))?;
        let deadline = self.inner.config.heartbeat_interval;
        let link = &self.inner.link;
        link.handover::<S>(peer, &address, step, deadline).await
    }
}

fn is_majority(membership: &Arc<StoredMembership>, nodes: &BTreeSet<NodeId>) -> bool {
    let configs = membership.membership().get_joint_config();
    configs
        .iter()
        .all(|config| config.intersection(nodes).count() * 2 > config.len())
}

fn refused(reason: String) -> Error {
    Error::Handover { reason }
}
