//! Listening for clients that speak TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use folio_api::MEDIA_TYPE;
use folio_raft::transport::Tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::api::problem::Problem;

/// Handshakes under way at a time; further clients have to wait.
const HANDSHAKES: usize = 256;
/// How long a client may take for its handshake.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first byte of a handshake. No request in plain HTTP begins with it.
const HANDSHAKE: u8 = 22;
/// Bytes of a plain request that are read, so that its answer is not lost.
const PLAIN_BYTES: u64 = 64 << 10;

/// Accepts connections and hands out those whose handshake is done.
pub struct TlsListener {
    listener: TcpListener,
    tls: Tls,
    handshakes: JoinSet<io::Result<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    /// Clients of `listener` are shown the certificate of `tls`.
    pub fn new(listener: TcpListener, tls: Tls) -> Self {
        Self {
            listener,
            tls,
            handshakes: JoinSet::new(),
        }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.handshakes.len() < HANDSHAKES => {
                    match accepted {
                        Ok((stream, peer)) => {
                            let greeting = greet(self.tls.clone(), stream);
                            self.handshakes.spawn(async move {
                                let stream = tokio::time::timeout(PATIENCE, greeting).await??;
                                Ok((stream, peer))
                            });
                        }
                        Err(error) => {
                            // Out of descriptors, most likely: trying again at once would only spin.
                            tracing::warn!(%error, "cannot accept a client");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
                Some(greeted) = self.handshakes.join_next() => match greeted {
                    Ok(Ok(client)) => return client,
                    Ok(Err(error)) => tracing::debug!(%error, "a client is refused"),
                    Err(error) => tracing::error!(%error, "a handshake ended early"),
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn greet(tls: Tls, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? > 0 && first != [HANDSHAKE] {
        stream.write_all(answer_to_plain()?.as_bytes()).await?;
        stream.shutdown().await?;
        let mut request = (&mut stream).take(PLAIN_BYTES);
        tokio::io::copy(&mut request, &mut tokio::io::sink()).await?;
        return Err(io::Error::other("it does not speak TLS"));
    }
    tls.accept_client(stream).await
}

/// The answer to a request in plain HTTP.
fn answer_to_plain() -> io::Result<String> {
    let document = serde_json::to_string(&Problem::https_required().document())?;
    Ok(format!(
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {}\r\n\r\n{document}",
        document.len()
    ))
}
