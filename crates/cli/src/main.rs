//! The `folio` command-line tool.
//!
//! Exit codes: 0 success, 1 error, 2 wrong usage, 3 corruption found, 4 unavailable.

mod alone;
mod amount;
mod archive;
mod backup;
mod bench;
mod cert;
mod clients;
mod compact;
mod demo;
mod doctor;
mod dump;
mod files;
mod import;
mod join;
mod load;
mod output;
mod pages;
mod proof;
mod recover;
mod remote;
mod replay;
mod restore;
mod run;
mod serve;
mod settings;
mod stat;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use remote::{entities, members, status, vaults, watch};
use run::Failure;
use settings::Layers;

/// A replicated ledger in one file per node.
#[derive(Parser)]
#[command(name = "folio", version, about, max_term_width = 100)]
#[command(after_help = "\
Exit codes: 0 success, 1 error, 2 wrong usage, 3 corruption found, 4 unavailable.
Set FOLIO_LOG to see what happens inside, e.g. FOLIO_LOG=info or FOLIO_LOG=folio_raft=debug.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a cluster in this process on real data, stop its leader, and check every node
    Demo(demo::Arguments),
    /// Run one node of a cluster
    Serve(Box<serve::Arguments>),
    /// Show how each node of a cluster is
    Status(status::Arguments),
    /// Show, add, move and remove the members of a cluster, and invite new ones
    Members(members::Arguments),
    /// Show, create and delete vaults
    Vaults(vaults::Arguments),
    /// Print the value of an entity
    Get(entities::GetArguments),
    /// Show the entities of a vault
    List(entities::ListArguments),
    /// Set an entity
    Put(entities::PutArguments),
    /// Delete an entity
    Delete(entities::DeleteArguments),
    /// Print what happens to a vault, as it happens
    Watch(watch::Arguments),
    /// Measure how much a cluster or a file does, and how long it takes
    Bench(bench::Arguments),
    /// Look whether the surroundings of a node are good for it
    Doctor(doctor::Arguments),
    /// Show and check the settings of a node
    Config(settings::Arguments),
    /// Make certificates for the nodes of a cluster
    Cert(cert::Arguments),
    /// Say who may use a cluster: clients, their tokens and roles
    Clients(clients::Arguments),
    /// Check every page, every row and every block of a file, or the file of a running node
    Verify(verify::Arguments),
    /// Carry out the history in a file again, and compare every block and row
    Replay(replay::Arguments),
    /// Get a proof as a file, and check one with nothing but a hash
    Proof(proof::Arguments),
    /// Copy every readable row of a damaged file into a new one
    Recover(recover::Arguments),
    /// Show what is in a file
    Stat(stat::Arguments),
    /// Write all rows of a file in a form that does not depend on the file format
    Dump(dump::Arguments),
    /// Put the rows of a dump into a file
    Load(load::Arguments),
    /// Put relationships and entities from CSV or JSON lines into the file of a node that is alone
    Import(import::Arguments),
    /// Copy a file, or what has changed in it since an earlier copy
    Backup(backup::Arguments),
    /// Bring a copy up to date with what has changed since
    Apply(backup::ApplyArguments),
    /// Make a new cluster of a copy
    Restore(restore::Arguments),
    /// Make a file as short as what is in it
    Compact(compact::Arguments),
    /// Print what a shell needs to complete commands
    Completions(pages::CompletionsArguments),
    /// Write man pages
    Man(pages::ManArguments),
}

fn main() -> ExitCode {
    match carry_out() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                eprintln!("folio: {message}");
            }
            ExitCode::from(failure.code())
        }
    }
}

fn tool() -> clap::Command {
    Arguments::command().mut_subcommand("serve", settings::shown)
}

fn carry_out() -> Result<(), Failure> {
    let layers = Layers::read(tool())?;
    let arguments =
        Arguments::from_arg_matches(&layers.matches).unwrap_or_else(|error| error.exit());
    match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments, &layers),
        Command::Status(arguments) => status::run(&arguments),
        Command::Members(arguments) => members::run(&arguments),
        Command::Vaults(arguments) => vaults::run(&arguments),
        Command::Get(arguments) => entities::get(&arguments),
        Command::List(arguments) => entities::list(&arguments),
        Command::Put(arguments) => entities::put(&arguments),
        Command::Delete(arguments) => entities::delete(&arguments),
        Command::Watch(arguments) => watch::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Config(arguments) => settings::run(&arguments),
        Command::Cert(arguments) => cert::run(&arguments),
        Command::Clients(arguments) => clients::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Proof(arguments) => proof::run(&arguments),
        Command::Recover(arguments) => recover::run(&arguments),
        Command::Stat(arguments) => stat::run(&arguments),
        Command::Dump(arguments) => dump::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Apply(arguments) => backup::apply(&arguments),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::Compact(arguments) => compact::run(&arguments),
        Command::Completions(arguments) => pages::completions(&arguments, tool()),
        Command::Man(arguments) => pages::man(&arguments, tool()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        tool().debug_assert();
    }
}
