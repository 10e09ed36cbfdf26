//! What a tree takes in the file.

use super::{TreeRoot, overflow};
use crate::{
    error::Result,
    node::Node,
    page::{PageBytes, PageRef},
    pager::PageSource,
    space::PageSet,
};

/// Counts over all pages of a tree.
#[derive(Default)]
pub(crate) struct Measure {
    pub depth: u64,
    pub branch_pages: u64,
    pub leaf_pages: u64,
    pub overflow_pages: u64,
    /// Bytes in use in branch and leaf pages.
    pub used: u64,
    /// Bytes of long values.
    pub overflow_bytes: u64,
    /// Pages met, so that a damaged file in which many references lead to one page does not take for ever.
    seen: PageSet,
}

impl TreeRoot {
    /// Reads every page of the tree, and one page for each extent of each long value.
    pub fn measure(self, source: &impl PageSource) -> Result<Measure> {
        let mut measure = Measure::default();
        if !self.at.is_none() {
            measure.node(source, self.at, None)?;
        }
        Ok(measure)
    }
}

impl Measure {
    fn node(&mut self, source: &impl PageSource, at: PageRef, level: Option<u8>) -> Result<()> {
        let bytes = source.visit_node(at, level, |bytes, _| PageBytes::clone(bytes))?;
        if self.seen.contains(at.page) {
            let fault = "is in a tree twice";
            return Err(source.pager().corrupted(at.page, fault));
        }
        self.seen.insert(at.page);
        let node = Node::new(&bytes);
        self.used += node.used() as u64;
        self.depth = self.depth.max(u64::from(node.level()) + 1);
        if !node.is_leaf() {
            self.branch_pages += 1;
            return (0..node.len()).try_for_each(|index| {
                self.node(source, node.child(index).at, Some(node.level() - 1))
            });
        }
        self.leaf_pages += 1;
        for value in (0..node.len()).filter_map(|index| node.overflow(index)) {
            self.overflow_pages += overflow::pages(source, value)?.count;
            self.overflow_bytes += u64::from(value.length);
        }
        Ok(())
    }
}
