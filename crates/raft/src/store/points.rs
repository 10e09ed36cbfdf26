//! Which transaction had applied which entry, so that what was changed since an entry can be told
//! from the pages.

use crate::types::LogId;

/// Points kept, at most.
const LIMIT: usize = 1024;

/// At the end of `transaction` the state was that of `log_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub log_id: LogId,
    pub transaction: u64,
}

/// Points of this run, oldest first. They are in memory only: transaction numbers mean something
/// in one file, and a copy of it that was made anew has others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Points {
    points: Vec<Point>,
    /// Entries between two points, at least. Doubled when there are too many.
    spacing: u64,
}

impl Points {
    /// Notes that the state was brought to `log_id` by `transaction`, from where it was before.
    pub fn applied(&mut self, log_id: LogId, transaction: u64) {
        if let Some(last) = self.points.last()
            && log_id.index < last.log_id.index.saturating_add(self.spacing)
        {
            return;
        }
        if self.points.len() == LIMIT {
            self.spacing = (2 * self.spacing).max(2);
            let mut odd = false;
            self.points.retain(|_| {
                odd = !odd;
                odd
            });
        }
        self.points.push(Point {
            log_id,
            transaction,
        });
    }

    /// Notes that the state was replaced: the pages say nothing of what was before.
    pub fn replaced(&mut self, log_id: Option<LogId>, transaction: u64) {
        self.points.clear();
        if let Some(log_id) = log_id {
            self.applied(log_id, transaction);
        }
    }

    /// The newest point that is not after `log_id`, nor after `transaction`.
    pub fn before(&self, log_id: LogId, transaction: u64) -> Option<Point> {
        let fits = |point: &&Point| {
            point.log_id.index <= log_id.index
                && point.log_id <= log_id
                && point.transaction <= transaction
        };
        self.points.iter().rev().find(fits).copied()
    }
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;

    use super::*;

    fn id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1, 1), index)
    }

    #[test]
    fn points_are_bounded_and_reach_back_to_the_first() {
        let mut points = Points::default();
        for index in 1..=100_000 {
            points.applied(id(index), 2 * index);
        }
        assert!(points.points.len() <= LIMIT);
        assert_eq!(points.before(id(0), u64::MAX), None);
        let mut widest = 0;
        for index in 1..=100_000 {
            let point = points.before(id(index), u64::MAX).expect("a point");
            assert_eq!(point.transaction, 2 * point.log_id.index);
            assert!(point.log_id.index <= index);
            widest = widest.max(index - point.log_id.index);
        }
        assert!(widest <= 100_000 / (LIMIT as u64 / 4), "{widest}");
        let early = points.before(id(100_000), 100).expect("a point");
        assert!(early.transaction <= 100);
    }

    #[test]
    fn nothing_is_known_from_before_the_state_was_replaced() {
        let mut points = Points::default();
        points.applied(id(5), 10);
        points.replaced(Some(id(9)), 20);
        assert_eq!(points.before(id(8), u64::MAX), None);
        let point = points.before(id(9), u64::MAX).expect("a point");
        assert_eq!(point.transaction, 20);
        points.replaced(None, 30);
        assert_eq!(points.before(id(9), u64::MAX), None);
    }
}
