//! How a witness keeps from leading, and leads when nobody else can.

use std::time::Duration;

use openraft::{Raft, RaftMetrics, ServerState};
use tokio::time::Instant;

use crate::config::Config;
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::types::{Node, NodeId, TypeConfig};

/// Starts the task of a witness. It ends with the node.
pub(super) fn start<S: StateMachine>(raft: &Raft<TypeConfig<S>>, config: &Config) {
    let raft = raft.clone();
    let interval = config.heartbeat_interval;
    // By then every replica that can be elected had its chance to be.
    let patience = config.election_timeout_max * 3;
    // A replica that was refused a vote for want of entries stands again after the lease of the leader,
    // its own timeout, and twice the longest one.
    let pause = config.election_timeout_max * 6;
    let began = Instant::now();
    runtime::spawn(async move {
        let mut silent_since = None;
        loop {
            tokio::time::sleep(interval).await;
            let heard = raft.with_raft_state(|state| state.vote_last_modified());
            let Ok(heard) = heard.await else {
                return;
            };
            let metrics = raft.metrics().borrow().clone();
            let leads = metrics.state == ServerState::Leader;
            let silence = heard.unwrap_or(began).elapsed();
            raft.runtime_config().elect(!leads && silence > patience);
            silent_since = match leads && has_successor(&metrics) {
                true => silent_since.or_else(|| Some(Instant::now())),
                false => None,
            };
            raft.runtime_config()
                .heartbeat(!is_silent(silent_since, pause));
        }
    });
}

/// Whether a replica has the whole log. With a leader that is silent it is elected.
fn has_successor(metrics: &RaftMetrics<NodeId, Node>) -> bool {
    let voters = metrics.membership_config.membership();
    let complete = metrics.last_applied.filter(|applied| {
        // The leader's own first entry is committed, so all that it found is.
        Some(applied.index) == metrics.last_log_index
            && applied.leader_id.term == metrics.current_term
    });
    let replicas = metrics.replication.iter().flatten();
    complete.is_some()
        && replicas
            .filter(|(id, _)| **id != metrics.id && voters.voter_ids().any(|voter| voter == **id))
            .any(|(_, matched)| *matched == complete)
}

/// A leader is silent for a while, and speaks for a while if nobody took its place: another replica
/// may need what it has.
fn is_silent(since: Option<Instant>, pause: Duration) -> bool {
    let Some(since) = since else {
        return false;
    };
    let periods = since.elapsed().as_millis() / pause.as_millis().max(1);
    periods.is_multiple_of(2)
}
