//! The record of a run, and the crash points in it.

use std::fmt;
use std::sync::Arc;

use super::super::MemoryStorage;
use super::super::chunks::ChunkedBytes;
use super::crash_point::{CrashPoint, DiskState};
use super::subset::Subset;

/// Something that happened to a disk.
#[derive(Clone, PartialEq, Eq)]
pub enum DiskEvent {
    /// Bytes were written.
    Write {
        /// Where.
        offset: u64,
        /// Which.
        bytes: Arc<[u8]>,
    },
    /// Zeros were written and the storage extended.
    Grow {
        /// Where the zeros start.
        from: u64,
        /// Where they end.
        to: u64,
    },
    /// The storage was cut.
    Truncate {
        /// The length that was asked for.
        len: u64,
    },
    /// A sync completed.
    Sync,
    /// A sync failed and took what was pending with it.
    SyncFailed,
    /// What reads show was taken from the disk again.
    CacheForgotten,
    /// Whoever runs the load left a mark.
    Mark(u64),
}

impl fmt::Debug for DiskEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { offset, bytes } => {
                write!(formatter, "Write({offset}, {} bytes)", bytes.len())
            }
            Self::Grow { from, to } => write!(formatter, "Grow({from}..{to})"),
            Self::Truncate { len } => write!(formatter, "Truncate({len})"),
            Self::Sync => formatter.write_str("Sync"),
            Self::SyncFailed => formatter.write_str("SyncFailed"),
            Self::CacheForgotten => formatter.write_str("CacheForgotten"),
            Self::Mark(mark) => write!(formatter, "Mark({mark})"),
        }
    }
}

/// Everything that happened to a disk, so that one run of a load yields the images of a power cut at any moment of it.
#[derive(Clone)]
pub struct Journal {
    start: ChunkedBytes,
    events: Vec<DiskEvent>,
}

impl Journal {
    pub(super) fn new(start: &MemoryStorage) -> Self {
        Self {
            start: start.to_chunks(),
            events: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, event: DiskEvent) {
        self.events.push(event);
    }

    /// What happened, in order.
    #[must_use]
    pub fn events(&self) -> &[DiskEvent] {
        &self.events
    }

    /// A walk through the run from its start.
    #[must_use]
    pub fn replay(&self) -> JournalReplay<'_> {
        JournalReplay {
            state: DiskState::new(self.start.clone()),
            events: &self.events,
            done: 0,
        }
    }

    /// What a power cut could have left behind when the first `events` events had happened. To look at many moments,
    /// [`replay`](Self::replay) is cheaper: this starts anew each time.
    ///
    /// # Panics
    ///
    /// When there are fewer events.
    #[must_use]
    pub fn crash_point_at(&self, events: usize) -> CrashPoint {
        let mut replay = JournalReplay {
            events: &self.events[..events],
            ..self.replay()
        };
        while replay.advance().is_some() {}
        replay.crash_point().clone()
    }

    /// The image of a power cut behind the first `events` events at which `subset` of the pending items had landed.
    ///
    /// # Panics
    ///
    /// When there are fewer events.
    #[must_use]
    pub fn image_at(&self, events: usize, subset: &Subset) -> MemoryStorage {
        self.crash_point_at(events).image(subset)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Journal")
            .field("start_len", &self.start.len())
            .field("events", &self.events)
            .finish()
    }
}

/// A walk through a [`Journal`], which stands between two events.
pub struct JournalReplay<'a> {
    state: DiskState,
    events: &'a [DiskEvent],
    done: usize,
}

impl<'a> JournalReplay<'a> {
    /// Lets the next event happen and gives it back.
    pub fn advance(&mut self) -> Option<&'a DiskEvent> {
        let event = self.events.get(self.done)?;
        self.state.apply(event);
        self.done += 1;
        Some(event)
    }

    /// The number of events that have happened.
    #[must_use]
    pub fn position(&self) -> usize {
        self.done
    }

    /// What a power cut between the last event and the next can leave behind.
    #[must_use]
    pub fn crash_point(&self) -> &CrashPoint {
        self.state.crash_point()
    }
}

impl fmt::Debug for JournalReplay<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JournalReplay")
            .field("position", &self.done)
            .field("crash_point", self.crash_point())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::super::super::Storage;
    use super::super::SimulatedDisk;
    use super::*;

    /// A load with everything in it that a disk can be asked for.
    fn run(disk: &SimulatedDisk) {
        let write = |offset, bytes: &[u8]| {
            disk.write_at(offset, &[IoSlice::new(bytes)])
                .expect("the power is on")
        };
        disk.grow(0, 2048).expect("grow");
        write(0, &[1; 700]);
        disk.sync().expect("sync");
        disk.mark(1).expect("mark");
        write(600, &[2; 900]);
        disk.lose_unsynced();
        write(0, &[3; 10]);
        disk.forget_cached(0, u64::MAX).expect("forget");
        disk.truncate(1000).expect("truncate");
        disk.sync().expect("sync");
        disk.mark(2).expect("mark");
        write(990, &[4; 600]);
    }

    #[test]
    fn the_journal_has_the_events_in_order_with_the_marks_between() {
        let disk = SimulatedDisk::recording(&MemoryStorage::new());
        run(&disk);
        let journal = disk.journal().expect("it is recording");
        let marks: Vec<(usize, u64)> = journal
            .events()
            .iter()
            .enumerate()
            .filter_map(|(index, event)| {
                if let DiskEvent::Mark(mark) = event {
                    Some((index, *mark))
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(marks, [(3, 1), (10, 2)]);
        assert_eq!(journal.events()[2], DiskEvent::Sync);
        assert_eq!(journal.events().len(), 12);
    }

    #[test]
    fn the_replay_goes_through_the_states_the_disk_went_through() {
        let start = MemoryStorage::from_bytes(&[9; 100]);
        let disk = SimulatedDisk::recording(&start);
        run(&disk);
        let journal = disk.journal().expect("it is recording");
        assert_eq!(
            journal.image_at(0, &Subset::none(0)).to_bytes(),
            start.to_bytes()
        );

        let mut replay = journal.replay();
        let mut events = 0;
        while replay.advance().is_some() {
            events += 1;
            assert_eq!(replay.position(), events);
            let from_the_start = journal.crash_point_at(events);
            assert_eq!(replay.crash_point().pending(), from_the_start.pending());
        }
        let live = disk.crash_point();
        assert_eq!(live.pending(), replay.crash_point().pending());
        assert!(!live.pending().is_empty());
        for landed in [
            Subset::none(live.pending().len()),
            Subset::all(live.pending().len()),
        ] {
            let expected = live.image(&landed).to_bytes();
            assert_eq!(replay.crash_point().image(&landed).to_bytes(), expected);
            assert_eq!(journal.image_at(events, &landed).to_bytes(), expected);
        }
    }

    #[test]
    fn a_dead_disk_adds_nothing_to_the_journal() {
        let disk = SimulatedDisk::recording(&MemoryStorage::new());
        disk.cut_power_at(1);
        disk.write_at(0, &[IoSlice::new(b"under way")])
            .expect_err("the power goes");
        disk.write_at(0, &[IoSlice::new(b"later")])
            .expect_err("dead");
        disk.mark(1).expect_err("dead");
        let journal = disk.journal().expect("it is recording");
        assert_eq!(
            journal.events(),
            [DiskEvent::Write {
                offset: 0,
                bytes: Arc::from(&b"under way"[..])
            }]
        );
    }
}
