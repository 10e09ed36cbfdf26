//! What becomes of a node whose disk is full.
//!
//! openraft stops a node at the first error of its storage. A disk without room is not broken, though:
//! the engine has changed nothing, and the same call succeeds once somebody has made room. So a write
//! that finds none waits, and Raft with it: the node answers nobody, another one leads, and what the node
//! missed it gets afterwards.
//!
//! Before it comes to that, a leader with less room than
//! [`StoreOptions::disk_reserve`](super::StoreOptions::disk_reserve) takes no more commands, and gives the leadership
//! away if another node can have it. Reads, elections and whatever Raft needs for itself go on.

use std::future::Future;
use std::time::Duration;

use super::RaftLogStore;
use super::failure::{Failure, Result};
use super::shared::Shared;
use crate::state_machine::StateMachine;

/// How long a write waits before it tries again.
const INTERVAL: Duration = Duration::from_millis(250);

/// Whether a store waits for room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Room {
    /// It found room for all it wrote.
    #[default]
    Enough,
    /// Commands were refused for the sake of the reserve.
    Short,
    /// A write waits; this is what the engine said.
    Awaited(String),
    /// Nothing waits any more: the node is stopping.
    Ended,
}

impl<S: StateMachine> RaftLogStore<S> {
    /// Calls `attempt`, which changes nothing if it fails, until it does not fail for want of room.
    pub(super) async fn with_room<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            let outcome = attempt().await;
            let full = outcome.as_ref().err().and_then(Failure::full);
            let Some(full) = full.map(ToString::to_string) else {
                self.shared.note_room();
                return outcome;
            };
            if !self.shared.wait_for_room(full).await {
                return outcome;
            }
            // Pages that were given up are free once their successors are durable.
            let shared = self.shared.clone();
            let flush = move || shared.critical(|database| shared.checkpoint(database));
            self.threads.run(flush).await?;
        }
    }
}

impl<S: StateMachine> Shared<S> {
    /// Waits a moment; false if the node is stopping.
    async fn wait_for_room(&self, full: String) -> bool {
        let mut room = self.room.subscribe();
        if !matches!(*room.borrow(), Room::Awaited(_)) {
            tracing::error!(node = self.node, "waiting for room: {full}");
        }
        self.room.send_if_modified(|room| match room {
            Room::Ended => false,
            _ => {
                *room = Room::Awaited(full);
                true
            }
        });
        let ended = room.wait_for(|room| *room == Room::Ended);
        tokio::time::timeout(INTERVAL, ended).await.is_err()
    }

    /// Notes that a write found room.
    pub fn note_room(&self) {
        self.room.send_if_modified(|room| {
            let awaited = matches!(room, Room::Awaited(_));
            if awaited {
                tracing::info!(node = self.node, "there is room again");
                *room = Room::Enough;
            }
            awaited
        });
    }

    /// Has no write wait any longer: each that finds no room fails.
    pub fn end_waiting_for_room(&self) {
        self.room.send_replace(Room::Ended);
    }

    /// What a write waits for, if one does.
    pub fn awaited_room(&self) -> Option<String> {
        match &*self.room.borrow() {
            Room::Awaited(full) => Some(full.clone()),
            Room::Enough | Room::Short | Room::Ended => None,
        }
    }

    /// Why no more commands are taken, if the disk is full or nearly so. Costs a system call.
    pub fn want_of_room(&self) -> Option<String> {
        if let Some(full) = self.awaited_room() {
            return Some(full);
        }
        let reserve = self.options.disk_reserve;
        match self.with_database(|database| Ok(database.room()?)) {
            Ok(Some(room)) if room < reserve => Some(format!(
                "{room} bytes are left for the file, and {reserve} are kept back for what Raft itself has to write; make room"
            )),
            // Told elsewhere.
            Ok(_) | Err(Failure::Stopped) => None,
            Err(failure) => Some(failure.to_string()),
        }
    }

    /// The same for a command that is about to be proposed, and notes whether it is refused.
    pub fn refusal_for_room(&self) -> Option<String> {
        let reason = self.want_of_room();
        self.room.send_if_modified(|room| {
            let next = match (&*room, &reason) {
                (Room::Enough, Some(reason)) => {
                    tracing::error!(node = self.node, "no more writes: {reason}");
                    Room::Short
                }
                (Room::Short, None) => {
                    tracing::info!(node = self.node, "there is room again");
                    Room::Enough
                }
                _ => return false,
            };
            *room = next;
            true
        });
        reason
    }
}
