//! What commits leave for the next flush, and the pages that wait to become free.

use std::collections::{BTreeMap, btree_map::Entry};

use super::verify::PIN;
use crate::{
    page::{PageBytes, PageRef},
    space::PageSet,
    types::{Group, GroupSet},
    workspace::Written,
};

/// The open views: how many there are of each transaction.
pub(super) type Views = BTreeMap<u64, usize>;

/// Views that are told apart when it comes to which of them sees a page.
const MOST_VIEWS: usize = 16;

/// A committed page that the file does not hold yet.
#[derive(Clone)]
pub(super) struct Dirty {
    pub transaction: u64,
    pub bytes: PageBytes,
}

impl Dirty {
    fn at((&page, dirty): (&u64, &Self)) -> (PageRef, PageBytes) {
        let transaction = dirty.transaction;
        (PageRef { page, transaction }, dirty.bytes.clone())
    }
}

/// What has happened to a group since its last flush.
#[derive(Default)]
pub(super) struct GroupChanges {
    /// Pages made since and still in use.
    pub born: PageSet,
    /// Pages of the durable state that the newest state does not use.
    pub freed: PageSet,
    /// Of `born`, those that the file does not hold.
    pub dirty: BTreeMap<u64, Dirty>,
    /// Of `born`, those that it holds but that no sync has covered.
    pub unsynced: BTreeMap<u64, Written>,
}

impl GroupChanges {
    pub fn volume(&self) -> Volume {
        Volume {
            written: (self.dirty.len() + self.unsynced.len()) as u64,
            changed: self.born.len() + self.freed.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.born.is_empty() && self.freed.is_empty()
    }
}

/// How much a flush has to do.
#[derive(Clone, Copy, Default)]
pub(super) struct Volume {
    /// Pages that its manifest names.
    pub written: u64,
    /// Pages that the durable roots gain or lose.
    pub changed: u64,
}

impl std::iter::Sum for Volume {
    fn sum<I: Iterator<Item = Self>>(volumes: I) -> Self {
        volumes.fold(Self::default(), |sum, volume| Self {
            written: sum.written + volume.written,
            changed: sum.changed + volume.changed,
        })
    }
}

pub(super) struct Pending {
    pub groups: [GroupChanges; Group::COUNT],
    /// What the flush that is under way has taken out of `groups`.
    pub under_way: Volume,
    /// Pages that no durable state uses, by the transaction that gave them up and by the newest view that was open when
    /// they were published: free as soon as no view in between is open.
    pub waiting: BTreeMap<(u64, Option<u64>), PageSet>,
    /// By the newest view that was open when they were published: pages that this view and older ones do not see.
    pub fresh: BTreeMap<u64, PageSet>,
    /// Of `waiting`, those that were never written: an older view finds them in the cache only.
    pub volatile: BTreeMap<u64, Dirty>,
    /// Which groups must be flushed together with each group, because a transaction changed both.
    pub ties: [GroupSet; Group::COUNT],
    /// The page behind the one that was written early last.
    pub written_up_to: u64,
}

impl Pending {
    pub fn new() -> Self {
        Self {
            groups: Default::default(),
            under_way: Volume::default(),
            waiting: BTreeMap::new(),
            fresh: BTreeMap::new(),
            volatile: BTreeMap::new(),
            ties: [GroupSet::EMPTY; Group::COUNT],
            written_up_to: 0,
        }
    }

    /// What the flushes from now on have to do.
    pub fn volume(&self) -> Volume {
        let groups = self.groups.iter().map(GroupChanges::volume);
        groups.chain([self.under_way]).sum()
    }

    pub fn dirty_pages(&self) -> usize {
        self.groups
            .iter()
            .map(|group| group.dirty.len())
            .sum::<usize>()
            + self.volatile.len()
    }

    /// Up to `most` pages to be written early: first those that nothing but a view needs, and last those that the running
    /// transaction has `replaced`, which will be of no use. The others in turn, in the order of their numbers, which is the
    /// order in which neighbours were made.
    pub fn choose_early(
        &mut self,
        most: usize,
        replaced: impl Fn(usize, u64) -> bool,
    ) -> Vec<(PageRef, PageBytes)> {
        let from = self.written_up_to;
        let in_turn = |kept: bool| {
            let replaced = &replaced;
            let groups = self.groups.iter().enumerate();
            groups.flat_map(move |(index, group)| {
                let turn = group.dirty.range(from..).chain(group.dirty.range(..from));
                turn.filter(move |(page, _)| replaced(index, **page) != kept)
            })
        };
        let chosen = self.volatile.iter().chain(in_turn(true));
        let mut pages: Vec<_> = chosen
            .chain(in_turn(false))
            .take(most)
            .map(Dirty::at)
            .collect();
        self.written_up_to = pages.last().map_or(0, |(at, _)| at.page + 1);
        pages.sort_unstable_by_key(|(at, _)| *at);
        pages
    }

    /// Notes that the file holds a page now, by an early write.
    pub fn written(&mut self, page: u64, written: Written) {
        for group in &mut self.groups {
            if group.dirty.remove(&page).is_some() {
                group.unsynced.insert(page, written);
            }
        }
        self.volatile.remove(&page);
    }

    /// Notes that a transaction changed all of `groups`.
    pub fn tie(&mut self, groups: GroupSet) {
        for group in groups {
            let ties = &mut self.ties[usize::from(group.index())];
            *ties = *ties | groups;
        }
    }

    /// `groups` and all that must be flushed with them.
    pub fn tied(&self, mut groups: GroupSet) -> GroupSet {
        loop {
            let more = groups.iter().fold(groups, |all, group| {
                all | self.ties[usize::from(group.index())]
            });
            if more == groups {
                return groups;
            }
            groups = more;
        }
    }

    /// A page of a group is not used by the newest state any more. Tells whether no durable state uses it either.
    pub fn give_up(&mut self, group: usize, page: u64) -> bool {
        let changes = &mut self.groups[group];
        if !changes.born.remove(page) {
            changes.freed.insert(page);
            return false;
        }
        changes.unsynced.remove(&page);
        if let Some(dirty) = changes.dirty.remove(&page) {
            self.volatile.insert(page, dirty);
        }
        true
    }

    /// Notes when pages that a transaction made are published, so that views that are older do not keep them later.
    pub fn publish(&mut self, born: &PageSet, transaction: u64, views: &Views) {
        let Some((&newest, _)) = views.range(..transaction).next_back() else {
            return;
        };
        // Beyond some number of views the newer ones are not told apart, and keep a little more than they see.
        let known = self.fresh.last_key_value().map(|(&view, _)| view);
        let view = match known {
            Some(known) if self.fresh.len() >= MOST_VIEWS => known.min(newest),
            _ => newest,
        };
        self.fresh.entry(view).or_default().union(born);
    }

    /// Keeps pages, which a transaction gave up, until no view sees them.
    pub fn wait_for_views(&mut self, transaction: u64, pages: &PageSet) {
        for page in pages.iter() {
            let fresh = self.fresh.iter_mut().rev();
            let since = fresh
                .filter_map(|(&view, pages)| pages.remove(page).then_some(view))
                .next();
            let kept = self.waiting.entry((transaction, since)).or_default();
            kept.insert(page);
        }
    }

    /// Pages that were given up and that a view keeps.
    pub fn kept_for(&self, view: u64) -> u64 {
        let kept = self.waiting.iter().filter(|((given_up, since), _)| {
            view == PIN || (view < *given_up && since.is_none_or(|since| since < view))
        });
        kept.map(|(_, pages)| pages.len()).sum()
    }

    /// Joins what views that are open do not tell apart. Thus a view kept for long costs one set of pages, not one for
    /// each transaction since.
    pub fn join_waiting(&mut self, views: &Views) {
        let older = |view: u64| views.range(..=view).next_back().map(|(&view, _)| view);
        let gone = self.fresh.keys().filter(|view| !views.contains_key(view));
        for view in gone.copied().collect::<Vec<_>>() {
            let pages = self.fresh.remove(&view).unwrap_or_default();
            if let Some(older) = older(view) {
                self.fresh.entry(older).or_default().union(&pages);
            }
        }
        let last = self.waiting.keys().next_back().map_or(0, |&(last, _)| last);
        for ((given_up, since), pages) in std::mem::take(&mut self.waiting) {
            let next = views.range(given_up..).next();
            let given_up = next.map_or(last, |(&view, _)| view);
            match self.waiting.entry((given_up, since.and_then(older))) {
                Entry::Vacant(entry) => drop(entry.insert(pages)),
                // The older set is the larger one.
                Entry::Occupied(entry) => entry.into_mut().union(&pages),
            }
        }
    }

    /// Takes out the pages that no view can need.
    pub fn take_free(&mut self, views: &Views) -> PageSet {
        let mut free = PageSet::default();
        let unseen = self.waiting.keys().filter(|(given_up, since)| {
            // A pin is of no transaction and keeps everything.
            let pinned = views.contains_key(&PIN);
            let mut older = views.range(..given_up).rev();
            !pinned && older.next().is_none_or(|(&view, _)| Some(view) <= *since)
        });
        for key in unseen.copied().collect::<Vec<_>>() {
            let pages = self.waiting.remove(&key).unwrap_or_default();
            for page in pages.iter() {
                self.volatile.remove(&page);
            }
            free.union(&pages);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_reach_over_several_transactions() {
        let mut pending = Pending::new();
        let group = |index| GroupSet::from(Group::new(index));
        pending.tie(group(1) | group(2));
        pending.tie(group(2) | group(3));
        assert_eq!(pending.tied(group(1)), group(1) | group(2) | group(3));
        assert_eq!(pending.tied(group(4)), group(4));
    }

    #[test]
    fn written_early_is_first_what_a_view_needs_then_each_in_turn_and_last_what_is_replaced() {
        let mut pending = Pending::new();
        let dirty = |transaction| Dirty {
            transaction,
            bytes: PageBytes::zeroed(4096),
        };
        for page in 10..14 {
            pending.groups[0].dirty.insert(page, dirty(5));
        }
        pending.volatile.insert(20, dirty(4));
        let choose = |pending: &mut Pending| -> Vec<u64> {
            let replaced = |group, page| group == 0 && page == 11;
            let chosen = pending.choose_early(2, replaced).into_iter();
            let chosen: Vec<_> = chosen.map(|(at, _)| at.page).collect();
            let written = Written {
                checksum: 0,
                hash: 0,
            };
            chosen
                .iter()
                .for_each(|&page| pending.written(page, written));
            chosen
        };
        assert_eq!(choose(&mut pending), [10, 20]);
        // Behind where the last turn ended come those before it.
        pending.groups[0].dirty.insert(9, dirty(6));
        assert_eq!(choose(&mut pending), [12, 13]);
        assert_eq!(choose(&mut pending), [9, 11]);
        assert_eq!(choose(&mut pending), [0; 0]);
        assert!(pending.volatile.is_empty());
        assert_eq!(pending.groups[0].unsynced.len(), 5);
    }

    #[test]
    fn a_page_given_up_waits_for_older_views_only() {
        let mut pending = Pending::new();
        pending.wait_for_views(5, &[70].into_iter().collect());
        pending.wait_for_views(8, &[80].into_iter().collect());
        let view = |number| BTreeMap::from([(number, 1)]);
        assert!(pending.take_free(&view(4)).is_empty());
        assert_eq!(pending.take_free(&view(5)).iter().collect::<Vec<_>>(), [70]);
        assert_eq!(
            pending.take_free(&Views::new()).iter().collect::<Vec<_>>(),
            [80]
        );
    }

    #[test]
    fn transactions_that_no_view_tells_apart_wait_together() {
        let mut pending = Pending::new();
        let views = BTreeMap::from([(3, 1), (20, 1)]);
        for transaction in 4..1_000 {
            pending.wait_for_views(transaction, &[transaction].into_iter().collect());
            pending.join_waiting(&views);
        }
        // What was given up up to 20 is kept for the first view only, the rest for both.
        let kept: Vec<_> = pending
            .waiting
            .keys()
            .map(|&(given_up, _)| given_up)
            .collect();
        assert_eq!(kept, [20, 999]);
        assert!(pending.take_free(&BTreeMap::from([(3, 1)])).is_empty());
        assert_eq!(pending.take_free(&BTreeMap::from([(20, 1)])).len(), 17);
        assert_eq!(pending.take_free(&Views::new()).len(), 979);
    }

    #[test]
    fn a_view_does_not_keep_pages_that_were_made_after_it() {
        let pages = |page: u64| [page].into_iter().collect::<PageSet>();
        let mut views = BTreeMap::from([(5, 1)]);
        let mut pending = Pending::new();
        pending.publish(&pages(70), 6, &views);
        pending.publish(&pages(71), 6, &views);
        // Given up before and after a second view saw it.
        pending.wait_for_views(8, &pages(70));
        views.insert(9, 1);
        pending.publish(&pages(72), 10, &views);
        pending.wait_for_views(12, &pages(71));
        pending.wait_for_views(12, &pages(72));
        pending.wait_for_views(12, &pages(60));
        pending.join_waiting(&views);
        assert_eq!(
            pending.take_free(&views).iter().collect::<Vec<_>>(),
            [70, 72]
        );
        views.remove(&9);
        pending.join_waiting(&views);
        assert_eq!(pending.take_free(&views).iter().collect::<Vec<_>>(), [71]);
        views.remove(&5);
        assert_eq!(pending.take_free(&views).iter().collect::<Vec<_>>(), [60]);
    }

    #[test]
    fn pages_of_a_view_that_is_gone_are_still_those_of_an_older_one() {
        let pages = |page: u64| [page].into_iter().collect::<PageSet>();
        let mut pending = Pending::new();
        let mut views = BTreeMap::from([(5, 1), (9, 1)]);
        pending.publish(&pages(70), 10, &views);
        views.remove(&9);
        pending.join_waiting(&views);
        pending.wait_for_views(12, &pages(70));
        assert_eq!(pending.take_free(&views).iter().collect::<Vec<_>>(), [70]);
        views.clear();
        pending.publish(&pages(70), 13, &views);
        views.insert(20, 1);
        pending.wait_for_views(30, &pages(70));
        assert!(pending.take_free(&views).is_empty(), "view 20 sees it");
    }

    #[test]
    fn a_pin_keeps_what_was_made_before_it() {
        let pages = |page: u64| [page].into_iter().collect::<PageSet>();
        let mut pending = Pending::new();
        let mut views = BTreeMap::from([(5, 1)]);
        pending.publish(&pages(70), 6, &views);
        views.insert(PIN, 1);
        pending.wait_for_views(8, &pages(70));
        pending.join_waiting(&views);
        assert!(pending.take_free(&views).is_empty());
        views.remove(&PIN);
        assert_eq!(pending.take_free(&views).len(), 1);
    }

    #[test]
    fn a_page_of_the_durable_state_waits_for_a_flush() {
        let mut pending = Pending::new();
        pending.groups[0].born.insert(9);
        assert!(pending.give_up(0, 9));
        assert!(!pending.give_up(0, 10));
        assert!(pending.groups[0].freed.contains(10));
    }
}
