//! The nodes of a simulation, and what can be done to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use folio_raft::{Config, Error, FollowerReads, NodeId, Role};
use folio_store::Database;
use folio_store::storage::{
    FaultPlan, FaultStorage, LimitedStorage, SimulatedDisk, SplitMix64, Storage,
};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::bank::{Bank, Replicas};
use crate::network::Network;
use crate::node::Node;
use crate::world::{Machine, World};

/// Far above what any step takes once nothing fails any more, in simulated time.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often the nodes are looked at.
const WATCH: Duration = Duration::from_millis(20);

/// openraft 0.9 stops a leader that learns of a higher vote from a node which it is about to send a snapshot: the
/// task that sends has ended, and its queue is taken for a broken store. Nothing is lost by it, the node is started
/// again.
const OUTVOTED: &str = "replication channel closed";

/// How old what a follower shows may be.
pub const FOLLOWER_AGE: Duration = Duration::from_millis(500);

/// Small limits, so that everything happens often: checkpoints, compactions, snapshots in several chunks.
fn config() -> Config {
    Config {
        heartbeat_interval: Duration::from_millis(50),
        election_timeout_min: Duration::from_millis(200),
        election_timeout_max: Duration::from_millis(400),
        snapshot_timeout: Duration::from_secs(2),
        snapshot_chunk_bytes: 2048,
        snapshot_after_entries: 40,
        log_entries_kept: 8,
        purge_batch: 4,
        append_max_entries: 16,
        append_max_bytes: 4096,
        batch_max_commands: 8,
        batch_max_bytes: 2048,
        queue_limit: 16,
        write_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_secs(2),
        follower_reads: Some(FollowerReads {
            entries: 20,
            age: FOLLOWER_AGE,
        }),
        checkpoint_entries: 25,
        disk_reserve: 96 << 10,
        ..Config::default()
    }
}

/// How a node is torn from its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The power goes: of what was not synced any part is lost.
    PowerCut,
    /// The process is killed: what was written is there.
    Kill,
    /// It is shut down in order.
    Shutdown,
}

/// What a node keeps when it is down.
struct Disk {
    simulated: Arc<SimulatedDisk>,
    faults: Arc<FaultStorage>,
    /// What the node is given.
    limited: Arc<LimitedStorage>,
    empty: bool,
}

impl Disk {
    fn new(simulated: SimulatedDisk, empty: bool) -> Self {
        let simulated = Arc::new(simulated);
        let faults = Arc::new(FaultStorage::over_disk(simulated.clone()));
        Self {
            limited: Arc::new(LimitedStorage::new(faults.clone(), u64::MAX)),
            faults,
            simulated,
            empty,
        }
    }
}

struct Member {
    disk: Disk,
    running: Option<Running>,
    /// The newest term that it has told of.
    term: u64,
    clock: i64,
}

/// A node that runs, or has stopped by itself.
#[derive(Clone)]
pub struct Running {
    /// The node.
    pub node: Node,
    /// What it runs on.
    pub machine: Arc<Machine>,
    /// Whether its disk was told to fail.
    faulty: bool,
    /// Whether its power was told to go: then it goes, whatever else comes first.
    doomed: bool,
}

impl Running {
    /// Whether openraft has stopped it because another node has a higher vote.
    #[must_use]
    pub fn was_outvoted(&self) -> bool {
        let error = self.node.status().error;
        error.is_some_and(|error| error.contains(OUTVOTED))
    }
}

/// All nodes, running or not.
pub struct Cluster {
    /// Where it is.
    pub world: Arc<World>,
    /// What connects it.
    pub network: Arc<Network>,
    /// What its replicas are compared by.
    pub replicas: Arc<Replicas>,
    members: Mutex<BTreeMap<NodeId, Member>>,
    /// The node that holds no state, if there is one.
    witness: Option<NodeId>,
    random: Mutex<SplitMix64>,
    /// The terms that had a leader. There may be several in one: votes of openraft are ordered by
    /// term and node.
    terms: Mutex<BTreeSet<u64>>,
    /// Those in which the witness led.
    witness_terms: Mutex<BTreeSet<u64>>,
    /// Snapshots that nodes which have ended had installed.
    snapshots: AtomicU64,
}

fn address(node: NodeId) -> String {
    format!("simulated:{node}")
}

impl Cluster {
    /// Starts nodes 1 to `size` and makes them a cluster. The last one is the witness, if there is to be one.
    pub async fn start(world: Arc<World>, size: u64, with_witness: bool) -> Arc<Self> {
        let cluster = Arc::new(Self {
            network: Network::new(world.clone()),
            replicas: Arc::default(),
            members: Mutex::default(),
            witness: with_witness.then_some(size),
            random: Mutex::new(world.source()),
            terms: Mutex::default(),
            witness_terms: Mutex::default(),
            snapshots: AtomicU64::new(0),
            world,
        });
        for id in 1..=size {
            cluster.add(id);
            cluster.bring_up(id).await;
        }
        let first = cluster.running(1).expect("it was just started");
        let members = (1..=size).map(|id| (id, address(id))).collect();
        let initialized = first
            .machine
            .spawn(async move { first.node.initialize(members).await });
        initialized.await.expect("no panic").expect("a new cluster");
        cluster.world.spawn(cluster.clone().watch());
        cluster
    }

    /// Gives a new node an empty disk.
    pub fn add(&self, id: NodeId) {
        let member = Member {
            disk: Disk::new(SimulatedDisk::new(), true),
            running: None,
            term: 0,
            clock: 0,
        };
        self.members.lock().insert(id, member);
    }

    /// Throws a node away that does not run.
    pub fn remove(&self, id: NodeId) {
        self.members.lock().remove(&id);
    }

    /// The node that holds no state, if there is one.
    #[must_use]
    pub fn witness(&self) -> Option<NodeId> {
        self.witness
    }

    /// All nodes.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        self.members.lock().keys().copied().collect()
    }

    /// The nodes that run.
    #[must_use]
    pub fn running_ids(&self) -> Vec<NodeId> {
        let members = self.members.lock();
        let running = members
            .iter()
            .filter(|(_, member)| member.running.is_some());
        running.map(|(id, _)| *id).collect()
    }

    /// A node, if it runs.
    #[must_use]
    pub fn running(&self, id: NodeId) -> Option<Running> {
        self.members.lock().get(&id)?.running.clone()
    }

    /// Starts a node that does not run, on what its disk holds.
    pub async fn bring_up(&self, id: NodeId) {
        let (storage, empty, clock) = {
            let mut members = self.members.lock();
            let Some(member) = members
                .get_mut(&id)
                .filter(|member| member.running.is_none())
            else {
                return;
            };
            member.disk.faults.heal();
            member.disk.limited.set_limit(u64::MAX);
            let empty = std::mem::take(&mut member.disk.empty);
            (member.disk.limited.clone(), empty, member.clock)
        };
        self.world.note(format_args!("start {id}"));
        let builder = Database::builder()
            .cache_size(4 << 20)
            .growth(64 << 10, 1 << 20);
        let opened = match empty {
            true => builder.create_on(storage),
            false => builder.open_on(storage),
        };
        let database = match opened {
            Ok(database) => database,
            Err(error) => {
                return self
                    .world
                    .violate(format!("node {id} does not open: {error}"));
            }
        };
        let machine = Machine::new(
            self.world.clone(),
            id,
            SplitMix64::new(self.random.lock().next_u64()),
        );
        machine.set_clock(clock);
        let transport = self.network.transport(machine.clone());
        let starting = if self.witness == Some(id) {
            machine.spawn(Node::witness(config(), id, database, transport))
        } else {
            let bank = Bank {
                node: id,
                world: self.world.clone(),
                replicas: self.replicas.clone(),
            };
            machine.spawn(Node::replica(config(), id, database, bank, transport))
        };
        match starting.await {
            Ok(Ok(node)) => {
                let running = Running {
                    node,
                    machine,
                    faulty: false,
                    doomed: false,
                };
                if let Some(member) = self.members.lock().get_mut(&id) {
                    member.running = Some(running);
                }
            }
            Ok(Err(error)) => self
                .world
                .violate(format!("node {id} does not start: {error}")),
            Err(panic) => self
                .world
                .violate(format!("node {id} panicked as it started: {panic}")),
        }
    }

    /// Does for nodes that openraft has stopped what their operator would do.
    pub async fn start_outvoted_again(&self) {
        for id in self.running_ids() {
            if self.running(id).is_some_and(|node| node.was_outvoted()) {
                self.bring_down(id, End::Kill).await;
                self.bring_up(id).await;
            }
        }
    }

    /// Ends a node. Its disk keeps what `end` leaves.
    pub async fn bring_down(&self, id: NodeId, end: End) {
        let taken = {
            let mut members = self.members.lock();
            members.get_mut(&id).and_then(|member| {
                let running = member.running.take()?;
                Some((running, member.disk.simulated.clone()))
            })
        };
        let Some((
            Running {
                node,
                machine,
                doomed,
                ..
            },
            disk,
        )) = taken
        else {
            return;
        };
        let end = if doomed { End::PowerCut } else { end };
        self.world.note(format_args!("{end:?} of {id}"));
        // A node whose disk cannot be read does not tell.
        let installed = node
            .metrics()
            .map_or(0, |metrics| metrics.snapshots_installed);
        self.snapshots.fetch_add(installed, Ordering::Relaxed);
        if end != End::Shutdown {
            self.network.unplug(id);
        }
        if end == End::PowerCut {
            disk.cut_power();
        }
        machine.resume();
        let ending = machine.spawn(async move {
            match end {
                // It says so in the status, too, when a disk fails now.
                End::Shutdown => drop(node.shutdown().await),
                End::PowerCut | End::Kill => node.kill().await,
            }
        });
        match timeout(PATIENCE, ending).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => self
                .world
                .violate(format!("node {id} panicked as it ended: {panic}")),
            Err(_) => self.world.violate(format!("node {id} does not end")),
        }
        self.network.unplug(id);
        if end == End::PowerCut {
            let image = {
                let mut random = self.random.lock();
                let kept = random.below(5);
                disk.crash(&mut |_| match kept {
                    0 => false,
                    1 => true,
                    odds => random.below(4) < odds,
                })
            };
            let disk = Disk::new(SimulatedDisk::from_image(&image), false);
            if let Some(member) = self.members.lock().get_mut(&id) {
                member.disk = disk;
            }
        }
    }

    /// Has the power of a node go at one of its next storage calls.
    pub fn cut_power_after(&self, id: NodeId, calls: u64) {
        let mut members = self.members.lock();
        if let Some(member) = members.get_mut(&id)
            && let Some(running) = &mut member.running
        {
            running.faulty = true;
            running.doomed = true;
            let disk = &member.disk.simulated;
            disk.cut_power_at(disk.calls() + calls);
        }
    }

    /// Has the disk of a node fail.
    pub fn fail_disk(&self, id: NodeId, plan: FaultPlan) {
        let mut members = self.members.lock();
        if let Some(member) = members.get_mut(&id)
            && let Some(running) = &mut member.running
        {
            running.faulty = true;
            member.disk.faults.follow(plan);
        }
    }

    /// Leaves the disk of a node with room for so many bytes more.
    pub fn fill_disk(&self, id: NodeId, room: u64) {
        if let Some(member) = self.members.lock().get(&id)
            && let Ok(length) = member.disk.simulated.len()
        {
            member.disk.limited.set_limit(length + room);
        }
    }

    /// Makes room on the disk of a node.
    pub fn make_room(&self, id: NodeId) {
        if let Some(member) = self.members.lock().get(&id) {
            member.disk.limited.set_limit(u64::MAX);
        }
    }

    /// Sets the clock of a node, of the restarted one, too.
    pub fn set_clock(&self, id: NodeId, microseconds: i64) {
        if let Some(member) = self.members.lock().get_mut(&id) {
            member.clock = microseconds;
            if let Some(running) = &member.running {
                running.machine.set_clock(microseconds);
            }
        }
    }

    /// Whether a node has noticed that its disk fails.
    #[must_use]
    pub fn has_stopped(&self, id: NodeId) -> bool {
        self.running(id)
            .is_some_and(|running| running.node.status().error.is_some())
    }

    /// The node that leads in the newest term.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let leads = |id: NodeId| {
            let status = self.running(id)?.node.status();
            (status.role == Role::Leader).then_some((status.term, id))
        };
        let leaders = self.running_ids().into_iter().filter_map(leads);
        leaders.max().map(|(_, id)| id)
    }

    /// Adds a running node to the membership, without a vote.
    pub async fn add_learner(&self, leader: NodeId, id: NodeId) -> Option<Result<u64, Error>> {
        let Running { node, machine, .. } = self.running(leader)?;
        let adding = machine.spawn(async move { node.add_learner(id, address(id)).await });
        timeout(Duration::from_secs(4), adding).await.ok()?.ok()
    }

    /// Sets who votes.
    pub async fn set_voters(
        &self,
        leader: NodeId,
        voters: BTreeSet<NodeId>,
    ) -> Option<Result<u64, Error>> {
        let Running { node, machine, .. } = self.running(leader)?;
        let setting = machine.spawn(async move { node.change_membership(voters).await });
        timeout(Duration::from_secs(4), setting).await.ok()?.ok()
    }

    /// Looks at what the nodes say of themselves, now and then, for ever.
    async fn watch(self: Arc<Self>) {
        loop {
            for id in self.ids() {
                self.look_at(id);
            }
            sleep(WATCH).await;
        }
    }

    fn look_at(&self, id: NodeId) {
        let Some(running) = self.running(id) else {
            return;
        };
        let status = running.node.status();
        if let Some(error) = &status.error
            && !running.faulty
            && !running.was_outvoted()
        {
            self.world.violate(format!(
                "node {id} stopped, and no fault was its own: {error}"
            ));
        }
        if status.role == Role::Leader {
            self.terms.lock().insert(status.term);
            if status.witness {
                self.witness_terms.lock().insert(status.term);
            }
        }
        let mut members = self.members.lock();
        if let Some(member) = members.get_mut(&id)
            && status.term > 0
            && status.error.is_none()
        {
            // A node that has not read its vote yet says 0.
            if status.term < member.term {
                self.world.violate(format!(
                    "node {id} was in term {} and is in term {}",
                    member.term, status.term
                ));
            }
            member.term = member.term.max(status.term);
        }
    }

    /// The snapshots that were installed by nodes that have ended.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.snapshots.load(Ordering::Relaxed)
    }

    /// The terms that had a leader.
    #[must_use]
    pub fn terms(&self) -> u64 {
        self.terms.lock().len() as u64
    }

    /// The terms in which the witness led.
    #[must_use]
    pub fn witness_terms(&self) -> u64 {
        self.witness_terms.lock().len() as u64
    }

    /// What the nodes say of themselves, for a message.
    #[must_use]
    pub fn describe(&self) -> String {
        let say = |id: NodeId| match self.running(id) {
            Some(running) => format!("{:?}", running.node.status()),
            None => format!("node {id} is down"),
        };
        self.ids()
            .into_iter()
            .map(say)
            .collect::<Vec<_>>()
            .join("; ")
    }
}
