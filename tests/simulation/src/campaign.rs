//! Many simulations.

use std::sync::atomic::{AtomicU64, Ordering};

use folio_attacks::Figures;
use parking_lot::Mutex;

use crate::simulation::Simulation;

/// Simulations of consecutive seeds.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// How many at a time.
    pub threads: u64,
}

impl Campaign {
    /// Runs them, until something is found; what was counted, and what was found, with the command that repeats it.
    #[must_use]
    pub fn run(self) -> (Figures, Vec<String>) {
        let figures = Mutex::new(Figures::of("simulation"));
        let violations = Mutex::new(Vec::new());
        let next = AtomicU64::new(self.from);
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.from + self.seeds || !violations.lock().is_empty() {
                            return;
                        }
                        let simulation = Simulation::new(seed);
                        let outcome = simulation.run();
                        let mut figures = figures.lock();
                        figures.add("seeds", 1);
                        figures.join(&outcome.figures);
                        if let Some(violation) = outcome.violation {
                            violations.lock().push(format!("{simulation}: {violation}"));
                        }
                    }
                });
            }
        });
        (figures.into_inner(), violations.into_inner())
    }
}
