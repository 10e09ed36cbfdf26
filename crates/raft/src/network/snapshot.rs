//! Receiving a snapshot.
//!
//! openraft can do this itself, but then a damaged snapshot would be found during the installation,
//! where any error stops the node, and staging would hold up Raft's loop. So what arrives is checked
//! and staged here, part by part, and openraft is given only the swap.
//!
//! A transfer is a task of its own: however long a part takes to stage, or the whole to install, each
//! message is answered soon, with how far the transfer is. So the sender has a deadline for answers
//! and none for the transfer. When the connection is lost the task waits for a while, and the sender
//! may go on from the bytes that were taken.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::{Raft, Snapshot};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};

use super::RESUME_WINDOW;
use super::message::{SnapshotAnswer, SnapshotRequest, SnapshotStep};
use crate::metrics::Meters;
use crate::runtime;
use crate::snapshot::SnapshotData;
use crate::state_machine::StateMachine;
use crate::store::{Failure, SharedStore, Staged, Staging, state_record};
use crate::types::{SnapshotMeta, TypeConfig, Vote};

/// How long an answer may wait for progress; well within any sensible election timeout.
const ANSWER_PATIENCE: Duration = Duration::from_millis(50);
/// How long an answer may wait for Raft, which is silent during an installation.
const CONTACT_PATIENCE: Duration = Duration::from_millis(500);
/// How soon to look again whether the transfer before has ended.
const TURN_INTERVAL: Duration = Duration::from_millis(20);

/// How long counting committed entries as applied may take, which this node only has to note.
const APPLY_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct SnapshotReceiver<S: StateMachine> {
    raft: Raft<TypeConfig<S>>,
    store: SharedStore<S>,
    /// The last transfer. One that is replaced here while it receives comes to its end.
    transfer: Mutex<Option<Arc<Transfer>>>,
}

/// A transfer as the messages see it.
struct Transfer {
    id: String,
    intake: AsyncMutex<Intake>,
    status: watch::Receiver<Status>,
    /// Of the leader that sent the last message.
    vote: watch::Sender<Vote>,
    meters: Arc<Meters>,
}

struct Intake {
    received: u64,
    parts: mpsc::Sender<Part>,
}

struct Part {
    bytes: Vec<u8>,
    last: bool,
}

#[derive(Clone)]
enum Status {
    Receiving,
    Installed,
    Failed(String),
}

impl<S: StateMachine> SnapshotReceiver<S> {
    pub fn new(raft: Raft<TypeConfig<S>>, store: SharedStore<S>) -> Self {
        Self {
            raft,
            store,
            transfer: Mutex::new(None),
        }
    }

    pub async fn answer(&self, request: SnapshotRequest) -> SnapshotAnswer {
        let SnapshotRequest {
            vote,
            transfer: id,
            step,
        } = request;
        match contact(&self.raft, vote).await {
            Ok(None) => {}
            Ok(Some(higher)) => return SnapshotAnswer::Outvoted(higher),
            Err(reason) => return SnapshotAnswer::Failed(reason),
        }
        let transfer = match &step {
            SnapshotStep::Offer(meta) => self.begin(id, vote, meta),
            _ => match self.transfer.lock().clone() {
                Some(transfer) if transfer.id == id => transfer,
                _ => return SnapshotAnswer::Unknown,
            },
        };
        transfer.vote.send_replace(vote);
        match step {
            SnapshotStep::Offer(_) => self.ready(&transfer).await,
            SnapshotStep::Progress => transfer.progress(ANSWER_PATIENCE).await,
            SnapshotStep::Part {
                offset,
                last,
                bytes,
            } => transfer.take(offset, Part { bytes, last }).await,
        }
    }

    /// The answer to an offer.
    async fn ready(&self, transfer: &Transfer) -> SnapshotAnswer {
        let progress = transfer.progress(Duration::ZERO).await;
        let SnapshotAnswer::Taken(0) = progress else {
            return progress;
        };
        let store = self.store.clone();
        let reading = blocking(move || {
            // Without a state there is nothing that changes could be put on.
            if !store.holds_state() {
                return Ok(None);
            }
            store.with_database(|database| Ok(state_record(&database.begin_read()?)?.last_applied))
        });
        match reading.await {
            Ok(applied) => SnapshotAnswer::Ready(applied),
            Err(reason) => SnapshotAnswer::Failed(reason),
        }
    }

    /// The transfer of that id, begun if there is none that has not failed.
    fn begin(&self, id: String, vote: Vote, meta: &SnapshotMeta) -> Arc<Transfer> {
        let mut current = self.transfer.lock();
        if let Some(transfer) = current.as_ref()
            && transfer.id == id
            && !matches!(*transfer.status.borrow(), Status::Failed(_))
        {
            return transfer.clone();
        }
        let (parts, arriving) = mpsc::channel(1);
        let (told, status) = watch::channel(Status::Receiving);
        let (vote, votes) = watch::channel(vote);
        let receiving = Receiving {
            raft: self.raft.clone(),
            store: self.store.clone(),
            meta: meta.clone(),
            parts: arriving,
            vote: votes,
        };
        runtime::spawn(receiving.run(told));
        let transfer = Arc::new(Transfer {
            id,
            intake: AsyncMutex::new(Intake { received: 0, parts }),
            status,
            vote,
            meters: self.store.meters.clone(),
        });
        *current = Some(transfer.clone());
        transfer
    }
}

impl Transfer {
    /// Hands a part on, unless it was handed on before, is not the next one, or the one before
    /// takes long; the answer says where to go on.
    async fn take(&self, offset: u64, part: Part) -> SnapshotAnswer {
        {
            let mut intake = self.intake.lock().await;
            let reserving = intake.parts.clone().reserve_owned();
            if offset == intake.received
                && let Ok(Ok(room)) = tokio::time::timeout(ANSWER_PATIENCE, reserving).await
            {
                let bytes = part.bytes.len() as u64;
                intake.received += bytes;
                Meters::add(&self.meters.snapshot_bytes_received, bytes);
                room.send(part);
            }
        }
        self.progress(Duration::ZERO).await
    }

    /// How far the transfer is. If it is not at its end, that is waited for as long as `patience`.
    async fn progress(&self, patience: Duration) -> SnapshotAnswer {
        let mut status = self.status.clone();
        let ended = status.wait_for(|status| !matches!(status, Status::Receiving));
        if let Ok(Ok(status)) = tokio::time::timeout(patience, ended).await {
            return match &*status {
                Status::Installed => SnapshotAnswer::Installed,
                Status::Failed(reason) => SnapshotAnswer::Failed(reason.clone()),
                Status::Receiving => SnapshotAnswer::Unknown,
            };
        }
        SnapshotAnswer::Taken(self.intake.lock().await.received)
    }
}

/// A transfer as its task sees it.
struct Receiving<S: StateMachine> {
    raft: Raft<TypeConfig<S>>,
    store: SharedStore<S>,
    meta: SnapshotMeta,
    parts: mpsc::Receiver<Part>,
    vote: watch::Receiver<Vote>,
}

impl<S: StateMachine> Receiving<S> {
    #[tracing::instrument(name = "receive_snapshot", level = "debug", skip_all, fields(node = self.store.node, snapshot = %self.meta.snapshot_id))]
    async fn run(mut self, status: watch::Sender<Status>) {
        let outcome = self.receive().await;
        // An installation has moved the staged rows to their place. Others are of no use.
        let store = self.store.clone();
        let clearing = move || store.with_database(|database| store.clear_staged(database));
        if let Err(reason) = blocking(clearing).await {
            tracing::warn!(node = self.store.node, %reason, "staged rows are left");
        }
        let status_now = match outcome {
            Ok(()) => Status::Installed,
            Err(reason) => {
                tracing::warn!(node = self.store.node, %reason, "a snapshot was not installed");
                Status::Failed(reason)
            }
        };
        status.send_replace(status_now);
    }

    async fn receive(&mut self) -> Result<(), String> {
        if self.store.is_witness() {
            // What it keeps was in the offer; the bytes need not be sent.
            let (store, meta) = (self.store.clone(), self.meta.clone());
            let staged = blocking(move || {
                store.with_database(|database| store.stage_nothing(database, &meta))
            });
            return self.install(staged.await?).await;
        }
        let mut staging = self.turn().await?;
        loop {
            let part = match tokio::time::timeout(RESUME_WINDOW, self.parts.recv()).await {
                Ok(Some(part)) => part,
                Ok(None) => return Err("another transfer took its place".into()),
                Err(_) => return Err(format!("nothing came for {RESUME_WINDOW:?}")),
            };
            let store = self.store.clone();
            staging = blocking(move || {
                store.with_database(|database| store.stage(database, &mut staging, &part.bytes))?;
                Ok(staging)
            })
            .await?;
            if part.last {
                break;
            }
        }
        let (store, meta) = (self.store.clone(), self.meta.clone());
        let staged = blocking(move || {
            let staged = store.with_database(|database| store.finish_staging(database, staging))?;
            staged.check(&meta)?;
            Ok(staged)
        })
        .await?;
        self.install(staged).await
    }

    /// Waits for the right to the staged tables: the transfer before may be installing.
    async fn turn(&self) -> Result<Staging, String> {
        loop {
            let store = self.store.clone();
            let beginning = blocking(move || {
                match store.with_database(|database| store.begin_staging(database)) {
                    Err(Failure::StagingTaken) => Ok(None),
                    begun => begun.map(Some),
                }
            });
            if let Some(staging) = beginning.await? {
                return Ok(staging);
            }
            if self.parts.is_closed() {
                return Err("another transfer took its place".into());
            }
            tokio::time::sleep(TURN_INTERVAL).await;
        }
    }

    async fn install(&self, staged: Staged) -> Result<(), String> {
        let committed = self.raft.with_raft_state(|state| state.committed).await;
        if self.meta.last_log_id <= committed.map_err(|e| e.to_string())? {
            // The log was faster; Raft would not install it either.
            return match self.store.is_rebuilding() {
                true => self.rebuild(staged).await,
                false => Ok(()),
            };
        }
        let snapshot = Snapshot {
            meta: self.meta.clone(),
            snapshot: Box::new(SnapshotData::staged(staged)),
        };
        let vote = *self.vote.borrow();
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        let higher = installed.map_err(|e| e.to_string())?.vote;
        if higher > vote {
            return Err(format!("there is a newer leader: {higher}"));
        }
        Ok(())
    }
}

impl<S: StateMachine> Receiving<S> {
    /// Rebuilds the state of this node from a snapshot that Raft itself has no use for.
    async fn rebuild(&self, staged: Staged) -> Result<(), String> {
        let index = self.meta.last_log_id.map(|id| id.index);
        self.raft
            .wait(Some(APPLY_PATIENCE))
            .applied_index_at_least(index, "the entries of a snapshot")
            .await
            .map_err(|e| e.to_string())?;
        let (store, meta) = (self.store.clone(), self.meta.clone());
        blocking(move || store.with_database(|database| store.rebuild(database, &meta, &staged)))
            .await?;
        tracing::info!(node = self.store.node, ?index, "the state is rebuilt");
        Ok(())
    }
}

/// Counts a message as word from the leader. openraft sends no heartbeats to a peer that is being
/// sent a snapshot; without this the peer's election timer would fire, depose the leader and begin
/// the transfer again, for ever. Returns a higher vote, where there is one.
async fn contact<S: StateMachine>(
    raft: &Raft<TypeConfig<S>>,
    vote: Vote,
) -> Result<Option<Vote>, String> {
    let heartbeat = AppendEntriesRequest {
        vote,
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    match tokio::time::timeout(CONTACT_PATIENCE, raft.append_entries(heartbeat)).await {
        Ok(Ok(AppendEntriesResponse::HigherVote(higher))) => Ok(Some(higher)),
        // It will be taken note of when the installation is done.
        Ok(Ok(_)) | Err(_) => Ok(None),
        Ok(Err(error)) => Err(error.to_string()),
    }
}

async fn blocking<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, String> {
    match runtime::blocking(operation).await {
        Ok(outcome) => outcome.map_err(|failure| failure.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
