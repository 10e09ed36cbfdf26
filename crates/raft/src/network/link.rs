//! Asking another node, and understanding its answer.

use std::sync::Arc;
use std::time::Duration;

use super::message::{Request, Response, decode, encode};
use crate::error::Error;
use crate::state_machine::StateMachine;
use crate::transport::{Transport, TransportError};
use crate::types::NodeId;

/// A node's way to the others.
#[derive(Clone)]
pub(crate) struct Link {
    pub transport: Arc<dyn Transport>,
    pub node: NodeId,
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
        decode(&call.await?).map_err(|reason| LinkError::Answer { node: to, reason })
    }

    /// Asks the leader up to which index the log is committed.
    pub async fn committed_index<S: StateMachine>(
        &self,
        leader: NodeId,
        address: &str,
        deadline: Duration,
    ) -> Result<u64, Error> {
        let failed = |reason| Error::Peer {
            node: leader,
            reason,
        };
        let request = encode(&Request::<S>::CommittedIndex).map_err(|e| failed(e.to_string()))?;
        match self.exchange(leader, address, request, deadline).await {
            Ok(Response::CommittedIndex(index)) => Ok(index),
            Ok(response) => Err(failed(response.unexpected())),
            Err(error) => Err(failed(error.to_string())),
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
