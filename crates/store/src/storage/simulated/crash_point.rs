//! What is durable, what is pending, and what a power cut makes of it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::super::MemoryStorage;
use super::super::chunks::ChunkedBytes;
use super::journal::DiskEvent;
use super::subset::Subset;

/// The bytes a disk writes wholly or not at all.
pub const SECTOR: u64 = 512;

/// Something that has been done to the storage and may or may not have reached the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingItem {
    /// The number of the event it comes from. The sectors of one write have the same one.
    pub event: u64,
    /// What it does to the disk if it reaches it.
    pub change: Change,
}

/// What one [`PendingItem`] does to the disk.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// Replaces a sector. A write of a part of one replaces all of it, the rest with what reads showed at the time.
    Sector {
        /// Where the sector starts.
        offset: u64,
        /// Where in `written` its bytes are: 512, or fewer where the storage ended within it.
        range: Range<usize>,
        /// The bytes of all sectors of the write.
        written: Arc<[u8]>,
    },
    /// Extends the storage and fills the new part with zeros.
    Grow {
        /// The length it had.
        from: u64,
        /// The length it gets.
        to: u64,
    },
    /// Shortens the storage.
    Truncate {
        /// The length it gets.
        to: u64,
    },
}

impl Change {
    /// Carries the change out.
    ///
    /// Subsets leave changes out that later ones were built on, and each combination has one meaning. A sector that
    /// starts behind the end is lost and one that reaches beyond it is cut off there, since what would have extended
    /// the storage has not landed. A growth from behind the end fills the gap with zeros, too. A growth that finds the
    /// storage longer than it started from, since a truncation before it has not landed, zeroes what it covers.
    fn apply(&self, image: &mut ChunkedBytes) {
        match self {
            Self::Sector {
                offset,
                range,
                written,
            } => {
                let room = image.len().saturating_sub(*offset).min(SECTOR) as usize;
                let bytes = &written[range.clone()];
                image.write(*offset, &bytes[..bytes.len().min(room)]);
            }
            Self::Grow { from, to } => image.zero(*from, *to),
            Self::Truncate { to } => image.truncate(*to),
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sector { offset, range, .. } => {
                write!(formatter, "Sector({offset}, {} bytes)", range.len())
            }
            Self::Grow { from, to } => write!(formatter, "Grow({from}..{to})"),
            Self::Truncate { to } => write!(formatter, "Truncate({to})"),
        }
    }
}

/// What a power cut can leave behind: all that is durable, and any subset of what is pending.
#[derive(Clone)]
pub struct CrashPoint {
    durable: ChunkedBytes,
    pending: Vec<PendingItem>,
}

impl CrashPoint {
    /// What is pending, in the order in which it was done.
    #[must_use]
    pub fn pending(&self) -> &[PendingItem] {
        &self.pending
    }

    /// The image in which the pending items at the indexes of `subset` have landed.
    #[must_use]
    pub fn image(&self, subset: &Subset) -> MemoryStorage {
        self.build(&mut |index, _| subset.contains(index))
    }

    /// The image in which the pending items that `choose` accepts have landed.
    pub fn image_of(&self, choose: &mut dyn FnMut(&PendingItem) -> bool) -> MemoryStorage {
        self.build(&mut |_, item| choose(item))
    }

    fn build(&self, choose: &mut dyn FnMut(usize, &PendingItem) -> bool) -> MemoryStorage {
        let mut image = self.durable.clone();
        for (index, item) in self.pending.iter().enumerate() {
            if choose(index, item) {
                item.change.apply(&mut image);
            }
        }
        MemoryStorage::from_chunks(image)
    }
}

impl fmt::Debug for CrashPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CrashPoint")
            .field("durable_len", &self.durable.len())
            .field("pending", &self.pending)
            .finish()
    }
}

/// A crash point together with what reads show.
pub(super) struct DiskState {
    crash_point: CrashPoint,
    current: ChunkedBytes,
    events: u64,
}

impl DiskState {
    pub(super) fn new(image: ChunkedBytes) -> Self {
        let crash_point = CrashPoint {
            durable: image.clone(),
            pending: Vec::new(),
        };
        Self {
            crash_point,
            current: image,
            events: 0,
        }
    }

    pub(super) fn crash_point(&self) -> &CrashPoint {
        &self.crash_point
    }

    pub(super) fn current(&self) -> &ChunkedBytes {
        &self.current
    }

    pub(super) fn apply(&mut self, event: &DiskEvent) {
        self.events += 1;
        match event {
            DiskEvent::Write { offset, bytes } => self.write(*offset, bytes),
            DiskEvent::Grow { from, to } => self.grow(*from, *to),
            DiskEvent::Truncate { len } if *len < self.current.len() => {
                self.current.truncate(*len);
                self.push(Change::Truncate { to: *len });
            }
            DiskEvent::Truncate { .. } | DiskEvent::Mark(_) => {}
            DiskEvent::Sync => {
                for item in std::mem::take(&mut self.crash_point.pending) {
                    item.change.apply(&mut self.crash_point.durable);
                }
            }
            DiskEvent::SyncFailed => self.crash_point.pending.clear(),
            DiskEvent::CacheForgotten => {
                self.current = self.crash_point.durable.clone();
                for item in &self.crash_point.pending {
                    item.change.apply(&mut self.current);
                }
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        let len_before = self.current.len();
        if end > len_before {
            self.push(Change::Grow {
                from: len_before,
                to: end,
            });
        }
        self.current.write(offset, bytes);
        self.push_sectors(offset, end);
    }

    fn grow(&mut self, from: u64, to: u64) {
        let len_before = self.current.len();
        if from >= to {
            return;
        }
        self.current.zero(from, to);
        if to > len_before {
            self.push(Change::Grow {
                from: len_before,
                to,
            });
        }
        let overwritten_end = to.min(len_before);
        if from < overwritten_end {
            self.push_sectors(from, overwritten_end);
        }
    }

    /// Makes the sectors that `from..to` touches pending, with what reads show now.
    fn push_sectors(&mut self, from: u64, to: u64) {
        let start = from - from % SECTOR;
        let end = to.next_multiple_of(SECTOR).min(self.current.len());
        let mut written = vec![0; usize::try_from(end - start).expect("it was in memory just now")];
        let inside = self.current.read(start, &mut written);
        assert!(inside, "the range was cut to the length");
        let written: Arc<[u8]> = Arc::from(written);
        for first in (0..written.len()).step_by(SECTOR as usize) {
            let range = first..written.len().min(first + SECTOR as usize);
            self.push(Change::Sector {
                offset: start + first as u64,
                range,
                written: Arc::clone(&written),
            });
        }
    }

    fn push(&mut self, change: Change) {
        self.crash_point.pending.push(PendingItem {
            event: self.events,
            change,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(durable: &[u8], events: &[DiskEvent]) -> DiskState {
        let mut state = DiskState::new(ChunkedBytes::from(durable));
        for event in events {
            state.apply(event);
        }
        state
    }

    fn write(offset: u64, bytes: &[u8]) -> DiskEvent {
        DiskEvent::Write {
            offset,
            bytes: Arc::from(bytes),
        }
    }

    fn image(state: &DiskState, landed: &[usize]) -> Vec<u8> {
        let len = state.crash_point.pending.len();
        state
            .crash_point
            .image(&Subset::of(len, |index| landed.contains(&index)))
            .to_bytes()
    }

    #[test]
    fn each_sector_of_a_write_lands_by_itself() {
        let state = state(&[1; 1536], &[write(0, &[2; 1536])]);
        assert_eq!(state.crash_point.pending.len(), 3);
        assert_eq!(image(&state, &[1]), [[1; 512], [2; 512], [1; 512]].concat());
        assert_eq!(
            image(&state, &[0, 2]),
            [[2; 512], [1; 512], [2; 512]].concat()
        );
    }

    #[test]
    fn a_write_across_a_sector_boundary_may_be_torn_there() {
        let state = state(&[1; 1024], &[write(510, &[2; 4])]);
        let mut first_half = vec![1; 1024];
        first_half[510..512].fill(2);
        assert_eq!(image(&state, &[0]), first_half);
        let mut second_half = vec![1; 1024];
        second_half[512..514].fill(2);
        assert_eq!(image(&state, &[1]), second_half);
    }

    #[test]
    fn a_sector_brings_along_what_was_written_into_it_before() {
        let state = state(&[0; 512], &[write(0, b"a"), write(1, b"b")]);
        assert_eq!(image(&state, &[0])[..3], *b"a\0\0");
        assert_eq!(image(&state, &[1])[..3], *b"ab\0");
    }

    #[test]
    fn of_two_writes_of_a_sector_the_later_one_to_land_wins() {
        let state = state(&[0; 512], &[write(0, &[1; 512]), write(0, &[2; 512])]);
        assert_eq!(image(&state, &[]), [0; 512]);
        assert_eq!(image(&state, &[0]), [1; 512]);
        assert_eq!(image(&state, &[0, 1]), [2; 512]);
    }

    #[test]
    fn without_the_growth_a_sector_behind_the_old_end_is_lost() {
        let state = state(
            &[1; 512],
            &[
                DiskEvent::Grow {
                    from: 512,
                    to: 1536,
                },
                write(1024, &[2; 512]),
            ],
        );
        assert_eq!(image(&state, &[1]), [1; 512]);
        assert_eq!(image(&state, &[0]), [[1; 512], [0; 512], [0; 512]].concat());
        assert_eq!(
            image(&state, &[0, 1]),
            [[1; 512], [0; 512], [2; 512]].concat()
        );
    }

    #[test]
    fn a_write_past_the_end_is_a_growth_and_its_sectors() {
        let state = state(&[1; 100], &[write(90, &[2; 20])]);
        assert_eq!(state.crash_point.pending.len(), 2);
        assert_eq!(image(&state, &[0]), [vec![1; 100], vec![0; 10]].concat());
        assert_eq!(
            image(&state, &[1]),
            [vec![1; 90], vec![2; 10]].concat(),
            "cut off at the old end"
        );
        assert_eq!(image(&state, &[0, 1]), [vec![1; 90], vec![2; 20]].concat());
    }

    #[test]
    fn a_truncation_lands_by_itself() {
        let state = state(
            &[1; 1024],
            &[DiskEvent::Truncate { len: 512 }, write(0, &[2; 512])],
        );
        assert_eq!(image(&state, &[0]), [1; 512]);
        assert_eq!(image(&state, &[1]), [[2; 512], [1; 512]].concat());
    }

    #[test]
    fn growth_after_a_truncation_shows_zeros_in_every_subset_it_is_in() {
        let events = [
            DiskEvent::Truncate { len: 512 },
            DiskEvent::Grow {
                from: 512,
                to: 2048,
            },
        ];
        let state = state(&[1; 1024], &events);
        let expected = [vec![1; 512], vec![0; 1536]].concat();
        assert_eq!(image(&state, &[1]), expected);
        assert_eq!(image(&state, &[0, 1]), expected);
    }

    #[test]
    fn zeros_over_existing_bytes_are_pending_sectors() {
        let state = state(
            &[1; 1024],
            &[DiskEvent::Grow {
                from: 512,
                to: 1536,
            }],
        );
        assert_eq!(state.crash_point.pending.len(), 2);
        assert_eq!(image(&state, &[0]), [vec![1; 1024], vec![0; 512]].concat());
        assert_eq!(image(&state, &[1]), [vec![1; 512], vec![0; 512]].concat());
    }

    #[test]
    fn everything_landed_is_what_reads_show() {
        let events = [
            write(300, &[2; 900]),
            DiskEvent::Truncate { len: 700 },
            DiskEvent::Grow {
                from: 650,
                to: 3000,
            },
            write(2999, &[3; 5]),
        ];
        let state = state(&[1; 1000], &events);
        let all: Vec<usize> = (0..state.crash_point.pending.len()).collect();
        assert_eq!(image(&state, &all), state.current.to_vec());
    }
}
