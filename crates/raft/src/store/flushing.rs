//! Entries on their way to the disk.
//!
//! openraft 0.9 does nothing while it waits for an append, not even send the entries, so the disks of the leader and of
//! its followers would be waited for one after the other. A store that [overlaps](super::RaftLogStore::overlapping) them
//! lets an append return when its entries are on their way, and openraft takes them for durable. What follows from that
//! waits here instead, at the three places where it leaves the store or the node:
//!
//! - an entry is applied, and so answered and seen, once it is durable here;
//! - a peer is told that an entry is committed once it is durable here;
//! - a leader is told that entries are here once they are.
//!
//! So an entry that counts as committed because this node has it, and is then lost with this node, has had no effect
//! anywhere. One append is on its way at a time, and every other write of the log waits for it.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether an append is on its way, and what became of the last one.
#[derive(Debug)]
pub(crate) struct Flushing(watch::Sender<State>);

/// An append that is on its way. One that is dropped before it is [durable](Self::durable) has failed: the node is
/// stopping.
pub(crate) struct Append {
    flushing: Arc<Flushing>,
    /// The index of its first entry.
    from: u64,
    durable: bool,
}

impl Append {
    /// Notes that its entries are durable.
    pub fn durable(mut self) {
        self.durable = true;
    }
}

impl Drop for Append {
    fn drop(&mut self) {
        self.flushing.0.send_replace(match self.durable {
            true => State::Settled,
            false => State::Failed(self.from),
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// All entries are durable.
    Settled,
    /// Those from this index on are not yet.
    From(u64),
    /// Those from this index on will not be: the node is stopping.
    Failed(u64),
}

impl Default for Flushing {
    fn default() -> Self {
        Self(watch::Sender::new(State::Settled))
    }
}

impl Flushing {
    /// Notes that the entries from `index` on are on their way.
    pub fn begin(self: &Arc<Self>, index: u64) -> Append {
        self.0.send_replace(State::From(index));
        Append {
            flushing: self.clone(),
            from: index,
            durable: false,
        }
    }

    /// Whether the entries up to `index` are durable.
    pub fn covers(&self, index: u64) -> bool {
        match *self.0.borrow() {
            State::Settled => true,
            State::From(first) | State::Failed(first) => index < first,
        }
    }

    /// Waits until the entries up to `index` are durable; false if they will not be.
    pub async fn reached(&self, index: u64) -> bool {
        if self.covers(index) {
            return true;
        }
        let mut changes = self.0.subscribe();
        let waited_for = |state: &State| match *state {
            State::Settled | State::Failed(_) => true,
            State::From(first) => index < first,
        };
        // The sender is in `self`, so the channel cannot be closed.
        let _ = changes.wait_for(waited_for).await;
        self.covers(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_before_an_append_does_not_wait_for_it() {
        let flushing = Arc::new(Flushing::default());
        assert!(flushing.reached(u64::MAX).await);
        let append = flushing.begin(7);
        assert!(flushing.reached(6).await && !flushing.covers(7));
        let (reached, ()) = tokio::join!(flushing.reached(9), async { append.durable() });
        assert!(reached && flushing.reached(u64::MAX).await);
    }

    #[tokio::test]
    async fn what_failed_is_never_reached_and_what_was_durable_before_is() {
        let flushing = Arc::new(Flushing::default());
        let append = flushing.begin(7);
        let (reached, ()) = tokio::join!(flushing.reached(7), async { drop(append) });
        assert!(!reached && !flushing.reached(u64::MAX).await);
        assert!(flushing.reached(6).await);
    }
}
