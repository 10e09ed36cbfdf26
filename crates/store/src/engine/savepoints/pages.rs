//! Which pages a state has that another has not.
//!
//! A page never changes once it is published, so everything below it is as old as it or older. And a state to which the
//! database went back by its own transactions only, as `mod.rs` sees to, has a page that is older than a savepoint if
//! and only if the savepoint has it. So of two states the newer one has, besides pages of its own, subtrees that both
//! have, and their roots tell themselves by their numbers.

use super::super::Groups;
use crate::{
    catalog::TableRecord,
    error::{Error, Result},
    node::{Node, OverflowRef},
    page::{HEADER, PageRef},
    pager::PageSource,
    space::PageSet,
    tree::overflow,
    types::{Group, GroupSet},
    workspace::Owner,
};

/// What is done with the pages of a state.
pub(super) trait PageVisitor {
    /// Whether to go on with a node, or a long value, and all below it.
    fn enters(&mut self, at: PageRef) -> bool;

    /// A page that was entered, of a group.
    fn page(&mut self, at: PageRef, owner: Owner) -> Result<()>;
}

/// Visits the pages of a state. Reads the branches that are entered, the leaves of catalogs, and of other leaves those
/// with long values.
pub(super) fn visit_pages(
    source: &impl PageSource,
    groups: &Groups,
    visitor: &mut impl PageVisitor,
) -> Result<()> {
    let mut met = PageSet::default();
    for group in GroupSet::ALL {
        let owner = usize::from(group.index());
        let mut walk = PageWalk {
            source,
            visitor: &mut *visitor,
            group,
            tables: Vec::new(),
            met: std::mem::take(&mut met),
        };
        walk.node(Whose::Catalog, groups[owner].at, None, true)?;
        for table in std::mem::take(&mut walk.tables) {
            walk.node(Whose::Table, table, None, true)?;
        }
        met = walk.met;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Catalog,
    Table,
}

struct PageWalk<'w, S, V> {
    source: &'w S,
    visitor: &'w mut V,
    group: Group,
    /// The roots that the catalog has.
    tables: Vec<PageRef>,
    /// Pages met, so that a damaged file in which many references lead to one page does not take for ever.
    met: PageSet,
}

impl<S: PageSource, V: PageVisitor> PageWalk<'_, S, V> {
    fn page(&mut self, at: PageRef) -> Result<()> {
        if self.met.contains(at.page) {
            return Err(self.damaged(at.page, "is in a state twice"));
        }
        self.met.insert(at.page);
        self.visitor.page(at, usize::from(self.group.index()))
    }

    fn damaged(&self, page: u64, fault: &str) -> Error {
        self.source.pager().corrupted(page, fault)
    }

    fn node(&mut self, whose: Whose, at: PageRef, level: Option<u8>, long: bool) -> Result<()> {
        if at.is_none() || !self.visitor.enters(at) {
            return Ok(());
        }
        self.page(at)?;
        if level == Some(0) && !long && whose == Whose::Table {
            return Ok(());
        }
        let bytes = self
            .source
            .visit_node(at, level, |bytes, _| bytes.clone())?;
        let node = Node::new(&bytes);
        for index in 0..node.len() {
            if !node.is_leaf() {
                let child = node.child(index);
                self.node(whose, child.at, Some(node.level() - 1), child.overflow)?;
            } else if let Some(value) = node.overflow(index) {
                self.long_value(value)?;
            } else if whose == Whose::Catalog {
                let record = TableRecord::decode(node.body(index)).ok_or_else(|| {
                    self.damaged(at.page, "holds a table record of an unknown form")
                })?;
                self.tables.push(record.root.at);
            }
        }
        Ok(())
    }

    fn long_value(&mut self, value: OverflowRef) -> Result<()> {
        if !self.visitor.enters(value.at) {
            return Ok(());
        }
        let payload = self.source.pager().page_size - HEADER - overflow::EXTENT_HEADER;
        let most = u64::from(value.length).div_ceil(payload as u64);
        let (mut extent, mut met) = (value.at, 0);
        while !extent.is_none() {
            let (next, count) = overflow::read_extent_header(self.source, extent)?;
            met += count;
            if met > most {
                return Err(self.damaged(extent.page, "is no extent of a long value"));
            }
            for page in extent.page..extent.page + count {
                self.page(PageRef { page, ..extent })?;
            }
            extent = next;
        }
        Ok(())
    }
}

/// The roots of what a state has in common with a savepoint before it.
pub(super) struct Shared {
    /// The number of the savepoint.
    before: u64,
    roots: PageSet,
}

impl Shared {
    pub fn find(source: &impl PageSource, groups: &Groups, before: u64) -> Result<PageSet> {
        let mut shared = Self {
            before,
            roots: PageSet::default(),
        };
        visit_pages(source, groups, &mut shared)?;
        Ok(shared.roots)
    }
}

impl PageVisitor for Shared {
    fn enters(&mut self, at: PageRef) -> bool {
        let newer = at.transaction > self.before;
        if !newer {
            self.roots.insert(at.page);
        }
        newer
    }

    fn page(&mut self, _: PageRef, _: Owner) -> Result<()> {
        Ok(())
    }
}
