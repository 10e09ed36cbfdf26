//! Copy-on-write B+ trees of byte strings.
//!
//! A tree is its root and its number of rows. Readers descend from a root they hold; the writer copies the path to what
//! it changes into pages of its own and gets a new root.

mod append;
mod changes;
mod cursor;
mod filling;
mod measure;
pub(crate) mod overflow;
mod position;
mod rebalance;
mod relocate;
mod remove_range;
mod remove_rows;
mod seek;
mod write;

pub(crate) use self::{
    append::Batch,
    changes::{Change, Changes},
    cursor::{BorrowedBytes, Cursor, KeyRange, Row, is_empty, lower_index, upper_index},
    filling::Filling,
    measure::Measure,
    position::{Direction, Position, Target},
    relocate::Relocation,
    seek::Seeker,
    write::Tree,
};
use crate::{
    error::Result,
    node::Node,
    page::{PageBytes, PageRef},
    pager::PageSource,
};

/// A tree as its owner records it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TreeRoot {
    pub at: PageRef,
    pub rows: u64,
}

impl TreeRoot {
    pub const EMPTY: Self = Self {
        at: PageRef::NONE,
        rows: 0,
    };

    /// The value of a key.
    pub fn get(self, source: &impl PageSource, key: &[u8]) -> Result<Option<StoredBytes>> {
        let Some((leaf, index)) = self.find(source, key)? else {
            return Ok(None);
        };
        read_value(source, &leaf, index).map(Some)
    }

    /// Hands over the value of a key, a long one page by page; gives back its length.
    pub fn get_in_parts(
        self,
        source: &impl PageSource,
        key: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<u64>> {
        let Some((leaf, index)) = self.find(source, key)? else {
            return Ok(None);
        };
        let node = Node::new(&leaf);
        if let Some(value) = node.overflow(index) {
            overflow::read_parts(source, value, take)?;
            return Ok(Some(u64::from(value.length)));
        }
        let value = node.body(index);
        take(value)?;
        Ok(Some(value.len() as u64))
    }

    pub fn contains(self, source: &impl PageSource, key: &[u8]) -> Result<bool> {
        Ok(self.find(source, key)?.is_some())
    }

    /// The leaf that holds a key, and the place in it. The leaf stays in memory as long as the caller keeps it.
    fn find(self, source: &impl PageSource, key: &[u8]) -> Result<Option<(PageBytes, usize)>> {
        enum Step {
            Down(PageRef, u8),
            Found(PageBytes, usize),
            Missing,
        }
        if self.at.is_none() {
            return Ok(None);
        }
        let (mut at, mut level) = (self.at, None);
        loop {
            let step = source.visit_node(at, level, |bytes, node| {
                if !node.is_leaf() {
                    return Step::Down(node.child(node.child_index(key)).at, node.level() - 1);
                }
                node.search(key)
                    .map_or(Step::Missing, |index| Step::Found(bytes.clone(), index))
            })?;
            match step {
                Step::Down(child, child_level) => (at, level) = (child, Some(child_level)),
                Step::Found(leaf, index) => return Ok(Some((leaf, index))),
                Step::Missing => return Ok(None),
            }
        }
    }
}

/// The bytes of a value, kept alive with their leaf where they are in it.
#[derive(Clone)]
pub(crate) enum StoredBytes {
    InLeaf {
        leaf: PageBytes,
        range: std::ops::Range<usize>,
    },
    /// As long as a key mostly is, and no longer than what the others need anyway.
    Short {
        length: u8,
        bytes: [u8; SHORT],
    },
    Owned(Vec<u8>),
}

const SHORT: usize = 38;

impl StoredBytes {
    /// The bytes of a key, which its node has in two parts.
    #[inline]
    pub fn of_key(prefix: &[u8], suffix: &[u8]) -> Self {
        let length = prefix.len() + suffix.len();
        if length > SHORT {
            return Self::Owned([prefix, suffix].concat());
        }
        let mut bytes = [0; SHORT];
        bytes[..prefix.len()].copy_from_slice(prefix);
        bytes[prefix.len()..length].copy_from_slice(suffix);
        Self::Short {
            length: length as u8,
            bytes,
        }
    }

    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::InLeaf { leaf, range } => &leaf[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }

    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Owned(bytes) => bytes,
            other => other.as_slice().to_vec(),
        }
    }
}

/// The value of an entry of a leaf.
#[inline]
pub(crate) fn read_value(
    source: &impl PageSource,
    leaf: &PageBytes,
    index: usize,
) -> Result<StoredBytes> {
    let node = Node::new(leaf);
    match node.overflow(index) {
        Some(at) => Ok(StoredBytes::Owned(overflow::read(source, at)?)),
        None => Ok(StoredBytes::InLeaf {
            leaf: leaf.clone(),
            range: node.body_range(index),
        }),
    }
}
