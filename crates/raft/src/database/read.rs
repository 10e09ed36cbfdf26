//! Reading.

use folio_store::ReadTransaction;
use openraft::error::{CheckIsLeaderError, RaftError};

use super::ReplicatedDatabase;
use crate::error::{Error, Result};
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::store::Failure;

impl<S: StateMachine> ReplicatedDatabase<S> {
    /// Calls `read` with a view that has every write that was answered, by any node, before this
    /// call. Only the leader can: it asks a quorum whether it still is the leader.
    ///
    /// `read` runs on a thread for blocking work.
    pub async fn read_linearizable<R: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> R + Send + 'static,
    ) -> Result<R> {
        self.within("a linearizable read", async {
            match self.inner.raft.ensure_linearizable().await {
                Ok(_) => Ok(()),
                Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
                    Err(Error::NotLeader {
                        leader: forward.leader_id,
                        address: forward.leader_node.map(|node| node.addr),
                    })
                }
                Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                    Err(Error::NoQuorum)
                }
                Err(RaftError::Fatal(fatal)) => Err(Error::Stopped {
                    reason: fatal.to_string(),
                }),
            }
        })
        .await?;
        self.read_local(read).await
    }

    /// Calls `read` with a view of what this node has applied, which may be older than what others
    /// have: for tools, and for comparing replicas.
    ///
    /// `read` runs on a thread for blocking work.
    pub async fn read_local<R: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> R + Send + 'static,
    ) -> Result<R> {
        let shared = self.inner.store.shared().clone();
        let reading = runtime::blocking(move || {
            shared.with_database(|database| Ok(read(&database.begin_read()?)))
        });
        match reading.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(Failure::Store(error))) => Err(error.into()),
            Ok(Err(_)) => Err(Error::ShuttingDown),
            // The caller's own closure panicked: the panic is the caller's.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::ShuttingDown),
            },
        }
    }
}
