//! The file that rows are put into: a node without others.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use folio_ledger::command::Command;
use folio_ledger::record::Outcome;
use folio_ledger::response::{Rejection, Response};
use folio_ledger::transaction::{Operation, Requirement, Transaction};
use folio_ledger::{Ledger, LedgerView};
use folio_node::offline::{self, RaftSummary};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, NodeId, ReadLevel, ReplicatedDatabase, Role};
use folio_store::Database;

use super::position::Position;
use crate::run::Failure;

/// How long a node may take to find out that it is alone.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the keys of positions begin with.
const KEY: &str = "import:";

/// A vault in the file of a node that is alone.
pub struct Target {
    ledger: ReplicatedDatabase<Ledger>,
    vault: u64,
}

impl Target {
    /// Opens or makes the file, and finds or creates the vault.
    pub async fn open(
        file: &Path,
        cache: usize,
        new_id: NodeId,
        new_address: &str,
        vault: &str,
    ) -> Result<Self, Failure> {
        let known = match file.exists() {
            true => offline::stat(file)?.0.raft,
            false => RaftSummary::default(),
        };
        check_alone(file, known.voters.len() + known.learners.len())?;
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
        check_alone(file, status.voters.len() + status.learners.len())?;
        ledger
            .wait_for("its leadership", PATIENCE, |status| {
                status.role == Role::Leader
            })
            .await
            .map_err(Failure::error)?;
        let mut target = Target { ledger, vault: 0 };
        target.vault = target.find_vault(vault).await?;
        Ok(target)
    }

    /// The number of the vault.
    pub fn vault(&self) -> u64 {
        self.vault
    }

    async fn find_vault(&self, name: &str) -> Result<u64, Failure> {
        let wanted = name.to_owned();
        let found = self.read(move |ledger| {
            let mut after = 0;
            loop {
                let vaults = ledger.vaults(after, 1000)?;
                let Some(last) = vaults.last() else {
                    return Ok(None);
                };
                after = last.vault;
                if let Some(found) = vaults.iter().find(|vault| vault.name == wanted) {
                    return Ok(Some(found.vault));
                }
            }
        });
        if let Some(vault) = found.await? {
            return Ok(vault);
        }
        match self.write(Command::create_vault(name)).await? {
            Response::VaultCreated { vault, .. } => Ok(vault),
            other => Err(unexpected("creating the vault", &other)),
        }
    }

    /// How far an import is, and the version of the entity that says so.
    pub async fn position(&self, name: &str) -> Result<Option<(Position, u64)>, Failure> {
        let (vault, key) = (self.vault, key(name));
        let entity = self.read(move |ledger| ledger.entity(vault, &key)).await?;
        let Some(entity) = entity else {
            return Ok(None);
        };
        let position = serde_json::from_slice(&entity.value).map_err(|error| {
            Failure::Error(format!(
                "the entity `{KEY}{name}` is there and says of no import how far it is ({error}); give another --name"
            ))
        })?;
        Ok(Some((position, entity.version)))
    }

    /// Carries out operations and moves a position on, both or neither. `version` is the one of the position as it was, 0 if
    /// there was none. Gives back what the operations did.
    pub async fn commit(
        &self,
        name: &str,
        position: &Position,
        version: u64,
        operations: Vec<Operation>,
    ) -> Result<Vec<Outcome>, Failure> {
        let key = key(name);
        let before = match version {
            0 => Requirement::MustNotExist,
            version => Requirement::VersionIs(version),
        };
        let value = serde_json::to_vec(position).map_err(Failure::error)?;
        let mut transaction = Transaction::new(self.vault).require_entity(key.clone(), before);
        transaction.operations = operations;
        let transaction = transaction.set(key, value);
        match self.write(Command::submit(transaction)).await? {
            Response::Committed(mut receipt) => {
                receipt.outcomes.pop();
                Ok(receipt.outcomes)
            }
            other => Err(unexpected("a transaction", &other)),
        }
    }

    /// Makes everything durable and closes the file.
    pub async fn close(&self) -> Result<(), Failure> {
        self.ledger.shutdown().await.map_err(Failure::error)
    }

    async fn write(&self, command: Command) -> Result<Response, Failure> {
        let written = self.ledger.write(command).await;
        let written = written.map_err(|error| {
            Failure::Error(format!(
                "{error}; what was committed before stays: run the same again to go on"
            ))
        })?;
        Ok(written.response)
    }

    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(LedgerView<'_>) -> folio_ledger::error::Result<R> + Send + 'static,
    ) -> Result<R, Failure> {
        let result = self.ledger.read(ReadLevel::Linearizable, move |view| {
            read(LedgerView::new(view))
        });
        result
            .await
            .map_err(Failure::error)?
            .map_err(Failure::error)
    }
}

/// Refuses the file of a node that is not the only one.
fn check_alone(file: &Path, members: usize) -> Result<(), Failure> {
    match members {
        0 | 1 => Ok(()),
        members => Err(Failure::Error(format!(
            "{}: its node is one of {members}, and the others would not have what is imported here; import into a new file \
             and start the cluster from that",
            file.display()
        ))),
    }
}

fn key(name: &str) -> Vec<u8> {
    format!("{KEY}{name}").into_bytes()
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

fn unexpected(what: &str, response: &Response) -> Failure {
    match response {
        Response::Rejected(rejection @ Rejection::ConditionFailed { .. }) => Failure::Error(
            format!("{what} was refused: {rejection}; somebody else moves the same import on"),
        ),
        Response::Rejected(rejection) => Failure::Error(format!("{what} was refused: {rejection}")),
        other => Failure::Error(format!("{what} was answered with {other:?}")),
    }
}
