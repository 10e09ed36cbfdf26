//! `folio stat`: what is in a file that no node has open.

use std::path::PathBuf;

use clap::Args;
use folio_node::offline::{self, StatReport};

use crate::output::{self, Format, Table, grouped, size};
use crate::run::Failure;

#[derive(Args)]
#[command(after_help = "\
Shows the file as its last durable commit has it. What the log holds beyond the applied index is applied when the node
starts. Reads little of the file and checks only what it reads: `folio verify` checks everything.

Examples:
  folio stat node-1.folio
  folio stat node-1.folio --format json | jq .raft

Exit codes: 0 success, 1 error, 3 damaged, 4 the file is in use.")]
pub struct Arguments {
    /// The file of a node
    file: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let report = offline::stat(&arguments.file)?;
    match arguments.format {
        Format::Table => output::print(&describe(&report)),
        Format::Json => output::print_json(&report),
    }
}

fn describe(report: &StatReport) -> String {
    let bytes = |pages: u64| {
        format!(
            "{} pages, {}",
            grouped(pages),
            size(pages.saturating_mul(report.page_size))
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
