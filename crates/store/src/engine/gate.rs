//! One writer at a time.

use std::sync::Arc;

use super::Engine;
use crate::sync::{Condvar, Mutex};

#[derive(Default)]
pub(super) struct Gate {
    busy: Mutex<bool>,
    left: Condvar,
}

impl Gate {
    pub fn enter(engine: &Arc<Engine>) -> GateGuard {
        let mut busy = engine.gate.busy.lock();
        while *busy {
            engine.gate.left.wait(&mut busy);
        }
        *busy = true;
        GateGuard {
            engine: engine.clone(),
        }
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
