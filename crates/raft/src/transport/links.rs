//! One connection to each peer, shared by the calls to it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::network::Callee;
use crate::types::NodeId;

/// The connection to a peer, and how many were made to it before.
type Link<C> = Arc<tokio::sync::Mutex<(u64, Option<C>)>>;

pub(super) struct Links<C>(Mutex<HashMap<(NodeId, String), Link<C>>>);

/// A connection as a call was given it.
pub(super) struct Linked<C> {
    pub connection: C,
    /// Whether it was there before the call; the peer may have restarted since.
    pub kept: bool,
    number: u64,
}

impl<C: Clone> Links<C> {
    /// The connection to a peer, made by `connect` if there is none. Calls that come meanwhile wait
    /// for it instead of making their own.
    pub async fn get<E>(
        &self,
        callee: Callee<'_>,
        connect: impl Future<Output = Result<C, E>>,
    ) -> Result<Linked<C>, E> {
        let link = self.0.lock().entry(key(callee)).or_default().clone();
        let mut link = link.lock().await;
        let kept = link.1.is_some();
        if !kept {
            *link = (link.0 + 1, Some(connect.await?));
        }
        let (number, connection) = link.clone();
        Ok(Linked {
            connection: connection.expect("it was kept or made"),
            kept,
            number,
        })
    }

    /// Gives up a connection that failed, unless another has taken its place.
    pub async fn give_up(&self, callee: Callee<'_>, failed: &Linked<C>) {
        let link = self.0.lock().get(&key(callee)).cloned();
        if let Some(link) = link {
            let mut link = link.lock().await;
            if link.0 == failed.number {
                link.1 = None;
            }
        }
    }

    /// Gives up whatever connection there is to a peer.
    pub fn forget(&self, callee: Callee<'_>) {
        self.0.lock().remove(&key(callee));
    }

    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

fn key(callee: Callee<'_>) -> (NodeId, String) {
    (callee.node, callee.address.to_owned())
}

impl<C> Default for Links<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn there(node: NodeId) -> Callee<'static> {
        Callee {
            node,
            address: "there",
        }
    }

    /// Makes the first connection, the second, and so on.
    async fn connect(made: &AtomicU32) -> Result<u32, Infallible> {
        tokio::task::yield_now().await;
        Ok(made.fetch_add(1, Ordering::Relaxed))
    }

    #[tokio::test]
    async fn calls_at_the_same_time_wait_for_one_connection_and_share_it() {
        let (links, made) = (Links::default(), AtomicU32::new(0));
        let call = || links.get(there(2), connect(&made));
        let (first, second, third) = tokio::join!(call(), call(), call());
        let kept = [first, second, third].map(|linked| linked.map(|linked| linked.kept));
        assert_eq!(kept, [Ok(false), Ok(true), Ok(true)]);
        assert_eq!(made.load(Ordering::Relaxed), 1);
        // Another peer has its own.
        let other = links.get(there(3), connect(&made)).await;
        assert!(other.is_ok_and(|linked| !linked.kept && linked.connection == 1));
    }

    #[tokio::test]
    async fn only_the_connection_that_failed_is_given_up() {
        let (links, made) = (Links::default(), AtomicU32::new(0));
        let call = || links.get(there(2), connect(&made));
        let (Ok(first), Ok(second)) = tokio::join!(call(), call());
        links.give_up(there(2), &first).await;
        let Ok(third) = call().await;
        assert!(!third.kept);
        // The second call finds out later that the old connection failed.
        links.give_up(there(2), &second).await;
        let Ok(fourth) = call().await;
        assert!(fourth.kept);
    }
}
