//! What befalls the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use folio_attacks::choices::Choices;
use folio_raft::NodeId;
use folio_store::storage::{Fault, FaultPlan, SplitMix64, StorageCall};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, End, PATIENCE};
use crate::network::Weather;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Evil {
    /// The nodes fall into two halves that do not hear each other.
    Split,
    /// One node, mostly the leader, hears nobody, or nobody hears it, or both.
    Isolate,
    /// Some ways are cut, each in one direction.
    OneWay,
    /// All ways are mended.
    Mend,
    /// Messages are delayed, lost, doubled and overtake each other, more or less than before.
    Weather,
    /// A node stands still for a while.
    Pause,
    /// The power of a node goes.
    PowerCut,
    /// The power of a node goes in the middle of what it writes.
    PowerCutInWrite,
    /// The power of all nodes goes.
    Blackout,
    /// The process of a node is killed.
    Kill,
    /// A node is shut down and started again.
    Restart,
    /// A disk fails.
    DiskError,
    /// A disk fails and is thrown away: another node takes the place of its node.
    LostDisk,
    /// A disk has no room for a while, or little.
    FullDisk,
    /// A disk becomes slow, or fast again.
    SlowDisk,
    /// A clock jumps.
    Clock,
    /// A node is told to compact its log.
    Compact,
    /// A node is told to give its leadership away.
    HandOver,
    /// The members change.
    Membership,
}

const ALL: [(u64, Evil); 19] = [
    (4, Evil::Split),
    (5, Evil::Isolate),
    (4, Evil::OneWay),
    (8, Evil::Mend),
    (6, Evil::Weather),
    (4, Evil::Pause),
    (5, Evil::PowerCut),
    (5, Evil::PowerCutInWrite),
    (2, Evil::Blackout),
    (3, Evil::Kill),
    (2, Evil::Restart),
    (4, Evil::DiskError),
    (2, Evil::LostDisk),
    (3, Evil::FullDisk),
    (2, Evil::SlowDisk),
    (3, Evil::Clock),
    (2, Evil::Compact),
    (3, Evil::HandOver),
    (5, Evil::Membership),
];

/// How the members are to change.
#[derive(Clone, Copy, Debug)]
enum Change {
    Learner,
    Promote,
    Remove,
    Replace,
}

/// What does it all.
pub struct Nemesis {
    cluster: Arc<Cluster>,
    random: SplitMix64,
    /// Nodes that are down, and when they are started again.
    returning: BTreeMap<NodeId, Instant>,
    /// Nodes that stand still, and until when.
    paused: BTreeMap<NodeId, Instant>,
    /// Nodes with a full disk, and until when.
    full: BTreeMap<NodeId, Instant>,
    /// Nodes that were told to fail, and what becomes of them then.
    failing: BTreeMap<NodeId, End>,
    shared: Arc<Mutex<Shared>>,
    counts: BTreeMap<Evil, u64>,
}

/// What a change of the members shares with the rest.
#[derive(Default)]
struct Shared {
    changing: bool,
    newest: NodeId,
    /// A node that will never be back, and has to be replaced.
    lost: Option<NodeId>,
    changed: u64,
}

impl Nemesis {
    /// The nemesis of a cluster of nodes 1 to `size`.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, size: u64) -> Self {
        Self {
            random: cluster.world.source(),
            cluster,
            returning: BTreeMap::new(),
            paused: BTreeMap::new(),
            full: BTreeMap::new(),
            failing: BTreeMap::new(),
            shared: Arc::new(Mutex::new(Shared {
                newest: size,
                ..Shared::default()
            })),
            counts: BTreeMap::new(),
        }
    }

    /// How often each fault came.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<Evil, u64> {
        &self.counts
    }

    /// Changes of the membership that came through.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shared.lock().changed
    }

    /// Does evil for so long.
    pub async fn rage(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut next = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end && self.cluster.world.violation().is_none() {
            self.bring_back(Instant::now()).await;
            if Instant::now() >= next {
                let evil = self.choose();
                *self.counts.entry(evil).or_default() += 1;
                self.cluster.world.note(format_args!("nemesis: {evil:?}"));
                self.act(evil).await;
                next = Instant::now() + Duration::from_millis(20 + self.random.below(600));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// With a witness the members stay: what it acknowledged with one of two replicas is nowhere else, so neither may go for good.
    fn choose(&mut self) -> Evil {
        loop {
            let evil = self.random.weighted(&ALL);
            let changes = matches!(evil, Evil::Membership | Evil::LostDisk);
            if !changes || self.cluster.witness().is_none() {
                return evil;
            }
        }
    }

    /// Ends pauses and failures whose time has come.
    async fn bring_back(&mut self, now: Instant) {
        for id in take_over(&mut self.paused, now) {
            self.resume(id);
        }
        for id in take_over(&mut self.full, now) {
            self.cluster.world.note(format_args!("room for {id}"));
            self.cluster.make_room(id);
        }
        // As whoever watches over a service would.
        for id in self.cluster.running_ids() {
            if self.cluster.has_stopped(id) {
                let end = self.failing.remove(&id).unwrap_or(End::Kill);
                self.bring_down(id, end).await;
            }
        }
        for id in take_over(&mut self.returning, now) {
            self.cluster.bring_up(id).await;
        }
    }

    fn resume(&self, id: NodeId) {
        self.cluster.world.note(format_args!("resume {id}"));
        if let Some(running) = self.cluster.running(id) {
            running.machine.resume();
        }
    }

    async fn bring_down(&mut self, id: NodeId, end: End) {
        self.failing.remove(&id);
        self.paused.remove(&id);
        self.cluster.bring_down(id, end).await;
        let away = match self.random.below(4) {
            0 => 0,
            1 => self.random.below(200),
            _ => self.random.below(3000),
        };
        self.returning
            .insert(id, Instant::now() + Duration::from_millis(away));
    }

    /// A running node: the leader as often as all others together.
    fn victim(&mut self) -> Option<NodeId> {
        let ids = self.cluster.running_ids();
        if self.random.one_in(2)
            && let Some(leader) = self.cluster.leader()
        {
            return Some(leader);
        }
        (!ids.is_empty()).then(|| ids[self.random.below(ids.len() as u64) as usize])
    }

    async fn act(&mut self, evil: Evil) {
        match evil {
            Evil::Split => self.split(),
            Evil::OneWay => self.cut_some(),
            Evil::Mend => self.cluster.network.mend(),
            Evil::Weather => self.change_weather(),
            Evil::Blackout => {
                for id in self.cluster.running_ids() {
                    self.bring_down(id, End::PowerCut).await;
                }
            }
            Evil::Membership => self.change_members(),
            Evil::LostDisk => self.lose_disk().await,
            _ => {
                if let Some(id) = self.victim() {
                    self.strike(evil, id).await;
                }
            }
        }
    }

    /// What befalls one node.
    async fn strike(&mut self, evil: Evil, id: NodeId) {
        self.cluster
            .world
            .note(format_args!("nemesis strikes {id}"));
        match evil {
            Evil::Isolate => self.isolate(id),
            Evil::PowerCut => self.bring_down(id, End::PowerCut).await,
            Evil::Kill => self.bring_down(id, End::Kill).await,
            Evil::Restart => self.bring_down(id, End::Shutdown).await,
            Evil::PowerCutInWrite => {
                self.cluster.cut_power_after(id, 1 + self.random.below(12));
                self.failing.insert(id, End::PowerCut);
            }
            Evil::DiskError => {
                let plan = self.disk_error();
                self.cluster.fail_disk(id, plan);
                let end = if self.random.one_in(2) {
                    End::PowerCut
                } else {
                    End::Kill
                };
                self.failing.insert(id, end);
            }
            _ => self.disturb(evil, id),
        }
    }

    fn disk_error(&mut self) -> FaultPlan {
        const SYNCS: &[StorageCall] = &[StorageCall::Sync];
        const READS: &[StorageCall] = &[StorageCall::Read];
        FaultPlan {
            calls: self
                .random
                .weighted(&[(4, SYNCS), (4, StorageCall::CHANGING), (1, READS)]),
            at: 1 + self.random.below(15),
            fault: self.random.weighted(&[
                (4, Fault::InputOutput),
                (1, Fault::ShortWrite),
                (1, Fault::NoSpace),
            ]),
            lasting: self.random.one_in(2),
        }
    }

    fn disturb(&mut self, evil: Evil, id: NodeId) {
        let Some(running) = self.cluster.running(id) else {
            return;
        };
        let (node, machine) = (running.node, running.machine);
        match evil {
            Evil::Pause => {
                machine.pause();
                let long = 20 + self.random.below(2000);
                self.paused
                    .insert(id, Instant::now() + Duration::from_millis(long));
            }
            Evil::FullDisk => {
                let room = self
                    .random
                    .weighted(&[(1, 0), (2, 64 << 10), (1, 256 << 10)]);
                self.cluster.fill_disk(id, self.random.below(room + 1));
                let long = 200 + self.random.below(4000);
                self.full
                    .insert(id, Instant::now() + Duration::from_millis(long));
            }
            Evil::SlowDisk => {
                machine.set_slowness(self.random.weighted(&[(2, 0), (1, 20), (1, 80)]))
            }
            Evil::Clock => {
                let far = self.random.below(7_200_000_000).cast_signed();
                self.cluster.set_clock(id, far - 3_600_000_000);
            }
            Evil::HandOver => {
                drop(machine.spawn(async move { node.transfer_leadership(None).await }));
            }
            Evil::Compact => drop(machine.spawn(async move { node.trigger_snapshot().await })),
            _ => {}
        }
    }

    fn split(&mut self) {
        let ids = self.cluster.ids();
        let left: Vec<_> = ids
            .iter()
            .filter(|_| self.random.one_in(2))
            .copied()
            .collect();
        self.cluster.network.mend();
        for &one in &ids {
            for &other in &ids {
                if left.contains(&one) != left.contains(&other) {
                    self.cluster.network.cut(one, other);
                }
            }
        }
    }

    fn isolate(&mut self, id: NodeId) {
        let how = self.random.below(4);
        for other in self.cluster.ids() {
            if how != 1 {
                self.cluster.network.cut(id, other);
            }
            if how != 2 {
                self.cluster.network.cut(other, id);
            }
        }
    }

    fn cut_some(&mut self) {
        let ids = self.cluster.ids();
        for &one in &ids {
            for &other in &ids {
                if self.random.one_in(5) {
                    self.cluster.network.cut(one, other);
                }
            }
        }
    }

    fn change_weather(&mut self) {
        let mut of = |most: u64| match self.random.below(3) {
            0 => 0,
            1 => self.random.below(most / 8 + 1),
            _ => self.random.below(most + 1),
        };
        let weather = Weather {
            least: of(20),
            spread: 1 + of(80),
            lost: of(300),
            doubled: of(300),
            late: of(150),
        };
        self.cluster.world.note(format_args!("{weather:?}"));
        self.cluster.network.set_weather(weather);
    }

    /// A disk is gone for good; its node has to be replaced. One at a time, so that a quorum stays.
    async fn lose_disk(&mut self) {
        let Some(id) = self.victim() else {
            return;
        };
        {
            let mut shared = self.shared.lock();
            if shared.changing || shared.lost.is_some() {
                return;
            }
            shared.lost = Some(id);
        }
        self.bring_down(id, End::PowerCut).await;
        self.returning.remove(&id);
        self.change_members();
    }

    /// Begins to change the members, unless that is under way.
    fn change_members(&mut self) {
        let change = self.random.weighted(&[
            (2, Change::Learner),
            (3, Change::Promote),
            (3, Change::Remove),
            (3, Change::Replace),
        ]);
        let random = SplitMix64::new(self.random.next_u64());
        if !std::mem::replace(&mut self.shared.lock().changing, true) {
            let (cluster, shared) = (self.cluster.clone(), self.shared.clone());
            self.cluster.world.spawn(async move {
                // What does not come through is left as it is.
                let _ = alter(&cluster, &shared, change, random).await;
                shared.lock().changing = false;
            });
        }
    }

    /// Ends all evil, and has every node run that belongs to the cluster and no other.
    pub async fn relent(&mut self) {
        self.cluster.world.note(format_args!("nemesis: relents"));
        self.cluster.network.mend();
        self.cluster.network.set_weather(Weather::FAIR);
        self.full.clear();
        for id in self.cluster.running_ids() {
            self.cluster.make_room(id);
            if let Some(running) = self.cluster.running(id) {
                running.machine.resume();
                running.machine.set_slowness(0);
            }
        }
        for (id, end) in std::mem::take(&mut self.failing) {
            self.bring_down(id, end).await;
        }
        let lost = self.shared.lock().lost;
        for id in self.cluster.ids() {
            if Some(id) != lost {
                self.cluster.bring_up(id).await;
            }
        }
        if let Err(stuck) = self.settle().await {
            self.cluster.world.violate(stuck);
        }
    }

    /// Replaces what is lost, and stops who is no member any more.
    async fn settle(&mut self) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.cluster.world.violation().is_some() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!(
                    "the cluster does not recover: {}",
                    self.cluster.describe()
                ));
            }
            sleep(Duration::from_millis(200)).await;
            let (changing, lost) = {
                let shared = self.shared.lock();
                (shared.changing, shared.lost)
            };
            if changing {
                continue;
            }
            if lost.is_some() {
                self.change_members();
                continue;
            }
            // A change that was cut short is finished first.
            if let Some(leader) = self.cluster.leader()
                && let Some(running) = self.cluster.running(leader)
            {
                let voters = running.node.status().voters.into_keys().collect();
                if let Some(Ok(_)) = self.cluster.set_voters(leader, voters).await {
                    let status = running.node.status();
                    for id in self.cluster.ids() {
                        if !status.voters.contains_key(&id) && !status.learners.contains_key(&id) {
                            self.cluster.bring_down(id, End::Shutdown).await;
                            self.cluster.remove(id);
                        }
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// Takes the nodes out whose time has come.
fn take_over(times: &mut BTreeMap<NodeId, Instant>, now: Instant) -> Vec<NodeId> {
    let (over, left) = std::mem::take(times)
        .into_iter()
        .partition(|(_, until)| *until <= now);
    *times = left;
    BTreeMap::into_keys(over).collect()
}

/// Changes the members. `None` where something did not come through.
async fn alter(
    cluster: &Arc<Cluster>,
    shared: &Mutex<Shared>,
    change: Change,
    mut random: SplitMix64,
) -> Option<()> {
    let leader = cluster.leader()?;
    let status = cluster.running(leader)?.node.status();
    let lost = shared.lock().lost;
    let mut voters: BTreeSet<_> = status.voters.keys().copied().collect();
    if let Some(lost) = lost
        && !voters.contains(&lost)
        && !status.learners.contains_key(&lost)
    {
        forget(cluster, shared, lost).await;
        return Some(());
    }
    let change = if lost.is_some() {
        Change::Replace
    } else {
        change
    };
    cluster.world.note(format_args!(
        "change of members by {leader}: {change:?}, lost {lost:?}"
    ));
    let joining = match change {
        Change::Remove => None,
        // One that waits without a vote is taken before another is made.
        _ => match status
            .learners
            .keys()
            .find(|id| Some(**id) != lost && cluster.running(**id).is_some())
        {
            Some(&learner) => Some(learner),
            None => Some(join(cluster, shared, leader).await?),
        },
    };
    let any = voters
        .iter()
        .nth(random.below(voters.len() as u64) as usize)
        .copied();
    let leaving = match change {
        Change::Learner => return Some(()),
        Change::Promote if voters.len() >= 5 => return None,
        Change::Promote => None,
        Change::Remove if voters.len() <= 3 => return None,
        Change::Remove | Change::Replace => lost.or(any),
    };
    voters.extend(joining);
    if let Some(leaving) = leaving {
        voters.remove(&leaving);
    }
    cluster.set_voters(leader, voters).await?.ok()?;
    shared.lock().changed += 1;
    if let Some(leaving) = leaving {
        // For a while it does not know.
        sleep(Duration::from_millis(random.below(1000))).await;
        forget(cluster, shared, leaving).await;
    }
    Some(())
}

/// Starts a new node and makes it a member without a vote.
async fn join(cluster: &Arc<Cluster>, shared: &Mutex<Shared>, leader: NodeId) -> Option<NodeId> {
    let id = {
        let mut shared = shared.lock();
        shared.newest += 1;
        shared.newest
    };
    cluster.add(id);
    cluster.bring_up(id).await;
    cluster.add_learner(leader, id).await?.ok()?;
    shared.lock().changed += 1;
    Some(id)
}

/// Stops a node that is no member any more.
async fn forget(cluster: &Arc<Cluster>, shared: &Mutex<Shared>, id: NodeId) {
    cluster.bring_down(id, End::Kill).await;
    cluster.remove(id);
    let mut shared = shared.lock();
    if shared.lost == Some(id) {
        shared.lost = None;
    }
}
