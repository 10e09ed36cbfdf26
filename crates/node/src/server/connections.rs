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
    /// Requests under way. The answer to one may be on its way while the next is there already.
    requests: usize,
    /// Since when it waits, if none is.
    waits_since: u64,
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
            requests: 0,
            waits_since: id,
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
        let waiting = self
            .open
            .iter()
            .filter(|(_, open)| open.task.is_some() && open.requests == 0);
        let (id, _) = waiting.min_by_key(|(_, open)| open.waits_since)?;
        let id = *id;
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
                open.requests += 1;
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
            open.requests -= 1;
            open.waits_since = now;
        }
    }
}

/// The answer that a connection is sending: its request is under way until the other end has it, as far as can be known.
#[derive(Clone, Default)]
pub(super) struct Sending(Arc<Mutex<Option<Busy>>>);

impl Sending {
    /// The whole answer was handed on, if not sent.
    pub(super) fn begin(&self, busy: Busy) {
        *self.slot() = Some(busy);
    }

    /// All that was handed on is sent.
    pub(super) fn end(&self) {
        let sent = self.slot().take();
        drop(sent);
    }

    fn slot(&self) -> MutexGuard<'_, Option<Busy>> {
        // It is replaced as a whole or not at all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinHandle;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A connection that does nothing until it has to give way.
    async fn connection(connections: &Connections) -> (Arc<Place>, JoinHandle<()>) {
        let place = Arc::new(connections.enter().await.expect("there is room"));
        let held = place.clone();
        let task = tokio::spawn(async move {
            let _held = held;
            std::future::pending().await
        });
        place.is_served_by(task.abort_handle());
        (place, task)
    }

    #[tokio::test]
    async fn the_one_that_has_waited_longest_gives_way_and_nobody_else() {
        let connections = Connections::new(3);
        let mut places = Vec::new();
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let (place, task) = connection(&connections).await;
            places.push(Arc::downgrade(&place));
            tasks.push(task);
            // The second has sent a request, and so has waited for less time than the third.
            if tasks.len() == 3 {
                let second = places[1].upgrade().expect("it is open");
                drop(second.begin().await);
            }
        }
        for (n, expected) in [0, 2, 1].into_iter().enumerate() {
            let entering = tokio::time::timeout(PATIENCE, connection(&connections));
            let (_, task) = entering.await.expect("one gives way");
            let ended = tokio::time::timeout(PATIENCE, &mut tasks[expected]);
            let ended = ended.await.expect("it is the one expected");
            assert!(ended.is_err_and(|error| error.is_cancelled()));
            let left: Vec<_> = (0..3).filter(|n| !tasks[*n].is_finished()).collect();
            assert_eq!(left.len(), 2 - n, "{left:?}");
            tasks.push(task);
        }
    }

    #[tokio::test]
    async fn a_connection_at_work_does_not_give_way_until_its_last_answer_is_sent() {
        let connections = Connections::new(1);
        let (place, task) = connection(&connections).await;
        let (first, second) = (place.begin().await, place.begin().await);
        let sending = Sending::default();
        sending.begin(first);
        assert!(connections.enter().await.is_none());
        sending.end();
        assert!(connections.enter().await.is_none());
        drop(second);
        drop(place);
        assert!(connections.enter().await.is_some());
        assert!(task.await.is_err(), "it has given way");
    }
}
