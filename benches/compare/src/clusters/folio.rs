//! Clusters of Folio: with rows in the file, and with a map in memory to see what the rows cost.

use std::collections::HashMap;
use std::sync::Arc;

use folio_raft::transport::{NetworkConfig, TcpTransport};
use folio_raft::{
    Applied, ApplyError, Config, ReadLevel, ReplicatedDatabase, Role, StateMachine, TableSet,
};
use folio_store::{Database, Table, WriteTransaction};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::node::{Node, Store, until};
use crate::data::VALUE;
use crate::engine::Result;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    key: u64,
    value: Vec<u8>,
}

struct Rows;

impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

/// Puts rows into the file.
pub struct RowMachine;

impl StateMachine for RowMachine {
    type Command = Put;
    type Response = ();

    fn tables(&self) -> TableSet {
        TableSet::new().with::<Rows>()
    }

    fn apply(
        &self,
        txn: &WriteTransaction,
        _: Applied,
        put: &Put,
    ) -> std::result::Result<(), ApplyError> {
        txn.table::<Rows>()?.insert(put.key, &put.value[..])?;
        Ok(())
    }
}

type Map = Arc<Mutex<HashMap<u64, Vec<u8>>>>;

/// Puts values into a map that a restart would lose: what applying costs at least.
pub struct MapMachine(Map);

impl StateMachine for MapMachine {
    type Command = Put;
    type Response = ();

    fn tables(&self) -> TableSet {
        TableSet::new()
    }

    fn apply(
        &self,
        _: &WriteTransaction,
        _: Applied,
        put: &Put,
    ) -> std::result::Result<(), ApplyError> {
        self.0.lock().insert(put.key, put.value.clone());
        Ok(())
    }
}

async fn start<S: StateMachine>(node: &Node, machine: S) -> Result<ReplicatedDatabase<S>> {
    let transport = TcpTransport::bind(node.address(), NetworkConfig::new("clusters")).await?;
    let database = Database::create(node.directory.join("node.folio"))?;
    let started =
        ReplicatedDatabase::start(Config::default(), node.id, database, machine, transport).await?;
    if node.id == 1 {
        started.initialize(node.members()).await?;
    }
    until(|| started.status().role == Role::Leader).await;
    Ok(started)
}

pub struct RowStore(ReplicatedDatabase<RowMachine>);

pub async fn rows(node: &Node) -> Result<RowStore> {
    Ok(RowStore(start(node, RowMachine).await?))
}

impl Store for RowStore {
    async fn put(&self, key: u64, value: [u8; VALUE]) -> Result<()> {
        let value = value.to_vec();
        self.0.write(Put { key, value }).await?;
        Ok(())
    }

    async fn get(&self, key: u64) -> Result<Option<[u8; VALUE]>> {
        let read = move |view: &folio_store::ReadTransaction| view.table::<Rows>()?.get(key);
        let value = self.0.read(ReadLevel::Linearizable, read).await??;
        Ok(value.map(|value| value.as_slice().try_into()).transpose()?)
    }
}

pub struct MapStore(ReplicatedDatabase<MapMachine>, Map);

pub async fn map(node: &Node) -> Result<MapStore> {
    let map = Map::default();
    Ok(MapStore(start(node, MapMachine(map.clone())).await?, map))
}

impl Store for MapStore {
    async fn put(&self, key: u64, value: [u8; VALUE]) -> Result<()> {
        let value = value.to_vec();
        self.0.write(Put { key, value }).await?;
        Ok(())
    }

    async fn get(&self, key: u64) -> Result<Option<[u8; VALUE]>> {
        self.0.read(ReadLevel::Linearizable, |_| ()).await?;
        let map = self.1.lock();
        let value = map.get(&key);
        Ok(value.map(|value| value.as_slice().try_into()).transpose()?)
    }
}
