//! What one table takes in the file.

use super::write::Source;
use crate::{pager::PageSource, tree::Measure};

/// The size and shape of a table, counted over all its pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TableStatistics {
    /// Rows.
    pub rows: u64,
    /// Levels of the tree; 0 for a table without rows.
    pub depth: u64,
    /// Pages that lead to other pages.
    pub branch_pages: u64,
    /// Pages that hold rows.
    pub leaf_pages: u64,
    /// Pages that hold values too long for a leaf.
    pub overflow_pages: u64,
    /// Bytes in use in branch and leaf pages, their headers included.
    pub tree_bytes: u64,
    /// Bytes of values too long for a leaf.
    pub overflow_bytes: u64,
    /// The page size in bytes.
    pub page_size: u64,
}

impl TableStatistics {
    pub(super) fn new(rows: u64, measure: &Measure, source: &Source<'_>) -> Self {
        Self {
            rows,
            depth: measure.depth,
            branch_pages: measure.branch_pages,
            leaf_pages: measure.leaf_pages,
            overflow_pages: measure.overflow_pages,
            tree_bytes: measure.used,
            overflow_bytes: measure.overflow_bytes,
            page_size: source.pager().page_size as u64,
        }
    }

    /// All pages of the table.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.branch_pages + self.leaf_pages + self.overflow_pages
    }

    /// The bytes that they take in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pages().saturating_mul(self.page_size)
    }

    /// How much of the branch and leaf pages is in use, from 0 to 1; 1 for a table without pages.
    #[must_use]
    pub fn fill(&self) -> f64 {
        match (self.branch_pages + self.leaf_pages).saturating_mul(self.page_size) {
            0 => 1.0,
            whole => self.tree_bytes as f64 / whole as f64,
        }
    }
}
