//! A node without a state: it asks for one, and leads nobody until it has it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::Raft;

use super::{ReplicatedDatabase, WeakHandle};
use crate::network::Link;
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::store::{Failure, Shared, Standing};
use crate::types::TypeConfig;

/// Starts the task that sees to it that a state which was given up comes back. It ends with the store.
pub(super) fn start<S: StateMachine>(database: &ReplicatedDatabase<S>) {
    let store = database.inner.store.shared();
    let mut standing = store.standing.subscribe();
    let rebuilder = Rebuilder {
        raft: database.inner.raft.clone(),
        database: WeakHandle::of(database),
        store: Arc::downgrade(store),
        link: database.inner.link.clone(),
        interval: database.inner.config.heartbeat_interval,
    };
    runtime::spawn(async move {
        loop {
            if matches!(*standing.borrow_and_update(), Standing::Rebuilding { .. }) {
                rebuilder.raft.runtime_config().elect(false);
                rebuilder.database.pass_leadership_on().await;
                if !rebuilder.ask().await {
                    return;
                }
                tokio::select! {
                    changed = standing.changed() => match changed {
                        Ok(()) => rebuilder.raft.runtime_config().elect(true),
                        Err(_) => return,
                    },
                    () = tokio::time::sleep(rebuilder.interval) => {}
                }
            } else if standing.changed().await.is_err() {
                return;
            }
        }
    });
}

struct Rebuilder<S: StateMachine> {
    raft: Raft<TypeConfig<S>>,
    database: WeakHandle<S>,
    store: Weak<Shared<S>>,
    link: Link,
    interval: Duration,
}

impl<S: StateMachine> Rebuilder<S> {
    /// Takes one step towards a state; false when the node has ended.
    async fn ask(&self) -> bool {
        let Some(store) = self.store.upgrade() else {
            return false;
        };
        let node = store.node;
        let rebuilding = runtime::blocking(move || {
            store.with_database(|database| store.rebuild_from_log(database))
        });
        match rebuilding.await {
            Ok(Ok(true)) => {
                tracing::info!(node, "the state is rebuilt from the log");
                return true;
            }
            // In the second case a snapshot is arriving.
            Ok(Ok(false) | Err(Failure::StagingTaken)) => {}
            Ok(Err(Failure::Stopped)) | Err(_) => return false,
            Ok(Err(failure)) => {
                tracing::warn!(node, %failure, "the state cannot be rebuilt from the log")
            }
        }
        let (leader, address) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let leader = metrics.current_leader.filter(|&leader| leader != node);
            let members = metrics.membership_config.membership();
            let found = leader.and_then(|id| Some((id, members.get_node(&id)?.addr.clone())));
            match found {
                Some(found) => found,
                None => return true,
            }
        };
        let patience = self.interval * 4;
        let asked = (self.link).ask_for_state::<S>(leader, &address, patience);
        if let Err(reason) = asked.await {
            tracing::warn!(node, leader, %reason, "the leader does not send its state");
        }
        true
    }
}
