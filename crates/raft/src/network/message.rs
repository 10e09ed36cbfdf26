//! What nodes say to each other, and how it is encoded.

use openraft::error::SnapshotMismatch;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::state_machine::StateMachine;
use crate::types::{NodeId, TypeConfig};

/// A request of one node to another.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(super) enum Request<S: StateMachine> {
    Append(AppendEntriesRequest<TypeConfig<S>>),
    Vote(VoteRequest<NodeId>),
    Snapshot(InstallSnapshotRequest<TypeConfig<S>>),
}

/// The answer to a [`Request`].
#[derive(Serialize, Deserialize)]
pub(super) enum Response {
    Append(AppendEntriesResponse<NodeId>),
    Vote(VoteResponse<NodeId>),
    Snapshot(InstallSnapshotResponse<NodeId>),
    /// The chunk does not continue what was received: begin again.
    Mismatch(SnapshotMismatch),
    /// The request was not carried out.
    Refused(String),
}

/// Encodes a message.
pub(super) fn encode(message: &impl Serialize) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_allocvec(message)
}

/// Decodes a message, whole.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(format!("{} bytes follow the message", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}
