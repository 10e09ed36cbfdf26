//! What the clients of a load work on: a vault of a cluster, or of a file in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use folio_client::api::Bytes;
use folio_client::{Client, ReadLevel, Session, transaction};
use folio_ledger::command::Command;
use folio_ledger::response::Response;
use folio_ledger::transaction::Transaction;

use crate::alone::Alone;
use crate::run::Failure;

/// The memory for pages of a file.
const CACHE: usize = 64 << 20;

/// A vault that is there for the load.
#[derive(Clone)]
pub enum Target {
    Cluster(Client, u64),
    File(Arc<File>, u64),
}

/// The node of a file.
pub struct File {
    node: Alone,
    path: PathBuf,
    /// Whether it is there for the load, too.
    is_new: bool,
}

/// What a client writes with.
pub enum Writer {
    Session(Box<Session>, u64),
    File(Arc<File>, u64),
}

const NAME: &str = "bench";

impl Target {
    /// Creates a vault in a cluster.
    pub async fn of_cluster(client: Client) -> Result<Self, Failure> {
        let mut session = client.open_session().await?;
        let vault = session.create_vault(NAME, 0).await?.vault;
        drop(session.close().await);
        Ok(Target::Cluster(client, vault))
    }

    /// Creates a vault in a file, which is created if it is not there.
    pub async fn of_file(path: &Path) -> Result<Self, Failure> {
        let is_new = !path.exists();
        let node = Alone::open(path, CACHE, 1, "127.0.0.1:7101").await?;
        let path = path.to_owned();
        let file = Arc::new(File { node, path, is_new });
        match file.write(Command::create_vault(NAME)).await? {
            Response::VaultCreated { vault, .. } => Ok(Target::File(file, vault)),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes what was created.
    pub async fn end(self) -> Result<(), Failure> {
        match self {
            Target::Cluster(client, vault) => {
                let mut session = client.open_session().await?;
                session.delete_vault(vault).await?;
                drop(session.close().await);
                Ok(())
            }
            Target::File(file, vault) => {
                if !file.is_new {
                    file.write(Command::delete_vault(vault)).await?;
                }
                file.node.close().await?;
                match file.is_new {
                    true => std::fs::remove_file(&file.path)
                        .map_err(|error| crate::files::about(&file.path, error)),
                    false => Ok(()),
                }
            }
        }
    }

    /// Each client has one of its own.
    pub async fn writer(&self) -> Result<Writer, Failure> {
        Ok(match self {
            Target::Cluster(client, vault) => {
                Writer::Session(Box::new(client.open_session().await?), *vault)
            }
            Target::File(file, vault) => Writer::File(file.clone(), *vault),
        })
    }

    /// Reads an entity, as the node that is asked has it or as all have it.
    pub async fn read(&self, key: Vec<u8>, local: bool) -> Result<(), Failure> {
        match self {
            Target::Cluster(client, vault) => {
                let level = match local {
                    true => ReadLevel::Local,
                    false => ReadLevel::Linearizable,
                };
                client.entity(*vault, key, level).await?;
            }
            Target::File(file, vault) => {
                let level = match local {
                    true => folio_raft::ReadLevel::Local,
                    false => folio_raft::ReadLevel::Linearizable,
                };
                let vault = *vault;
                let read = file
                    .node
                    .read(level, move |ledger| ledger.entity(vault, &key));
                read.await?;
            }
        }
        Ok(())
    }
}

impl Writer {
    /// Sets entities in one transaction.
    pub async fn set(
        &mut self,
        keys: impl Iterator<Item = Vec<u8>>,
        value: &[u8],
    ) -> Result<(), Failure> {
        match self {
            Writer::Session(session, vault) => {
                let value = Bytes(value.to_vec());
                let sets = keys.fold(transaction(), |sets, key| {
                    sets.set(Bytes(key), value.clone())
                });
                session.submit(*vault, &sets).await?;
                Ok(())
            }
            Writer::File(file, vault) => {
                let sets = Transaction::new(*vault);
                let sets = keys.fold(sets, |sets, key| sets.set(key, value.to_vec()));
                match file.write(Command::submit(sets)).await? {
                    Response::Committed(_) => Ok(()),
                    other => Err(unexpected(&other)),
                }
            }
        }
    }

    pub async fn close(self) {
        if let Writer::Session(session, _) = self {
            // The cluster forgets it by itself.
            drop(session.close().await);
        }
    }
}

impl File {
    async fn write(&self, command: Command) -> Result<Response, Failure> {
        self.node.write(command).await.map_err(Failure::error)
    }
}

fn unexpected(response: &Response) -> Failure {
    Failure::Error(format!("it was answered with {response:?}"))
}
