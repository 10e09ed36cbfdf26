//! The bodies of requests: how long one may take to come, and how much all of them may hold of the node's memory.
//!
//! A body is read as a whole before its handler is called, and what it holds counts until the handler has answered. What counts
//! is what has come, not what was announced: so nobody takes room with a number.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::server::Limits;

/// The room for bodies. Clones share it.
#[derive(Clone)]
pub(super) struct Bodies {
    room: Arc<Semaphore>,
    bytes: usize,
    patience: Duration,
}

/// What the body of a request holds, until this is dropped.
pub(super) struct Held(Option<OwnedSemaphorePermit>);

impl Bodies {
    pub(super) fn new(limits: &Limits) -> Self {
        let bytes = limits.body_bytes.min(Semaphore::MAX_PERMITS);
        Bodies {
            room: Arc::new(Semaphore::new(bytes)),
            bytes,
            patience: limits.body,
        }
    }

    /// The request with its body read, of `most` bytes at most.
    pub(super) async fn receive(
        &self,
        request: Request,
        most: usize,
    ) -> Result<(Request, Held), Problem> {
        let (parts, body) = request.into_parts();
        let mut held = Held(None);
        if body.is_end_stream() {
            return Ok((Request::from_parts(parts, Body::empty()), held));
        }
        let reading = self.read(body, most, &mut held);
        let read = tokio::time::timeout(self.patience, reading).await;
        let read = read.map_err(|_| Problem::body_too_slow(self.patience))??;
        Ok((Request::from_parts(parts, Body::from(read)), held))
    }

    async fn read(&self, body: Body, most: usize, held: &mut Held) -> Result<Vec<u8>, Problem> {
        let mut parts = body.into_data_stream();
        // Copied together: parts of a byte each would take many times their size.
        let mut read = Vec::new();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| {
                Problem::malformed(format!("the body did not come as a whole: {error}"))
            })?;
            if part.len() > most - read.len() {
                return Err(Problem::body_too_large(most));
            }
            held.take(self, part.len())?;
            read.extend_from_slice(&part);
        }
        Ok(read)
    }
}

impl Held {
    /// Holds so many bytes more.
    fn take(&mut self, bodies: &Bodies, bytes: usize) -> Result<(), Problem> {
        let full = || Problem::too_many_bytes(bodies.bytes);
        let permits = u32::try_from(bytes).map_err(|_| full())?;
        let room = bodies.room.clone();
        let more = room.try_acquire_many_owned(permits).map_err(|_| full())?;
        match &mut self.0 {
            Some(held) => held.merge(more),
            None => self.0 = Some(more),
        }
        Ok(())
    }
}
