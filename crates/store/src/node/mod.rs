//! Slotted pages: the nodes of a tree.
//!
//! After the page header (`page.rs`, whose bytes 28..30 hold the number of entries and 30..32 the length of the prefix):
//!
//! | bytes | field |
//! |---|---|
//! | 32..36 | start of the heap: the lowest byte used by a cell |
//! | 36..40 | bytes of the heap that no slot refers to |
//! | 40.. | the prefix that all keys of the node share, stored once |
//! | then | heads: for each entry the first four bytes of its key after the prefix, zero-padded, as an integer |
//! | then | offsets: for each entry where its cell starts, u16 |
//! | | free space |
//! | ..end | cells, from the end of the page downwards |
//!
//! A cell is the length of the key after the prefix (u16), the length of the body (15 bits) and a flag (1 bit), the rest
//! of the key, the body. In a leaf the body is the value or, if the flag is set, an `OverflowRef`. In a branch it is a
//! `Child`.
//!
//! Heads are packed together so that a search touches two or three cache lines (the idea is from LeanStore and from
//! Graefe's "poor man's normalized keys"); cells are read only where heads are equal.
//!
//! Entry 0 of a branch stands for everything below entry 1: its key is never looked at, and it does not count for the
//! prefix.

mod edit;
mod entries;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    edit::NodeMut,
    entries::{Entry, LeafSize, build, gather, separator, size, split_point},
};
use crate::{
    bytes::{read_u16, read_u32, read_u64, write_u64},
    page::{HEADER, PageKind, PageRef, level},
};

const HEAP_START: usize = HEADER;
const GARBAGE: usize = HEADER + 4;
const ARRAYS: usize = HEADER + 8;

const HEAD_SIZE: usize = 4;
const OFFSET_SIZE: usize = 2;
const SLOT_SIZE: usize = HEAD_SIZE + OFFSET_SIZE;
const CELL_HEADER: usize = 4;
const FLAG: u16 = 1 << 15;

/// Levels above this are damage: a tree of two entries a page could not grow so high.
const MAX_LEVEL: u8 = 64;

/// The most a single entry may take, so that four fit into a page and every split succeeds.
pub(crate) fn max_entry(page_size: usize) -> usize {
    (page_size - ARRAYS) / 4
}

/// The longest key a page can hold: a branch must have room for it beside a `Child`.
pub(crate) const fn max_key(page_size: usize) -> usize {
    page_size / 4 - 64
}

/// Whether a value is stored in the leaf itself.
pub(crate) fn fits_inline(page_size: usize, key: usize, value: usize) -> bool {
    SLOT_SIZE + CELL_HEADER + key + value <= max_entry(page_size)
}

/// What a branch knows of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Child {
    pub at: PageRef,
    /// Rows in the leaves below.
    pub rows: u64,
    /// Whether some value below may have overflow pages. Never false when there is one.
    pub overflow: bool,
}

impl Child {
    const SIZE: usize = 24;
    const OVERFLOW: u64 = 1 << 63;

    pub fn read(body: &[u8]) -> Self {
        let rows = read_u64(body, 16);
        Self {
            at: PageRef::read(body, 0),
            rows: rows & !Self::OVERFLOW,
            overflow: rows & Self::OVERFLOW != 0,
        }
    }

    pub fn encode(self) -> [u8; Self::SIZE] {
        let mut body = [0; Self::SIZE];
        self.at.write(&mut body, 0);
        write_u64(
            &mut body,
            16,
            self.rows | if self.overflow { Self::OVERFLOW } else { 0 },
        );
        body
    }
}

/// Where a value is that does not fit its leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OverflowRef {
    /// The first page of the first extent.
    pub at: PageRef,
    /// The length of the value in bytes.
    pub length: u32,
}

impl OverflowRef {
    const SIZE: usize = 20;

    pub fn read(body: &[u8]) -> Self {
        Self {
            at: PageRef::read(body, 0),
            length: read_u32(body, 16),
        }
    }

    pub fn encode(self) -> [u8; Self::SIZE] {
        let mut body = [0; Self::SIZE];
        self.at.write(&mut body, 0);
        body[16..].copy_from_slice(&self.length.to_le_bytes());
        body
    }
}

/// The first four bytes of a key, zero-padded, as an integer whose order is the order of those bytes.
fn head_of(suffix: &[u8]) -> u32 {
    let mut head = [0; HEAD_SIZE];
    let length = suffix.len().min(HEAD_SIZE);
    head[..length].copy_from_slice(&suffix[..length]);
    u32::from_be_bytes(head)
}

/// The first index of a range for which `before` is false, given that it is true up to there and false from there on.
fn partition(mut low: usize, mut high: usize, before: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = (low + high) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// A node that is only read. Its bytes passed `validate` when they entered memory, or were written by this module.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    bytes: &'a [u8],
}

impl<'a> Node<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    #[inline]
    pub fn level(self) -> u8 {
        level(self.bytes)
    }

    #[inline]
    pub fn is_leaf(self) -> bool {
        self.level() == 0
    }

    #[inline]
    pub fn len(self) -> usize {
        usize::from(read_u16(self.bytes, 28))
    }

    #[inline]
    fn prefix_len(self) -> usize {
        usize::from(read_u16(self.bytes, 30))
    }

    #[inline]
    pub fn prefix(self) -> &'a [u8] {
        &self.bytes[ARRAYS..ARRAYS + self.prefix_len()]
    }

    #[inline]
    fn heads(self) -> usize {
        ARRAYS + self.prefix_len()
    }

    #[inline]
    fn offsets(self) -> usize {
        self.heads() + self.len() * HEAD_SIZE
    }

    #[inline]
    fn head(self, index: usize) -> u32 {
        read_u32(self.bytes, self.heads() + index * HEAD_SIZE)
    }

    /// Where in the page the cell of an entry begins.
    #[inline]
    pub fn cell(self, index: usize) -> usize {
        usize::from(read_u16(self.bytes, self.offsets() + index * OFFSET_SIZE))
    }

    fn cell_size(self, index: usize) -> usize {
        let cell = self.cell(index);
        CELL_HEADER
            + usize::from(read_u16(self.bytes, cell))
            + usize::from(read_u16(self.bytes, cell + 2) & !FLAG)
    }

    /// The key of an entry after the node's prefix.
    #[inline]
    pub fn suffix(self, index: usize) -> &'a [u8] {
        let cell = self.cell(index);
        &self.bytes[cell + CELL_HEADER..][..usize::from(read_u16(self.bytes, cell))]
    }

    /// The bytes of a key, one by one: for a comparison that ends early.
    pub fn key_bytes(self, index: usize) -> impl Iterator<Item = &'a u8> {
        self.prefix().iter().chain(self.suffix(index))
    }

    pub fn key(self, index: usize) -> Vec<u8> {
        [self.prefix(), self.suffix(index)].concat()
    }

    #[inline]
    pub fn body(self, index: usize) -> &'a [u8] {
        let range = self.body_range(index);
        &self.bytes[range]
    }

    /// Where in the page the body of an entry lies.
    #[inline]
    pub fn body_range(self, index: usize) -> std::ops::Range<usize> {
        let cell = self.cell(index);
        let start = cell + CELL_HEADER + usize::from(read_u16(self.bytes, cell));
        start..start + usize::from(read_u16(self.bytes, cell + 2) & !FLAG)
    }

    #[inline]
    fn flag(self, index: usize) -> bool {
        read_u16(self.bytes, self.cell(index) + 2) & FLAG != 0
    }

    /// Where the value of a leaf entry is, if it is not in the leaf.
    #[inline]
    pub fn overflow(self, index: usize) -> Option<OverflowRef> {
        self.flag(index)
            .then(|| OverflowRef::read(self.body(index)))
    }

    pub fn child(self, index: usize) -> Child {
        Child::read(self.body(index))
    }

    /// The node as its parent should describe it.
    pub fn describe(self, at: PageRef) -> Child {
        if self.is_leaf() {
            let overflow = (0..self.len()).any(|index| self.flag(index));
            return Child {
                at,
                rows: self.len() as u64,
                overflow,
            };
        }
        (0..self.len()).map(|index| self.child(index)).fold(
            Child {
                at,
                rows: 0,
                overflow: false,
            },
            |sum, child| Child {
                at,
                rows: sum.rows.wrapping_add(child.rows),
                overflow: sum.overflow | child.overflow,
            },
        )
    }

    /// Where a key is in a leaf, or where it belongs.
    pub fn search(self, key: &[u8]) -> Result<usize, usize> {
        self.search_from(0, key)
    }

    /// Whether a key lies between those before and after entry `index`, where a branch is to get it.
    pub fn admits(self, index: usize, key: &[u8]) -> bool {
        let after = index < 2 || self.key(index - 1).as_slice() < key;
        after && (index >= self.len() || key < self.key(index).as_slice())
    }

    /// The child of a branch under which a key belongs.
    pub fn child_index(self, key: &[u8]) -> usize {
        match self.search_from(1, key) {
            Ok(index) => index,
            Err(index) => index - 1,
        }
    }

    fn search_from(self, first: usize, key: &[u8]) -> Result<usize, usize> {
        let len = self.len();
        let prefix = self.prefix();
        let shared = prefix.len().min(key.len());
        match key[..shared].cmp(&prefix[..shared]) {
            std::cmp::Ordering::Less => return Err(first),
            std::cmp::Ordering::Greater => return Err(len.max(first)),
            std::cmp::Ordering::Equal if key.len() < prefix.len() => return Err(first),
            std::cmp::Ordering::Equal => {}
        }
        let suffix = &key[prefix.len()..];
        let head = head_of(suffix);
        let low = partition(first, len, |index| self.head(index) < head);
        if low == len || self.head(low) != head {
            return Err(low);
        }
        // Among equal heads the whole suffix decides; mostly there is only one.
        match self.suffix(low).cmp(suffix) {
            std::cmp::Ordering::Equal => return Ok(low),
            std::cmp::Ordering::Greater => return Err(low),
            std::cmp::Ordering::Less => {}
        }
        let low = partition(low + 1, len, |index| {
            (self.head(index), self.suffix(index)) < (head, suffix)
        });
        if low < len && self.suffix(low) == suffix {
            Ok(low)
        } else {
            Err(low)
        }
    }

    fn heap_start(self) -> usize {
        read_u32(self.bytes, HEAP_START) as usize
    }

    fn garbage(self) -> usize {
        read_u32(self.bytes, GARBAGE) as usize
    }

    fn gap(self) -> usize {
        self.heap_start() - (self.heads() + self.len() * SLOT_SIZE)
    }

    /// Bytes in use, of a page of `bytes.len()`.
    pub fn used(self) -> usize {
        self.bytes.len() - self.gap() - self.garbage()
    }

    /// Whether the node is empty enough that it should be merged with a neighbour.
    pub fn is_underfull(self) -> bool {
        self.used() < self.bytes.len() / 4
    }
}

/// Checks a page's structure, so that reading it afterwards cannot leave its bounds. The checksum is somebody else's.
pub(crate) fn validate(bytes: &[u8]) -> Result<(), String> {
    let node = Node::new(bytes);
    let leaf = match PageKind::of(bytes) {
        Some(PageKind::Leaf) if node.level() == 0 => true,
        Some(PageKind::Branch) if (1..=MAX_LEVEL).contains(&node.level()) => false,
        _ => {
            return Err(format!(
                "kind {} at level {} is not a node of a tree",
                bytes[4], bytes[5]
            ));
        }
    };
    let len = node.len();
    let arrays_end = ARRAYS + node.prefix_len() + len * SLOT_SIZE;
    if arrays_end > node.heap_start() || node.heap_start() > bytes.len() {
        return Err(format!(
            "{len} entries and a heap from {} do not fit the page",
            node.heap_start()
        ));
    }
    if len == 0 {
        return Err("a node without entries".into());
    }
    let mut cells = 0;
    for index in 0..len {
        let cell = node.cell(index);
        if cell < node.heap_start()
            || cell + CELL_HEADER > bytes.len()
            || cell + node.cell_size(index) > bytes.len()
        {
            return Err(format!("the cell of entry {index} lies outside the heap"));
        }
        cells += node.cell_size(index);
        let body = node.body_range(index).len();
        let key = node.prefix_len() + node.suffix(index).len();
        if key > max_key(bytes.len())
            || SLOT_SIZE + CELL_HEADER + key + body > max_entry(bytes.len())
        {
            return Err(format!("entry {index} takes more than a quarter page"));
        }
        if (!leaf && body != Child::SIZE) || (leaf && node.flag(index) && body != OverflowRef::SIZE)
        {
            return Err(format!("entry {index} has a body of {body} bytes"));
        }
        if !leaf && index == 0 {
            continue;
        }
        if node.head(index) != head_of(node.suffix(index)) {
            return Err(format!("the head of entry {index} is not that of its key"));
        }
        if index > usize::from(!leaf) && node.suffix(index - 1) >= node.suffix(index) {
            return Err(format!(
                "the keys of entries {} and {index} are out of order",
                index - 1
            ));
        }
    }
    // No byte of the heap belongs to two entries, so that removing all of them cannot give back more than there is.
    if cells + node.garbage() != bytes.len() - node.heap_start() {
        return Err("the cells do not fill the heap".into());
    }
    Ok(())
}
