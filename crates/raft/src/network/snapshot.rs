//! Receiving a snapshot.
//!
//! openraft can do this itself, but then a damaged snapshot would be found during the installation,
//! where any error stops the node, and staging would hold up Raft's loop. So chunks are spooled
//! here, the whole snapshot is checked and staged here, and openraft is given only the swap.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use openraft::error::SnapshotMismatch;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotResponse};
use openraft::{Raft, Snapshot, SnapshotSegmentId};
use tokio::sync::Mutex;

use super::message::Response;
use crate::runtime;
use crate::snapshot::SnapshotData;
use crate::state_machine::StateMachine;
use crate::store::{Failure, SharedStore, Staged};
use crate::types::{SnapshotMeta, TypeConfig, Vote};

type Chunk<S> = openraft::raft::InstallSnapshotRequest<TypeConfig<S>>;

/// How often a leader's silence is excused while its snapshot is staged; well within any sensible
/// election timeout.
const CONTACT_INTERVAL: Duration = Duration::from_millis(50);

pub(super) struct SnapshotReceiver<S: StateMachine> {
    raft: Raft<TypeConfig<S>>,
    store: SharedStore<S>,
    /// The one transfer that is going on. Held while a chunk is dealt with.
    transfer: Mutex<Option<Transfer>>,
}

struct Transfer {
    id: String,
    received: u64,
    file: File,
}

impl<S: StateMachine> SnapshotReceiver<S> {
    pub fn new(raft: Raft<TypeConfig<S>>, store: SharedStore<S>) -> Self {
        Self {
            raft,
            store,
            transfer: Mutex::new(None),
        }
    }

    pub async fn receive(&self, chunk: Chunk<S>) -> Response {
        match self.contact(chunk.vote).await {
            Ok(None) => {}
            Ok(Some(vote)) => return Response::Snapshot(InstallSnapshotResponse { vote }),
            Err(reason) => return Response::Refused(reason),
        }
        let mut transfer = self.transfer.lock().await;
        match self.accept(&mut transfer, chunk).await {
            Ok(response) => response,
            Err(failure) => {
                tracing::warn!(node = self.store.node, %failure, "a snapshot was refused");
                *transfer = None;
                Response::Refused(failure)
            }
        }
    }

    /// Counts a chunk as word from the leader. openraft sends no heartbeats to a peer that is
    /// being sent a snapshot; without this the peer's election timer would fire, depose the leader
    /// and begin the transfer again, for ever. Returns a higher vote, where there is one.
    async fn contact(&self, vote: Vote) -> Result<Option<Vote>, String> {
        let heartbeat = AppendEntriesRequest {
            vote,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        match self.raft.append_entries(heartbeat).await {
            Ok(AppendEntriesResponse::HigherVote(higher)) => Ok(Some(higher)),
            Ok(_) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn accept(
        &self,
        transfer: &mut Option<Transfer>,
        chunk: Chunk<S>,
    ) -> Result<Response, String> {
        let Chunk::<S> {
            vote,
            meta,
            offset,
            data,
            done,
        } = chunk;
        let current = transfer
            .take()
            .filter(|current| current.id == meta.snapshot_id && offset <= current.received);
        if current.is_none() && offset != 0 {
            let segment = |offset| SnapshotSegmentId {
                id: meta.snapshot_id.clone(),
                offset,
            };
            return Ok(Response::Mismatch(SnapshotMismatch {
                expect: segment(0),
                got: segment(offset),
            }));
        }
        let directory = self.store.spool_directory.clone();
        let id = meta.snapshot_id.clone();
        let current = blocking(move || {
            let mut file = match current {
                Some(current) => current.file,
                None => tempfile::tempfile_in(directory)?,
            };
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(&data)?;
            Ok(Transfer {
                id,
                received: offset + data.len() as u64,
                file,
            })
        })
        .await?;
        if done {
            self.finish(vote, meta, current).await
        } else {
            *transfer = Some(current);
            Ok(Response::Snapshot(InstallSnapshotResponse { vote }))
        }
    }

    /// Checks and stages a whole snapshot, then has Raft install it.
    async fn finish(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        transfer: Transfer,
    ) -> Result<Response, String> {
        let committed = self
            .raft
            .with_raft_state(|state| state.committed)
            .await
            .map_err(|e| e.to_string())?;
        if meta.last_log_id <= committed {
            // The log was faster; Raft would not install it either.
            return Ok(Response::Snapshot(InstallSnapshotResponse { vote }));
        }
        let (staged, file) = self.stage(vote, meta.clone(), transfer).await?;
        let mut data = SnapshotData::from_file(file);
        data.staged = Some(staged);
        let snapshot = Snapshot {
            meta,
            snapshot: Box::new(data),
        };
        let installed = self
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(|e| e.to_string())?;
        Ok(Response::Snapshot(installed.into()))
    }

    async fn stage(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        transfer: Transfer,
    ) -> Result<(Staged, File), String> {
        let store = self.store.clone();
        let staging = blocking(move || {
            let mut file = transfer.file;
            file.set_len(transfer.received)?;
            let staged = store.with_database(|database| store.stage(database, &mut file))?;
            staged.check(&meta)?;
            Ok((staged, file))
        });
        tokio::pin!(staging);
        loop {
            tokio::select! {
                biased;
                staged = &mut staging => return staged,
                () = tokio::time::sleep(CONTACT_INTERVAL) => {
                    if let Some(higher) = self.contact(vote).await? {
                        return Err(format!("a newer leader appeared meanwhile: {higher}"));
                    }
                }
            }
        }
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
