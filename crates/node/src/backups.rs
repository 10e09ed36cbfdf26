//! The moments of a node's file that clients copy: how many at a time, and how long one is kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use folio_store::{BackupMoment, BackupPoint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many backups a node makes at a time. Each reads the whole file.
pub(crate) const MAX_BACKUPS: usize = 2;

/// How long a moment is kept for a client whose connection was lost. The file grows meanwhile by what is written.
pub(crate) const KEPT: Duration = Duration::from_secs(5 * 60);

/// What all backups of a node share.
pub(crate) struct Backups {
    places: Arc<Semaphore>,
    kept: Mutex<Kept>,
    kept_for: Duration,
    ended: AtomicBool,
}

/// The moment that was begun last: one that is older cannot be gone on with.
#[derive(Default)]
struct Kept {
    moment: Option<Arc<BackupMoment>>,
    /// How often it was asked for, or another one was: whoever wants to give it up looks whether that has changed.
    uses: u64,
}

impl Backups {
    /// `kept_for` is how long a moment is kept.
    pub(crate) fn new(kept_for: Duration) -> Self {
        Backups {
            kept_for,
            places: Arc::new(Semaphore::new(MAX_BACKUPS)),
            kept: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A value that is whole whoever panicked.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a backup, which is free again when this is dropped; `None` when all are taken.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<BackupPlace> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        Some(BackupPlace {
            backups: self.clone(),
            _place: place,
        })
    }

    /// Ends every backup, those to come as well.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.kept().moment = None;
    }

    /// Gives up what is kept in a while, unless it is asked for until then, or is still copied: whoever does leaves later.
    fn give_up_later(self: &Arc<Self>) {
        let (uses, kept_for) = (self.kept().uses, self.kept_for);
        let backups: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(kept_for).await;
            if let Some(backups) = backups.upgrade() {
                let mut kept = backups.kept();
                let unused = kept.uses == uses;
                let alone = |moment: &mut Arc<_>| Arc::strong_count(moment) == 1;
                drop(kept.moment.take_if(|moment| unused && alone(moment)));
            }
        });
    }
}

/// The place of one backup.
pub(crate) struct BackupPlace {
    backups: Arc<Backups>,
    _place: OwnedSemaphorePermit,
}

impl BackupPlace {
    /// The moment that is kept, if it is this one.
    pub(crate) fn find(&self, point: &BackupPoint) -> Option<Arc<BackupMoment>> {
        let mut kept = self.backups.kept();
        let found = kept.moment.clone();
        let found = found.filter(|moment| moment.point() == *point)?;
        kept.uses += 1;
        Some(found)
    }

    /// Keeps a moment until some time after the end of this, instead of the one before.
    pub(crate) fn keep(&self, moment: &Arc<BackupMoment>) {
        let mut kept = self.backups.kept();
        if !self.has_ended() {
            kept.moment = Some(moment.clone());
            kept.uses += 1;
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.backups.ended.load(Ordering::Relaxed)
    }

    /// Called when the client has got what it asked for, or is gone.
    pub(crate) fn leave(self) {
        self.backups.give_up_later();
    }
}

#[cfg(test)]
mod tests {
    use folio_store::Database;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_moment_is_kept_while_it_is_copied_and_a_while_beyond_whoever_else_has_ended() {
        let database = Database::in_memory().expect("memory");
        let moment = || Arc::new(database.begin_backup().expect("memory"));
        let backups = Arc::new(Backups::new(SHORT));
        let enter = || backups.enter().expect("there is a place");
        let (one, other) = (enter(), enter());
        let (first, second) = (moment(), moment());
        one.keep(&first);
        other.keep(&second);
        drop(first);
        one.leave();
        tokio::time::sleep(3 * SHORT).await;
        assert!(backups.kept().moment.is_some(), "it is copied");

        other.leave();
        assert!(enter().find(&second.point()).is_some());
        drop(second);
        enter().leave();
        let begun = tokio::time::Instant::now();
        while backups.kept().moment.is_some() {
            assert!(begun.elapsed() < PATIENCE, "it is kept for ever");
            tokio::time::sleep(SHORT).await;
        }
    }
}
