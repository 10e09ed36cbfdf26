//! A database on a simulated disk, driven by a script, beside a model of what it owes.
//!
//! The model knows the newest state and the durable one, which groups are tied, and how far each group is durable; it
//! expects exactly that. After an accident the database must show the durable state or the one that was in flight.

mod savepoints;

use std::{ops::ControlFlow, sync::Arc};

use folio_store::{
    CompactOptions, Database, Durability, Error, Problem, ReadTransaction, Result, Savepoint,
    Ticket, WriteTransaction,
    storage::{
        FaultPlan, FaultStorage, Journal, MemoryStorage, SimulatedDisk, SplitMix64, StorageCall,
    },
};

use crate::{
    apply::{Applied, apply},
    damage::FIXED_PAGES,
    figures::Figures,
    model::{Allowed, GROUPS, State, group_set, is_told, verify},
    script::{Change, End, Failure, Operation, Shape, Step},
};

/// The bits of all groups in use.
const ALL: u16 = (1 << GROUPS.len()) - 1;

/// Views kept at a time.
const MOST_VIEWS: usize = 4;

/// What happened to one disk until it lost power, and what it owed at each mark in its journal.
pub struct Life {
    /// Everything that happened.
    pub journal: Journal,
    /// By the number of the mark.
    pub allowed: Vec<Allowed>,
    /// The cache of the last incarnation, in bytes.
    pub cache: usize,
}

struct KnownTicket {
    ticket: Ticket,
    groups: u16,
}

/// See the module.
pub struct World {
    context: String,
    shape: Shape,
    recording: bool,
    position: usize,
    cache: usize,
    disk: Arc<SimulatedDisk>,
    storage: Arc<FaultStorage>,
    db: Option<Database>,
    newest: State,
    durable: State,
    in_flight: Option<State>,
    published: u64,
    /// For each group the transaction up to which it is durable.
    reached: [u64; GROUPS.len()],
    /// Sets of groups that transactions changed together since they were flushed.
    ties: Vec<u16>,
    tickets: Vec<KnownTicket>,
    views: Vec<(ReadTransaction, State)>,
    allowed: Vec<Allowed>,
    lives: Vec<Life>,
    /// How the power cut that is to come turns out: which sectors land, and the next cache.
    cut: Option<(u32, usize)>,
    failure: Option<Failure>,
    random: SplitMix64,
    /// What was met.
    pub figures: Figures,
}

/// An empty database of this page size, closed by the death of its process.
///
/// # Panics
///
/// If it cannot be made.
#[must_use]
pub fn created(page_size: usize) -> MemoryStorage {
    let disk = Arc::new(SimulatedDisk::new());
    let db = Database::builder()
        .page_size(page_size)
        .cache_size(0)
        .create_on(disk.clone());
    match db {
        Ok(db) => db.kill(),
        Err(error) => panic!("an empty disk is not good enough: {error}"),
    }
    disk.crash(&mut |_| true)
}

impl World {
    /// Opens the database in `image`, which holds `state`. What repeats the run is in `context`.
    ///
    /// # Panics
    ///
    /// If the database does not hold `state`; so does every method here, if something is not as it must be.
    #[must_use]
    pub fn new(
        image: &MemoryStorage,
        state: State,
        shape: Shape,
        cache: usize,
        recording: bool,
        context: String,
    ) -> Self {
        let (disk, storage) = Self::disk(image, recording);
        let mut world = Self {
            context,
            shape,
            recording,
            position: 0,
            cache,
            disk,
            storage,
            db: None,
            newest: state.clone(),
            durable: state,
            in_flight: None,
            published: 0,
            reached: [0; GROUPS.len()],
            ties: Vec::new(),
            tickets: Vec::new(),
            views: Vec::new(),
            allowed: Vec::new(),
            lives: Vec::new(),
            cut: None,
            failure: None,
            random: SplitMix64::new(0),
            figures: Figures::of("script"),
        };
        world.note();
        world.open();
        world
    }

    fn disk(image: &MemoryStorage, recording: bool) -> (Arc<SimulatedDisk>, Arc<FaultStorage>) {
        let disk = Arc::new(if recording {
            SimulatedDisk::recording(image)
        } else {
            SimulatedDisk::from_image(image)
        });
        let storage = Arc::new(FaultStorage::over_disk(disk.clone()));
        (disk, storage)
    }

    /// What the disk shows.
    #[must_use]
    pub fn image(&self) -> MemoryStorage {
        self.disk.crash(&mut |_| true)
    }

    /// Ends the process, in order or not; gives back what the disk shows and what it owes.
    #[must_use]
    pub fn stop(mut self, in_order: bool) -> (MemoryStorage, State) {
        if in_order && let Some(db) = self.db.take() {
            let newest = self.newest.clone();
            if let Err(error) = self.durably(newest, |_| db.close()) {
                self.fail(&format!("cannot be closed: {error}"));
            }
        }
        self.leave();
        (self.image(), self.durable)
    }

    /// The storage calls so far that a plan for a call that never comes would count.
    #[must_use]
    pub fn storage(&self) -> &FaultStorage {
        &self.storage
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        panic!("{}, step {}: {what}", self.context, self.position)
    }

    #[track_caller]
    fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.fail(what);
        }
    }

    fn db(&self) -> &Database {
        match &self.db {
            Some(db) => db,
            None => self.fail("no database is open"),
        }
    }

    /// Writes down what the disk owes from here on. A disk without power is told nothing: nobody was told.
    fn note(&mut self) {
        if self.recording && self.disk.mark(self.allowed.len() as u64).is_ok() {
            self.allowed.push(Allowed {
                durable: self.durable.clone(),
                in_flight: self.in_flight.clone(),
            });
        }
    }

    /// Does a step and whatever follows from the accidents in it.
    pub fn step(&mut self, step: &Step) {
        self.position += 1;
        let outcome = self.attempt(step);
        if !self.disk.has_power() {
            self.power_returns();
        } else if let Err(error) = outcome {
            self.after_failure(&error);
        } else if self.storage.failed() > 0 && self.failure.is_some() {
            let call = self.storage.first_failed();
            let harmless = matches!(call, Some(StorageCall::Grow | StorageCall::Read));
            self.check(harmless, "a call failed and nobody noticed");
            self.heal();
        }
    }

    /// Ends the script: an accident that is still to come comes now, then everything is closed, opened and checked.
    /// Gives back what happened to each disk.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Life>, Figures) {
        self.position += 1;
        self.heal();
        if self.cut.is_some() {
            self.disk.cut_power();
            self.power_returns();
        }
        let cache_pages = self.cache / self.shape.page_size;
        self.step(&Step::Verify);
        self.step(&Step::Close {
            cache_pages: cache_pages as u16,
        });
        self.leave();
        self.end_life();
        (self.lives, self.figures)
    }

    fn attempt(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Transaction { operations, end } => self.transaction(operations, *end)?,
            Step::Checkpoint { groups } => self.checkpoint(*groups)?,
            Step::Wait { ticket } => self.wait(usize::from(*ticket))?,
            Step::OpenView => {
                let view = self.db().begin_read()?;
                if self.views.len() == MOST_VIEWS {
                    self.views.remove(0);
                }
                self.views.push((view, self.newest.clone()));
            }
            Step::CloseView { view } => {
                if !self.views.is_empty() {
                    self.compare_view(usize::from(*view) % self.views.len())?;
                    self.views.remove(usize::from(*view) % self.views.len());
                }
            }
            Step::CreateSavepoint { name } => self.create_savepoint(&name.to_string())?,
            Step::RestoreSavepoint { savepoint } => {
                if let Some(index) = self.savepoint(*savepoint) {
                    self.restore_savepoint(index)?;
                }
            }
            Step::ReleaseSavepoint { savepoint } => {
                if let Some(index) = self.savepoint(*savepoint) {
                    self.release_savepoint(index)?;
                }
            }
            Step::ViewSavepoint { savepoint } => {
                if let Some(index) = self.savepoint(*savepoint) {
                    let name = &self.newest.savepoints[index].0;
                    let view = self.db().begin_read_at(name)?;
                    if self.views.len() == MOST_VIEWS {
                        self.views.remove(0);
                    }
                    self.views.push((view, self.newest.at_savepoint(index)));
                }
            }
            Step::Verify => {
                self.checkpoint(ALL)?;
                // So that the last manifest is short and nothing waits to become free.
                for seed in 0..2 {
                    let change = Change::Append { seed, length: 9 };
                    self.transaction(&[Operation { table: 0, change }], End::Durable)?;
                }
                self.checkpoint(ALL)?;
                let report = verify(self.db())?;
                self.account(report.pages);
                let mut problems = report.problems;
                if self.failure.is_some() && self.storage.first_failed() == Some(StorageCall::Read)
                {
                    let told = |problem: &Problem| problem.fault.contains("cannot be read");
                    self.check(problems.iter().all(told), &format!("{problems:?}"));
                    self.heal();
                    problems = verify(self.db())?.problems;
                }
                self.check(problems.is_empty(), &format!("{problems:?}"));
                self.compare_newest()?;
                self.compare_savepoints()?;
            }
            Step::Compact { pages } => {
                self.checkpoint(ALL)?;
                let options = CompactOptions::new().pages_a_step(u64::from(*pages) + 1);
                // It changes no row, and every step of it is durable: what is owed stays the same.
                let done = self.db().compact(options, |_, _| ControlFlow::Continue(()));
                self.published = self.db().published_transaction();
                self.reached = [self.published; GROUPS.len()];
                let done = done?;
                self.check(done.complete, "a compaction ended by itself");
                self.figures.add("compactions", 1);
                let cut = done.bytes_before.saturating_sub(done.bytes_after);
                self.figures
                    .add("pages cut off", cut / self.shape.page_size as u64);
                self.compare_newest()?;
            }
            Step::Close { cache_pages } => {
                let Some(db) = self.db.take() else {
                    self.fail("no database is open")
                };
                let newest = self.newest.clone();
                self.durably(newest, |_| db.close())?;
                self.leave();
                self.cache = usize::from(*cache_pages) * self.shape.page_size;
                self.open();
            }
            Step::Kill { cache_pages } => {
                self.figures.add("processes killed", 1);
                self.leave();
                self.cache = usize::from(*cache_pages) * self.shape.page_size;
                self.open();
            }
            Step::PowerCut {
                calls,
                seed,
                cache_pages,
            } => {
                if self.cut.is_none() {
                    self.cut = Some((*seed, usize::from(*cache_pages) * self.shape.page_size));
                    self.disk
                        .cut_power_at(self.disk.calls() + u64::from(*calls));
                }
            }
            Step::Fault(failure) => self.arm(*failure),
        }
        // Whatever was done, no view changes.
        if !self.views.is_empty() && self.disk.has_power() {
            self.compare_view(self.position % self.views.len())?;
        }
        Ok(())
    }

    /// Lets one of the next calls fail.
    pub fn arm(&mut self, failure: Failure) {
        if self.failure.is_none() {
            self.failure = Some(failure);
            self.random = SplitMix64::new(failure.at);
            self.storage.follow(FaultPlan {
                calls: failure.calls,
                at: failure.at,
                fault: failure.fault,
                lasting: failure.lasting,
            });
        }
    }

    fn heal(&mut self) {
        self.storage.heal();
        self.failure = None;
    }

    fn transaction(&mut self, operations: &[Operation], end: End) -> Result<()> {
        let mut txn = self.db().begin_write()?;
        let mut next = self.newest.clone();
        let mut changed = 0;
        let mut saved: Vec<(Savepoint, State, u16)> = Vec::new();
        for operation in operations {
            match operation.change {
                Change::Save => saved.push((txn.savepoint()?, next.clone(), changed)),
                Change::RollBack { savepoint } if !saved.is_empty() => {
                    let index = usize::from(savepoint) % saved.len();
                    saved.truncate(index + 1);
                    let (savepoint, state, groups) = &saved[index];
                    txn.rollback_to(savepoint)?;
                    (next, changed) = (state.clone(), *groups);
                }
                Change::Release { savepoint } if !saved.is_empty() => {
                    let index = usize::from(savepoint) % saved.len();
                    let released = saved.drain(index..).next();
                    released.map_or(Ok(()), |(savepoint, ..)| txn.release(savepoint))?;
                }
                Change::RollBack { .. } | Change::Release { .. } => {}
                _ => changed |= self.apply(&txn, operation, &mut next)?.changed_group,
            }
        }
        match end {
            End::Abort => txn.abort(),
            End::Drop => drop(txn),
            End::Die => self.die(txn, operations, &next)?,
            End::Ticket => {
                let number = txn.number();
                let ticket = txn.commit_with_ticket();
                self.publish(next, changed, number, ticket.is_ok());
                let ticket = ticket?;
                self.tickets.push(KnownTicket {
                    ticket,
                    groups: changed,
                });
                self.compare_newest()?;
            }
            End::Eventual => {
                txn.set_durability(Durability::Eventual);
                let number = txn.number();
                let done = txn.commit();
                self.publish(next, changed, number, done.is_ok());
                done?;
            }
            End::Durable => {
                let number = txn.number();
                // Published first, flushed then; both in one call, so what the model expects of both is made ready.
                let before = (self.newest.clone(), self.published, self.ties.clone());
                self.publish(next, changed, number, true);
                let reached = self.flushed(changed);
                let done = if changed == 0 {
                    txn.commit().map(drop)
                } else {
                    self.durably(reached, |_| txn.commit().map(drop))
                };
                if done.is_err() && self.db().published_transaction() != number {
                    (self.newest, self.published, self.ties) = before;
                }
                done?;
                if changed != 0 {
                    self.note_flush(changed);
                }
                self.compare_newest()?;
            }
        }
        Ok(())
    }

    fn apply(
        &self,
        txn: &WriteTransaction,
        operation: &Operation,
        state: &mut State,
    ) -> Result<Applied> {
        let applied = apply(txn, operation, state, self.shape.page_size)?;
        if let Some(difference) = &applied.difference {
            self.fail(&format!("{operation:?}: {difference}"));
        }
        Ok(applied)
    }

    /// Notes that a transaction was published, if it was. One that changed nothing is not.
    fn publish(&mut self, next: State, changed: u16, number: u64, done: bool) {
        if done && changed != 0 {
            self.newest = next;
            self.published = number;
            self.ties.push(changed);
        }
    }

    /// The process dies with a transaction open. Nothing that is left of it may reach the disk or be acknowledged.
    fn die(&mut self, txn: WriteTransaction, operations: &[Operation], next: &State) -> Result<()> {
        self.figures.add("processes killed", 1);
        let calls = self.disk.calls();
        if let Some(db) = self.db.take() {
            db.kill();
        }
        let mut after = next.clone();
        let table = operations.first().map_or(0, |operation| operation.table);
        let late = Operation {
            table,
            change: Change::Fill {
                rows: 60,
                seed: 1,
                length: 900,
            },
        };
        // It may fail or not: the dead are told nothing.
        if let Err(error) = self.apply(&txn, &late, &mut after) {
            self.check(is_told(&error), &error.to_string());
        }
        self.check(txn.commit().is_err(), "a dead process committed");
        self.leave();
        self.check(calls == self.disk.calls(), "a dead process wrote");
        self.open();
        Ok(())
    }

    fn checkpoint(&mut self, groups: u16) -> Result<()> {
        let engine_groups = group_set(groups);
        if self.is_durable(groups, self.published) {
            let calls = self.disk.calls();
            self.db().checkpoint(engine_groups)?;
            self.check(
                calls == self.disk.calls(),
                "a checkpoint of what is durable made a call",
            );
            return Ok(());
        }
        let after = self.flushed(groups);
        self.durably(after, |world| world.db().checkpoint(engine_groups))?;
        self.note_flush(groups);
        Ok(())
    }

    fn wait(&mut self, ticket: usize) -> Result<()> {
        if self.tickets.is_empty() {
            return Ok(());
        }
        let index = ticket % self.tickets.len();
        let KnownTicket { ticket, groups } = self.tickets.swap_remove(index);
        let durable = self.is_durable(groups, ticket.number());
        self.check(
            ticket.is_durable() == durable,
            "a ticket is wrong about its commit",
        );
        if durable {
            return ticket.wait();
        }
        let after = self.flushed(groups);
        self.durably(after, |_| ticket.wait())?;
        self.check(
            ticket.is_durable(),
            "a ticket does not know that it is durable",
        );
        self.note_flush(groups);
        Ok(())
    }

    fn is_durable(&self, groups: u16, transaction: u64) -> bool {
        let mut reached = self.reached.iter().enumerate();
        reached.all(|(place, &reached)| groups & (1 << place) == 0 || reached >= transaction)
    }

    /// The groups that are flushed with these.
    fn tied(&self, groups: u16) -> u16 {
        let mut all = groups;
        loop {
            let more = self
                .ties
                .iter()
                .filter(|&&tie| tie & all != 0)
                .fold(all, |all, tie| all | tie);
            if more == all {
                return all;
            }
            all = more;
        }
    }

    /// What a flush of these groups leaves durable.
    fn flushed(&self, groups: u16) -> State {
        let tied = self.tied(groups);
        let mut after = self.durable.clone();
        for place in (0..GROUPS.len()).filter(|place| tied & (1 << place) != 0) {
            after.groups[place] = self.newest.groups[place].clone();
        }
        after
    }

    fn note_flush(&mut self, groups: u16) {
        let tied = self.tied(groups);
        self.ties.retain(|tie| tie & tied == 0);
        for (place, reached) in self.reached.iter_mut().enumerate() {
            if tied & (1 << place) != 0 {
                *reached = self.published;
            }
        }
        for (place, &group) in GROUPS.iter().enumerate() {
            self.check(
                self.db().durable_transaction(group) == self.reached[place],
                "a group is not durable up to where it should be",
            );
        }
    }

    /// Runs something that makes `after` durable.
    fn durably(&mut self, after: State, act: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        self.in_flight = Some(after.clone());
        self.note();
        act(self)?;
        self.durable = after;
        self.in_flight = None;
        self.note();
        Ok(())
    }

    /// The account in memory: when nothing is pending and no view is open, what is not free is what the file refers to.
    fn account(&self, pages: u64) {
        let statistics = self.db().statistics();
        let in_use = statistics.length_pages - statistics.free_pages;
        let right = in_use == pages + FIXED_PAGES;
        self.check(
            right || !self.views.is_empty() || self.failure.is_some(),
            &format!("{in_use} pages are not free, and {pages} are referred to"),
        );
    }

    fn compare_newest(&self) -> Result<()> {
        let view = self.db().begin_read()?;
        if let Some(difference) = self.newest.difference(&view)? {
            self.fail(&format!("the newest view: {difference}"));
        }
        Ok(())
    }

    fn compare_view(&self, index: usize) -> Result<()> {
        let (view, state) = &self.views[index];
        if let Some(difference) = state.difference(view)? {
            self.fail(&format!("a view changed: {difference}"));
        }
        Ok(())
    }

    /// Ends everything that belongs to this incarnation, as the death of its process would; before it is opened again.
    fn leave(&mut self) {
        let calls = self.disk.calls();
        if let Some(db) = self.db.take() {
            db.kill();
        }
        for KnownTicket { ticket, groups } in std::mem::take(&mut self.tickets) {
            let durable = self.is_durable(groups, ticket.number());
            let told = ticket.wait().is_ok();
            // A close, or a flush that failed late, may have made more durable than the model knows.
            if told && !durable && self.in_flight.is_none() && self.durable != self.newest {
                self.fail("a ticket of a dead process was acknowledged");
            }
        }
        let readable = self.disk.has_power() && self.failure.is_none();
        for index in 0..self.views.len() {
            if readable && let Err(error) = self.compare_view(index) {
                self.fail(&format!("a view of a dead process: {error}"));
            }
        }
        self.views.clear();
        self.check(calls == self.disk.calls(), "a dead process wrote");
    }

    /// After the failure of a call: everything is told, nothing more is written, reads go on.
    fn after_failure(&mut self, error: &Error) {
        let Some(failure) = self.failure.filter(|_| self.storage.failed() > 0) else {
            self.fail(&format!("nothing failed, and still: {error}"))
        };
        self.check(
            is_told(error),
            &format!("does not say what failed: {error}"),
        );
        self.figures.add("failures told", 1);
        let call = self.storage.first_failed();
        let stops = matches!(call, Some(StorageCall::Write | StorageCall::Sync));
        if let Some(db) = self.db.clone() {
            if stops {
                let refused = db.begin_write().map(drop);
                let latched = matches!(&refused, Err(Error::Latched { .. }));
                self.check(latched, &format!("it goes on writing: {refused:?}"));
                let calls = self.disk.calls();
                let checkpoint = db.checkpoint(group_set(ALL));
                self.check(checkpoint.is_err(), "it acknowledges after a failure");
                self.check(calls == self.disk.calls(), "it writes after a failure");
            }
            if failure.calls.contains(&StorageCall::Read) {
                self.heal();
            }
            let read = self
                .compare_newest()
                .and_then(|()| (0..self.views.len()).try_for_each(|view| self.compare_view(view)));
            if let Err(error) = read {
                self.fail(&format!("reading does not go on after a failure: {error}"));
            }
            if !stops {
                self.heal();
                if self.in_flight.is_none() && db.begin_write().is_ok() {
                    // An error of its transaction and nothing else.
                    return;
                }
            }
        }
        self.leave();
        // The process ends. In one case of two the machine does, too.
        if self.random.one_in(2) {
            self.cut = Some((self.random.next_u64() as u32, self.cache));
            self.disk.cut_power();
            self.power_returns();
        } else {
            self.heal();
            self.open();
        }
    }

    fn end_life(&mut self) {
        if let Some(journal) = self.disk.journal() {
            self.lives.push(Life {
                journal,
                allowed: std::mem::take(&mut self.allowed),
                cache: self.cache,
            });
        }
    }

    /// A disk on which some of what was pending has landed takes the place of the one that lost power.
    fn power_returns(&mut self) {
        self.figures.add("power cuts", 1);
        self.leave();
        self.heal();
        let (seed, cache) = self.cut.take().unwrap_or((0, self.cache));
        let mut random = SplitMix64::new(seed.into());
        let image = match random.below(8) {
            0 => self.disk.crash(&mut |_| true),
            1 => self.disk.crash(&mut |_| false),
            2 => self.disk.crash(&mut |_| !random.one_in(16)),
            3 => self.disk.crash(&mut |_| random.one_in(16)),
            _ => self.disk.crash(&mut |_| random.one_in(2)),
        };
        self.end_life();
        self.cache = cache;
        (self.disk, self.storage) = Self::disk(&image, self.recording);
        self.note();
        self.open();
    }

    /// Opens the file; it must show what is durable or what was in flight, whole.
    fn open(&mut self) {
        let storage = self.storage.clone();
        let db = match Database::builder().cache_size(self.cache).open_on(storage) {
            Ok(db) => db,
            Err(_) if !self.disk.has_power() => return self.power_returns(),
            Err(error) if self.failure.is_some() && self.storage.failed() > 0 => {
                self.check(
                    is_told(&error),
                    &format!("does not say what failed: {error}"),
                );
                self.figures.add("failures told", 1);
                self.heal();
                return self.open();
            }
            Err(error) => self.fail(&format!("cannot be opened: {error}")),
        };
        self.ties.clear();
        let allowed = Allowed {
            durable: self.durable.clone(),
            in_flight: self.in_flight.clone(),
        };
        let context = || format!("{}, step {}, opened", self.context, self.position);
        let found = loop {
            match allowed.find(&db, &context) {
                Ok(found) => break found,
                Err(error) if self.failure.is_some() && self.storage.failed() > 0 => {
                    if !is_told(&error) {
                        self.fail(&format!("does not say what failed: {error}"));
                    }
                    self.storage.heal();
                    self.failure = None;
                }
                Err(error) => self.fail(&format!("opened and cannot be read: {error}")),
            }
        };
        self.durable = found.clone();
        self.newest = found;
        self.in_flight = None;
        self.published = db.published_transaction();
        self.reached = [self.published; GROUPS.len()];
        self.db = Some(db);
        self.note();
    }
}
