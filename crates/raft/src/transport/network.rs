//! What the transports over a network have in common: whom a call is for, what it may take, and how
//! connections are accepted.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::{NetworkConfig, TransportError};
use crate::types::NodeId;

/// Whom a call is for, as its errors name it.
#[derive(Clone, Copy)]
pub(super) struct Callee<'a> {
    pub node: NodeId,
    pub address: &'a str,
}

impl Callee<'_> {
    pub fn unreachable(self, reason: impl ToString) -> TransportError {
        TransportError::Unreachable {
            node: self.node,
            address: self.address.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub fn refused(self, reason: impl ToString) -> TransportError {
        TransportError::Refused {
            node: self.node,
            address: self.address.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// What becomes of `connecting`, whose inner error is the callee's reason to refuse. `refusal`
    /// tells which failures are refusals, too.
    pub async fn connected<T>(
        self,
        config: &NetworkConfig,
        connecting: impl Future<Output = io::Result<Result<T, String>>>,
        refusal: impl Fn(&io::Error) -> Option<String>,
    ) -> Result<T, TransportError> {
        let limit = config.connect_timeout;
        match tokio::time::timeout(limit, connecting).await {
            Err(_) => Err(self.unreachable(format!("no connection within {limit:?}"))),
            Ok(Ok(Ok(connection))) => Ok(connection),
            Ok(Ok(Err(reason))) => Err(self.refused(reason)),
            Ok(Err(error)) => Err(match refusal(&error) {
                Some(reason) => self.refused(reason),
                None => self.unreachable(error),
            }),
        }
    }

    /// The answer to a request of so many bytes, if they are no more than a frame may have, and it
    /// comes before the deadline.
    pub async fn answered(
        self,
        config: &NetworkConfig,
        bytes: usize,
        deadline: Duration,
        answer: impl Future<Output = Result<Vec<u8>, TransportError>>,
    ) -> Result<Vec<u8>, TransportError> {
        let limit = config.frame_limit;
        if bytes > limit {
            return Err(TransportError::TooLarge { bytes, limit });
        }
        let answer = tokio::time::timeout(deadline, answer).await;
        answer.unwrap_or(Err(TransportError::TimedOut {
            node: self.node,
            waited: deadline,
        }))
    }
}

/// Has `serve` run for each connection that `next` accepts, until told to stop; then ends them all.
/// As many are served at a time as there are permits; the others wait.
pub(super) async fn accept<C, N, S>(
    config: &NetworkConfig,
    mut stop: watch::Receiver<bool>,
    next: impl Fn() -> N,
    serve: impl Fn(C, OwnedSemaphorePermit) -> S,
) where
    N: Future<Output = C>,
    S: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(config.connection_limit));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let permit = room.clone().acquire_owned().await;
            (next().await, permit.expect("the semaphore is never closed"))
        };
        tokio::select! {
            (connection, permit) = next => connections.spawn(serve(connection, permit)),
            _ = stop.wait_for(|stop| *stop) => break,
        };
    }
    connections.shutdown().await;
}

/// The next connection to a TCP port.
pub(super) async fn accept_tcp(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
