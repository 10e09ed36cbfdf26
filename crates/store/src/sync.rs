//! The locks and atomics of the concurrent core.
//!
//! They are parking_lot's and the standard library's. Two build flags put a scheduler in their place, for tests:
//! `--cfg folio_loom` explores every interleaving, and every order of memory the language allows, of the cache and of the
//! election among those who wait for a flush; `--cfg folio_shuttle` runs the whole engine under random schedules.

#[cfg(not(any(folio_loom, folio_shuttle)))]
pub(crate) use self::ordinary::*;
#[cfg(any(folio_loom, folio_shuttle))]
pub(crate) use self::scheduled::*;

#[cfg(not(any(folio_loom, folio_shuttle)))]
mod ordinary {
    pub(crate) use std::{sync::atomic, thread::yield_now};

    pub(crate) use parking_lot::{Condvar, Mutex};
}

/// Under loom, notices when memory is freed that somebody may still use; otherwise nothing.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    #[cfg(folio_loom)]
    uses: loom::cell::UnsafeCell<()>,
}

impl Witness {
    /// The memory that the witness lies in is being read.
    pub fn used(&self) {
        #[cfg(folio_loom)]
        self.uses.with(|_| ());
    }

    /// Fails if the memory is being read.
    #[cfg(folio_loom)]
    pub fn not_used(&self) {
        self.uses.with_mut(|_| ());
    }

    /// Frees memory. Under loom it only fails if a use is not over by then, and leaves the memory to those who come later.
    pub fn end<T>(memory: Box<T>, _witness: impl FnOnce(&T) -> &Self) {
        #[cfg(folio_loom)]
        _witness(Box::leak(memory)).not_used();
        #[cfg(not(folio_loom))]
        drop(memory);
    }
}

/// Runs a test under every interleaving in which the running thread is changed against its will at most three times, which
/// is enough for nearly all known mistakes (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007).
#[cfg(all(test, folio_loom))]
pub(crate) fn every_interleaving(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

#[cfg(any(folio_loom, folio_shuttle))]
mod scheduled {
    use std::ops::{Deref, DerefMut};

    #[cfg(folio_loom)]
    use loom as scheduler;
    #[cfg(folio_shuttle)]
    use shuttle as scheduler;

    pub(crate) use scheduler::{sync::atomic, thread::yield_now};

    /// The scheduler's mutex with the interface of parking_lot's. No test goes on after a panic, so none is poisoned.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(scheduler::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(scheduler::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("nobody panicked")))
        }

        pub fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().expect("nobody panicked")
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    /// `None` only while its condition variable waits.
    pub(crate) struct MutexGuard<'m, T>(Option<scheduler::sync::MutexGuard<'m, T>>);

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("not waiting")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("not waiting")
        }
    }

    #[derive(Debug)]
    pub(crate) struct Condvar(scheduler::sync::Condvar);

    impl Default for Condvar {
        fn default() -> Self {
            Self(scheduler::sync::Condvar::new())
        }
    }

    impl Condvar {
        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let waiting = guard.0.take().expect("not waiting");
            guard.0 = Some(self.0.wait(waiting).expect("nobody panicked"));
        }

        pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: std::time::Duration) {
            let waiting = guard.0.take().expect("not waiting");
            let (waiting, _) = self.0.wait_timeout(waiting, time).expect("nobody panicked");
            guard.0 = Some(waiting);
        }

        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
