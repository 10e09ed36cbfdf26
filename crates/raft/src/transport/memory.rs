//! A network in memory, with faults to switch on, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{BoxFuture, Handler, Transport, TransportError};
use crate::types::NodeId;

/// A network that connects the nodes of one process. Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    handlers: BTreeMap<NodeId, Arc<dyn Handler>>,
    partitioned: BTreeSet<NodeId>,
    /// Directed: requests from the first node to the second are lost.
    dropped: BTreeSet<(NodeId, NodeId)>,
}

impl State {
    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.partitioned.contains(&from)
            || self.partitioned.contains(&to)
            || self.dropped.contains(&(from, to))
    }
}

impl MemoryNetwork {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node's way into the network.
    pub fn transport(&self) -> Arc<MemoryTransport> {
        Arc::new(MemoryTransport {
            network: self.clone(),
            served: Mutex::new(None),
        })
    }

    /// Cuts `node` off from all others, both ways.
    pub fn partition(&self, node: NodeId) {
        self.state.lock().partitioned.insert(node);
    }

    /// Loses all requests from `from` to `to`; those the other way still pass.
    pub fn drop_link(&self, from: NodeId, to: NodeId) {
        self.state.lock().dropped.insert((from, to));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.partitioned.clear();
        state.dropped.clear();
    }

    /// The handler of `to`, as far as `from` can reach it.
    fn route(&self, from: NodeId, to: NodeId) -> Option<Arc<dyn Handler>> {
        let state = self.state.lock();
        if state.is_cut(from, to) {
            return None;
        }
        state.handlers.get(&to).cloned()
    }
}

/// One node's way into a [`MemoryNetwork`]. Addresses are ignored.
pub struct MemoryTransport {
    network: MemoryNetwork,
    served: Mutex<Option<NodeId>>,
}

impl Transport for MemoryTransport {
    fn call<'a>(
        &'a self,
        from: NodeId,
        to: NodeId,
        address: &'a str,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        let unreachable = move || TransportError::Unreachable {
            node: to,
            address: address.to_owned(),
            reason: "the network is cut or the node is down".into(),
        };
        Box::pin(async move {
            let handler = self.network.route(from, to).ok_or_else(unreachable)?;
            let answer = tokio::time::timeout(deadline, handler.handle(from, request))
                .await
                .map_err(|_| TransportError::TimedOut {
                    node: to,
                    waited: deadline,
                })?;
            // The way back may have been cut meanwhile.
            if self.network.state.lock().is_cut(to, from) {
                return Err(unreachable());
            }
            Ok(answer)
        })
    }

    fn serve(&self, node: NodeId, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        let mut state = self.network.state.lock();
        if state.handlers.contains_key(&node) {
            return Err(TransportError::Serve(format!(
                "node {node} is there already"
            )));
        }
        state.handlers.insert(node, handler);
        *self.served.lock() = Some(node);
        Ok(())
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(node) = self.served.lock().take() {
                self.network.state.lock().handlers.remove(&node);
            }
        })
    }
}
