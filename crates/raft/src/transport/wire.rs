//! A TCP connection, as it is or within TLS.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;

use super::NetworkConfig;
use crate::types::NodeId;

/// What a connection must be able to do.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Wire for T {}

/// Read through a buffer: a frame takes one call of the system and not several.
pub(super) type Stream = BufReader<Box<dyn Wire>>;

fn buffered(wire: impl Wire + 'static) -> Stream {
    BufReader::new(Box::new(wire))
}

/// What a client has to show for the node id that it gives.
pub(super) enum Proof {
    /// Nobody is asked for a proof.
    Nothing,
    #[cfg(feature = "tls")]
    Certificate(super::tls::PeerCertificate),
}

impl Proof {
    #[cfg_attr(not(feature = "tls"), expect(unused_variables))]
    pub fn allows(&self, node: NodeId) -> bool {
        match self {
            Self::Nothing => true,
            #[cfg(feature = "tls")]
            Self::Certificate(certificate) => certificate.names(node),
        }
    }
}

/// A connection to node `to`, within TLS if `config` has a certificate.
#[cfg(feature = "tls")]
pub(super) async fn connect(
    config: &NetworkConfig,
    stream: TcpStream,
    to: NodeId,
) -> io::Result<Stream> {
    match &config.tls {
        Some(tls) => Ok(buffered(tls.connect(stream, to).await?)),
        None => Ok(buffered(stream)),
    }
}

/// A connection from a client, and what that has proved about itself.
#[cfg(feature = "tls")]
pub(super) async fn accept(
    config: &NetworkConfig,
    stream: TcpStream,
) -> io::Result<(Stream, Proof)> {
    let Some(tls) = &config.tls else {
        return Ok((buffered(stream), Proof::Nothing));
    };
    let stream = tls.accept(stream).await?;
    let certificate = super::tls::PeerCertificate::of(&stream)?;
    Ok((buffered(stream), Proof::Certificate(certificate)))
}

/// What the two ends have against each other's certificates, if a connection failed because of that
/// and not because of the network.
#[cfg(feature = "tls")]
pub(super) fn refusal(error: &io::Error) -> Option<String> {
    super::tls::refusal(error)
}

#[cfg(not(feature = "tls"))]
pub(super) async fn connect(_: &NetworkConfig, stream: TcpStream, _: NodeId) -> io::Result<Stream> {
    Ok(buffered(stream))
}

#[cfg(not(feature = "tls"))]
pub(super) async fn accept(_: &NetworkConfig, stream: TcpStream) -> io::Result<(Stream, Proof)> {
    Ok((buffered(stream), Proof::Nothing))
}

#[cfg(not(feature = "tls"))]
pub(super) fn refusal(_: &io::Error) -> Option<String> {
    None
}
