//! One simulation from its seed to its verdict.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use folio_attacks::Figures;
use folio_raft::runtime::enter;
use folio_raft::{NodeId, ReadLevel};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::bank::{Action, Everything, commands, everything};
use crate::clients::{Clients, Kind, Outcome};
use crate::cluster::{Cluster, PATIENCE, Running};
use crate::history;
use crate::nemesis::Nemesis;
use crate::world::{Surroundings, World};

const CLIENTS: u64 = 5;

/// How much happens.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    /// From which all follows.
    pub seed: u64,
    /// How long things fail, in simulated time.
    pub rage: Duration,
    /// Whether to print what happens.
    pub show: bool,
}

/// What came out.
#[derive(Debug)]
pub struct Outcomes {
    /// What was counted.
    pub figures: Figures,
    /// A digest of everything that happened.
    pub digest: u64,
    /// What was wrong.
    pub violation: Option<String>,
}

impl Simulation {
    /// The simulation of `seed`, of the usual length.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            rage: Duration::from_secs(12),
            show: false,
        }
    }

    /// Runs it, on this thread.
    ///
    /// # Panics
    ///
    /// When the runtime cannot be made.
    #[must_use]
    pub fn run(self) -> Outcomes {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without threads");
        runtime.block_on(async {
            let world = World::new(self.seed, self.show);
            let _entered = enter(Arc::new(Surroundings(world.clone())));
            let living = world.spawn(self.live(world.clone()));
            living.await.expect("the simulation itself does not panic")
        })
    }

    async fn live(self, world: Arc<World>) -> Outcomes {
        let mut figures = Figures::of("simulation");
        let size = if self.seed.is_multiple_of(2) { 3 } else { 5 };
        let with_witness = self.seed % 6 < 2;
        let cluster = Cluster::start(world.clone(), size, with_witness).await;
        let clients = Clients::new(cluster.clone());
        let start = |_| world.spawn(clients.clone().run(world.source()));
        let running: Vec<_> = (0..CLIENTS).map(start).collect();
        let mut nemesis = Nemesis::new(cluster.clone(), size);
        nemesis.rage(self.rage).await;
        nemesis.relent().await;
        // All is well again: what was asked before comes to its end.
        sleep(Duration::from_secs(1)).await;
        clients.end();
        if world.violation().is_none()
            && let Err(found) = conclude(&cluster, &clients, running).await
        {
            world.violate(found);
        }
        count(&mut figures, &cluster, &clients, &nemesis);
        let (events, digest) = world.trace();
        figures.add("events", events);
        Outcomes {
            figures,
            digest,
            violation: world.violation(),
        }
    }
}

/// The end: the cluster takes writes, all members hold the same, and the history is one of a single copy.
async fn conclude(
    cluster: &Arc<Cluster>,
    clients: &Clients,
    running: Vec<JoinHandle<()>>,
) -> Result<(), String> {
    for client in running {
        client
            .await
            .map_err(|panic| format!("a client panicked: {panic}"))?;
    }
    let last = last_write(cluster, clients).await?;
    let mut first: Option<(u64, Everything)> = None;
    for id in cluster.ids() {
        let member = catch_up(cluster, id, last).await?;
        if cluster.witness() == Some(id) {
            continue;
        }
        let read = member.node.read(ReadLevel::Local, everything).await;
        let all = read
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        match &first {
            None => first = Some((id, all)),
            Some((other, expected)) if *expected == all => {
                cluster
                    .world
                    .note(format_args!("{id} holds what {other} holds"));
            }
            Some((other, _)) => {
                return Err(format!(
                    "nodes {other} and {id} hold different rows at the end"
                ));
            }
        }
        let read = member.node.read(ReadLevel::Local, commands).await;
        let carried_out = read
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        if id == cluster.ids()[0] {
            history::check(&clients.history(), &carried_out)?;
        }
    }
    for id in cluster.ids() {
        cluster.bring_down(id, crate::cluster::End::Shutdown).await;
    }
    Ok(())
}

/// Waits until a node has applied an entry.
async fn catch_up(cluster: &Cluster, id: NodeId, index: u64) -> Result<Running, String> {
    loop {
        cluster.start_outvoted_again().await;
        let Some(member) = cluster.running(id) else {
            return Err(format!("node {id} does not run at the end"));
        };
        match member.node.wait_for_applied(index, PATIENCE).await {
            Ok(()) => return Ok(member),
            Err(_) if member.was_outvoted() => {}
            Err(error) => {
                return Err(format!(
                    "node {id} does not catch up: {error}; {}",
                    cluster.describe()
                ));
            }
        }
    }
}

/// One more write must come through; the index of its entry.
async fn last_write(cluster: &Arc<Cluster>, clients: &Clients) -> Result<u64, String> {
    for _ in 0..200 {
        if let Some(leader) = cluster.leader()
            && let (Outcome::Done(answer), _) = clients
                .write(leader, Action::Write { register: 0 }, 0)
                .await
        {
            return Ok(answer.place.0);
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(format!(
        "no write comes through after all is well again: {}",
        cluster.describe()
    ))
}

fn count(figures: &mut Figures, cluster: &Cluster, clients: &Clients, nemesis: &Nemesis) {
    for operation in clients.history() {
        figures.add(
            match operation.kind {
                Kind::Write(_, Outcome::Done(_)) => "writes acknowledged",
                Kind::Write(_, Outcome::Refused) => "refused",
                Kind::Write(_, Outcome::Unknown) => "of unknown outcome",
                Kind::Read(ReadLevel::Linearizable, ..) => "linearizable reads",
                Kind::Read(ReadLevel::Lease, ..) => "lease reads",
                Kind::Read(ReadLevel::Follower, ..) => "follower reads",
                Kind::Read(..) => "other reads",
            },
            1,
        );
    }
    figures.add("entries", cluster.replicas.entries());
    figures.add("terms with a leader", cluster.terms());
    figures.add("terms led by a witness", cluster.witness_terms());
    figures.add("snapshots installed", cluster.snapshots());
    figures.add("messages", cluster.network.messages());
    figures.add("turns of tasks", cluster.world.turns());
    figures.add("changes of members", nemesis.changes());
    for (evil, times) in nemesis.counts() {
        figures.add(&format!("{evil:?}"), *times);
    }
}

impl fmt::Display for Simulation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "cargo run --release -p folio-simulation -- --seed {}",
            self.seed
        )
    }
}
