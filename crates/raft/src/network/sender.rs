//! Sending a snapshot.
//!
//! The stream is made from the view as it is sent, so neither memory nor disk depends on its size. A
//! transfer that was interrupted is kept for a while, with its view, and goes on from what the peer
//! has taken. By then Raft asks for a newer snapshot: the old one is sent to its end first, since it
//! may be most of the way.
//!
//! A node that says where its state is gets the changes since, if they are known and few, and the whole
//! snapshot if it does not take them.

use std::fs::File;
use std::io::{BufWriter, Read, Seek};
use std::sync::Arc;
use std::time::Duration;

use folio_store::ReadTransaction;
use openraft::Snapshot;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::RESUME_WINDOW;
use super::client::Peer;
use super::link::LinkError;
use super::message::{Request, Response, SnapshotAnswer, SnapshotRequest, SnapshotStep, encode};
use crate::metrics::Meters;
use crate::runtime;
use crate::snapshot::{SnapshotError, SnapshotSource, SnapshotWriter, write_changes};
use crate::state_machine::StateMachine;
use crate::types::{LogId, SnapshotMeta, TypeConfig, Vote};

/// How long making a part may take before the peer hears from its leader again.
const CONTACT_INTERVAL: Duration = Duration::from_millis(100);

/// Why a transfer did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("there is a newer leader: {0}")]
    Outvoted(Vote),
    #[error("the node no longer has what it took of the snapshot")]
    Lost,
    #[error("the bytes of the snapshot were asked for before")]
    NoSource,
    #[error("the node did not take the snapshot: {0}")]
    Failed(String),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Where the bytes of a transfer come from.
enum Content {
    Whole(SnapshotWriter),
    /// A file of changes, and how many bytes of it are left.
    Changes(File, u64),
}

impl Content {
    fn whole(source: &SnapshotSource) -> Self {
        Self::Whole(SnapshotWriter::new(&source.tables))
    }

    /// What was changed since the state of `applied`, if that is known and worth it. Blocks.
    fn changes(source: &SnapshotSource, applied: LogId) -> Result<Option<Self>, SnapshotError> {
        let Some(base) = source.points.before(applied, source.view.number()) else {
            return Ok(None);
        };
        let mut file = BufWriter::new(tempfile::tempfile_in(&source.directory)?);
        if !write_changes(source, base, &mut file)? {
            return Ok(None);
        }
        let mut file = file.into_inner().map_err(|e| e.into_error())?;
        let length = file.stream_position()?;
        file.rewind()?;
        Ok(Some(Self::Changes(file, length)))
    }

    /// Gives the next bytes, and whether they are the last. Blocks.
    fn next(
        &mut self,
        view: &ReadTransaction,
        length: usize,
    ) -> Result<(Vec<u8>, bool), SnapshotError> {
        let mut bytes = Vec::new();
        match self {
            Self::Whole(writer) => {
                let end = writer.write(view, &mut bytes, length)?;
                Ok((bytes, end.is_some()))
            }
            Self::Changes(file, left) => {
                let read = file.take(length as u64).read_to_end(&mut bytes)? as u64;
                *left = left.saturating_sub(read);
                Ok((bytes, *left == 0))
            }
        }
    }
}

/// A transfer, as far as the peer has acknowledged it.
struct Sending {
    source: Arc<SnapshotSource>,
    meta: SnapshotMeta,
    /// Counts the streams of this snapshot: one that begins again is another transfer.
    attempt: u32,
    /// Shared with the thread that makes the next part.
    content: Arc<Mutex<Content>>,
    /// Bytes that were made and not acknowledged.
    buffer: Vec<u8>,
    /// Where in the stream they begin.
    offset: u64,
    /// Whether the stream ends with the buffer.
    complete: bool,
    /// When the peer last acknowledged something.
    progressed: Instant,
}

impl Sending {
    fn new(source: Arc<SnapshotSource>, meta: SnapshotMeta, attempt: u32) -> Self {
        Self {
            content: Arc::new(Mutex::new(Content::whole(&source))),
            source,
            meta,
            attempt,
            buffer: Vec::new(),
            offset: 0,
            complete: false,
            progressed: Instant::now(),
        }
    }

    fn request(&self, vote: Vote, step: SnapshotStep) -> SnapshotRequest {
        SnapshotRequest {
            vote,
            transfer: format!("{}.{}", self.meta.snapshot_id, self.attempt),
            step,
        }
    }

    /// The next bytes to send; none if all are acknowledged.
    fn part(&self, length: usize) -> Option<SnapshotStep> {
        let bytes = &self.buffer[..self.buffer.len().min(length)];
        (!bytes.is_empty()).then(|| SnapshotStep::Part {
            offset: self.offset,
            last: self.complete && bytes.len() == self.buffer.len(),
            bytes: bytes.to_vec(),
        })
    }

    /// Takes note of how much the peer has. False if this end cannot go on from there.
    fn acknowledge(&mut self, received: u64) -> bool {
        let ahead = received.checked_sub(self.offset);
        let ahead = ahead.and_then(|ahead| usize::try_from(ahead).ok());
        let Some(ahead) = ahead.filter(|ahead| *ahead <= self.buffer.len()) else {
            return false;
        };
        if ahead > 0 {
            self.buffer.drain(..ahead);
            self.offset = received;
            self.progressed = Instant::now();
        }
        true
    }
}

/// Keeps a transfer that was interrupted, for [`RESUME_WINDOW`] after its last progress.
#[derive(Clone, Default)]
pub(super) struct Interrupted(Arc<Mutex<Option<Sending>>>);

impl Interrupted {
    fn take(&self) -> Option<Sending> {
        self.0.lock().take()
    }

    fn keep(&self, sending: Sending) {
        let until = sending.progressed + RESUME_WINDOW;
        *self.0.lock() = Some(sending);
        let place = Arc::downgrade(&self.0);
        runtime::spawn(async move {
            tokio::time::sleep_until(until).await;
            // What is there may have made progress since and been interrupted again.
            if let Some(place) = place.upgrade() {
                let waited = |sending: &mut Sending| sending.progressed + RESUME_WINDOW <= until;
                place.lock().take_if(waited);
            }
        });
    }
}

/// How the steps of one call are sent.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub vote: Vote,
    /// For the answer to one step.
    pub deadline: Duration,
    /// Bytes of a part.
    pub part: usize,
}

/// What the peer has of a transfer.
enum Progress {
    /// Nothing, and its state is there.
    Ready(Option<LogId>),
    Taken(u64),
    Installed,
}

impl<S: StateMachine> Peer<S> {
    /// Brings the peer to `snapshot` or beyond.
    #[tracing::instrument(name = "send_snapshot", level = "debug", skip_all, fields(node = self.link.node, target = self.target))]
    pub(super) async fn bring(
        &self,
        terms: Terms,
        snapshot: Snapshot<TypeConfig<S>>,
    ) -> Result<(), TransferError> {
        let Snapshot { meta, snapshot } = snapshot;
        let source = snapshot.into_source().ok_or(TransferError::NoSource)?;
        if let Some(mut older) = self.interrupted.take() {
            let reached = older.meta.last_log_id;
            let outcome = self.resume(terms, &mut older).await;
            let installed = self.keep_if_interrupted(older, outcome)?;
            if installed && reached >= meta.last_log_id {
                return Ok(());
            }
        }
        let mut sending = Sending::new(source, meta, 0);
        let outcome = self.begin(terms, &mut sending).await;
        self.keep_if_interrupted(sending, outcome)
    }

    fn keep_if_interrupted<T>(
        &self,
        sending: Sending,
        outcome: Result<T, TransferError>,
    ) -> Result<T, TransferError> {
        if let Err(TransferError::Link(LinkError::Transport(_))) = &outcome
            && sending.offset > 0
        {
            self.interrupted.keep(sending);
        }
        outcome
    }

    /// Sends the rest of a transfer, if the peer still has what it had of it. Whether it is
    /// installed.
    async fn resume(&self, terms: Terms, sending: &mut Sending) -> Result<bool, TransferError> {
        match self.offer(terms, sending).await? {
            Progress::Installed => Ok(true),
            Progress::Taken(received) if received > 0 && sending.acknowledge(received) => {
                self.send(terms, sending).await?;
                Ok(true)
            }
            // The newer one may as well be sent at once.
            Progress::Taken(_) | Progress::Ready(_) => Ok(false),
        }
    }

    /// Sends a snapshot from its beginning: what was changed since the state that the peer has, or
    /// if that is not possible the whole.
    async fn begin(&self, terms: Terms, sending: &mut Sending) -> Result<(), TransferError> {
        let mut whole = false;
        loop {
            match self.offer(terms, sending).await? {
                Progress::Installed => return Ok(()),
                Progress::Ready(Some(applied)) if !whole => {
                    let source = sending.source.clone();
                    let making = runtime::blocking(move || Content::changes(&source, applied));
                    let Some(changes) = self.in_contact(terms, sending, making).await? else {
                        whole = true;
                        continue;
                    };
                    sending.content = Arc::new(Mutex::new(changes));
                    match self.send(terms, sending).await {
                        Err(TransferError::Failed(reason)) => {
                            tracing::info!(%reason, "changes were refused: the whole snapshot is sent");
                            whole = true;
                        }
                        outcome => return outcome,
                    }
                }
                Progress::Ready(_) => return self.send(terms, sending).await,
                // What was sent under this id has no second half any more.
                Progress::Taken(_) => {}
            }
            let (source, meta) = (sending.source.clone(), sending.meta.clone());
            *sending = Sending::new(source, meta, sending.attempt + 1);
        }
    }

    async fn offer(&self, terms: Terms, sending: &Sending) -> Result<Progress, TransferError> {
        let step = SnapshotStep::Offer(sending.meta.clone());
        self.ask(terms, sending.request(terms.vote, step)).await
    }

    /// Sends what was not acknowledged, to the end, and waits until it is installed.
    async fn send(&self, terms: Terms, sending: &mut Sending) -> Result<(), TransferError> {
        loop {
            if sending.buffer.is_empty() && !sending.complete {
                self.fill(terms, sending).await?;
            }
            // When all was taken, what is left is to ask until it is installed.
            let step = sending.part(terms.part).unwrap_or(SnapshotStep::Progress);
            match self.ask(terms, sending.request(terms.vote, step)).await? {
                Progress::Installed => return Ok(()),
                Progress::Ready(_) => return Err(TransferError::Lost),
                Progress::Taken(received) => {
                    let before = sending.offset;
                    if !sending.acknowledge(received) {
                        return Err(TransferError::Lost);
                    }
                    let counter = &self.link.meters.snapshot_bytes_sent;
                    Meters::add(counter, sending.offset - before);
                }
            }
        }
    }

    /// Makes the next part.
    async fn fill(&self, terms: Terms, sending: &mut Sending) -> Result<(), TransferError> {
        let (content, source) = (sending.content.clone(), sending.source.clone());
        let making = runtime::blocking(move || content.lock().next(&source.view, terms.part));
        (sending.buffer, sending.complete) = self.in_contact(terms, sending, making).await?;
        Ok(())
    }

    /// Waits for blocking work. The peer hears from its leader meanwhile.
    async fn in_contact<T>(
        &self,
        terms: Terms,
        sending: &Sending,
        making: JoinHandle<Result<T, SnapshotError>>,
    ) -> Result<T, TransferError> {
        tokio::pin!(making);
        loop {
            tokio::select! {
                biased;
                made = &mut making => {
                    return Ok(made.map_err(|e| SnapshotError::Io(std::io::Error::other(e)))??);
                }
                () = tokio::time::sleep(CONTACT_INTERVAL) => {
                    let request = sending.request(terms.vote, SnapshotStep::Progress);
                    match self.ask(terms, request).await {
                        // The next part meets it again, and by then this one is made.
                        Ok(_) | Err(TransferError::Link(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    async fn ask(&self, terms: Terms, request: SnapshotRequest) -> Result<Progress, TransferError> {
        let request = encode(&Request::<S>::Snapshot(request)).map_err(LinkError::Encode)?;
        match self.exchange(request, terms.deadline).await? {
            Response::Snapshot(SnapshotAnswer::Ready(applied)) => Ok(Progress::Ready(applied)),
            Response::Snapshot(SnapshotAnswer::Taken(received)) => Ok(Progress::Taken(received)),
            Response::Snapshot(SnapshotAnswer::Installed) => Ok(Progress::Installed),
            Response::Snapshot(SnapshotAnswer::Unknown) => Err(TransferError::Lost),
            Response::Snapshot(SnapshotAnswer::Outvoted(vote)) => {
                Err(TransferError::Outvoted(vote))
            }
            Response::Snapshot(SnapshotAnswer::Failed(reason)) => {
                Err(TransferError::Failed(reason))
            }
            response => Err(TransferError::Failed(response.unexpected())),
        }
    }
}
