//! The commands for attacks that need no process of their own.

use clap::Subcommand;

use crate::{crash::CrashAttack, damage::FlipAttack, faults::FaultAttack};

/// An attack on a simulated disk, and how much of it.
#[derive(Subcommand, Debug)]
pub enum Simulation {
    /// The power goes at every moment of scripted loads, with any subset of the unsynced sectors on the disk.
    Crash {
        /// Disk images to try at least.
        #[arg(long, default_value_t = CrashAttack::long().images)]
        images: u64,
        /// The first seed. A failure names the seed that repeats it, with `--images 1 --threads 1`.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Steps of each script.
        #[arg(long, default_value_t = CrashAttack::long().steps)]
        steps: usize,
        /// Scripts run at a time.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Fewer images at each moment, of more moments: as in the short form.
        #[arg(long)]
        broad: bool,
    },
    /// Every storage call of scripted loads fails, in every way.
    Faults {
        /// Scripts to run.
        #[arg(long, default_value_t = FaultAttack::long().scripts)]
        scripts: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Steps of each script.
        #[arg(long, default_value_t = FaultAttack::long().steps)]
        steps: usize,
        /// Of the calls, one in so many fails.
        #[arg(long, default_value_t = 1)]
        every: u64,
        /// Scripts run at a time.
        #[arg(long, default_value_t = 2)]
        threads: usize,
    },
    /// Bits of files are flipped, one at a time.
    Flips {
        /// Bits to flip outside the fixed pages.
        #[arg(long, default_value_t = FlipAttack::long().sampled)]
        sampled: u64,
        /// Of the bits in the fixed pages, one in so many is flipped.
        #[arg(long, default_value_t = 1)]
        every: u64,
        /// What is flipped, and what the files hold.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Threads that do it.
        #[arg(long, default_value_t = 2)]
        threads: u64,
    },
}

impl Simulation {
    /// Attacks, and prints what was counted.
    pub fn run(self) {
        let figures = match self {
            Self::Crash {
                images,
                seed,
                steps,
                threads,
                broad,
            } => {
                let base = if broad {
                    CrashAttack::short()
                } else {
                    CrashAttack::long()
                };
                let attack = CrashAttack {
                    seed,
                    images,
                    steps,
                    threads,
                    ..base
                };
                attack.run()
            }
            Self::Faults {
                scripts,
                seed,
                steps,
                every,
                threads,
            } => FaultAttack {
                seed,
                scripts,
                steps,
                every: every.max(1),
                threads,
            }
            .run(),
            Self::Flips {
                sampled,
                every,
                seed,
                threads,
            } => FlipAttack {
                seed,
                every: every.max(1),
                sampled,
                threads,
            }
            .run(),
        };
        println!("{figures}");
    }
}
