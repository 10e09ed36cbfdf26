//! Table groups: what is made durable together.

use std::fmt;
use std::ops::BitOr;

/// One of the sixteen groups a table can belong to. What a flush makes durable, and what a crash takes back to its last
/// flush, is a whole group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(u8);

impl Group {
    /// The number of groups a file has room for.
    pub const COUNT: usize = 16;

    /// The group of a table that names none.
    pub const DEFAULT: Self = Self::new(0);

    /// The group with this index.
    ///
    /// # Panics
    ///
    /// When `index` is greater than 15; at compile time where the group is a constant.
    #[must_use]
    pub const fn new(index: u8) -> Self {
        assert!(
            (index as usize) < Self::COUNT,
            "a group has an index from 0 to 15"
        );
        Self(index)
    }

    /// The group with an index that comes from a file, if there is one.
    #[must_use]
    pub const fn from_index(index: u8) -> Option<Self> {
        if (index as usize) < Self::COUNT {
            Some(Self(index))
        } else {
            None
        }
    }

    /// The index, from 0 to 15.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Group({})", self.0)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Any of the sixteen groups.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GroupSet(u16);

impl GroupSet {
    /// None of them.
    pub const EMPTY: Self = Self(0);

    /// All of them.
    pub const ALL: Self = Self(u16::MAX);

    /// The set as the bits of a number, the group with index 0 in the lowest.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set whose [`bits`](Self::bits) these are.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The set and `group`.
    #[must_use]
    pub const fn with(self, group: Group) -> Self {
        Self(self.0 | 1 << group.0)
    }

    /// The set but for `group`.
    #[must_use]
    pub const fn without(self, group: Group) -> Self {
        Self(self.0 & !(1 << group.0))
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `group` is in the set.
    #[must_use]
    pub const fn contains(self, group: Group) -> bool {
        self.0 & 1 << group.0 != 0
    }

    /// Whether no group is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The number of groups in the set.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The groups in the set, by index.
    #[must_use]
    pub const fn iter(self) -> Groups {
        Groups(self)
    }
}

impl fmt::Debug for GroupSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("GroupSet")?;
        formatter
            .debug_set()
            .entries(self.iter().map(Group::index))
            .finish()
    }
}

impl From<Group> for GroupSet {
    fn from(group: Group) -> Self {
        Self::EMPTY.with(group)
    }
}

impl FromIterator<Group> for GroupSet {
    fn from_iter<I: IntoIterator<Item = Group>>(groups: I) -> Self {
        groups.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl BitOr for GroupSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitOr<Group> for GroupSet {
    type Output = Self;

    fn bitor(self, group: Group) -> Self {
        self.with(group)
    }
}

impl BitOr for Group {
    type Output = GroupSet;

    fn bitor(self, other: Self) -> GroupSet {
        GroupSet::from(self).with(other)
    }
}

impl BitOr<GroupSet> for Group {
    type Output = GroupSet;

    fn bitor(self, set: GroupSet) -> GroupSet {
        set.with(self)
    }
}

impl IntoIterator for GroupSet {
    type Item = Group;
    type IntoIter = Groups;

    fn into_iter(self) -> Groups {
        self.iter()
    }
}

/// The groups of a [`GroupSet`], by index.
#[derive(Clone, Debug)]
pub struct Groups(GroupSet);

impl Iterator for Groups {
    type Item = Group;

    fn next(&mut self) -> Option<Group> {
        // An empty set has 16 trailing zeros, which is the index of no group.
        let group = Group::from_index(self.0.0.trailing_zeros() as u8)?;
        self.0 = self.0.without(group);
        Some(group)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl ExactSizeIterator for Groups {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_from_a_file_is_checked() {
        assert_eq!(Group::from_index(15), Some(Group::new(15)));
        assert_eq!(Group::from_index(16), None);
        assert_eq!(Group::from_index(255), None);
    }

    #[test]
    #[should_panic(expected = "from 0 to 15")]
    fn a_group_past_the_last_is_a_mistake_of_the_caller() {
        let _ = Group::new(16);
    }

    #[test]
    fn a_set_gives_back_the_groups_put_in_by_index() {
        let set = Group::new(15) | Group::new(3) | Group::DEFAULT;
        let indexes: Vec<u8> = set.iter().map(Group::index).collect();
        assert_eq!(indexes, [0, 3, 15]);
        assert_eq!(set.iter().collect::<GroupSet>(), set);
        assert_eq!(GroupSet::from_bits(set.bits()), set);
        assert_eq!(GroupSet::ALL.iter().count(), 16);
        assert_eq!(GroupSet::ALL.len(), 16);
        assert_eq!(GroupSet::EMPTY.iter().next(), None);
    }

    #[test]
    fn taking_a_group_out_leaves_the_others() {
        let set = GroupSet::ALL.without(Group::new(7));
        assert!(!set.contains(Group::new(7)));
        assert_eq!(set | Group::new(7), GroupSet::ALL);
        assert_eq!(set.intersection(Group::new(7).into()), GroupSet::EMPTY);
        assert!(set.intersection(Group::new(7).into()).is_empty());
    }
}
