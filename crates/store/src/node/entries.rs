//! Nodes as lists of entries: how they are rebuilt, split and merged.

use super::{ARRAYS, CELL_HEADER, Node, NodeMut, SLOT_SIZE};

/// An entry outside its node. The key is in two parts: the prefix of the node it comes from, and the rest.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    prefix: &'a [u8],
    suffix: &'a [u8],
    pub body: &'a [u8],
    /// Whether the body of a leaf entry is an `OverflowRef`.
    pub overflow: bool,
}

impl<'a> Entry<'a> {
    pub fn new(key: &'a [u8], body: &'a [u8], overflow: bool) -> Self {
        Self {
            prefix: &[],
            suffix: key,
            body,
            overflow,
        }
    }

    /// The same body under another key.
    pub fn with_key(self, key: &'a [u8]) -> Self {
        Self {
            prefix: &[],
            suffix: key,
            ..self
        }
    }

    pub fn key_len(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    fn key_bytes(&self) -> impl Iterator<Item = u8> {
        self.prefix.iter().chain(self.suffix).copied()
    }

    pub fn key(&self) -> Vec<u8> {
        [self.prefix, self.suffix].concat()
    }

    pub(super) fn starts_with(&self, prefix: &[u8]) -> bool {
        if self.prefix.is_empty() {
            return self.suffix.starts_with(prefix);
        }
        self.key_len() >= prefix.len() && self.key_bytes().zip(prefix).all(|(a, &b)| a == b)
    }

    /// Copies the key from byte `from` on.
    pub(super) fn copy_key_from(&self, from: usize, target: &mut [u8]) {
        let of_prefix = self.prefix.get(from..).unwrap_or(&[]);
        let of_suffix = &self.suffix[from.saturating_sub(self.prefix.len())..];
        target[..of_prefix.len()].copy_from_slice(of_prefix);
        target[of_prefix.len()..].copy_from_slice(of_suffix);
    }

    fn common_prefix(&self, other: &Self) -> usize {
        self.key_bytes()
            .zip(other.key_bytes())
            .take_while(|(a, b)| a == b)
            .count()
    }
}

/// All entries of a node. The key of a branch's entry 0 is left empty.
pub(crate) fn gather(node: Node<'_>) -> Vec<Entry<'_>> {
    let prefix = node.prefix();
    let mut entries: Vec<_> = (0..node.len())
        .map(|index| Entry {
            prefix,
            suffix: node.suffix(index),
            body: node.body(index),
            overflow: node.flag(index),
        })
        .collect();
    if !node.is_leaf()
        && let Some(first) = entries.first_mut()
    {
        (first.prefix, first.suffix) = (&[], &[]);
    }
    entries
}

/// The length of the prefix that the entries share.
fn shared_prefix(entries: &[Entry<'_>], leaf: bool) -> usize {
    match (entries.get(usize::from(!leaf)), entries.last()) {
        (Some(first), Some(last)) => first.common_prefix(last),
        _ => 0,
    }
}

/// The bytes a node of these entries would use.
pub(crate) fn size(entries: &[Entry<'_>], leaf: bool) -> usize {
    let prefix = shared_prefix(entries, leaf);
    let cells: usize = entries
        .iter()
        .map(|entry| {
            SLOT_SIZE + CELL_HEADER + entry.key_len().saturating_sub(prefix) + entry.body.len()
        })
        .sum();
    ARRAYS + prefix + cells
}

/// The bytes a leaf uses whose entries come in order, counted as they come.
#[derive(Clone, Copy, Default)]
pub(crate) struct LeafSize {
    entries: usize,
    prefix: usize,
    keys_and_bodies: usize,
}

impl LeafSize {
    /// The size with one entry more. `first` is the key of the first one, if there are any.
    pub fn with(self, first: &[u8], key: &[u8], body: usize) -> Self {
        let first = if self.entries == 0 { key } else { first };
        Self {
            entries: self.entries + 1,
            prefix: first.iter().zip(key).take_while(|(a, b)| a == b).count(),
            keys_and_bodies: self.keys_and_bodies + key.len() + body,
        }
    }

    pub fn bytes(self) -> usize {
        let cells = self.entries * (SLOT_SIZE + CELL_HEADER) + self.keys_and_bodies;
        ARRAYS + self.prefix + cells - self.entries * self.prefix
    }
}

/// Fills a node with these entries and nothing else. False, and nothing changed, if they do not fit.
pub(crate) fn build(node: &mut NodeMut<'_>, entries: &[Entry<'_>]) -> bool {
    let leaf = node.read().is_leaf();
    if size(entries, leaf) > node.bytes_len() {
        return false;
    }
    let prefix_len = shared_prefix(entries, leaf);
    let prefix: Vec<u8> = entries
        .last()
        .map_or_else(Vec::new, |last| last.key_bytes().take(prefix_len).collect());
    node.reset(&prefix);
    for (index, &entry) in entries.iter().enumerate() {
        // The first entry of a branch has no key of its own; it gets the prefix for one.
        let entry = if index == 0 && !leaf {
            entry.with_key(&prefix)
        } else {
            entry
        };
        node.insert_cell(index, entry);
    }
    true
}

/// Where to split entries that do not fit one page, so that both parts fit theirs and are about equal.
pub(crate) fn split_point(entries: &[Entry<'_>], leaf: bool, page_size: usize) -> usize {
    let fits = |point: usize| {
        size(&entries[..point], leaf) <= page_size && size(&entries[point..], leaf) <= page_size
    };
    let total: usize = entries
        .iter()
        .map(|entry| entry.suffix.len() + entry.body.len() + SLOT_SIZE + CELL_HEADER)
        .sum();
    let mut left = 0;
    let middle = entries
        .iter()
        .position(|entry| {
            left += entry.suffix.len() + entry.body.len() + SLOT_SIZE + CELL_HEADER;
            left * 2 >= total
        })
        .unwrap_or(0)
        .clamp(1, entries.len() - 1);
    // Nearly always the middle fits. It may not when one key shares no prefix with its neighbours.
    let distance = |point: &usize| point.abs_diff(middle);
    if fits(middle) {
        return middle;
    }
    (1..entries.len())
        .filter(|&point| fits(point))
        .min_by_key(distance)
        .expect(
            "an entry takes at most a quarter page, and all but the new one shared a page before",
        )
}

/// The shortest key that is greater than `left` and not greater than `right`.
pub(crate) fn separator(left: &Entry<'_>, right: &Entry<'_>) -> Vec<u8> {
    right
        .key_bytes()
        .take(left.common_prefix(right) + 1)
        .collect()
}
