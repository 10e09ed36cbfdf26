//! A tap on the wires between nodes: it counts, changes and loses messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use folio_raft::NodeId;
use folio_raft::transport::{BoxFuture, Handler, MemoryTransport, Transport, TransportError};

/// The kinds of message, as their second byte tells them; the first is the version.
pub const APPEND: u8 = 0;
pub const SNAPSHOT: u8 = 2;
pub const HANDOVER: u8 = 4;
/// The steps of giving leadership away, as the third byte tells them.
pub const RELEASE: u8 = 1;
pub const STAND: u8 = 2;

/// Sees each request before it leaves, and may change it. False: it is lost.
type Watch = dyn Fn(NodeId, NodeId, &mut Vec<u8>) -> bool + Send + Sync;

pub struct Tap {
    watch: Box<Watch>,
    requests: AtomicU64,
}

impl Tap {
    pub fn new(
        watch: impl Fn(NodeId, NodeId, &mut Vec<u8>) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            watch: Box::new(watch),
            requests: AtomicU64::new(0),
        })
    }

    /// Requests sent so far. A majority is enough for an answer, so those of the rest may still be on
    /// their way when there is one: they are waited for.
    pub async fn requests(&self) -> u64 {
        loop {
            let before = self.requests.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
            if self.requests.load(Ordering::Relaxed) == before {
                return before;
            }
        }
    }

    /// A node's way into the network, through this tap.
    pub fn between(self: Arc<Self>, inner: Arc<MemoryTransport>) -> Arc<dyn Transport> {
        Arc::new(Tapped { tap: self, inner })
    }
}

struct Tapped {
    tap: Arc<Tap>,
    inner: Arc<MemoryTransport>,
}

impl Transport for Tapped {
    fn call<'a>(
        &'a self,
        from: NodeId,
        to: NodeId,
        address: &'a str,
        mut request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        self.tap.requests.fetch_add(1, Ordering::Relaxed);
        if (self.tap.watch)(from, to, &mut request) {
            return self.inner.call(from, to, address, request, deadline);
        }
        Box::pin(async move {
            Err(TransportError::Unreachable {
                node: to,
                address: address.to_owned(),
                reason: "the tap lost it".into(),
            })
        })
    }

    fn serve(&self, node: NodeId, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        self.inner.serve(node, handler)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.inner.stop()
    }
}
