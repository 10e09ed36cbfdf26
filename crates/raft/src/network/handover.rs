//! How followers take part in giving leadership away.
//!
//! A follower that hears from a leader votes for nobody for a while, and openraft 0.9 has no message
//! that ends this early. But that promise belongs to the *committed* vote of a leader: it is void as
//! soon as the follower has seen a higher vote, of a candidate. So the leader, once it has stepped
//! down itself, shows the others the vote with which its successor is going to stand: the next term,
//! the successor's name. That is what they would have seen from a candidate, so nothing about it
//! needs trust: the successor still has to be elected, and with the usual conditions. Only whose
//! promise it ends is looked at, since messages may come late.
//!
//! A vote is shown with an append that fits no log, since openraft takes the vote of an append
//! before it looks at the rest, and does not let a request for votes pass while the promise lasts.

use std::sync::Arc;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::{CommittedLeaderId, LeaderId, Raft};
use tokio::sync::{RwLock, RwLockReadGuard};

use super::message::Handover;
use crate::leadership::Leadership;
use crate::state_machine::StateMachine;
use crate::store::SharedStore;
use crate::types::{LogId, NodeId, TypeConfig, Vote};

/// Shows `vote`, of a candidate, to this node's own Raft. False: it has seen a higher one.
pub(crate) async fn show_vote<S: StateMachine>(
    raft: &Raft<TypeConfig<S>>,
    vote: Vote,
) -> Result<bool, String> {
    if vote.committed {
        return Err("the vote of a leader was shown as that of a candidate".into());
    }
    let nowhere = LogId::new(
        CommittedLeaderId::new(vote.leader_id.term, vote.leader_id.node_id),
        u64::MAX,
    );
    let request = AppendEntriesRequest {
        vote,
        prev_log_id: Some(nowhere),
        entries: Vec::new(),
        leader_commit: None,
    };
    match raft.append_entries(request).await {
        Ok(AppendEntriesResponse::Conflict) => Ok(true),
        Ok(AppendEntriesResponse::HigherVote(_)) => Ok(false),
        Ok(other) => Err(format!("an append that fits no log was answered {other}")),
        Err(error) => Err(error.to_string()),
    }
}

/// A node's part in the leadership of others being given away.
pub(super) struct Handovers<S: StateMachine> {
    node: NodeId,
    raft: Raft<TypeConfig<S>>,
    leadership: Arc<Leadership<S>>,
    store: SharedStore<S>,
    /// Held for reading while an append is dealt with.
    appends: RwLock<()>,
}

impl<S: StateMachine> Handovers<S> {
    pub fn new(
        store: SharedStore<S>,
        raft: Raft<TypeConfig<S>>,
        leadership: Arc<Leadership<S>>,
    ) -> Self {
        Self {
            node: store.node,
            store,
            raft,
            leadership,
            appends: RwLock::new(()),
        }
    }

    /// To be held while an append, and so a promise to a leader, is dealt with.
    pub async fn promising(&self) -> RwLockReadGuard<'_, ()> {
        self.appends.read().await
    }

    /// Takes the step that `from` asks for.
    pub async fn take(&self, from: NodeId, step: Handover) -> Result<(), String> {
        match step {
            Handover::Ready => self.is_ready(),
            Handover::Release(vote) => self.release(from, vote).await,
            Handover::Stand(vote) => self.stand(from, vote).await,
        }
    }

    fn is_ready(&self) -> Result<(), String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let mut voters = metrics.membership_config.voter_ids();
        if !voters.any(|id| id == self.node) {
            return Err("it does not vote".into());
        }
        if !self.store.holds_state() {
            return Err("it has no state".into());
        }
        let running = metrics.running_state.as_ref();
        running.map_err(ToString::to_string).copied()
    }

    /// Frees this node from its promise to the leader that asks for it, and from no other: a message
    /// that comes late may find it following another leader, whose lease counts on it.
    async fn release(&self, from: NodeId, vote: Vote) -> Result<(), String> {
        let _appends = self.appends.write().await;
        let _suspension = self.leadership.suspend();
        let current = self.vote().await?;
        let asking = LeaderId::new(vote.leader_id.term.saturating_sub(1), from);
        if current.committed && current.leader_id > asking {
            return Err(format!("it follows another leader, with vote {current}"));
        }
        match show_vote(&self.raft, vote).await? {
            true => Ok(()),
            false => Err("it has seen a higher vote".into()),
        }
    }

    /// Stands for election, which breaks this node's own promise. That is right only if the promise
    /// is to the leader that asks for it, so no append of another one may come between the check and
    /// the election.
    async fn stand(&self, from: NodeId, vote: Vote) -> Result<(), String> {
        let _appends = self.appends.write().await;
        self.is_ready()?;
        let current = self.vote().await?;
        let term = current.leader_id.term.saturating_add(1);
        if current.leader_id.node_id != from || vote != Vote::new(term, self.node) {
            return Err(format!(
                "it was to stand with vote {vote}, and its own is {current}"
            ));
        }
        let standing = self.raft.trigger().elect().await;
        standing.map_err(|e| e.to_string())?;
        // Asked again, so that the election has begun before another append is taken.
        self.vote().await?;
        Ok(())
    }

    async fn vote(&self) -> Result<Vote, String> {
        let vote = self.raft.with_raft_state(|state| *state.vote_ref()).await;
        vote.map_err(|e| e.to_string())
    }
}
