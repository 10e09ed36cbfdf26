//! Changing a node in place.

use super::{
    ARRAYS, CELL_HEADER, Child, Entry, FLAG, GARBAGE, HEAD_SIZE, HEAP_START, Node, OFFSET_SIZE,
    SLOT_SIZE, build, gather, head_of,
};
use crate::{
    bytes::{write_u16, write_u32},
    page::{PageKind, PageRef, write_header},
};

/// A node that belongs to the running transaction.
pub(crate) struct NodeMut<'a> {
    bytes: &'a mut [u8],
}

impl<'a> NodeMut<'a> {
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }

    /// Makes an empty node of a page.
    pub fn format(bytes: &'a mut [u8], level: u8, at: PageRef, table: u32) -> Self {
        let kind = if level == 0 {
            PageKind::Leaf
        } else {
            PageKind::Branch
        };
        write_header(bytes, kind, level, at, table);
        let mut node = Self { bytes };
        node.reset(&[]);
        node
    }

    pub fn read(&self) -> Node<'_> {
        Node::new(self.bytes)
    }

    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Drops all entries and sets the prefix that later ones share.
    pub(super) fn reset(&mut self, prefix: &[u8]) {
        write_u16(self.bytes, 28, 0);
        write_u16(self.bytes, 30, prefix.len() as u16);
        write_u32(self.bytes, HEAP_START, self.bytes.len() as u32);
        write_u32(self.bytes, GARBAGE, 0);
        self.bytes[ARRAYS..ARRAYS + prefix.len()].copy_from_slice(prefix);
    }

    /// Puts an entry before entry `index`. False, and nothing changed, if there is no room for it.
    pub fn insert(&mut self, index: usize, entry: Entry<'_>) -> bool {
        let prefix_len = self.read().prefix_len();
        if entry.key_len() >= prefix_len && entry.starts_with(self.read().prefix()) {
            let cell = CELL_HEADER + entry.key_len() - prefix_len + entry.body.len();
            if SLOT_SIZE + cell <= self.read().gap() {
                self.insert_cell(index, entry);
                return true;
            }
            if SLOT_SIZE + cell > self.read().gap() + self.read().garbage() {
                return false;
            }
        }
        let old = self.bytes.to_vec();
        let mut entries = gather(Node::new(&old));
        entries.insert(index, entry);
        build(self, &entries)
    }

    /// Puts an entry where `insert` or `build` found room for it.
    pub(super) fn insert_cell(&mut self, index: usize, entry: Entry<'_>) {
        let node = self.read();
        let (len, heads, prefix_len) = (node.len(), node.heads(), node.prefix_len());
        let offsets = heads + len * HEAD_SIZE;
        let suffix_len = entry.key_len() - prefix_len;
        let cell = node.heap_start() - (CELL_HEADER + suffix_len + entry.body.len());

        let flag = if entry.overflow { FLAG } else { 0 };
        write_u16(self.bytes, cell, suffix_len as u16);
        write_u16(self.bytes, cell + 2, entry.body.len() as u16 | flag);
        let suffix_at = cell + CELL_HEADER;
        entry.copy_key_from(
            prefix_len,
            &mut self.bytes[suffix_at..suffix_at + suffix_len],
        );
        self.bytes[suffix_at + suffix_len..][..entry.body.len()].copy_from_slice(entry.body);
        let head = head_of(&self.bytes[suffix_at..suffix_at + suffix_len]);

        // Open a gap in both arrays, from the end backwards.
        self.bytes.copy_within(
            offsets + index * OFFSET_SIZE..offsets + len * OFFSET_SIZE,
            offsets + index * OFFSET_SIZE + SLOT_SIZE,
        );
        self.bytes.copy_within(
            heads + index * HEAD_SIZE..offsets + index * OFFSET_SIZE,
            heads + index * HEAD_SIZE + HEAD_SIZE,
        );
        write_u32(self.bytes, heads + index * HEAD_SIZE, head);
        write_u16(
            self.bytes,
            offsets + HEAD_SIZE + index * OFFSET_SIZE,
            cell as u16,
        );
        write_u16(self.bytes, 28, (len + 1) as u16);
        write_u32(self.bytes, HEAP_START, cell as u32);
    }

    /// Takes out the entries of a range.
    pub fn remove(&mut self, range: std::ops::Range<usize>) {
        let node = self.read();
        let (len, heads, heap_start) = (node.len(), node.heads(), node.heap_start());
        let freed: usize = range.clone().map(|index| node.cell_size(index)).sum();
        let garbage = node.garbage() + freed;
        let offsets = heads + len * HEAD_SIZE;
        let count = range.len();
        self.bytes.copy_within(
            heads + range.end * HEAD_SIZE..offsets + range.start * OFFSET_SIZE,
            heads + range.start * HEAD_SIZE,
        );
        self.bytes.copy_within(
            offsets + range.end * OFFSET_SIZE..offsets + len * OFFSET_SIZE,
            offsets - count * HEAD_SIZE + range.start * OFFSET_SIZE,
        );
        write_u16(self.bytes, 28, (len - count) as u16);
        if len == count {
            write_u32(self.bytes, HEAP_START, self.bytes.len() as u32);
            write_u32(self.bytes, GARBAGE, 0);
        } else {
            write_u32(self.bytes, HEAP_START, heap_start as u32);
            write_u32(self.bytes, GARBAGE, garbage as u32);
        }
    }

    /// Replaces the body of an entry by one of the same length. False, and nothing changed, if the length differs.
    pub fn overwrite_body(&mut self, index: usize, body: &[u8], overflow: bool) -> bool {
        let node = self.read();
        let (range, cell) = (node.body_range(index), node.cell(index));
        if range.len() != body.len() {
            return false;
        }
        self.bytes[range].copy_from_slice(body);
        let flag = if overflow { FLAG } else { 0 };
        write_u16(self.bytes, cell + 2, body.len() as u16 | flag);
        true
    }

    pub fn set_child(&mut self, index: usize, child: Child) {
        let replaced = self.overwrite_body(index, &child.encode(), false);
        debug_assert!(replaced, "the body of a branch entry has one length");
    }
}
