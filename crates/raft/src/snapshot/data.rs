//! The handle openraft passes around for a snapshot's bytes.

use std::future::Future;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use folio_store::{ReadTransaction, TableDefinition};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::JoinHandle;

use super::write_snapshot;
use crate::runtime;
use crate::store::{Lease, Points, Staged};

/// A view to write a snapshot from, when somebody asks for its bytes.
pub(crate) struct SnapshotSource {
    pub view: ReadTransaction,
    pub tables: Vec<TableDefinition>,
    pub directory: PathBuf,
    /// From when on the pages of the view tell what was changed.
    pub points: Points,
    // After the view, which is gone when the lease is returned.
    pub _lease: Lease,
}

impl SnapshotSource {
    /// Writes the snapshot to a new spool file. Blocks.
    fn spool(&self) -> io::Result<std::fs::File> {
        let mut file = tempfile::tempfile_in(&self.directory)?;
        write_snapshot(&self.view, &self.tables, &mut file).map_err(io::Error::other)?;
        file.rewind()?;
        Ok(file)
    }
}

/// The bytes of a snapshot: a spool file without a name beside the database, which the system
/// removes when the handle is dropped or the process ends.
///
/// For a snapshot of this node's own state the file is made when the bytes are first asked for.
/// Compacting the log asks for none, since the state is durable in the database, so it costs no
/// more than a checkpoint.
pub struct SnapshotData {
    state: State,
    seek: Option<SeekFrom>,
    /// Set when the rows of this snapshot are in the staged tables already.
    pub(crate) staged: Option<Staged>,
}

enum State {
    Pending(Option<Arc<SnapshotSource>>),
    Spooling(JoinHandle<io::Result<std::fs::File>>),
    File(tokio::fs::File),
}

impl SnapshotData {
    pub(crate) fn lazy(source: SnapshotSource) -> Self {
        Self::with(State::Pending(Some(Arc::new(source))))
    }

    /// An empty spool file in `directory`, to be written. Blocks.
    pub(crate) fn spool_in(directory: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(directory)?;
        Ok(Self::with(State::File(tokio::fs::File::from_std(file))))
    }

    /// A snapshot whose rows are in the database already, and which has no bytes of its own.
    pub(crate) fn staged(staged: Staged) -> Self {
        Self {
            staged: Some(staged),
            ..Self::with(State::Pending(None))
        }
    }

    /// What the snapshot is of, if no byte of it was asked for yet.
    pub(crate) fn into_source(self) -> Option<Arc<SnapshotSource>> {
        match self.state {
            State::Pending(source) => source,
            State::Spooling(_) | State::File(_) => None,
        }
    }

    fn with(state: State) -> Self {
        Self {
            state,
            seek: None,
            staged: None,
        }
    }

    /// Gives the spool file, at its beginning, with everything written.
    pub(crate) async fn into_file(self) -> io::Result<std::fs::File> {
        match self.state {
            State::Pending(Some(source)) => {
                let spooling = runtime::blocking(move || source.spool());
                spooling.await.map_err(io::Error::other)?
            }
            State::Pending(None) => Err(failed_before()),
            State::Spooling(spooling) => spooling.await.map_err(io::Error::other)?,
            State::File(mut file) => {
                file.flush().await?;
                let mut file = file.into_std().await;
                file.rewind()?;
                Ok(file)
            }
        }
    }

    /// The file, made now if there is none.
    fn poll_file(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut tokio::fs::File>> {
        if let State::Pending(source) = &mut self.state {
            let Some(source) = source.take() else {
                return Poll::Ready(Err(failed_before()));
            };
            self.state = State::Spooling(runtime::blocking(move || source.spool()));
        }
        if let State::Spooling(spooling) = &mut self.state {
            let spooled = std::task::ready!(Pin::new(spooling).poll(cx));
            self.state = State::Pending(None);
            let file = spooled.map_err(io::Error::other)??;
            self.state = State::File(tokio::fs::File::from_std(file));
        }
        match &mut self.state {
            State::File(file) => Poll::Ready(Ok(file)),
            State::Pending(_) | State::Spooling(_) => Poll::Ready(Err(failed_before())),
        }
    }
}

fn failed_before() -> io::Error {
    io::Error::other("writing the snapshot failed before")
}

impl AsyncRead for SnapshotData {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let file = std::task::ready!(self.get_mut().poll_file(cx))?;
        Pin::new(file).poll_read(cx, buf)
    }
}

impl AsyncWrite for SnapshotData {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let file = std::task::ready!(self.get_mut().poll_file(cx))?;
        Pin::new(file).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            State::File(file) => Pin::new(file).poll_flush(cx),
            // Nothing was written to it.
            State::Pending(_) | State::Spooling(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl AsyncSeek for SnapshotData {
    fn start_seek(self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        self.get_mut().seek = Some(position);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        if this.seek.is_none() && !matches!(this.state, State::File(_)) {
            return Poll::Ready(Ok(0));
        }
        if let Some(position) = this.seek {
            let file = std::task::ready!(this.poll_file(cx))?;
            // The file takes a new position only when it is idle.
            std::task::ready!(Pin::new(&mut *file).poll_complete(cx))?;
            Pin::new(file).start_seek(position)?;
            this.seek = None;
        }
        let file = std::task::ready!(this.poll_file(cx))?;
        Pin::new(file).poll_complete(cx)
    }
}
