//! Reading everything and checking it.

use std::sync::Arc;

use super::Engine;
use crate::{
    catalog,
    error::{Error, Result},
    node::{self, Node, OverflowRef},
    page::{PageBytes, PageKind, PageRef},
    pager::Pager,
    space::PageSet,
    tree::{TreeRoot, overflow},
    types::{Group, GroupSet},
};

/// What [`Database::verify`](crate::Database::verify) found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Pages read.
    pub pages: u64,
    /// Tables walked.
    pub tables: u64,
    /// Rows counted.
    pub rows: u64,
    /// What is wrong, in the order in which it was met. Empty for a sound file.
    pub problems: Vec<Problem>,
}

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The page concerned, if it is about one.
    pub page: Option<u64>,
    /// The table concerned, where it is known.
    pub table: Option<String>,
    /// What is wrong.
    pub fault: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(page) = self.page {
            write!(formatter, "page {page}: ")?;
        }
        if let Some(table) = &self.table {
            write!(formatter, "table `{table}`: ")?;
        }
        formatter.write_str(&self.fault)
    }
}

/// A damaged file could give one for each page; nobody reads more than this.
const MOST_PROBLEMS: usize = 10_000;

impl Engine {
    pub fn verify(self: &Arc<Self>, progress: impl FnMut(u64, u64)) -> Result<VerifyReport> {
        // One writer at a time: while this is held nothing changes, and no flush can be under way.
        let _flusher = self.flusher.lock();
        let (groups, expected) = {
            let pending = self.pending.lock();
            if !pending
                .groups
                .iter()
                .all(super::pending::GroupChanges::is_empty)
            {
                return Err(Error::Configuration(
                    "there are commits that are not durable: make a checkpoint of all groups before verifying".into(),
                ));
            }
            (
                self.published.lock().groups,
                self.space.lock().durable.clone(),
            )
        };
        let mut walk = Walk {
            pager: &self.pager,
            report: VerifyReport::default(),
            seen: PageSet::default(),
            progress,
            total: expected.used,
        };
        for group in GroupSet::ALL {
            walk.group(group, groups[usize::from(group.index())])?;
        }
        walk.tree(None, expected.tree)?;
        match expected.used_pages(&self.pager) {
            Ok(used) => walk.compare(&used),
            Err(error) => walk.note(error)?,
        }
        Ok(walk.report)
    }
}

struct Walk<'e, P> {
    pager: &'e Pager,
    report: VerifyReport,
    seen: PageSet,
    progress: P,
    total: u64,
}

/// What the parent of a node says about it.
struct Expectation<'k> {
    level: Option<u8>,
    rows: u64,
    low: Option<&'k [u8]>,
    high: Option<&'k [u8]>,
}

impl<P: FnMut(u64, u64)> Walk<'_, P> {
    fn group(&mut self, group: Group, catalog: TreeRoot) -> Result<()> {
        let before = self.report.rows;
        self.tree(None, catalog)?;
        self.report.rows = before;
        let tables = match catalog::list(self.pager, catalog) {
            Ok(tables) => tables,
            Err(error) => {
                return self.note(error.in_table(&format!("catalog of group {group}").into()));
            }
        };
        for (name, record) in tables {
            self.report.tables += 1;
            self.tree(Some(&name), record.root)?;
        }
        Ok(())
    }

    fn tree(&mut self, table: Option<&str>, root: TreeRoot) -> Result<()> {
        if root.at.is_none() {
            if root.rows != 0 {
                self.problem(
                    None,
                    table,
                    format!("{} rows are recorded and there is no tree", root.rows),
                );
            }
            return Ok(());
        }
        self.node(
            table,
            root.at,
            &Expectation {
                level: None,
                rows: root.rows,
                low: None,
                high: None,
            },
        )
    }

    fn node(&mut self, table: Option<&str>, at: PageRef, expected: &Expectation<'_>) -> Result<()> {
        let Some(bytes) = self.read(table, at)? else {
            return Ok(());
        };
        let kind = PageKind::of(&bytes);
        if !matches!(kind, Some(PageKind::Leaf | PageKind::Branch)) {
            self.problem(
                Some(at.page),
                table,
                "is not a node of a tree, and its parent says it is".into(),
            );
            return Ok(());
        }
        if let Err(fault) = node::validate(&bytes) {
            self.problem(Some(at.page), table, fault);
            return Ok(());
        }
        let node = Node::new(&bytes);
        if expected.level.is_some_and(|level| level != node.level()) {
            self.problem(
                Some(at.page),
                table,
                format!(
                    "is at level {}, which its parent does not imply",
                    node.level()
                ),
            );
            return Ok(());
        }
        let counted = node.describe(at).rows;
        if counted != expected.rows {
            let fault = format!(
                "{counted} rows are below this page and {} are recorded above it",
                expected.rows
            );
            self.problem(Some(at.page), table, fault);
        }
        self.bounds(table, at, node, expected);
        if node.is_leaf() {
            self.leaf(table, node)
        } else {
            self.children(table, node, expected)
        }
    }

    fn bounds(
        &mut self,
        table: Option<&str>,
        at: PageRef,
        node: Node<'_>,
        expected: &Expectation<'_>,
    ) {
        let first = usize::from(!node.is_leaf());
        if first >= node.len() {
            return;
        }
        let (least, greatest) = (node.key(first), node.key(node.len() - 1));
        if expected.low.is_some_and(|low| least.as_slice() < low)
            || expected
                .high
                .is_some_and(|high| greatest.as_slice() >= high)
        {
            self.problem(
                Some(at.page),
                table,
                "holds keys outside the range its parent gives it".into(),
            );
        }
    }

    fn leaf(&mut self, table: Option<&str>, node: Node<'_>) -> Result<()> {
        self.report.rows += node.len() as u64;
        for index in 0..node.len() {
            if let Some(value) = node.overflow(index) {
                self.long_value(table, value)?;
            }
        }
        Ok(())
    }

    fn children(
        &mut self,
        table: Option<&str>,
        node: Node<'_>,
        expected: &Expectation<'_>,
    ) -> Result<()> {
        for index in 0..node.len() {
            let child = node.child(index);
            let low = (index > 0).then(|| node.key(index));
            let high = (index + 1 < node.len()).then(|| node.key(index + 1));
            let expected = Expectation {
                level: Some(node.level() - 1),
                rows: child.rows,
                low: low.as_deref().or(expected.low),
                high: high.as_deref().or(expected.high),
            };
            self.node(table, child.at, &expected)?;
        }
        Ok(())
    }

    fn long_value(&mut self, table: Option<&str>, value: OverflowRef) -> Result<()> {
        let mut extent = value.at;
        while !extent.is_none() {
            let (next, count) = match overflow::read_extent_header(self.pager, extent) {
                Ok(header) => header,
                Err(error) => {
                    return self.note(match table {
                        Some(name) => error.in_table(&name.into()),
                        None => error,
                    });
                }
            };
            for page in extent.page..extent.page + count {
                if self.read(table, PageRef { page, ..extent })?.is_none() {
                    return Ok(());
                }
            }
            extent = next;
        }
        Ok(())
    }

    /// Reads a page from the file itself. `None` if it is damaged or was met before.
    fn read(&mut self, table: Option<&str>, at: PageRef) -> Result<Option<PageBytes>> {
        if self.seen.contains(at.page) {
            self.problem(Some(at.page), table, "two references lead to it".into());
            return Ok(None);
        }
        self.seen.insert(at.page);
        self.report.pages += 1;
        (self.progress)(self.report.pages, self.total);
        let bytes = match self.pager.read_raw(at.page) {
            Ok(bytes) => bytes,
            Err(Error::Corrupted { fault, .. }) => {
                self.problem(Some(at.page), table, fault);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match self.pager.sealer.check(&bytes, at) {
            Ok(()) => Ok(Some(bytes)),
            Err(fault) => {
                self.problem(Some(at.page), table, fault);
                Ok(None)
            }
        }
    }

    /// The pages in use must be those that were met.
    fn compare(&mut self, used: &PageSet) {
        let damaged = !self.report.problems.is_empty();
        for page in self.seen.clone().without(used).iter() {
            self.problem(
                Some(page),
                None,
                "is in use although it is marked as free".into(),
            );
        }
        // Below a damaged page others are in use that the walk could not reach.
        if !damaged {
            for page in used.without(&self.seen).iter() {
                self.problem(
                    Some(page),
                    None,
                    "is marked as used and nothing refers to it".into(),
                );
            }
        }
    }

    /// Adds an error to the report if it is about damage.
    fn note(&mut self, error: Error) -> Result<()> {
        match error {
            Error::Corrupted {
                page, table, fault, ..
            } => {
                self.problem(Some(page), table.as_deref(), fault);
                Ok(())
            }
            other => Err(other),
        }
    }

    fn problem(&mut self, page: Option<u64>, table: Option<&str>, fault: String) {
        if self.report.problems.len() < MOST_PROBLEMS {
            self.report.problems.push(Problem {
                page,
                table: table.map(str::to_owned),
                fault,
            });
        }
    }
}
