//! The end of the log in memory, as it is encoded.
//!
//! What was just appended is read at once: by the stream to each follower, and to be applied. From here that costs
//! neither a thread for blocking work nor a view.

use std::collections::VecDeque;

/// Bytes kept, at most.
pub(super) const LIMIT: usize = 1 << 20;

/// The newest entries, without a gap, up to the last one.
#[derive(Default)]
pub(super) struct Recent {
    /// The index of the first one kept.
    first: u64,
    entries: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Recent {
    /// The index after the last one kept.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Notes an entry that was appended, in the place of those from its index on.
    pub fn append(&mut self, index: u64, encoded: Vec<u8>) {
        self.truncate(index);
        if self.end() != index {
            self.clear();
            self.first = index;
        }
        self.bytes += encoded.len();
        self.entries.push_back(encoded);
        while self.bytes > LIMIT {
            self.forget_first();
        }
    }

    /// Forgets the entries from `index` on.
    pub fn truncate(&mut self, index: u64) {
        while self.end() > index
            && let Some(entry) = self.entries.pop_back()
        {
            self.bytes -= entry.len();
        }
    }

    /// Forgets the entries up to `index`, inclusive.
    pub fn purge(&mut self, index: u64) {
        while self.first <= index && !self.entries.is_empty() {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.first += 1;
            self.bytes -= entry.len();
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// The entries from `start` to before `end`, if the first one is kept: all of them, or the first ones that have no
    /// more than `max_bytes` together, but one at least.
    pub fn range(
        &self,
        start: u64,
        end: u64,
        max_bytes: usize,
    ) -> Option<impl Iterator<Item = (u64, &[u8])>> {
        if start < self.first || start >= self.end().min(end) {
            return None;
        }
        let mut bytes = 0usize;
        let from = usize::try_from(start - self.first).ok()?;
        let kept = (start..end).zip(self.entries.iter().skip(from));
        Some(
            kept.map(|(index, entry)| (index, entry.as_slice()))
                .take_while(move |(index, entry)| {
                    bytes = bytes.saturating_add(entry.len());
                    *index == start || bytes <= max_bytes
                }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes(recent: &Recent, start: u64, end: u64, max_bytes: usize) -> Option<Vec<u64>> {
        let found = recent.range(start, end, max_bytes)?;
        Some(
            found
                .map(|(index, bytes)| {
                    assert_eq!(bytes[0], index as u8);
                    index
                })
                .collect(),
        )
    }

    fn of(range: std::ops::Range<u64>) -> Recent {
        let mut recent = Recent::default();
        range.for_each(|index| recent.append(index, vec![index as u8; 10]));
        recent
    }

    #[test]
    fn what_is_kept_is_found_and_no_more_than_was_asked_for() {
        let recent = of(5..9);
        assert_eq!(indexes(&recent, 5, 9, usize::MAX), Some(vec![5, 6, 7, 8]));
        assert_eq!(indexes(&recent, 6, 8, usize::MAX), Some(vec![6, 7]));
        assert_eq!(indexes(&recent, 7, 20, usize::MAX), Some(vec![7, 8]));
        assert_eq!(indexes(&recent, 5, 9, 20), Some(vec![5, 6]));
        assert_eq!(indexes(&recent, 5, 9, 1), Some(vec![5]));
        for (start, end) in [(4, 9), (9, 12), (6, 6), (7, 6)] {
            assert_eq!(indexes(&recent, start, end, usize::MAX), None);
        }
    }

    #[test]
    fn entries_give_way_to_those_that_replace_them_and_to_a_new_beginning() {
        let mut recent = of(5..9);
        recent.append(7, vec![7; 10]);
        assert_eq!(indexes(&recent, 5, 99, usize::MAX), Some(vec![5, 6, 7]));
        recent.truncate(6);
        assert_eq!(indexes(&recent, 5, 99, usize::MAX), Some(vec![5]));
        recent.append(50, vec![50; 10]);
        assert_eq!(indexes(&recent, 5, 99, usize::MAX), None);
        assert_eq!(indexes(&recent, 50, 99, usize::MAX), Some(vec![50]));
        recent.truncate(3);
        recent.append(3, vec![3; 10]);
        assert_eq!(indexes(&recent, 3, 99, usize::MAX), Some(vec![3]));
    }

    #[test]
    fn what_is_purged_and_what_is_too_much_is_forgotten() {
        let mut recent = of(5..9);
        recent.purge(6);
        assert_eq!(indexes(&recent, 6, 9, usize::MAX), None);
        assert_eq!(indexes(&recent, 7, 9, usize::MAX), Some(vec![7, 8]));
        recent.purge(20);
        assert_eq!(indexes(&recent, 8, 9, usize::MAX), None);
        recent.append(21, vec![21; LIMIT / 2]);
        recent.append(22, vec![22; LIMIT / 2 + 1]);
        assert_eq!(indexes(&recent, 21, 99, usize::MAX), None);
        assert_eq!(indexes(&recent, 22, 99, usize::MAX), Some(vec![22]));
        assert_eq!(recent.bytes, LIMIT / 2 + 1);
    }
}
