//! Power cuts: a script runs once on a recording disk, and the power goes after every event of its journal, with every
//! kind of subset of what was pending. Each image must open to what was owed at that moment, whole; its structure and its
//! free space are checked; and now and then life goes on in it, and the power goes again.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use folio_store::{
    Database,
    storage::{CrashPoint, DiskEvent, MemoryStorage, SplitMix64, SubsetPlan},
};

use crate::{
    choices::Choices,
    figures::Figures,
    model::{Allowed, State, verify},
    script::{Change, End, Operation, Shape, Step},
    world::{Life, World, created},
};

/// How much to try.
#[derive(Clone, Debug)]
pub struct CrashAttack {
    /// The first seed; each has a script of its own.
    pub seed: u64,
    /// Go on until so many images were tried.
    pub images: u64,
    /// Seeds tried at a time.
    pub threads: usize,
    /// Steps of a script.
    pub steps: usize,
    /// The subsets tried at most moments.
    pub plan: SubsetPlan,
    /// Once in so many moments the subsets of the default plan are tried.
    pub thorough_every: u64,
    /// In one image of so many, life goes on and the power goes again.
    pub deep_every: u64,
}

impl CrashAttack {
    /// What runs with every test run.
    #[must_use]
    pub fn short() -> Self {
        Self {
            seed: 1,
            images: 180_000,
            threads: 2,
            steps: 60,
            plan: subsets(6),
            thorough_every: 24,
            deep_every: 100,
        }
    }

    /// What runs for as long as it is let.
    #[must_use]
    pub fn long() -> Self {
        Self {
            images: 5_000_000,
            steps: 150,
            plan: SubsetPlan::default(),
            thorough_every: 1,
            ..Self::short()
        }
    }

    /// Runs seed after seed; gives back what was counted.
    ///
    /// # Panics
    ///
    /// If an image is not as it must be; the message has the seed.
    #[must_use]
    pub fn run(&self) -> Figures {
        let next = AtomicU64::new(self.seed);
        let tried = AtomicU64::new(0);
        let mut figures = Figures::of("power cuts");
        thread::scope(|scope| {
            let work = || {
                let mut figures = Figures::of("power cuts");
                while tried.load(Ordering::Relaxed) < self.images {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let found = self.run_seed(seed);
                    tried.fetch_add(found.get("images"), Ordering::Relaxed);
                    figures.join(&found);
                }
                figures
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

    /// The script of one seed and all its power cuts.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    #[must_use]
    pub fn run_seed(&self, seed: u64) -> Figures {
        let mut random = SplitMix64::new(seed);
        let shape = Shape::choose(&mut random);
        let cache = [256, 32, 0, 1024][random.below(4) as usize] * shape.page_size;
        let context = format!(
            "power cuts, seed {seed}, {} steps, pages of {}",
            self.steps, shape.page_size
        );
        let (image, state) = if shape.page_size == 4096 && random.one_in(12) {
            sparse().clone()
        } else {
            (created(shape.page_size), State::default())
        };
        let mut world = World::new(&image, state, shape, cache, true, context.clone());
        let much = random.below(2 * self.steps as u64) as usize;
        for number in 0..self.steps {
            world.step(&Step::choose(&shape, &mut random));
            if number == much && shape.page_size == 4096 {
                Step::much(&mut random)
                    .iter()
                    .for_each(|step| world.step(step));
            }
        }
        let (lives, mut figures) = world.finish();
        for life in &lives {
            let mut checker = Checker {
                attack: self,
                shape,
                plan: &self.plan,
                random: &mut random,
                figures: &mut figures,
                context: context.clone(),
                again: false,
                torn: false,
            };
            checker.life(life);
        }
        figures.add("seeds", 1);
        figures
    }
}

/// Sectors of a slot and the twin beside it, with some to spare, in pages of 4 KiB.
const SLOT_SECTORS: usize = 18;

/// The first slot of an incarnation comes within so many events.
const FIRST_EVENTS: usize = 12;

/// A plan with at most `amount` subsets of each kind.
#[must_use]
pub fn subsets(amount: usize) -> SubsetPlan {
    SubsetPlan {
        exhaustive_up_to: 3,
        singles: amount,
        random: amount,
        torn_prefixes: amount,
        torn_masks: amount / 2,
    }
}

/// A file with more pages than one row of the free-space map describes, most of them free, and rows at both ends.
fn sparse() -> &'static (MemoryStorage, State) {
    static SPARSE: OnceLock<(MemoryStorage, State)> = OnceLock::new();
    SPARSE.get_or_init(|| {
        let shape = Shape {
            page_size: 4096,
            cache_pages: None,
            power_cuts: false,
            faults: false,
            fills: true,
        };
        let image = created(shape.page_size);
        let cache = 256 * shape.page_size;
        let mut world = World::new(
            &image,
            State::default(),
            shape,
            cache,
            false,
            "a sparse file".into(),
        );
        let step = |table, change| Step::Transaction {
            operations: vec![Operation { table, change }],
            end: End::Durable,
        };
        let fill = |rows, length| Change::Fill {
            rows,
            seed: 7,
            length,
        };
        world.step(&step(0, fill(40, 100)));
        world.step(&step(4, fill(300, 60_000)));
        world.step(&step(6, fill(40, 100)));
        world.step(&step(4, Change::Clear));
        world.stop(true)
    })
}

/// Cuts the power after each event of some lives; gives back the number of images.
///
/// # Panics
///
/// If an image is not as it must be.
pub fn check_lives(lives: &[Life], shape: Shape, plan: &SubsetPlan, context: &str) -> u64 {
    let attack = CrashAttack::short();
    let mut figures = Figures::of("power cuts");
    for life in lives {
        let mut checker = Checker {
            attack: &attack,
            shape,
            plan,
            random: &mut SplitMix64::new(0),
            figures: &mut figures,
            context: context.to_owned(),
            again: false,
            torn: false,
        };
        checker.life(life);
    }
    figures.get("images")
}

/// Cuts the power at a few chosen moments of some lives.
///
/// # Panics
///
/// If an image is not as it must be.
pub fn check_chosen(lives: &[Life], choices: &mut impl Choices, context: &str) {
    while !choices.is_over() && !lives.is_empty() {
        let life = &lives[choices.below(lives.len() as u64) as usize];
        let events = choices.below(life.journal.events().len() as u64 + 1) as usize;
        let owed = life.journal.events()[..events].iter().rev();
        let mark = owed.into_iter().find_map(|event| match event {
            DiskEvent::Mark(mark) => Some(*mark as usize),
            _ => None,
        });
        let point = life.journal.crash_point_at(events);
        // Most of them landed, few of them, or half.
        let one_in = [2, 8, 32][choices.below(3) as usize];
        let landed = choices.one_in(2);
        let mut random = SplitMix64::new(choices.below(1 << 16));
        let image = point.image_of(&mut |_| random.one_in(one_in) == landed);
        let context = || format!("{context}, cut after {events} events");
        let allowed = &life.allowed[mark.unwrap_or(0)];
        check_image(image, allowed, life.cache, &context);
    }
}

struct Checker<'c> {
    attack: &'c CrashAttack,
    shape: Shape,
    plan: &'c SubsetPlan,
    random: &'c mut SplitMix64,
    figures: &'c mut Figures,
    context: String,
    /// Whether these are the power cuts after a power cut.
    again: bool,
    /// Whether the one before tore a commit.
    torn: bool,
}

impl Checker<'_> {
    /// Cuts the power after each event.
    fn life(&mut self, life: &Life) {
        let mut allowed = &life.allowed[0];
        let mut replay = life.journal.replay();
        while let Some(event) = replay.advance() {
            let position = replay.position();
            if let DiskEvent::Mark(mark) = event {
                allowed = &life.allowed[*mark as usize];
            }
            self.figures.add("moments", 1);
            self.moment(life, replay.crash_point(), allowed, event, position);
        }
    }

    fn moment(
        &mut self,
        life: &Life,
        point: &CrashPoint,
        allowed: &Allowed,
        event: &DiskEvent,
        position: usize,
    ) {
        let thorough = !self.again && self.random.one_in(self.attack.thorough_every);
        let default = SubsetPlan::default();
        let few = subsets(1);
        // Of the first slot after a power cut any one sector may be what a torn one lacked.
        let sectors = SubsetPlan {
            singles: SLOT_SECTORS,
            ..subsets(1)
        };
        let first_slot =
            self.torn && position <= FIRST_EVENTS && point.pending().len() <= SLOT_SECTORS;
        let plan = match event {
            _ if thorough => &default,
            DiskEvent::Write { .. } if first_slot => &sectors,
            // The disk is as it was; what is owed has changed.
            DiskEvent::Mark(_) => &few,
            _ => self.plan,
        };
        for (number, subset) in plan
            .subsets(point.pending(), self.random)
            .iter()
            .enumerate()
        {
            let context = || {
                format!(
                    "{}, cache {}, event {position} ({event:?}), subset {number} of {} pending",
                    self.context,
                    life.cache,
                    point.pending().len()
                )
            };
            let image = point.image(subset);
            let found = check_image(image.clone(), allowed, life.cache, &context);
            let deep = !self.again && self.random.one_in(self.attack.deep_every);
            let context = deep.then(context);
            self.figures.add("images", 1);
            if let Some(context) = context {
                let torn = allowed.in_flight.is_some() && found.is_same(&allowed.durable);
                self.go_on(&image, found, life, torn, context);
            }
        }
    }

    /// Life goes on in an image, and the power goes again at every event from its opening on.
    fn go_on(
        &mut self,
        image: &MemoryStorage,
        state: State,
        life: &Life,
        torn: bool,
        context: String,
    ) {
        let context = format!("{context}, and on");
        let shape = Shape {
            fills: false,
            ..self.shape
        };
        let mut world = World::new(image, state, shape, life.cache, true, context.clone());
        // The first commit of an incarnation is the one that may meet what the one before left behind.
        world.step(&Step::Transaction {
            operations: vec![Operation {
                table: self.random.below(3) as usize,
                change: Change::Append { seed: 5, length: 9 },
            }],
            end: End::Durable,
        });
        for _ in 0..self.random.below(4) {
            world.step(&Step::choose(&shape, self.random));
        }
        let (lives, figures) = world.finish();
        self.figures.join(&figures);
        let before = self.figures.get("images");
        let plan = subsets(1);
        let mut checker = Checker {
            attack: self.attack,
            shape,
            plan: &plan,
            random: self.random,
            figures: self.figures,
            context,
            again: true,
            torn,
        };
        for life in &lives {
            checker.life(life);
        }
        let again = self.figures.get("images") - before;
        self.figures.add("of them after a power cut before", again);
    }
}

/// Opens an image, which must show one of the allowed states, with sound structure and exact free space. Gives back which.
fn check_image(
    image: MemoryStorage,
    allowed: &Allowed,
    cache: usize,
    context: &dyn Fn() -> String,
) -> State {
    let opened = Database::builder()
        .cache_size(cache)
        .open_on(Arc::new(image));
    let db = match opened {
        Ok(db) => db,
        Err(error) => panic!("{}: cannot be opened: {error}", context()),
    };
    let found = match allowed.find(&db, context) {
        Ok(found) => found,
        Err(error) => panic!("{}: cannot be read: {error}", context()),
    };
    match verify(&db) {
        Ok(report) if report.problems.is_empty() => {}
        Ok(report) => panic!("{}: {:?}", context(), report.problems),
        Err(error) => panic!("{}: cannot be verified: {error}", context()),
    }
    db.kill();
    found
}
