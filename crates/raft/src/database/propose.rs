//! Gathering writes into log entries.
//!
//! openraft appends each proposal by itself, with a flush of its own, so the number of commands in
//! an entry decides the number of writes a second. There is no timer: with a free slot an entry is
//! proposed at once with whatever is waiting, and what arrives while all slots are taken goes into
//! the next entry together.
//!
//! What waits is bounded in number and in bytes. A caller whose deadline passes, or whose future is
//! dropped, takes its command back as long as it has not been proposed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use openraft::error::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::{Raft, ServerState};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument;

use super::{Status, not_leader};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::metrics::Meters;
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::store::{SharedStore, Standing};
use crate::types::{Batch, TypeConfig};

/// The answer to a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written<R> {
    /// What the state machine answered.
    pub response: R,
    /// The index of the log entry the command was in. A reader that waits until a node has applied
    /// it sees the write.
    pub index: u64,
}

/// How a write waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteOptions {
    /// How long the caller waits, for its turn and for the answer together. No longer than
    /// [`Config::write_timeout`].
    pub timeout: Duration,
    /// What to do when as many writes are waiting as
    /// [`Config::queue_limit`] and [`Config::queue_max_bytes`] allow.
    pub when_full: WhenFull,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::MAX,
            when_full: WhenFull::Wait,
        }
    }
}

/// What a write does when the queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// Waits for room, in order of arrival.
    Wait,
    /// Returns [`Error::Busy`] at once.
    Refuse,
}

/// Whether a command can still be called back.
struct Ticket(AtomicU8);

const WAITING: u8 = 0;
const PROPOSED: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Ticket {
    fn new() -> Arc<Self> {
        Arc::new(Ticket(AtomicU8::new(WAITING)))
    }

    /// Moves on from waiting; false if the other side was first.
    fn settle(&self, to: u8) -> bool {
        self.0
            .compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Withdraws its command when it is dropped, if it is not too late.
struct Withdrawal(Arc<Ticket>);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.settle(WITHDRAWN);
    }
}

struct Proposal<S: StateMachine> {
    command: S::Command,
    bytes: usize,
    ticket: Arc<Ticket>,
    reply: oneshot::Sender<Result<Written<S::Response>>>,
    /// Its part of the queue's bytes.
    _room: OwnedSemaphorePermit,
}

/// The queue of writes of a node.
pub(super) struct Proposer<S: StateMachine> {
    queue: mpsc::Sender<Proposal<S>>,
    /// Bytes that may still be queued, in units of [`ROOM_UNIT`].
    room: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    entries_in_flight: u32,
    limit_bytes: usize,
    timeout: Duration,
    meters: Arc<Meters>,
}

/// Bytes are counted in units of this size, so that their number fits the semaphore's.
const ROOM_UNIT: usize = 64;

/// No entry is proposed while it is held, and none is under way.
pub(super) struct Hold {
    _slots: OwnedSemaphorePermit,
}

impl<S: StateMachine> Proposer<S> {
    /// Starts the task that proposes. It ends when the proposer is dropped.
    pub fn start(raft: Raft<TypeConfig<S>>, config: &Config, store: SharedStore<S>) -> Self {
        let meters = store.meters.clone();
        let (queue, waiting) = mpsc::channel(config.queue_limit);
        let slots = Arc::new(Semaphore::new(config.entries_in_flight));
        let gatherer = Gatherer {
            raft,
            waiting,
            left_over: None,
            max_commands: config.batch_max_commands,
            max_bytes: config.batch_max_bytes,
            timeout: config.write_timeout,
            slots: slots.clone(),
            store,
        };
        runtime::spawn(gatherer.run());
        Self {
            queue,
            room: Arc::new(Semaphore::new(config.queue_max_bytes / ROOM_UNIT)),
            slots,
            entries_in_flight: u32::try_from(config.entries_in_flight).unwrap_or(u32::MAX),
            limit_bytes: config.batch_max_bytes,
            timeout: config.write_timeout,
            meters,
        }
    }

    /// Writes that wait to be proposed.
    pub fn waiting(&self) -> u64 {
        (self.queue.max_capacity() - self.queue.capacity()) as u64
    }

    /// Has `command` proposed and waits for the state machine's answer.
    pub async fn write(
        &self,
        command: S::Command,
        options: WriteOptions,
    ) -> Result<Written<S::Response>> {
        let bytes = encoded_length(&command)?;
        if bytes > self.limit_bytes {
            return Err(Error::TooLarge {
                bytes,
                limit: self.limit_bytes,
            });
        }
        let began = Instant::now();
        let timeout = options.timeout.min(self.timeout);
        let withdrawal = Withdrawal(Ticket::new());
        let ticket = &withdrawal.0;
        let written = async {
            let (place, room) = self.place(bytes, options.when_full).await?;
            let (reply, answer) = oneshot::channel();
            place.send(Proposal {
                command,
                bytes,
                ticket: ticket.clone(),
                reply,
                _room: room,
            });
            match answer.await {
                Ok(outcome) => outcome,
                // The gatherer is gone, with the proposal in its queue or with its answer.
                Err(_) if ticket.settle(WITHDRAWN) => Err(Error::ShuttingDown),
                Err(_) => Err(unknown("the node stopped before it was answered")),
            }
        };
        let outcome = match tokio::time::timeout(timeout, written).await {
            Ok(outcome) => outcome,
            Err(_) if ticket.settle(WITHDRAWN) => Err(Error::Busy {
                waited: began.elapsed(),
            }),
            Err(_) => Err(unknown(&format!("no answer within {timeout:?}"))),
        };
        if let Err(Error::Busy { .. }) = outcome {
            Meters::add(&self.meters.writes_refused, 1);
        }
        outcome
    }

    /// A place in the queue for a command of `bytes`.
    async fn place(
        &self,
        bytes: usize,
        when_full: WhenFull,
    ) -> Result<(mpsc::Permit<'_, Proposal<S>>, OwnedSemaphorePermit)> {
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX);
        let room = self.room.clone();
        let (place, room) = match when_full {
            WhenFull::Wait => {
                // The room first: it is what large commands wait for, and waiting with a place in
                // hand would keep small ones out.
                let room = room.acquire_many_owned(units).await;
                (self.queue.reserve().await.ok(), room.ok())
            }
            WhenFull::Refuse => {
                let busy = Error::Busy {
                    waited: Duration::ZERO,
                };
                let room = room.try_acquire_many_owned(units);
                match (self.queue.try_reserve(), room) {
                    (Err(TrySendError::Closed(())), _) => (None, None),
                    (Ok(place), Ok(room)) => (Some(place), Some(room)),
                    _ => return Err(busy),
                }
            }
        };
        place.zip(room).ok_or(Error::ShuttingDown)
    }

    /// Waits until every entry under way is answered, and keeps back all others until the hold is
    /// dropped.
    pub async fn hold(&self) -> Option<Hold> {
        let slots = self.slots.clone();
        let slots = slots.acquire_many_owned(self.entries_in_flight).await;
        // The semaphore is never closed.
        Some(Hold {
            _slots: slots.ok()?,
        })
    }
}

fn unknown(reason: &str) -> Error {
    Error::Unknown {
        reason: reason.to_owned(),
    }
}

/// The length of `command` in an entry, without encoding it into memory.
fn encoded_length(command: &impl serde::Serialize) -> Result<usize> {
    let size = postcard::ser_flavors::Size::default();
    postcard::serialize_with_flavor(command, size).map_err(|error| Error::Encode {
        reason: error.to_string(),
    })
}

struct Gatherer<S: StateMachine> {
    raft: Raft<TypeConfig<S>>,
    waiting: mpsc::Receiver<Proposal<S>>,
    /// Taken from the queue, and too large for the entry before.
    left_over: Option<Proposal<S>>,
    max_commands: usize,
    max_bytes: usize,
    timeout: Duration,
    slots: Arc<Semaphore>,
    store: SharedStore<S>,
}

type Caller<S> = oneshot::Sender<Result<Written<<S as StateMachine>::Response>>>;

impl<S: StateMachine> Gatherer<S> {
    async fn run(mut self) {
        loop {
            let first = match self.left_over.take() {
                Some(proposal) => proposal,
                None => match self.waiting.recv().await {
                    Some(proposal) => proposal,
                    None => return,
                },
            };
            // What arrives while waiting for a slot is gathered.
            let Ok(slot) = self.slots.clone().acquire_owned().await else {
                return;
            };
            let (commands, callers) = self.gather(first);
            if commands.is_empty() {
                continue;
            }
            // Asked before openraft is: its own refusal looks like that of an entry it had taken.
            if self.raft.metrics().borrow().state != ServerState::Leader {
                let status =
                    Status::new(&self.raft.metrics().borrow(), None, &Standing::Whole, None);
                answer_all::<S>(callers, || not_leader(&status));
                continue;
            }
            if let Some(reason) = self.store.refusal_for_room() {
                answer_all::<S>(callers, || Error::DiskFull {
                    reason: reason.clone(),
                });
                continue;
            }
            let batch = Batch {
                time: runtime::now(),
                commands,
            };
            let span = tracing::debug_span!("propose", commands = batch.commands.len());
            let meters = self.store.meters.clone();
            meters.batch_commands.note(batch.commands.len() as u64);
            let began = Instant::now();
            // Accepted by Raft in the order of this loop; the answer is awaited elsewhere.
            let accepted = self.raft.client_write_ff(batch);
            let accepted = accepted.instrument(span.clone()).await;
            let raft = self.raft.clone();
            let timeout = self.timeout;
            let answering = async move {
                match accepted {
                    // openraft never answers an entry that a snapshot from another leader made
                    // obsolete, so the deadline is also what gives the slot back.
                    Ok(answer) => match tokio::time::timeout(timeout, answer).await {
                        Ok(Ok(outcome)) => {
                            meters.commit_micros.note_since(began);
                            deliver::<S>(outcome, callers);
                        }
                        Ok(Err(_)) => {
                            let reason = stop_reason(&raft);
                            answer_all::<S>(callers, || unknown(&reason));
                        }
                        Err(_) => {
                            answer_all::<S>(callers, || {
                                unknown(&format!("no answer within {timeout:?}"))
                            });
                        }
                    },
                    Err(fatal) => answer_all::<S>(callers, || Error::Stopped {
                        reason: fatal.to_string(),
                    }),
                }
                drop(slot);
            };
            runtime::spawn(answering.instrument(span));
        }
    }

    /// Takes what is waiting, as far as it fits one entry.
    fn gather(&mut self, first: Proposal<S>) -> (Vec<S::Command>, Vec<Caller<S>>) {
        let mut commands = Vec::new();
        let mut callers = Vec::new();
        let mut bytes = 0usize;
        let mut next = Some(first);
        while let Some(proposal) = next {
            if !commands.is_empty() && bytes.saturating_add(proposal.bytes) > self.max_bytes {
                self.left_over = Some(proposal);
                break;
            }
            // A caller whose deadline passed has been told that its command was not proposed.
            if proposal.ticket.settle(PROPOSED) {
                bytes = bytes.saturating_add(proposal.bytes);
                commands.push(proposal.command);
                callers.push(proposal.reply);
            }
            if commands.len() >= self.max_commands {
                break;
            }
            next = self.waiting.try_recv().ok();
        }
        (commands, callers)
    }
}

fn stop_reason<S: StateMachine>(raft: &Raft<TypeConfig<S>>) -> String {
    match &raft.metrics().borrow().running_state {
        Ok(()) => "the node gave the proposal up".into(),
        Err(error) => format!("the node stopped: {error}"),
    }
}

/// Gives each caller its part of the entry's outcome.
fn deliver<S: StateMachine>(outcome: ClientWriteResult<TypeConfig<S>>, callers: Vec<Caller<S>>) {
    match outcome {
        Ok(written) => {
            let index = written.log_id.index;
            if written.data.len() != callers.len() {
                // It is in the log and counts as applied, but not by this node.
                return answer_all::<S>(callers, || {
                    unknown("the state of this node was damaged meanwhile and is being rebuilt")
                });
            }
            for (response, caller) in written.data.into_iter().zip(callers) {
                // A caller that is gone has stopped waiting.
                let _ = caller.send(Ok(Written { response, index }));
            }
        }
        // Raft answers this when it does not lead, but also for an entry it had taken and then
        // lost to another leader's, which a third node may still bring back.
        Err(ClientWriteError::ForwardToLeader(_)) => {
            answer_all::<S>(callers, || unknown("this node lost the leadership"));
        }
        Err(ClientWriteError::ChangeMembershipError(error)) => {
            answer_all::<S>(callers, || unknown(&error.to_string()));
        }
    }
}

fn answer_all<S: StateMachine>(callers: Vec<Caller<S>>, error: impl Fn() -> Error) {
    for caller in callers {
        let _ = caller.send(Err(error()));
    }
}
