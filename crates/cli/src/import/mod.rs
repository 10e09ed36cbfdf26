//! `folio import`: puts relationships and entities from CSV and JSON lines into the file of a node that is alone.
//!
//! The rows go through the node's log, many to a transaction, and each transaction also moves on an entity that says how
//! far the import is. So the rows and the position are there together or not at all, and whoever runs the command again,
//! after whatever end, goes on behind the last row that is there.

mod bad;
mod fields;
mod position;
mod rows;
mod target;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use folio_ledger::command::{Action, Command, validate};
use folio_ledger::record::Outcome;
use folio_ledger::transaction::{Operation, Transaction};
use folio_raft::NodeId;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::output::{self, Format, Table, grouped};
use crate::run::{self, Failure};
use crate::verify::{progress_bar, show_progress};
use bad::BadRows;
use fields::{Meaning, Names};
use position::{Place, Position};
use rows::{Row, Rows, Shape};
use target::Target;

/// Rows of a transaction, and about how many bytes of them: what the engine takes well, and other nodes, too.
const ROWS: usize = 1000;
const BYTES: usize = 512 << 10;

#[derive(Args)]
#[command(after_help = "\
DATA is CSV with a line of titles, or JSON lines with an object each. A row is

  a relationship, if it has the columns resource, relation and subject;
  an entity, if it has the column key. Its value is the column value; or else all other columns, as a JSON object.
  The column expires_at, if it has one, holds microseconds since 1970.

--columns names columns that are called otherwise, and --relation is for rows without a relation.

FILE is the file of a node that is the only one of its cluster and is not running; it is created if there is none. Start
a node on it afterwards, and others beside it: they get what is there. What is there already stays, and an entity gets the
next version.

The import can be killed at any time: run it again, and it goes on where it was, with no row lost or twice. How far it is
it keeps in the vault, in the entity `import:NAME`.

A bad row ends the import: it says which one and why, and the rows before it are in. Mend it and run the same again. With
--skip-bad it is written to BAD and passed over.

Examples:
  folio import node-1.folio --vault docs tuples.csv accounts.jsonl
  folio import node-1.folio --vault docs members.csv --columns resource=team,subject=user --relation member
  folio import node-1.folio --vault people accounts.csv --columns key=id --skip-bad bad.jsonl
  folio serve --id 1 --file node-1.folio

Exit codes: 0 success, 1 error, 2 wrong usage, 3 FILE is damaged, 4 FILE is in use.")]
pub struct Arguments {
    /// The node's file
    file: PathBuf,
    /// What to import
    #[arg(required = true)]
    data: Vec<PathBuf>,
    /// The name of the vault; it is created if there is none of this name
    #[arg(long, value_name = "NAME")]
    vault: String,
    /// What DATA is; else its name tells: .csv, or .jsonl and .ndjson
    #[arg(long, value_enum)]
    shape: Option<Shape>,
    /// What columns are called: resource, relation, subject, key, value, expires_at
    #[arg(long, value_name = "WHAT=COLUMN,...", default_value = "")]
    columns: Names,
    /// The relation of rows that have no column for one
    #[arg(long, value_name = "RELATION")]
    relation: Option<String>,
    /// Where to write rows that cannot be imported, instead of stopping there
    #[arg(long, value_name = "BAD")]
    skip_bad: Option<PathBuf>,
    /// What this import is called; else the name of DATA without its folder
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The node's id, when FILE is new
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    id: NodeId,
    /// Where the node will listen for its peers, when FILE is new
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7101")]
    peer_listen: String,
    /// Memory for pages of FILE, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..))]
    cache: u64,
    /// How to print what was done
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What a run has done.
#[derive(Debug, Default, Serialize)]
struct Report {
    vault: u64,
    rows: u64,
    created: u64,
    updated: u64,
    /// Relationships that were there.
    unchanged: u64,
    bad: u64,
    /// Rows of earlier runs, which were there already.
    earlier: u64,
    seconds: f64,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.name.is_some() && arguments.data.len() > 1 {
        return Err(Failure::Usage(
            "--name names one import: give one DATA with it".to_owned(),
        ));
    }
    run::log_at("error")?;
    run::runtime()?.block_on(import_all(arguments))
}

async fn import_all(arguments: &Arguments) -> Result<(), Failure> {
    let began = Instant::now();
    // What is wrong with the data or its columns is said before a file is made.
    let sources = arguments
        .data
        .iter()
        .map(|data| {
            let shape = Shape::of(arguments.shape, data)?;
            let meaning = Meaning::new(arguments.columns.clone(), arguments.relation.clone());
            Rows::open(data, shape, meaning)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let cache = usize::try_from(arguments.cache << 20).map_err(Failure::error)?;
    let target = Target::open(
        &arguments.file,
        cache,
        arguments.id,
        &arguments.peer_listen,
        &arguments.vault,
    )
    .await?;
    let mut report = Report {
        vault: target.vault(),
        ..Report::default()
    };
    let mut outcome = Ok(());
    for (data, rows) in arguments.data.iter().zip(sources) {
        outcome = import(arguments, data, rows, &target, &mut report).await;
        if outcome.is_err() {
            break;
        }
    }
    let closed = target.close().await;
    outcome.and(closed)?;
    report.seconds = began.elapsed().as_secs_f64();
    match arguments.format {
        Format::Json => output::print_json(&report),
        Format::Table => output::print(&describe(&report)),
    }
}

/// One file on its way into the vault.
struct Import<'i> {
    data: &'i Path,
    name: String,
    target: &'i Target,
    report: &'i mut Report,
    /// How far it is, with what is gathered.
    position: Position,
    /// The version of the entity that says so; 0 if there is none.
    version: u64,
    /// Where it was at the last commit.
    committed: Place,
    bad: Option<BadRows>,
    operations: Vec<Operation>,
    /// About how many bytes they are.
    bytes: usize,
    bar: ProgressBar,
}

/// Imports what is left of one file.
async fn import(
    arguments: &Arguments,
    data: &Path,
    mut rows: Rows,
    target: &Target,
    report: &mut Report,
) -> Result<(), Failure> {
    let name = arguments.name.clone().unwrap_or_else(|| {
        let name = data.file_name().unwrap_or(data.as_os_str());
        name.to_string_lossy().into_owned()
    });
    let (position, version) = match target.position(&name).await? {
        Some((position, version)) => {
            position.check(data, &name)?;
            rows.go_to(position.place)?;
            (position, version)
        }
        None => (Position::default(), 0),
    };
    report.earlier += position.rows;
    let bad = arguments
        .skip_bad
        .as_ref()
        .map(|path| BadRows::open(path, data, position.place.lines))
        .transpose()?;
    let import = Import {
        data,
        name,
        target,
        report,
        committed: position.place,
        position,
        version,
        bad,
        operations: Vec::new(),
        bytes: 0,
        bar: progress_bar(),
    };
    import.run(rows).await
}

impl Import<'_> {
    async fn run(mut self, mut rows: Rows) -> Result<(), Failure> {
        loop {
            let before = rows.place();
            let Some(row) = rows.next()? else {
                self.commit(before).await?;
                self.bar.finish_and_clear();
                return Ok(());
            };
            let Row {
                line, operation, ..
            } = row;
            match operation.and_then(|operation| within_limits(self.target.vault(), operation)) {
                Ok(operation) => {
                    self.operations.push(operation);
                    self.bytes += row.text.len();
                    self.position.rows += 1;
                }
                Err(reason) => match &mut self.bad {
                    Some(bad) => {
                        bad.add(line, &reason, &row.text)?;
                        self.position.bad += 1;
                        self.report.bad += 1;
                    }
                    None => {
                        self.commit(before).await?;
                        self.bar.finish_and_clear();
                        return Err(self.stopped_at(line, &reason));
                    }
                },
            }
            if self.operations.len() >= ROWS || self.bytes >= BYTES {
                self.commit(rows.place()).await?;
                show_progress(&self.bar, "bytes", self.position.place.bytes, rows.length());
            }
        }
    }

    /// Puts what is gathered into the vault, together with where the file goes on.
    async fn commit(&mut self, place: Place) -> Result<(), Failure> {
        if place == self.committed {
            return Ok(());
        }
        self.position.move_to(self.data, place)?;
        if let Some(bad) = &self.bad {
            bad.sync()?;
        }
        let operations = std::mem::take(&mut self.operations);
        self.bytes = 0;
        let rows = operations.len() as u64;
        let outcomes = self
            .target
            .commit(&self.name, &self.position, self.version, operations)
            .await?;
        self.version += 1;
        self.committed = place;
        self.report.rows += rows;
        for outcome in outcomes {
            match outcome {
                Outcome::EntityCreated | Outcome::RelationshipCreated => self.report.created += 1,
                Outcome::EntityUpdated { .. } => self.report.updated += 1,
                _ => self.report.unchanged += 1,
            }
        }
        Ok(())
    }

    fn stopped_at(&self, line: u64, reason: &str) -> Failure {
        Failure::Error(format!(
            "{}, line {line}: {reason}; the {} rows before it are in: mend it and run the same again, or pass such rows \
             over with --skip-bad BAD",
            self.data.display(),
            grouped(self.position.rows)
        ))
    }
}

/// The operation, if the ledger would take it.
fn within_limits(vault: u64, operation: Operation) -> Result<Operation, String> {
    let mut transaction = Transaction::new(vault);
    transaction.operations.push(operation);
    let command = Command::submit(transaction);
    validate(&command).map_err(|invalid| invalid.to_string())?;
    match command.action {
        Action::Submit(mut transaction) => transaction.operations.pop(),
        _ => None,
    }
    .ok_or_else(|| "it has no operation".to_owned())
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Error(format!("{}: cannot {what} it: {error}", path.display()))
}

fn describe(report: &Report) -> String {
    let mut table = Table::list();
    let mut row = |name: &str, number: u64| {
        table.row([name.to_owned(), grouped(number)]);
    };
    row("vault", report.vault);
    row("rows", report.rows);
    row("rows of earlier runs", report.earlier);
    row("created", report.created);
    row("updated", report.updated);
    row("there already", report.unchanged);
    row("bad, passed over", report.bad);
    let a_second = report.rows as f64 / report.seconds.max(f64::MIN_POSITIVE);
    row("rows a second", a_second as u64);
    table.to_string()
}
