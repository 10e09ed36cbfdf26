//! Sending a state to a node that asks for one, because its own is to be rebuilt.
//!
//! Raft sends snapshots to nodes whose log is behind. That of a node whose state was damaged is not,
//! so it asks, and the leader sends it a snapshot in the way in which Raft would.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::{Raft, ServerState, Snapshot};
use parking_lot::Mutex;

use super::client::Peers;
use super::message::Response;
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::store::SharedStore;
use crate::types::{NodeId, TypeConfig};

/// The answering side.
pub(super) struct StateSender<S: StateMachine> {
    raft: Raft<TypeConfig<S>>,
    store: SharedStore<S>,
    peers: Peers<S>,
    /// Who is being sent a state.
    receivers: Arc<Mutex<BTreeSet<NodeId>>>,
}

impl<S: StateMachine> StateSender<S> {
    pub fn new(raft: Raft<TypeConfig<S>>, store: SharedStore<S>, peers: Peers<S>) -> Self {
        Self {
            raft,
            store,
            peers,
            receivers: Arc::default(),
        }
    }

    /// Begins to send the state of this node to `node`. Only a leader does: its vote is what the
    /// receiver takes a snapshot on.
    pub async fn send(&self, node: NodeId) -> Response {
        let (vote, target) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let target = metrics.membership_config.membership().get_node(&node);
            match (metrics.state, target) {
                (ServerState::Leader, Some(target)) => (metrics.vote, target.clone()),
                (ServerState::Leader, None) => {
                    return Response::Refused(format!("node {node} is not a member"));
                }
                _ => return Response::Refused("this node does not lead".into()),
            }
        };
        if !self.store.holds_state() {
            return Response::Refused("this node has no state itself".into());
        }
        if !self.receivers.lock().insert(node) {
            return Response::SendingState;
        }
        let sending = Sending {
            node,
            receivers: self.receivers.clone(),
        };
        let store = self.store.clone();
        let mut peers = self.peers.clone();
        runtime::spawn(async move {
            let taking = runtime::blocking(move || {
                store.with_database(|database| store.snapshot_now(database))
            });
            let outcome = match taking.await {
                Ok(Ok((meta, data))) => {
                    let snapshot = Snapshot {
                        meta,
                        snapshot: Box::new(data),
                    };
                    let mut peer = peers.new_client(node, &target).await;
                    let option = RPCOption::new(SEND_PATIENCE);
                    let never = std::future::pending();
                    let sent = peer.full_snapshot(vote, snapshot, never, option).await;
                    sent.map(drop).map_err(|error| error.to_string())
                }
                Ok(Err(failure)) => Err(failure.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match outcome {
                Ok(()) => tracing::info!(node, "sent the state to a node that rebuilds its own"),
                Err(reason) => tracing::warn!(node, %reason, "sending the state failed"),
            }
            drop(sending);
        });
        Response::SendingState
    }
}

/// How long sending one chunk may take, the last one's installation included.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

struct Sending {
    node: NodeId,
    receivers: Arc<Mutex<BTreeSet<NodeId>>>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.receivers.lock().remove(&self.node);
    }
}
