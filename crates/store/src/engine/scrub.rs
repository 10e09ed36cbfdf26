//! The background scrub: verification again and again, slowly, by a thread of its own.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{
    Engine,
    verify::{Clock, VerifyOptions, VerifyReport},
};
use crate::error::{Error, Result};

/// 4 MiB a second: a terabyte in three days.
const DEFAULT_RATE: u64 = 4 << 20;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

type OnPass = Arc<dyn Fn(std::result::Result<&VerifyReport, &Error>) + Send + Sync>;
type OnProgress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// How [`Database::start_scrub`](crate::Database::start_scrub) goes about it.
#[derive(Clone)]
pub struct ScrubOptions {
    rate: u64,
    interval: Option<Duration>,
    on_pass: Option<OnPass>,
    on_progress: Option<OnProgress>,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        Self {
            rate: DEFAULT_RATE,
            interval: Some(DEFAULT_INTERVAL),
            on_pass: None,
            on_progress: None,
        }
    }
}

impl ScrubOptions {
    /// 4 MiB a second, and a day between two passes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The most bytes to read in a second; 0 for as many as possible.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        self.rate = bytes_per_second;
        self
    }

    /// How long to rest between two passes.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// One pass, and no more.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.interval = None;
        self
    }

    /// What to call after each pass that came to its end, or to an error, on the thread of the scrub. Not for a pass that
    /// was stopped.
    #[must_use]
    pub fn on_pass(
        mut self,
        call: impl Fn(std::result::Result<&VerifyReport, &Error>) + Send + Sync + 'static,
    ) -> Self {
        self.on_pass = Some(Arc::new(call));
        self
    }

    /// What to call with the number of pages read in this pass, and of about how many, on the thread of the scrub.
    #[must_use]
    pub fn on_progress(mut self, call: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(call));
        self
    }
}

impl std::fmt::Debug for ScrubOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ScrubOptions")
            .field("rate", &self.rate)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// A scrub that is under way. It ends when this is dropped, or when the database closes.
pub struct Scrub {
    thread: Arc<ScrubThread>,
}

impl Scrub {
    /// Ends the scrub, and returns when its thread has ended. So does dropping it.
    pub fn stop(self) {}
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.thread.end();
    }
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Scrub").finish_non_exhaustive()
    }
}

/// The scrubs of a handle, and what they counted.
#[derive(Default)]
pub(crate) struct Scrubs {
    threads: Mutex<Vec<Arc<ScrubThread>>>,
    counters: Arc<ScrubCounters>,
}

#[derive(Default)]
pub(crate) struct ScrubCounters {
    passes: AtomicU64,
    problems: AtomicU64,
}

impl Scrubs {
    pub fn start(&self, engine: &Arc<Engine>, options: ScrubOptions) -> Result<Scrub> {
        engine.check_open()?;
        let thread = Arc::new(ScrubThread::default());
        let (own, engine, counters) = (thread.clone(), engine.clone(), self.counters.clone());
        let mut threads = self.threads.lock();
        let started = std::thread::Builder::new()
            .name("folio-scrub".into())
            .spawn(move || run(&engine, &own, &counters, &options));
        let handle = started.map_err(|error| Error::Io {
            file: "the scrub".into(),
            operation: "start a thread",
            source: Arc::new(error),
        })?;
        *thread.handle.lock() = Some(handle);
        threads.retain(|thread| !thread.stopping.load(Ordering::Acquire));
        threads.push(thread.clone());
        Ok(Scrub { thread })
    }

    /// Ends all scrubs. When it returns none of them holds the engine, and with it the file.
    pub fn end(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.iter().for_each(|thread| thread.end());
    }

    /// Passes that came to their end, and problems that they found.
    pub fn counted(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.counters.passes), load(&self.counters.problems))
    }
}

#[derive(Default)]
struct ScrubThread {
    stopping: AtomicBool,
    /// Held while the thread looks whether it is to stop, so that it does not fall asleep just after.
    asleep: Mutex<()>,
    wake: Condvar,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl ScrubThread {
    fn end(&self) {
        {
            let _asleep = self.asleep.lock();
            self.stopping.store(true, Ordering::Release);
            self.wake.notify_all();
        }
        // Held to the end, so that a second caller as well returns only when the thread is gone.
        let mut handle = self.handle.lock();
        let own = std::thread::current().id();
        // The callback may be the one who closes the database; it cannot wait for itself.
        if handle
            .as_ref()
            .is_none_or(|handle| handle.thread().id() == own)
        {
            return;
        }
        if handle.take().is_some_and(|handle| handle.join().is_err()) {
            tracing::error!("the scrub ended with a panic");
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits, at most until it is told to stop. Whether it may go on.
    fn rest(&self, time: Duration) -> bool {
        let mut asleep = self.asleep.lock();
        let Some(end) = Instant::now().checked_add(time) else {
            while !self.is_stopping() {
                self.wake.wait(&mut asleep);
            }
            return false;
        };
        while !self.is_stopping() {
            if self.wake.wait_until(&mut asleep, end).timed_out() {
                return !self.is_stopping();
            }
        }
        false
    }
}

struct ScrubClock<'t> {
    thread: &'t ScrubThread,
    start: Instant,
}

impl Clock for ScrubClock<'_> {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, time: Duration) -> bool {
        self.thread.rest(time)
    }
}

fn run(
    engine: &Arc<Engine>,
    thread: &ScrubThread,
    counters: &ScrubCounters,
    options: &ScrubOptions,
) {
    let clock = ScrubClock {
        thread,
        start: Instant::now(),
    };
    let file = &engine.pager.file;
    let verify = VerifyOptions::new().rate(options.rate).as_it_is();
    loop {
        let ask = |done, total| {
            if let Some(call) = &options.on_progress {
                call(done, total);
            }
            match thread.is_stopping() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let result = engine.verify(verify, &clock, ask);
        match &result {
            Ok(report) if report.interrupted => return,
            Ok(report) => {
                for problem in &report.problems {
                    tracing::error!(%file, %problem, "the scrub found damage");
                }
                counters
                    .problems
                    .fetch_add(report.problems.len() as u64, Ordering::Relaxed);
                counters.passes.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%file, pages = report.pages, problems = report.problems.len(), "scrubbed");
            }
            Err(Error::Closed { .. }) => return,
            Err(error) => tracing::error!(%file, %error, "the scrub could not go on"),
        }
        if let Some(call) = &options.on_pass {
            call(result.as_ref());
        }
        if !options
            .interval
            .is_some_and(|interval| thread.rest(interval))
        {
            return;
        }
    }
}
