//! Gathering writes into log entries.
//!
//! openraft appends each proposal by itself, with a flush of its own, so the number of commands in
//! an entry decides the number of writes a second. There is no timer: with a free slot an entry is
//! proposed at once with whatever is waiting, and what arrives while all slots are taken goes into
//! the next entry together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use openraft::Raft;
use openraft::error::ClientWriteError;
use openraft::raft::ClientWriteResult;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::runtime;
use crate::state_machine::StateMachine;
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

struct Proposal<S: StateMachine> {
    command: S::Command,
    bytes: usize,
    ticket: Arc<Ticket>,
    reply: oneshot::Sender<Result<Written<S::Response>>>,
}

/// The queue of writes of a node.
pub(super) struct Proposer<S: StateMachine> {
    queue: mpsc::Sender<Proposal<S>>,
    limit_bytes: usize,
    timeout: Duration,
}

impl<S: StateMachine> Proposer<S> {
    /// Starts the task that proposes. It ends when the proposer is dropped.
    pub fn start(raft: Raft<TypeConfig<S>>, config: &Config) -> Self {
        let (queue, waiting) = mpsc::channel(config.queue_limit);
        let gatherer = Gatherer {
            raft,
            waiting,
            left_over: None,
            max_commands: config.batch_max_commands,
            max_bytes: config.batch_max_bytes,
            timeout: config.write_timeout,
            slots: Arc::new(Semaphore::new(config.entries_in_flight)),
        };
        runtime::spawn(gatherer.run());
        Self {
            queue,
            limit_bytes: config.batch_max_bytes,
            timeout: config.write_timeout,
        }
    }

    /// Has `command` proposed and waits for the state machine's answer.
    pub async fn write(&self, command: S::Command) -> Result<Written<S::Response>> {
        let bytes = encoded_length(&command)?;
        if bytes > self.limit_bytes {
            return Err(Error::TooLarge {
                bytes,
                limit: self.limit_bytes,
            });
        }
        let began = Instant::now();
        let ticket = Ticket::new();
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal {
            command,
            bytes,
            ticket: ticket.clone(),
            reply,
        };
        let written = async {
            if self.queue.send(proposal).await.is_err() {
                return Err(Error::ShuttingDown);
            }
            match answer.await {
                Ok(outcome) => outcome,
                // The gatherer is gone, with the proposal in its queue or with its answer.
                Err(_) if ticket.settle(WITHDRAWN) => Err(Error::ShuttingDown),
                Err(_) => Err(unknown("the node stopped before it was answered")),
            }
        };
        match tokio::time::timeout(self.timeout, written).await {
            Ok(outcome) => outcome,
            Err(_) if ticket.settle(WITHDRAWN) => Err(Error::Busy {
                waited: began.elapsed(),
            }),
            Err(_) => Err(unknown(&format!("no answer within {:?}", self.timeout))),
        }
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
}

type Caller<S> = oneshot::Sender<Result<Written<<S as StateMachine>::Response>>>;

impl<S: StateMachine> Gatherer<S> {
    async fn run(mut self) {
        loop {
            // First a slot, then the commands: what arrives while waiting for it is gathered.
            let Ok(slot) = self.slots.clone().acquire_owned().await else {
                return;
            };
            let first = match self.left_over.take() {
                Some(proposal) => proposal,
                None => match self.waiting.recv().await {
                    Some(proposal) => proposal,
                    None => return,
                },
            };
            let (commands, callers) = self.gather(first);
            if commands.is_empty() {
                continue;
            }
            let batch = Batch {
                time: runtime::now(),
                commands,
            };
            // Accepted by Raft in the order of this loop; the answer is awaited elsewhere.
            let accepted = self.raft.client_write_ff(batch).await;
            let raft = self.raft.clone();
            let timeout = self.timeout;
            runtime::spawn(async move {
                match accepted {
                    // openraft never answers an entry that a snapshot from another leader made
                    // obsolete, so the deadline is also what gives the slot back.
                    Ok(answer) => match tokio::time::timeout(timeout, answer).await {
                        Ok(Ok(outcome)) => deliver::<S>(outcome, callers),
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
            });
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
