//! The walk over everything that one slot refers to.

use std::{collections::BTreeSet, ops::ControlFlow};

use super::{Pace, Problem, VerifyReport};
use crate::{
    catalog::{self, TableRecord},
    error::{Error, Result},
    file::{FIXED_PAGES, Slot},
    node::{self, Node, OverflowRef},
    page::{HEADER, PageBytes, PageKind, PageRef, table_number},
    pager::Pager,
    space::{CHUNK_BYTES, CHUNK_PAGES, PageBits, PageSet, SPACE_TABLE, SavepointRow},
    tree::{TreeRoot, overflow},
    types::{Group, GroupSet},
};

/// A damaged file could give one for each page; nobody reads more than this.
const MOST_PROBLEMS: usize = 10_000;

pub(crate) struct Walk<'w, P> {
    pager: &'w Pager,
    slot: &'w Slot,
    pace: Pace<'w>,
    progress: P,
    report: VerifyReport,
    /// Reads of pages, and how many there will be at least.
    read: u64,
    total: u64,
    /// Pages that were met, and pages that the durable account calls used.
    seen: PageBits,
    used: PageBits,
    /// Pages that references of the savepoint that is being walked lead to.
    own: PageBits,
    /// The name of that savepoint.
    savepoint: Option<String>,
    /// The savepoints that the space tree lists.
    savepoints: Vec<SavepointRow>,
    /// Whether the whole account could be read.
    account_whole: bool,
    numbers: BTreeSet<u32>,
    /// The tables of the catalog that is being walked.
    found: Vec<(String, TableRecord)>,
}

/// Why a walk ends early.
enum Stop {
    Failed(Error),
    Asked,
}

type Walked<T = ()> = std::result::Result<T, Stop>;

/// Whose tree is being walked.
#[derive(Clone, Copy)]
enum Tree<'t> {
    Catalog(Group),
    Table(&'t str, u32),
    Space,
}

/// What the parent of a node says about it.
struct Expectation<'k> {
    level: Option<u8>,
    rows: u64,
    overflow: bool,
    low: Option<&'k [u8]>,
    high: Option<&'k [u8]>,
}

impl<'w, P: FnMut(u64, u64) -> ControlFlow<()>> Walk<'w, P> {
    pub fn new(pager: &'w Pager, slot: &'w Slot, pace: Pace<'w>, progress: P) -> Self {
        Self {
            pager,
            slot,
            pace,
            progress,
            report: VerifyReport {
                transaction: slot.transaction,
                ..VerifyReport::default()
            },
            read: 0,
            total: slot.used.saturating_sub(FIXED_PAGES),
            seen: PageBits::default(),
            used: PageBits::default(),
            own: PageBits::default(),
            savepoint: None,
            savepoints: Vec::new(),
            account_whole: true,
            numbers: BTreeSet::new(),
            found: Vec::new(),
        }
    }

    pub fn run(mut self) -> Result<VerifyReport> {
        match self.everything() {
            Ok(()) => self.compare(),
            Err(Stop::Asked) => self.report.interrupted = true,
            Err(Stop::Failed(error)) => return Err(error),
        }
        Ok(self.report)
    }

    /// The pages that are marked as used and that nothing refers to. An error if anything else is wrong, since what lies
    /// below a damaged page is used and cannot be met.
    pub fn unmet(mut self) -> Result<PageSet> {
        match self.everything() {
            Ok(()) => {}
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Asked) => {
                return Err(Error::Interrupted {
                    file: self.pager.file.clone(),
                });
            }
        }
        if let Some(problem) = self.report.problems.first() {
            let page = problem.page.unwrap_or(self.slot.space_root.page);
            return Err(self.pager.corrupted(page, problem.to_string()));
        }
        Ok(self.used.without(&self.seen).collect())
    }

    fn everything(&mut self) -> Walked {
        self.walk()?;
        self.settle_account();
        Ok(())
    }

    fn walk(&mut self) -> Walked {
        self.groups(&self.slot.groups.map(|root| TreeRoot {
            at: root.catalog,
            rows: root.tables,
        }))?;
        let space = TreeRoot {
            at: self.slot.space_root,
            rows: self.slot.space_rows,
        };
        let rows = self.report.rows;
        self.tree(Tree::Space, space)?;
        let (tables, savepoints) = (self.report.tables, std::mem::take(&mut self.savepoints));
        // The newest first: what it shares with the newest state is met by then.
        for row in savepoints.iter().rev() {
            self.own = PageBits::default();
            self.numbers.clear();
            self.savepoint = Some(row.name.clone());
            self.groups(&row.groups)?;
        }
        self.savepoint = None;
        (self.report.rows, self.report.tables) = (rows, tables);
        self.report.savepoints = savepoints.len() as u64;
        Ok(())
    }

    /// The catalogs of a state and all that is below them.
    fn groups(&mut self, catalogs: &[TreeRoot; Group::COUNT]) -> Walked {
        for (group, &catalog) in GroupSet::ALL.iter().zip(catalogs) {
            let rows = self.report.rows;
            self.tree(Tree::Catalog(group), catalog)?;
            self.report.rows = rows;
            for (name, record) in std::mem::take(&mut self.found) {
                self.report.tables += 1;
                if record.number >= self.slot.next_table || !self.numbers.insert(record.number) {
                    let fault = format!("its number, {}, is not its own", record.number);
                    self.problem(None, Some(&name), fault);
                }
                self.tree(Tree::Table(&name, record.number), record.root)?;
            }
        }
        Ok(())
    }

    fn tree(&mut self, tree: Tree<'_>, root: TreeRoot) -> Walked {
        if root.at.is_none() {
            if root.rows != 0 {
                let fault = format!("{} rows are recorded and there is no tree", root.rows);
                self.problem_in(tree, None, fault);
            }
            return Ok(());
        }
        let expected = Expectation {
            level: None,
            rows: root.rows,
            overflow: true,
            low: None,
            high: None,
        };
        self.node(tree, root.at, &expected)
    }

    fn node(&mut self, tree: Tree<'_>, at: PageRef, expected: &Expectation<'_>) -> Walked {
        let shared = self.is_shared(at);
        let Some(bytes) = self.read(tree, at)? else {
            return self.passed_over(tree);
        };
        let kind = PageKind::of(&bytes);
        let fault = if !matches!(kind, Some(PageKind::Leaf | PageKind::Branch)) {
            Some("is not a node of a tree, and its parent says it is".into())
        } else if let Err(fault) = node::validate(&bytes) {
            Some(fault)
        } else {
            let level = Node::new(&bytes).level();
            let implied = expected.level.is_none_or(|expected| expected == level);
            (!implied).then(|| format!("is at level {level}, which its parent does not imply"))
        };
        if let Some(fault) = fault {
            self.problem_in(tree, Some(at.page), fault);
            return self.passed_over(tree);
        }
        let node = Node::new(&bytes);
        let counted = node.describe(at);
        if counted.rows != expected.rows {
            let fault = format!(
                "{} rows are below this page and {} are recorded above it",
                counted.rows, expected.rows
            );
            self.problem_in(tree, Some(at.page), fault);
        }
        if counted.overflow && !expected.overflow {
            let fault = "there are long values below this page and none are recorded above it";
            self.problem_in(tree, Some(at.page), fault.into());
        }
        self.bounds(tree, at, node, expected);
        if shared {
            // All that is below it was met there.
            return Ok(());
        }
        if node.is_leaf() {
            self.leaf(tree, at, node)
        } else {
            self.children(tree, node, expected)
        }
    }

    /// What lies below a page that cannot be used is not known.
    fn passed_over(&mut self, tree: Tree<'_>) -> Walked {
        if matches!(tree, Tree::Space) {
            self.account_whole = false;
        }
        Ok(())
    }

    fn bounds(&mut self, tree: Tree<'_>, at: PageRef, node: Node<'_>, expected: &Expectation<'_>) {
        let first = usize::from(!node.is_leaf());
        if first >= node.len() {
            return;
        }
        let (least, greatest) = (node.key(first), node.key(node.len() - 1));
        let before = expected.low.is_some_and(|low| least.as_slice() < low);
        let beyond = expected
            .high
            .is_some_and(|high| greatest.as_slice() >= high);
        if before || beyond {
            let fault = "holds keys outside the range its parent gives it";
            self.problem_in(tree, Some(at.page), fault.into());
        }
    }

    fn leaf(&mut self, tree: Tree<'_>, at: PageRef, node: Node<'_>) -> Walked {
        self.report.rows += node.len() as u64;
        for index in 0..node.len() {
            if let Some(value) = node.overflow(index) {
                self.long_value(tree, &node.key(index), value)?;
            }
            let fault = match tree {
                Tree::Table(..) => None,
                Tree::Catalog(_) => self.catalog_row(node, index),
                Tree::Space => self.space_row(node, index),
            };
            if let Some(fault) = fault {
                self.problem_in(tree, Some(at.page), fault.into());
            }
        }
        Ok(())
    }

    fn catalog_row(&mut self, node: Node<'_>, index: usize) -> Option<&'static str> {
        // A record is far shorter than any value that overflows.
        let record = TableRecord::decode(node.body(index));
        let name = String::from_utf8(node.key(index));
        let (Some(record), Ok(name), None) = (record, name, node.overflow(index)) else {
            return Some("holds a table record of an unknown form");
        };
        self.found.push((name, record));
        None
    }

    fn space_row(&mut self, node: Node<'_>, index: usize) -> Option<&'static str> {
        let key = node.key(index);
        if SavepointRow::is_key(&key) && node.overflow(index).is_none() {
            let row = SavepointRow::decode(&key, node.body(index));
            let sound = row.is_some();
            self.savepoints.extend(row);
            self.account_whole &= sound;
            return (!sound).then_some("holds a savepoint of an unknown form");
        }
        let row = <[u8; 8]>::try_from(key).map(u64::from_be_bytes);
        let bits = <&[u8; CHUNK_BYTES]>::try_from(node.body(index));
        match (row, bits) {
            (Ok(row), Ok(bits)) if row <= self.slot.length / CHUNK_PAGES => {
                self.used.insert_row(row, bits);
                None
            }
            // What a file that was cut since had there.
            (Ok(_), Ok(bits)) if *bits == [0; CHUNK_BYTES] => None,
            _ => {
                self.account_whole = false;
                Some("holds a row that no free-space map has")
            }
        }
    }

    fn children(&mut self, tree: Tree<'_>, node: Node<'_>, expected: &Expectation<'_>) -> Walked {
        for index in 0..node.len() {
            let child = node.child(index);
            let low = (index > 0).then(|| node.key(index));
            let high = (index + 1 < node.len()).then(|| node.key(index + 1));
            let expected = Expectation {
                level: Some(node.level() - 1),
                rows: child.rows,
                overflow: child.overflow,
                low: low.as_deref().or(expected.low),
                high: high.as_deref().or(expected.high),
            };
            self.node(tree, child.at, &expected)?;
        }
        Ok(())
    }

    /// The chain of a long value has room for the value and not a page more.
    fn long_value(&mut self, tree: Tree<'_>, key: &[u8], value: OverflowRef) -> Walked {
        let payload = (self.pager.page_size - HEADER) as u64;
        let mut left = u64::from(value.length);
        let mut extent = value.at;
        if self.is_shared(extent) {
            return self.read(tree, extent).map(drop);
        }
        while !extent.is_none() && left > 0 {
            let (mut next, mut pages) = (PageRef::NONE, 1);
            let mut offset = 0;
            while offset < pages && left > 0 {
                let at = PageRef {
                    page: extent.page.saturating_add(offset),
                    ..extent
                };
                let Some(bytes) = self.read(tree, at)? else {
                    return Ok(());
                };
                if PageKind::of(&bytes) != Some(PageKind::Overflow) {
                    let fault = "is not part of a long value, and a reference says it is";
                    self.problem_in(tree, Some(at.page), fault.into());
                    return Ok(());
                }
                let mut room = payload;
                if offset == 0 {
                    (next, pages) = overflow::extent_header(&bytes);
                    room -= overflow::EXTENT_HEADER as u64;
                }
                left = left.saturating_sub(room);
                offset += 1;
            }
            if offset != pages {
                left = u64::MAX;
            }
            extent = next;
        }
        if left > 0 || !extent.is_none() {
            let fault = format!(
                "the value of key {} has {} bytes and its pages have room for another length",
                key.escape_ascii(),
                value.length
            );
            self.problem_in(tree, Some(value.at.page), fault);
        }
        Ok(())
    }

    /// Reads a page from the file itself. `None` if it is damaged or was met before.
    fn read(&mut self, tree: Tree<'_>, at: PageRef) -> Walked<Option<PageBytes>> {
        let first = self.seen.insert(at.page);
        let first_of_state = match self.savepoint {
            Some(_) => self.own.insert(at.page),
            None => first,
        };
        if !first_of_state {
            self.problem_in(tree, Some(at.page), "two references lead to it".into());
            return Ok(None);
        }
        self.report.pages += u64::from(first);
        self.read += 1;
        let (done, total) = (self.read, self.total.max(self.read));
        let progress = &mut self.progress;
        let mut go_on = || progress(done, total).is_continue();
        if !go_on() || !self.pace.read(self.pager.page_size as u64, &mut go_on) {
            return Err(Stop::Asked);
        }
        let read = self.pager.read_raw(at.page).and_then(|bytes| {
            self.pager.check(&bytes, at)?;
            Ok(bytes)
        });
        let fault = match read {
            Ok(bytes) => match Self::of_another(tree, &bytes) {
                None => return Ok(Some(bytes)),
                Some(fault) => fault,
            },
            Err(Error::Corrupted { fault, .. }) => fault,
            // A sector that the device cannot read is damage as any other, and not the end of the walk.
            Err(Error::Io { source, .. }) => format!("cannot be read: {source}"),
            Err(error) => return Err(Stop::Failed(error)),
        };
        self.problem_in(tree, Some(at.page), fault);
        Ok(None)
    }

    /// Whether the state that was walked before has a page, too, of a savepoint.
    fn is_shared(&self, at: PageRef) -> bool {
        self.savepoint.is_some() && self.seen.contains(at.page)
    }

    /// What is wrong with a page that belongs to another tree.
    fn of_another(tree: Tree<'_>, bytes: &[u8]) -> Option<String> {
        let number = match tree {
            Tree::Catalog(group) => catalog::number_of(group),
            Tree::Table(_, number) => number,
            Tree::Space => SPACE_TABLE,
        };
        let found = table_number(bytes);
        // Catalogs of all groups once had the number of the first.
        let earlier =
            matches!(tree, Tree::Catalog(_)) && catalog::group_of(found) == Some(Group::DEFAULT);
        (found != number && !earlier).then(|| {
            format!("belongs to table number {found}, and a page of number {number} is expected")
        })
    }

    /// Adds to the space tree what the slot has beside it.
    fn settle_account(&mut self) {
        for change in &self.slot.space_changes {
            if change.used {
                self.used.insert(change.page);
            } else {
                self.used.remove(change.page);
            }
        }
    }

    /// The pages in use must be those that were met.
    fn compare(&mut self) {
        let mut problems = Vec::new();
        if self.account_whole {
            let marked = self.seen.without(&self.used).take(MOST_PROBLEMS);
            problems.extend(marked.map(|page| (page, "is in use although it is marked as free")));
            // Below a damaged page others are in use that the walk could not reach.
            if self.report.problems.is_empty() {
                let unmet = self.used.without(&self.seen).take(MOST_PROBLEMS);
                problems
                    .extend(unmet.map(|page| (page, "is marked as used and nothing refers to it")));
            }
            let counted = self.used.len() + FIXED_PAGES;
            if counted != self.slot.used {
                let fault = format!(
                    "the free-space map has {counted} pages in use and the commit records {}",
                    self.slot.used
                );
                self.problem(None, None, fault);
            }
        }
        for (page, fault) in problems {
            self.problem(Some(page), None, fault.into());
        }
    }

    fn problem_in(&mut self, tree: Tree<'_>, page: Option<u64>, fault: String) {
        match tree {
            Tree::Table(name, _) => self.problem(page, Some(name), fault),
            Tree::Catalog(group) => {
                self.problem(page, None, format!("catalog of group {group}: {fault}"));
            }
            Tree::Space => self.problem(page, None, format!("free-space map: {fault}")),
        }
    }

    fn problem(&mut self, page: Option<u64>, table: Option<&str>, mut fault: String) {
        if let Some(savepoint) = &self.savepoint {
            fault = format!("savepoint `{savepoint}`: {fault}");
        }
        if self.report.problems.len() < MOST_PROBLEMS {
            self.report.problems.push(Problem {
                page,
                table: table.map(str::to_owned),
                fault,
            });
        }
    }
}
