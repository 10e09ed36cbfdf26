//! The threads that do the store's writing.
//!
//! Every write of the Raft store runs on a dedicated thread, as a job, so that no
//! `fdatasync` and no page I/O happens on a worker of the async runtime. One thread loses nothing with
//! openraft's `Adaptor`, which lets one call through at a time; with the feature `storage-v2` the state
//! has a thread of its own. And it is not taken from the runtime's
//! pool of blocking threads, so an application that fills that pool cannot hold up Raft. Reads
//! (one stream per follower, and those of clients) are independent of each other and do go to the
//! blocking pool.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::failure::{Failure, Result};
use crate::runtime::Worker;

/// The threads of one store. Dropping it ends them.
pub(crate) struct Threads {
    writer: Worker,
    #[cfg(feature = "storage-v2")]
    applier: Worker,
    checkpointer: Worker,
    checkpoint: Arc<dyn Fn() + Send + Sync>,
    /// Whether a checkpoint is asked for and not begun.
    poked: Arc<AtomicBool>,
}

impl Threads {
    /// Starts the threads; `checkpoint` runs once for each [`poke`](Self::poke), or once for
    /// several that came before it began.
    pub fn start(
        name: &str,
        checkpoint: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Ok(Self {
            writer: Worker::start(format!("{name}-storage"))?,
            #[cfg(feature = "storage-v2")]
            applier: Worker::start(format!("{name}-apply"))?,
            checkpointer: Worker::start(format!("{name}-checkpoint"))?,
            checkpoint: Arc::new(checkpoint),
            poked: Arc::default(),
        })
    }

    /// Has `job` run on the writer thread, after the jobs before it, from this call on.
    pub fn run<T, J>(&self, job: J) -> impl Future<Output = Result<T>> + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce() -> Result<T> + Send + 'static,
    {
        run_on(&self.writer, job)
    }

    /// Has `job` run on the writer thread after the jobs before it, and does not wait.
    pub fn post(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        match self.writer.send(Box::new(job)) {
            true => Ok(()),
            false => Err(Failure::Stopped),
        }
    }

    /// The same for `job`, which changes the state.
    pub fn run_on_state<T, J>(&self, job: J) -> impl Future<Output = Result<T>> + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce() -> Result<T> + Send + 'static,
    {
        #[cfg(feature = "storage-v2")]
        let worker = &self.applier;
        #[cfg(not(feature = "storage-v2"))]
        let worker = &self.writer;
        run_on(worker, job)
    }

    /// Asks for a checkpoint.
    pub fn poke(&self) {
        if self.poked.swap(true, Ordering::AcqRel) {
            // One is asked for already, and it will cover this one.
            return;
        }
        let (poked, checkpoint) = (self.poked.clone(), self.checkpoint.clone());
        let sent = self.checkpointer.send(Box::new(move || {
            poked.store(false, Ordering::Release);
            checkpoint();
        }));
        if !sent {
            tracing::warn!("the checkpoint thread has ended");
        }
    }

    /// Ends the threads after the jobs that were sent before, and waits for them. Blocks.
    pub fn stop(&self) {
        self.writer.stop();
        #[cfg(feature = "storage-v2")]
        self.applier.stop();
        self.checkpointer.stop();
    }
}

fn run_on<T, J>(worker: &Worker, job: J) -> impl Future<Output = Result<T>> + use<T, J>
where
    T: Send + 'static,
    J: FnOnce() -> Result<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let sent = worker.send(Box::new(move || {
        // Nobody listens when the caller was cancelled; the job is done all the same.
        let _ = reply.send(job());
    }));
    async move {
        match sent {
            true => answer.await.map_err(|_| Failure::Stopped)?,
            false => Err(Failure::Stopped),
        }
    }
}

/// Threads shared by the clones of a store.
pub(crate) type SharedThreads = Arc<Threads>;
