//! `folio restore`: a new cluster from backups of a node.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use folio_node::offline::{self, Copies, RestoreReport, Until};
use folio_store::{apply_backup, unpack_backup};

use crate::archive::{Archive, Form, is_stream};
use crate::files::{self, about, sync_directory};
use crate::output::{self, Format, Table, grouped};
use crate::run::Failure;
use crate::settings::Settings;
use crate::verify::{progress_bar, show_progress};

/// Where in the directory everything is made. What a command that was killed has left there is of no use to the next one.
const SCRATCH: &str = "folio-restoring";

#[derive(Args)]
#[command(after_help = "\
Makes DATA the data directory of the first node of a new cluster, which has the ledger that BACKUP has: a backup as it is or
compressed, or the file of a node that is not running any more. Incremental ones follow the whole one, in the order in
which they were made; nothing of them is changed, and every page is checked. The first may be -, standard input.

With --vault and --height the ledger is what it was when that block was the vault's last one, all other vaults as of that moment, too;
what came after is not in the new cluster. For that the log in the backups is carried out upon the last one from before that moment. A
node keeps the last 10,000 entries of its log (log-entries-kept), so backups that are made more often than that have every
moment between them. What is there at all, the error says.

The node has an id above all that the backup knows of, votes for itself only, and belongs to a cluster of another name: it
cannot come back as the node that the backup is of, and nodes of the old cluster refuse it. What was acknowledged and is in the backup is
in the new cluster. A backup of a follower may lack what was acknowledged last.

When two of three machines are lost, this makes a cluster of the third one's file. Be sure that the others will not
start again: there would be two ledgers.

It takes the room of the new file, and once more that of the backup where that is compressed or incremental. If it is interrupted,
begin it again.

Examples:
  folio restore monday.folio.zst node-1 --cluster folio-2
  folio restore monday.folio.zst tuesday.changes wednesday.changes node-1 --cluster folio-2
  folio restore monday.folio.zst tuesday.changes node-1 --cluster folio-2 --vault 1 --height 4711
  folio serve --data node-1

Exit codes: 0 restored, 1 error, 3 a backup is damaged, 4 it is in use.")]
pub struct Arguments {
    /// A whole backup, and what has changed since
    #[arg(required = true, value_name = "BACKUP")]
    backups: Vec<PathBuf>,
    /// The data directory of the new node, which must be empty or not there
    data: PathBuf,
    /// The name of the new cluster; one that no other cluster has that its nodes could reach
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// A vault whose height says to which moment
    #[arg(long, value_name = "NUMBER", requires = "height")]
    vault: Option<u64>,
    /// The last block that the vault is to have
    #[arg(long, value_name = "HEIGHT", requires = "vault")]
    height: Option<u64>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (data, cluster) = (&arguments.data, &arguments.cluster);
    prepare(data)?;
    let until = arguments.vault.zip(arguments.height);
    let until = until.map(|(vault, height)| Until { vault, height });
    let scratch = data.join(SCRATCH);
    files::make_private_directory(&scratch)?;
    let restored = restore(
        &arguments.backups,
        until,
        &scratch,
        &data.join("node.folio"),
    );
    // What is in it is of no use any more, whatever came of it.
    drop(std::fs::remove_dir_all(&scratch));
    let restored = restored?;
    let settings = format!(
        "# A node that was restored from a backup. `folio serve` reads this; `folio config example` shows every setting.\n\
         id = {}\ncluster = {}\n",
        restored.node,
        serde_json::Value::from(cluster.as_str())
    );
    let remembered = Settings::remembered(data);
    files::write(&remembered, &settings, files::SECRET, false)?;
    sync_directory(&remembered)?;
    match arguments.format {
        Format::Json => output::print_json(&restored),
        Format::Table => output::print(&describe(&restored, arguments)),
    }
}

/// Makes the directory. What an interrupted restoring left in it goes.
fn prepare(data: &Path) -> Result<(), Failure> {
    files::make_private_directory(data)?;
    let mut left = None;
    for entry in std::fs::read_dir(data).map_err(|error| about(data, error))? {
        let entry = entry.map_err(|error| about(data, error))?;
        if entry.file_name() != SCRATCH {
            return Err(Failure::Error(format!(
                "{} is not empty: name a directory that is, or is not there",
                data.display()
            )));
        }
        left = Some(entry.path());
    }
    match left {
        Some(left) => std::fs::remove_dir_all(&left).map_err(|error| about(&left, error)),
        None => Ok(()),
    }
}

fn restore(
    backups: &[PathBuf],
    until: Option<Until>,
    scratch: &Path,
    out: &Path,
) -> Result<RestoreReport, Failure> {
    let [copy, earlier] = ["copy", "before"].map(|name| scratch.join(name));
    let Some((first, changes)) = backups.split_first() else {
        return Err(Failure::Usage("name a backup".into()));
    };
    let bar = progress_bar();
    let copies = match as_it_is(first, changes)? {
        true => Copies {
            copy: first,
            before: None,
        },
        false => {
            bar.set_message("unpacking");
            let has_before = unpack(first, changes, until, &copy, &earlier)?;
            Copies {
                copy: &copy,
                before: has_before.then_some(&earlier),
            }
        }
    };
    let restored = offline::restore(copies, until, scratch, out, |done, total| {
        show_progress(&bar, "restored", done, total);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    Ok(restored?)
}

/// Whether the backup is a database that can be read where it is.
fn as_it_is(first: &Path, changes: &[PathBuf]) -> Result<bool, Failure> {
    Ok(changes.is_empty() && !is_stream(first) && Archive::open(first)?.form == Form::Other)
}

/// Puts a chain of backups together in `copy`, as far as it is needed. `earlier` is the state before the last step then; says
/// whether there was one.
fn unpack(
    first: &Path,
    changes: &[PathBuf],
    until: Option<Until>,
    copy: &Path,
    earlier: &Path,
) -> Result<bool, Failure> {
    let named = |path: &Path, error: folio_store::Error| Failure::from(error).about(path);
    unpack_backup(Archive::open(first)?, copy).map_err(|error| named(first, error))?;
    let mut has_before = false;
    for change in changes {
        if let Some(until) = until {
            if until.is_passed(copy)? {
                break;
            }
            // The copy that the change makes takes the name, and this one stays as it was.
            if has_before {
                std::fs::remove_file(earlier).map_err(|error| about(earlier, error))?;
            }
            std::fs::hard_link(copy, earlier).map_err(|error| about(earlier, error))?;
            has_before = true;
        }
        apply_backup(copy, Archive::open(change)?).map_err(|error| named(change, error))?;
    }
    Ok(has_before)
}

fn describe(restored: &RestoreReport, arguments: &Arguments) -> String {
    let applied = restored
        .applied
        .map_or_else(|| "nothing".to_owned(), grouped);
    let mut table = Table::list();
    table
        .row(["cluster".to_owned(), arguments.cluster.clone()])
        .row(["node".to_owned(), restored.node.to_string()])
        .row(["applied".to_owned(), applied])
        .row(["to apply".to_owned(), grouped(restored.to_apply)]);
    if let Some(block) = &restored.block {
        table
            .row(["vault".to_owned(), block.vault.to_string()])
            .row(["last block".to_owned(), grouped(block.height)])
            .row(["its hash".to_owned(), block.hash.to_string()])
            .row(["state root".to_owned(), block.state_root.to_string()]);
    }
    format!(
        "{table}Start it with: folio serve --data {}\n",
        arguments.data.display()
    )
}
