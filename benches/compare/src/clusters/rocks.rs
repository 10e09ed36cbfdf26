//! The cluster that people build today: openraft's own store on RocksDB, made durable, and a plain network.
//!
//! `openraft-rocksstore` syncs when it applies, and neither when it appends to the log nor when it saves a vote, although
//! Raft rests on both. [`Durable`] adds those two.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::storage::{Adaptor, LogState, Snapshot};
use openraft::{
    BasicNode, Config, Entry, LogId, OptionalSend, Raft, RaftLogReader, RaftStorage, ServerState,
    SnapshotMeta, SnapshotPolicy, StorageError, StorageIOError, StoredMembership, Vote,
};
use openraft_rocksstore::{RocksRequest, RocksResponse, RocksStore, TypeConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::node::{Node, Store, until};
use crate::data::VALUE;
use crate::engine::Result;

type Stored<T> = std::result::Result<T, StorageError<u64>>;

#[derive(Clone)]
struct Durable(Arc<RocksStore>);

impl Durable {
    async fn sync(&self) -> Stored<()> {
        let machine = self.0.state_machine.read().await;
        let synced = machine.db.flush_wal(true);
        synced.map_err(|error| StorageIOError::write_logs(&error).into())
    }
}

impl RaftLogReader<TypeConfig> for Durable {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Stored<Vec<Entry<TypeConfig>>> {
        self.0.try_get_log_entries(range).await
    }
}

impl RaftStorage<TypeConfig> for Durable {
    type LogReader = Arc<RocksStore>;
    type SnapshotBuilder = Arc<RocksStore>;

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Stored<()> {
        self.0.save_vote(vote).await?;
        self.sync().await
    }

    async fn append_to_log<I>(&mut self, entries: I) -> Stored<()>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
    {
        self.0.append_to_log(entries).await?;
        self.sync().await
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote<u64>>> {
        self.0.read_vote().await
    }

    async fn get_log_state(&mut self) -> Stored<LogState<TypeConfig>> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.0.get_log_reader().await
    }

    async fn delete_conflict_logs_since(&mut self, log_id: LogId<u64>) -> Stored<()> {
        self.0.delete_conflict_logs_since(log_id).await
    }

    async fn purge_logs_upto(&mut self, log_id: LogId<u64>) -> Stored<()> {
        self.0.purge_logs_upto(log_id).await
    }

    async fn last_applied_state(
        &mut self,
    ) -> Stored<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>)> {
        self.0.last_applied_state().await
    }

    async fn apply_to_state_machine(
        &mut self,
        entries: &[Entry<TypeConfig>],
    ) -> Stored<Vec<RocksResponse>> {
        self.0.apply_to_state_machine(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }

    async fn begin_receiving_snapshot(&mut self) -> Stored<Box<io::Cursor<Vec<u8>>>> {
        self.0.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, BasicNode>,
        snapshot: Box<io::Cursor<Vec<u8>>>,
    ) -> Stored<()> {
        self.0.install_snapshot(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<TypeConfig>>> {
        self.0.get_current_snapshot().await
    }
}

#[derive(Serialize, Deserialize)]
enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<u64>),
    Snapshot(InstallSnapshotRequest<TypeConfig>),
}

/// One connection to one peer, made when it is needed.
struct Peer {
    id: u64,
    address: String,
    stream: Option<TcpStream>,
}

struct Peers;

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, id: u64, node: &BasicNode) -> Peer {
        Peer {
            id,
            address: node.addr.clone(),
            stream: None,
        }
    }
}

impl Peer {
    async fn call<T, E>(
        &mut self,
        request: &Request,
        patience: Duration,
    ) -> std::result::Result<T, RPCError<u64, BasicNode, E>>
    where
        T: DeserializeOwned,
        E: DeserializeOwned + std::error::Error,
    {
        let unreachable = |error: io::Error| RPCError::Network(NetworkError::new(&error));
        let exchanged = tokio::time::timeout(patience, self.exchange(request)).await;
        let answer = exchanged
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        let answer: std::result::Result<T, E> =
            postcard::from_bytes(&answer).map_err(|error| unreachable(io::Error::other(error)))?;
        answer.map_err(|error| RPCError::RemoteError(RemoteError::new(self.id, error)))
    }

    /// A connection that fails is not used again.
    async fn exchange(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let request = postcard::to_stdvec(request).map_err(io::Error::other)?;
        send(&mut stream, &request).await?;
        let answer = receive(&mut stream).await?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    let frame = [&length.to_le_bytes(), message].concat();
    stream.write_all(&frame).await
}

async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; stream.read_u32_le().await? as usize];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

type Failed<E> = RPCError<u64, BasicNode, E>;

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> std::result::Result<AppendEntriesResponse<u64>, Failed<RaftError<u64>>> {
        self.call(&Request::Append(request), option.hard_ttl())
            .await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> std::result::Result<VoteResponse<u64>, Failed<RaftError<u64>>> {
        self.call(&Request::Vote(request), option.hard_ttl()).await
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> std::result::Result<
        InstallSnapshotResponse<u64>,
        Failed<RaftError<u64, InstallSnapshotError>>,
    > {
        self.call(&Request::Snapshot(request), option.hard_ttl())
            .await
    }
}

async fn listen(listener: TcpListener, raft: Raft<TypeConfig>) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let raft = raft.clone();
        tokio::spawn(async move {
            while let Ok(message) = receive(&mut stream).await {
                let Ok(answer) = handle(&raft, &message).await else {
                    return;
                };
                if send(&mut stream, &answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn handle(raft: &Raft<TypeConfig>, message: &[u8]) -> postcard::Result<Vec<u8>> {
    match postcard::from_bytes(message)? {
        Request::Append(request) => postcard::to_stdvec(&raft.append_entries(request).await),
        Request::Vote(request) => postcard::to_stdvec(&raft.vote(request).await),
        Request::Snapshot(request) => postcard::to_stdvec(&raft.install_snapshot(request).await),
    }
}

pub struct Rocks {
    raft: Raft<TypeConfig>,
    store: Arc<RocksStore>,
}

/// The times and limits are those that Folio's cluster has.
pub async fn start(node: &Node) -> Result<Rocks> {
    let times = folio_raft::Config::default();
    let milliseconds = |time: Duration| time.as_millis() as u64;
    let config = Config {
        heartbeat_interval: milliseconds(times.heartbeat_interval),
        election_timeout_min: milliseconds(times.election_timeout_min),
        election_timeout_max: milliseconds(times.election_timeout_max),
        max_payload_entries: times.append_max_entries,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(times.snapshot_after_entries),
        max_in_snapshot_log_to_keep: times.log_entries_kept,
        purge_batch_size: times.purge_batch,
        ..Config::default()
    };
    let store = RocksStore::new(&node.directory).await;
    let (log, machine) = Adaptor::new(Durable(store.clone()));
    let raft = Raft::new(node.id, Arc::new(config.validate()?), Peers, log, machine).await?;
    tokio::spawn(listen(
        TcpListener::bind(node.address()).await?,
        raft.clone(),
    ));
    if node.id == 1 {
        let members = node.members().into_iter();
        let members = members.map(|(id, address)| (id, BasicNode::new(address)));
        raft.initialize(members.collect::<std::collections::BTreeMap<_, _>>())
            .await?;
    }
    let metrics = raft.metrics();
    until(|| metrics.borrow().state == ServerState::Leader).await;
    Ok(Rocks { raft, store })
}

impl Store for Rocks {
    async fn put(&self, key: u64, value: [u8; VALUE]) -> Result<()> {
        let value = String::from_utf8(value.to_vec())?;
        let key = format!("{key:016x}");
        self.raft
            .client_write(RocksRequest::Set { key, value })
            .await?;
        Ok(())
    }

    async fn get(&self, key: u64) -> Result<Option<[u8; VALUE]>> {
        self.raft.ensure_linearizable().await?;
        let machine = self.store.state_machine.read().await;
        let value = machine.get(&format!("{key:016x}"))?;
        Ok(value.map(|value| value.as_bytes().try_into()).transpose()?)
    }
}
