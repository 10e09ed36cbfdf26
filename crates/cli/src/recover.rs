//! `folio recover`: every readable row of a damaged file, in a new one.

use std::path::PathBuf;

use clap::Args;
use folio_store::{Error, SalvageReport, SalvagedTable};
use serde::Serialize;

use crate::output::{self, Format, Table, grouped, size};
use crate::run::Failure;
use crate::verify::{progress_bar, show_progress};

/// How many problems are listed.
const MAX_PROBLEMS: usize = 100;

#[derive(Args)]
#[command(after_help = "\
Reads FILE, which is not changed, and writes what can be read of it to OUT, which must not exist. Rows that the newest
whole commit leads to are exact. Where a branch of a tree is lost, its leaves are looked for in the whole file. Where
not even a commit is left, the newest version of each row is taken, which may be stale; such rows are counted apart.

OUT is for reading what was in FILE: with `folio stat`, `folio verify`, and programs. Never start a node of the same
cluster on it: if a row of its vote or its log is lost, it could vote twice or forget what it acknowledged. Add the node
anew, with a new id and an empty file.

Examples:
  folio recover node-1.folio saved.folio
  folio recover node-1.folio saved.folio --format json | jq .tables

Exit codes: 0 nothing was lost, 1 error, 3 something was lost, or FILE is none of Folio's, 4 the file is in use.")]
pub struct Arguments {
    /// The damaged file
    file: PathBuf,
    /// The new file
    out: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// The report in JSON. Keys are escaped, since they may be any bytes.
#[derive(Serialize)]
struct ReportJson {
    file: String,
    out: String,
    complete: bool,
    file_bytes: u64,
    page_size: u64,
    header_lost: bool,
    transaction: Option<u64>,
    doubt: Option<String>,
    pages_unreadable: u64,
    tables_missing: bool,
    tables: Vec<TableJson>,
    problem_count: usize,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct TableJson {
    name: String,
    named: bool,
    group: u8,
    key_type: String,
    value_type: String,
    rows_exact: u64,
    rows_unreferenced: u64,
    rows_stale: u64,
    rows_lost: u64,
    rows_lost_unknown: bool,
    range_count: u64,
    ranges_lost: Vec<RangeJson>,
    value_count: u64,
    values_lost: Vec<String>,
}

#[derive(Serialize)]
struct RangeJson {
    from: Option<String>,
    to: Option<String>,
    recorded: Option<u64>,
    found: u64,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let bar = progress_bar();
    let report = folio_store::salvage(&arguments.file, &arguments.out, |what, done, total| {
        show_progress(&bar, what, done, total);
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| match error {
        Error::InUse { .. } => Failure::Unavailable(error.to_string()),
        error if error.is_corruption() => Failure::Corruption(Some(error.to_string())),
        error => Failure::error(error),
    })?;
    match arguments.format {
        Format::Table => output::print(&describe(arguments, &report))?,
        Format::Json => output::print_json(&json(arguments, &report))?,
    }
    if report.is_complete() {
        Ok(())
    } else {
        Err(Failure::Corruption(None))
    }
}

fn describe(arguments: &Arguments, report: &SalvageReport) -> String {
    let mut list = Table::list();
    list.row(["file".to_owned(), arguments.file.display().to_string()])
        .row(["length".to_owned(), size(report.file_bytes)])
        .row(["written to".to_owned(), arguments.out.display().to_string()])
        .row([
            "unreadable pages".to_owned(),
            grouped(report.pages_unreadable),
        ]);
    let mut tables = Table::new(&[
        "group",
        "table",
        "exact",
        "unreferenced",
        "may be stale",
        "lost",
    ]);
    for table in &report.tables {
        tables.row([
            table.definition.group.to_string(),
            table.definition.name.clone(),
            grouped(table.rows_exact),
            grouped(table.rows_unreferenced),
            grouped(table.rows_stale),
            lost(table),
        ]);
    }
    let mut text = format!("{list}\n{tables}\n");
    for problem in report.problems.iter().take(MAX_PROBLEMS) {
        text.push_str(&format!("  {problem}\n"));
    }
    if report.problems.len() > MAX_PROBLEMS {
        text.push_str("  and more\n");
    }
    text.push_str(match report.is_complete() {
        true => "Nothing was lost.\n",
        false => "Something was lost, or is not certain.\n",
    });
    text.push_str(
        "Read it, and never start a node of the same cluster on it: see docs/damage.md.\n",
    );
    text
}

fn lost(table: &SalvagedTable) -> String {
    let known = table.rows_lost + table.value_count;
    match (table.rows_lost_unknown, known) {
        (false, _) => grouped(known),
        (true, 0) => "unknown".to_owned(),
        (true, _) => format!("{} and more", grouped(known)),
    }
}

fn json(arguments: &Arguments, report: &SalvageReport) -> ReportJson {
    let escaped = |key: &Vec<u8>| key.escape_ascii().to_string();
    ReportJson {
        file: arguments.file.display().to_string(),
        out: arguments.out.display().to_string(),
        complete: report.is_complete(),
        file_bytes: report.file_bytes,
        page_size: report.page_size,
        header_lost: report.header_lost,
        transaction: report.transaction,
        doubt: report.doubt.clone(),
        pages_unreadable: report.pages_unreadable,
        tables_missing: report.tables_missing,
        tables: report
            .tables
            .iter()
            .map(|table| TableJson {
                name: table.definition.name.clone(),
                named: table.named,
                group: table.definition.group.index(),
                key_type: table.definition.key_type.clone(),
                value_type: table.definition.value_type.clone(),
                rows_exact: table.rows_exact,
                rows_unreferenced: table.rows_unreferenced,
                rows_stale: table.rows_stale,
                rows_lost: table.rows_lost,
                rows_lost_unknown: table.rows_lost_unknown,
                range_count: table.range_count,
                ranges_lost: table
                    .ranges_lost
                    .iter()
                    .map(|range| RangeJson {
                        from: range.from.as_ref().map(escaped),
                        to: range.to.as_ref().map(escaped),
                        recorded: range.recorded,
                        found: range.found,
                    })
                    .collect(),
                value_count: table.value_count,
                values_lost: table.values_lost.iter().map(escaped).collect(),
            })
            .collect(),
        problem_count: report.problems.len(),
        problems: report
            .problems
            .iter()
            .take(MAX_PROBLEMS)
            .map(ToString::to_string)
            .collect(),
    }
}
