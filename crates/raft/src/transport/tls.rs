//! Mutual TLS: each end shows a certificate of the cluster's authority that names its node.
//!
//! A certificate is for the DNS name `node-` and the node's id, not for an address, so a node keeps
//! its certificate when it moves, and no node can pass for another. The authority is the cluster's
//! own: whoever has a certificate from it that names a node is that node.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::types::NodeId;

/// A node's certificate and key, and whom it trusts. Clones share them.
#[derive(Clone)]
pub struct Tls {
    client: TlsConnector,
    server: TlsAcceptor,
}

/// Why the certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something is missing or is not PEM.
    #[error("{what}: {reason}")]
    Pem {
        /// Which of the three inputs.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts do not go together.
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

impl Tls {
    /// From PEM: the certificate of the cluster's authority (one or more of them), this node's
    /// certificate followed by those between it and the authority, and its private key.
    ///
    /// The certificate of node 3 has the DNS name `node-3` and may be used for servers and clients.
    pub fn from_pem(authority: &[u8], certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in parse("the authority's certificate", authority)? {
            roots.add(certificate).map_err(unusable)?;
        }
        let roots = Arc::new(roots);
        let certificates = parse("the node's certificate", certificates)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| TlsError::Pem {
            what: "the node's private key",
            reason: e.to_string(),
        })?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(unusable)?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates.clone(), key.clone_key())
            .map_err(unusable)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates, key)
            .map_err(unusable)?;
        Ok(Self {
            client: Arc::new(client).into(),
            server: Arc::new(server).into(),
        })
    }

    /// The same from three files.
    pub fn from_files(authority: &Path, certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read {
                path: path.display().to_string(),
                source,
            })
        };
        Self::from_pem(&read(authority)?, &read(certificates)?, &read(key)?)
    }

    /// Connects as a client, to node `to` and no other.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        to: NodeId,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        self.client.connect(name(to)?, stream).await
    }

    /// Accepts a client that has a certificate of the authority.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
        self.server.accept(stream).await
    }
}

/// What a connection's client proved about itself.
pub(super) struct PeerCertificate(CertificateDer<'static>);

impl PeerCertificate {
    pub fn of(stream: &tokio_rustls::server::TlsStream<TcpStream>) -> io::Result<Self> {
        let certificates = stream.get_ref().1.peer_certificates();
        let first = certificates.and_then(|all| all.first());
        let first = first.ok_or_else(|| io::Error::other("the client has no certificate"))?;
        Ok(Self(first.clone().into_owned()))
    }

    /// Whether it is that of `node`.
    pub fn names(&self, node: NodeId) -> bool {
        let (Ok(name), Ok(parsed)) = (name(node), ParsedCertificate::try_from(&self.0)) else {
            return false;
        };
        verify_server_name(&parsed, &name).is_ok()
    }
}

/// Whether `error` is TLS's own.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(|inner| inner.is::<rustls::Error>())
}

fn name(node: NodeId) -> io::Result<ServerName<'static>> {
    ServerName::try_from(format!("node-{node}")).map_err(io::Error::other)
}

fn parse(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refused = |reason| TlsError::Pem { what, reason };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|e| refused(e.to_string()))?;
    match all.is_empty() {
        true => Err(refused("there is no certificate in it".into())),
        false => Ok(all),
    }
}

fn unusable(error: impl fmt::Display) -> TlsError {
    TlsError::Unusable(error.to_string())
}

// The key is nobody's business.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
