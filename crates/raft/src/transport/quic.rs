//! QUIC: each request is a stream of its own, so a lost packet of one holds up no other.
//!
//! A client opens a stream to say hello (`hello.rs`), and after the answer one for each request: the
//! request, end of stream; the answer, end of stream. QUIC is always within TLS, so both ends need
//! certificates ([`Tls`]). A peer that is down is known by its silence only: UDP does not tell.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AsyncTimer, AsyncUdpSocket, Connection, ConnectionError, Endpoint, EndpointConfig, Runtime,
    TokioRuntime, TransportConfig, VarInt,
};
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::links::Links;
use super::network::{Callee, accept};
use super::tls::PeerCertificate;
use super::wire::Proof;
use super::{BoxFuture, Handler, NetworkConfig, Tls, Transport, TransportError, hello};
use crate::types::NodeId;

/// What the two ends agree to speak, as TLS tells them.
const PROTOCOL: &[u8] = b"folio";
/// Requests of one peer under way at a time; more wait at the peer. Raft has a few.
const STREAMS_PER_PEER: u8 = 16;
/// A connection over which nothing came for so long is given up. Heartbeats are far more frequent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long peers are waited for to learn that this node stops.
const FAREWELL: Duration = Duration::from_millis(500);

/// Carries requests over QUIC.
pub struct QuicTransport {
    config: Arc<NetworkConfig>,
    tls: Tls,
    address: SocketAddr,
    tasks: Arc<Tasks>,
    /// None once stopped.
    endpoint: Mutex<Option<Endpoint>>,
    server: Mutex<Option<JoinHandle<()>>>,
    stop: watch::Sender<bool>,
    links: Links<Connection>,
}

impl QuicTransport {
    /// Listens on `address`, a UDP port. Port 0 takes a free one; see
    /// [`local_address`](Self::local_address). The configuration must have certificates.
    pub async fn bind(address: &str, config: NetworkConfig) -> Result<Arc<Self>, TransportError> {
        hello::check_cluster(&config.cluster)?;
        let failed = |reason: String| {
            TransportError::Serve(format!("listening on {address} for QUIC: {reason}"))
        };
        let Some(tls) = config.tls.clone() else {
            return Err(failed("QUIC needs certificates, and there are none".into()));
        };
        let mut addresses = lookup_host(address)
            .await
            .map_err(|e| failed(e.to_string()))?;
        let first = addresses.next();
        let first = first.ok_or_else(|| failed("the name has no address".into()))?;
        let tasks = Arc::new(Tasks::default());
        let endpoint = std::net::UdpSocket::bind(first)
            .and_then(|socket| {
                Endpoint::new(EndpointConfig::default(), None, socket, tasks.clone())
            })
            .map_err(|e| failed(e.to_string()))?;
        Ok(Arc::new(Self {
            address: endpoint.local_addr().map_err(|e| failed(e.to_string()))?,
            config: Arc::new(config),
            tls,
            tasks,
            endpoint: Mutex::new(Some(endpoint)),
            server: Mutex::new(None),
            stop: watch::Sender::new(false),
            links: Links::default(),
        }))
    }

    /// Where this node listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    async fn connect(
        &self,
        from: NodeId,
        callee: Callee<'_>,
    ) -> Result<Connection, TransportError> {
        let Callee { node: to, address } = callee;
        let endpoint = self.endpoint.lock().clone();
        let endpoint = endpoint.ok_or_else(|| callee.unreachable("this node has stopped"))?;
        let client = self.client_config();
        let client = client.map_err(|reason| callee.unreachable(reason))?;
        let connecting = async {
            let mut addresses = lookup_host(address).await?;
            let first = addresses.next().ok_or(io::ErrorKind::NotFound)?;
            let connecting = endpoint.connect_with(client, first, &format!("node-{to}"));
            let connection = connecting.map_err(io::Error::other)?.await?;
            let (send, receive) = connection.open_bi().await?;
            let mut stream = tokio::io::join(receive, send);
            let welcome = hello::say(&mut stream, from, to, &self.config.cluster).await?;
            io::Result::Ok(welcome.map(|()| connection))
        };
        callee.connected(&self.config, connecting, refusal).await
    }

    fn client_config(&self) -> Result<quinn::ClientConfig, String> {
        let mut tls = self.tls.client_config();
        tls.alpn_protocols = vec![PROTOCOL.to_vec()];
        let tls = QuicClientConfig::try_from(tls).map_err(|e| e.to_string())?;
        let mut client = quinn::ClientConfig::new(Arc::new(tls));
        client.transport_config(Arc::new(transport_config()));
        Ok(client)
    }

    async fn exchange(&self, connection: &Connection, request: &[u8]) -> io::Result<Vec<u8>> {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(request).await?;
        send.finish()?;
        let answer = receive.read_to_end(self.config.frame_limit).await;
        answer.map_err(io::Error::other)
    }

    async fn request(
        &self,
        from: NodeId,
        callee: Callee<'_>,
        request: &[u8],
    ) -> Result<Vec<u8>, TransportError> {
        loop {
            let linked = self.links.get(callee, self.connect(from, callee)).await?;
            let error = match self.exchange(&linked.connection, request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.links.give_up(callee, &linked).await;
            // Raft's requests may be repeated.
            if !linked.kept {
                return Err(callee.unreachable(error));
            }
        }
    }
}

impl Transport for QuicTransport {
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
            let answered = callee.answered(&self.config, request.len(), deadline, answer);
            let answered = answered.await;
            if let Err(TransportError::TimedOut { .. }) = answered {
                // A peer that was started anew does not know the connection and stays silent.
                self.links.forget(callee);
            }
            answered
        })
    }

    fn serve(&self, node: NodeId, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        let in_use = || TransportError::Serve("the transport is in use or stopped".into());
        let endpoint = self.endpoint.lock().clone().ok_or_else(in_use)?;
        let mut running = self.server.lock();
        if running.is_some() {
            return Err(in_use());
        }
        let server = Server {
            node,
            handler,
            config: self.config.clone(),
            tls: self.tls.clone(),
        };
        endpoint.set_server_config(Some(server.quic_config().map_err(TransportError::Serve)?));
        let serving = serve(endpoint, Arc::new(server), self.stop.subscribe());
        *running = Some(tokio::spawn(serving));
        Ok(())
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop.send_replace(true);
            let server = self.server.lock().take();
            if let Some(server) = server {
                // It ends by itself; an error means that it panicked or the runtime is ending.
                let _ = server.await;
            }
            self.links.clear();
            let endpoint = self.endpoint.lock().take();
            if let Some(endpoint) = endpoint {
                endpoint.close(VarInt::from_u32(0), b"the node stops");
                // Those that do not hear it find out by the silence.
                let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
            }
            self.tasks.end().await;
        })
    }
}

struct Server {
    node: NodeId,
    handler: Arc<dyn Handler>,
    config: Arc<NetworkConfig>,
    tls: Tls,
}

/// Serves connections until told to stop.
async fn serve(endpoint: Endpoint, server: Arc<Server>, stop: watch::Receiver<bool>) {
    let connection = |incoming: quinn::Incoming, permit| {
        let server = server.clone();
        async move {
            let peer = incoming.remote_address();
            if let Err(error) = server.connection(incoming).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(permit);
        }
    };
    let next = async || match endpoint.accept().await {
        Some(incoming) => incoming,
        // The endpoint is closed after this task has ended.
        None => std::future::pending().await,
    };
    accept(&server.config, stop, next, connection).await;
}

impl Server {
    fn quic_config(&self) -> Result<quinn::ServerConfig, String> {
        let mut tls = self.tls.server_config();
        tls.alpn_protocols = vec![PROTOCOL.to_vec()];
        let tls = QuicServerConfig::try_from(tls).map_err(|e| e.to_string())?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
        server.transport_config(Arc::new(transport_config()));
        Ok(server)
    }

    async fn connection(&self, incoming: quinn::Incoming) -> io::Result<()> {
        let config = Arc::new(self.quic_config().map_err(io::Error::other)?);
        let greeting = async {
            let connection = incoming.accept_with(config)?.await?;
            let proof = Proof::Certificate(certificate(&connection)?);
            let (send, receive) = connection.accept_bi().await?;
            let mut stream = tokio::io::join(receive, send);
            let from = hello::answer(&mut stream, self.node, &self.config.cluster, &proof).await?;
            let (_, mut send) = stream.into_inner();
            send.finish()?;
            // A refusal must have arrived before the connection ends.
            send.stopped().await.map_err(io::Error::other)?;
            io::Result::Ok((connection, from))
        };
        let greeted = tokio::time::timeout(hello::TIMEOUT, greeting).await??;
        let (connection, Some(from)) = greeted else {
            return Ok(());
        };
        let mut requests = JoinSet::new();
        loop {
            while requests.try_join_next().is_some() {}
            let (mut send, mut receive) = match connection.accept_bi().await {
                Ok(stream) => stream,
                Err(ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed) => {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            let handler = self.handler.clone();
            let limit = self.config.frame_limit;
            requests.spawn(async move {
                // What is too long, or given up by the peer, ends this stream and no other.
                let Ok(request) = receive.read_to_end(limit).await else {
                    return;
                };
                let answer = handler.handle(from, request).await;
                if send.write_all(&answer).await.is_ok() {
                    let _ = send.finish();
                }
            });
        }
    }
}

fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config.max_concurrent_bidi_streams(VarInt::from(STREAMS_PER_PEER));
    config.max_concurrent_uni_streams(VarInt::from_u32(0));
    config.datagram_receive_buffer_size(None);
    config.keep_alive_interval(Some(IDLE_TIMEOUT / 3));
    config.max_idle_timeout(Some(
        VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32).into(),
    ));
    config
}

fn certificate(connection: &Connection) -> io::Result<PeerCertificate> {
    let identity = connection.peer_identity();
    let certificates = identity.and_then(|any| any.downcast::<Vec<CertificateDer>>().ok());
    let first = certificates.and_then(|all| all.first().cloned());
    let first = first.ok_or_else(|| io::Error::other("the client has no certificate"))?;
    Ok(PeerCertificate::new(first.into_owned()))
}

/// What the two ends have against each other's certificates, if that is what `error` says.
fn refusal(error: &io::Error) -> Option<String> {
    let mut source = error.get_ref().map(|inner| inner as &dyn std::error::Error);
    while let Some(inner) = source {
        let code = match inner.downcast_ref::<ConnectionError>() {
            Some(ConnectionError::TransportError(error)) => Some(error.code),
            Some(ConnectionError::ConnectionClosed(close)) => Some(close.error_code),
            _ => None,
        };
        // RFC 9001, section 4.8: alerts of TLS.
        if let Some(code) = code {
            return (0x100..0x200)
                .contains(&u64::from(code))
                .then(|| error.to_string());
        }
        source = inner.source();
    }
    None
}

/// The tasks behind an endpoint: the address is free when they have ended.
#[derive(Default)]
struct Tasks(Mutex<Vec<JoinHandle<()>>>);

impl Tasks {
    async fn end(&self) {
        let tasks = std::mem::take(&mut *self.0.lock());
        for task in tasks {
            task.abort();
            // Cancelled, or ended before.
            let _ = task.await;
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tasks").field(&self.0.lock().len()).finish()
    }
}

impl Runtime for Tasks {
    fn new_timer(&self, at: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let mut tasks = self.0.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task));
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> std::time::Instant {
        TokioRuntime.now()
    }
}
