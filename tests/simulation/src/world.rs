//! What all parts of one simulation share: the seed's random numbers, the trace, and the
//! surroundings that the code of each node believes to be its machine.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use folio_raft::NodeId;
use folio_raft::runtime::{Environment, Gate, behind};
use folio_raft::transport::BoxFuture;
use folio_store::storage::SplitMix64;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use crate::schedule::Schedule;

/// When every clock begins.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// One simulation.
pub struct World {
    began: Instant,
    random: Mutex<SplitMix64>,
    trace: Mutex<Trace>,
    steps: AtomicU64,
    violation: Mutex<Option<String>>,
    schedule: Arc<Schedule>,
}

struct Trace {
    digest: Xxh3,
    events: u64,
    show: bool,
}

impl World {
    /// The world of `seed`; `show` prints what happens in it as it happens. In the runtime that it lives in.
    #[must_use]
    pub fn new(seed: u64, show: bool) -> Arc<Self> {
        let mut random = SplitMix64::new(seed);
        let schedule = Schedule::new(SplitMix64::new(random.next_u64()));
        tokio::spawn(schedule.clone().run());
        Arc::new(Self {
            schedule,
            began: Instant::now(),
            random: Mutex::new(random),
            trace: Mutex::new(Trace {
                digest: Xxh3::new(),
                events: 0,
                show,
            }),
            steps: AtomicU64::new(0),
            violation: Mutex::new(None),
        })
    }

    /// A source of random numbers of its own for a part of the simulation.
    #[must_use]
    pub fn source(&self) -> SplitMix64 {
        SplitMix64::new(self.random.lock().next_u64())
    }

    /// Starts a task that belongs to no machine.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(behind(self.gate(None), task))
    }

    fn gate(&self, machine: Option<Arc<Machine>>) -> Arc<dyn Gate> {
        Arc::new(TaskGate {
            task: self.schedule.task(),
            schedule: self.schedule.clone(),
            machine,
        })
    }

    /// How often a task went on.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.schedule.turns()
    }

    /// The simulated time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes an event. All of them together are what two runs of a seed are compared by.
    pub fn note(&self, event: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {event}", self.elapsed().as_secs_f64());
        let mut trace = self.trace.lock();
        trace.digest.update(line.as_bytes());
        trace.events += 1;
        if trace.show {
            println!("{line}");
        }
    }

    /// The number of events and their digest.
    #[must_use]
    pub fn trace(&self) -> (u64, u64) {
        let trace = self.trace.lock();
        (trace.events, trace.digest.digest())
    }

    /// The next moment: begins and ends of operations are ordered by it.
    pub fn moment(&self) -> u64 {
        self.steps.fetch_add(1, Ordering::Relaxed)
    }

    /// Remembers the first thing found wrong.
    pub fn violate(&self, what: String) {
        self.note(format_args!("VIOLATION: {what}"));
        self.violation.lock().get_or_insert(what);
    }

    /// The first thing found wrong.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        self.violation.lock().clone()
    }
}

thread_local! {
    /// The machine whose code is running.
    static CURRENT: RefCell<Option<Arc<Machine>>> = const { RefCell::new(None) };
}

/// What runs one node from a start to its crash.
pub struct Machine {
    /// The node.
    pub node: NodeId,
    world: Arc<World>,
    state: Mutex<MachineState>,
}

struct MachineState {
    random: SplitMix64,
    /// While the machine stands still: the tasks that are to be woken afterwards.
    paused: Option<Vec<Waker>>,
    /// How far its clock is off, in microseconds.
    clock: i64,
    /// How long a piece of blocking work may have to wait, in milliseconds.
    slowness: u64,
}

impl Machine {
    /// A machine for `node`.
    #[must_use]
    pub fn new(world: Arc<World>, node: NodeId, random: SplitMix64) -> Arc<Self> {
        Arc::new(Self {
            node,
            world,
            state: Mutex::new(MachineState {
                random,
                paused: None,
                clock: 0,
                slowness: 0,
            }),
        })
    }

    /// Starts a task on the machine.
    pub fn spawn<F>(self: &Arc<Self>, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(behind(self.world.gate(Some(self.clone())), task))
    }

    /// Stops everything on the machine, as if the system gave it no time.
    pub fn pause(&self) {
        self.state.lock().paused.get_or_insert_default();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        for waker in self.state.lock().paused.take().unwrap_or_default() {
            waker.wake();
        }
    }

    /// Moves its clock.
    pub fn set_clock(&self, microseconds: i64) {
        self.state.lock().clock = microseconds;
    }

    /// Makes blocking work wait for up to so many milliseconds.
    pub fn set_slowness(&self, milliseconds: u64) {
        self.state.lock().slowness = milliseconds;
    }
}

/// Before every task.
struct TaskGate {
    task: u64,
    schedule: Arc<Schedule>,
    machine: Option<Arc<Machine>>,
}

impl Gate for TaskGate {
    fn pass(&self, context: &mut Context<'_>, poll: &mut dyn FnMut(&mut Context<'_>)) {
        if !self.schedule.is_turn_of(self.task, context) {
            return;
        }
        if let Some(machine) = &self.machine
            && let Some(waiting) = &mut machine.state.lock().paused
        {
            waiting.push(context.waker().clone());
            return;
        }
        let before = CURRENT.replace(self.machine.clone());
        poll(context);
        CURRENT.set(before);
    }
}

/// What the nodes are given in place of the system.
pub struct Surroundings(pub Arc<World>);

fn current() -> Option<Arc<Machine>> {
    CURRENT.with_borrow(Clone::clone)
}

impl Environment for Surroundings {
    fn now(&self) -> SystemTime {
        let offset = current().map_or(0, |machine| machine.state.lock().clock);
        let now = EPOCH + self.0.elapsed();
        let by = Duration::from_micros(offset.unsigned_abs());
        UNIX_EPOCH
            + if offset < 0 {
                now.saturating_sub(by)
            } else {
                now + by
            }
    }

    fn random(&self) -> u64 {
        match current() {
            Some(machine) => machine.state.lock().random.next_u64(),
            None => self.0.random.lock().next_u64(),
        }
    }

    fn gate(&self) -> Arc<dyn Gate> {
        self.0.gate(current())
    }

    fn turn(&self) -> BoxFuture<'static, ()> {
        let Some(machine) = current() else {
            return Box::pin(std::future::ready(()));
        };
        let wait = {
            let mut state = machine.state.lock();
            let most = state.slowness;
            match state.random.below(20) {
                0..=11 if most == 0 => 0,
                0..=18 => 1 + state.random.below(2 + most),
                _ => 5 + state.random.below(10 + most),
            }
        };
        Box::pin(async move {
            if wait > 0 {
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        })
    }
}
