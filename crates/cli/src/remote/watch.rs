//! `folio watch`: what happens to a vault, as it happens.

use clap::Args;
use folio_client::{Event, ReadLevel};
use serde_json::json;

use super::{Asking, carry_out};
use crate::output::{self, Format};
use crate::run::Failure;

#[derive(Args)]
#[command(after_help = "\
Goes on at another node when one is lost, without a gap and nothing twice, until Ctrl-C or the end of the vault.

Examples:
  folio watch 1
  folio watch 1 --from 1                        # all that ever happened
  folio watch 1 --format json | jq .transaction # an object a line

Exit codes: 0 the vault was deleted, or --blocks were seen, 1 error, 4 nobody can answer.")]
pub struct Arguments {
    /// The number of the vault
    vault: u64,
    /// The height of the first block; the next one if nothing is said
    #[arg(long, value_name = "HEIGHT")]
    from: Option<u64>,
    /// End after so many blocks
    #[arg(long, value_name = "N")]
    blocks: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    carry_out(follow(arguments))
}

async fn follow(arguments: &Arguments) -> Result<(), Failure> {
    let client = arguments.asking.cluster.client()?;
    let from = match arguments.from {
        Some(from) => from,
        None => {
            let vault = client
                .vault(arguments.vault, ReadLevel::Linearizable)
                .await?;
            vault.height + 1
        }
    };
    let mut feed = client.changes(arguments.vault, from);
    let mut blocks = 0;
    while arguments.blocks.is_none_or(|most| blocks < most)
        && let Some(event) = feed.next().await?
    {
        blocks += u64::from(matches!(event, Event::Block(_)));
        let (name, document) = match &event {
            Event::Transaction(recorded) => ("transaction", serde_json::to_value(recorded)),
            Event::Block(head) => ("block", serde_json::to_value(head)),
            Event::VaultDeleted => ("vault_deleted", Ok(json!({}))),
            _ => continue,
        };
        let document = document.map_err(Failure::error)?;
        let line = match arguments.asking.format {
            Format::Json => json!({ name: document }).to_string(),
            Format::Table => format!("{name} {document}"),
        };
        output::print(&(line + "\n"))?;
    }
    Ok(())
}
