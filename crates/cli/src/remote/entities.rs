//! `folio get`, `list`, `put` and `delete`: the entities of a vault.

use std::io::{IsTerminal, Read, Write};

use clap::Args;
use folio_client::api::{Bytes, Entity, Must, Receipt};
use folio_client::{NewTransaction, ReadLevel, transaction};

use super::{Asking, carry_out};
use crate::output::{self, Format, Table, grouped};
use crate::run::Failure;

/// Which entity.
#[derive(Args)]
struct EntityPlace {
    /// The number of the vault
    vault: u64,
    /// The key
    key: String,
}

impl EntityPlace {
    fn key(&self) -> Bytes {
        Bytes(self.key.as_bytes().to_vec())
    }
}

#[derive(Args)]
#[command(after_help = "\
Prints the value as it is, with a line break behind it on a terminal.

Examples:
  folio get 1 colour
  folio get 1 colour --height 7
  folio get 1 picture > picture.png
  folio get 1 colour --format json | jq .version

Exit codes: 0 printed, 1 it is not there, or refused, 4 nobody can answer.")]
pub struct GetArguments {
    #[command(flatten)]
    place: EntityPlace,
    /// What it was at this height, if the vault retains it
    #[arg(long)]
    height: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio list 1
  folio list 1 user/ --limit 20
  folio list 1 --format json | jq -r '.[].key'

Exit codes: 0 printed, 1 refused, 4 nobody can answer.")]
pub struct ListArguments {
    /// The number of the vault
    vault: u64,
    /// What the keys begin with
    #[arg(default_value = "")]
    prefix: String,
    /// The most rows
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio put 1 colour blue
  folio put 1 picture - < picture.png
  folio put 1 colour green --if-version 1
  folio put 1 colour green --if-absent

Exit codes: 0 it is there, 1 refused, also by a condition, 4 nobody can answer.")]
pub struct PutArguments {
    #[command(flatten)]
    place: EntityPlace,
    /// The value; - reads it from standard input
    value: String,
    /// Only if there is nothing under this key
    #[arg(long, conflicts_with = "if_version")]
    if_absent: bool,
    /// Only if it has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio delete 1 colour

Exit codes: 0 it is not there any more, 1 refused, 4 nobody can answer.")]
pub struct DeleteArguments {
    #[command(flatten)]
    place: EntityPlace,
    #[command(flatten)]
    asking: Asking,
}

pub fn get(arguments: &GetArguments) -> Result<(), Failure> {
    carry_out(async {
        let client = arguments.asking.cluster.client()?;
        let EntityPlace { vault, key } = &arguments.place;
        let vault = *vault;
        let found = match arguments.height {
            Some(height) => {
                client
                    .entity_at(vault, key, height, ReadLevel::Linearizable)
                    .await?
            }
            None => client.entity(vault, key, ReadLevel::Linearizable).await?,
        };
        let entity = found.ok_or_else(|| {
            Failure::Error(format!("there is no entity `{key}` in vault {vault}"))
        })?;
        match arguments.asking.format {
            Format::Json => output::print_json(&entity),
            Format::Table => print_value(&entity.value),
        }
    })
}

/// The bytes, for whatever reads them.
fn print_value(Bytes(value): &Bytes) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let end: &[u8] = match out.is_terminal() {
        true => b"\n",
        false => b"",
    };
    let written = out
        .write_all(value)
        .and_then(|()| out.write_all(end))
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Error(
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

pub fn list(arguments: &ListArguments) -> Result<(), Failure> {
    carry_out(async {
        let client = arguments.asking.cluster.client()?;
        let mut pages = client
            .entities(arguments.vault, &arguments.prefix, ReadLevel::Linearizable)
            .limit(arguments.limit.clamp(1, 1000));
        let mut found: Vec<Entity> = Vec::new();
        while found.len() < arguments.limit
            && let Some(entity) = pages.next().await?
        {
            found.push(entity);
        }
        match arguments.asking.format {
            Format::Json => output::print_json(&found),
            Format::Table => output::print(&describe(&found)),
        }
    })
}

fn describe(found: &[Entity]) -> String {
    let mut table = Table::list();
    table.row(["key", "version", "value"]);
    for entity in found {
        table.row([
            shown(&entity.key),
            entity.version.to_string(),
            shown(&entity.value),
        ]);
    }
    table.to_string()
}

/// The beginning of bytes, on one line.
fn shown(Bytes(bytes): &Bytes) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(bytes);
    let line: String = text
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    match text.chars().nth(MOST) {
        Some(_) => format!("{line}... ({} bytes)", grouped(bytes.len() as u64)),
        None => line,
    }
}

pub fn put(arguments: &PutArguments) -> Result<(), Failure> {
    let value = match &arguments.value[..] {
        "-" => {
            let mut value = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut value);
            read.map_err(|error| Failure::Error(format!("cannot read standard input: {error}")))?;
            value
        }
        value => value.as_bytes().to_vec(),
    };
    let key = arguments.place.key();
    let mut transaction = transaction().set(key.clone(), Bytes(value));
    if arguments.if_absent {
        transaction = transaction.require(key.clone(), Must::NotExist);
    }
    if let Some(version) = arguments.if_version {
        transaction = transaction.require(key, Must::HaveVersion(version));
    }
    let vault = arguments.place.vault;
    carry_out(submit(&arguments.asking, vault, transaction))
}

pub fn delete(arguments: &DeleteArguments) -> Result<(), Failure> {
    let transaction = transaction().delete(arguments.place.key());
    let vault = arguments.place.vault;
    carry_out(submit(&arguments.asking, vault, transaction))
}

/// In a session, so that it is carried out once also if a leader is lost meanwhile.
async fn submit(asking: &Asking, vault: u64, transaction: NewTransaction) -> Result<(), Failure> {
    let mut session = asking.cluster.client()?.open_session().await?;
    let receipt: Receipt = session.submit(vault, &transaction).await?;
    // It was carried out, and the cluster forgets the session by itself.
    drop(session.close().await);
    match asking.format {
        Format::Json => output::print_json(&receipt),
        Format::Table => {
            let what = receipt
                .outcomes
                .first()
                .map(|outcome| format!("{:?}", outcome.outcome));
            output::print(&format!(
                "block {}: {}\n",
                receipt.height,
                words(&what.unwrap_or_default())
            ))
        }
    }
}

/// `EntityCreated` as `entity created`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}
