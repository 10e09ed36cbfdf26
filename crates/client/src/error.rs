//! What can go wrong between a client and a cluster.

use std::time::Duration;

use folio_api::{Code, ProblemDocument};

/// The result of asking a cluster.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A node refused the request, and another one would, too: the document says why.
    #[error("{}: {}", .0.title, .0.detail)]
    Refused(Box<ProblemDocument>),
    /// No node answered within the deadline, or all of them said that they cannot now. Nothing was done.
    #[error("no node could answer within {waited:?}; the last one that was asked: {last}")]
    Unavailable {
        /// How long the client tried.
        waited: Duration,
        /// What happened at the node that was asked last.
        last: String,
    },
    /// The request was sent, and no answer came: it may have been carried out, or may still be. In a session,
    /// [`Session::settle`](crate::Session::settle) finds out; outside one, read what it should have changed.
    #[error("it is not known whether this was done: {reason}")]
    OutcomeUnknown {
        /// What happened.
        reason: String,
    },
    /// The node is not who it should be, or does not want this client's certificate.
    #[error("{address}: {reason}")]
    Tls {
        /// The node.
        address: String,
        /// Why.
        reason: String,
    },
    /// What answers is no Folio node, or one of another version.
    #[error("{address}: {reason}")]
    NotFolio {
        /// Who answered.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// What a node answered does not follow from the block that the client trusts. Nothing of the answer is given out.
    #[error("this is not proved: {0}")]
    NotProved(String),
    /// A setting that cannot be used.
    #[error("{0}")]
    Setting(String),
}

impl Error {
    /// The stable code of a refusal.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Refused(problem) => Some(problem.code),
            _ => None,
        }
    }
}
