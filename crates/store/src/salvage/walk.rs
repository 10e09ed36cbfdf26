//! The walk from a root over everything that can be read, and what it could not.

use super::source::Source;
use crate::{
    error::Result,
    node::Node,
    page::{PageBytes, PageRef},
    space::PageBits,
    tree::TreeRoot,
};

/// Which pages the walks have met. One bit a page each.
#[derive(Default)]
pub(super) struct Marks {
    /// A page that could be read refers to it.
    pub referenced: PageBits,
    /// It could be read as what it is referred to.
    pub taken: PageBits,
    /// How many those are.
    pub met: u64,
    /// Pages that could not.
    pub unreadable: u64,
}

/// A part of a tree that could not be reached.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    /// The least key that may be in it; none for the start of the order.
    pub low: Option<Vec<u8>>,
    /// The least key beyond it; none for the end of the order.
    pub high: Option<Vec<u8>>,
    /// The rows that are recorded for it.
    pub rows: Option<u64>,
    /// Whether it is a leaf, so that no pages are below it.
    pub leaf: bool,
    pub page: u64,
    pub fault: String,
}

impl Lost {
    /// A whole tree of which not even the root is known.
    pub fn everything() -> Self {
        Self {
            low: None,
            high: None,
            rows: None,
            leaf: false,
            page: 0,
            fault: "the root of the table is lost".into(),
        }
    }
}

pub(super) trait Visitor {
    fn leaf(&mut self, marks: &mut Marks, bytes: &PageBytes) -> Result<()>;
    fn lost(&mut self, lost: Lost) -> Result<()>;
}

pub(super) struct Walk<'s, V> {
    pub source: &'s Source,
    pub marks: &'s mut Marks,
    /// The numbers that the pages may carry.
    pub numbers: [u32; 2],
    pub visitor: &'s mut V,
    pub progress: &'s mut dyn FnMut(&str, u64, u64),
    pub total: u64,
}

impl<V: Visitor> Walk<'_, V> {
    pub fn tree(&mut self, root: TreeRoot) -> Result<()> {
        if root.at.is_none() {
            return Ok(());
        }
        self.node(root.at, None, root.rows, None, None)
    }

    fn node(
        &mut self,
        at: PageRef,
        level: Option<u8>,
        rows: u64,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
    ) -> Result<()> {
        let read = if self.marks.referenced.insert(at.page) {
            let read = self.source.read_node(at, self.numbers[0]);
            let read = read.or_else(|fault| match self.numbers[0] == self.numbers[1] {
                true => Err(fault),
                false => self.source.read_node(at, self.numbers[1]),
            });
            read.and_then(|bytes| check_place(&bytes, level, low, high).map(|()| bytes))
        } else {
            Err("two references lead to it".into())
        };
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(fault) => {
                self.marks.unreadable += 1;
                return self.visitor.lost(Lost {
                    low: low.map(<[u8]>::to_vec),
                    high: high.map(<[u8]>::to_vec),
                    rows: Some(rows),
                    leaf: level == Some(0),
                    page: at.page,
                    fault,
                });
            }
        };
        self.marks.taken.insert(at.page);
        self.marks.met += 1;
        (self.progress)("tables", self.marks.met, self.total.max(self.marks.met));
        let node = Node::new(&bytes);
        if node.is_leaf() {
            return self.visitor.leaf(self.marks, &bytes);
        }
        for index in 0..node.len() {
            let child = node.child(index);
            let from = (index > 0).then(|| node.key(index));
            let to = (index + 1 < node.len()).then(|| node.key(index + 1));
            let (from, to) = (from.as_deref().or(low), to.as_deref().or(high));
            self.node(child.at, Some(node.level() - 1), child.rows, from, to)?;
        }
        Ok(())
    }
}

/// A page that is intact and not where it should be is as good as lost: its rows may be anybody's.
fn check_place(
    bytes: &[u8],
    level: Option<u8>,
    low: Option<&[u8]>,
    high: Option<&[u8]>,
) -> Result<(), String> {
    let node = Node::new(bytes);
    if level.is_some_and(|level| level != node.level()) {
        return Err("is at another level than its parent implies".into());
    }
    let first = usize::from(!node.is_leaf());
    if first < node.len() {
        let before = low.is_some_and(|low| node.key(first).as_slice() < low);
        let beyond = high.is_some_and(|high| node.key(node.len() - 1).as_slice() >= high);
        if before || beyond {
            return Err("holds keys outside the range its parent gives it".into());
        }
    }
    Ok(())
}
