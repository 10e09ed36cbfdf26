//! What a leader does that has no room.

use super::{ReplicatedDatabase, WeakHandle};
use crate::runtime;
use crate::state_machine::StateMachine;
use crate::store::Room;

/// Starts the task that has another node lead when this one runs out of room. It ends with the store.
///
/// It gives the leadership away once for each time that it runs short, so that nodes none of which has room do not
/// pass it around for ever.
pub(super) fn start<S: StateMachine>(database: &ReplicatedDatabase<S>) {
    let mut room = database.inner.store.shared().room.subscribe();
    let leadership = database.inner.leadership.clone();
    let database = WeakHandle::of(database);
    runtime::spawn(async move {
        while room.changed().await.is_ok() {
            let now = room.borrow_and_update().clone();
            leadership.keep_silent(matches!(now, Room::Awaited(_)));
            if now == Room::Short {
                database.pass_leadership_on().await;
            }
        }
    });
}
