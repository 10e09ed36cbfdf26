//! gRPC, for networks in which meshes and proxies stand between the nodes.
//!
//! One unary method, `/folio.raft.v1.Raft/Call`, carries a request and its answer as they are,
//! without protobuf: their encoding is Folio's own on every transport. Calls to one peer share a
//! connection. Each says in its metadata what a hello says elsewhere (`hello.rs`):
//!
//! ```text
//! folio-version, folio-from, folio-to: decimal numbers; folio-cluster-bin: the name's bytes
//! ```
//! Who is refused gets the status `FAILED_PRECONDITION`, or `PERMISSION_DENIED` if its certificate is
//! that of another node, and the reason in words.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{AsciiMetadataKey, MetadataMap, MetadataValue};
use tonic::server::UnaryService;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::Service;

use super::links::Links;
use super::network::{Callee, accept, accept_tcp};
use super::wire::{self, Proof, Stream};
use super::{BoxFuture, Handler, NetworkConfig, Transport, TransportError, hello};
use crate::types::NodeId;

const PATH: &str = "/folio.raft.v1.Raft/Call";
const VERSION: &str = "folio-version";
const FROM: &str = "folio-from";
const TO: &str = "folio-to";
const CLUSTER: &str = "folio-cluster-bin";
/// Requests of one peer under way at a time; more wait at the peer. Raft has a few.
const STREAMS_PER_PEER: u32 = 16;
/// How long calls under way may take to end when the node stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Carries requests over gRPC.
pub struct GrpcTransport {
    config: Arc<NetworkConfig>,
    address: SocketAddr,
    /// Taken by [`serve`](Transport::serve).
    listener: Mutex<Option<TcpListener>>,
    server: Mutex<Option<JoinHandle<()>>>,
    stop: watch::Sender<bool>,
    links: Links<Peer>,
}

impl GrpcTransport {
    /// Listens on `address`. Port 0 takes a free one; see [`local_address`](Self::local_address).
    pub async fn bind(address: &str, config: NetworkConfig) -> Result<Arc<Self>, TransportError> {
        let failed = |e: io::Error| TransportError::Serve(format!("listening on {address}: {e}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Arc::new(Self {
            address: listener.local_addr().map_err(failed)?,
            config: Arc::new(config),
            listener: Mutex::new(Some(listener)),
            server: Mutex::new(None),
            stop: watch::Sender::new(false),
            links: Links::default(),
        }))
    }

    /// Where this node listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    async fn connect(&self, callee: Callee<'_>) -> Result<Peer, TransportError> {
        let Callee { node: to, address } = callee;
        let refusal = Refusal::default();
        let (config, peer, noted) = (self.config.clone(), address.to_owned(), refusal.clone());
        let connector = tower::service_fn(move |_: http::Uri| {
            let (config, peer, noted) = (config.clone(), peer.clone(), noted.clone());
            async move {
                let stream = TcpStream::connect(&peer).await?;
                stream.set_nodelay(true)?;
                let stream = wire::connect(&config, stream, to).await;
                let stream = stream.inspect_err(|error| noted.note(error))?;
                io::Result::Ok(TokioIo::new(Io {
                    stream,
                    more: noted,
                }))
            }
        });
        // The name is for the requests' headers only; the certificate is checked beneath.
        let endpoint =
            Endpoint::from_static("http://folio").connect_timeout(self.config.connect_timeout);
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => Ok(Peer { channel, refusal }),
            Err(error) => Err(refusal.or_unreachable(callee, &error)),
        }
    }

    async fn exchange(
        &self,
        channel: Channel,
        from: NodeId,
        to: NodeId,
        request: &[u8],
    ) -> Result<Vec<u8>, Status> {
        let mut client = tonic::client::Grpc::new(channel)
            .max_decoding_message_size(self.config.frame_limit)
            .max_encoding_message_size(self.config.frame_limit);
        client
            .ready()
            .await
            .map_err(|error| Status::from_error(error.into()))?;
        let mut call = tonic::Request::new(request.to_vec());
        let metadata = call.metadata_mut();
        for (key, number) in [(VERSION, u64::from(hello::VERSION)), (FROM, from), (TO, to)] {
            metadata.insert(AsciiMetadataKey::from_static(key), number.into());
        }
        let cluster = MetadataValue::from_bytes(self.config.cluster.as_bytes());
        metadata.insert_bin(CLUSTER, cluster);
        let path = PathAndQuery::from_static(PATH);
        Ok(client.unary(call, path, Plain).await?.into_inner())
    }

    async fn request(
        &self,
        from: NodeId,
        callee: Callee<'_>,
        request: &[u8],
    ) -> Result<Vec<u8>, TransportError> {
        loop {
            let linked = self.links.get(callee, self.connect(callee)).await?;
            let Peer { channel, refusal } = linked.connection.clone();
            let status = match self.exchange(channel, from, callee.node, request).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            if let Code::FailedPrecondition | Code::PermissionDenied = status.code() {
                return Err(callee.refused(status.message()));
            }
            self.links.give_up(callee, &linked).await;
            // Raft's requests may be repeated.
            if !linked.kept {
                return Err(refusal.or_unreachable(callee, &status));
            }
        }
    }
}

/// A connection to a peer.
#[derive(Clone)]
struct Peer {
    channel: Channel,
    refusal: Refusal,
}

/// Why TLS ended a connection. HTTP/2 makes a mere text of it.
#[derive(Clone, Default)]
struct Refusal(Arc<OnceLock<String>>);

impl Refusal {
    /// What a failed connection means: that it was refused, or why the peer cannot be reached.
    fn or_unreachable(&self, callee: Callee<'_>, error: &dyn std::error::Error) -> TransportError {
        if let Some(reason) = self.0.get() {
            return callee.refused(reason);
        }
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        callee.unreachable(innermost)
    }
}

impl Transport for GrpcTransport {
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
        let service = RaftService(Arc::new(Server {
            node,
            handler,
            config: self.config.clone(),
            stop: self.stop.subscribe(),
        }));
        *self.server.lock() = Some(tokio::spawn(serve(listener, service)));
        Ok(())
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop.send_replace(true);
            self.listener.lock().take();
            self.links.clear();
            let server = self.server.lock().take();
            if let Some(server) = server {
                // It ends by itself; an error means that it panicked or the runtime is ending.
                let _ = server.await;
            }
        })
    }
}

struct Server {
    node: NodeId,
    handler: Arc<dyn Handler>,
    config: Arc<NetworkConfig>,
    stop: watch::Receiver<bool>,
}

/// Serves until told to stop.
async fn serve(listener: TcpListener, service: RaftService) {
    let (sender, accepted) = mpsc::channel(1);
    let accepting = tokio::spawn(hand_on(listener, service.0.clone(), sender));
    let frame_limit = service.0.config.frame_limit;
    let (told, told_too) = (stopped(&service), stopped(&service));
    let too_long = async {
        told_too.await;
        tokio::time::sleep(FAREWELL).await;
    };
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_PER_PEER)
        // A message passes without waiting for the window to open.
        .initial_stream_window_size(window(frame_limit))
        .initial_connection_window_size(window(2 * frame_limit))
        .tcp_nodelay(true);
    let incoming = ReceiverStream::new(accepted);
    tokio::select! {
        served = server.serve_with_incoming_shutdown(service, incoming, told) => {
            if let Err(error) = served {
                tracing::warn!(%error, "the gRPC server ended");
            }
        }
        () = too_long => tracing::debug!("calls were under way when the node stopped"),
    }
    // It ends when it is told to stop, or when nobody takes its connections.
    let _ = accepting.await;
}

/// Ends when the node is told to stop.
fn stopped(service: &RaftService) -> impl Future<Output = ()> + use<> {
    let mut stop = service.0.stop.clone();
    async move {
        // An error means that the transport is gone, which is as good.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

fn window(bytes: usize) -> u32 {
    // HTTP/2 has windows of up to 31 bits.
    u32::try_from(bytes).map_or(i32::MAX as u32, |bytes| bytes.min(i32::MAX as u32))
}

/// Accepts connections until told to stop; those that come through TLS in time are handed on.
async fn hand_on(
    listener: TcpListener,
    server: Arc<Server>,
    accepted: mpsc::Sender<io::Result<Io<Caller>>>,
) {
    let connection = |(stream, peer): (TcpStream, SocketAddr), permit| {
        let (server, accepted) = (server.clone(), accepted.clone());
        async move {
            let shaken = async {
                stream.set_nodelay(true)?;
                wire::accept(&server.config, stream).await
            };
            match tokio::time::timeout(hello::TIMEOUT, shaken).await {
                Ok(Ok((stream, proof))) => {
                    let more = Caller {
                        proof: Arc::new(proof),
                        _permit: permit,
                    };
                    // Nobody takes it when the node stops.
                    let _ = accepted.send(Ok(Io { stream, more })).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "connection ended"),
                Err(_) => tracing::debug!(%peer, "connection ended: no TLS in time"),
            }
        }
    };
    let next = || accept_tcp(&listener);
    accept(&server.config, server.stop.clone(), next, connection).await;
}

/// A connection, and what else belongs to it.
struct Io<T> {
    stream: Stream,
    more: T,
}

/// What learns of the errors of a connection.
trait Note: Unpin {
    fn note(&self, error: &io::Error);
}

impl Note for Refusal {
    fn note(&self, error: &io::Error) {
        if let Some(reason) = wire::refusal(error) {
            // The first one counts.
            let _ = self.0.set(reason);
        }
    }
}

/// What a peer that connected here has proved.
struct Caller {
    proof: Arc<Proof>,
    /// A place among those that may be connected at a time.
    _permit: OwnedSemaphorePermit,
}

impl Note for Caller {
    fn note(&self, _: &io::Error) {}
}

impl Connected for Io<Caller> {
    type ConnectInfo = Arc<Proof>;

    fn connect_info(&self) -> Arc<Proof> {
        self.more.proof.clone()
    }
}

impl<T: Note> AsyncRead for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        read.map_err(|error| {
            self.more.note(&error);
            error
        })
    }
}

impl<T: Note> AsyncWrite for Io<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[derive(Clone)]
struct RaftService(Arc<Server>);

impl Service<http::Request<Body>> for RaftService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != PATH {
                let status = Status::unimplemented("a Folio node serves other nodes here");
                return Ok(status.into_http());
            }
            let limit = service.0.config.frame_limit;
            let mut grpc = tonic::server::Grpc::new(Plain)
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit);
            Ok(grpc.unary(service, request).await)
        })
    }
}

impl UnaryService<Vec<u8>> for RaftService {
    type Response = Vec<u8>;
    type Future = BoxFuture<'static, Result<tonic::Response<Vec<u8>>, Status>>;

    fn call(&mut self, request: tonic::Request<Vec<u8>>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move {
            let from = server.greet(&request)?;
            let answer = server.handler.handle(from, request.into_inner()).await;
            Ok(tonic::Response::new(answer))
        })
    }
}

impl Server {
    /// Who calls, if it is one of the cluster's nodes and looks for this one.
    fn greet(&self, request: &tonic::Request<Vec<u8>>) -> Result<NodeId, Status> {
        if *self.stop.borrow() {
            return Err(Status::unavailable("the node stops"));
        }
        let metadata = request.metadata();
        let version = number(metadata, VERSION)?;
        if version != u64::from(hello::VERSION) {
            return Err(Status::failed_precondition(hello::other_version(
                hello::VERSION,
                version,
            )));
        }
        let (from, to) = (number(metadata, FROM)?, number(metadata, TO)?);
        let cluster = metadata
            .get_bin(CLUSTER)
            .and_then(|name| name.to_bytes().ok());
        if cluster.as_deref() != Some(self.config.cluster.as_bytes()) {
            return Err(Status::failed_precondition(hello::OTHER_CLUSTER));
        }
        if to != self.node {
            return Err(Status::failed_precondition(hello::OTHER_NODE));
        }
        let proof = request.extensions().get::<Arc<Proof>>();
        if !proof.is_some_and(|proof| proof.allows(from)) {
            return Err(Status::permission_denied(hello::OTHER_CERTIFICATE));
        }
        Ok(from)
    }
}

fn number(metadata: &MetadataMap, key: &str) -> Result<u64, Status> {
    let value = metadata.get(key).and_then(|value| value.to_str().ok());
    let number = value.and_then(|text| text.parse().ok());
    number.ok_or_else(|| Status::invalid_argument(format!("the metadata has no number {key}")))
}

/// Messages as they are.
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}
