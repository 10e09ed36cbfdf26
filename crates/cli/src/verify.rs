//! `folio verify`: checks a file that no node has open.

use std::path::PathBuf;

use clap::Args;
use folio_node::offline::{self, VerifyReport};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{self, Format, Table, grouped, size};
use crate::run::Failure;

#[derive(Args)]
#[command(after_help = "\
Reads every page that the file's last durable commit refers to, every block of every vault, and computes every state
root anew. The file is not changed. A running node's file cannot be verified: stop the node, or copy the file.

Examples:
  folio verify node-1.folio
  folio verify node-1.folio --format json | jq .problems

Exit codes: 0 sound, 1 error, 3 damaged, 4 the file is in use.")]
pub struct Arguments {
    /// The file of a node
    file: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Hidden by itself when standard error is not a terminal.
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg:9} [{bar:40}] {pos}/{len}");
    bar.set_style(
        style
            .expect("the template is a good one")
            .progress_chars("=> "),
    );
    let report = offline::verify(&arguments.file, &mut |what, done, total| {
        if bar.message() != what {
            bar.set_message(what.to_owned());
        }
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let report = report?;
    match arguments.format {
        Format::Table => output::print(&describe(&report))?,
        Format::Json => output::print_json(&report)?,
    }
    if report.is_sound() {
        Ok(())
    } else {
        Err(Failure::Corruption(None))
    }
}

fn describe(report: &VerifyReport) -> String {
    let mut table = Table::list();
    table
        .row(["file".to_owned(), report.file.clone()])
        .row(["length".to_owned(), size(report.file_bytes)])
        .row(["pages checked".to_owned(), grouped(report.pages)])
        .row(["tables".to_owned(), grouped(report.tables)])
        .row(["rows".to_owned(), grouped(report.rows)]);
    let mut text = table.to_string();
    if !report.vaults.is_empty() {
        let mut vaults = Table::new(&[
            "vault",
            "height",
            "transactions",
            "entities",
            "relationships",
            "state root",
        ]);
        for vault in &report.vaults {
            vaults.row([
                vault.vault.to_string(),
                grouped(vault.height),
                grouped(vault.transactions),
                grouped(vault.entities),
                grouped(vault.relationships),
                vault.state_root.to_string(),
            ]);
        }
        text.push_str(&format!("\n{vaults}"));
    }
    if report.is_sound() {
        text.push_str("\nThe file is sound.\n");
        match report.entries_to_apply() {
            0 => {}
            entries => text.push_str(&format!(
                "Its log holds {} entries more, which the node applies when it starts.\n",
                grouped(entries)
            )),
        }
        return text;
    }
    text.push_str(&format!(
        "\nThe file is damaged, in {} places:\n",
        grouped(report.problem_count as u64)
    ));
    for problem in &report.problems {
        text.push_str(&format!("  {problem}\n"));
    }
    if report.problem_count > report.problems.len() {
        text.push_str("  and more\n");
    }
    text.push_str("Do not start a node on it: restore the file from a backup, or add the node anew with an empty file.\n");
    text
}
