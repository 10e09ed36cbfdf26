//! The long form: many seeds, or one of them with its trace.

use std::process::ExitCode;

use clap::Parser;
use folio_simulation::{Campaign, Simulation};

#[derive(Parser)]
#[command(about = "Runs simulated clusters under every fault and checks what they did.")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Seeds run at a time.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Repeats this seed alone, and prints everything that happens in it.
    #[arg(long)]
    seed: Option<u64>,
    /// What the nodes log, too, by the rules of `tracing_subscriber::EnvFilter`.
    #[arg(long)]
    log: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(filter) = &arguments.log {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_env_filter(filter)
            .init();
    }
    let failed = match arguments.seed {
        Some(seed) => {
            let shown = Simulation {
                show: true,
                ..Simulation::new(seed)
            };
            let outcome = shown.run();
            println!("digest {:016x}, {}", outcome.digest, outcome.figures);
            outcome.violation.is_some()
        }
        None => {
            let campaign = Campaign {
                from: arguments.from,
                seeds: arguments.seeds,
                threads: arguments.threads,
            };
            let (figures, violations) = campaign.run();
            println!("{figures}");
            for violation in &violations {
                println!("{violation}");
            }
            !violations.is_empty()
        }
    };
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
