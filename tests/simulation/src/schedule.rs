//! Which task goes on next.
//!
//! tokio's scheduler is deterministic, but some of its parts are not: a `watch` wakes its receivers in an order that is
//! drawn from a random number that cannot be seeded. So what tokio polls waits at a gate until it is its turn, and the
//! turn is drawn from the seed, among *all* that are ready: in which order they became so does not matter. A side
//! effect is that other orders than tokio's are tried.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use folio_store::storage::SplitMix64;
use parking_lot::Mutex;

/// The turns of all tasks of a simulation.
pub struct Schedule {
    state: Mutex<State>,
}

struct State {
    random: SplitMix64,
    /// Tasks that wait for their turn, by number.
    ready: BTreeMap<u64, Waker>,
    /// The task whose turn it is.
    turn: Option<u64>,
    /// What gives the turns, while there is nobody to give one to.
    idle: Option<Waker>,
    tasks: u64,
    turns: u64,
}

impl Schedule {
    /// A schedule drawn from `random`; somebody has to [`run`](Self::run) it.
    #[must_use]
    pub fn new(random: SplitMix64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                random,
                ready: BTreeMap::new(),
                turn: None,
                idle: None,
                tasks: 0,
                turns: 0,
            }),
        })
    }

    /// The number of another task.
    pub fn task(&self) -> u64 {
        let mut state = self.state.lock();
        state.tasks += 1;
        state.tasks
    }

    /// The turns that were given.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.state.lock().turns
    }

    /// Whether it is the turn of `task`. If not, it is woken when it is.
    pub fn is_turn_of(&self, task: u64, context: &Context<'_>) -> bool {
        let mut state = self.state.lock();
        if state.turn == Some(task) {
            state.turn = None;
            return true;
        }
        state.ready.insert(task, context.waker().clone());
        if let Some(idle) = state.idle.take() {
            idle.wake();
        }
        false
    }

    /// Gives turns, for ever. It is a task without a gate.
    pub async fn run(self: Arc<Self>) {
        loop {
            poll_fn(|context| {
                let mut state = self.state.lock();
                if state.ready.is_empty() {
                    state.idle = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            // Everything that was woken comes to its gate.
            all_others().await;
            let chosen = {
                let mut state = self.state.lock();
                let among = state.ready.len() as u64;
                let chosen = state.random.below(among) as usize;
                let task = state.ready.keys().nth(chosen).copied();
                state.turn = task;
                state.turns += 1;
                task.and_then(|task| state.ready.remove(&task))
            };
            if let Some(chosen) = chosen {
                chosen.wake();
            }
            all_others().await;
            // Its task may have ended meanwhile.
            self.state.lock().turn = None;
        }
    }
}

/// Waits until tokio has polled every task that is woken now: its queue is first in, first out.
async fn all_others() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
