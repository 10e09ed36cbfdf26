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
    /// Plants known bugs in a copy of the sources, one after the other; a test must fail for each.
    Mutations(folio_attacks::mutations::Options),
    /// Everything, one after the other, as long as it takes: some hours.
    All,
}

const ALL: [&str; 8] = [
    "crash",
    "faults",
    "flips",
    "kill",
    "inject",
    "full-disk",
    "footprint",
    "mutations",
];

impl Attack {
    fn run(self) {
        match self {
            Self::Simulation(attack) => attack.run(),
            Self::Processes(attack) => attack.run(),
            Self::Mutations(attack) => attack.run(),
            Self::All => {
                for attack in ALL {
                    Arguments::parse_from(["folio-attacks", attack])
                        .attack
                        .run();
                }
            }
        }
    }
}

fn main() {
    Arguments::parse().attack.run();
}
