//! Damaged files. The outcome is the right data, or an error that names the file and, where a page is met, page and table;
//! never a wrong or missing row without a word, never an older state, never a panic, and never more reading than a
//! sound file takes several times over.

use std::{
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use folio_store::{
    Database, Error, ReadTransaction, Result, TableDefinition,
    storage::{CountingStorage, MemoryStorage, SplitMix64, Storage},
};

use crate::{
    choices::Choices,
    figures::Figures,
    model::{Rows, STAGING, State, definitions, verify},
    script::{Change, End, Operation, Shape, Step},
    world::{World, created},
};

/// The fixed pages at the start of a file.
pub const FIXED_PAGES: u64 = 8;

/// What a sound file is read like: this many times its pages is more than any walk takes.
const MOST_READS_A_PAGE: u64 = 60;

/// A sound file.
pub struct Fixture {
    /// The file.
    pub image: MemoryStorage,
    /// What is in it.
    pub right: State,
    /// The file as it was before, oldest first.
    pub older: Vec<MemoryStorage>,
    /// Its page size.
    pub page_size: u64,
    /// How it came to be, for messages.
    pub context: String,
}

/// How the last process ended, and what its last commit was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The file was closed in order.
    Closed,
    /// The process was killed after a small commit.
    Killed,
    /// The process was killed after a commit so large that its manifest has pages of its own.
    KilledAfterMuch,
}

/// All of them.
pub const ENDINGS: [Ending; 3] = [Ending::Closed, Ending::Killed, Ending::KilledAfterMuch];

impl Fixture {
    /// A file with some history.
    #[must_use]
    pub fn new(seed: u64, page_size: usize, ending: Ending) -> Self {
        let mut random = SplitMix64::new(seed);
        let shape = Shape {
            page_size,
            cache_pages: Some(64),
            power_cuts: false,
            faults: false,
            fills: false,
        };
        let context = format!("a file of seed {seed}, pages of {page_size}, {ending:?}");
        let cache = 64 * page_size;
        let image = created(page_size);
        let mut world = World::new(
            &image,
            State::default(),
            shape,
            cache,
            false,
            context.clone(),
        );
        let one = |table, change| Step::Transaction {
            operations: vec![Operation { table, change }],
            end: End::Durable,
        };
        let mut older = Vec::new();
        for round in 0..12 {
            for _ in 0..6 {
                world.step(&Step::choose(&shape, &mut random));
            }
            // Rows on several levels, and a long value.
            let page = page_size as u32;
            world.step(&one(
                (round % 4) as usize + 1,
                Change::Fill {
                    rows: 30,
                    seed: round,
                    length: page / 16,
                },
            ));
            let long = Change::Insert {
                key: 70,
                seed: round,
                length: page * 3,
            };
            world.step(&one(0, long));
            older.push(world.image());
        }
        let last = match ending {
            Ending::Closed | Ending::Killed => Change::Append { seed: 1, length: 8 },
            Ending::KilledAfterMuch => Change::Fill {
                rows: 330,
                seed: 2,
                length: page_size as u32 * 4 / 5,
            },
        };
        world.step(&one(2, last));
        let (image, right) = world.stop(ending == Ending::Closed);
        Self {
            image,
            right,
            older,
            page_size: page_size as u64,
            context,
        }
    }

    /// The number of pages.
    #[must_use]
    pub fn pages(&self) -> u64 {
        length(&self.image) / self.page_size
    }

    /// The pages that are in use or were: not zero.
    #[must_use]
    pub fn written_pages(&self) -> Vec<u64> {
        let pages = FIXED_PAGES..self.pages();
        pages
            .filter(|&page| bytes(&self.image, page * self.page_size + 4, 1)[0] != 0)
            .collect()
    }

    /// A page of the file.
    #[must_use]
    pub fn page(&self, page: u64) -> Vec<u8> {
        bytes(&self.image, page * self.page_size, self.page_size as usize)
    }

    /// The file with other bytes somewhere.
    #[must_use]
    pub fn with(&self, offset: u64, bytes: &[u8]) -> MemoryStorage {
        let image = self.image.clone();
        put(&image, offset, bytes);
        image
    }

    /// The file with one bit flipped.
    #[must_use]
    pub fn flipped(&self, bit: u64) -> MemoryStorage {
        let byte = bytes(&self.image, bit / 8, 1)[0] ^ (1 << (bit % 8));
        self.with(bit / 8, &[byte])
    }
}

/// The length of an image.
#[must_use]
pub fn length(image: &MemoryStorage) -> u64 {
    image.len().unwrap_or(0)
}

/// Bytes of an image; zeros behind its end.
#[must_use]
pub fn bytes(image: &MemoryStorage, offset: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let there = length(image).saturating_sub(offset).min(count as u64) as usize;
    if there > 0
        && let Err(error) = image.read_at(offset, &mut bytes[..there])
    {
        panic!("memory does not fail: {error}");
    }
    bytes
}

/// Writes into an image.
pub fn put(image: &MemoryStorage, offset: u64, bytes: &[u8]) {
    if let Err(error) = image.write_at(offset, &[IoSlice::new(bytes)]) {
        panic!("memory does not fail: {error}");
    }
}

/// What was told about a damaged file.
#[derive(Default)]
pub struct Told {
    /// The errors, one for the file or one for each table.
    pub errors: Vec<Error>,
}

/// Opens a damaged image and reads all of it, from both ends.
///
/// # Panics
///
/// If anything but the right data or a fitting error comes.
#[must_use]
pub fn examine(image: MemoryStorage, fixture: &Fixture, damage: &dyn Fn() -> String) -> Told {
    let context = || format!("{}, {}", fixture.context, damage());
    let storage = Arc::new(CountingStorage::new(Arc::new(image)));
    let opened = Database::builder()
        .cache_size(1 << 20)
        .open_on(storage.clone());
    let mut told = Told::default();
    match opened {
        Err(error) => told.add(error, &context),
        Ok(db) => {
            match db.begin_read().and_then(|view| read(&view, fixture)) {
                Ok((errors, None)) => {
                    errors
                        .into_iter()
                        .for_each(|(table, error)| told.add_of_table(table, error, &context));
                }
                Ok((_, Some(difference))) => panic!("{}: {difference}", context()),
                Err(error) => told.add(error, &context),
            }
            match verify(&db) {
                Ok(report) => assert!(
                    told.errors.is_empty() || !report.problems.is_empty(),
                    "{}: verifying finds nothing",
                    context()
                ),
                // One that cannot be checkpointed: writing has stopped because the free-space map is damaged.
                Err(error) => told.add(error, &context),
            }
            db.kill();
        }
    }
    let reads = storage.counts().reads;
    assert!(
        reads < MOST_READS_A_PAGE * (fixture.pages() + 20),
        "{}: {reads} reads",
        context()
    );
    told
}

type Errors = Vec<(&'static TableDefinition, Error)>;

/// Reads every table; gives back what was told, and how the rows that came differ from the right ones.
fn read(view: &ReadTransaction, fixture: &Fixture) -> Result<(Errors, Option<String>)> {
    let mut errors = Vec::new();
    for (table, definition) in definitions().iter().enumerate() {
        let empty = Rows::new();
        let right = fixture.right.table(table).map_or(&empty, AsRef::as_ref);
        // Not an error of the table's: a catalog has no name.
        let found = view.untyped(definition)?;
        let ends = [
            compare(right.iter(), found.iter()?),
            compare(right.iter().rev(), found.iter()?.rev()),
        ];
        for end in ends {
            match end {
                Ok(None) => {}
                Ok(Some(difference)) => {
                    return Ok((errors, Some(format!("table {table}: {difference}"))));
                }
                Err(error) => errors.push((definition, error)),
            }
        }
    }
    Ok((errors, None))
}

/// Every row that comes before an error must be the right one, too.
fn compare<'r>(
    mut right: impl Iterator<Item = (&'r Vec<u8>, &'r Arc<[u8]>)>,
    found: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>>,
) -> Result<Option<String>> {
    for row in found {
        let (key, value) = row?;
        let same = right
            .next()
            .is_some_and(|(right_key, right)| *right_key == key && **right == *value);
        if !same {
            return Ok(Some(format!("a wrong row of {}", key.escape_ascii())));
        }
    }
    Ok(right
        .next()
        .map(|(key, _)| format!("rows from {} on are missing", key.escape_ascii())))
}

impl Told {
    fn add(&mut self, error: Error, context: &dyn Fn() -> String) {
        let fits = error.is_corruption()
            || matches!(error, Error::NewerFormat { .. } | Error::Latched { .. });
        assert!(fits, "{}: {error}", context());
        let text = error.to_string();
        assert!(text.starts_with("memory: "), "{}: {text}", context());
        self.errors.push(error);
    }

    fn add_of_table(
        &mut self,
        table: &TableDefinition,
        error: Error,
        context: &dyn Fn() -> String,
    ) {
        match &error {
            Error::Corrupted {
                table: Some(name), ..
            } if **name == *table.name => self.add(error, context),
            error => panic!(
                "{}: does not name table `{}`: {error}",
                context(),
                table.name
            ),
        }
    }
}

/// How much to try.
#[derive(Clone, Debug)]
pub struct FlipAttack {
    /// What is flipped, and what the files hold.
    pub seed: u64,
    /// Of the bits in the fixed pages one in so many is flipped.
    pub every: u64,
    /// Bits flipped elsewhere.
    pub sampled: u64,
    /// Threads that do it.
    pub threads: u64,
}

impl FlipAttack {
    /// What runs with every test run: each byte of what is used of the fixed pages.
    #[must_use]
    pub fn short() -> Self {
        Self {
            seed: 1,
            every: 31,
            sampled: 15_000,
            threads: 2,
        }
    }

    /// Every bit of the fixed pages, and a million others.
    #[must_use]
    pub fn long() -> Self {
        Self {
            every: 1,
            sampled: 1_000_000,
            ..Self::short()
        }
    }

    /// Flips one bit at a time; gives back what was counted.
    ///
    /// # Panics
    ///
    /// If a flip leads to anything but the right data or a fitting error.
    #[must_use]
    pub fn run(&self) -> Figures {
        let fixtures = ENDINGS.map(|ending| Fixture::new(self.seed, 4096, ending));
        let done = AtomicU64::new(0);
        let mut figures = Figures::of("flips");
        thread::scope(|scope| {
            let fixtures = &fixtures;
            let done = &done;
            let threads: Vec<_> = (0..self.threads.max(1))
                .map(|thread| scope.spawn(move || self.part(fixtures, thread, done)))
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

    fn part(&self, fixtures: &[Fixture], thread: u64, done: &AtomicU64) -> Figures {
        let mut figures = Figures::of("flips");
        let threads = self.threads.max(1);
        for fixture in fixtures {
            let bits = FIXED_PAGES * fixture.page_size * 8;
            for bit in (0..bits).filter(|bit| bit % self.every == 0 || self.is_crucial(*bit)) {
                if bit / 8 % threads == thread {
                    self.flip(fixture, bit, &mut figures);
                    figures.add("of them in the fixed pages", 1);
                }
            }
        }
        let mut random = SplitMix64::new(self.seed ^ thread << 32);
        let written: Vec<Vec<u64>> = fixtures.iter().map(Fixture::written_pages).collect();
        while done.fetch_add(1, Ordering::Relaxed) < self.sampled {
            let which = random.below(fixtures.len() as u64) as usize;
            let (fixture, written) = (&fixtures[which], &written[which]);
            let page = written[random.below(written.len() as u64) as usize];
            let bit = page * fixture.page_size * 8 + random.below(fixture.page_size * 8);
            self.flip(fixture, bit, &mut figures);
        }
        figures
    }

    /// One bit of each byte of what the header, the slots and the acknowledgement say.
    fn is_crucial(&self, bit: u64) -> bool {
        let (page, byte) = (bit / 8 / 4096, bit / 8 % 4096);
        let used = match page {
            0 => 128,
            1..=4 => 1024,
            5 => 64,
            _ => 0,
        };
        byte < used && bit % 8 == (byte + self.seed) % 8
    }

    fn flip(&self, fixture: &Fixture, bit: u64, figures: &mut Figures) {
        let damage = || format!("bit {bit} flipped");
        let told = examine(fixture.flipped(bit), fixture, &damage);
        figures.add("bits flipped", 1);
        let page = bit / 8 / fixture.page_size;
        if let Some(error) = told.errors.first() {
            figures.add("of them told", 1);
            let text = error.to_string();
            // Of the fixed pages the slots have names of their own.
            assert!(
                page < FIXED_PAGES || text.contains(&format!("page {page}")),
                "{}, {}: does not name page {page}: {text}",
                fixture.context,
                damage()
            );
        }
    }
}

/// Does whatever can be done with a file that may hold anything; errors are fine.
///
/// # Panics
///
/// If the file makes it read without end.
pub fn use_everything(image: MemoryStorage, accept_loss: bool, choices: &mut impl Choices) {
    let pages = length(&image) / 4096;
    let storage = Arc::new(CountingStorage::new(Arc::new(image)));
    let builder = Database::builder()
        .cache_size(64 * 4096)
        .accept_loss(accept_loss);
    let Ok(db) = builder.open_on(storage.clone()) else {
        return;
    };
    if let Ok(view) = db.begin_read() {
        let _ = view.tables();
        for definition in definitions() {
            if let Ok(table) = view.untyped(definition) {
                let rows = || table.iter().into_iter().flatten();
                let _ = rows().take_while(Result::is_ok).count();
                let _ = rows().rev().take_while(Result::is_ok).count();
                let _ = table.get(b"12".as_slice());
            }
        }
    }
    let _ = verify(&db);
    let shape = Shape {
        page_size: 4096,
        cache_pages: None,
        power_cuts: false,
        faults: false,
        fills: false,
    };
    for _ in 0..3 {
        let mut operations = Vec::new();
        for _ in 0..4 {
            if let Step::Transaction {
                operations: more, ..
            } = Step::choose(&shape, choices)
            {
                operations.extend(more);
            }
        }
        let _ = change(&db, &operations);
    }
    for table in [0, STAGING, 4] {
        let _ = db.begin_write().and_then(|txn| {
            txn.delete_table(&definitions()[table])?;
            txn.commit()
        });
    }
    let _ = verify(&db);
    let _ = db.close();
    let reads = storage.counts().reads;
    assert!(
        reads < 100 * MOST_READS_A_PAGE * (pages + 20),
        "{reads} reads of a file of {pages} pages"
    );
}

/// A transaction on whatever the file holds; the model is of no use here.
fn change(db: &Database, operations: &[Operation]) -> Result<()> {
    let txn = db.begin_write()?;
    for operation in operations {
        crate::apply::apply(&txn, operation, &mut State::default(), 4096)?;
    }
    txn.commit().map(drop)
}
