//! The receiving side: requests of other nodes, given to this node's Raft.

use std::sync::Arc;

use openraft::Raft;

use super::message::{Request, Response, decode, encode};
use super::snapshot::SnapshotReceiver;
use crate::leadership::Leadership;
use crate::state_machine::StateMachine;
use crate::store::SharedStore;
use crate::transport::{BoxFuture, Handler};
use crate::types::{NodeId, TypeConfig};

/// Answers the requests of other nodes.
pub(crate) struct RaftServer<S: StateMachine> {
    raft: Raft<TypeConfig<S>>,
    leadership: Arc<Leadership<S>>,
    snapshots: SnapshotReceiver<S>,
}

impl<S: StateMachine> RaftServer<S> {
    pub fn new(
        raft: Raft<TypeConfig<S>>,
        leadership: Arc<Leadership<S>>,
        store: SharedStore<S>,
    ) -> Self {
        Self {
            snapshots: SnapshotReceiver::new(raft.clone(), store),
            leadership,
            raft,
        }
    }

    async fn respond(&self, request: Request<S>) -> Response {
        match request {
            Request::Append(append) => self
                .raft
                .append_entries(append)
                .await
                .map_or_else(|e| Response::Refused(e.to_string()), Response::Append),
            Request::Vote(vote) => {
                // A leader may grant its own vote although its followers keep theirs.
                let _suspension = self.leadership.suspend();
                self.raft
                    .vote(vote)
                    .await
                    .map_or_else(|e| Response::Refused(e.to_string()), Response::Vote)
            }
            Request::Snapshot(step) => Response::Snapshot(self.snapshots.answer(step).await),
            Request::CommittedIndex => self.leadership.committed_index().await.map_or_else(
                |e| Response::Refused(e.to_string()),
                Response::CommittedIndex,
            ),
        }
    }
}

impl<S: StateMachine> Handler for RaftServer<S> {
    fn handle(&self, from: NodeId, request: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        Box::pin(async move {
            let response = match decode(&request) {
                Ok(request) => self.respond(request).await,
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
