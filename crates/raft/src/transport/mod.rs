//! How nodes reach each other.
//!
//! A [`Transport`] moves requests and answers as bytes and knows nothing of Raft, so every
//! transport carries the same encoding, and the in-memory one of the tests exercises it.
//!
//! # A transport of your own
//!
//! It owes its users this:
//!
//! - A request reaches the node that was named, or nobody, and unchanged. It may be lost, late or
//!   repeated.
//! - Requests to one peer do not wait for each other: votes, appends and parts of snapshots are under
//!   way at the same time.
//! - Messages of [`Config::MESSAGE_LIMIT`](crate::Config::MESSAGE_LIMIT) bytes pass. What arrives may be
//!   anything: a length is no reason to allocate.
//! - A call ends at its deadline, and at once with [`TransportError::Unreachable`] when it can be told
//!   that the peer is down.
//! - `from`, as the handler is told it, is who really sent the request, as far as peers are not
//!   trusted. Use certificates that name nodes.
//! - After `stop` the handler is left alone, and a successor may take the address.
//!
//! Versions are none of its business: each message begins with that of its encoding. Here is one over
//! Unix sockets, with a connection for each request; addresses are paths.
//!
//! ```
//! use std::{io, sync::Arc, time::Duration};
//!
//! use folio_raft::transport::{BoxFuture, Handler, Transport, TransportError};
//! use folio_raft::{Config, NodeId};
//! use parking_lot::Mutex;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{UnixListener, UnixStream};
//! use tokio::task::JoinHandle;
//!
//! struct UnixTransport {
//!     path: String,
//!     server: Mutex<Option<JoinHandle<()>>>,
//! }
//!
//! /// The end of a stream ends a message, so no length has to be believed.
//! async fn read(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
//!     let mut bytes = Vec::new();
//!     stream.take(Config::MESSAGE_LIMIT as u64).read_to_end(&mut bytes).await?;
//!     Ok(bytes)
//! }
//!
//! async fn answer(mut stream: UnixStream, node: NodeId, handler: &dyn Handler) -> io::Result<()> {
//!     let from = stream.read_u64().await?;
//!     // Whoever listens here must be who was called.
//!     if stream.read_u64().await? == node {
//!         let request = read(&mut stream).await?;
//!         stream.write_all(&handler.handle(from, request).await).await?;
//!     }
//!     Ok(())
//! }
//!
//! impl Transport for UnixTransport {
//!     fn call<'a>(
//!         &'a self,
//!         from: NodeId,
//!         to: NodeId,
//!         address: &'a str,
//!         request: Vec<u8>,
//!         deadline: Duration,
//!     ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
//!         let unreachable = move |reason: &dyn ToString| TransportError::Unreachable {
//!             node: to,
//!             address: address.to_owned(),
//!             reason: reason.to_string(),
//!         };
//!         let exchange = async move {
//!             let mut stream = UnixStream::connect(address).await?;
//!             stream.write_u64(from).await?;
//!             stream.write_u64(to).await?;
//!             stream.write_all(&request).await?;
//!             stream.shutdown().await?;
//!             read(&mut stream).await
//!         };
//!         Box::pin(async move {
//!             match tokio::time::timeout(deadline, exchange).await {
//!                 Ok(Ok(answer)) if answer.is_empty() => Err(unreachable(&"another node listens")),
//!                 Ok(answer) => answer.map_err(|error| unreachable(&error)),
//!                 Err(_) => Err(TransportError::TimedOut { node: to, waited: deadline }),
//!             }
//!         })
//!     }
//!
//!     fn serve(&self, node: NodeId, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
//!         let listener = UnixListener::bind(&self.path);
//!         let listener = listener.map_err(|e| TransportError::Serve(e.to_string()))?;
//!         *self.server.lock() = Some(tokio::spawn(async move {
//!             let mut connections = tokio::task::JoinSet::new();
//!             while let Ok((stream, _)) = listener.accept().await {
//!                 let handler = handler.clone();
//!                 connections.spawn(async move { answer(stream, node, &*handler).await });
//!             }
//!         }));
//!         Ok(())
//!     }
//!
//!     fn stop(&self) -> BoxFuture<'_, ()> {
//!         Box::pin(async move {
//!             let server = self.server.lock().take();
//!             if let Some(server) = server {
//!                 // The connections end with the task that owns them.
//!                 server.abort();
//!                 let _ = server.await;
//!             }
//!             let _ = std::fs::remove_file(&self.path);
//!         })
//!     }
//! }
//! # use std::collections::BTreeMap;
//! # use folio_raft::{Applied, ApplyError, ReplicatedDatabase, StateMachine, TableSet};
//! # struct Echo;
//! # impl StateMachine for Echo {
//! #     type Command = u64;
//! #     type Response = u64;
//! #     fn tables(&self) -> TableSet {
//! #         TableSet::new()
//! #     }
//! #     fn apply(
//! #         &self,
//! #         _: &folio_store::WriteTransaction,
//! #         _: Applied,
//! #         command: &u64,
//! #     ) -> Result<u64, ApplyError> {
//! #         Ok(*command)
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "multi_thread", worker_threads = 2)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let (mut nodes, mut members) = (Vec::new(), BTreeMap::new());
//! # for node in 1..=3 {
//! #     let path = directory.path().join(node.to_string()).display().to_string();
//! #     members.insert(node, path.clone());
//! #     let transport = Arc::new(UnixTransport { path, server: Mutex::new(None) });
//! #     let database = folio_store::Database::in_memory()?;
//! #     nodes.push(ReplicatedDatabase::start(Config::default(), node, database, Echo, transport).await?);
//! # }
//! # nodes[0].initialize(members).await?;
//! # nodes[0].wait_for("to lead", Duration::from_secs(60), |s| s.leader == Some(1)).await?;
//! # assert_eq!(nodes[0].write(7).await?.response, 7);
//! # for node in nodes {
//! #     node.shutdown().await?;
//! # }
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "grpc")]
mod grpc;
mod hello;
#[cfg(any(feature = "grpc", feature = "quic"))]
mod links;
mod memory;
mod network;
#[cfg(feature = "quic")]
mod quic;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "grpc")]
pub use grpc::GrpcTransport;
pub use memory::{MemoryNetwork, MemoryTransport};
#[cfg(feature = "quic")]
pub use quic::QuicTransport;
pub use tcp::TcpTransport;
#[cfg(feature = "tls")]
pub use tls::{ClientCertificate, Tls, TlsError, certificate_from_pem};

use crate::config::Config;
use crate::types::NodeId;

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Settings of the transports that go over a network.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Nodes of another cluster are refused.
    pub cluster: String,
    /// The largest frame sent or accepted.
    pub frame_limit: usize,
    /// Connections accepted at a time; more have to wait.
    pub connection_limit: usize,
    /// How long connecting may take, at most; a request's own deadline may be shorter.
    pub connect_timeout: Duration,
    /// The node's certificate and whom it trusts. None: neither encryption nor authentication.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
}

impl NetworkConfig {
    /// The defaults, for the cluster of that name (at most 255 bytes).
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            frame_limit: Config::MESSAGE_LIMIT,
            connection_limit: 256,
            connect_timeout: Duration::from_secs(2),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

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
