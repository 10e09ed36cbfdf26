//! TCP: length-prefixed frames, one request at a time on a connection.
//!
//! ```text
//! hello:   magic "FOLIORPC", version u16, from u64, to u64, cluster name (u8 length and bytes)
//! answer:  status u8 (0 welcome, 1 version, 2 cluster, 3 node, 4 certificate);
//!          after 1: version u16
//! then, again and again: request frame, answer frame; frame = length u32, bytes
//! ```
//! Integers are little-endian. The hello names both ends, so a node that was given another's
//! address is refused instead of served. With the feature `tls` and a `Tls` in the configuration all
//! of this is said within mutual TLS, and the hello must agree with the certificates. Without, there
//! is no encryption and no authentication: listen on loopback or a trusted network only.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::wire::{self, Proof, Stream};
use super::{BoxFuture, Handler, Transport, TransportError};
use crate::config::Config;
use crate::types::NodeId;

const MAGIC: &[u8; 8] = b"FOLIORPC";
const VERSION: u16 = 1;
/// How long a new connection may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// The first byte that a client without TLS reads from a server with it.
const TLS_ALERT: u8 = 21;
/// Idle connections kept for each peer. openraft uses three at a time: appends, votes, snapshots.
const IDLE_PER_PEER: usize = 4;

/// Settings of a [`TcpTransport`].
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Nodes of another cluster are refused.
    pub cluster: String,
    /// The largest frame sent or accepted.
    pub frame_limit: usize,
    /// Connections accepted at a time; more have to wait.
    pub connection_limit: usize,
    /// How long connecting may take, at most; a request's own deadline may be shorter.
    pub connect_timeout: Duration,
    /// The node's certificate and whom it trusts. None: neither encryption nor authentication.
    #[cfg(feature = "tls")]
    pub tls: Option<super::Tls>,
}

impl TcpConfig {
    /// The defaults, for the cluster of that name (at most 255 bytes).
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            frame_limit: Config::MESSAGE_LIMIT,
            connection_limit: 256,
            connect_timeout: Duration::from_secs(2),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// Carries requests over TCP.
pub struct TcpTransport {
    config: Arc<TcpConfig>,
    address: SocketAddr,
    /// Taken by [`serve`](Transport::serve).
    listener: Mutex<Option<TcpListener>>,
    server: Mutex<Option<tokio::task::JoinHandle<()>>>,
    stop: watch::Sender<bool>,
    idle: Mutex<HashMap<(NodeId, String), Vec<Stream>>>,
}

impl TcpTransport {
    /// Listens on `address`. Port 0 takes a free one; see [`local_address`](Self::local_address).
    pub async fn bind(address: &str, config: TcpConfig) -> Result<Arc<Self>, TransportError> {
        if config.cluster.len() > usize::from(u8::MAX) {
            return Err(TransportError::Serve(format!(
                "the cluster name has {} bytes, above the limit of {}",
                config.cluster.len(),
                u8::MAX
            )));
        }
        let failed = |e: io::Error| TransportError::Serve(format!("listening on {address}: {e}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Arc::new(Self {
            address: listener.local_addr().map_err(failed)?,
            config: Arc::new(config),
            listener: Mutex::new(Some(listener)),
            server: Mutex::new(None),
            stop: watch::Sender::new(false),
            idle: Mutex::new(HashMap::new()),
        }))
    }

    /// Where this node listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    async fn connect(
        &self,
        from: NodeId,
        to: NodeId,
        address: &str,
    ) -> Result<Stream, TransportError> {
        let unreachable = |reason: String| TransportError::Unreachable {
            node: to,
            address: address.to_owned(),
            reason,
        };
        let refused = |reason: String| TransportError::Refused {
            node: to,
            address: address.to_owned(),
            reason,
        };
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut stream = wire::connect(&self.config, stream, to).await?;
            stream
                .write_all(&hello(from, to, &self.config.cluster))
                .await?;
            stream.flush().await?;
            let status = stream.read_u8().await?;
            let version = match Status::of(status) {
                Some(Status::Version) => stream.read_u16_le().await?,
                _ => VERSION,
            };
            io::Result::Ok((stream, status, version))
        };
        let (stream, status, version) =
            tokio::time::timeout(self.config.connect_timeout, connecting)
                .await
                .map_err(|_| {
                    unreachable(format!(
                        "no connection within {:?}",
                        self.config.connect_timeout
                    ))
                })?
                .map_err(|e| match wire::is_refusal(&e) {
                    true => refused(e.to_string()),
                    false => unreachable(e.to_string()),
                })?;
        Err(refused(match Status::of(status) {
            Some(Status::Welcome) => return Ok(stream),
            Some(Status::Version) => format!(
                "it speaks version {version} of the protocol, and this node version {VERSION}"
            ),
            Some(status) => status.reason().to_owned(),
            None if status == TLS_ALERT => {
                "it expects TLS, and this node was not given any".to_owned()
            }
            None => format!("with the unknown status {status}"),
        }))
    }

    /// One request on `stream`. The stream is usable again only if the whole answer was read.
    async fn exchange(&self, stream: &mut Stream, request: &[u8]) -> io::Result<Vec<u8>> {
        write_frame(stream, request).await?;
        read_frame(stream, self.config.frame_limit).await
    }

    async fn request(
        &self,
        from: NodeId,
        to: NodeId,
        address: &str,
        request: &[u8],
    ) -> Result<Vec<u8>, TransportError> {
        let key = (to, address.to_owned());
        let kept = self.idle.lock().get_mut(&key).and_then(Vec::pop);
        if let Some(mut stream) = kept {
            // The peer may have restarted since; Raft's requests may be repeated.
            if let Ok(answer) = self.exchange(&mut stream, request).await {
                self.keep(key, stream);
                return Ok(answer);
            }
            self.idle.lock().remove(&key);
        }
        let mut stream = self.connect(from, to, address).await?;
        let answer =
            self.exchange(&mut stream, request)
                .await
                .map_err(|e| TransportError::Unreachable {
                    node: to,
                    address: address.to_owned(),
                    reason: e.to_string(),
                })?;
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
            if request.len() > self.config.frame_limit {
                return Err(TransportError::TooLarge {
                    bytes: request.len(),
                    limit: self.config.frame_limit,
                });
            }
            tokio::time::timeout(deadline, self.request(from, to, address, &request))
                .await
                .map_err(|_| TransportError::TimedOut {
                    node: to,
                    waited: deadline,
                })?
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
        *self.server.lock() = Some(tokio::spawn(accept(listener, Arc::new(server), stop)));
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
    config: Arc<TcpConfig>,
}

/// Accepts connections until told to stop, then ends them all.
async fn accept(listener: TcpListener, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(server.config.connection_limit));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            // The semaphore is never closed.
            let permit = room.clone().acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let server = server.clone();
                connections.spawn(async move {
                    if let Err(error) = server.connection(stream).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

impl Server {
    async fn connection(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let greeting = async {
            let (mut stream, proof) = wire::accept(&self.config, stream).await?;
            let from = self.greet(&mut stream, &proof).await?;
            io::Result::Ok((stream, from))
        };
        let greeted = tokio::time::timeout(HELLO_TIMEOUT, greeting).await??;
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

    /// Reads the hello and answers it. None: the peer was refused.
    async fn greet(&self, stream: &mut Stream, proof: &Proof) -> io::Result<Option<NodeId>> {
        let mut magic = [0u8; 8];
        stream.read_exact(&mut magic).await?;
        if &magic != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a node of a Folio cluster",
            ));
        }
        let version = stream.read_u16_le().await?;
        if version != VERSION {
            stream.write_u8(Status::Version as u8).await?;
            stream.write_u16_le(VERSION).await?;
            stream.flush().await?;
            return Ok(None);
        }
        let from = stream.read_u64_le().await?;
        let to = stream.read_u64_le().await?;
        let mut cluster = vec![0u8; usize::from(stream.read_u8().await?)];
        stream.read_exact(&mut cluster).await?;
        let status = if cluster != self.config.cluster.as_bytes() {
            Status::Cluster
        } else if to != self.node {
            Status::Node
        } else if !proof.allows(from) {
            Status::Certificate
        } else {
            Status::Welcome
        };
        stream.write_u8(status as u8).await?;
        stream.flush().await?;
        Ok((status == Status::Welcome).then_some(from))
    }
}

/// The answer to a hello.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Status {
    Welcome = 0,
    Version = 1,
    Cluster = 2,
    Node = 3,
    Certificate = 4,
}

impl Status {
    fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::Welcome,
            Self::Version,
            Self::Cluster,
            Self::Node,
            Self::Certificate,
        ];
        all.into_iter().find(|status| *status as u8 == byte)
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Welcome => "it did not",
            Self::Version => "it speaks another version of the protocol",
            Self::Cluster => "it belongs to another cluster",
            Self::Node => "another node listens there",
            Self::Certificate => "this node's certificate is that of another node",
        }
    }
}

fn hello(from: NodeId, to: NodeId, cluster: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 + cluster.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&from.to_le_bytes());
    bytes.extend_from_slice(&to.to_le_bytes());
    let length = u8::try_from(cluster.len()).expect("bind refuses longer names");
    bytes.push(length);
    bytes.extend_from_slice(cluster.as_bytes());
    bytes
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

/// Reads one frame. The buffer grows with what arrives, so a length that lies costs nothing.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let length = stream.read_u32_le().await? as usize;
    if length > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes is above the limit of {limit}"),
        ));
    }
    let mut payload = Vec::new();
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
