//! The clients, and the record of what they asked and were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use folio_attacks::choices::Choices;
use folio_raft::{Error, NodeId, ReadLevel, Written};
use folio_store::storage::SplitMix64;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::bank::{ACCOUNTS, Action, Answer, Command, DEPOSIT, Padding, REGISTERS, Seen};
use crate::cluster::{Cluster, Running};

/// After this a client gives up, in simulated time.
const GIVE_UP: Duration = Duration::from_secs(3);

/// What a client did.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The node that was asked.
    pub node: NodeId,
    /// When it began.
    pub begun: u64,
    /// When it ended; [`u64::MAX`] if that was not seen.
    pub ended: u64,
    /// When it began, in simulated time.
    pub since: Duration,
    /// When it ended, in simulated time.
    pub until: Duration,
    /// What was asked, and the answer.
    pub kind: Kind,
}

/// What was asked, and the answer.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A write.
    Write(Command, Outcome),
    /// A read; of interest is one register.
    Read(ReadLevel, u64, Seen),
}

/// What is known of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was carried out.
    Done(Answer),
    /// It was not and will not be.
    Refused,
    /// Nothing.
    Unknown,
}

/// All clients of a simulation.
pub struct Clients {
    cluster: Arc<Cluster>,
    history: Mutex<Vec<Operation>>,
    numbers: AtomicU64,
    over: AtomicBool,
}

/// What a client has learned.
#[derive(Default)]
struct Known {
    /// A value that a register held.
    value: u64,
    /// The index of its last write.
    written: u64,
}

/// The moment and the time at which an operation began.
#[derive(Clone, Copy)]
struct Begun(u64, Duration);

#[derive(Clone, Copy)]
enum Wish {
    Write,
    Swap,
    Transfer,
    Read(ReadLevel),
    ReadOwn,
}

impl Clients {
    /// The clients of `cluster`; none runs yet.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            history: Mutex::default(),
            numbers: AtomicU64::new(1),
            over: AtomicBool::new(false),
        })
    }

    /// Tells all clients to end.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// What was done so far.
    #[must_use]
    pub fn history(&self) -> Vec<Operation> {
        self.history.lock().clone()
    }

    /// One client, until they are told to end.
    pub async fn run(self: Arc<Self>, mut random: SplitMix64) {
        let mut asked = None;
        let mut known = Known::default();
        while !self.over.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(random.below(50))).await;
            let node = asked.filter(|_| !random.one_in(12));
            let Some(node) = node.or_else(|| self.any(&mut random)) else {
                continue;
            };
            asked = self.step(node, &mut random, &mut known).await;
        }
    }

    /// Asks one thing of one node; who is to be asked next.
    async fn step(
        &self,
        node: NodeId,
        random: &mut SplitMix64,
        known: &mut Known,
    ) -> Option<NodeId> {
        let wish = random.weighted(&[
            (12, Wish::Write),
            (6, Wish::Swap),
            (8, Wish::Transfer),
            (6, Wish::Read(ReadLevel::Linearizable)),
            (5, Wish::Read(ReadLevel::Lease)),
            (3, Wish::Read(ReadLevel::Follower)),
            (2, Wish::Read(ReadLevel::Local)),
            (2, Wish::ReadOwn),
        ]);
        let register = random.below(REGISTERS);
        let action = match wish {
            Wish::Read(level @ (ReadLevel::Linearizable | ReadLevel::Lease)) => {
                return self.read(node, level, register, known).await;
            }
            // Any node may be asked for what it has.
            Wish::Read(level) => {
                let other = self.any(random).unwrap_or(node);
                self.read(other, level, register, known).await;
                return Some(node);
            }
            Wish::ReadOwn => {
                let level = ReadLevel::AtLeast(known.written);
                let other = self.any(random).unwrap_or(node);
                self.read(other, level, register, known).await;
                return Some(node);
            }
            Wish::Write => Action::Write { register },
            Wish::Swap => Action::Swap {
                register,
                expected: known.value,
            },
            Wish::Transfer => Action::Transfer {
                from: random.below(ACCOUNTS),
                to: random.below(ACCOUNTS),
                amount: random.below(DEPOSIT),
            },
        };
        let padding = if random.one_in(20) {
            1500
        } else {
            random.below(100)
        };
        let (outcome, next) = self.write(node, action, padding as usize).await;
        if let Outcome::Done(answer) = outcome {
            known.value = answer.before;
            known.written = answer.place.0;
        }
        next
    }

    /// Asks for a write; who is to be asked next.
    pub async fn write(
        &self,
        node: NodeId,
        action: Action,
        padding: usize,
    ) -> (Outcome, Option<NodeId>) {
        let world = &self.cluster.world;
        let Some(Running {
            node: asked,
            machine,
            ..
        }) = self.cluster.running(node)
        else {
            return (Outcome::Refused, None);
        };
        let command = Command {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            action,
            padding: Padding(vec![7; padding]),
        };
        let begun = self.begin(
            node,
            format_args!("write {} {:?}", command.number, command.action),
        );
        let sent = command.clone();
        let writing = machine.spawn(async move { asked.write(sent).await });
        let written = match timeout(GIVE_UP, writing).await {
            Ok(Ok(written)) => Some(written),
            Ok(Err(panic)) => {
                world.violate(format!("node {node} panicked in a write: {panic}"));
                None
            }
            Err(_) => None,
        };
        let (outcome, next) = match written {
            Some(Ok(Written { response, index })) => {
                if response.place.0 != index {
                    world.violate(format!(
                        "command {} was answered with entry {index} and carried out at {:?}",
                        command.number, response.place
                    ));
                }
                (Outcome::Done(response), Some(node))
            }
            Some(Err(error)) => of_error(&error),
            None => (Outcome::Unknown, None),
        };
        world.note(format_args!("  {} of {node}: {outcome:?}", command.number));
        // One that may still be carried out has no end.
        let is_over = outcome != Outcome::Unknown;
        self.keep(node, begun, is_over, Kind::Write(command, outcome));
        (outcome, next)
    }

    /// Asks for a read; who is to be asked next.
    async fn read(
        &self,
        node: NodeId,
        level: ReadLevel,
        register: u64,
        known: &mut Known,
    ) -> Option<NodeId> {
        let Running {
            node: asked,
            machine,
            ..
        } = self.cluster.running(node)?;
        let begun = self.begin(node, format_args!("read {register} {level:?}"));
        let reading = machine.spawn(async move { asked.read(level, Seen::of).await });
        match timeout(GIVE_UP, reading).await {
            Ok(Ok(Ok(Ok(seen)))) => {
                known.value = seen.contents.registers.get(&register).copied().unwrap_or(0);
                let world = &self.cluster.world;
                world.note(format_args!("  seen at {node}: {:?}", seen.last));
                if seen.contents.total() != ACCOUNTS * DEPOSIT {
                    world.violate(format!(
                        "node {node} shows accounts of {}: {seen:?}",
                        seen.contents.total()
                    ));
                }
                self.keep(node, begun, true, Kind::Read(level, register, seen));
                Some(node)
            }
            Ok(Ok(Err(error))) => {
                let world = &self.cluster.world;
                world.note(format_args!("  not seen at {node}: {error}"));
                of_error(&error).1
            }
            Ok(Err(panic)) => {
                let what = format!("node {node} panicked in a read: {panic}");
                self.cluster.world.violate(what);
                None
            }
            // The disk cannot be read, or nobody answered.
            Ok(Ok(Ok(Err(_)))) | Err(_) => None,
        }
    }

    fn any(&self, random: &mut SplitMix64) -> Option<NodeId> {
        let ids = self.cluster.running_ids();
        (!ids.is_empty()).then(|| ids[random.below(ids.len() as u64) as usize])
    }

    fn begin(&self, node: NodeId, what: std::fmt::Arguments<'_>) -> Begun {
        let world = &self.cluster.world;
        world.note(format_args!("ask {node}: {what}"));
        Begun(world.moment(), world.elapsed())
    }

    fn keep(&self, node: NodeId, Begun(begun, since): Begun, is_over: bool, kind: Kind) {
        let world = &self.cluster.world;
        let (ended, until) = match is_over {
            true => (world.moment(), world.elapsed()),
            false => (u64::MAX, Duration::MAX),
        };
        self.history.lock().push(Operation {
            node,
            begun,
            ended,
            since,
            until,
            kind,
        });
    }
}

/// What an error says of a write, and who is to be asked next.
fn of_error(error: &Error) -> (Outcome, Option<NodeId>) {
    match error {
        Error::NotLeader { leader, .. } => (Outcome::Refused, *leader),
        Error::Busy { .. }
        | Error::DiskFull { .. }
        | Error::TooLarge { .. }
        | Error::Witness
        | Error::ShuttingDown => (Outcome::Refused, None),
        _ => (Outcome::Unknown, None),
    }
}
