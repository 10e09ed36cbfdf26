//! `folio status`: how each node of a cluster is.

use std::collections::BTreeMap;

use clap::Args;
use folio_client::api::{Member, NodeId, Status};
use serde::Serialize;

use super::{Asking, carry_out};
use crate::output::{self, Format, Table, grouped};
use crate::run::Failure;

#[derive(Args)]
#[command(after_help = "\
Asks one node for the members, and each member whose API is known how it is.

Examples:
  folio status
  folio status --node http://192.0.2.1:7001,http://192.0.2.2:7001
  folio status --format json | jq '.[] | select(.status == null)'

Exit codes: 0 every member answered, 1 error, 4 one of them did not, or none.")]
pub struct Arguments {
    #[command(flatten)]
    asking: Asking,
}

/// A member, and what it said.
#[derive(Serialize)]
struct Found {
    id: NodeId,
    address: String,
    api: Option<String>,
    votes: bool,
    leads: bool,
    status: Option<Status>,
    /// Why it did not answer.
    silent: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    carry_out(show(arguments))
}

async fn show(arguments: &Arguments) -> Result<(), Failure> {
    let members = arguments.asking.cluster.client()?.members().await?;
    let mut asked = BTreeMap::new();
    for member in &members.members {
        asked.insert(member.id, tokio::spawn(ask(arguments, member)?));
    }
    let mut found = Vec::new();
    for member in members.members {
        let answer = match asked.remove(&member.id) {
            Some(answer) => answer.await.map_err(Failure::error)?,
            None => Err("it was not asked".to_owned()),
        };
        let (status, silent) = match answer {
            Ok(status) => (Some(status), None),
            Err(reason) => (None, Some(reason)),
        };
        let Member {
            id,
            address,
            api,
            votes,
        } = member;
        let leads = members.leader == Some(id);
        found.push(Found {
            id,
            address,
            api,
            votes,
            leads,
            status,
            silent,
        });
    }
    match arguments.asking.format {
        Format::Table => output::print(&describe(&found))?,
        Format::Json => output::print_json(&found)?,
    }
    let silent: Vec<_> = found
        .iter()
        .filter(|member| member.status.is_none())
        .collect();
    match silent.first() {
        None => Ok(()),
        Some(member) => Err(Failure::Unavailable(format!(
            "node {} did not answer: {}",
            member.id,
            member.silent.as_deref().unwrap_or_default()
        ))),
    }
}

/// What a member says of itself.
fn ask(
    arguments: &Arguments,
    member: &Member,
) -> Result<impl Future<Output = Result<Status, String>> + use<>, Failure> {
    let cluster = &arguments.asking.cluster;
    let api = member.api.as_ref();
    let client = api.map(|api| cluster.client_at(api)).transpose()?;
    let id = member.id;
    Ok(async move {
        let client = client.ok_or("it is not known where its API is")?;
        let status = client.status().await.map_err(|error| error.to_string())?;
        match status.node == id {
            true => Ok(status),
            false => Err(format!("node {} answers at its address", status.node)),
        }
    })
}

fn describe(found: &[Found]) -> String {
    let mut table = Table::new(&[
        "node", "role", "term", "last log", "applied", "api", "state",
    ]);
    for member in found {
        let api = member.api.clone().unwrap_or_else(|| "-".to_owned());
        let Some(status) = &member.status else {
            let silent = ["?", "", "", "", &api, "does not answer"].map(str::to_owned);
            table.row(std::iter::once(member.id.to_string()).chain(silent));
            continue;
        };
        let index = |index: Option<u64>| index.map_or_else(|| "-".to_owned(), grouped);
        table.row([
            member.id.to_string(),
            format!("{:?}", status.role).to_lowercase(),
            status.term.to_string(),
            index(status.last_log),
            index(status.applied),
            api,
            state(status),
        ]);
    }
    table.to_string()
}

fn state(status: &Status) -> String {
    if let Some(error) = &status.error {
        return format!("stopped: {error}");
    }
    if status.rebuilding.is_some() {
        return "its state is being rebuilt".to_owned();
    }
    match status.diverged.len() {
        0 => "serves".to_owned(),
        count => format!("{count} vaults diverge"),
    }
}
