//! The tables of the file: from the catalogs as far as they can be read, then from older ones.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    output::Gap,
    source::{Source, ends},
    walk::{Lost, Marks, Visitor},
};
use crate::{
    catalog::{MAX_NAME, TableRecord},
    error::Result,
    node::Node,
    page::PageBytes,
    tree::TreeRoot,
    types::{Group, TableDefinition},
};

/// A file that names more tables than this is not one of ours; the rest goes without names.
const MOST_TABLES: usize = 1 << 16;

/// What is known of a table before its rows are looked for.
pub(super) struct Known {
    pub number: u32,
    pub definition: TableDefinition,
    pub named: bool,
    /// None if the record is old, so that its root is.
    pub root: Option<TreeRoot>,
}

/// Collects the rows of one group's catalog.
pub(super) struct Records {
    pub group: Group,
    pub found: Vec<(String, TableRecord)>,
    pub lost: Vec<Lost>,
}

impl Visitor for Records {
    fn leaf(&mut self, _: &mut Marks, bytes: &PageBytes) -> Result<()> {
        self.found
            .extend(records(bytes).take(MOST_TABLES - self.found.len().min(MOST_TABLES)));
        Ok(())
    }

    fn lost(&mut self, lost: Lost) -> Result<()> {
        self.lost.push(lost);
        Ok(())
    }
}

/// The records of a catalog's leaf that have the form of one.
fn records(bytes: &[u8]) -> impl Iterator<Item = (String, TableRecord)> {
    let node = Node::new(bytes);
    (0..node.len()).filter_map(move |index| {
        let name = String::from_utf8(node.key(index)).ok()?;
        let whole = node.overflow(index).is_none() && (1..=MAX_NAME).contains(&name.len());
        let record = TableRecord::decode(node.body(index)).filter(|_| whole)?;
        Some((name, record))
    })
}

/// The lost parts of one group's catalog, filled from pages that nothing refers to.
pub(super) struct Restored {
    pub gaps: Vec<Gap>,
    rows: BTreeMap<String, TableRecord>,
    /// Numbers of tables that a newer page of the catalog does not have any more.
    pub deleted: BTreeSet<u32>,
}

impl Restored {
    pub fn new(lost: Vec<Lost>) -> Self {
        Self {
            gaps: lost.into_iter().map(Gap::new).collect(),
            rows: BTreeMap::new(),
            deleted: BTreeSet::new(),
        }
    }

    /// Takes a leaf, which must be newer than those before.
    pub fn take(&mut self, source: &Source, page: u64, number: u32) {
        let Ok(bytes) = source.pager.read_raw(page) else {
            return;
        };
        if !source.is_intact(page, &bytes) || super::source::check_node(&bytes, number).is_err() {
            return;
        }
        let node = Node::new(&bytes);
        if !node.is_leaf() {
            return;
        }
        // What older leaves had between its ends is gone.
        let (first, last) = ends(node);
        if let (Ok(first), Ok(last)) = (String::from_utf8(first), String::from_utf8(last)) {
            let within: Vec<String> = self
                .rows
                .range(first..=last)
                .map(|(name, _)| name.clone())
                .collect();
            for name in within {
                self.deleted
                    .extend(self.rows.remove(&name).map(|record| record.number));
            }
        }
        for (name, record) in records(&bytes) {
            let inside = self.gaps.iter().any(|gap| gap.admits(name.as_bytes()));
            if inside && self.rows.len() < MOST_TABLES {
                self.deleted.remove(&record.number);
                self.rows.insert(name, record);
            }
        }
    }

    pub fn found(&self) -> u64 {
        self.rows.len() as u64
    }

    pub fn into_rows(self) -> BTreeMap<String, TableRecord> {
        self.rows
    }
}

/// The tables, each with a name and a number of its own.
#[derive(Default)]
pub(super) struct Tables {
    pub known: Vec<Known>,
    numbers: BTreeSet<u32>,
    names: BTreeSet<String>,
}

impl Tables {
    pub fn has(&self, number: u32) -> bool {
        self.numbers.contains(&number)
    }

    pub fn has_name(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub fn add(&mut self, name: String, group: Group, record: &TableRecord, exact: bool) {
        // The first to come is the more certain one.
        if !self.numbers.insert(record.number) {
            return;
        }
        let taken = self.names.contains(&name);
        let own = self.own_name(name, record.number);
        self.known.push(Known {
            number: record.number,
            definition: record.definition(own, group),
            named: exact && !taken,
            root: exact.then_some(record.root),
        });
    }

    /// A table of which only pages are left.
    pub fn add_unknown(&mut self, number: u32) {
        if self.numbers.insert(number) {
            let name = self.own_name(format!("table-{number}"), number);
            let types = "unknown".to_owned();
            self.known.push(Known {
                number,
                definition: TableDefinition {
                    name,
                    group: Group::DEFAULT,
                    key_type: types.clone(),
                    value_type: types,
                },
                named: false,
                root: None,
            });
        }
    }

    fn own_name(&mut self, name: String, number: u32) -> String {
        if self.names.insert(name.clone()) {
            return name;
        }
        let suffix = format!(" (table {number})");
        let mut cut = name.len().min(MAX_NAME - suffix.len());
        while !name.is_char_boundary(cut) {
            cut -= 1;
        }
        // The number makes it one of its kind, unless somebody chose names to prevent that.
        let mut own = format!("{}{suffix}", &name[..cut]);
        while !self.names.insert(own.clone()) {
            own = format!("table-{number}-{}", self.names.len());
        }
        own
    }
}
