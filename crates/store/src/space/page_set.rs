//! A set of page numbers that takes a word for every 64 neighbouring pages.

use std::collections::BTreeMap;

#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct PageSet {
    /// By page number divided by 64; no word is zero.
    words: BTreeMap<u64, u64>,
}

impl PageSet {
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub fn len(&self) -> u64 {
        self.words
            .values()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    pub fn contains(&self, page: u64) -> bool {
        self.words
            .get(&(page / 64))
            .is_some_and(|word| word & (1 << (page % 64)) != 0)
    }

    pub fn insert(&mut self, page: u64) {
        *self.words.entry(page / 64).or_default() |= 1 << (page % 64);
    }

    /// Whether the page was in the set.
    pub fn remove(&mut self, page: u64) -> bool {
        let Some(word) = self.words.get_mut(&(page / 64)) else {
            return false;
        };
        let bit = 1 << (page % 64);
        let found = *word & bit != 0;
        *word &= !bit;
        if *word == 0 {
            self.words.remove(&(page / 64));
        }
        found
    }

    pub fn union(&mut self, other: &Self) {
        for (&index, &word) in &other.words {
            *self.words.entry(index).or_default() |= word;
        }
    }

    /// The pages that are not in the other set.
    pub fn without(&self, other: &Self) -> Self {
        let rest = |(&index, &word): (&u64, &u64)| {
            let rest = word & !other.words.get(&index).copied().unwrap_or(0);
            (rest != 0).then_some((index, rest))
        };
        Self {
            words: self.words.iter().filter_map(rest).collect(),
        }
    }

    /// The pages in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.words.iter().flat_map(|(&index, &word)| {
            (0..64)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| index * 64 + bit)
        })
    }
}

impl FromIterator<u64> for PageSet {
    fn from_iter<I: IntoIterator<Item = u64>>(pages: I) -> Self {
        let mut set = Self::default();
        pages.into_iter().for_each(|page| set.insert(page));
        set
    }
}

impl Extend<u64> for PageSet {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, pages: I) {
        pages.into_iter().for_each(|page| self.insert(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_put_in_and_not_taken_out() {
        let mut set: PageSet = [3, 64, 63, 1 << 40].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 63, 64, 1 << 40]);
        assert!(set.remove(63) && !set.remove(63) && !set.remove(62));
        assert!(set.contains(64) && !set.contains(63));
        assert_eq!(set.len(), 3);
        for page in [3, 64, 1 << 40] {
            set.remove(page);
        }
        assert!(set.is_empty());
    }
}
