//! The other end of a transport under test.

use std::sync::atomic::{AtomicUsize, Ordering};

use folio_raft::NodeId;
use folio_raft::transport::{BoxFuture, Handler};

/// Answers with what it was sent.
#[derive(Default)]
pub struct Echo {
    handled: AtomicUsize,
}

impl Echo {
    /// Requests answered so far.
    pub fn handled(&self) -> usize {
        self.handled.load(Ordering::Relaxed)
    }
}

impl Handler for Echo {
    fn handle(&self, _from: NodeId, request: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        self.handled.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { request })
    }
}
