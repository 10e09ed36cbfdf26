//! The file that rows are put into: a node without others.

use std::path::Path;

use folio_ledger::LedgerView;
use folio_ledger::command::Command;
use folio_ledger::record::Outcome;
use folio_ledger::response::{Rejection, Response};
use folio_ledger::transaction::{Operation, Requirement, Transaction};
use folio_raft::{NodeId, ReadLevel};

use super::position::Position;
use crate::alone::Alone;
use crate::run::Failure;

/// What the keys of positions begin with.
const KEY: &str = "import:";

/// A vault in the file of a node that is alone.
pub struct Target {
    node: Alone,
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
        let node = Alone::open(file, cache, new_id, new_address).await?;
        let mut target = Target { node, vault: 0 };
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
        self.node.close().await
    }

    async fn write(&self, command: Command) -> Result<Response, Failure> {
        self.node.write(command).await.map_err(|error| {
            Failure::Error(format!(
                "{error}; what was committed before stays: run the same again to go on"
            ))
        })
    }

    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(LedgerView<'_>) -> folio_ledger::error::Result<R> + Send + 'static,
    ) -> Result<R, Failure> {
        self.node.read(ReadLevel::Linearizable, read).await
    }
}

fn key(name: &str) -> Vec<u8> {
    format!("{KEY}{name}").into_bytes()
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
