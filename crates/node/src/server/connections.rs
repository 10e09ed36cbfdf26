//! The room for connections, and who gives way when it is used up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

/// The connections of a server. Clones share them.
#[derive(Clone)]
pub(super) struct Connections {
    room: Arc<Semaphore>,
    list: Arc<Mutex<List>>,
}

#[derive(Default)]
struct List {
    /// Counts entries, and every time that one begins to wait.
    clock: u64,
    open: HashMap<u64, Open>,
}

struct Open {
    task: Option<AbortHandle>,
    /// Since when it waits; `None` with a request under way.
    waits_since: Option<u64>,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Connections {
            room: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
            list: Arc::default(),
        }
    }

    /// A place for one more, for which the one that has waited longest gives way if there is no other; `None` if none waits.
    pub(super) async fn enter(&self) -> Option<Place> {
        let room = match self.room.clone().try_acquire_owned() {
            Ok(room) => room,
            Err(_) => {
                self.lock().end_longest_waiting()?;
                // It is ending: this is soon.
                self.room.clone().acquire_owned().await.ok()?
            }
        };
        let mut list = self.lock();
        let id = list.tick();
        let open = Open {
            task: None,
            waits_since: Some(id),
        };
        list.open.insert(id, open);
        drop(list);
        Some(Place {
            id,
            connections: self.clone(),
            _room: room,
        })
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing that is done under the lock can fail half-way.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn end_longest_waiting(&mut self) -> Option<()> {
        let waiting = self.open.iter().filter_map(|(id, open)| {
            open.task.as_ref()?;
            Some((open.waits_since?, *id))
        });
        let (_, id) = waiting.min()?;
        // It is not in the list any more, so it cannot begin a request.
        self.open.remove(&id)?.task?.abort();
        Some(())
    }
}

/// The place of a connection, which is free again when this is dropped.
pub(super) struct Place {
    id: u64,
    connections: Connections,
    _room: OwnedSemaphorePermit,
}

impl Place {
    /// Says which task ends when the connection has to give way.
    pub(super) fn is_served_by(&self, task: AbortHandle) {
        if let Some(open) = self.connections.lock().open.get_mut(&self.id) {
            open.task = Some(task);
        }
    }

    /// A request is under way until what this returns is dropped. Never ends on a connection that gives way.
    pub(super) async fn begin(&self) -> Busy {
        let known = match self.connections.lock().open.get_mut(&self.id) {
            Some(open) => {
                open.waits_since = None;
                true
            }
            None => false,
        };
        if !known {
            std::future::pending::<()>().await;
        }
        Busy {
            id: self.id,
            connections: self.connections.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.id);
    }
}

/// A request under way.
pub(super) struct Busy {
    id: u64,
    connections: Connections,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut list = self.connections.lock();
        let now = list.tick();
        if let Some(open) = list.open.get_mut(&self.id) {
            open.waits_since = Some(now);
        }
    }
}
