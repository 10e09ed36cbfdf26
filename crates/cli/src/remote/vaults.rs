//! `folio vaults`: what vaults there are.

use clap::{Args, Subcommand};
use folio_client::ReadLevel;
use folio_client::api::Vault;

use super::{Asking, carry_out};
use crate::output::{self, Format, Table, grouped};
use crate::run::Failure;

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio vaults
  folio vaults create accounts --retention 1000
  folio vaults delete 3

Exit codes: 0 done, 1 refused, 2 wrong usage, 4 nobody can answer.")]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Subcommand)]
enum Command {
    /// Show all vaults; the same as no command
    List,
    /// Create one, and print its number
    Create {
        /// What people call it
        name: String,
        /// How many blocks back its entities can be read
        #[arg(long, default_value_t = 0, value_name = "BLOCKS")]
        retention: u64,
    },
    /// Delete one, with everything in it
    Delete {
        /// Its number
        vault: u64,
    },
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    carry_out(carry(arguments))
}

async fn carry(arguments: &Arguments) -> Result<(), Failure> {
    let client = arguments.asking.cluster.client()?;
    let format = arguments.asking.format;
    match arguments.command.as_ref().unwrap_or(&Command::List) {
        Command::List => list(&client.vaults(ReadLevel::Linearizable).all().await?, format),
        Command::Create { name, retention } => {
            let mut session = client.open_session().await?;
            let created = session.create_vault(name, *retention).await?;
            drop(session.close().await);
            match format {
                Format::Json => output::print_json(&created),
                Format::Table => output::print(&format!("{}\n", created.vault)),
            }
        }
        Command::Delete { vault } => {
            let mut session = client.open_session().await?;
            let deleted = session.delete_vault(*vault).await?;
            drop(session.close().await);
            match format {
                Format::Json => output::print_json(&deleted),
                Format::Table => output::print(&format!("deleted vault {vault}\n")),
            }
        }
    }
}

fn list(vaults: &[Vault], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::print_json(&vaults);
    }
    let mut table = Table::new(&[
        "vault",
        "name",
        "height",
        "entities",
        "relationships",
        "state root",
    ]);
    for vault in vaults {
        table.row([
            vault.vault.to_string(),
            vault.name.clone(),
            grouped(vault.height),
            grouped(vault.entities),
            grouped(vault.relationships),
            vault.state_root.to_string().chars().take(16).collect(),
        ]);
    }
    output::print(&table.to_string())
}
