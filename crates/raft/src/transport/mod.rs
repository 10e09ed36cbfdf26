//! How nodes reach each other.
//!
//! A [`Transport`] moves requests and answers as bytes and knows nothing of Raft, so every
//! transport carries the same encoding, and the in-memory one of the tests exercises it.

mod memory;
mod tcp;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use memory::{MemoryNetwork, MemoryTransport};
pub use tcp::{TcpConfig, TcpTransport};

use crate::types::NodeId;

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries requests between the members of one cluster.
///
/// A transport may lose, delay or repeat a request: Raft allows for it. It must not deliver a
/// request to another node than the one named, nor alter it.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` from node `from` to node `to` at `address` and waits for the answer, no
    /// longer than `deadline`. Connects when needed. A peer that is down is
    /// [`TransportError::Unreachable`], at once where that can be told.
    fn call<'a>(
        &'a self,
        from: NodeId,
        to: NodeId,
        address: &'a str,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>>;

    /// Begins to deliver the requests for `node` to `handler`.
    fn serve(&self, node: NodeId, handler: Arc<dyn Handler>) -> Result<(), TransportError>;

    /// Ends delivering. When it returns the handler is given no further request, and the address is
    /// free.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// Answers the requests of other nodes.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. The bytes come from the network and may be anything.
    fn handle(&self, from: NodeId, request: Vec<u8>) -> BoxFuture<'_, Vec<u8>>;
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The peer is down, or there is no way to it.
    #[error("node {node} at {address} cannot be reached: {reason}")]
    Unreachable {
        /// The peer.
        node: NodeId,
        /// Where it was looked for.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The peer was reached and did not answer in time.
    #[error("node {node} did not answer within {waited:?}")]
    TimedOut {
        /// The peer.
        node: NodeId,
        /// The deadline.
        waited: Duration,
    },
    /// The message is larger than the transport takes.
    #[error("a message of {bytes} bytes is above the limit of {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The two ends do not belong together.
    #[error("node {node} at {address} refused the connection: {reason}")]
    Refused {
        /// The peer.
        node: NodeId,
        /// Its address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The transport cannot serve.
    #[error("cannot serve: {0}")]
    Serve(String),
}
