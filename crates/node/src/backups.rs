//! The moments of a node's file that clients copy: how many at a time, and how long one is kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use folio_store::{BackupMoment, BackupPoint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many backups a node makes at a time. Each reads the whole file.
pub(crate) const MAX_BACKUPS: usize = 2;

/// How long a moment is kept for a client whose connection was lost. The file grows meanwhile by what is written.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// What all backups of a node share.
pub(crate) struct Backups {
    places: Arc<Semaphore>,
    kept: Mutex<Kept>,
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
    pub(crate) fn new() -> Self {
        Backups {
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

    /// Gives up what is kept in a while, unless it is asked for until then.
    fn give_up_later(self: &Arc<Self>) {
        let uses = self.kept().uses;
        let backups: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            if let Some(backups) = backups.upgrade() {
                let mut kept = backups.kept();
                if kept.uses == uses {
                    kept.moment = None;
                }
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
