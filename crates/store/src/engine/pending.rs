//! What commits leave for the next flush, and the pages that wait to become free.

use std::collections::BTreeMap;

use crate::{
    page::{PageBytes, PageRef},
    space::PageSet,
    types::{Group, GroupSet},
    workspace::Written,
};

/// A committed page that the file does not hold yet.
#[derive(Clone)]
pub(super) struct Dirty {
    pub transaction: u64,
    pub bytes: PageBytes,
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
    /// By the transaction that gave them up: pages that no durable state uses, free as soon as no older view is open.
    pub waiting: BTreeMap<u64, PageSet>,
    /// Of `waiting`, those that were never written: an older view finds them in the cache only.
    pub volatile: BTreeMap<u64, Dirty>,
    /// Which groups must be flushed together with each group, because a transaction changed both.
    pub ties: [GroupSet; Group::COUNT],
}

impl Pending {
    pub fn new() -> Self {
        Self {
            groups: Default::default(),
            under_way: Volume::default(),
            waiting: BTreeMap::new(),
            volatile: BTreeMap::new(),
            ties: [GroupSet::EMPTY; Group::COUNT],
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

    pub fn wait_for_views(&mut self, transaction: u64, pages: &PageSet) {
        if !pages.is_empty() {
            self.waiting.entry(transaction).or_default().union(pages);
        }
    }

    /// Joins what several transactions gave up where no view can tell them apart. Thus a view kept for long costs one
    /// set of pages, not one for each transaction since.
    pub fn join_waiting(&mut self, views: &BTreeMap<u64, usize>) {
        let numbers: Vec<u64> = self.waiting.keys().copied().collect();
        for pair in numbers.windows(2) {
            let [older, newer] = [pair[0], pair[1]];
            if views.range(older..newer).next().is_some() {
                continue;
            }
            if let Some(mut pages) = self.waiting.remove(&older) {
                let joined = self.waiting.entry(newer).or_default();
                pages.union(joined);
                *joined = pages;
            }
        }
    }

    /// Takes out the pages that no view can need: those given up by `oldest_view` or before. Also gives the references
    /// under which the cache may hold some of them as dirty.
    pub fn take_free(&mut self, oldest_view: u64) -> (PageSet, Vec<PageRef>) {
        let mut free = PageSet::default();
        let mut cached = Vec::new();
        while let Some(entry) = self.waiting.first_entry()
            && *entry.key() <= oldest_view
        {
            let pages = entry.remove();
            for page in pages.iter() {
                if let Some(dirty) = self.volatile.remove(&page) {
                    cached.push(PageRef {
                        page,
                        transaction: dirty.transaction,
                    });
                }
            }
            free.union(&pages);
        }
        (free, cached)
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
    fn a_page_given_up_waits_for_older_views_only() {
        let mut pending = Pending::new();
        pending.wait_for_views(5, &[70].into_iter().collect());
        pending.wait_for_views(8, &[80].into_iter().collect());
        assert!(pending.take_free(4).0.is_empty());
        assert_eq!(pending.take_free(5).0.iter().collect::<Vec<_>>(), [70]);
        assert_eq!(
            pending.take_free(u64::MAX).0.iter().collect::<Vec<_>>(),
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
        assert_eq!(pending.waiting.keys().collect::<Vec<_>>(), [&20, &999]);
        assert!(pending.take_free(3).0.is_empty());
        assert_eq!(pending.take_free(20).0.len(), 17);
        assert_eq!(pending.take_free(u64::MAX).0.len(), 979);
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
