//! A connection whose client has to take what it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::connections::Sending;

/// The bytes that a client has to take each second while it is waited for.
const SLOWEST: u64 = 1 << 10;

/// A stream that fails when its other end takes next to nothing for so long, and tells when an answer is sent.
pub(super) struct Paced<S> {
    stream: S,
    sending: Sending,
    window: Duration,
    /// While something could not be written: the end of the window, and what was taken within it.
    pending: Option<(Pin<Box<Sleep>>, u64)>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, window: Duration, sending: Sending) -> Self {
        Paced {
            stream,
            sending,
            window,
            pending: None,
        }
    }

    /// Counts what was taken, and fails when that was too little in the window.
    fn judge(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            let bytes = written?;
            if let Some((_, taken)) = &mut self.pending {
                *taken += bytes as u64;
            }
            return Poll::Ready(Ok(bytes));
        }
        let window = self.window;
        let (end, taken) = self
            .pending
            .get_or_insert_with(|| (Box::pin(sleep(window)), 0));
        loop {
            ready!(end.as_mut().poll(context));
            if u128::from(*taken) * 1000 < u128::from(SLOWEST) * window.as_millis().max(1) {
                let reason = format!("the client took {taken} bytes in {window:?}");
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)));
            }
            *taken = 0;
            end.as_mut().reset(Instant::now() + window);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        let flushed = ready!(self.judge(flushed.map_ok(|()| 0), context));
        // All is taken.
        self.pending = None;
        self.sending.end();
        Poll::Ready(flushed.map(drop))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(closed.map_ok(|()| 0), context).map_ok(drop)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    const WINDOW: Duration = Duration::from_millis(50);

    /// How writing so many bytes fails.
    async fn given_up(paced: &mut Paced<DuplexStream>, bytes: usize) -> io::ErrorKind {
        let bytes = vec![0; bytes];
        let writing = tokio::time::timeout(PATIENCE, paced.write_all(&bytes));
        let written = writing.await.expect("it is not waited for");
        written.expect_err("it is not taken").kind()
    }

    #[tokio::test]
    async fn who_takes_nothing_is_given_up_and_who_takes_what_comes_is_not() {
        let (near, far) = tokio::io::duplex(64);
        let mut paced = Paced::new(near, WINDOW, Sending::default());
        assert_eq!(given_up(&mut paced, 65).await, io::ErrorKind::TimedOut);
        drop(far);

        let (near, mut far) = tokio::io::duplex(64);
        let mut paced = Paced::new(near, WINDOW, Sending::default());
        let taking = tokio::spawn(async move {
            let mut taken = Vec::new();
            far.read_to_end(&mut taken).await.map(|_| taken.len())
        });
        paced.write_all(&[0; 100_000]).await.expect("it is taken");
        paced.flush().await.expect("it is taken");
        // Nothing to take is no reason, however long it lasts.
        tokio::time::sleep(3 * WINDOW).await;
        paced.write_all(&[0; 100]).await.expect("it is taken");
        drop(paced);
        assert_eq!(taking.await.expect("it ends").expect("it reads"), 100_100);
    }

    #[tokio::test]
    async fn who_takes_a_byte_now_and_then_is_given_up_whatever_was_taken_before() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut paced = Paced::new(near, WINDOW, Sending::default());
        let taking = tokio::spawn(async move {
            let mut quickly = [0; 5_000];
            far.read_exact(&mut quickly).await.expect("it is sent");
            while far.read_u8().await.is_ok() {
                tokio::time::sleep(WINDOW / 5).await;
            }
        });
        assert_eq!(given_up(&mut paced, 10_000).await, io::ErrorKind::TimedOut);
        drop(paced);
        taking.await.expect("it ends");
    }
}
