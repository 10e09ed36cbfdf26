//! What a node takes from the system besides its disk, its network and the monotonic clock: tasks,
//! threads for blocking work, the time of day and random numbers.
//!
//! They come from tokio and from the system. A simulation of many nodes on one thread puts an
//! [`Environment`] of its own in their place, so that a run follows from its seed. For that, no part
//! of this crate reaches for them in another way than through here.
#![allow(
    clippy::disallowed_methods,
    reason = "the one place where they are called"
)]

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openraft::AsyncRuntime;
use openraft::impls::TokioRuntime;
use parking_lot::Mutex;
use rand_core::RngCore;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::transport::BoxFuture;

/// The surroundings of the nodes on one thread, whose tokio runtime runs everything on that thread.
pub trait Environment: Send + Sync + 'static {
    /// The time of day, by which a leader stamps entries.
    fn now(&self) -> SystemTime;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// What the next task is to pass whenever it is polled.
    fn gate(&self) -> Arc<dyn Gate>;

    /// Is ready when a piece of blocking work may begin. It then runs to its end, on this thread.
    fn turn(&self) -> BoxFuture<'static, ()>;
}

/// Stands before a task of a node.
pub trait Gate: Send + Sync {
    /// Calls `poll` once, or keeps the waker of `context` and wakes it when it may be called.
    fn pass(&self, context: &mut Context<'_>, poll: &mut dyn FnMut(&mut Context<'_>));
}

thread_local! {
    static ENVIRONMENT: RefCell<Option<Arc<dyn Environment>>> = const { RefCell::new(None) };
}

/// Puts `environment` in the place of the system for everything this thread does, until the guard
/// is dropped.
#[must_use]
pub fn enter(environment: Arc<dyn Environment>) -> Entered {
    Entered {
        before: ENVIRONMENT.replace(Some(environment)),
    }
}

/// Puts back what [`enter`] replaced.
pub struct Entered {
    before: Option<Arc<dyn Environment>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        ENVIRONMENT.set(self.before.take());
    }
}

fn environment() -> Option<Arc<dyn Environment>> {
    ENVIRONMENT.with_borrow(Clone::clone)
}

/// `task`, polled only as `gate` lets it.
pub fn behind<F: Future>(gate: Arc<dyn Gate>, task: F) -> impl Future<Output = F::Output> {
    let mut task = Box::pin(task);
    std::future::poll_fn(move |context| {
        let mut outcome = Poll::Pending;
        gate.pass(context, &mut |context| {
            outcome = task.as_mut().poll(context);
        });
        outcome
    })
}

/// Starts a task.
pub(crate) fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match environment() {
        None => tokio::spawn(task),
        Some(environment) => tokio::spawn(behind(environment.gate(), task)),
    }
}

/// Starts tasks from a thread that is not the runtime's.
pub(crate) struct Tasks {
    runtime: Handle,
    environment: Option<Arc<dyn Environment>>,
}

impl Tasks {
    /// Those of the runtime that this is called on.
    pub fn here() -> Self {
        Self {
            runtime: Handle::current(),
            environment: environment(),
        }
    }

    /// Starts a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.environment {
            None => self.runtime.spawn(task),
            Some(environment) => self.runtime.spawn(behind(environment.gate(), task)),
        };
    }
}

/// Runs `work`, which may block, beside the tasks. It is done even when nobody waits for it.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    match environment() {
        None => tokio::task::spawn_blocking(work),
        Some(environment) => {
            let turn = environment.turn();
            spawn(async move {
                turn.await;
                work()
            })
        }
    }
}

/// A piece of work for a [`Worker`].
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A thread of its own that runs jobs one after the other. Dropping it ends the thread after the
/// jobs that were sent before, and does not wait for that.
pub(crate) struct Worker {
    jobs: Mutex<Option<mpsc::UnboundedSender<Job>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Worker {
    /// Starts the thread.
    pub fn start(name: String) -> std::io::Result<Self> {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let thread = match environment() {
            None => {
                let run = move || {
                    while let Some(job) = queue.blocking_recv() {
                        job();
                    }
                };
                Some(std::thread::Builder::new().name(name).spawn(run)?)
            }
            Some(environment) => {
                spawn(async move {
                    while let Some(job) = queue.recv().await {
                        environment.turn().await;
                        job();
                    }
                });
                None
            }
        };
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(thread),
        })
    }

    /// Has `job` run after those sent before; false if the worker has ended.
    pub fn send(&self, job: Job) -> bool {
        self.jobs
            .lock()
            .as_ref()
            .is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// Ends the thread after the jobs that were sent before, and waits for it. Blocks.
    pub fn stop(&self) {
        self.jobs.lock().take();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("a storage thread panicked");
        }
    }
}

/// The proposer's clock in microseconds since the Unix epoch. Entries carry it, so that applying
/// them needs none.
pub(crate) fn now() -> u64 {
    let now = environment().map_or_else(SystemTime::now, |environment| environment.now());
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// 64 random bits; not for secrets.
pub(crate) fn random() -> u64 {
    match environment() {
        None => TokioRuntime::thread_rng().next_u64(),
        Some(environment) => environment.random(),
    }
}

/// Random numbers as openraft takes them.
pub struct Random;

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        random()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        rand_core::impls::fill_bytes_via_next(self, bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// openraft's runtime: tokio, with the tasks and the random numbers of this module.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Runtime;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + Send> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Random;
    type OneshotSender<T: Send> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: Send> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;

    fn spawn<T>(task: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        spawn(task)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Random {
        Random
    }

    fn oneshot<T: Send>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}
