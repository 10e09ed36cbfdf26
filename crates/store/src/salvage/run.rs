//! The order of a salvage: free-space map, catalogs, what the roots lead to, then what nothing leads to.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    LostRange, SalvageReport, SalvagedTable,
    names::{Known, Records, Restored, Tables},
    output::{Copy, Gap, LostValues, Output, fill},
    source::{Basis, Found, Source},
    walk::{Lost, Marks, Visitor, Walk},
};
use crate::{
    Database, Problem, catalog,
    error::Result,
    file::{FIXED_PAGES, SALVAGED, Slot},
    node::Node,
    page::{PageBytes, PageKind, PageRef, identity, level, table_number},
    space::{CHUNK_BYTES, CHUNK_PAGES, PageBits, SPACE_TABLE, SavepointRow},
    tree::TreeRoot,
    types::{Group, GroupSet},
};

/// Further problems are not listed.
const MOST_PROBLEMS: usize = 10_000;

/// Further ranges and keys of a table are counted.
const MOST_LISTED: usize = 1_000;

/// Further table numbers without a name are not ours.
const MOST_UNKNOWN: usize = 10_000;

type Progress<'p> = &'p mut dyn FnMut(&str, u64, u64);

/// A leaf that no walk has reached. A salvage keeps one for each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    table: u32,
    transaction: u64,
    page: u64,
}

/// The durable free-space map.
#[derive(Default)]
struct Account {
    used: PageBits,
    whole: bool,
    /// The number of the newest savepoint; 0 if there is none. Of older pages the map does not tell whether the commit
    /// itself uses them.
    savepoint: u64,
    /// Rows for chunks from here on are none of ours.
    limit: u64,
}

impl Visitor for Account {
    fn leaf(&mut self, _: &mut Marks, bytes: &PageBytes) -> Result<()> {
        let node = Node::new(bytes);
        for index in 0..node.len() {
            let key = node.key(index);
            if let Some(row) = SavepointRow::decode(&key, node.body(index)) {
                self.savepoint = self.savepoint.max(row.number);
                continue;
            }
            let row = <[u8; 8]>::try_from(key).map(u64::from_be_bytes);
            let bits = <&[u8; CHUNK_BYTES]>::try_from(node.body(index));
            match (row, bits) {
                (Ok(row), Ok(bits)) if row < self.limit => self.used.insert_row(row, bits),
                // What a file that was cut since had there.
                (Ok(_), Ok(bits)) if *bits == [0; CHUNK_BYTES] => {}
                _ => self.whole = false,
            }
        }
        Ok(())
    }

    fn lost(&mut self, _: Lost) -> Result<()> {
        self.whole = false;
        Ok(())
    }
}

/// A table on its way into the new database.
struct Work {
    known: Known,
    exact: u64,
    unreferenced: u64,
    stale: u64,
    gaps: Vec<Gap>,
    more_lost: (u64, u64),
    values: LostValues,
}

struct Run<'r> {
    source: &'r Source,
    output: Output<'r>,
    slot: Option<Slot>,
    doubt: Option<String>,
    account: Account,
    marks: Marks,
    problems: Vec<Problem>,
    /// Pages that the commit uses, that nothing readable refers to, and that cannot be read.
    unknown_pages: u64,
    tables_missing: bool,
}

/// What a scan found besides leaves: for each table the pages on its highest level, and how many they are.
type Tops = BTreeMap<u32, (u8, u64, PageRef)>;

pub(super) fn run(
    source: &Source,
    target: &Database,
    progress: Progress<'_>,
) -> Result<SalvageReport> {
    // First, so that no part of a salvage can be taken for a sound file.
    target.handle().engine().mark(SALVAGED)?;
    let (slot, doubt) = match source.basis() {
        Some(Basis { slot, doubt }) => (Some(slot), doubt),
        None => (None, None),
    };
    let mut run = Run {
        source,
        output: Output::new(target),
        account: Account::default(),
        marks: Marks::default(),
        problems: Vec::new(),
        unknown_pages: 0,
        tables_missing: false,
        slot,
        doubt,
    };
    if source.header.is_none() {
        run.problem(
            Some(0),
            None,
            "the header is lost; page size and checksums were found out from the pages".into(),
        );
    }
    match (&run.slot, run.doubt.clone()) {
        (None, _) => run.problem(
            None,
            None,
            "no commit can be found; rows are taken from all pages, the newest last".into(),
        ),
        (_, Some(doubt)) => run.problem(None, None, doubt),
        _ => {}
    }
    run.read_account(progress)?;
    let (mut tables, deleted) = run.read_names(progress)?;
    let mut works = Vec::new();
    for known in std::mem::take(&mut tables.known) {
        works.push(run.copy(known, progress)?);
    }
    if run.needs_scan(&works) {
        let (candidates, tops) = run.scan(&works, &tables, &deleted, progress);
        let unknown: BTreeSet<u32> = candidates
            .iter()
            .map(|leaf| leaf.table)
            .filter(|&table| !tables.has(table))
            .collect();
        for &number in unknown.iter().take(MOST_UNKNOWN) {
            tables.add_unknown(number);
        }
        for known in std::mem::take(&mut tables.known) {
            works.push(run.copy(known, progress)?);
        }
        let count = works.len() as u64;
        for (done, work) in works.iter_mut().enumerate() {
            run.adopt(work, &tops, progress)?;
            run.fill(work, &candidates)?;
            progress("fill", done as u64 + 1, count);
        }
    }
    run.report(works)
}

impl Run<'_> {
    /// Whether the free-space map tells which pages the commit uses.
    fn has_account(&self) -> bool {
        self.slot.is_some() && self.account.whole
    }

    /// Whether the commit is the newest, so that whatever it does not use is old.
    fn is_newest(&self) -> bool {
        self.slot.is_some() && self.doubt.is_none()
    }

    /// Whether a page is one of those that the commit uses and nothing reaches.
    fn is_missing_link(&self, page: u64, transaction: u64) -> bool {
        self.is_unreached(page, transaction) && transaction > self.account.savepoint
    }

    /// Whether a page is such a one, or one that only a savepoint uses.
    fn is_unreached(&self, page: u64, transaction: u64) -> bool {
        self.has_account()
            && self.account.used.contains(page)
            && !self.marks.referenced.contains(page)
            && self
                .slot
                .as_ref()
                .is_some_and(|slot| transaction <= slot.transaction)
    }

    /// Whether rows of pages that the commit may not use may take the place of rows that cannot be found.
    fn takes_stale(&self) -> bool {
        !(self.is_newest() && self.has_account()) || self.account.savepoint > 0
    }

    /// Whether such a page is looked at.
    fn may_be_stale(&self, page: u64, transaction: u64) -> bool {
        let certain = self.is_newest() && self.has_account();
        !certain || self.is_unreached(page, transaction)
    }

    /// Whether a lost part is looked for. Below a leaf there is nothing; but a commit that is not the newest may have lost
    /// it to a newer one.
    fn is_searched(&self, lost: &Lost) -> bool {
        !lost.leaf || !self.is_newest()
    }

    fn problem(&mut self, page: Option<u64>, table: Option<&str>, fault: String) {
        if self.problems.len() < MOST_PROBLEMS {
            let table = table.map(str::to_owned);
            self.problems.push(Problem { page, table, fault });
        }
    }

    fn walk<V: Visitor>(
        &mut self,
        numbers: [u32; 2],
        root: TreeRoot,
        visitor: &mut V,
        progress: Progress<'_>,
    ) -> Result<()> {
        let used = self.slot.as_ref().map_or(0, |slot| slot.used);
        let mut walk = Walk {
            source: self.source,
            marks: &mut self.marks,
            numbers,
            visitor,
            progress,
            total: used.saturating_sub(FIXED_PAGES),
        };
        walk.tree(root)
    }

    fn read_account(&mut self, progress: Progress<'_>) -> Result<()> {
        let Some(slot) = self.slot.clone() else {
            return Ok(());
        };
        let mut account = Account {
            used: PageBits::default(),
            whole: true,
            savepoint: 0,
            limit: slot.length.div_ceil(CHUNK_PAGES),
        };
        let root = TreeRoot {
            at: slot.space_root,
            rows: slot.space_rows,
        };
        self.walk([SPACE_TABLE; 2], root, &mut account, progress)?;
        for change in &slot.space_changes {
            if change.used {
                account.used.insert(change.page);
            } else {
                account.used.remove(change.page);
            }
        }
        if account.used.len() + FIXED_PAGES != slot.used {
            account.whole = false;
        }
        if !account.whole {
            self.problem(
                None,
                None,
                "the free-space map is damaged; which pages are in use is not known".into(),
            );
        }
        self.account = account;
        Ok(())
    }

    /// The tables, and the numbers of those that are known to be deleted.
    fn read_names(&mut self, progress: Progress<'_>) -> Result<(Tables, BTreeSet<u32>)> {
        let mut tables = Tables::default();
        let mut damaged: Vec<(Group, Restored)> = Vec::new();
        for group in GroupSet::ALL {
            let Some(slot) = &self.slot else {
                damaged.push((group, Restored::new(vec![Lost::everything()])));
                continue;
            };
            let root = &slot.groups[usize::from(group.index())];
            let root = TreeRoot {
                at: root.catalog,
                rows: root.tables,
            };
            let mut records = Records {
                group,
                found: Vec::new(),
                lost: Vec::new(),
            };
            let numbers = [
                catalog::number_of(group),
                catalog::number_of(Group::DEFAULT),
            ];
            self.walk(numbers, root, &mut records, progress)?;
            for (name, record) in records.found {
                tables.add(name, records.group, &record, true);
            }
            for lost in &records.lost {
                self.problem(
                    Some(lost.page),
                    None,
                    format!("catalog of group {group}: {}", lost.fault),
                );
            }
            if !records.lost.is_empty() {
                damaged.push((group, Restored::new(records.lost)));
            }
        }
        let mut deleted = BTreeSet::new();
        if damaged.is_empty() {
            return Ok((tables, deleted));
        }
        let mut leaves: Vec<Candidate> = Vec::new();
        let taken = &self.marks.taken;
        self.source.scan(progress, |page, found| {
            if let Found::Intact(bytes) = found
                && catalog::group_of(table_number(bytes)).is_some()
                && PageKind::of(bytes) == Some(PageKind::Leaf)
                && !taken.contains(page)
            {
                leaves.push(candidate(bytes));
            }
        });
        leaves.sort_unstable();
        for (group, mut restored) in damaged {
            let number = catalog::number_of(group);
            let own = || leaves.iter().filter(|leaf| leaf.table == number);
            let expected: Option<u64> = restored.gaps.iter().map(|gap| gap.lost.rows).sum();
            for leaf in own().filter(|leaf| self.is_missing_link(leaf.page, leaf.transaction)) {
                restored.take(self.source, leaf.page, number);
            }
            let gaps = std::mem::take(&mut restored.gaps);
            let mut found = restored.found();
            let complete = expected == Some(found);
            for (name, record) in
                std::mem::replace(&mut restored, Restored::new(Vec::new())).into_rows()
            {
                tables.add(name, group, &record, true);
            }
            if !complete {
                restored.gaps = gaps;
                own().for_each(|leaf| restored.take(self.source, leaf.page, number));
                deleted.extend(restored.deleted.iter().copied());
                for (name, record) in restored.into_rows() {
                    if tables.has_name(&name) {
                        // An older table of the same name.
                        deleted.insert(record.number);
                    } else if !tables.has(record.number) {
                        tables.add(name, group, &record, false);
                        found += 1;
                    }
                }
            }
            if let Some(expected) = expected
                && found < expected
            {
                self.tables_missing = true;
                let fault = format!(
                    "{expected} tables are recorded where the catalog of group {group} is damaged, and the names of {found} were found"
                );
                self.problem(None, None, fault);
            }
        }
        deleted.retain(|&number| !tables.has(number));
        Ok((tables, deleted))
    }

    /// Copies what the root of a table leads to.
    fn copy(&mut self, known: Known, progress: Progress<'_>) -> Result<Work> {
        // The table itself is there whatever becomes of its rows.
        self.output.change(&known.definition, |_, _| Ok(()))?;
        let mut work = Work {
            exact: 0,
            unreferenced: 0,
            stale: 0,
            gaps: Vec::new(),
            more_lost: (0, 0),
            values: LostValues::default(),
            known,
        };
        match work.known.root {
            Some(root) => work.exact = self.copy_tree(&mut work, root, progress)?,
            None => work.gaps = vec![Gap::new(Lost::everything())],
        }
        Ok(work)
    }

    /// Copies a tree; gives back the number of rows.
    fn copy_tree(
        &mut self,
        work: &mut Work,
        root: TreeRoot,
        progress: Progress<'_>,
    ) -> Result<u64> {
        let number = work.known.number;
        let idle = Output::new(self.output.target());
        let mut output = std::mem::replace(&mut self.output, idle);
        let mut copy = Copy {
            source: self.source,
            output: &mut output,
            definition: &work.known.definition,
            number,
            rows: 0,
            lost: Vec::new(),
            more_lost: (0, 0),
            values: LostValues::default(),
        };
        let walked = self.walk([number; 2], root, &mut copy, progress);
        let Copy {
            rows,
            lost,
            more_lost,
            values,
            ..
        } = copy;
        self.output = output;
        walked?;
        work.gaps = lost.into_iter().map(Gap::new).collect();
        (work.more_lost, work.values) = (more_lost, values);
        Ok(rows)
    }

    fn needs_scan(&self, works: &[Work]) -> bool {
        let searched = |work: &Work| work.gaps.iter().any(|gap| self.is_searched(&gap.lost));
        self.slot.is_none() || self.tables_missing || works.iter().any(searched)
    }

    /// Looks for leaves of the tables that miss some, and of tables that nobody knows.
    fn scan(
        &mut self,
        works: &[Work],
        tables: &Tables,
        deleted: &BTreeSet<u32>,
        progress: Progress<'_>,
    ) -> (Vec<Candidate>, Tops) {
        let searching: BTreeSet<u32> = works
            .iter()
            .filter(|work| work.gaps.iter().any(|gap| self.is_searched(&gap.lost)))
            .map(|work| work.known.number)
            .collect();
        let unknown_possible = self.slot.is_none() || self.tables_missing;
        let (mut candidates, mut tops) = (Vec::new(), Tops::new());
        let (mut damaged, mut unknown_pages) = (0, 0);
        self.source.scan(progress, |page, found| {
            let Found::Intact(bytes) = found else {
                damaged += u64::from(matches!(found, Found::Damaged));
                let used = self.has_account() && self.account.used.contains(page);
                unknown_pages += u64::from(used && !self.marks.referenced.contains(page));
                return;
            };
            let leaf = candidate(bytes);
            let system = leaf.table == SPACE_TABLE || catalog::group_of(leaf.table).is_some();
            let wanted = match tables.has(leaf.table) {
                true => searching.contains(&leaf.table),
                false => unknown_possible && !deleted.contains(&leaf.table),
            };
            let link = self.is_missing_link(page, leaf.transaction);
            let taken = self.marks.taken.contains(page);
            if system || !wanted || taken || !(link || self.may_be_stale(page, leaf.transaction)) {
                return;
            }
            match PageKind::of(bytes) {
                Some(PageKind::Leaf) => candidates.push(leaf),
                Some(PageKind::Branch) => {}
                _ => return,
            }
            if link {
                let top = tops.entry(leaf.table).or_insert((0, 0, PageRef::NONE));
                match level(bytes).cmp(&top.0) {
                    std::cmp::Ordering::Greater => *top = (level(bytes), 1, identity(bytes)),
                    std::cmp::Ordering::Equal => *top = (top.0, top.1 + 1, identity(bytes)),
                    std::cmp::Ordering::Less => {}
                }
            }
        });
        if self.has_account() {
            // Of a file that is cut short the scan does not see the end.
            let unmet = self.account.used.without(&self.marks.referenced);
            unknown_pages += unmet.filter(|&page| page >= self.source.pages).count() as u64;
        }
        if self.slot.is_none() {
            self.marks.unreadable = damaged;
        } else {
            self.marks.unreadable += unknown_pages;
            self.unknown_pages = unknown_pages;
        }
        candidates.sort_unstable();
        (candidates, tops)
    }

    /// Where only the catalog is lost, a table's root is the one page on the highest level among those that the commit
    /// uses. That holds if all of those can be read.
    fn adopt(&mut self, work: &mut Work, tops: &Tops, progress: Progress<'_>) -> Result<()> {
        let number = work.known.number;
        let certain = self.is_newest() && self.unknown_pages == 0;
        let Some(&(_, 1, at)) = tops
            .get(&number)
            .filter(|_| work.known.root.is_none() && certain)
        else {
            return Ok(());
        };
        let Ok(bytes) = self.source.read_node(at, number) else {
            return Ok(());
        };
        let rows = Node::new(&bytes).describe(at).rows;
        work.unreferenced = self.copy_tree(work, TreeRoot { at, rows }, progress)?;
        Ok(())
    }

    /// Fills the gaps of a table from leaves that nothing leads to.
    fn fill(&mut self, work: &mut Work, candidates: &[Candidate]) -> Result<()> {
        let number = work.known.number;
        let first = candidates.partition_point(|leaf| leaf.table < number);
        let end = candidates.partition_point(|leaf| leaf.table <= number);
        let own = &candidates[first..end];
        let (mut gaps, rest): (Vec<Gap>, Vec<Gap>) = std::mem::take(&mut work.gaps)
            .into_iter()
            .partition(|gap| self.is_searched(&gap.lost));
        let links: Vec<&Candidate> = own
            .iter()
            .filter(|leaf| self.is_missing_link(leaf.page, leaf.transaction))
            .collect();
        for leaf in links {
            self.fill_from(work, leaf, &mut gaps)?;
        }
        let (closed, mut open): (Vec<Gap>, Vec<Gap>) = gaps.into_iter().partition(Gap::is_closed);
        work.unreferenced += closed.iter().map(|gap| gap.found).sum::<u64>();
        if self.takes_stale() {
            let definition = &work.known.definition;
            self.output.change(definition, |table, _| {
                open.iter_mut().try_for_each(|gap| gap.empty(table))
            })?;
            for leaf in own
                .iter()
                .filter(|leaf| !self.marks.taken.contains(leaf.page))
                .collect::<Vec<_>>()
            {
                self.fill_from(work, leaf, &mut open)?;
            }
            work.stale += open.iter().map(|gap| gap.found).sum::<u64>();
        } else {
            for gap in &open {
                // More than is recorded cannot all be right.
                let doubtful = gap.lost.rows.is_some_and(|rows| rows < gap.found);
                *(if doubtful {
                    &mut work.stale
                } else {
                    &mut work.unreferenced
                }) += gap.found;
            }
        }
        open.extend(rest);
        work.gaps = open;
        // A newer leaf may have had what an older one had lost.
        let values = &mut work.values.first;
        self.output.change(&work.known.definition, |table, _| {
            let mut missing = BTreeMap::new();
            for (key, fault) in std::mem::take(values) {
                if !table.contains_key(key.as_slice())? {
                    missing.insert(key, fault);
                }
            }
            *values = missing;
            Ok(())
        })
    }

    fn fill_from(&mut self, work: &mut Work, leaf: &Candidate, gaps: &mut [Gap]) -> Result<()> {
        let (source, number) = (self.source, work.known.number);
        let at = PageRef {
            page: leaf.page,
            transaction: leaf.transaction,
        };
        let Ok(bytes) = source.read_node(at, number) else {
            return Ok(());
        };
        if !Node::new(&bytes).is_leaf() {
            return Ok(());
        }
        let lost = self
            .output
            .change(&work.known.definition, |table, weight| {
                fill(source, number, table, &bytes, gaps, weight)
            })?;
        work.values.extend(lost);
        Ok(())
    }

    fn report(mut self, works: Vec<Work>) -> Result<SalvageReport> {
        if self.unknown_pages > 0 {
            let fault = format!(
                "{} pages that the commit uses cannot be read, and nothing tells what was in them",
                self.unknown_pages
            );
            self.problem(None, None, fault);
        }
        let mut tables: Vec<SalvagedTable> =
            works.into_iter().map(|work| self.table(work)).collect();
        tables.sort_by(|left, right| {
            let key =
                |table: &SalvagedTable| (table.definition.group, table.definition.name.clone());
            key(left).cmp(&key(right))
        });
        self.output.finish()?;
        Ok(SalvageReport {
            file_bytes: self.source.bytes,
            page_size: self.source.pager.page_size as u64,
            header_lost: self.source.header.is_none(),
            transaction: self.slot.map(|slot| slot.transaction),
            doubt: self.doubt,
            pages_unreadable: self.marks.unreadable,
            tables,
            problems: self.problems,
            tables_missing: self.tables_missing,
        })
    }

    fn table(&mut self, work: Work) -> SalvagedTable {
        let name = work.known.definition.name.clone();
        let mut table = SalvagedTable {
            definition: work.known.definition,
            number: work.known.number,
            named: work.known.named,
            rows_exact: work.exact,
            rows_unreferenced: work.unreferenced,
            rows_stale: work.stale,
            rows_lost: work.more_lost.1,
            rows_lost_unknown: false,
            ranges_lost: Vec::new(),
            range_count: work.more_lost.0,
            values_lost: Vec::new(),
            value_count: work.values.more,
        };
        for Gap {
            lost,
            found,
            values,
        } in work.gaps
        {
            table.range_count += 1;
            table.rows_lost += lost
                .rows
                .map_or(0, |rows| rows.saturating_sub(found + values));
            table.rows_lost_unknown |= lost.rows.is_none();
            let range = LostRange {
                from: lost.low,
                to: lost.high,
                recorded: lost.rows,
                found,
            };
            let page = (lost.page != 0).then_some(lost.page);
            self.problem(page, Some(&name), format!("{}; {range}", lost.fault));
            if table.ranges_lost.len() < MOST_LISTED {
                table.ranges_lost.push(range);
            }
        }
        for (key, fault) in work.values.first {
            table.value_count += 1;
            self.problem(
                None,
                Some(&name),
                format!("the value of key `{}` is lost: {fault}", key.escape_ascii()),
            );
            if table.values_lost.len() < MOST_LISTED {
                table.values_lost.push(key);
            }
        }
        table
    }
}

fn candidate(bytes: &[u8]) -> Candidate {
    let at = identity(bytes);
    Candidate {
        table: table_number(bytes),
        transaction: at.transaction,
        page: at.page,
    }
}
