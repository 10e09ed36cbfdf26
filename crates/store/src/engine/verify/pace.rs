//! Keeping a walk over the file to a rate.

use std::time::{Duration, Instant};

/// The time as a walk sees it, so that tests need not wait and a scrub can be woken.
pub(crate) trait Clock {
    /// The time since some moment that stays the same.
    fn now(&self) -> Duration;

    /// Waits. False if the walk is to end.
    fn sleep(&self, time: Duration) -> bool;
}

/// The time of the system.
pub(crate) struct SystemClock(Instant);

impl SystemClock {
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) -> bool {
        std::thread::sleep(time);
        true
    }
}

/// Shorter waits are put off until they are worth a call.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

/// Longer waits are taken in parts, between which the caller is asked whether to go on.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// A walk that was held up catches up on no more than this.
const MOST_CREDIT: Duration = Duration::from_millis(200);

pub(crate) struct Pace<'c> {
    clock: &'c dyn Clock,
    /// Bytes a second; 0 for as fast as it goes.
    rate: u64,
    /// When what was read so far should have been read at the earliest.
    due: Duration,
}

impl<'c> Pace<'c> {
    pub fn new(clock: &'c dyn Clock, rate: u64) -> Self {
        Self {
            clock,
            rate,
            due: clock.now(),
        }
    }

    /// Notes that bytes were read, and waits as long as the rate asks for. `ask` is called between the parts of a long
    /// wait. False if the walk is to end.
    pub fn read(&mut self, bytes: u64, mut ask: impl FnMut() -> bool) -> bool {
        if self.rate == 0 {
            return true;
        }
        let now = self.clock.now();
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.due = self
            .due
            .max(now.saturating_sub(MOST_CREDIT))
            .saturating_add(time);
        if self.due.saturating_sub(now) < SHORTEST_WAIT {
            return true;
        }
        loop {
            let left = self.due.saturating_sub(self.clock.now());
            if left.is_zero() {
                return true;
            }
            if !self.clock.sleep(left.min(LONGEST_WAIT)) || !ask() {
                return false;
            }
        }
    }
}

/// A clock that only sleeping moves on.
#[cfg(test)]
pub(crate) struct FakeClock {
    now: std::cell::Cell<Duration>,
    /// After how many waits it asks for the end.
    pub sleeps_left: std::cell::Cell<u64>,
}

#[cfg(test)]
impl FakeClock {
    pub fn new() -> Self {
        Self {
            now: std::cell::Cell::new(Duration::ZERO),
            sleeps_left: std::cell::Cell::new(u64::MAX),
        }
    }

    pub fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }
}

#[cfg(test)]
impl Clock for FakeClock {
    fn now(&self) -> Duration {
        self.now.get()
    }

    fn sleep(&self, time: Duration) -> bool {
        assert!(time <= LONGEST_WAIT, "{time:?}");
        self.pass(time);
        self.sleeps_left.set(self.sleeps_left.get() - 1);
        self.sleeps_left.get() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_takes_as_long_as_the_rate_says() {
        for rate in [1_000, 4_096, 1_000_000, 1 << 30] {
            let clock = FakeClock::new();
            let mut pace = Pace::new(&clock, rate);
            let bytes: u64 = (0..1_000).map(|_| 4_096).sum();
            assert!((0..1_000).all(|_| pace.read(4_096, || true)));
            let wanted = Duration::from_secs_f64(bytes as f64 / rate as f64);
            let off = wanted.abs_diff(clock.now());
            assert!(
                off <= SHORTEST_WAIT,
                "rate {rate}: {:?} for {wanted:?}",
                clock.now()
            );
        }
    }

    #[test]
    fn no_rate_is_no_wait() {
        let clock = FakeClock::new();
        let mut pace = Pace::new(&clock, 0);
        assert!((0..1_000).all(|_| pace.read(1 << 40, || false)));
        assert_eq!(clock.now(), Duration::ZERO);
    }

    #[test]
    fn a_walk_that_was_held_up_does_not_make_up_for_it_in_a_burst() {
        let clock = FakeClock::new();
        let mut pace = Pace::new(&clock, 4_096);
        clock.pass(Duration::from_secs(1_000));
        assert!((0..10).all(|_| pace.read(4_096, || true)));
        assert!(
            clock.now() >= Duration::from_secs(1_009),
            "{:?}",
            clock.now()
        );
    }

    #[test]
    fn a_long_wait_ends_when_it_is_asked_to() {
        let clock = FakeClock::new();
        let mut pace = Pace::new(&clock, 1);
        let mut asked = 0;
        assert!(!pace.read(4_096, || {
            asked += 1;
            asked < 3
        }));
        assert!(clock.now() < Duration::from_secs(1));
    }
}
