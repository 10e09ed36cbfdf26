//! The replicated database: one node of a cluster.

mod freshness;
mod handover;
mod members;
mod propose;
mod read;
mod rebuild;
mod room;
mod status;
mod witness;

use std::future::Future;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::Duration;

use folio_store::{BackupMoment, Database, Scrub, ScrubOptions, Statistics};
use openraft::{Raft, ServerState};
use parking_lot::Mutex;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::leadership::{Disclosed, Leadership, Promises};
use crate::metrics::{Metrics, PeerMetrics};
use crate::network::{Link, Peers, RaftServer};
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::store::{RaftLogStore, StoreOptions};
use crate::transport::Transport;
use crate::types::{NodeId, TypeConfig};

use freshness::Freshness;
use propose::Proposer;
pub use propose::{WhenFull, WriteOptions, Written};
pub use read::ReadLevel;
pub use status::{Role, Status};

/// How long stopping waits for views that are still being sent to other nodes.
const LEASE_PATIENCE: Duration = Duration::from_secs(5);

/// One node of a cluster: a database, a state machine and a transport, kept in step with the other
/// nodes by Raft. Clones are handles to the same node.
///
/// Dropping the last handle does not stop the node; [`shutdown`](Self::shutdown) or
/// [`kill`](Self::kill) does.
pub struct ReplicatedDatabase<S: StateMachine> {
    inner: Arc<Inner<S>>,
}

impl<S: StateMachine> Clone for ReplicatedDatabase<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<S: StateMachine> {
    raft: Raft<TypeConfig<S>>,
    store: RaftLogStore<S>,
    leadership: Arc<Leadership<S>>,
    freshness: Freshness,
    link: Link,
    config: Config,
    /// Held while leadership or membership changes: one at a time.
    changes: tokio::sync::Mutex<()>,
    /// None once the node is stopping.
    proposer: Mutex<Option<Arc<Proposer<S>>>>,
}

impl<S: StateMachine> ReplicatedDatabase<S> {
    /// Starts node `node` on `database` and begins to serve its peers.
    ///
    /// The database must be this node's own and is used by nobody else meanwhile. A new cluster is
    /// then [`initialize`](Self::initialize)d, once, on one of its nodes; a node of an old one
    /// finds its membership in its file and applies what its log has beyond the last checkpoint.
    ///
    /// An engine that finds acknowledged commits missing refuses to open its file. Such a node must
    /// not take part under its old id, since its vote and its log may be older than what it told
    /// others: remove it from the membership and add a new node, with a new id and an empty file.
    pub async fn start(
        config: Config,
        node: NodeId,
        database: Database,
        state_machine: S,
        transport: Arc<dyn Transport>,
    ) -> Result<Self> {
        config.validate()?;
        let mut raft_config = config.for_openraft()?;
        let options = StoreOptions {
            read_max_bytes: config.append_max_bytes,
            checkpoint_entries: config.checkpoint_entries,
            checkpoint_dirty_pages: config.checkpoint_dirty_pages,
            disk_reserve: config.disk_reserve,
        };
        let opening =
            runtime::blocking(move || RaftLogStore::open(database, node, state_machine, options));
        let store = opening.await.map_err(|e| stopped(&e))??;

        // Who has no state must not lead.
        raft_config.enable_elect = store.shared().holds_state();
        let (log, machine) = store.clone().overlapping().halves();
        let link = Link {
            transport: transport.clone(),
            node,
            meters: store.shared().meters.clone(),
            refusals: Arc::default(),
        };
        let disclosed = Arc::new(Disclosed::default());
        let promises = Arc::new(Promises::new(node, config.lease()));
        let peers = Peers {
            link: link.clone(),
            retry_interval: config.heartbeat_interval,
            disclosed: disclosed.clone(),
            promises: promises.clone(),
            flushing: store.shared().flushing.clone(),
            machine: PhantomData,
        };
        let raft = match Raft::new(node, Arc::new(raft_config), peers.clone(), log, machine).await {
            Ok(raft) => raft,
            Err(fatal) => {
                let reason = store.shared().fault().unwrap_or_else(|| fatal.to_string());
                close(&store, Stop::Abrupt).await?;
                return Err(Error::Stopped { reason });
            }
        };
        let leadership = Arc::new(Leadership::new(raft.clone(), disclosed, promises));
        let server = RaftServer::new(
            raft.clone(),
            leadership.clone(),
            store.shared().clone(),
            peers,
            config.election_timeout_max,
        );
        let database = Self {
            inner: Arc::new(Inner {
                changes: tokio::sync::Mutex::new(()),
                proposer: Mutex::new(Some(Arc::new(Proposer::start(
                    raft.clone(),
                    &config,
                    store.shared().clone(),
                )))),
                raft,
                store,
                leadership,
                freshness: Freshness::new(
                    config
                        .follower_reads
                        .map_or(Duration::ZERO, |bound| bound.age),
                ),
                link,
                config,
            }),
        };
        room::start(&database);
        match S::HOLDS_STATE {
            true => rebuild::start(&database),
            false => witness::start(&database),
        }
        if let Err(error) = transport.serve(node, Arc::new(server)) {
            database.kill().await;
            return Err(error.into());
        }
        Ok(database)
    }

    /// Has the cluster carry out `command` and returns the state machine's answer.
    ///
    /// On return the command is durable on a majority and applied here. Writes that arrive while an
    /// entry is being written share the next one. [`Error`] says which errors mean that the command
    /// was certainly not proposed.
    pub async fn write(&self, command: S::Command) -> Result<Written<S::Response>> {
        self.write_with(WriteOptions::default(), command).await
    }

    /// As [`write`](Self::write), with a deadline, and with a say in what happens when too many
    /// writes are waiting.
    ///
    /// Dropping the future takes the command back if it has not been proposed; after that its
    /// outcome is unknown to the caller.
    pub async fn write_with(
        &self,
        options: WriteOptions,
        command: S::Command,
    ) -> Result<Written<S::Response>> {
        let proposer = self.inner.proposer.lock().clone();
        let proposer = proposer.ok_or(Error::ShuttingDown)?;
        self.inner.store.shared().standing.borrow().check()?;
        self.ensure_leading()?;
        if let Some(reason) = self.inner.store.shared().awaited_room() {
            return Err(Error::DiskFull { reason });
        }
        proposer.write(command, options).await
    }

    /// An error unless this node believes that it leads.
    fn ensure_leading(&self) -> Result<()> {
        let leads = self.inner.raft.metrics().borrow().state == ServerState::Leader;
        if leads && self.inner.store.shared().fault().is_none() {
            return Ok(());
        }
        let status = self.status();
        if let Some(reason) = status.error {
            return Err(Error::Stopped { reason });
        }
        Err(not_leader(&status))
    }

    /// What this node knows of itself and the cluster.
    pub fn status(&self) -> Status {
        let shared = self.inner.store.shared();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let standing = shared.standing.borrow();
        Status {
            disk_full: shared.want_of_room(),
            ..Status::new(&metrics, shared.checkpointed(), &standing, shared.fault())
        }
    }

    /// What this node did since it was started, and what it knows of its peers.
    pub fn metrics(&self) -> Result<Metrics> {
        let meters = &self.inner.link.meters;
        let raft = self.inner.raft.metrics();
        let raft = raft.borrow();
        let last = raft.last_log_index;
        let members = raft.membership_config.nodes().map(|(id, _)| *id);
        let peers = members.filter(|id| *id != raft.id).map(|id| {
            // The entry is there for each peer of a leader, and empty before the first answer.
            let matched = raft.replication.as_ref().and_then(|all| all.get(&id));
            let matched = matched.map(|matched| matched.map(|id| id.index));
            let count = |index: Option<u64>| index.map_or(0, |index| index + 1);
            let peer = PeerMetrics {
                matched: matched.flatten(),
                lag: matched.map(|matched| count(last).saturating_sub(count(matched))),
                silence: meters.silence(id),
            };
            (id, peer)
        });
        let proposer = self.inner.proposer.lock().clone();
        Ok(Metrics {
            writes_waiting: proposer.map_or(0, |proposer| proposer.waiting()),
            peers: peers.collect(),
            engine: self.statistics()?,
            ..meters.show()
        })
    }

    /// Waits until `condition` holds for the status of this node. `what` is for the error.
    pub async fn wait_for(
        &self,
        what: &str,
        timeout: Duration,
        condition: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let mut metrics = self.inner.raft.metrics();
        let mut checkpoints = self.inner.store.shared().watch_checkpoints();
        let mut standing = self.inner.store.shared().standing.subscribe();
        let mut room = self.inner.store.shared().room.subscribe();
        let waiting = async {
            loop {
                metrics.borrow_and_update();
                checkpoints.borrow_and_update();
                standing.borrow_and_update();
                room.borrow_and_update();
                let status = self.status();
                if condition(&status) {
                    return Ok(status);
                }
                if let Some(reason) = status.error {
                    return Err(Error::Stopped { reason });
                }
                let changed = tokio::select! {
                    biased;
                    changed = metrics.changed() => changed,
                    changed = checkpoints.changed() => changed,
                    changed = standing.changed() => changed,
                    changed = room.changed() => changed,
                };
                if changed.is_err() {
                    return Err(Error::ShuttingDown);
                }
            }
        };
        match tokio::time::timeout(timeout, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout {
                what: what.to_owned(),
                waited: timeout,
            }),
        }
    }

    /// Waits until this node has applied the entry `index`.
    pub async fn wait_for_applied(&self, index: u64, timeout: Duration) -> Result<()> {
        let what = format!("entry {index} to be applied");
        self.wait_for(&what, timeout, |status| status.applied >= Some(index))
            .await?;
        Ok(())
    }

    /// Waits until this node knows a leader, and names it.
    pub async fn wait_for_leader(&self, timeout: Duration) -> Result<NodeId> {
        let known = self.wait_for("a leader", timeout, |status| status.leader.is_some());
        let status = known.await?;
        status.leader.ok_or(Error::NotLeader {
            leader: None,
            address: None,
        })
    }

    /// Asks the state machine of another member, which [answers](StateMachine::answer) from what it has
    /// applied, be it more or less than this node has.
    pub async fn ask(
        &self,
        peer: NodeId,
        question: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>> {
        let address = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow();
            let member = metrics.membership_config.membership().get_node(&peer);
            member.map(|member| member.addr.clone())
        };
        let address = address.ok_or_else(|| Error::Peer {
            node: peer,
            reason: "it is not a member".into(),
        })?;
        let link = &self.inner.link;
        link.question::<S>(peer, &address, question, deadline).await
    }

    /// The engine's counters.
    pub fn statistics(&self) -> Result<Statistics> {
        let shared = self.inner.store.shared();
        let statistics = shared.with_database(|database| Ok(database.statistics()));
        statistics.map_err(|_| Error::ShuttingDown)
    }

    /// Starts a thread that verifies this node's file, or does so once, while the node goes on. It ends when the
    /// [`Scrub`] is dropped, or the node stops.
    pub fn start_scrub(&self, options: ScrubOptions) -> Result<Scrub> {
        let shared = self.inner.store.shared();
        let started = shared.with_database(|database| Ok(database.start_scrub(options)?));
        started.map_err(|error| stopped(&error))
    }

    /// Keeps what this node has now, log and state, for copies of it. Costs a checkpoint.
    pub async fn begin_backup(&self) -> Result<BackupMoment> {
        let shared = self.inner.store.shared().clone();
        let beginning = runtime::blocking(move || {
            shared.with_database(|database| Ok(database.begin_backup()?))
        });
        beginning
            .await
            .map_err(|e| stopped(&e))?
            .map_err(|e| stopped(&e))
    }

    /// Has this node compact its log now.
    pub async fn trigger_snapshot(&self) -> Result<()> {
        self.inner
            .raft
            .trigger()
            .snapshot()
            .await
            .map_err(|e| stopped(&e))
    }

    /// Gives up this node's state and has it rebuilt from another node: for damage that a
    /// verification found before this node met it. Until that is done the node does not answer reads,
    /// see [`Status::rebuilding`]. What is not damaged is given up as well.
    pub async fn rebuild(&self, reason: String) -> Result<()> {
        let shared = self.inner.store.shared().clone();
        shared.standing.borrow().check()?;
        let giving_up = runtime::blocking(move || {
            shared.with_database(|database| {
                let _turn = shared.state.lock();
                shared.give_up_state(database, &reason)
            })
        });
        giving_up
            .await
            .map_err(|e| stopped(&e))?
            .map_err(|e| stopped(&e))
    }

    /// Stops the node: leadership is given away if it has it, no more writes are taken, a checkpoint
    /// is made and the file is closed. On return another process may open it.
    pub async fn shutdown(&self) -> Result<()> {
        match self.transfer_leadership(None).await {
            Ok(_) | Err(Error::NotLeader { .. } | Error::ShuttingDown | Error::Stopped { .. }) => {}
            Err(error) => tracing::info!(node = self.inner.link.node, %error, "shutting down"),
        }
        self.stop(Stop::Clean).await
    }

    /// Stops the node as a crash would: nothing is flushed, and what was being written is left to
    /// its fate. On return the file may be opened again.
    pub async fn kill(&self) {
        // Nothing is flushed, so nothing can fail.
        let _ = self.stop(Stop::Abrupt).await;
    }

    async fn stop(&self, stop: Stop) -> Result<()> {
        let proposer = self.inner.proposer.lock().take();
        drop(proposer);
        self.inner.link.transport.stop().await;
        self.inner.store.shared().end_waiting_for_room();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "Raft ended badly");
        }
        close(&self.inner.store, stop).await
    }

    /// A wait with the read deadline, for calls into Raft that have none of their own.
    async fn within<T>(&self, what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let timeout = self.inner.config.read_timeout;
        match tokio::time::timeout(timeout, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout {
                what: what.to_owned(),
                waited: timeout,
            }),
        }
    }
}

/// A handle that does not keep a node's parts in memory, for its own tasks.
struct WeakHandle<S: StateMachine>(Weak<Inner<S>>);

impl<S: StateMachine> WeakHandle<S> {
    fn of(database: &ReplicatedDatabase<S>) -> Self {
        Self(Arc::downgrade(&database.inner))
    }

    /// Gives leadership away, if this node has it.
    async fn pass_leadership_on(&self) {
        let Some(inner) = self.0.upgrade() else {
            return;
        };
        let database = ReplicatedDatabase { inner };
        if database.status().role != Role::Leader {
            return;
        }
        if let Err(error) = database.transfer_leadership(None).await {
            tracing::warn!(node = database.inner.link.node, %error, "this node leads although it should not");
        }
    }
}

/// How a node ends.
#[derive(Clone, Copy)]
enum Stop {
    Clean,
    Abrupt,
}

/// Ends the threads of the store and lets go of the database.
async fn close<S: StateMachine>(store: &RaftLogStore<S>, stop: Stop) -> Result<()> {
    let closing = store.clone();
    let database = runtime::blocking(move || closing.close()).await;
    let Some(database) = database.map_err(|e| stopped(&e))? else {
        return Ok(());
    };
    // From here on nobody can take a view.
    let leases = store.shared().leases_returned();
    if tokio::time::timeout(LEASE_PATIENCE, leases).await.is_err() {
        tracing::warn!("a snapshot is still being read; the file stays locked until it is not");
    }
    let closing = runtime::blocking(move || match stop {
        Stop::Clean => database.close(),
        Stop::Abrupt => {
            // Merely dropped, it would be closed in order.
            database.kill();
            Ok(())
        }
    });
    closing.await.map_err(|e| stopped(&e))??;
    Ok(())
}

fn not_leader(status: &Status) -> Error {
    Error::NotLeader {
        leader: status.leader,
        address: status.leader_address().map(str::to_owned),
    }
}

fn stopped(error: &dyn std::error::Error) -> Error {
    Error::Stopped {
        reason: error.to_string(),
    }
}
