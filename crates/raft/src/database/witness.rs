//! How a witness keeps from leading, and leads when nobody else can.

use openraft::ServerState;
use tokio::time::Instant;

use super::{ReplicatedDatabase, WeakHandle};
use crate::runtime;
use crate::state_machine::StateMachine;

/// Starts the task of a witness. It ends with the node.
pub(super) fn start<S: StateMachine>(database: &ReplicatedDatabase<S>) {
    let raft = database.inner.raft.clone();
    let interval = database.inner.config.heartbeat_interval;
    // By then every replica that can be elected had its chance to be.
    let patience = database.inner.config.election_timeout_max * 3;
    let database = WeakHandle::of(database);
    let began = Instant::now();
    runtime::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let heard = raft.with_raft_state(|state| state.vote_last_modified());
            let Ok(heard) = heard.await else {
                return;
            };
            let leads = raft.metrics().borrow().state == ServerState::Leader;
            let silence = heard.unwrap_or(began).elapsed();
            raft.runtime_config().elect(!leads && silence > patience);
            if leads {
                // A replica that lacks something gets it first, as from any leader.
                database.pass_leadership_on().await;
            }
        }
    });
}
