//! Asking another node, and understanding its answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::message::{Handover, Request, Response, decode, encode};
use crate::error::Error;
use crate::metrics::Meters;
use crate::state_machine::StateMachine;
use crate::transport::{Transport, TransportError};
use crate::types::NodeId;

/// A node's way to the others.
#[derive(Clone)]
pub(crate) struct Link {
    pub transport: Arc<dyn Transport>,
    pub node: NodeId,
    pub meters: Arc<Meters>,
    pub refusals: Arc<Refusals>,
}

/// Why each peer and this node do not belong together, so that it is told once.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<NodeId, String>>);

impl Refusals {
    /// Warns of a refusal that is news: it does not mend itself.
    fn note(&self, peer: NodeId, called: &Result<Vec<u8>, TransportError>) {
        let mut refusals = self.0.lock();
        match called {
            Ok(_) => {
                refusals.remove(&peer);
            }
            Err(error @ TransportError::Refused { reason, .. }) => {
                if refusals.get(&peer) != Some(reason) {
                    tracing::warn!("{error}");
                    refusals.insert(peer, reason.clone());
                }
            }
            Err(_) => {}
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("encoding the request: {0}")]
    Encode(postcard::Error),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the answer of node {node} cannot be read: {reason}")]
    Answer { node: NodeId, reason: String },
}

impl Link {
    /// Sends an encoded request and decodes the answer.
    pub(super) async fn exchange(
        &self,
        to: NodeId,
        address: &str,
        request: Vec<u8>,
        deadline: Duration,
    ) -> Result<Response, LinkError> {
        let transport = &self.transport;
        let call = transport.call(self.node, to, address, request, deadline);
        let answer = call.await;
        self.refusals.note(to, &answer);
        let answer = answer?;
        self.meters.answered(to);
        decode(&answer).map_err(|reason| LinkError::Answer { node: to, reason })
    }

    async fn ask<S: StateMachine>(
        &self,
        to: NodeId,
        address: &str,
        request: Request<S>,
        deadline: Duration,
    ) -> Result<Response, String> {
        let request = encode(&request).map_err(|e| e.to_string())?;
        let answer = self.exchange(to, address, request, deadline).await;
        answer.map_err(|e| e.to_string())
    }

    /// Asks the leader up to which index the log is committed.
    pub async fn committed_index<S: StateMachine>(
        &self,
        leader: NodeId,
        address: &str,
        deadline: Duration,
    ) -> Result<u64, Error> {
        let request = Request::<S>::CommittedIndex;
        let reason = match self.ask(leader, address, request, deadline).await {
            Ok(Response::CommittedIndex(index)) => return Ok(index),
            Ok(response) => response.unexpected(),
            Err(reason) => reason,
        };
        Err(Error::Peer {
            node: leader,
            reason,
        })
    }

    /// Asks another node to take a step of giving leadership away.
    pub async fn handover<S: StateMachine>(
        &self,
        to: NodeId,
        address: &str,
        step: Handover,
        deadline: Duration,
    ) -> Result<(), Error> {
        let request = Request::<S>::Handover(step);
        let reason = match self.ask(to, address, request, deadline).await {
            Ok(Response::Done) => return Ok(()),
            Ok(response) => response.unexpected(),
            Err(reason) => reason,
        };
        Err(Error::Peer { node: to, reason })
    }
}

impl Link {
    /// Asks the state machine of another node.
    pub async fn question<S: StateMachine>(
        &self,
        to: NodeId,
        address: &str,
        question: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, Error> {
        let request = Request::<S>::Question(question);
        let reason = match self.ask(to, address, request, deadline).await {
            Ok(Response::Answer(answer)) => return Ok(answer),
            Ok(response) => response.unexpected(),
            Err(reason) => reason,
        };
        Err(Error::Peer { node: to, reason })
    }

    /// Asks the leader to send its state to this node.
    pub async fn ask_for_state<S: StateMachine>(
        &self,
        leader: NodeId,
        address: &str,
        deadline: Duration,
    ) -> Result<(), String> {
        let request = encode(&Request::<S>::SendState).map_err(|e| e.to_string())?;
        match self.exchange(leader, address, request, deadline).await {
            Ok(Response::SendingState) => Ok(()),
            Ok(response) => Err(response.unexpected()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Response {
    /// What to say of an answer that does not fit the question.
    pub fn unexpected(self) -> String {
        match self {
            Response::Refused(reason) => reason,
            _ => "it answered another question".into(),
        }
    }
}
