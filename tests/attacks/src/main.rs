//! The long forms of the attacks, by one command each, or all of them by `all`.

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Attacks Folio's storage engine and counts what it stood up to.")]
struct Arguments {
    #[command(subcommand)]
    attack: Attack,
}

#[derive(Subcommand)]
enum Attack {
    #[command(flatten)]
    Simulation(folio_attacks::simulation::Simulation),
    #[command(flatten)]
    Processes(folio_attacks::process::Attack),
}

fn main() {
    match Arguments::parse().attack {
        Attack::Simulation(attack) => attack.run(),
        Attack::Processes(attack) => attack.run(),
    }
}
