//! `folio backup` and `folio apply`: copies of files, and what has changed since.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use folio_store::{BackupOptions, BackupPoint, BackupReport, Database, apply_backup};

use crate::amount::Rate;
use crate::output::{self, Table, grouped, size};
use crate::run::Failure;
use crate::verify::{progress_bar, show_progress};

#[derive(Args)]
#[command(after_help = "\
Copies FILE as its last durable commit has it to OUT, which is replaced by a whole copy or not at all. Every page is
checked on the way. FILE may be that of a running node, which goes on meanwhile and keeps the pages of that commit
until the end. What the node has not made durable is not in the copy.

Never start a node of a cluster that goes on without it on an earlier copy: it would have forgotten votes it gave and
entries it acknowledged. Add it anew, with a new id and an empty file. Copies are for when the whole cluster is lost.

With --since, OUT gets what has changed since an earlier copy, for `folio apply`.

Examples:
  folio backup node-1.folio monday.folio
  folio backup node-1.folio tuesday.changes --since monday.folio
  folio apply monday.folio tuesday.changes      # monday.folio is then what tuesday's copy would be

Exit codes: 0 success, 1 error, 3 FILE is damaged, 4 it is in use.")]
pub struct Arguments {
    /// The file
    file: PathBuf,
    /// Where the copy goes
    out: PathBuf,
    /// Copy the rows into a new database, in full pages and without free ones
    #[arg(long, conflicts_with = "since")]
    compacted: bool,
    /// An earlier copy, as `backup` or `apply` has left it: write what has changed since
    #[arg(long, value_name = "COPY")]
    since: Option<PathBuf>,
    /// The most bytes to read in a second, for example 50M
    #[arg(long, value_name = "BYTES/S")]
    rate: Option<Rate>,
}

#[derive(Args)]
#[command(after_help = "\
COPY must be the copy that the changes were made from, unchanged. The new one is written beside it, checked, and put in
its place; if anything is wrong, COPY stays as it was.

Example:
  folio apply monday.folio tuesday.changes

Exit codes: 0 success, 1 error, 3 COPY or CHANGES is damaged, 4 COPY is in use.")]
pub struct ApplyArguments {
    /// The copy
    copy: PathBuf,
    /// What `folio backup --since` wrote
    changes: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let database = Database::open_read_only(&arguments.file)?;
    let mut options = BackupOptions::new().rate(arguments.rate.map_or(0, |rate| rate.0));
    if arguments.compacted {
        options = options.compacted();
    }
    let bar = progress_bar();
    let progress = |done, total| {
        show_progress(&bar, "copied", done, total);
        ControlFlow::Continue(())
    };
    let report = match &arguments.since {
        None => database.backup_to(options, &arguments.out, progress),
        Some(copy) => {
            let point = BackupPoint::of_file(copy)?;
            let out = &arguments.out;
            let file = File::create_new(out).map_err(|error| {
                Failure::Error(format!("{}: cannot create it: {error}", out.display()))
            })?;
            let report = database.backup_since(&point, options, &file, progress);
            if report.is_err() {
                // A part of it is of no use; the failure says what happened.
                drop(std::fs::remove_file(out));
            }
            file.sync_all().map_err(Failure::error)?;
            report
        }
    };
    bar.finish_and_clear();
    describe(&report?)
}

pub fn apply(arguments: &ApplyArguments) -> Result<(), Failure> {
    let changes = &arguments.changes;
    let stream = File::open(changes).map_err(|error| {
        Failure::Error(format!("{}: cannot open it: {error}", changes.display()))
    })?;
    let stream = std::io::BufReader::new(stream);
    describe(&apply_backup(&arguments.copy, stream)?)
}

fn describe(report: &BackupReport) -> Result<(), Failure> {
    let mut table = Table::list();
    table
        .row(["transaction".to_owned(), grouped(report.transaction)])
        .row(["pages".to_owned(), grouped(report.pages)])
        .row(["length".to_owned(), size(report.bytes)]);
    output::print(&table.to_string())
}
