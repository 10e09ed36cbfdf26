//! The process that is killed, and the script that is run where calls fail.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use folio_store::{
    Builder, Database, Durability, Error, GroupSet, ReadTransaction, Result, Ticket,
};

use super::{
    load::{
        CHURN, LANES, LOG, Load, Model, PAIR, Progress, STATE, TICKETS, groups_of, read_progress,
    },
    report::{Failure, Report},
};

/// A writer that ended with an error of the engine, which it has reported.
pub const FAILED: i32 = 10;

/// Where reports go.
pub type Reporter<'r> = &'r (dyn Fn(Report) + Sync);

/// One lane of a running database.
struct Lane<'w> {
    load: Load,
    database: &'w Database,
    report: Reporter<'w>,
    lane: usize,
    step: u64,
    /// The newest ticket, and its step.
    ticket: Option<(Ticket, u64)>,
}

impl Lane<'_> {
    /// Publishes the next step, and waits for it or not, as the lane does.
    fn step(&mut self) -> Result<()> {
        let step = self.step + 1;
        let mut random = self.load.random(self.lane, step ^ 1 << 50);
        if random.one_in(12) {
            let transaction = self.database.begin_write()?;
            self.load.write_in_vain(&transaction, self.lane, step)?;
            if random.one_in(2) {
                transaction.abort();
            }
        }
        let mut transaction = self.database.begin_write()?;
        self.load.write(&transaction, self.lane, step)?;
        let way = match self.lane {
            LOG | PAIR => 0,
            TICKETS => 1,
            STATE => 2,
            _ => random.below(3),
        };
        (self.report)(Report::Attempt(self.lane, step));
        self.step = step;
        match way {
            0 => {
                transaction.commit()?;
                self.acknowledge();
            }
            1 => {
                self.ticket = Some((transaction.commit_with_ticket()?, step));
                if random.one_in(4) {
                    self.settle()?;
                }
            }
            _ => {
                transaction.set_durability(Durability::Eventual);
                transaction.commit()?;
                if random.one_in(20) {
                    self.database.checkpoint(groups_of(self.lane))?;
                    self.acknowledge();
                }
            }
        }
        Ok(())
    }

    /// Waits for the newest ticket, which stands for all that came before it.
    fn settle(&mut self) -> Result<()> {
        if let Some((ticket, step)) = self.ticket.take() {
            ticket.wait()?;
            if !ticket.is_durable() {
                (self.report)(Report::Wrong(
                    "a ticket that was waited for is not durable".into(),
                ));
            }
            (self.report)(Report::Acknowledged(self.lane, step));
        }
        Ok(())
    }

    fn acknowledge(&self) {
        (self.report)(Report::Acknowledged(self.lane, self.step));
    }
}

/// Writes until it is killed: opens the file, lets every lane run in a thread of its own beside a reader, closes the
/// file in one way or another, and opens it again.
///
/// # Errors
///
/// Those of the engine. None is expected.
pub fn run(load: Load, builder: &Builder, file: &Path) -> Result<()> {
    let report: Reporter<'_> = &|report: Report| report.send();
    loop {
        let database = builder.open_or_create(file)?;
        report(Report::Opened);
        let progress = read_progress(&database.begin_read()?)?;
        let mut random = load.random(LANES, progress.iter().sum());
        let most = if random.one_in(3) { 300 } else { 20 };
        let steps = 1 + random.below(most);
        let stop = AtomicBool::new(false);
        let reached = thread::scope(|scope| {
            let lanes: Vec<_> = (0..LANES)
                .map(|lane| {
                    let (database, stop) = (&database, &stop);
                    scope.spawn(move || {
                        let mut lane = lane_at(load, database, report, lane, progress[lane]);
                        for _ in 0..steps {
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                            lane.step()?;
                        }
                        stop.store(true, Ordering::Relaxed);
                        lane.settle()?;
                        Ok(lane.step)
                    })
                })
                .collect();
            let reader = random
                .one_in(2)
                .then(|| scope.spawn(|| read_until(load, &database, report, &stop)));
            let reached: Result<Vec<u64>> = lanes.into_iter().map(joined).collect();
            stop.store(true, Ordering::Relaxed);
            reader.map_or(Ok(()), joined)?;
            reached
        })?;
        if random.one_in(2) {
            database.close()?;
            for (lane, &step) in reached.iter().enumerate() {
                report(Report::Acknowledged(lane, step));
            }
            report(Report::Closed);
        } else {
            drop(database);
        }
    }
}

fn joined<R>(thread: thread::ScopedJoinHandle<'_, Result<R>>) -> Result<R> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn lane_at<'w>(
    load: Load,
    database: &'w Database,
    report: Reporter<'w>,
    lane: usize,
    step: u64,
) -> Lane<'w> {
    Lane {
        load,
        database,
        report,
        lane,
        step,
        ticket: None,
    }
}

/// Holds views open beside the writers and compares all that they show, twice.
fn read_until(
    load: Load,
    database: &Database,
    report: Reporter<'_>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut model = Model::new(load);
    let mut kept: Option<(ReadTransaction, Model)> = None;
    while !stop.load(Ordering::Relaxed) {
        let view = database.begin_read()?;
        model.advance(read_progress(&view)?);
        // Once more when others have written, and the one before while this one is open.
        let older = kept.iter().map(|(view, model)| (view, model));
        for (view, model) in older.chain([(&view, &model), (&view, &model)]) {
            let compared =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| model.compare(view)));
            match compared {
                Ok(rows) => drop(rows?),
                Err(_) => report(Report::Wrong(
                    "a view does not show what was published".into(),
                )),
            }
        }
        kept = Some((view, model.clone()));
    }
    Ok(())
}

/// What a script does besides its steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Steps(u64),
    Close,
    Kill,
}

const SCRIPT: [Act; 7] = [
    Act::Steps(5),
    Act::Close,
    Act::Steps(4),
    Act::Kill,
    Act::Steps(4),
    Act::Close,
    Act::Steps(1),
];

/// What is left of a script that was stopped by an error.
pub struct Stopped {
    /// The first error.
    pub error: Error,
    /// The handle, if there was one.
    pub database: Option<Database>,
    /// What was published through it.
    pub published: Model,
}

/// Creates the database and runs steps of every lane in turn, on the calling thread and always the same: with the
/// file closed in order, killed and opened again in between. `rounds` times as many steps as the shortest.
///
/// # Errors
///
/// The first error of the engine, with the handle that it came from.
pub fn script(
    load: Load,
    rounds: u64,
    open: &dyn Fn() -> Result<Database>,
    report: Reporter<'_>,
) -> std::result::Result<(), Box<Stopped>> {
    let mut model = Model::new(load);
    let mut database = None;
    let outcome = script_on(load, rounds, open, report, &mut model, &mut database);
    outcome.map_err(|error| {
        Box::new(Stopped {
            error,
            database,
            published: model,
        })
    })
}

fn script_on(
    load: Load,
    rounds: u64,
    open: &dyn Fn() -> Result<Database>,
    report: Reporter<'_>,
    model: &mut Model,
    database: &mut Option<Database>,
) -> Result<()> {
    for act in SCRIPT {
        let handle = match database.as_ref() {
            Some(handle) => handle.clone(),
            None => {
                let handle = open()?;
                report(Report::Opened);
                let found = read_progress(&handle.begin_read()?)?;
                // A killed handle loses what was not durable.
                if found != model.progress() {
                    *model = Model::new(load);
                    model.advance(found);
                }
                database.insert(handle).clone()
            }
        };
        match act {
            Act::Steps(count) => steps(load, &handle, report, model, count * rounds)?,
            Act::Close => {
                *database = None;
                handle.close()?;
                let all = model.progress();
                (0..LANES).for_each(|lane| report(Report::Acknowledged(lane, all[lane])));
                report(Report::Closed);
            }
            Act::Kill => {
                *database = None;
                handle.kill();
            }
        }
    }
    let handle = database.take();
    handle.map_or(Ok(()), Database::close)
}

/// Steps of every lane in turn from where the model is, which goes on with what is published.
///
/// # Errors
///
/// Those of the engine.
pub fn steps(
    load: Load,
    database: &Database,
    report: Reporter<'_>,
    model: &mut Model,
    count: u64,
) -> Result<()> {
    let mut progress: Progress = model.progress();
    for _ in 0..count {
        for (lane, step) in progress.iter_mut().enumerate() {
            let mut running = lane_at(load, database, report, lane, *step);
            let before = database.published_transaction();
            let outcome = running.step().and_then(|()| match lane {
                TICKETS | CHURN => running.settle(),
                _ => Ok(()),
            });
            // Published is published, even if it could not be made durable.
            if running.step > *step && database.published_transaction() > before {
                *step += 1;
            }
            model.advance_lane(lane, *step);
            outcome?;
        }
    }
    Ok(())
}

/// The writer of `inject`: runs the script and reports everything. After an error it looks at what the handle still
/// does. True if all went well.
pub fn run_script(load: Load, rounds: u64, builder: &Builder, file: &Path) -> bool {
    let report: Reporter<'_> = &|report: Report| report.send();
    let Err(stopped) = script(load, rounds, &|| builder.open_or_create(file), report) else {
        return true;
    };
    let failed = |error: &Error| report(Report::Failed(Failure::of(error)));
    failed(&stopped.error);
    if let Some(database) = stopped.database {
        after_failure(&stopped.error, &database, &stopped.published, report);
    }
    false
}

fn after_failure(error: &Error, database: &Database, published: &Model, report: Reporter<'_>) {
    let view = match database.begin_read() {
        Ok(view) => view,
        Err(other) => {
            report(Report::Wrong(format!(
                "after a failure no view opens: {other}"
            )));
            return;
        }
    };
    let compared =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| published.compare(&view)));
    match compared {
        Ok(Ok(_)) => {}
        // If reading is what fails.
        Ok(Err(other)) => report(Report::Failed(Failure::of(&other))),
        Err(_) => report(Report::Wrong(
            "after a failure a view does not show what was published".into(),
        )),
    }
    let again = database
        .begin_write()
        .map(drop)
        .and_then(|()| database.checkpoint(GroupSet::ALL));
    if again.is_ok() && must_latch(error) {
        report(Report::Wrong(format!("writing went on after: {error}")));
    }
}

/// Whether a handle has to stop writing: after a sync, and after a write of anything but the zeros by which a file grows.
fn must_latch(error: &Error) -> bool {
    match error {
        Error::Io { operation, .. } => {
            let sync = operation.contains("sync") && !operation.contains("recovery");
            sync || operation.contains("write")
        }
        _ => false,
    }
}
