//! Pages: how much of a list is read at once.

use crate::limits::{MAX_PAGE, MAX_PAGE_BYTES};

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, P> {
    /// The rows, in the order of the list.
    pub items: Vec<T>,
    /// Where the next page begins; `None` when this is the last one.
    pub next: Option<P>,
}

impl<T, P> Page<T, P> {
    pub(super) fn new() -> Self {
        Page {
            items: Vec::new(),
            next: None,
        }
    }
}

/// How much a page holds at most. The first row is in it however large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Rows, never more than [`MAX_PAGE`], and at least one.
    pub rows: usize,
    /// Bytes of keys and values, never more than [`MAX_PAGE_BYTES`].
    pub bytes: usize,
}

impl From<usize> for PageLimit {
    /// So many rows, and as many bytes as a page may have.
    fn from(rows: usize) -> Self {
        PageLimit {
            rows,
            bytes: MAX_PAGE_BYTES,
        }
    }
}

impl PageLimit {
    pub(super) fn room(self) -> Room {
        Room {
            rows: self.rows.clamp(1, MAX_PAGE),
            bytes: self.bytes.min(MAX_PAGE_BYTES),
            empty: true,
        }
    }
}

/// What is left of a page.
pub(super) struct Room {
    rows: usize,
    bytes: usize,
    empty: bool,
}

impl Room {
    /// Takes the room of a row, unless there is not enough of it.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let Some(rows) = self.rows.checked_sub(1) else {
            return false;
        };
        if bytes > self.bytes && !self.empty {
            return false;
        }
        self.rows = rows;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.empty = false;
        true
    }
}
