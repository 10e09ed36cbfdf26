//! The row of a large subtree: what lies three levels below its top.

use std::ops::Range;

use super::walk::{Rows, items};
use super::{GROUP_CAPACITY, LEVELS};
use crate::commitment::{BUCKET_CAPACITY, bucket_hash};
use crate::digest::Digest;
use crate::error::Result;
use crate::merkle::{EMPTY, node_hash};
use crate::prefix::Prefix;

/// How many children a fan has.
pub(super) const CHILDREN: usize = 1 << LEVELS;

/// What stands for a fan where the number of items of a group would stand.
const FAN: u8 = u8::MAX;

/// How a subtree is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As so many items, at most [`GROUP_CAPACITY`].
    Group(u8),
    /// As a row of its own.
    Fan,
}

/// A subtree at a depth that is a multiple of [`LEVELS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subtree {
    pub(super) hash: Digest,
    pub(super) form: Form,
}

/// The eight subtrees three levels below the top of a subtree, from left to right.
///
/// As a row: a byte for each, which is the number of items of a group or 255 for a fan, then the
/// hash of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fan {
    pub(super) children: [Subtree; CHILDREN],
}

impl Fan {
    pub(super) const BYTES: usize = CHILDREN * 33;

    /// A fan of empty groups, to be filled.
    pub(super) const EMPTY: Fan = Fan {
        children: [Subtree {
            hash: EMPTY,
            form: Form::Group(0),
        }; CHILDREN],
    };

    /// The items of some of the children, if they are all groups.
    fn count(&self, part: Range<usize>) -> Option<usize> {
        self.children[part]
            .iter()
            .map(|child| match child.form {
                Form::Group(items) => Some(usize::from(items)),
                Form::Fan => None,
            })
            .sum()
    }

    /// Whether all of it would fit into one group.
    pub(super) fn is_small(&self) -> bool {
        self.count(0..CHILDREN)
            .is_some_and(|items| items <= GROUP_CAPACITY)
    }

    /// Whether the subtree over some of the children is a bucket.
    pub(super) fn is_bucket(&self, part: Range<usize>) -> bool {
        self.count(part)
            .is_some_and(|items| items <= BUCKET_CAPACITY)
    }

    /// The hash of the subtree at `prefix`, which is the one over some of the children: one, two
    /// neighbours, one half, or all of them.
    pub(super) fn hash(
        &self,
        rows: Rows<'_, '_>,
        vault: u64,
        prefix: &Prefix,
        part: Range<usize>,
    ) -> Result<Digest> {
        if part.len() == 1 {
            return Ok(self.children[part.start].hash);
        }
        if self.is_bucket(part.clone()) {
            // The bucket of several groups, which is as good as never there: 65 or more items have
            // all but eight of their paths in a half or a quarter of the fan.
            return Ok(bucket_hash(&items(rows, vault, prefix, BUCKET_CAPACITY)?));
        }
        let [left, right] = halves(&part);
        Ok(node_hash(
            &self.hash(rows, vault, &prefix.child(false), left)?,
            &self.hash(rows, vault, &prefix.child(true), right)?,
        ))
    }

    pub(super) fn encode(&self) -> [u8; Fan::BYTES] {
        let mut row = [0; Fan::BYTES];
        let (forms, hashes) = row.split_at_mut(CHILDREN);
        for (child, (form, hash)) in self
            .children
            .iter()
            .zip(forms.iter_mut().zip(hashes.chunks_exact_mut(32)))
        {
            *form = match child.form {
                Form::Group(items) => items,
                Form::Fan => FAN,
            };
            hash.copy_from_slice(child.hash.as_bytes());
        }
        row
    }

    /// Reads what [`Fan::encode`] writes; `None` for every other row.
    pub(super) fn decode(row: &[u8]) -> Option<Fan> {
        let row: &[u8; Fan::BYTES] = row.try_into().ok()?;
        let (forms, hashes) = row.split_at(CHILDREN);
        let (hashes, _) = hashes.as_chunks::<32>();
        let mut fan = Fan::EMPTY;
        for (child, (&form, &hash)) in fan.children.iter_mut().zip(forms.iter().zip(hashes)) {
            *child = Subtree {
                hash: Digest(hash),
                form: match form {
                    FAN => Form::Fan,
                    items if usize::from(items) <= GROUP_CAPACITY => Form::Group(items),
                    _ => return None,
                },
            };
        }
        Some(fan)
    }
}

/// Both halves of a part of the children.
pub(super) fn halves(part: &Range<usize>) -> [Range<usize>; 2] {
    let middle = (part.start + part.end) / 2;
    [part.start..middle, middle..part.end]
}

/// Which child of a fan at `depth` a path leads to.
pub(super) fn child_of(path: &Digest, depth: u16) -> usize {
    (depth..depth + LEVELS).fold(0, |index, bit| index * 2 + usize::from(path.bit(bit)))
}

/// The prefixes of the children of a fan, from left to right.
pub(super) fn child_prefixes(prefix: &Prefix) -> impl Iterator<Item = Prefix> {
    (0..CHILDREN).map(|index| {
        (0..LEVELS)
            .rev()
            .fold(*prefix, |prefix, bit| prefix.child(index >> bit & 1 == 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fan() -> Fan {
        let mut fan = Fan::EMPTY;
        for (index, child) in (0..).zip(&mut fan.children) {
            child.hash = Digest::of(&[&[index]]);
            child.form = match index % 3 {
                0 => Form::Fan,
                _ => Form::Group(index * 8),
            };
        }
        fan
    }

    #[test]
    fn a_fan_reads_back_as_it_was_written() {
        assert_eq!(Fan::decode(&fan().encode()), Some(fan()));
        assert_eq!(Fan::decode(&Fan::EMPTY.encode()), Some(Fan::EMPTY));
    }

    #[test]
    fn a_damaged_row_is_no_fan() {
        let row = fan().encode();
        assert_eq!(Fan::decode(&row[1..]), None);
        assert_eq!(Fan::decode(&[&row[..], &[0]].concat()), None);
        let mut altered = row;
        altered[1] = 65;
        assert_eq!(Fan::decode(&altered), None, "a group of too many items");
    }

    #[test]
    fn the_children_follow_each_other_from_left_to_right() {
        let top = Prefix::ROOT.child(true).child(false).child(true);
        let texts: Vec<String> = child_prefixes(&top)
            .map(|child| child.to_string())
            .collect();
        let expected: Vec<String> = (0..8).map(|index| format!("101{index:03b}")).collect();
        assert_eq!(texts, expected);
    }
}
