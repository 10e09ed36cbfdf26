//! Which of the pending items have landed.

use std::collections::HashSet;

use super::super::SplitMix64;
use super::crash_point::PendingItem;

/// A choice among pending items, by index.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Subset(Vec<bool>);

impl Subset {
    /// None of `len` items.
    #[must_use]
    pub fn none(len: usize) -> Self {
        Self(vec![false; len])
    }

    /// All of `len` items.
    #[must_use]
    pub fn all(len: usize) -> Self {
        Self(vec![true; len])
    }

    /// Those of `len` items whose index `choose` accepts.
    pub fn of(len: usize, choose: impl FnMut(usize) -> bool) -> Self {
        Self((0..len).map(choose).collect())
    }

    /// Whether the item at `index` is chosen. Where the choice says nothing, it is not.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.0.get(index).copied().unwrap_or(false)
    }
}

/// How many subsets of each kind to try at a crash point.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubsetPlan {
    /// Up to this many pending items, every subset is tried and nothing below applies.
    pub exhaustive_up_to: usize,
    /// How many subsets of a single item, and how many that lack a single item; chosen at random where there are more.
    pub singles: usize,
    /// How many random subsets.
    pub random: usize,
    /// How many prefixes of the last write, by sector, with all before it landed; chosen at random where there are more.
    pub torn_prefixes: usize,
    /// How many random choices among the sectors of the last write, with all before it landed.
    pub torn_masks: usize,
}

impl Default for SubsetPlan {
    /// Every subset of up to 10 items; of more, 64 of each kind and 16 masks.
    fn default() -> Self {
        Self {
            exhaustive_up_to: 10,
            singles: 64,
            random: 64,
            torn_prefixes: 64,
            torn_masks: 16,
        }
    }
}

impl SubsetPlan {
    /// The subsets of `pending` to try: none and all of it first, then what the plan says, each once.
    #[must_use]
    pub fn subsets(&self, pending: &[PendingItem], random: &mut SplitMix64) -> Vec<Subset> {
        let len = pending.len();
        let mut chosen = Distinct::default();
        chosen.add(Subset::none(len));
        chosen.add(Subset::all(len));
        if len <= self.exhaustive_up_to && len < usize::BITS as usize {
            for bits in 0..1_usize << len {
                chosen.add(Subset::of(len, |index| bits >> index & 1 == 1));
            }
            return chosen.subsets;
        }
        for single in sample(0..len, self.singles, random) {
            chosen.add(Subset::of(len, |index| index == single));
        }
        for single in sample(0..len, self.singles, random) {
            chosen.add(Subset::of(len, |index| index != single));
        }
        for _ in 0..self.random {
            chosen.add(Subset::of(len, |_| random.one_in(2)));
        }
        let last_write = pending
            .partition_point(|item| Some(item.event) < pending.last().map(|last| last.event));
        for end in sample(last_write..len, self.torn_prefixes, random) {
            chosen.add(Subset::of(len, |index| index < end));
        }
        for _ in 0..self.torn_masks {
            chosen.add(Subset::of(len, |index| {
                index < last_write || random.one_in(2)
            }));
        }
        chosen.subsets
    }
}

/// Subsets in the order in which each was first added, which a set alone would not keep.
#[derive(Default)]
struct Distinct {
    subsets: Vec<Subset>,
    seen: HashSet<Subset>,
}

impl Distinct {
    fn add(&mut self, subset: Subset) {
        if self.seen.insert(subset.clone()) {
            self.subsets.push(subset);
        }
    }
}

/// At most `count` numbers of `range`, without repetition.
fn sample(range: std::ops::Range<usize>, count: usize, random: &mut SplitMix64) -> Vec<usize> {
    let mut numbers: Vec<usize> = range.collect();
    let count = count.min(numbers.len());
    for position in 0..count {
        let remaining = (numbers.len() - position) as u64;
        numbers.swap(position, position + random.below(remaining) as usize);
    }
    numbers.truncate(count);
    numbers
}

#[cfg(test)]
mod tests {
    use super::super::crash_point::Change;
    use super::*;

    /// `earlier` items of one write, then `last` items of another.
    fn pending(earlier: usize, last: usize) -> Vec<PendingItem> {
        let item = |event| PendingItem {
            event,
            change: Change::Truncate { to: 0 },
        };
        [vec![item(1); earlier], vec![item(2); last]].concat()
    }

    fn count(subset: &Subset) -> usize {
        subset.0.iter().filter(|chosen| **chosen).count()
    }

    #[test]
    fn of_few_items_every_subset_is_tried_once() {
        let mut random = SplitMix64::new(1);
        for len in 0..=10 {
            let subsets = SubsetPlan::default().subsets(&pending(0, len), &mut random);
            assert_eq!(subsets.len(), 1 << len);
            assert_eq!(subsets.iter().collect::<HashSet<_>>().len(), 1 << len);
        }
    }

    #[test]
    fn of_many_items_each_kind_is_there() {
        let items = pending(20, 10);
        let subsets = SubsetPlan::default().subsets(&items, &mut SplitMix64::new(1));
        assert_eq!(subsets[0], Subset::none(30));
        assert_eq!(subsets[1], Subset::all(30));
        for index in 0..30 {
            assert!(
                subsets.contains(&Subset::of(30, |other| other == index)),
                "{index} alone"
            );
            assert!(
                subsets.contains(&Subset::of(30, |other| other != index)),
                "all but {index}"
            );
        }
        for end in 20..30 {
            assert!(
                subsets.contains(&Subset::of(30, |index| index < end)),
                "the last write torn at {end}"
            );
        }
        let masks = subsets
            .iter()
            .filter(|subset| (0..20).all(|index| subset.contains(index)))
            .count();
        assert!(
            masks > 20,
            "beside the 20 prefixes and lone gaps there are random masks of the last write: {masks}"
        );
        assert_eq!(
            subsets.iter().collect::<HashSet<_>>().len(),
            subsets.len(),
            "no subset twice"
        );
        assert!(
            subsets
                .iter()
                .any(|subset| (5..25).contains(&count(subset)) && !subset.contains(0)),
            "random ones"
        );
    }

    #[test]
    fn of_very_many_items_no_more_than_planned_are_tried() {
        let plan = SubsetPlan::default();
        let subsets = plan.subsets(&pending(1000, 1000), &mut SplitMix64::new(1));
        let most = 2 + 2 * plan.singles + plan.random + plan.torn_prefixes + plan.torn_masks;
        assert!(
            (most - 1..=most).contains(&subsets.len()),
            "only the empty prefix can repeat: {}",
            subsets.len()
        );
        assert_eq!(
            subsets.iter().filter(|subset| count(subset) == 1).count(),
            plan.singles
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_subsets() {
        let items = pending(30, 30);
        let subsets = |seed| SubsetPlan::default().subsets(&items, &mut SplitMix64::new(seed));
        assert_eq!(subsets(5), subsets(5));
        assert_ne!(subsets(5), subsets(6));
    }
}
