//! `folio compact`: makes a file as short as what is in it.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use folio_store::{CompactOptions, Database};

use crate::output::{self, Table, grouped, size};
use crate::run::Failure;
use crate::verify::{progress_bar, show_progress};

#[derive(Args)]
#[command(after_help = "\
Moves pages from the end of FILE into the free ones before them, and cuts the file off. No other process may have the file
open: stop the node first. It may be interrupted at any time, and nothing is lost. `folio stat FILE` says beforehand
how many pages are free.

Example:
  folio compact node-1/node.folio

Exit codes: 0 done, 1 error, 3 FILE is damaged, 4 it is in use.")]
pub struct Arguments {
    /// The file
    file: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let database = Database::open(&arguments.file)?;
    let bar = progress_bar();
    let done = database.compact(CompactOptions::new(), |done, total| {
        show_progress(&bar, "moved", done, total);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let done = done?;
    database.close()?;
    let mut table = Table::list();
    table
        .row(["before".to_owned(), size(done.bytes_before)])
        .row(["now".to_owned(), size(done.bytes_after)])
        .row(["pages moved".to_owned(), grouped(done.pages_moved)]);
    output::print(&table.to_string())
}
