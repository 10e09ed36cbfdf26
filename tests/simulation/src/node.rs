//! A node of either kind: one that holds the state, or a witness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use folio_raft::transport::Transport;
use folio_raft::{
    Config, Metrics, NodeId, ReadLevel, ReplicatedDatabase, Result, Status, Witness, Written,
};
use folio_store::{Database, ReadTransaction};

use crate::bank::{Answer, Bank, Command};

/// A node of the cluster.
#[derive(Clone)]
pub enum Node {
    /// It holds the state.
    Replica(ReplicatedDatabase<Bank>),
    /// It votes and keeps the log.
    Witness(ReplicatedDatabase<Witness<Command>>),
}

/// The same call for both kinds.
macro_rules! either {
    ($node:expr, $inner:ident => $call:expr) => {
        match $node {
            Node::Replica($inner) => $call,
            Node::Witness($inner) => $call,
        }
    };
}

impl Node {
    /// Starts one that holds the state.
    pub async fn replica(
        config: Config,
        id: NodeId,
        database: Database,
        bank: Bank,
        transport: Arc<dyn Transport>,
    ) -> Result<Self> {
        let node = ReplicatedDatabase::start(config, id, database, bank, transport).await?;
        Ok(Self::Replica(node))
    }

    /// Starts a witness.
    pub async fn witness(
        config: Config,
        id: NodeId,
        database: Database,
        transport: Arc<dyn Transport>,
    ) -> Result<Self> {
        let witness = Witness::new();
        let node = ReplicatedDatabase::start(config, id, database, witness, transport).await?;
        Ok(Self::Witness(node))
    }

    /// As [`ReplicatedDatabase::initialize`].
    pub async fn initialize(&self, members: BTreeMap<NodeId, String>) -> Result<()> {
        either!(self, node => node.initialize(members).await)
    }

    /// As [`ReplicatedDatabase::status`].
    #[must_use]
    pub fn status(&self) -> Status {
        either!(self, node => node.status())
    }

    /// As [`ReplicatedDatabase::metrics`].
    pub fn metrics(&self) -> Result<Metrics> {
        either!(self, node => node.metrics())
    }

    /// As [`ReplicatedDatabase::wait_for_applied`].
    pub async fn wait_for_applied(&self, index: u64, patience: Duration) -> Result<()> {
        either!(self, node => node.wait_for_applied(index, patience).await)
    }

    /// As [`ReplicatedDatabase::write`].
    ///
    /// # Panics
    ///
    /// When a witness carries the command out.
    pub async fn write(&self, command: Command) -> Result<Written<Answer>> {
        match self {
            Self::Replica(node) => node.write(command).await,
            Self::Witness(node) => match node.write(command).await {
                Ok(_) => panic!("a witness carried out a command"),
                Err(error) => Err(error),
            },
        }
    }

    /// As [`ReplicatedDatabase::read`].
    ///
    /// # Panics
    ///
    /// When a witness shows a state.
    pub async fn read<R: Send + 'static>(
        &self,
        level: ReadLevel,
        read: impl FnOnce(&ReadTransaction) -> R + Send + 'static,
    ) -> Result<R> {
        match self {
            Self::Replica(node) => node.read(level, read).await,
            Self::Witness(node) => match node.read(level, read).await {
                Ok(_) => panic!("a witness showed a state"),
                Err(error) => Err(error),
            },
        }
    }

    /// As [`ReplicatedDatabase::add_learner`].
    pub async fn add_learner(&self, id: NodeId, address: String) -> Result<u64> {
        either!(self, node => node.add_learner(id, address).await)
    }

    /// As [`ReplicatedDatabase::change_membership`].
    pub async fn change_membership(&self, voters: BTreeSet<NodeId>) -> Result<u64> {
        either!(self, node => node.change_membership(voters).await)
    }

    /// As [`ReplicatedDatabase::transfer_leadership`].
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId> {
        either!(self, node => node.transfer_leadership(to).await)
    }

    /// As [`ReplicatedDatabase::trigger_snapshot`].
    pub async fn trigger_snapshot(&self) -> Result<()> {
        either!(self, node => node.trigger_snapshot().await)
    }

    /// As [`ReplicatedDatabase::shutdown`].
    pub async fn shutdown(&self) -> Result<()> {
        either!(self, node => node.shutdown().await)
    }

    /// As [`ReplicatedDatabase::kill`].
    pub async fn kill(&self) {
        either!(self, node => node.kill().await);
    }
}
