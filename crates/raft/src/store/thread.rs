//! The threads that do the store's writing.
//!
//! Every write of the Raft store runs on one dedicated thread, as a job from a channel, so that no
//! `fdatasync` and no page I/O happens on a worker of the async runtime. One thread loses nothing:
//! openraft's `Adaptor` lets one call through at a time. And it is not taken from the runtime's
//! pool of blocking threads, so an application that fills that pool cannot hold up Raft. Reads
//! (one stream per follower, and those of clients) are independent of each other and do go to the
//! blocking pool.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::failure::{Failure, Result};

type Job = Box<dyn FnOnce() + Send>;

enum Message {
    Run(Job),
    Stop,
}

/// The writer thread and the checkpoint thread of one store. Dropping it ends both.
pub(crate) struct Threads {
    jobs: Sender<Message>,
    pokes: Mutex<Option<SyncSender<()>>>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    /// Starts the threads; `checkpoint` runs once for each [`poke`](Self::poke), or once for
    /// several that came while it ran.
    pub fn start(name: &str, checkpoint: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let (pokes, poked) = sync_channel(1);
        let writer = std::thread::Builder::new()
            .name(format!("{name}-storage"))
            .spawn(move || run_jobs(queue))?;
        let checkpointer = std::thread::Builder::new()
            .name(format!("{name}-checkpoint"))
            .spawn(move || {
                while let Ok(()) = poked.recv() {
                    checkpoint();
                }
            })?;
        Ok(Self {
            jobs,
            pokes: Mutex::new(Some(pokes)),
            handles: Mutex::new(vec![writer, checkpointer]),
        })
    }

    /// Runs `job` on the writer thread, after the jobs before it.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Nobody listens when the caller was cancelled; the job is done all the same.
            let _ = reply.send(job());
        });
        self.jobs
            .send(Message::Run(job))
            .map_err(|_| Failure::Stopped)?;
        answer.await.map_err(|_| Failure::Stopped)?
    }

    /// Asks for a checkpoint.
    pub fn poke(&self) {
        if let Some(pokes) = self.pokes.lock().as_ref() {
            // Full: one is asked for already, and it will cover this one.
            if let Err(TrySendError::Disconnected(())) = pokes.try_send(()) {
                tracing::warn!("the checkpoint thread has ended");
            }
        }
    }

    /// Ends both threads after the jobs that were sent before, and waits for them. Blocks.
    pub fn stop(&self) {
        // A failure means that the thread has ended.
        let _ = self.jobs.send(Message::Stop);
        self.pokes.lock().take();
        let handles = std::mem::take(&mut *self.handles.lock());
        for handle in handles {
            if handle.join().is_err() {
                tracing::error!("a storage thread panicked");
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // No join: the last owner may be a task on the runtime, or a job on the thread itself.
        let _ = self.jobs.send(Message::Stop);
    }
}

fn run_jobs(queue: Receiver<Message>) {
    while let Ok(Message::Run(job)) = queue.recv() {
        job();
    }
}

/// Threads shared by the clones of a store.
pub(crate) type SharedThreads = Arc<Threads>;
