//! TCP: length-prefixed frames, one request at a time on a connection.
//!
//! ```text
//! a hello and its answer (`hello.rs`), then, again and again:
//! request frame, answer frame; frame = length u32, bytes
//! ```
//! Integers are little-endian. With the feature `tls` and a `Tls` in the configuration all of this is
//! said within mutual TLS, and the hello must agree with the certificates. Without, there
//! is no encryption and no authentication: listen on loopback or a trusted network only.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::network::{Callee, accept, accept_tcp};
use super::wire::{self, Stream};
use super::{BoxFuture, Handler, NetworkConfig, Transport, TransportError, hello};
use crate::types::NodeId;

/// Idle connections kept for each peer. openraft uses three at a time: appends, votes, snapshots.
const IDLE_PER_PEER: usize = 4;

/// Carries requests over TCP.
pub struct TcpTransport {
    config: Arc<NetworkConfig>,
    address: SocketAddr,
    /// Taken by [`serve`](Transport::serve).
    listener: Mutex<Option<TcpListener>>,
    server: Mutex<Option<tokio::task::JoinHandle<()>>>,
    stop: watch::Sender<bool>,
    idle: Mutex<HashMap<(NodeId, String), Vec<Stream>>>,
}

impl TcpTransport {
    /// Listens on `address`. Port 0 takes a free one; see [`local_address`](Self::local_address).
    pub async fn bind(address: &str, config: NetworkConfig) -> Result<Arc<Self>, TransportError> {
        hello::check_cluster(&config.cluster)?;
        let failed = |e: io::Error| TransportError::Serve(format!("listening on {address}: {e}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Arc::new(Self {
            address: listener.local_addr().map_err(failed)?,
            config: Arc::new(config),
            listener: Mutex::new(Some(listener)),
            server: Mutex::new(None),
            stop: watch::Sender::new(false),
            idle: Mutex::default(),
        }))
    }

    /// Where this node listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    async fn connect(&self, from: NodeId, callee: Callee<'_>) -> Result<Stream, TransportError> {
        let Callee { node: to, address } = callee;
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut stream = wire::connect(&self.config, stream, to).await?;
            let welcome = hello::say(&mut stream, from, to, &self.config.cluster).await?;
            io::Result::Ok(welcome.map(|()| stream))
        };
        callee
            .connected(&self.config, connecting, wire::refusal)
            .await
    }

    /// One request on `stream`. The stream is usable again only if the whole answer was read.
    async fn exchange(&self, stream: &mut Stream, request: &[u8]) -> io::Result<Vec<u8>> {
        write_frame(stream, request).await?;
        read_frame(stream, self.config.frame_limit).await
    }

    async fn request(
        &self,
        from: NodeId,
        callee: Callee<'_>,
        request: &[u8],
    ) -> Result<Vec<u8>, TransportError> {
        let key = (callee.node, callee.address.to_owned());
        let kept = self.idle.lock().get_mut(&key).and_then(Vec::pop);
        if let Some(mut stream) = kept {
            // The peer may have restarted since; Raft's requests may be repeated.
            if let Ok(answer) = self.exchange(&mut stream, request).await {
                self.keep(key, stream);
                return Ok(answer);
            }
            self.idle.lock().remove(&key);
        }
        let mut stream = self.connect(from, callee).await?;
        let answer = self.exchange(&mut stream, request).await;
        let answer = answer.map_err(|error| callee.unreachable(error))?;
        self.keep(key, stream);
        Ok(answer)
    }

    fn keep(&self, key: (NodeId, String), stream: Stream) {
        if *self.stop.borrow() {
            return;
        }
        let mut idle = self.idle.lock();
        let streams = idle.entry(key).or_default();
        if streams.len() < IDLE_PER_PEER {
            streams.push(stream);
        }
    }
}

impl Transport for TcpTransport {
    fn call<'a>(
        &'a self,
        from: NodeId,
        to: NodeId,
        address: &'a str,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        Box::pin(async move {
            let callee = Callee { node: to, address };
            let answer = self.request(from, callee, &request);
            callee
                .answered(&self.config, request.len(), deadline, answer)
                .await
        })
    }

    fn serve(&self, node: NodeId, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        let listener =
            self.listener.lock().take().ok_or_else(|| {
                TransportError::Serve("the transport is in use or stopped".into())
            })?;
        let server = Server {
            node,
            handler,
            config: self.config.clone(),
        };
        let stop = self.stop.subscribe();
        *self.server.lock() = Some(tokio::spawn(serve(listener, Arc::new(server), stop)));
        Ok(())
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop.send_replace(true);
            self.listener.lock().take();
            let server = self.server.lock().take();
            if let Some(server) = server {
                // It ends by itself; an error means that it panicked or the runtime is ending.
                let _ = server.await;
            }
            self.idle.lock().clear();
        })
    }
}

struct Server {
    node: NodeId,
    handler: Arc<dyn Handler>,
    config: Arc<NetworkConfig>,
}

/// Serves connections until told to stop.
async fn serve(listener: TcpListener, server: Arc<Server>, stop: watch::Receiver<bool>) {
    let connection = |(stream, peer), permit| {
        let server = server.clone();
        async move {
            if let Err(error) = server.connection(stream).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(permit);
        }
    };
    let next = || accept_tcp(&listener);
    accept(&server.config, stop, next, connection).await;
}

impl Server {
    async fn connection(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let greeting = async {
            let (mut stream, proof) = wire::accept(&self.config, stream).await?;
            let from = hello::answer(&mut stream, self.node, &self.config.cluster, &proof).await?;
            io::Result::Ok((stream, from))
        };
        let greeted = tokio::time::timeout(hello::TIMEOUT, greeting).await??;
        let (mut stream, Some(from)) = greeted else {
            return Ok(());
        };
        loop {
            let request = match read_frame(&mut stream, self.config.frame_limit).await {
                Ok(request) => request,
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(e) => return Err(e),
            };
            let answer = self.handler.handle(from, request).await;
            write_frame(&mut stream, &answer).await?;
        }
    }
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the frame is too long"))?;
    // One buffer: two small writes would be two packets without delay.
    let mut frame = Vec::with_capacity(4 + payload.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// What is set aside for a frame before any of it has arrived, at most.
const TRUSTED_BYTES: usize = 4096;

/// Reads one frame. The buffer grows with what arrives, so a length that lies costs little.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let length = stream.read_u32_le().await? as usize;
    if length > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes is above the limit of {limit}"),
        ));
    }
    let mut payload = Vec::with_capacity(length.min(TRUSTED_BYTES));
    stream.take(length as u64).read_to_end(&mut payload).await?;
    if payload.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_comes_back_as_it_was_sent() {
        let mut wire = Vec::new();
        write_frame(&mut wire, b"appended").await.expect("written");
        let back = read_frame(&mut wire.as_slice(), 8).await.expect("read");
        assert_eq!(back, b"appended");
    }

    #[tokio::test]
    async fn a_frame_above_the_limit_or_cut_off_is_refused() {
        let mut wire = Vec::new();
        write_frame(&mut wire, b"appended").await.expect("written");
        let error = read_frame(&mut wire.as_slice(), 7)
            .await
            .expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        for cut in 0..wire.len() {
            let error = read_frame(&mut &wire[..cut], 8).await.expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}");
        }
    }
}
