//! Serving the API: connections, whatever is within them, and how much of a node strangers can hold on to.
//!
//! A connection either has a request under way or waits: for a handshake, the head of a request, or the next one. One
//! that waits has [`Limits::waiting`] for that, and gives way when the room for connections is used up, the one that has
//! waited longest first. So nobody is kept out by clients that say nothing, or little at a time. When all have
//! requests under way, one more is answered 503.
//!
//! Bodies and answers have deadlines of their own: a request and its body in `api`, what a client does not take in
//! [`Paced`].

mod connections;
mod paced;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::Request;
use folio_api::MEDIA_TYPE;
use folio_raft::transport::Tls;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::access::Certificate;
use crate::api::problem::Problem;
use connections::{Busy, Connections, Place, Sending};
use paced::Paced;

/// The first byte of a handshake. No request in plain HTTP begins with it.
const HANDSHAKE: u8 = 22;
/// Bytes of a request that are read and dropped, so that its answer is not lost.
const DROPPED_BYTES: u64 = 64 << 10;
/// The longest head of a request, in bytes: room for the longest key in a path, percent-encoded.
const HEAD_BYTES: usize = 64 << 10;
/// The headers of a request at most.
const HEADERS: usize = 64;
/// Connections that are told at a time that there is no room for them; others are just closed.
const REFUSALS: usize = 64;

/// How much of a node its clients can hold on to.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// How long a connection may wait for a handshake.
    pub handshake: Duration,
    /// How long a connection may wait for the whole head of a request, from its begin or from the end of the request before.
    pub waiting: Duration,
    /// How long the body of a request may take to come.
    pub body: Duration,
    /// The bytes of bodies of requests that are kept at a time, from when they come until the request is answered. What
    /// is read from them may take several times as much.
    pub body_bytes: usize,
    /// How long a client may take nothing of an answer, or less than a KiB a second.
    pub stalled: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            handshake: Duration::from_secs(5),
            waiting: Duration::from_secs(60),
            body: Duration::from_secs(30),
            body_bytes: 64 << 20,
            stalled: Duration::from_secs(30),
        }
    }
}

/// Serves `router` on `listener`, within TLS if there are certificates, until `stop` ends; and then what is under way.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let server = Arc::new(Server {
        router,
        tls,
        connections: Connections::new(limits.connections),
        limits,
        stopping: watch::Sender::new(false),
        refusals: Arc::new(Semaphore::new(REFUSALS)),
    });
    let mut tasks = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        while tasks.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => server.clone().admit(stream, &mut tasks).await,
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only spin.
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    server.stopping.send_replace(true);
    while tasks.join_next().await.is_some() {}
}

struct Server {
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    connections: Connections,
    stopping: watch::Sender<bool>,
    refusals: Arc<Semaphore>,
}

impl Server {
    /// Gives a connection a place, and serves it there.
    async fn admit(self: Arc<Self>, stream: TcpStream, tasks: &mut JoinSet<()>) {
        let Some(place) = self.connections.enter().await else {
            if let Ok(permit) = self.refusals.clone().try_acquire_owned() {
                tasks.spawn(async move {
                    let refused = self.refuse(stream);
                    drop(tokio::time::timeout(self.limits.handshake, refused).await);
                    drop(permit);
                });
            }
            return;
        };
        let place = Arc::new(place);
        let served = place.clone();
        let task = tasks.spawn(async move {
            if let Err(error) = self.connection(stream, served).await {
                tracing::debug!(%error, "a connection ended");
            }
        });
        place.is_served_by(task);
    }

    async fn connection(&self, mut stream: TcpStream, place: Arc<Place>) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return self.requests(stream, place, None).await;
        };
        let greeting = async {
            let mut first = [0];
            if stream.peek(&mut first).await? > 0 && first != [HANDSHAKE] {
                let problem = Problem::https_required();
                answer(&mut stream, "400 Bad Request", &problem).await?;
                return Ok(None);
            }
            tls.accept_client(stream).await.map(Some)
        };
        match tokio::time::timeout(self.limits.handshake, greeting).await?? {
            Some((stream, certificate)) => {
                let certificate = certificate.map(|shown| Arc::new(Certificate::from(shown)));
                self.requests(stream, place, certificate).await
            }
            None => Ok(()),
        }
    }

    /// Answers the requests on a connection whose client has shown this certificate.
    async fn requests<S>(
        &self,
        stream: S,
        place: Arc<Place>,
        certificate: Option<Arc<Certificate>>,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone();
        let sending = Sending::default();
        let paced = Paced::new(stream, self.limits.stalled, sending.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            if let Some(certificate) = certificate.clone() {
                request.extensions_mut().insert(certificate);
            }
            let (router, place, sending) = (router.clone(), place.clone(), sending.clone());
            async move {
                let busy = Some(place.begin().await);
                let response = router.oneshot(request.map(Body::new)).await?;
                Ok::<_, Infallible>(response.map(|body| Answering {
                    body,
                    busy,
                    sending,
                }))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.waiting)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(paced), service);
        let mut connection = pin!(connection);
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            ended = &mut connection => return ended.map_err(io::Error::other),
            _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        connection.await.map_err(io::Error::other)
    }

    /// Tells a client that there is no room for it. Within TLS that would take a handshake, and it is just closed.
    async fn refuse(&self, mut stream: TcpStream) -> io::Result<()> {
        if self.tls.is_some() {
            return Ok(());
        }
        let problem = Problem::too_many_connections(self.limits.connections);
        answer(
            &mut stream,
            "503 Service Unavailable\r\nRetry-After: 1",
            &problem,
        )
        .await
    }
}

/// Answers a request without looking at it, and closes the connection.
async fn answer(stream: &mut TcpStream, status: &str, problem: &Problem) -> io::Result<()> {
    let document = serde_json::to_string(&problem.document()).map_err(io::Error::other)?;
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {}\r\n\r\n",
        document.len()
    );
    stream.write_all((head + &document).as_bytes()).await?;
    stream.shutdown().await?;
    // What is not read when the connection is closed may take the answer with it.
    let mut request = stream.take(DROPPED_BYTES);
    tokio::io::copy(&mut request, &mut tokio::io::sink()).await?;
    Ok(())
}

/// An answer on its way. The request is under way until it is sent, which is later than it is taken from here.
struct Answering {
    body: Body,
    busy: Option<Busy>,
    sending: Sending,
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(busy) = self.busy.take() {
            self.sending.begin(busy);
        }
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_not_sent_yet_does_not_give_way() {
        const LENGTH: usize = 100_000;
        let large = get(async || vec![b'x'; LENGTH]);
        let server = Server {
            router: Router::new().route("/", large),
            tls: None,
            limits: Limits::default(),
            connections: Connections::new(1),
            stopping: watch::Sender::new(false),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
        };
        let connections = server.connections.clone();
        let place = Arc::new(connections.enter().await.expect("there is room"));
        let held = place.clone();
        let (near, mut far) = tokio::io::duplex(1024);
        let task = tokio::spawn(async move { server.requests(near, held, None).await });
        place.is_served_by(task.abort_handle());
        drop(place);
        far.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            .await
            .expect("it is read");
        let mut first = [0];
        far.read_exact(&mut first).await.expect("it is answered");
        assert!(connections.enter().await.is_none());
        let mut end = Vec::new();
        while !end.ends_with(&[b'x'; 1000]) || end.len() < LENGTH {
            far.read_buf(&mut end).await.expect("it is answered");
        }
        // Sent, and so it waits for the next request.
        while connections.enter().await.is_none() {
            tokio::task::yield_now().await;
        }
        assert!(task.await.expect_err("it gave way").is_cancelled());
    }
}
