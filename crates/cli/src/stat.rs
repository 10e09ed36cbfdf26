//! `folio stat`: what is in a file.

use std::path::PathBuf;

use clap::Args;
use folio_node::offline::{self, StatReport};
use folio_store::Database;
use serde::Serialize;

use crate::output::{self, Drawing, Format, Table, grouped, size};
use crate::run::Failure;

/// The pages at the start of every file.
const FIXED: u64 = 8;

#[derive(Args)]
#[command(after_help = "\
Shows the file as its last durable commit has it, also that of a running node, which does not notice. What the log holds
beyond the applied index is in the memory of the node, or is applied when it starts. Reads little of the file and checks only what it reads: `folio verify` checks everything.

Examples:
  folio stat node-1.folio
  folio stat node-1.folio --pages       # why is it so large?
  folio stat node-1.folio --format json | jq .raft

Exit codes: 0 success, 1 error, 3 damaged, 4 the file is in use.")]
pub struct Arguments {
    /// The file of a node
    file: PathBuf,
    /// Draw where the bytes are: depth, fill and pages of every table, which reads all pages but those of long values
    #[arg(long)]
    pages: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (stat, database) = offline::stat(&arguments.file)?;
    let savepoints = list_savepoints(&database)?;
    let pages = match arguments.pages {
        true => Some(count_pages(&database, &savepoints)?),
        false => None,
    };
    match arguments.format {
        Format::Table => {
            let mut text = describe(&stat);
            if !savepoints.is_empty() {
                let list = describe_savepoints(&savepoints, stat.page_size);
                text.push_str(&format!("\n{list}"));
            }
            if let Some(pages) = &pages {
                text.push_str(&format!("\n{}", describe_pages(pages)));
            }
            output::print(&text)
        }
        Format::Json => output::print_json(&Report {
            stat,
            savepoints,
            pages,
        }),
    }
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    stat: StatReport,
    savepoints: Vec<Savepoint>,
    #[serde(rename = "page_use", skip_serializing_if = "Option::is_none")]
    pages: Option<PageUse>,
}

/// A savepoint, and the pages that would be free without it.
#[derive(Serialize)]
struct Savepoint {
    name: String,
    transaction: u64,
    /// If it were released.
    pages: u64,
    /// Further ones, if those before it were released as well.
    pages_with_older: u64,
}

/// Where the pages of a file are. They add up to its length.
#[derive(Serialize)]
struct PageUse {
    page_size: u64,
    /// Header, slots, acknowledgement.
    fixed: u64,
    tables: Vec<TablePages>,
    /// Catalogs, the free-space map, and a list of the last commit's pages.
    catalogs_and_map: u64,
    /// What savepoints keep.
    savepoints: u64,
    free: u64,
    grown_ahead: u64,
}

#[derive(Serialize)]
struct TablePages {
    group: u8,
    name: String,
    rows: u64,
    depth: u64,
    branch: u64,
    leaf: u64,
    long_values: u64,
    fill: f64,
}

impl TablePages {
    fn pages(&self) -> u64 {
        self.branch
            .saturating_add(self.leaf)
            .saturating_add(self.long_values)
    }
}

fn list_savepoints(database: &Database) -> Result<Vec<Savepoint>, Failure> {
    let kept = database.savepoint_pages()?;
    let savepoints = kept.into_iter().map(|kept| Savepoint {
        name: kept.savepoint.name,
        transaction: kept.savepoint.transaction,
        pages: kept.alone,
        pages_with_older: kept.with_older,
    });
    Ok(savepoints.collect())
}

fn count_pages(database: &Database, savepoints: &[Savepoint]) -> Result<PageUse, Failure> {
    let statistics = database.statistics();
    let view = database.begin_read()?;
    let mut tables = Vec::new();
    for definition in view.tables()? {
        let found = view.untyped(&definition)?.statistics()?;
        tables.push(TablePages {
            group: definition.group.index(),
            name: definition.name,
            rows: found.rows,
            depth: found.depth,
            branch: found.branch_pages,
            leaf: found.leaf_pages,
            long_values: found.overflow_pages,
            fill: found.fill(),
        });
    }
    let of_tables = tables
        .iter()
        .fold(FIXED, |sum: u64, table| sum.saturating_add(table.pages()));
    let used = statistics
        .length_pages
        .saturating_sub(statistics.free_pages);
    let savepoints = savepoints.iter().fold(0, |sum: u64, savepoint| {
        sum.saturating_add(savepoint.pages)
            .saturating_add(savepoint.pages_with_older)
    });
    Ok(PageUse {
        page_size: statistics.page_size,
        fixed: FIXED,
        tables,
        catalogs_and_map: used.saturating_sub(of_tables).saturating_sub(savepoints),
        savepoints,
        free: statistics.free_pages,
        grown_ahead: statistics
            .file_pages
            .saturating_sub(statistics.length_pages),
    })
}

fn describe_savepoints(savepoints: &[Savepoint], page_size: u64) -> String {
    let mut list = Table::new(&[
        "savepoint",
        "transaction",
        "pages it keeps alone",
        "",
        "and with older ones",
    ]);
    for savepoint in savepoints {
        list.row([
            savepoint.name.clone(),
            grouped(savepoint.transaction),
            grouped(savepoint.pages),
            size(savepoint.pages.saturating_mul(page_size)),
            grouped(savepoint.pages_with_older),
        ]);
    }
    list.to_string()
}

/// The width of bars, in characters.
const WIDTH: u64 = 40;

fn describe_pages(pages: &PageUse) -> String {
    let drawing = Drawing::of_stdout();
    let mut trees = Table::new(&["table", "depth", "branch", "leaf", "long", "fill", ""]);
    for table in &pages.tables {
        // In thousandths: a bar is drawn of whole numbers. What has no pages is neither full nor empty.
        let fill = match table.pages() {
            0 => 0,
            _ => (table.fill * 1000.0) as u64,
        };
        trees.row([
            format!("{}/{}", table.group, table.name),
            table.depth.to_string(),
            grouped(table.branch),
            grouped(table.leaf),
            grouped(table.long_values),
            format!("{} %", fill / 10),
            drawing.bar(fill, 1000, WIDTH / 2),
        ]);
    }
    format!("{trees}\n{}", describe_places(pages, drawing))
}

/// Where the bytes are, drawn to one scale.
fn describe_places(pages: &PageUse, drawing: Drawing) -> String {
    let bytes = |count: u64| size(count.saturating_mul(pages.page_size));
    let tables = pages.tables.iter();
    let mut places: Vec<_> = tables
        .map(|table| {
            (
                format!("table {}/{}", table.group, table.name),
                table.pages(),
            )
        })
        .collect();
    for (what, count) in [
        ("the file itself", pages.fixed),
        ("catalogs, free-space map", pages.catalogs_and_map),
        ("savepoints alone", pages.savepoints),
        ("nobody: free", pages.free),
        ("nobody: grown ahead", pages.grown_ahead),
    ] {
        places.push((what.to_owned(), count));
    }
    let most = places.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let mut list = Table::new(&["pages of", "pages", "", ""]);
    for (what, count) in places {
        let bar = drawing.bar(count, most, WIDTH);
        list.row([what, grouped(count), bytes(count), bar]);
    }
    list.to_string()
}

fn describe(report: &StatReport) -> String {
    let drawing = Drawing::of_stdout();
    let whole = report.pages.saturating_add(report.spare_pages);
    let bytes = |pages: u64| {
        format!(
            "{} pages, {}  {}",
            grouped(pages),
            size(pages.saturating_mul(report.page_size)),
            drawing.bar(pages, whole, WIDTH)
        )
    };
    let mut file = Table::list();
    file.row(["file".to_owned(), report.file.clone()])
        .row([
            "length".to_owned(),
            format!(
                "{} ({} bytes)",
                size(report.file_bytes),
                grouped(report.file_bytes)
            ),
        ])
        .row(["page size".to_owned(), size(report.page_size)])
        .row([
            "used".to_owned(),
            bytes(report.pages.saturating_sub(report.free_pages)),
        ])
        .row(["free".to_owned(), bytes(report.free_pages)])
        .row(["grown ahead".to_owned(), bytes(report.spare_pages)]);
    if !report.pinned_commits.is_empty() {
        let commits = report.pinned_commits.iter().map(|commit| grouped(*commit));
        let commits = commits.collect::<Vec<_>>().join(", ");
        file.row([
            "pinned".to_owned(),
            format!("commits {commits}, by readers in other processes"),
        ]);
    }

    let mut tables = Table::new(&["group", "table", "rows", "key", "value"]);
    for table in &report.tables {
        tables.row([
            table.group.to_string(),
            table.name.clone(),
            grouped(table.rows),
            table.key_type.clone(),
            table.value_type.clone(),
        ]);
    }

    let raft = &report.raft;
    let number = |value: Option<u64>| value.map_or_else(|| "none".to_owned(), grouped);
    let members = raft
        .voters
        .iter()
        .map(|(id, address)| format!("{id} at {address}"))
        .collect::<Vec<_>>()
        .join(", ");
    let mut state = Table::list();
    state
        .row(["node".to_owned(), number(raft.node)])
        .row(["term".to_owned(), number(raft.term)])
        .row(["first log entry".to_owned(), number(raft.first_log)])
        .row(["last log entry".to_owned(), number(raft.last_log)])
        .row(["committed".to_owned(), number(raft.committed)])
        .row(["applied".to_owned(), number(raft.applied)])
        .row(["voters".to_owned(), format!("[{members}]")]);

    let mut text = format!("{file}\n{tables}\n{state}");
    if !report.vaults.is_empty() {
        let mut vaults = Table::new(&[
            "vault",
            "name",
            "height",
            "entities",
            "relationships",
            "state root",
        ]);
        for vault in &report.vaults {
            vaults.row([
                vault.vault.to_string(),
                vault.name.clone(),
                grouped(vault.height),
                grouped(vault.entities),
                grouped(vault.relationships),
                vault.state_root.to_string(),
            ]);
        }
        text.push_str(&format!("\n{vaults}"));
    }
    text
}
