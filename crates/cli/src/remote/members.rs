//! `folio members`: who belongs to a cluster.

use clap::{Args, Subcommand};
use folio_client::api::{
    Invited, Leader, MemberChange, Members, Moved, NewInvitation, NewMember, NodeId,
};
use folio_client::{Client, Result as Answer};

use super::{Asking, carry_out};
use crate::output::{self, Format, Table};
use crate::run::Failure;

#[derive(Args)]
#[command(after_help = "\
Examples:
  folio members
  folio members invite                  # then, elsewhere: folio serve --data DIRECTORY --join folio-join....
  folio members add 4 192.0.2.4:7101 --replaces 2
  folio members remove 2
  folio members lead 3

Exit codes: 0 done, 1 refused, 2 wrong usage, 4 nobody can answer.")]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Subcommand)]
enum Command {
    /// Show who belongs to the cluster; the same as no command
    List,
    /// Make an invitation, with which new nodes join
    Invite {
        /// How many hours it is good for
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=168))]
        hours: u32,
    },
    /// Make a running node a member, by its id and the address of its peers' side
    Add {
        /// Its id
        id: NodeId,
        /// Where the other nodes reach it: HOST:PORT
        address: String,
        /// Where clients reach it: HOST:PORT
        #[arg(long, value_name = "ADDRESS")]
        api: Option<String>,
        /// The voter whose place it takes
        #[arg(long, value_name = "ID", conflicts_with = "learner")]
        replaces: Option<NodeId>,
        /// Without a vote
        #[arg(long)]
        learner: bool,
    },
    /// Give a vote to a member that has none
    Promote {
        /// Its id
        id: NodeId,
    },
    /// Say that a member is found elsewhere now
    Move {
        /// Its id
        id: NodeId,
        /// Where the other nodes reach it: HOST:PORT
        address: String,
        /// Where clients reach it: HOST:PORT
        #[arg(long, value_name = "ADDRESS")]
        api: Option<String>,
    },
    /// Take a member out of the cluster
    Remove {
        /// Its id
        id: NodeId,
    },
    /// Hand the leadership over
    Lead {
        /// To whom; to the voter whose log is furthest along if nobody is named
        id: Option<NodeId>,
    },
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    carry_out(change(arguments))
}

async fn change(arguments: &Arguments) -> Result<(), Failure> {
    let client = arguments.asking.cluster.client()?;
    let format = arguments.asking.format;
    let done = match arguments.command.as_ref().unwrap_or(&Command::List) {
        Command::List => return list(&client.members().await?, format),
        Command::Invite { hours } => return invite(&client, *hours, format).await,
        Command::Lead { id } => return lead(client.transfer_leadership(*id).await?, format),
        Command::Add {
            id,
            address,
            api,
            replaces,
            learner,
        } => {
            let new = NewMember {
                id: *id,
                address: address.clone(),
                api: api.clone(),
                replaces: *replaces,
                votes: !learner,
            };
            client.add_member(&new).await?
        }
        Command::Promote { id } => promote(&client, *id).await?,
        Command::Move { id, address, api } => {
            let moved = Moved {
                address: address.clone(),
                api: api.clone(),
            };
            client
                .request("PATCH", &format!("/v1/members/{id}"), Some(&moved))
                .await?
        }
        Command::Remove { id } => client.remove_member(*id).await?,
    };
    match format {
        Format::Json => output::print_json(&done),
        Format::Table => output::print(match done.done {
            true => "done\n",
            false => "it goes on; `folio members` shows what has become of it\n",
        }),
    }
}

async fn promote(client: &Client, id: NodeId) -> Result<MemberChange, Failure> {
    let members = client.members().await?.members;
    let member = members.into_iter().find(|member| member.id == id);
    let member = member.ok_or_else(|| Failure::Error(format!("node {id} is no member")))?;
    // To add what is there already changes its vote only.
    let voting = NewMember {
        id,
        address: member.address,
        api: member.api,
        replaces: None,
        votes: true,
    };
    Ok(client.add_member(&voting).await?)
}

async fn invite(client: &Client, hours: u32, format: Format) -> Result<(), Failure> {
    let asked: Answer<Invited> = client
        .request("POST", "/v1/invitations", Some(&NewInvitation { hours }))
        .await;
    match (format, asked?) {
        (Format::Json, invited) => output::print_json(&invited),
        (Format::Table, invited) => output::print(&format!("{}\n", invited.invitation)),
    }
}

fn lead(leader: Leader, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => output::print_json(&leader),
        Format::Table => output::print(&format!("node {} leads\n", leader.leader)),
    }
}

fn list(members: &Members, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::print_json(members);
    }
    let mut table = Table::new(&["node", "", "peers reach it at", "clients reach it at"]);
    for member in &members.members {
        let role = match (members.leader == Some(member.id), member.votes) {
            (true, _) => "leads",
            (false, true) => "votes",
            (false, false) => "learns",
        };
        let api = member.api.as_deref().unwrap_or("-");
        table.row([
            member.id.to_string(),
            role.to_owned(),
            member.address.clone(),
            api.to_owned(),
        ]);
    }
    output::print(&table.to_string())
}
