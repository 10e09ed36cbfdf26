//! Readers in other processes, and through other handles of this one, beside the one writer. Nobody waits.
//!
//! A reader pins the commit that it shows. The writer asks who has pinned what after each flush, when the
//! acknowledgement is written and before a page that the flush gave up can be taken again, and keeps the pages of pinned
//! commits as those of its own views.
//!
//! | number | held by |
//! |---|---|
//! | 0 | the writer, once it has flushed: the acknowledgement names the newest durable commit |
//! | 1 | a reader that is choosing its commit |
//! | 2 + N | a reader of the commit with the sequence number N |
//!
//! A reader holds 1, reads the acknowledgement and the slots, chooses commit N, holds 2 + N, and lets go of 1. Why the
//! pages of N are safe: the acknowledgement of N + 1 was not written when the reader, holding 1, read it. So the writer,
//! who asks after writing it, finds 1 or 2 + N held; and while 1 is held, no page at all becomes free.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Engine, Flusher, Published,
    open::{Fixed, Recovered, read_acknowledgement},
    pending::Views,
    verify::PIN,
};
use crate::{
    error::{Error, Result},
    file::{Header, Slot},
    pager::Pager,
    storage::{Pins, Storage},
    sync::yield_now,
};

const WRITER: Range<u64> = 0..1;
const CHOOSING: Range<u64> = 1..2;
const COMMITS: u64 = CHOOSING.end;
const ANY: Range<u64> = CHOOSING.start..u64::MAX;

/// How often a reader tries again because the writer was faster. Each time the writer has made several commits durable
/// while the reader read a few pages, or is in the middle of writing one sector.
const ATTEMPTS: u32 = 1000;

/// How long to wait for the rest of a sector.
const HALF_WRITTEN: Duration = Duration::from_millis(1);

/// More pinned commits than this are not told apart. Also, somebody may have locked the whole file by other means.
const MOST_COMMITS: usize = 1024;

/// A number that is held until this is dropped.
pub(crate) struct Hold {
    storage: Arc<dyn Storage>,
    number: u64,
}

impl Hold {
    /// None if the storage has no pins.
    fn new(pager: &Pager, number: u64) -> Result<Option<Self>> {
        let Some(pins) = pager.storage.pins() else {
            return Ok(None);
        };
        pins.hold(number).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::InUse {
                file: pager.file.clone(),
            },
            _ => pager.io_error("pin a commit", error),
        })?;
        Ok(Some(Self {
            storage: pager.storage.clone(),
            number,
        }))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let released = self
            .storage
            .pins()
            .map_or(Ok(()), |pins| pins.release(self.number));
        if let Err(error) = released {
            // It goes with the handle at the latest.
            tracing::warn!(%error, "a pin could not be released");
        }
    }
}

/// What readers elsewhere hold.
#[derive(Default)]
pub(super) struct Seen {
    pub choosing: bool,
    /// Sequence numbers, in no order.
    pub commits: Vec<u64>,
}

impl Seen {
    fn look(pins: &dyn Pins) -> io::Result<Self> {
        // Nearly always the only call.
        if pins.held(ANY)?.is_none() {
            return Ok(Self::default());
        }
        // First: who lets go of it has pinned a commit before.
        let mut choosing = pins.held(CHOOSING)?.is_some();
        let mut commits = Vec::new();
        let mut unknown = vec![(COMMITS, ANY.end)];
        while let Some((first, end)) = unknown.pop() {
            if commits.len() == MOST_COMMITS {
                // Then everything is kept, for whomever.
                choosing = true;
                break;
            }
            if let Some(found) = pins.held(first..end)? {
                commits.push(found - COMMITS);
                unknown.extend([(first, found), (found + 1, end)]);
            }
        }
        Ok(Self { choosing, commits })
    }

    fn is_empty(&self) -> bool {
        !self.choosing && self.commits.is_empty()
    }
}

/// The published state that a commit shows: the newest that any of its groups stands at.
pub(super) fn state_of(slot: &Slot) -> u64 {
    let states = slot.groups.iter().map(|group| group.transaction);
    states.max().unwrap_or(0).max(PIN + 1)
}

/// What the flusher knows of readers elsewhere.
#[derive(Default)]
pub(crate) struct Elsewhere {
    /// Whether this handle writes, and the storage has pins that work.
    watching: bool,
    /// What this handle holds itself: that it writes, once it has, or the commit that it reads.
    hold: Option<Hold>,
    /// The commit that this handle was opened at.
    opened_at: u64,
    /// By sequence number, the states of commits that somebody may have pinned.
    states: BTreeMap<u64, u64>,
    /// Whether anybody was seen when it was looked last.
    pub seen_any: bool,
}

impl Elsewhere {
    /// For a handle that reads.
    pub fn reading(hold: Option<Hold>) -> Self {
        Self {
            hold,
            ..Self::default()
        }
    }

    /// For a handle that writes. Also tells whether there may be readers of commits before `slot`.
    pub fn watch(pager: &Pager, slot: &Slot) -> (Self, bool) {
        let mut own = Self {
            opened_at: slot.sequence,
            states: BTreeMap::from([(slot.sequence, state_of(slot))]),
            ..Self::default()
        };
        let Some(pins) = pager.storage.pins() else {
            return (own, false);
        };
        match Seen::look(pins) {
            Ok(seen) => {
                own.watching = true;
                (own, seen.is_of_before(slot.sequence))
            }
            Err(error) => {
                tracing::warn!(file = %pager.file, %error, "whether others read the file cannot be found out; they will not be able to open it");
                (own, false)
            }
        }
    }

    /// The state that a reader of a commit needs.
    fn state(&self, commit: u64) -> u64 {
        if commit < self.opened_at {
            // Of what this handle gives up it needs no more than a reader of the commit that the handle began with.
            return self.states.values().next().copied().unwrap_or(PIN);
        }
        // Of a commit that is none of this handle's everything is kept.
        self.states.get(&commit).copied().unwrap_or(PIN)
    }
}

impl Seen {
    fn is_of_before(&self, commit: u64) -> bool {
        self.choosing || self.commits.iter().any(|&pinned| pinned < commit)
    }
}

/// A commit that is pinned elsewhere, or the choosing of one.
pub(crate) struct Foreign {
    /// The state that is kept for it, by the number among the views.
    pub view: u64,
    pub since: Instant,
}

impl Published {
    /// Registers what was seen elsewhere as views, and takes those that are gone from them.
    fn set_elsewhere(&mut self, seen: BTreeMap<Option<u64>, u64>) {
        let mut before = std::mem::take(&mut self.elsewhere);
        for (commit, view) in seen {
            let foreign = before.remove(&commit).unwrap_or_else(|| {
                self.add_view(view);
                Foreign {
                    view,
                    since: Instant::now(),
                }
            });
            self.elsewhere.insert(commit, foreign);
        }
        for foreign in before.into_values() {
            self.close_view(foreign.view);
        }
    }

    /// How many of the views are readers elsewhere.
    pub(super) fn views_elsewhere(&self) -> Views {
        let mut views = Views::new();
        for foreign in self.elsewhere.values() {
            *views.entry(foreign.view).or_default() += 1;
        }
        views
    }
}

impl Engine {
    /// Looks which commits are read elsewhere. Called after the acknowledgement of each slot and before anything that only
    /// earlier ones needed is released.
    pub(super) fn look_elsewhere(&self, flusher: &mut Flusher) -> Result<()> {
        let slot = &flusher.slot;
        let elsewhere = &mut flusher.elsewhere;
        let pins = self.pager.storage.pins().filter(|_| elsewhere.watching);
        let Some(pins) = pins else {
            return Ok(());
        };
        if elsewhere.hold.is_none() {
            elsewhere.hold = Hold::new(&self.pager, WRITER.start)?;
        }
        elsewhere.states.insert(slot.sequence, state_of(slot));
        let seen = Seen::look(pins)
            .map_err(|error| self.pager.io_error("look for readers elsewhere", error))?;
        elsewhere.seen_any = !seen.is_empty();
        let mut views: BTreeMap<_, _> = seen
            .commits
            .iter()
            .map(|&commit| (Some(commit), elsewhere.state(commit)))
            .collect();
        if seen.choosing {
            views.insert(None, PIN);
        } else {
            // Whoever comes now chooses this commit or a later one.
            let (newest, begun) = (slot.sequence, elsewhere.opened_at);
            let needed = |&commit: &u64| {
                commit == newest || commit == begun || views.contains_key(&Some(commit))
            };
            elsewhere.states.retain(|commit, _| needed(commit));
        }
        self.published.lock().set_elsewhere(views);
        if !seen.is_of_before(elsewhere.opened_at) {
            self.space.lock().give_out_withheld();
        }
        Ok(())
    }

    /// The commits that are read elsewhere at this moment, for a handle that reads itself. One that writes knows its readers
    /// as of its last flush.
    pub(super) fn commits_beside(&self) -> Vec<Option<u64>> {
        let Some(pins) = self.pager.storage.pins().filter(|_| self.read_only) else {
            return Vec::new();
        };
        match Seen::look(pins) {
            Ok(seen) => {
                let choosing = seen.choosing.then_some(None);
                seen.commits.into_iter().map(Some).chain(choosing).collect()
            }
            Err(error) => {
                tracing::warn!(file = %self.pager.file, %error, "other readers cannot be listed");
                Vec::new()
            }
        }
    }
}

/// Chooses the newest durable commit of a file to which somebody may be writing, and pins it.
///
/// While the writer is there the acknowledgement says which one that is. Otherwise it is found as by a recovery, but
/// nothing is written. What seems to be wrong counts only if the acknowledgement is the same before and after; if it is
/// not, the writer went on meanwhile.
pub(super) fn choose_beside(
    pager: &Pager,
    header: &Header,
    accept_loss: bool,
) -> Result<Recovered> {
    let _choosing = Hold::new(pager, CHOOSING.start)?;
    for attempt in 1..=ATTEMPTS {
        let writer = match pager.storage.pins().map(|pins| pins.held(WRITER)) {
            Some(held) => held.map_err(|error| pager.io_error("look for the writer", error))?,
            None => None,
        };
        let fixed = Fixed::read(pager, header)?;
        let acknowledgement = fixed.acknowledgement;
        let outcome = match acknowledgement {
            Some(newest) if writer.is_some() => {
                fixed.up_to(newest).choose(pager, header, accept_loss)
            }
            None if writer.is_some() && attempt < ATTEMPTS => {
                // Half written, unless it is damaged.
                thread::sleep(HALF_WRITTEN);
                continue;
            }
            _ => fixed
                .durable(pager, header)?
                .choose(pager, header, accept_loss),
        };
        let unchanged = || read_acknowledgement(pager, header).map(|now| now == acknowledgement);
        let promised =
            |slot: &Slot| acknowledgement.is_some_and(|last| last.sequence <= slot.sequence);
        match outcome {
            Ok((mut recovered, _)) if promised(&recovered.slot) || unchanged()? => {
                let number = recovered.slot.sequence.saturating_add(COMMITS);
                recovered.pin = Hold::new(pager, number)?;
                return Ok(recovered);
            }
            Err(error) if unchanged()? => return Err(error),
            _ => yield_now(),
        }
    }
    Err(Error::InUse {
        file: pager.file.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use parking_lot::Mutex;

    use super::*;

    /// What others hold, and what they do before one of the calls.
    struct Script {
        state: Mutex<(BTreeSet<u64>, usize)>,
        at: usize,
        act: fn(&mut BTreeSet<u64>),
    }

    impl Script {
        fn new(held: &[u64], at: usize, act: fn(&mut BTreeSet<u64>)) -> Self {
            Self {
                state: Mutex::new((held.iter().copied().collect(), 0)),
                at,
                act,
            }
        }

        fn calls(&self) -> usize {
            self.state.lock().1
        }
    }

    impl Pins for Script {
        fn hold(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn release(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn held(&self, numbers: Range<u64>) -> io::Result<Option<u64>> {
            let (held, calls) = &mut *self.state.lock();
            if *calls == self.at {
                (self.act)(held);
            }
            *calls += 1;
            Ok(held.range(numbers).next_back().copied())
        }
    }

    #[test]
    fn without_readers_the_writer_asks_once() {
        let script = Script::new(&[WRITER.start], usize::MAX, |_| {});
        let seen = Seen::look(&script).expect("it answers");
        assert!(seen.is_empty());
        assert_eq!(script.calls(), 1);
    }

    #[test]
    fn all_pinned_commits_are_found_with_two_calls_each() {
        let held: Vec<u64> = [3, 4, 5, 90, 1 << 40].map(|commit| commit + COMMITS).into();
        let script = Script::new(&held, usize::MAX, |_| {});
        let mut seen = Seen::look(&script).expect("it answers");
        seen.commits.sort_unstable();
        assert_eq!(seen.commits, [3, 4, 5, 90, 1 << 40]);
        assert!(!seen.choosing);
        assert!(script.calls() <= 2 + 2 * held.len() + 1);
    }

    #[test]
    fn a_reader_that_pins_its_commit_while_the_writer_asks_is_seen_one_way_or_the_other() {
        for others in [[].as_slice(), &[5, 9, 30]] {
            for at in 0..12 {
                let mut held: Vec<u64> = others.iter().map(|commit| commit + COMMITS).collect();
                held.push(CHOOSING.start);
                let script = Script::new(&held, at, |held| {
                    held.insert(7 + COMMITS);
                    held.remove(&CHOOSING.start);
                });
                let seen = Seen::look(&script).expect("it answers");
                assert!(
                    seen.choosing || seen.commits.contains(&7),
                    "before call {at}"
                );
                assert!(others.iter().all(|commit| seen.commits.contains(commit)));
            }
        }
    }

    #[test]
    fn of_more_commits_than_are_told_apart_all_are_kept() {
        let held: Vec<u64> = (0..5_000).map(|commit| commit + COMMITS).collect();
        let script = Script::new(&held, usize::MAX, |_| {});
        let seen = Seen::look(&script).expect("it answers");
        assert!(seen.choosing);
        assert!(script.calls() < 3 * MOST_COMMITS);
    }

    #[test]
    fn a_commit_that_is_not_known_has_everything_kept_for_it() {
        let elsewhere = Elsewhere {
            opened_at: 10,
            states: BTreeMap::from([(10, 100), (12, 130)]),
            ..Elsewhere::default()
        };
        let states = [3, 10, 11, 12, 13].map(|commit| elsewhere.state(commit));
        assert_eq!(states, [100, 100, PIN, 130, PIN]);
    }
}
