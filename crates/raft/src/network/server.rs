//! The receiving side: requests of other nodes, given to this node's Raft.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;

use super::client::Peers;
use super::handover::Handovers;
use super::message::{Appended, Request, Response, decode, encode};
use super::snapshot::SnapshotReceiver;
use super::state::StateSender;
use crate::leadership::Leadership;
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::store::SharedStore;
use crate::transport::{BoxFuture, Handler};
use crate::types::{NodeId, TypeConfig};

/// Answers the requests of other nodes.
pub(crate) struct RaftServer<S: StateMachine> {
    raft: Raft<TypeConfig<S>>,
    leadership: Arc<Leadership<S>>,
    handovers: Handovers<S>,
    snapshots: SnapshotReceiver<S>,
    states: StateSender<S>,
    store: SharedStore<S>,
    /// For how long this node keeps its vote for a leader that it has heard from.
    promise: Duration,
}

impl<S: StateMachine> RaftServer<S> {
    pub fn new(
        raft: Raft<TypeConfig<S>>,
        leadership: Arc<Leadership<S>>,
        store: SharedStore<S>,
        peers: Peers<S>,
        promise: Duration,
    ) -> Self {
        Self {
            promise,
            handovers: Handovers::new(store.clone(), raft.clone(), leadership.clone()),
            states: StateSender::new(raft.clone(), store.clone(), peers),
            snapshots: SnapshotReceiver::new(raft.clone(), store.clone()),
            store,
            leadership,
            raft,
        }
    }

    async fn respond(&self, from: NodeId, request: Request<S>) -> Result<Response, String> {
        let leader = match &request {
            Request::Append(append) => append.vote.leader_id().voted_for(),
            Request::Snapshot(step) => step.vote.leader_id().voted_for(),
            _ => None,
        };
        if leader == Some(self.store.node) {
            // openraft takes it for impossible, and would panic.
            return Err(format!("node {from} speaks as if it were this node"));
        }
        match request {
            Request::Append(append) => {
                let _promising = self.handovers.promising().await;
                let appended = self.raft.append_entries(append).await;
                let response = appended.map_err(|e| e.to_string())?;
                // Including what this node appended as a leader before.
                self.store.settled().await.map_err(|e| e.to_string())?;
                let promise = self.promise;
                Ok(Response::Append(Appended { response, promise }))
            }
            Request::Vote(vote) => {
                // A leader may grant its own vote although its followers keep theirs.
                let _suspension = self.leadership.suspend();
                let voted = self.raft.vote(vote).await;
                voted.map(Response::Vote).map_err(|e| e.to_string())
            }
            Request::Snapshot(step) => Ok(Response::Snapshot(self.snapshots.answer(step).await)),
            Request::CommittedIndex => {
                let committed = self.leadership.committed_index().await;
                committed
                    .map(Response::CommittedIndex)
                    .map_err(|e| e.to_string())
            }
            Request::Handover(step) => {
                let taken = self.handovers.take(from, step).await;
                taken.map(|()| Response::Done)
            }
            Request::SendState => Ok(self.states.send(from).await),
            Request::Question(question) => {
                let store = self.store.clone();
                let answering = runtime::blocking(move || store.answer(&question));
                let answer = answering.await.map_err(|e| e.to_string())?;
                answer.map(Response::Answer)
            }
        }
    }
}

impl<S: StateMachine> Handler for RaftServer<S> {
    fn handle(&self, from: NodeId, request: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(async move {
            let response = match decode(&request) {
                Ok(request) => {
                    let response = self.respond(from, request).await;
                    response.unwrap_or_else(Response::Refused)
                }
                Err(reason) => {
                    tracing::warn!(from, %reason, "a request does not decode");
                    Response::Refused(format!("the request does not decode: {reason}"))
                }
            };
            encode(&response).unwrap_or_else(|error| {
                tracing::error!(from, %error, "an answer cannot be encoded");
                Vec::new()
            })
        })
    }
}
