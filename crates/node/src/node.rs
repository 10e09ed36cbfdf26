//! One member of a cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use folio_api::Divergence;
use folio_ledger::Ledger;
use folio_ledger::limits::MAX_TRANSACTION_BYTES;
use folio_raft::transport::{NetworkConfig, TcpTransport, Tls, TransportError};
use folio_raft::{Config, NodeId, ReplicatedDatabase};
use folio_store::Database;

use crate::address::{MemberAddress, PeerTransport};
use crate::agreement::{self, Agreement};
use crate::backups::{Backups, KEPT};
use crate::feeds::Feeds;
use crate::offline::RaftSummary;
use crate::verification::{Verification, Verifications};

/// How long a node that was started may take to find its members in its file.
const MEMBERS_PATIENCE: Duration = Duration::from_secs(10);

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The node's id, its own for ever.
    pub id: NodeId,
    /// The node's file. It is created when it is not there.
    pub file: PathBuf,
    /// The name of the cluster; nodes of another one are refused.
    pub cluster: String,
    /// Where the node listens for its peers. Port 0 takes a free one.
    pub peer_listen: SocketAddr,
    /// The node's certificates. None: neither its peers nor its clients are encrypted or authenticated.
    pub tls: Option<Tls>,
    /// The memory for pages of the file, in bytes.
    pub cache_bytes: usize,
    /// The settings of the replication, the same on every node. A log entry may have as many bytes as the largest
    /// transaction, if less is set.
    pub raft: Config,
}

/// The memory for pages of the file of a node, if nothing is said about it.
pub const DEFAULT_CACHE_BYTES: usize = 64 << 20;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] folio_store::Error),
    /// The peers' address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] TransportError),
    /// The replicated database did not start, or refused what was asked.
    #[error(transparent)]
    Raft(#[from] folio_raft::Error),
    /// The thread that opened the file ended early.
    #[error("opening the file was given up: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// A running node: its file, its connection to its peers, and the ledger that they keep together. Clones are handles
/// to the same node.
#[derive(Clone)]
pub struct Node {
    id: NodeId,
    file: PathBuf,
    cluster: String,
    peer_address: SocketAddr,
    tls: Option<Tls>,
    /// Whether the node was in a cluster when it was started.
    has_history: bool,
    ledger: ReplicatedDatabase<Ledger>,
    verifications: Arc<Verifications>,
    feeds: Arc<Feeds>,
    backups: Arc<Backups>,
    agreement: Arc<Agreement>,
    leaving: Arc<AtomicBool>,
    /// Ends with the last handle to the node.
    _watch: Arc<Watch>,
}

/// The task that compares the vaults with those of other nodes.
struct Watch(tokio::task::AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Node {
    /// Opens the node's file and listens for its peers. A node that is not yet member of a cluster waits until it is
    /// made one, by [`form_cluster`](Node::form_cluster) here or elsewhere.
    pub async fn start(options: NodeOptions) -> Result<Node, NodeError> {
        let NodeOptions {
            id,
            file,
            cluster,
            peer_listen,
            tls,
            cache_bytes,
            raft,
        } = options;
        let path = file.clone();
        let (database, has_history) =
            tokio::task::spawn_blocking(move || open(&path, cache_bytes)).await??;
        let config = NetworkConfig {
            tls: tls.clone(),
            ..NetworkConfig::new(cluster.clone())
        };
        let transport = TcpTransport::bind(&peer_listen.to_string(), config).await?;
        let peer_address = transport.local_address();
        let transport = Arc::new(PeerTransport(transport));
        let ledger =
            ReplicatedDatabase::start(with_room(raft), id, database, Ledger, transport).await?;
        let agreement = Arc::<Agreement>::default();
        let watching = tokio::spawn(agreement::watch(ledger.clone(), agreement.clone()));
        Ok(Node {
            agreement,
            _watch: Arc::new(Watch(watching.abort_handle())),
            id,
            file,
            cluster,
            peer_address,
            tls,
            has_history,
            ledger,
            verifications: Arc::default(),
            feeds: Arc::new(Feeds::new()),
            backups: Arc::new(Backups::new(KEPT)),
            leaving: Arc::default(),
        })
    }

    /// Makes a cluster of `members`, ids and the addresses of their peers' side, perhaps with those of their APIs
    /// ([`MemberAddress`]). A node that is a member of a cluster already stays in it: so a node may be started the same
    /// way every time. Says whether there is a new cluster now.
    pub async fn form_cluster(&self, members: BTreeMap<NodeId, String>) -> Result<bool, NodeError> {
        if !self.has_history {
            self.ledger.initialize(members).await?;
        }
        Ok(!self.has_history)
    }

    /// Whether the node has a vote in a cluster, as far as it knows.
    pub async fn votes(&self) -> bool {
        // A node that was just started does not know it at once.
        if !self.has_history {
            return false;
        }
        let known = self
            .ledger
            .wait_for("the members", MEMBERS_PATIENCE, |status| {
                !status.voters.is_empty()
            });
        let known = known.await;
        known.is_ok_and(|status| status.voters.contains_key(&self.id))
    }

    /// The members of the cluster, as far as this node knows.
    pub fn members(&self) -> BTreeMap<NodeId, MemberAddress> {
        let status = self.ledger.status();
        let all = status.voters.into_iter().chain(status.learners);
        all.map(|(id, text)| (id, MemberAddress::parse(&text)))
            .collect()
    }

    /// The URL of an API of this cluster: all its nodes speak what this one does.
    pub(crate) fn url(&self, api: &str) -> String {
        let scheme = match self.tls {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://{api}")
    }

    /// The name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The node's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where the node listens for its peers.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// The node's certificates, if it has any.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The replicated ledger.
    pub fn ledger(&self) -> &ReplicatedDatabase<Ledger> {
        &self.ledger
    }

    /// Begins to verify the node's file, reading at most `rate` bytes a second, or as many as possible if that is 0. False
    /// if that is under way already. Stopping the node ends it.
    pub fn start_verification(&self, rate: u64) -> Result<bool, folio_raft::Error> {
        self.verifications.start(&self.ledger, rate)
    }

    /// The verification that was begun last.
    pub fn verification(&self) -> Verification {
        self.verifications.last()
    }

    /// Stops the verification that is under way, if there is one.
    pub fn stop_verification(&self) {
        self.verifications.stop();
    }

    /// The vaults that are not served, because their history here is not that of the other nodes.
    pub fn divergences(&self) -> Vec<Divergence> {
        self.agreement.divergences()
    }

    pub(crate) fn divergence(&self, vault: u64) -> Option<Divergence> {
        self.agreement.divergence(vault)
    }

    /// Compares all vaults with those of the other nodes now, as the node does every few seconds anyway.
    pub async fn compare_vaults(&self) -> Result<Vec<Divergence>, folio_raft::Error> {
        self.agreement.compare(&self.ledger).await?;
        Ok(self.divergences())
    }

    /// Gives up this node's state and has it rebuilt from another node, which goes on meanwhile: for vaults that diverge,
    /// and for damage that a verification found. False if there is no other voter to have it from.
    pub async fn rebuild(&self, reason: String) -> Result<bool, folio_raft::Error> {
        if self.ledger.status().voters.keys().all(|id| *id == self.id) {
            return Ok(false);
        }
        self.ledger.rebuild(reason).await?;
        Ok(true)
    }

    /// Says that the node is about to stop: it is not [ready](crate::api) any more, so that whoever asks sends
    /// requests elsewhere, and goes on serving those that come all the same.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Ends the feeds that clients follow and the backups that they make, and those that they begin from now on: before
    /// the node stops serving, because a feed has no end of its own, and that of a backup is far.
    pub fn end_streams(&self) {
        self.feeds.end();
        self.backups.end();
    }

    pub(crate) fn backups(&self) -> &Arc<Backups> {
        &self.backups
    }

    pub(crate) fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    /// Waits until the node stops by itself, and says why.
    pub async fn stopped(&self) -> String {
        let ended = self
            .ledger
            .wait_for("the end of the node", Duration::MAX, |_| false)
            .await;
        ended
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }
}

/// The settings with room for the largest transaction in an entry.
fn with_room(raft: Config) -> Config {
    Config {
        batch_max_bytes: raft.batch_max_bytes.max(MAX_TRANSACTION_BYTES),
        ..raft
    }
}

/// Opens or creates the file, and tells whether there is a Raft log in it.
fn open(file: &Path, cache_bytes: usize) -> folio_store::Result<(Database, bool)> {
    let database = Database::builder()
        .cache_size(cache_bytes)
        .open_or_create(file)?;
    let raft = RaftSummary::read(&database.begin_read()?)?;
    Ok((database, raft.last_log.is_some() || raft.purged.is_some()))
}
