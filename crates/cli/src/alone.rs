//! The node of a file without others and without a network, for commands that put much into it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use folio_ledger::command::Command;
use folio_ledger::response::Response;
use folio_ledger::{Ledger, LedgerView};
use folio_node::offline::{self, RaftSummary};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, NodeId, ReadLevel, ReplicatedDatabase, Role};
use folio_store::Database;

use crate::files::about;
use crate::run::Failure;

/// How long a node may take to find out that it is alone.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node that is the only one of its cluster, and leads.
pub struct Alone {
    ledger: ReplicatedDatabase<Ledger>,
}

impl Alone {
    /// Opens or makes the file. A new one gets this id and address.
    pub async fn open(
        file: &Path,
        cache: usize,
        new_id: NodeId,
        new_address: &str,
    ) -> Result<Self, Failure> {
        let known = match file.exists() {
            true => offline::stat(file)?.0.raft,
            false => RaftSummary::default(),
        };
        check(file, known.voters.len() + known.learners.len())?;
        let id = known.node.unwrap_or(new_id);
        let database = Database::builder().cache_size(cache).open_or_create(file)?;
        let transport = MemoryNetwork::new().transport();
        let ledger = ReplicatedDatabase::start(config(cache), id, database, Ledger, transport)
            .await
            .map_err(Failure::error)?;
        if known.last_log.is_none() && known.purged.is_none() {
            let members = BTreeMap::from([(id, new_address.to_owned())]);
            ledger.initialize(members).await.map_err(Failure::error)?;
        }
        // The members may be in the log alone, after a crash.
        let status = ledger.status();
        check(file, status.voters.len() + status.learners.len())?;
        ledger
            .wait_for("its leadership", PATIENCE, |status| {
                status.role == Role::Leader
            })
            .await
            .map_err(Failure::error)?;
        Ok(Alone { ledger })
    }

    /// Has a command carried out.
    pub async fn write(&self, command: Command) -> folio_raft::Result<Response> {
        Ok(self.ledger.write(command).await?.response)
    }

    /// Reads the ledger.
    pub async fn read<R: Send + 'static>(
        &self,
        level: ReadLevel,
        read: impl FnOnce(LedgerView<'_>) -> folio_ledger::error::Result<R> + Send + 'static,
    ) -> Result<R, Failure> {
        let result = self
            .ledger
            .read(level, move |view| read(LedgerView::new(view)));
        result
            .await
            .map_err(Failure::error)?
            .map_err(Failure::error)
    }

    /// Makes everything durable and closes the file.
    pub async fn close(&self) -> Result<(), Failure> {
        self.ledger.shutdown().await.map_err(Failure::error)
    }
}

/// Refuses the file of a node that is not the only one.
fn check(file: &Path, members: usize) -> Result<(), Failure> {
    match members {
        0 | 1 => Ok(()),
        members => Err(about(
            file,
            format!(
                "its node is one of {members}, and the others would not have what is done here; name a new file, and start the \
                 cluster from that"
            ),
        )),
    }
}

/// Nobody waits for this node's votes, and everything it does is one large load.
fn config(cache: usize) -> Config {
    Config {
        heartbeat_interval: Duration::from_millis(50),
        election_timeout_min: Duration::from_millis(150),
        election_timeout_max: Duration::from_millis(300),
        // A row may be as long as a value, and a transaction has a little more.
        batch_max_bytes: 4 << 20,
        write_timeout: Duration::from_secs(600),
        checkpoint_dirty_pages: (cache / 4 / 4096) as u64,
        ..Config::default()
    }
}
