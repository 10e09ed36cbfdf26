//! `folio restore`: a new cluster from a copy of a node.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use folio_node::offline;

use crate::files;
use crate::output::{self, Format, Table, grouped};
use crate::run::Failure;
use crate::settings::Settings;
use crate::verify::{progress_bar, show_progress};

#[derive(Args)]
#[command(after_help = "\
Makes DATA the data directory of the first node of a new cluster, which has the ledger that COPY has. COPY may be the file
of a node that is not running any more, a copy by `folio backup`, or one that `folio apply` brought up to date; it is
not changed, and every page of it is checked.

The node has an id above all that COPY knows of, votes for itself only, and belongs to a cluster of another name: it
cannot come back as the node that COPY is of, and nodes of the old cluster refuse it. What was acknowledged and is in COPY is
in the new cluster. A copy of a follower may lack what was acknowledged last.

When two of three machines are lost, this makes a cluster of the third one's file. Be sure that the others will not
start again: there would be two ledgers.

Examples:
  folio restore monday.folio node-1 --cluster folio-2
  folio serve --data node-1

Exit codes: 0 restored, 1 error, 3 COPY is damaged, 4 it is in use.")]
pub struct Arguments {
    /// The copy
    copy: PathBuf,
    /// The data directory of the new node, which must be empty or not there
    data: PathBuf,
    /// The name of the new cluster; one that no other cluster has that its nodes could reach
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments {
        copy,
        data,
        cluster,
        format,
    } = arguments;
    let failed = |error| files::about(data, error);
    files::make_private_directory(data)?;
    if std::fs::read_dir(data).map_err(failed)?.next().is_some() {
        return Err(Failure::Error(format!(
            "{} is not empty: name a directory that is, or is not there",
            data.display()
        )));
    }
    let bar = progress_bar();
    let restored = offline::restore(copy, &data.join("node.folio"), |done, total| {
        show_progress(&bar, "restored", done, total);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let restored = restored?;
    let settings = format!(
        "# A node that was restored from a copy. `folio serve` reads this; `folio config example` shows every setting.\n\
         id = {}\ncluster = {}\n",
        restored.node,
        serde_json::Value::from(cluster.as_str())
    );
    files::write(&Settings::remembered(data), &settings, files::SECRET, false)?;
    if *format == Format::Json {
        return output::print_json(&restored);
    }
    let applied = restored
        .applied
        .map_or_else(|| "nothing".to_owned(), grouped);
    let mut table = Table::list();
    table
        .row(["cluster".to_owned(), cluster.clone()])
        .row(["node".to_owned(), restored.node.to_string()])
        .row(["applied".to_owned(), applied])
        .row(["to apply".to_owned(), grouped(restored.to_apply)]);
    output::print(&format!(
        "{table}Start it with: folio serve --data {}\n",
        data.display()
    ))
}
