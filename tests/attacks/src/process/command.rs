//! The commands of the program.

use clap::Subcommand;

use super::{
    Extent, MeasureArguments, WriterArguments, footprint, full_disk, full_storage, inject, kill,
    measure, run_writer,
};

/// Attacks on real processes and real filesystems.
#[derive(Debug, Subcommand)]
pub enum Attack {
    /// Kills a writer with SIGKILL in a loop, and checks its file each time.
    Kill {
        /// How many times.
        #[arg(long, default_value_t = 10_000)]
        cycles: u64,
        /// Of everything but the moments of death.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Lets calls of the operating system fail, one after the other, by strace.
    Inject {
        /// About how many calls of each kind; all of them if there is no number.
        #[arg(long)]
        sample: Option<u64>,
        /// The length of the script.
        #[arg(long, default_value_t = 1)]
        rounds: u64,
        /// Of what is written.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Fills a storage in memory and a filesystem of 8 MiB, again and again, and recovers once there is room.
    FullDisk {
        /// How often the filesystem is filled.
        #[arg(long, default_value_t = 500)]
        runs: u64,
        /// Of what is written.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measures openings, memory and file sizes with a file of several gigabytes.
    Footprint {
        /// The size of the file.
        #[arg(long, default_value_t = 4.0)]
        gigabytes: f64,
        /// The length of the steady load, in thousands of updates.
        #[arg(long, default_value_t = 5_000)]
        updates: u64,
        /// The memory for pages, in MiB.
        #[arg(long, default_value_t = 64)]
        cache: usize,
    },
    /// A process that is measured.
    #[command(hide = true)]
    Measure(MeasureArguments),
    /// The process that is killed.
    #[command(hide = true)]
    Writer(WriterArguments),
}

impl Attack {
    /// Runs it, and prints its figures.
    ///
    /// # Panics
    ///
    /// If it finds something.
    pub fn run(self) {
        let program = std::env::current_exe().expect("the program that runs");
        match self {
            Self::Kill { cycles, seed } => println!("{}", kill(&program, cycles, seed)),
            Self::Inject {
                sample,
                rounds,
                seed,
            } => {
                let extent = Extent {
                    sample,
                    rounds,
                    seed,
                };
                match inject(&program, extent) {
                    Ok(figures) => println!("{figures}"),
                    Err(reason) => println!("SKIPPED: {reason}"),
                }
            }
            Self::FullDisk { runs, seed } => {
                println!("{}", full_storage(seed, 1));
                match full_disk(seed, runs) {
                    Ok((figures, kind)) => println!("{kind}: {figures}"),
                    Err(reason) => println!("SKIPPED: {reason}"),
                }
            }
            Self::Footprint {
                gigabytes,
                updates,
                cache,
            } => footprint(&program, gigabytes, updates, cache),
            Self::Measure(arguments) => measure(&arguments).expect("a measurement"),
            Self::Writer(arguments) => std::process::exit(run_writer(&arguments)),
        }
    }
}
