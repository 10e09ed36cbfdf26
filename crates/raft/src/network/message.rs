//! What nodes say to each other, and how it is encoded: a version in the first byte, then postcard.

use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::state_machine::StateMachine;
use crate::types::{LogId, NodeId, SnapshotMeta, TypeConfig, Vote};

/// The version of the messages below. Raised when what a version sends is no longer what it was;
/// the first byte stays the version for ever, so that two versions can tell each other apart.
const VERSION: u8 = 2;

/// A request of one node to another.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(super) enum Request<S: StateMachine> {
    Append(AppendEntriesRequest<TypeConfig<S>>),
    Vote(VoteRequest<NodeId>),
    Snapshot(SnapshotRequest),
    /// Up to which index is the log committed? Asked of the leader.
    CommittedIndex,
    /// A step of giving leadership away.
    Handover(Handover),
    /// Send me your state: mine is to be rebuilt.
    SendState,
    /// A question to the state machine.
    Question(Vec<u8>),
}

/// The steps of giving leadership away, as the leader asks for them. [`handover`](super::handover)
/// says why.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Handover {
    /// Are you there, and could you lead?
    Ready,
    /// Your promise to the leader is void: you may vote for the node that this vote names.
    Release(Vote),
    /// Stand for election with this vote.
    Stand(Vote),
}

/// One step of a transfer. Each is answered soon, however long the transfer takes.
#[derive(Serialize, Deserialize)]
pub(super) struct SnapshotRequest {
    /// The leader's.
    pub vote: Vote,
    /// Names the transfer: what is sent under one id is one stream of bytes.
    pub transfer: String,
    pub step: SnapshotStep,
}

#[derive(Serialize, Deserialize)]
pub(super) enum SnapshotStep {
    /// Announces a snapshot, or goes on with one that was announced before.
    Offer(SnapshotMeta),
    /// Some bytes of the stream.
    Part {
        offset: u64,
        last: bool,
        bytes: Vec<u8>,
    },
    /// Asks how far it is.
    Progress,
}

/// The answer to a step.
#[derive(Serialize, Deserialize)]
pub(super) enum SnapshotAnswer {
    /// To an offer of which nothing is there yet: where the state of the node is.
    Ready(Option<LogId>),
    /// So many bytes of the stream were taken; it goes on.
    Taken(u64),
    /// The snapshot is installed, or the log was faster.
    Installed,
    /// No such transfer is known: it has to be offered (again).
    Unknown,
    /// There is a newer leader.
    Outvoted(Vote),
    /// The transfer is over, for this reason.
    Failed(String),
}

/// The answer to an append.
#[derive(Serialize, Deserialize)]
pub(super) struct Appended {
    pub response: AppendEntriesResponse<NodeId>,
    /// For so long from then on the node votes for nobody else.
    pub promise: Duration,
}

/// The answer to a [`Request`].
#[derive(Serialize, Deserialize)]
pub(super) enum Response {
    Append(Appended),
    Vote(VoteResponse<NodeId>),
    Snapshot(SnapshotAnswer),
    /// Nothing beyond this index had been answered to anybody when the question was asked.
    CommittedIndex(u64),
    /// The step was taken.
    Done,
    /// It is on its way, as a snapshot.
    SendingState,
    /// What the state machine says.
    Answer(Vec<u8>),
    /// The request was not carried out.
    Refused(String),
}

/// Encodes a message.
pub(super) fn encode(message: &impl Serialize) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(message, vec![VERSION])
}

/// Decodes a message, whole.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let message = match bytes.split_first() {
        Some((&VERSION, message)) => message,
        Some((other, _)) => {
            return Err(format!(
                "it is in version {other} of the protocol, and this node speaks version {VERSION}: run the same release of folio-raft on all nodes"
            ));
        }
        None => return Err("it is empty".into()),
    };
    match postcard::take_from_bytes(message) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(format!("{} bytes follow the message", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}
