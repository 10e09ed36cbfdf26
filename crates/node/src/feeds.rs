//! The feeds that a node serves: how many there may be, and their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// How many feeds a node serves at a time. Each may hold one page and the largest row in memory.
pub(crate) const MAX_FEEDS: usize = 256;

/// What all feeds of a node share.
pub(crate) struct Feeds {
    places: Arc<Semaphore>,
    ended: watch::Sender<bool>,
    events: AtomicU64,
}

impl Feeds {
    pub(crate) fn new() -> Self {
        Feeds {
            places: Arc::new(Semaphore::new(MAX_FEEDS)),
            ended: watch::Sender::new(false),
            events: AtomicU64::new(0),
        }
    }

    /// The place of a feed, which is free again when this is dropped; `None` when all are taken.
    pub(crate) fn enter(&self) -> Option<FeedPlace> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        Some(FeedPlace {
            _place: place,
            ended: self.ended.subscribe(),
        })
    }

    /// Ends every feed, those to come as well.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    pub(crate) fn open(&self) -> u64 {
        (MAX_FEEDS - self.places.available_permits()) as u64
    }

    pub(crate) fn count_event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// The place of one feed.
pub(crate) struct FeedPlace {
    _place: OwnedSemaphorePermit,
    ended: watch::Receiver<bool>,
}

impl FeedPlace {
    /// Waits until all feeds are to end.
    pub(crate) async fn ended(&mut self) {
        // That the sender is gone is an end, too.
        drop(self.ended.wait_for(|ended| *ended).await);
    }

    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }
}
