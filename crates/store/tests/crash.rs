//! Power cuts at every storage call of a scripted load. Of what was not synced, any subset of sectors may have reached
//! the disk; every such image must open to the last acknowledged state or to the one in flight, row for row.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use folio_store::{
    Database, Durability, Error, Group, GroupSet, ReadTransaction, Table, WriteTransaction,
    storage::{
        Change, DiskEvent, Fault, FaultPlan, FaultStorage, MemoryStorage, SimulatedDisk,
        SplitMix64, Storage, StorageCall, SubsetPlan,
    },
};

const LOG_GROUP: Group = Group::new(1);

struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = LOG_GROUP;
    type Key = u64;
    type Value = &'static [u8];
}

struct State;
impl Table for State {
    const NAME: &'static str = "state";
    type Key = &'static [u8];
    type Value = &'static [u8];
}

/// The rows of both tables.
#[derive(Clone, Default, PartialEq, Eq)]
struct Contents {
    log: Arc<BTreeMap<u64, Vec<u8>>>,
    state: Arc<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Contents {
    fn read(view: &ReadTransaction) -> folio_store::Result<Self> {
        let log = view
            .table::<Log>()?
            .iter()?
            .collect::<folio_store::Result<_>>()?;
        let state = view
            .table::<State>()?
            .iter()?
            .collect::<folio_store::Result<_>>()?;
        Ok(Self {
            log: Arc::new(log),
            state: Arc::new(state),
        })
    }
}

/// What an image may open to from some moment on.
#[derive(Clone)]
struct Allowed {
    durable: Contents,
    in_flight: Option<Contents>,
}

impl Allowed {
    fn permits(&self, found: &Contents) -> bool {
        *found == self.durable || self.in_flight.as_ref() == Some(found)
    }
}

/// A database under load, and what it owes.
struct Load {
    disk: Arc<SimulatedDisk>,
    cache: usize,
    db: Option<Database>,
    random: SplitMix64,
    newest: Contents,
    durable: Contents,
    /// Whether a transaction changed both tables since they were flushed last: then they are flushed together.
    tied: bool,
    /// By the number of the mark in the journal.
    allowed: Vec<Allowed>,
}

impl Load {
    fn new(seed: u64, cache: usize, page_size: usize) -> Self {
        let image = created(page_size);
        let disk = Arc::new(SimulatedDisk::recording(&image));
        let mut load = Self {
            disk,
            cache,
            db: None,
            random: SplitMix64::new(seed),
            newest: Contents::default(),
            durable: Contents::default(),
            tied: false,
            allowed: Vec::new(),
        };
        load.note(None);
        load.open();
        load
    }

    fn open(&mut self) {
        self.db = Some(
            Database::builder()
                .cache_size(self.cache)
                .open_on(self.disk.clone())
                .unwrap(),
        );
    }

    fn db(&self) -> &Database {
        self.db.as_ref().unwrap()
    }

    fn note(&mut self, in_flight: Option<Contents>) {
        self.disk.mark(self.allowed.len() as u64).unwrap();
        self.allowed.push(Allowed {
            durable: self.durable.clone(),
            in_flight,
        });
    }

    /// Runs something that makes `after` durable.
    fn durably<R>(&mut self, after: Contents, act: impl FnOnce(&mut Self) -> R) -> R {
        self.note(Some(after.clone()));
        let result = act(self);
        self.durable = after;
        self.note(None);
        result
    }

    fn value(&mut self) -> Vec<u8> {
        let length = match self.random.below(12) {
            0 => self.random.below(12_000),
            1 => self.random.below(1_500),
            _ => self.random.below(80),
        };
        (0..length).map(|_| self.random.next_u64() as u8).collect()
    }

    fn append(&mut self, txn: &WriteTransaction) {
        let mut table = txn.table::<Log>().unwrap();
        for _ in 0..1 + self.random.below(4) {
            let index = self
                .newest
                .log
                .last_key_value()
                .map_or(1, |(index, _)| index + 1);
            let value = self.value();
            table.insert(index, value.as_slice()).unwrap();
            Arc::make_mut(&mut self.newest.log).insert(index, value);
        }
        if self.random.one_in(8) {
            let end = self.random.below(self.newest.log.len() as u64 + 1);
            table.remove_range(..end).unwrap();
            Arc::make_mut(&mut self.newest.log).retain(|index, _| *index >= end);
        }
    }

    fn change(&mut self, txn: &WriteTransaction) {
        let mut table = txn.table::<State>().unwrap();
        // Now and then more than a small cache holds, and more pages than a slot can list.
        let rows = if self.random.one_in(12) { 150 } else { 8 };
        for _ in 0..1 + self.random.below(rows) {
            let key = format!("row {}", self.random.below(150)).into_bytes();
            if self.random.below(10) < 7 {
                let value = self.value();
                table.insert(key.as_slice(), value.as_slice()).unwrap();
                Arc::make_mut(&mut self.newest.state).insert(key, value);
            } else {
                table.remove(key.as_slice()).unwrap();
                Arc::make_mut(&mut self.newest.state).remove(&key);
            }
        }
    }

    /// What a flush of these groups leaves durable.
    fn flushed(&self, log: bool, state: bool, tied: bool) -> Contents {
        let mut after = self.durable.clone();
        if log || tied {
            after.log = self.newest.log.clone();
        }
        if state || tied {
            after.state = self.newest.state.clone();
        }
        after
    }

    fn commit(&mut self, log: bool, state: bool, durable: bool) {
        let before = self.newest.clone();
        let mut txn = self.db().begin_write().unwrap();
        if log {
            self.append(&txn);
        }
        if state {
            self.change(&txn);
        }
        if self.random.one_in(12) {
            self.newest = before;
            return txn.abort();
        }
        self.tied |= log && state;
        if durable {
            let tied = self.tied;
            let after = self.flushed(log, state, tied);
            self.durably(after, |_| txn.commit().unwrap());
            self.tied = false;
        } else {
            txn.set_durability(Durability::Eventual);
            txn.commit().unwrap();
        }
    }

    fn checkpoint(&mut self) {
        let tied = self.tied;
        let after = self.flushed(false, true, tied);
        self.durably(after, |load| {
            load.db()
                .checkpoint(GroupSet::from(Group::DEFAULT))
                .unwrap()
        });
        self.tied = false;
    }

    /// Gives most rows of the state a new value: more pages than a slot can list.
    fn overwrite(&mut self) {
        let txn = self.db().begin_write().unwrap();
        let mut table = txn.table::<State>().unwrap();
        for row in 0..850 {
            let key = format!("row {row}").into_bytes();
            let value = vec![self.random.next_u64() as u8; 880];
            table.insert(key.as_slice(), value.as_slice()).unwrap();
            Arc::make_mut(&mut self.newest.state).insert(key, value);
        }
        drop(table);
        let after = self.newest.clone();
        self.durably(after, |_| txn.commit().unwrap());
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=7 => self.commit(true, false, true),
            8..=11 => self.commit(false, true, false),
            12 | 13 => self.commit(false, true, true),
            14 => self.commit(true, true, false),
            15 | 16 => self.commit(true, true, true),
            17 => self.checkpoint(),
            18 => {
                self.db.take().unwrap().kill();
                self.newest = self.durable.clone();
                self.tied = false;
                self.open();
            }
            _ => {
                let after = self.newest.clone();
                self.durably(after, |load| load.db.take().unwrap().close().unwrap());
                self.tied = false;
                self.open();
            }
        }
        let view = self.db().begin_read().unwrap();
        assert!(
            Contents::read(&view).unwrap() == self.newest,
            "before any crash"
        );
    }
}

fn created(page_size: usize) -> MemoryStorage {
    let disk = Arc::new(SimulatedDisk::new());
    Database::builder()
        .page_size(page_size)
        .create_on(disk.clone())
        .unwrap()
        .kill();
    disk.crash(&mut |_| true)
}

fn open(image: MemoryStorage, cache: usize) -> folio_store::Result<Database> {
    Database::builder()
        .cache_size(cache)
        .open_on(Arc::new(image))
}

struct Attack {
    seed: u64,
    cache: usize,
    page_size: usize,
    steps: usize,
    plan: SubsetPlan,
}

impl Attack {
    /// Gives back the number of images tried.
    fn run(&self) -> u64 {
        let mut load = Load::new(self.seed, self.cache, self.page_size);
        for _ in 0..self.steps {
            load.step();
        }
        let journal = load.disk.journal().unwrap();
        let mut random = SplitMix64::new(self.seed ^ 0xC0FFEE);
        let mut replay = journal.replay();
        let mut allowed = &load.allowed[0];
        let mut images = 0;
        while let Some(event) = replay.advance() {
            if let DiskEvent::Mark(mark) = event {
                allowed = &load.allowed[*mark as usize];
            }
            let point = replay.crash_point();
            for (number, subset) in self
                .plan
                .subsets(point.pending(), &mut random)
                .iter()
                .enumerate()
            {
                let context = format!(
                    "seed {}, cache {}, event {} ({event:?}), subset {number}",
                    self.seed,
                    self.cache,
                    replay.position()
                );
                let image = point.image(subset);
                let deep = random.one_in(100);
                self.check(image, allowed, deep, &context);
                images += 1;
            }
        }
        images
    }

    fn check(&self, image: MemoryStorage, allowed: &Allowed, deep: bool, context: &str) {
        let db = match open(image.clone(), self.cache) {
            Ok(db) => db,
            Err(error) => panic!("{context}: {error}"),
        };
        let found = Contents::read(&db.begin_read().unwrap())
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(
            allowed.permits(&found),
            "{context}: opened to neither the durable state nor the one in flight"
        );
        if deep {
            assert_eq!(db.verify(|_, _| {}).unwrap().problems, [], "{context}");
            db.kill();
            self.crash_again(&image, &found, context);
        }
    }

    /// Opens an image on a disk that may lose power again, at every call from the opening on.
    fn crash_again(&self, image: &MemoryStorage, found: &Contents, context: &str) {
        let disk = Arc::new(SimulatedDisk::recording(image));
        let db = Database::builder()
            .cache_size(self.cache)
            .open_on(disk.clone())
            .unwrap();
        let txn = db.begin_write().unwrap();
        txn.table::<State>()
            .unwrap()
            .insert(b"after".as_slice(), b"the crash".as_slice())
            .unwrap();
        txn.commit().unwrap();
        disk.mark(0).unwrap();
        let mut after = found.clone();
        Arc::make_mut(&mut after.state).insert(b"after".to_vec(), b"the crash".to_vec());
        assert_eq!(
            db.verify(|_, _| {}).unwrap().problems,
            [],
            "{context}, afterwards"
        );
        let journal = disk.journal().unwrap();
        let mut replay = journal.replay();
        let mut allowed = Allowed {
            durable: found.clone(),
            in_flight: Some(after.clone()),
        };
        let plan = SubsetPlan {
            exhaustive_up_to: 3,
            singles: 4,
            random: 8,
            torn_prefixes: 4,
            torn_masks: 2,
        };
        let mut random = SplitMix64::new(self.seed);
        while let Some(event) = replay.advance() {
            if matches!(event, DiskEvent::Mark(_)) {
                allowed = Allowed {
                    durable: after.clone(),
                    in_flight: None,
                };
            }
            let point = replay.crash_point();
            for subset in plan.subsets(point.pending(), &mut random) {
                let context = format!(
                    "{context}, then again at event {} ({event:?})",
                    replay.position()
                );
                self.check(point.image(&subset), &allowed, false, &context);
            }
        }
    }
}

fn plan(amount: usize) -> SubsetPlan {
    SubsetPlan {
        exhaustive_up_to: 4,
        singles: amount,
        random: amount,
        torn_prefixes: amount,
        torn_masks: amount / 2,
    }
}

#[test]
fn every_image_of_a_power_cut_opens_to_the_acknowledged_state_or_the_one_in_flight() {
    let attack = Attack {
        seed: 1,
        cache: 1 << 20,
        page_size: 4096,
        steps: 250,
        plan: plan(3),
    };
    let images = attack.run();
    assert!(images > 5_000, "only {images} images");
}

#[test]
fn pages_written_before_their_flush_survive_no_crash_by_themselves() {
    // A cache of 32 pages: transactions are written in parts and committed pages wait on disk.
    Attack {
        seed: 2,
        cache: 32 * 4096,
        page_size: 4096,
        steps: 120,
        plan: plan(2),
    }
    .run();
}

#[test]
fn a_commit_that_lacks_any_one_of_its_writes_is_not_there() {
    // With the smaller cache most pages are written before the flush that vouches for them.
    for cache in [4 << 20, 64 * 4096] {
        let mut load = Load::new(4, cache, 4096);
        for _ in 0..6 {
            load.overwrite();
        }
        let attack = Attack {
            seed: 4,
            cache: 4 << 20,
            page_size: 4096,
            steps: 0,
            plan: plan(0),
        };
        let journal = load.disk.journal().unwrap();
        let mut replay = journal.replay();
        let mut allowed = &load.allowed[0];
        let mut images = 0;
        while let Some(event) = replay.advance() {
            if let DiskEvent::Mark(mark) = event {
                allowed = &load.allowed[*mark as usize];
            }
            if journal.events().get(replay.position()) != Some(&DiskEvent::Sync) {
                continue;
            }
            let point = replay.crash_point();
            let writes: BTreeSet<u64> = point.pending().iter().map(|item| item.event).collect();
            for lacking in writes {
                let image = point.image_of(&mut |item| item.event != lacking);
                let context = format!("cache {cache}, without event {lacking}");
                attack.check(image, allowed, false, &context);
                images += 1;
            }
        }
        assert!(images > 20, "only {images} images");
    }
}

#[test]
fn large_pages_tear_like_small_ones() {
    Attack {
        seed: 3,
        cache: 1 << 20,
        page_size: 16384,
        steps: 60,
        plan: plan(3),
    }
    .run();
}

#[test]
fn a_power_cut_during_creation_leaves_nothing_or_a_database() {
    let disk = Arc::new(SimulatedDisk::recording(&MemoryStorage::new()));
    Database::builder().create_on(disk.clone()).unwrap().kill();
    let journal = disk.journal().unwrap();
    let mut replay = journal.replay();
    let mut random = SplitMix64::new(5);
    let mut databases = 0;
    while let Some(event) = replay.advance() {
        let point = replay.crash_point();
        for subset in plan(40).subsets(point.pending(), &mut random) {
            let image = point.image(&subset);
            let blank = image.len().unwrap() < 4096 || {
                let mut header = [0; 128];
                image.read_at(0, &mut header).unwrap();
                header == [0; 128]
            };
            match open(image, 1 << 20) {
                Ok(db) => {
                    assert!(
                        Contents::read(&db.begin_read().unwrap()).unwrap() == Contents::default()
                    );
                    databases += 1;
                }
                Err(error) => assert!(blank, "{event:?}: {error}"),
            }
        }
    }
    assert!(databases > 0);
}

/// A commit of one row of `T`.
fn set<T: Table<Key = u64, Value = &'static [u8]>>(
    db: &Database,
    key: u64,
    length: usize,
    durability: Durability,
) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    let value = vec![key as u8; length];
    txn.table::<T>()
        .unwrap()
        .insert(key, value.as_slice())
        .unwrap();
    txn.commit().unwrap();
}

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

#[test]
fn a_close_that_could_not_sync_is_not_taken_for_one_in_order() {
    let disk = Arc::new(SimulatedDisk::from_image(&created(4096)));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    set::<Rows>(&db, 1, 10, Durability::Immediate);
    set::<Log>(&db, 2, 10_000, Durability::Eventual);
    disk.fail_next_sync();
    db.close().unwrap_err();
    let db = Database::builder().open_on(disk.clone()).unwrap();
    set::<Rows>(&db, 3, 10, Durability::Immediate);
    db.kill();
    let db = open(disk.crash(&mut |_| false), 1 << 20).unwrap();
    let rows = db.begin_read().unwrap().table::<Rows>().unwrap().len();
    assert_eq!(rows.unwrap(), 2);
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_growth_that_did_not_land_takes_back_the_commit_in_flight_and_no_more() {
    let disk = Arc::new(SimulatedDisk::recording(&created(4096)));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    set::<Log>(&db, 1, 10, Durability::Immediate);
    // The file grows for rows that are not flushed.
    set::<Rows>(&db, 1, 400_000, Durability::Eventual);
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(Durability::Eventual);
    txn.table::<Rows>().unwrap().remove(1).unwrap();
    txn.commit().unwrap();
    set::<Log>(&db, 2, 10, Durability::Immediate);
    db.kill();
    let journal = disk.journal().unwrap();
    let mut replay = journal.replay();
    let mut grown = 0;
    while replay.advance().is_some() {
        let point = replay.crash_point();
        grown += u32::from(
            point
                .pending()
                .iter()
                .any(|item| matches!(item.change, Change::Grow { .. })),
        );
        let image = point.image_of(&mut |item| !matches!(item.change, Change::Grow { .. }));
        open(image, 1 << 20).unwrap_or_else(|error| panic!("at {}: {error}", replay.position()));
    }
    assert!(grown > 0);
}

#[test]
fn a_commit_torn_by_one_cut_does_not_come_back_with_the_next() {
    let disk = Arc::new(SimulatedDisk::recording(&created(4096)));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    let rows = |db: &Database| {
        let view = db.begin_read().unwrap();
        view.table::<Rows>().unwrap().len().unwrap()
    };
    // A slot with a long manifest, another, and over the first one a slot with a short manifest: many of its sectors are
    // the same in every slot with a short one.
    set::<Rows>(&db, 1, 600_000, Durability::Immediate);
    set::<Log>(&db, 1, 10, Durability::Immediate);
    set::<Rows>(&db, 2, 10, Durability::Immediate);
    db.kill();
    let journal = disk.journal().unwrap();
    let last_sync = journal
        .events()
        .iter()
        .rposition(|event| *event == DiskEvent::Sync)
        .unwrap();
    let point = journal.crash_point_at(last_sync);
    let mut torn = 0;
    for lost in 0..point.pending().len() {
        let mut index = 0..;
        let image = point.image_of(&mut |_| index.next() != Some(lost));
        let disk = Arc::new(SimulatedDisk::recording(&image));
        let db = Database::builder().open_on(disk.clone()).unwrap();
        let shown = rows(&db);
        torn += u32::from(shown == 1);
        set::<Log>(&db, 3, 10, Durability::Eventual);
        db.close().unwrap();
        let journal = disk.journal().unwrap();
        let mut replay = journal.replay();
        while let Some(event) = replay.advance() {
            let point = replay.crash_point();
            for landed in 0..point.pending().len() {
                let mut index = 0..;
                let image = point.image_of(&mut |_| index.next() == Some(landed));
                let again = rows(&open(image, 1 << 20).unwrap());
                assert_eq!(again, shown, "{lost} lost, {landed} landed at {event:?}");
            }
        }
    }
    assert!(torn > 0);
}

#[test]
fn a_ticket_writes_nothing_after_the_end_of_its_database() {
    let disk = Arc::new(SimulatedDisk::from_image(&created(4096)));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    set::<Rows>(&db, 1, 10, Durability::Immediate);
    let txn = db.begin_write().unwrap();
    txn.table::<Rows>()
        .unwrap()
        .insert(2, [1].as_slice())
        .unwrap();
    let ticket = txn.commit_with_ticket().unwrap();
    db.kill();
    let calls = disk.calls();
    assert!(matches!(ticket.wait().unwrap_err(), Error::Closed { .. }));
    assert_eq!(disk.calls(), calls);
}

#[test]
fn a_transaction_that_a_dead_process_left_open_does_not_even_grow_the_file() {
    let disk = Arc::new(SimulatedDisk::from_image(&created(4096)));
    let db = Database::builder().open_on(disk.clone()).unwrap();
    let open = |key: u64, length: usize| {
        let txn = db.begin_write().unwrap();
        let value = vec![7; length];
        txn.table::<Rows>()
            .unwrap()
            .insert(key, value.as_slice())
            .unwrap();
        txn
    };
    open(1, 10).commit().unwrap();
    let txn = open(2, 200_000);
    db.clone().kill();
    let calls = disk.calls();
    let grown = txn
        .table::<Rows>()
        .and_then(|mut table| table.insert(3, vec![7; 200_000].as_slice()).map(drop));
    assert!(matches!(grown, Err(Error::Closed { .. })));
    txn.commit().unwrap_err();
    assert_eq!(disk.calls(), calls);
}

#[test]
fn a_creation_that_could_not_sync_its_header_is_not_taken_for_a_database() {
    let disk = Arc::new(SimulatedDisk::new());
    let storage = Arc::new(FaultStorage::over_disk(disk.clone()));
    storage.follow(FaultPlan {
        calls: &[StorageCall::Sync],
        at: 2,
        fault: Fault::InputOutput,
        lasting: false,
    });
    Database::builder().create_on(storage).unwrap_err();
    // The system still shows the header, and the disk does not have it.
    let error = Database::builder().open_on(disk).unwrap_err();
    assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
}
