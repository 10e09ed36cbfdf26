//! One writer at a time.

use std::{sync::Arc, time::Instant};

use super::Engine;
use crate::sync::{Condvar, Mutex};

#[derive(Default)]
pub(super) struct Gate {
    busy: Mutex<bool>,
    left: Condvar,
}

/// How long to wait for the writer before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    Endless,
    Until(Instant),
}

impl Gate {
    /// `None` if the writer before has not finished in time.
    pub fn enter(engine: &Arc<Engine>, patience: Patience) -> Option<GateGuard> {
        let mut busy = engine.gate.busy.lock();
        while *busy {
            match patience {
                Patience::Endless => engine.gate.left.wait(&mut busy),
                Patience::Until(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    engine.gate.left.wait_for(&mut busy, left);
                }
            }
        }
        *busy = true;
        Some(GateGuard {
            engine: engine.clone(),
        })
    }
}

/// The writer's place. Unlike a mutex guard it may move to another thread with its transaction.
pub(crate) struct GateGuard {
    engine: Arc<Engine>,
}

impl GateGuard {
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for GateGuard {
    fn drop(&mut self) {
        *self.engine.gate.busy.lock() = false;
        self.engine.gate.left.notify_one();
    }
}
