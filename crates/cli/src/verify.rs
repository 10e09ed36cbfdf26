//! `folio verify`: checks a file that no node has open, or has a running node check its own.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use folio_client::Client;
use folio_node::offline::{self, OpenError, ReplayReport, VerifyReport};
use folio_node::verification::{Verification, VerificationState};
use folio_store::{BackupContents, VerifyOptions, check_backup};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::amount::Rate;
use crate::archive::{Archive, Form, is_stream};
use crate::output::{self, Format, Table, grouped, size};
use crate::remote::{FileOrNode, Source, carry_out};
use crate::replay;
use crate::run::Failure;

/// How often a node is asked how far it is.
const POLL: Duration = Duration::from_millis(200);

#[derive(Args)]
#[command(after_help = "\
Of a FILE: reads every page that its last durable commit refers to, every block of every vault, and computes every
state root anew. The file is not changed. It may be that of a running node, which goes on meanwhile and keeps the pages
of that commit until the end.

Of a backup that is compressed or incremental, or comes from standard input (-): checks every page, and that nothing is missing.
Whether the pages of an incremental one and those of its copy make a whole is checked when it is put there.

With --deep: also carries out the whole history of FILE again, as `folio replay` does, so that the state root of every
block is computed anew, not only the last one of each vault. That takes as much room as the ledger, where temporary files
go, and the time that it took to make it.

With --node: has a running node read the pages itself, as from another machine it must. Blocks and state roots are not
computed anew. Ending this command does not end the verification; this does:
  curl -X DELETE http://HOST:PORT/v1/verification

Examples:
  folio verify node-1.folio
  folio verify node-1.folio --format json | jq .problems
  folio verify node-1.folio --deep
  folio verify monday.folio.zst
  folio verify --node http://127.0.0.1:7001 --rate 50M
  folio verify --node https://192.0.2.1:7001 --ca certificates/authority.pem

Exit codes: 0 sound, 1 error, 3 damaged, 4 the file is in use or the node does not answer.")]
pub struct Arguments {
    #[command(flatten)]
    what: FileOrNode,
    /// Carry out the whole history again, too
    #[arg(long, conflicts_with = "node")]
    deep: bool,
    /// The most bytes to read in a second, for example 50M
    #[arg(long, value_name = "BYTES/S")]
    rate: Option<Rate>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.what.source()? {
        Source::File(file) => verify_any(file, arguments),
        Source::Node(url, client) => carry_out(verify_node(url, &client, arguments)),
    }
}

/// Hidden by itself when standard error is not a terminal.
pub fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg:9} [{bar:40}] {pos}/{len}");
    bar.set_style(
        style
            .expect("the template is a good one")
            .progress_chars("=> "),
    );
    bar
}

/// Shows how much of what is done.
pub fn show_progress(bar: &ProgressBar, what: &str, done: u64, total: u64) {
    if bar.message() != what {
        bar.set_message(what.to_owned());
    }
    bar.set_length(total);
    bar.set_position(done);
}

/// A database, or a backup that is none.
fn verify_any(file: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let archive = Archive::open(file)?;
    if archive.form == Form::Other && !is_stream(file) {
        return verify_file(file, arguments);
    }
    if arguments.deep || arguments.rate.is_some() {
        return Err(Failure::Usage(
            "--deep and --rate are for databases, and this is a backup that is compressed or incremental, or a stream".into(),
        ));
    }
    let contents = check_backup(archive).map_err(|error| Failure::from(error).about(file))?;
    match arguments.format {
        Format::Json => output::print_json(&BackupJson {
            file: file.display().to_string(),
            since: contents.base.map(|base| base.transaction()),
            transaction: contents.point.transaction(),
            pages: contents.pages,
            copy_bytes: contents.copy_bytes,
        }),
        Format::Table => output::print(&describe_backup(file, &contents)),
    }
}

/// A backup that is sound.
#[derive(Serialize)]
struct BackupJson {
    file: String,
    /// The transaction of the copy that it is to be put onto.
    since: Option<u64>,
    transaction: u64,
    pages: u64,
    /// The length of the copy that it makes.
    copy_bytes: u64,
}

fn describe_backup(file: &Path, contents: &BackupContents) -> String {
    let mut table = Table::list();
    let form = match contents.base {
        None => "whole".to_owned(),
        Some(base) => format!("what changed since transaction {}", base.transaction()),
    };
    table
        .row(["backup".to_owned(), file.display().to_string()])
        .row(["form".to_owned(), form])
        .row([
            "transaction".to_owned(),
            contents.point.transaction().to_string(),
        ])
        .row(["pages checked".to_owned(), grouped(contents.pages)])
        .row(["length of the copy".to_owned(), size(contents.copy_bytes)]);
    format!("{table}\nThe backup is sound.\n")
}

fn verify_file(file: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let bar = progress_bar();
    let options = VerifyOptions::new().rate(arguments.rate.map_or(0, |rate| rate.0));
    let report = offline::verify(file, options, &mut |what, done, total| {
        show_progress(&bar, what, done, total);
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| match error {
        OpenError::InUse(_) => Failure::Unavailable(format!(
            "{error}; or, if it is the file of a running node, verify it there: folio verify --node http://HOST:PORT"
        )),
        error => error.into(),
    })?;
    // What is damaged cannot be carried out again.
    let replay = match arguments.deep && report.is_sound() {
        true => Some(replay::replay(file, None, None)?),
        false => None,
    };
    let sound = report.is_sound()
        && replay
            .as_ref()
            .is_none_or(|replay| replay.difference.is_none());
    match arguments.format {
        Format::Table => {
            output::print(&describe(&report))?;
            if let Some(replay) = &replay {
                output::print(&format!("\n{}", replay::describe(replay)))?;
            }
        }
        Format::Json => output::print_json(&Deep { report, replay })?,
    }
    match sound {
        true => Ok(()),
        false => Err(Failure::Corruption(None)),
    }
}

/// What was found, and what a replay came to if one was asked for.
#[derive(Serialize)]
struct Deep {
    #[serde(flatten)]
    report: VerifyReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<ReplayReport>,
}

async fn verify_node(url: &str, client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    const PATH: &str = "/v1/verification";
    let nothing = None::<&()>;
    let rate = arguments.rate.map_or(0, |rate| rate.0);
    let mut last: Verification = client
        .request("POST", &format!("{PATH}?rate={rate}"), nothing)
        .await?;
    let bar = progress_bar();
    while last.state == VerificationState::Running {
        show_progress(&bar, "pages", last.pages, last.total);
        tokio::time::sleep(POLL).await;
        last = client.request("GET", PATH, nothing).await?;
    }
    bar.finish_and_clear();
    match arguments.format {
        Format::Table => output::print(&describe_node(url, &last))?,
        Format::Json => output::print_json(&last)?,
    }
    match last.state {
        VerificationState::Sound => Ok(()),
        VerificationState::Damaged => Err(Failure::Corruption(None)),
        VerificationState::Failed => Err(Failure::Error(format!(
            "the node could not verify its file: {}",
            last.error.unwrap_or_default()
        ))),
        _ => Err(Failure::Unavailable(
            "somebody stopped the verification".into(),
        )),
    }
}

fn describe_node(url: &str, verification: &Verification) -> String {
    let mut table = Table::list();
    table
        .row(["node".to_owned(), url.to_owned()])
        .row(["pages checked".to_owned(), grouped(verification.pages)])
        .row(["tables".to_owned(), grouped(verification.tables)])
        .row(["rows".to_owned(), grouped(verification.rows)]);
    let mut text = format!("{table}\n");
    match verification.state {
        VerificationState::Sound => text.push_str("The file is sound.\n"),
        VerificationState::Damaged => {
            text.push_str(&format!(
                "The file is damaged, in {} places:\n",
                grouped(verification.problem_count as u64)
            ));
            for problem in &verification.problems {
                text.push_str(&format!("  {problem}\n"));
            }
            if verification.problem_count > verification.problems.len() {
                text.push_str("  and more\n");
            }
            text.push_str("Replace the node while the others run: see docs/damage.md.\n");
        }
        _ => text.push_str("The verification did not come to its end.\n"),
    }
    text
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
    text.push_str("Do not start a node on it: restore the file from a backup, or add the node anew with an empty file. What can be read\nof it, `folio recover` copies into a new file. See docs/damage.md.\n");
    text
}
