//! Every fault at every call: a script runs again and again, and each time another one of its storage calls fails. The
//! failure must be told, the handle must stop if it was a write or a sync, reading must go on, nothing acknowledged may be
//! missing when the file is opened again, and then life goes on.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use folio_store::storage::{Fault, SplitMix64, StorageCall};

use crate::{
    figures::Figures,
    model::State,
    script::{ALL_CALLS, Failure, Shape, Step},
    world::{World, created},
};

/// Steps that are done after a failure.
const STEPS_AFTER: usize = 6;

/// How much to try.
#[derive(Clone, Debug)]
pub struct FaultAttack {
    /// The first seed; each has a script of its own.
    pub seed: u64,
    /// How many scripts.
    pub scripts: u64,
    /// Steps of a script.
    pub steps: usize,
    /// Of the calls of a script one in so many fails; the first of them depends on the seed.
    pub every: u64,
    /// Scripts run at a time.
    pub threads: usize,
}

/// What fails, and how.
const FAILURES: [(&[StorageCall], Fault); 10] = [
    (&[StorageCall::Write], Fault::InputOutput),
    (&[StorageCall::Write], Fault::ShortWrite),
    (&[StorageCall::Write], Fault::NoSpace),
    (&[StorageCall::Sync], Fault::InputOutput),
    (&[StorageCall::Grow], Fault::InputOutput),
    (&[StorageCall::Grow], Fault::ShortWrite),
    (&[StorageCall::Grow], Fault::NoSpace),
    (&[StorageCall::Read], Fault::InputOutput),
    (StorageCall::CHANGING, Fault::NoSpace),
    (ALL_CALLS, Fault::InputOutput),
];

impl FaultAttack {
    /// What runs with every test run.
    #[must_use]
    pub fn short() -> Self {
        Self {
            seed: 1,
            scripts: 24,
            steps: 40,
            every: 17,
            threads: 2,
        }
    }

    /// Every call of many scripts.
    #[must_use]
    pub fn long() -> Self {
        Self {
            scripts: 200,
            steps: 80,
            every: 1,
            ..Self::short()
        }
    }

    /// Runs all scripts; gives back what was counted.
    ///
    /// # Panics
    ///
    /// If something is not as it must be; the message has what repeats it.
    #[must_use]
    pub fn run(&self) -> Figures {
        let next = AtomicU64::new(0);
        let mut figures = Figures::of("faults");
        thread::scope(|scope| {
            let work = || {
                let mut figures = Figures::of("faults");
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= self.scripts {
                        return figures;
                    }
                    figures.join(&self.run_seed(self.seed + number));
                }
            };
            let threads: Vec<_> = (0..self.threads.max(1))
                .map(|_| scope.spawn(work))
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok(found) => figures.join(&found),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        figures
    }

    /// The faults of one script.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    #[must_use]
    pub fn run_seed(&self, seed: u64) -> Figures {
        let mut random = SplitMix64::new(seed);
        let shape = Shape {
            power_cuts: false,
            ..Shape::choose(&mut random)
        };
        // Opening is a part of what may fail.
        let cache_pages = [16, 0, 256][random.below(3) as usize];
        let mut steps = vec![Step::Kill { cache_pages }];
        steps.extend((0..self.steps).map(|_| Step::choose(&shape, &mut random)));
        let script = Script { seed, shape, steps };
        let mut figures = Figures::of("faults");
        for (calls, fault) in FAILURES {
            for lasting in [false, true] {
                let failure = |at| Failure {
                    calls,
                    at,
                    fault,
                    lasting,
                };
                let (total, _) = script.run(failure(u64::MAX));
                let mut at = 1 + seed % self.every;
                while at <= total {
                    let (_, found) = script.run(failure(at));
                    figures.join(&found);
                    figures.add("calls failed", 1);
                    at += self.every;
                }
            }
        }
        figures.add("scripts", 1);
        figures
    }
}

struct Script {
    seed: u64,
    shape: Shape,
    steps: Vec<Step>,
}

impl Script {
    /// Runs with this failure to come; gives back how many calls of its kinds there were, and what was met.
    fn run(&self, failure: Failure) -> (u64, Figures) {
        let context = format!("faults, seed {}, {failure:?}", self.seed);
        let image = created(self.shape.page_size);
        let cache = 16 * self.shape.page_size;
        let state = State::default();
        let mut world = World::new(&image, state, self.shape, cache, false, context.clone());
        world.arm(failure);
        let mut after = 0;
        for step in &self.steps {
            world.step(step);
            after += usize::from(world.figures.get("failures told") > 0);
            if after > STEPS_AFTER {
                break;
            }
        }
        let counted = world.storage().counted();
        let (_, figures) = world.finish();
        let stops = failure.calls == [StorageCall::Write] || failure.calls == [StorageCall::Sync];
        let told = figures.get("failures told");
        assert!(
            told > 0 || !stops || failure.at == u64::MAX,
            "{context}: nobody was told"
        );
        (counted, figures)
    }
}
