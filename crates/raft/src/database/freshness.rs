//! How far a follower knows itself to be behind its leader.
//!
//! A follower asks the leader up to which index the log is committed. The leader answers only if it
//! still led when it was asked, so at the moment the follower asked, by the follower's own clock,
//! nothing beyond that index had been answered to anybody. No clocks of two machines are compared,
//! and no assumption about the network is made. A few such answers are kept: the newest says how many
//! entries are missing, and the newest whose index has been applied says how old the state is.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::FollowerReads;

/// Answers kept.
const POINTS: usize = 16;

pub(super) struct Freshness {
    /// In order of time, and so of index. All but the newest are `spacing` apart.
    points: Mutex<VecDeque<Point>>,
    spacing: Duration,
    /// Held while the leader is asked, so that reads that come together ask once.
    pub asking: tokio::sync::Mutex<()>,
}

/// At `asked` nothing beyond `committed` had been answered to anybody.
#[derive(Clone, Copy)]
struct Point {
    asked: Instant,
    committed: u64,
}

/// How far a state is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Behind {
    /// Entries that the leader had committed, by its last answer, and the state lacks. None without
    /// any answer.
    pub entries: Option<u64>,
    /// The state has everything that was answered until so long ago. None when no answer tells.
    pub age: Option<Duration>,
}

impl Behind {
    /// What is not known is beyond any bound.
    pub fn is_within(&self, bound: FollowerReads) -> bool {
        self.entries.is_some_and(|entries| entries <= bound.entries)
            && self.age.is_some_and(|age| age <= bound.age)
    }
}

impl Freshness {
    /// Keeps answers that tell ages up to `age`.
    pub fn new(age: Duration) -> Self {
        Self {
            points: Mutex::default(),
            spacing: age / POINTS as u32,
            asking: tokio::sync::Mutex::default(),
        }
    }

    pub fn note(&self, asked: Instant, committed: u64) {
        let mut points = self.points.lock();
        if let Some(last) = points.back().copied() {
            if last.asked >= asked {
                return;
            }
            let before = points.iter().rev().nth(1);
            if before.is_some_and(|before| last.asked < before.asked + self.spacing) {
                points.pop_back();
            }
        }
        if points.len() > POINTS {
            points.pop_front();
        }
        points.push_back(Point { asked, committed });
    }

    /// How long ago the leader was asked the last question that it answered.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        let points = self.points.lock();
        Some(now.duration_since(points.back()?.asked))
    }

    /// What the leader had committed by its last answer.
    pub fn committed(&self) -> Option<u64> {
        self.points.lock().back().map(|point| point.committed)
    }

    /// How far a state is behind that has `applied`.
    pub fn behind(&self, applied: Option<u64>, now: Instant) -> Behind {
        let applied = applied.unwrap_or(0);
        let points = self.points.lock();
        let reached = points.iter().rev().find(|p| p.committed <= applied);
        Behind {
            entries: points.back().map(|p| p.committed.saturating_sub(applied)),
            age: reached.map(|point| now.duration_since(point.asked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_newest_answer_counts_entries_and_the_newest_reached_one_tells_the_age() {
        let freshness = Freshness::new(16 * SECOND);
        let start = Instant::now();
        assert_eq!(freshness.behind(Some(5), start), Behind::default());

        freshness.note(start, 10);
        freshness.note(start + SECOND, 20);
        freshness.note(start + 2 * SECOND, 30);
        let now = start + 4 * SECOND;
        for (applied, entries, age) in [
            (9, 21, None),
            (10, 20, Some(4)),
            (19, 11, Some(4)),
            (20, 10, Some(3)),
            (30, 0, Some(2)),
            (99, 0, Some(2)),
        ] {
            let expected = Behind {
                entries: Some(entries),
                age: age.map(Duration::from_secs),
            };
            assert_eq!(freshness.behind(Some(applied), now), expected, "{applied}");
        }
        assert_eq!(freshness.silence(now), Some(2 * SECOND));
    }

    #[test]
    fn both_bounds_must_hold_and_what_is_unknown_is_beyond_them() {
        let bound = FollowerReads {
            entries: 10,
            age: Duration::from_secs(3),
        };
        for (entries, age, within) in [
            (Some(10), Some(3), true),
            (Some(11), Some(0), false),
            (Some(0), Some(4), false),
            (Some(0), None, false),
            (None, None, false),
        ] {
            let age = age.map(Duration::from_secs);
            let behind = Behind { entries, age };
            assert_eq!(behind.is_within(bound), within, "{behind:?}");
        }
    }

    #[test]
    fn an_answer_that_was_overtaken_is_forgotten() {
        let freshness = Freshness::new(16 * SECOND);
        let start = Instant::now();
        freshness.note(start + SECOND, 20);
        freshness.note(start, 10);
        assert_eq!(freshness.committed(), Some(20));
    }

    #[test]
    fn answers_are_few_and_tell_ages_up_to_the_bound() {
        let freshness = Freshness::new(16 * SECOND);
        let start = Instant::now();
        // Ten answers a second, each with an entry more.
        for tenth in 0..400u32 {
            freshness.note(start + tenth * SECOND / 10, u64::from(tenth));
        }
        assert!(freshness.points.lock().len() <= POINTS + 1);
        let now = start + 40 * SECOND;
        for behind in [0, 5, 30, 100, 140] {
            let age = freshness.behind(Some(399 - behind), now).age;
            let age = age.expect("within the bound");
            let exact = SECOND * (behind as u32 + 1) / 10;
            assert!(
                age >= exact && age <= exact + 2 * SECOND,
                "{behind}: {age:?}"
            );
        }
    }
}
