//! Waiting for a commit that was published.

use std::sync::Arc;

use crate::{engine::Engine, error::Result, types::GroupSet};

/// A commit that readers see already. [`wait`](Self::wait) returns when it is durable.
///
/// Dropping a ticket makes nothing durable and undoes nothing.
#[derive(Clone)]
pub struct Ticket {
    pub(super) engine: Arc<Engine>,
    pub(super) groups: GroupSet,
    pub(super) transaction: u64,
}

impl Ticket {
    /// The number of the transaction, as [`WriteTransaction::number`](super::WriteTransaction::number).
    #[must_use]
    pub fn number(&self) -> u64 {
        self.transaction
    }

    /// Whether the commit is durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.engine.is_durable(self.groups, self.transaction)
    }

    /// Returns when the commit is durable. Waiters share flushes: one `fdatasync` serves all that were published before
    /// it began.
    ///
    /// # Errors
    ///
    /// If a write or the sync failed. The handle then stops writing; whether the commit is durable is known after the
    /// file was opened again.
    pub fn wait(&self) -> Result<()> {
        self.engine.wait_durable(self.groups, self.transaction)
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ticket")
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}
