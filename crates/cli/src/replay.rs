//! `folio replay`: carries out the history in a file again, and compares.

use std::path::{Path, PathBuf};

use clap::Args;
use folio_node::offline::{self, History, ReplayOptions, ReplayReport};

use crate::output::{self, Format, Table, grouped};
use crate::run::Failure;
use crate::verify::{progress_bar, show_progress};

#[derive(Args)]
#[command(after_help = "\
Carries out the history in FILE again, in a ledger of its own, and compares every block and every row. FILE may be the
file of a node, running or not, or a copy of one. It is not changed.

The history is the Raft log if that has every entry since the beginning, and the blocks of all vaults otherwise. Blocks
hold what was carried out; sessions, counters, names and retention of vaults, past versions and refused commands are
compared only by the log. With --from, the replay begins with an earlier copy (of this file, or of that of another node) and carries out what came
after it: so the log needs to reach back only that far.

The ledger that is made takes as much room as the one in FILE, in --scratch or else where temporary files go, until the
end of the command.

Examples:
  folio replay node-1.folio
  folio replay node-1.folio --from monday.folio
  folio replay tuesday.folio --format json | jq .difference

Exit codes: 0 no difference, 1 error, 3 a difference or damage, 4 the file is in use.")]
pub struct Arguments {
    /// The file
    file: PathBuf,
    /// An earlier copy to begin with, instead of nothing
    #[arg(long, value_name = "COPY")]
    from: Option<PathBuf>,
    /// A directory for the ledger that is made
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments {
        file,
        from,
        scratch,
        ..
    } = arguments;
    let report = replay(file, from.clone(), scratch.as_deref())?;
    match arguments.format {
        Format::Table => output::print(&describe(&report))?,
        Format::Json => output::print_json(&report)?,
    }
    match report.difference {
        None => Ok(()),
        Some(_) => Err(Failure::Corruption(None)),
    }
}

/// Replays with a progress bar, in a directory that is removed afterwards.
pub fn replay(
    file: &Path,
    from: Option<PathBuf>,
    scratch: Option<&Path>,
) -> Result<ReplayReport, Failure> {
    let scratch = match scratch {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    };
    let scratch = scratch.map_err(|error| {
        Failure::Error(format!("cannot make a directory for the replay: {error}"))
    })?;
    let options = ReplayOptions {
        from,
        scratch: scratch.path().to_owned(),
    };
    let bar = progress_bar();
    let report = offline::replay(file, &options, &mut |what, done, total| {
        show_progress(&bar, what, done, total);
    });
    bar.finish_and_clear();
    Ok(report?)
}

/// In words, for people.
pub fn describe(report: &ReplayReport) -> String {
    let by = match report.by {
        History::Log => "the log",
        History::Blocks => "the blocks",
    };
    let mut table = Table::list();
    table
        .row(["file".to_owned(), report.file.clone()])
        .row(["replayed by".to_owned(), by.to_owned()])
        .row([
            "from".to_owned(),
            report
                .from
                .clone()
                .unwrap_or_else(|| "the beginning".to_owned()),
        ])
        .row(["log entries".to_owned(), grouped(report.entries)])
        .row(["vaults".to_owned(), grouped(report.vaults)])
        .row(["blocks".to_owned(), grouped(report.blocks)])
        .row(["compared".to_owned(), report.compared.to_owned()]);
    for what in &report.not_compared {
        table.row(["not compared", *what]);
    }
    let mut text = table.to_string();
    match &report.difference {
        None => text.push_str("\nEverything that was compared is equal.\n"),
        Some(difference) => text.push_str(&format!("\nThe first difference: {difference}\n")),
    }
    if report.entries_beyond > 0 {
        text.push_str(&format!(
            "The log holds {} entries more, which are not applied in this file: there is nothing to compare them with.\n",
            grouped(report.entries_beyond)
        ));
    }
    text
}
