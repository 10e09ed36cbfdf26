//! Epochs: how eviction knows that no reader can still see a frame it took out of the table.
//!
//! The scheme of Fraser ("Practical lock-freedom", 2004), with one slot for each concurrent guard instead of one for
//! each thread, so that nothing has to be registered. A reader writes the current epoch into a slot, and zero when it
//! is done. Retiring a frame advances the epoch; the frame may be freed when every occupied slot holds a later one.

use crate::sync::{
    atomic::{AtomicU64, Ordering, fence},
    yield_now,
};

/// More guards than this at one time wait for each other; guards last for one visit of a page.
const SLOTS: usize = if cfg!(folio_loom) { 2 } else { 64 };

const IDLE: u64 = 0;

/// One cache line, so that readers on different slots do not disturb each other. (128: the adjacent line is prefetched.)
#[repr(align(128))]
struct Slot {
    epoch: AtomicU64,
    /// Pages that guards of this slot found. Written by the one who occupies the slot.
    hits: Hits,
}

/// Not loom's: nothing depends on it, and each step more costs many interleavings.
type Hits = std::sync::atomic::AtomicU64;

pub(super) struct Epochs {
    current: AtomicU64,
    slots: Box<[Slot]>,
}

/// The slot this thread tries first.
fn preferred() -> usize {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicUsize, Ordering},
    };
    thread_local! {
        static PREFERRED: Cell<usize> = {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS)
        };
    }
    PREFERRED.get()
}

impl Epochs {
    pub fn new() -> Self {
        Self {
            current: AtomicU64::new(1),
            slots: (0..SLOTS)
                .map(|_| Slot {
                    epoch: AtomicU64::new(IDLE),
                    hits: Hits::new(0),
                })
                .collect(),
        }
    }

    pub fn enter(&self) -> EpochGuard<'_> {
        let preferred = preferred();
        loop {
            for offset in 0..SLOTS {
                let index = (preferred + offset) % SLOTS;
                let slot = &self.slots[index];
                let epoch = self.current.load(Ordering::Acquire);
                if slot.epoch.load(Ordering::Relaxed) == IDLE
                    && slot
                        .epoch
                        .compare_exchange(IDLE, epoch, Ordering::SeqCst, Ordering::Relaxed)
                        .is_ok()
                {
                    // Pairs with the fence in `oldest`: either that scan sees this slot, or this reader sees every
                    // unlinking that preceded the scan.
                    fence_after_exchange();
                    return EpochGuard { slot };
                }
            }
            yield_now();
        }
    }

    /// How often guards counted a hit.
    pub fn hits(&self) -> u64 {
        let hits = self
            .slots
            .iter()
            .map(|slot| slot.hits.load(Ordering::Relaxed));
        hits.sum()
    }

    /// The epoch in which something was unlinked just now. Guards that may still see it hold this epoch or an earlier
    /// one.
    pub fn retire(&self) -> u64 {
        self.current.fetch_add(1, Ordering::AcqRel)
    }

    /// What was retired in an earlier epoch than this is seen by nobody.
    pub fn oldest(&self) -> u64 {
        let current = self.current.load(Ordering::Acquire);
        fence(Ordering::SeqCst);
        let occupied = self
            .slots
            .iter()
            .map(|slot| slot.epoch.load(Ordering::Acquire))
            .filter(|&epoch| epoch != IDLE);
        occupied.min().map_or(current, |epoch| epoch.min(current))
    }
}

/// Orders the exchange before it and the loads after it, for everybody.
fn fence_after_exchange() {
    // On this processor the exchange is a barrier already, and another one costs as much as finding a page.
    if cfg!(all(
        target_arch = "x86_64",
        not(any(miri, folio_loom, folio_shuttle))
    )) {
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// A reader's presence.
pub(super) struct EpochGuard<'e> {
    slot: &'e Slot,
}

impl EpochGuard<'_> {
    pub fn count_hit(&self) {
        let hits = &self.slot.hits;
        // Not an addition that is atomic as a whole: while this guard lives, nobody else writes.
        hits.store(hits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl Drop for EpochGuard<'_> {
    fn drop(&mut self) {
        self.slot.epoch.store(IDLE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_guard_holds_back_what_is_retired_after_it() {
        let epochs = Epochs::new();
        let guard = epochs.enter();
        let retired = epochs.retire();
        assert!(epochs.oldest() <= retired);
        drop(guard);
        assert!(epochs.oldest() > retired);
    }

    #[test]
    fn a_later_guard_does_not() {
        let epochs = Epochs::new();
        let retired = epochs.retire();
        let _guard = epochs.enter();
        assert!(epochs.oldest() > retired);
    }

    #[test]
    fn more_guards_than_slots_take_turns() {
        let epochs = Epochs::new();
        thread::scope(|scope| {
            for _ in 0..SLOTS * 2 {
                scope.spawn(|| drop(epochs.enter()));
            }
        });
        assert_eq!(epochs.oldest(), 1);
    }
}
