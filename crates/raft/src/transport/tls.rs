//! Mutual TLS: each end shows a certificate of the cluster's authority that names its node.
//!
//! A certificate is for the DNS name `node-` and the node's id, not for an address, so a node keeps
//! its certificate when it moves, and no node can pass for another. The authority is the cluster's
//! own: whoever has a certificate from it that names a node is that node.
//!
//! Certificates expire, so files are looked at again with each new connection. A connection keeps what
//! it began with.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::types::NodeId;

/// How long before its end a certificate that is read is warned of.
const WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// A node's certificate and key, and whom it trusts. Clones share them.
#[derive(Clone)]
pub struct Tls(Arc<Source>);

struct Source {
    files: Option<Files>,
    current: Mutex<Current>,
}

/// Where the certificates are read from.
struct Files {
    node: NodeId,
    /// The authority's certificate, the node's, its key.
    paths: [PathBuf; 3],
    /// The certificate of the authority for clients, if they are asked for certificates.
    clients: Option<PathBuf>,
}

/// What was read, and what the files were like before.
struct Current {
    stamps: Option<Vec<Stamp>>,
    /// The end of the node's certificate, if it was asked for and there is one.
    expires: Option<SystemTime>,
    configs: Configs,
}

/// What tells that a file has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// Another file may have taken its place within one tick of the clock that counts changes.
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

/// The same certificate in its three uses.
#[derive(Clone)]
struct Configs {
    /// As a node that calls another.
    calling: Arc<ClientConfig>,
    /// As a node that is called by another.
    called: Arc<ServerConfig>,
    /// As a server of clients that are no nodes.
    serving: Arc<ServerConfig>,
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
        /// Which of the inputs.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts do not go together.
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
    /// The node's certificate was good until some time ago.
    #[error("the certificate of node {node} expired {} ago: put a new one in its place", in_words(*.ago))]
    Expired {
        /// The node.
        node: NodeId,
        /// How long ago.
        ago: Duration,
    },
    /// The node's certificate begins to be good later.
    #[error("the certificate of node {node} is not valid yet, but in {}: is the clock right?", in_words(*.wait))]
    NotYet {
        /// The node.
        node: NodeId,
        /// How much later.
        wait: Duration,
    },
    /// The others would not take the certificate for that of this node.
    #[error(
        "the certificate is not one that the authority made for node {node}, with the DNS name node-{node}: {reason}"
    )]
    NotOurs {
        /// The node.
        node: NodeId,
        /// What is wrong with it.
        reason: String,
    },
}

impl Tls {
    /// From PEM: the certificate of the cluster's authority (one or more of them), this node's
    /// certificate followed by those between it and the authority, and its private key.
    ///
    /// The certificate of node 3 has the DNS name `node-3` and may be used for servers and clients. Whether
    /// the others will take it they find out; [`from_files`](Self::from_files) asks before.
    pub fn from_pem(authority: &[u8], certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let material = Material::parse(authority, certificates, key)?;
        Ok(Self(Arc::new(Source {
            files: None,
            current: Mutex::new(Current {
                stamps: None,
                expires: None,
                configs: material.configs(None)?,
            }),
        })))
    }

    /// The same from three files, for node `node`: its certificate must be valid now and be that of the
    /// node.
    ///
    /// With each new connection the files are looked at, and read again when one of them has changed. If what is there then cannot be used the old certificates stay, with a warning in
    /// the log: so files may be replaced one after the other.
    pub fn from_files(
        node: NodeId,
        authority: &Path,
        certificates: &Path,
        key: &Path,
    ) -> Result<Self, TlsError> {
        let paths = [authority, certificates, key].map(Path::to_path_buf);
        Self::of(Files {
            node,
            paths,
            clients: None,
        })
    }

    /// The same, with the certificate of an authority for clients (one or more of them) in a fourth file: clients are asked for
    /// a certificate. One that shows none is accepted as before; one whose certificate was made by somebody else, or is not
    /// valid now, is not.
    pub fn from_files_with_clients(
        node: NodeId,
        authority: &Path,
        certificates: &Path,
        key: &Path,
        clients: &Path,
    ) -> Result<Self, TlsError> {
        let paths = [authority, certificates, key].map(Path::to_path_buf);
        Self::of(Files {
            node,
            paths,
            clients: Some(clients.to_path_buf()),
        })
    }

    fn of(files: Files) -> Result<Self, TlsError> {
        let current = files.read()?;
        Ok(Self(Arc::new(Source {
            files: Some(files),
            current: Mutex::new(current),
        })))
    }

    /// When the certificate in use expires, if it came from files.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.current.lock().expires
    }

    /// What this node calls others with, to be changed for another protocol than TCP.
    #[cfg(feature = "quic")]
    pub(super) fn client_config(&self) -> ClientConfig {
        ClientConfig::clone(&self.0.configs().calling)
    }

    /// What others call this node with.
    #[cfg(feature = "quic")]
    pub(super) fn server_config(&self) -> ServerConfig {
        ServerConfig::clone(&self.0.configs().called)
    }

    /// Connects as a node, to node `to` and no other.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        to: NodeId,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let connector = TlsConnector::from(self.0.configs().calling);
        connector.connect(name(to)?, stream).await
    }

    /// Accepts a node that has a certificate of the authority.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.0.configs().called);
        acceptor.accept(stream).await
    }

    /// Accepts a client that is no node. It is shown this node's certificate, and asked for one if there is an authority for
    /// clients; with what it has shown.
    pub async fn accept_client(
        &self,
        stream: TcpStream,
    ) -> io::Result<(
        tokio_rustls::server::TlsStream<TcpStream>,
        Option<ClientCertificate>,
    )> {
        let acceptor = TlsAcceptor::from(self.0.configs().serving);
        let stream = acceptor.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(|all| all.first());
        let certificate = shown.map(ClientCertificate::read).transpose()?;
        Ok((stream, certificate))
    }
}

impl Source {
    /// The certificates, read again if they have changed.
    fn configs(&self) -> Configs {
        let mut current = self.current.lock();
        if let Some(files) = &self.files {
            files.refresh(&mut current);
        }
        current.configs.clone()
    }
}

impl Files {
    /// Reads the files if they have changed since.
    fn refresh(&self, current: &mut Current) {
        let stamps = self.stamps();
        if let Ok(stamps) = &stamps
            && current.stamps.as_ref() == Some(stamps)
        {
            return;
        }
        let node = self.node;
        match self.read() {
            Ok(read) => {
                tracing::info!(node, "the certificates have changed and were read again");
                *current = read;
            }
            Err(error) => {
                tracing::warn!(node, %error, "the certificates have changed, and the old ones are kept");
                // Not again before something changes, if it was read.
                let was_read = !matches!(error, TlsError::Read { .. });
                current.stamps = stamps.ok().filter(|_| was_read);
            }
        }
    }

    fn read(&self) -> Result<Current, TlsError> {
        // Before they are read: what changes meanwhile is seen the next time.
        let stamps = self.stamps()?;
        let read = |path: &PathBuf| std::fs::read(path).map_err(|source| unreadable(path, source));
        let [authority, certificates, key] = &self.paths;
        let material = Material::parse(&read(authority)?, &read(certificates)?, &read(key)?)?;
        let clients = match &self.clients {
            Some(file) => Some(roots(
                "the certificate of the authority for clients",
                &read(file)?,
            )?),
            None => None,
        };
        let end = material.check(self.node)?;
        let left = between(UnixTime::now(), end);
        if left < WARNING {
            tracing::warn!(
                node = self.node,
                "the certificate of this node expires in {}",
                in_words(left)
            );
        }
        Ok(Current {
            stamps: Some(stamps),
            expires: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end.as_secs())),
            configs: material.configs(clients)?,
        })
    }

    fn stamps(&self) -> Result<Vec<Stamp>, TlsError> {
        let all = self.paths.iter().chain(&self.clients);
        all.map(|path| Stamp::of(path)).collect()
    }
}

impl Stamp {
    fn of(path: &Path) -> Result<Self, TlsError> {
        let metadata = std::fs::metadata(path).map_err(|source| unreadable(path, source))?;
        Ok(Self {
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
        })
    }
}

/// Certificates and key as they were read.
struct Material {
    roots: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Material {
    fn parse(authority: &[u8], certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Ok(Self {
            roots: roots("the authority's certificate", authority)?,
            certificates: parse("the node's certificate", certificates)?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(|e| TlsError::Pem {
                what: "the node's private key",
                reason: e.to_string(),
            })?,
        })
    }

    /// `clients` are the authorities of clients that are no nodes.
    fn configs(self, clients: Option<Arc<RootCertStore>>) -> Result<Configs, TlsError> {
        let Self {
            roots,
            certificates,
            key,
        } = self;
        let provider = Arc::new(ring::default_provider());
        let server = || {
            ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&TLS13])
                .map_err(unusable)
        };
        let nodes = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(unusable)?;
        let mut called = server()?
            .with_client_cert_verifier(nodes)
            .with_single_cert(certificates.clone(), key.clone_key())
            .map_err(unusable)?;
        let serving = match clients {
            None => server()?.with_no_client_auth(),
            Some(clients) => {
                let known = WebPkiClientVerifier::builder_with_provider(clients, provider.clone());
                let known = known.allow_unauthenticated().build().map_err(unusable)?;
                server()?.with_client_cert_verifier(known)
            }
        };
        let mut serving = serving
            .with_single_cert(certificates.clone(), key.clone_key())
            .map_err(unusable)?;
        serving.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A session that is resumed shows no certificate, so an expired one would be good for as long as sessions are kept.
        for config in [&mut called, &mut serving] {
            config.send_tls13_tickets = 0;
        }
        let calling = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates, key)
            .map_err(unusable)?;
        Ok(Configs {
            calling: Arc::new(calling),
            called: Arc::new(called),
            serving: Arc::new(serving),
        })
    }

    /// Whether the other nodes will take the certificate for that of `node`; until when it is good.
    fn check(&self, node: NodeId) -> Result<UnixTime, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider)
            .build()
            .map_err(unusable)?;
        let name = name(node).map_err(unusable)?;
        let verify = |now: UnixTime| {
            let (first, others) = self
                .certificates
                .split_first()
                .ok_or_else(|| rustls::Error::General("there is no certificate".to_owned()))?;
            verifier.verify_server_cert(first, others, &name, &[], now)
        };
        let now = UnixTime::now();
        use CertificateError::{ExpiredContext, NotValidYetContext};
        match verify(now) {
            Ok(_) => {}
            Err(rustls::Error::InvalidCertificate(ExpiredContext { not_after, .. })) => {
                let ago = between(not_after, now);
                return Err(TlsError::Expired { node, ago });
            }
            Err(rustls::Error::InvalidCertificate(NotValidYetContext { not_before, .. })) => {
                let wait = between(now, not_before);
                return Err(TlsError::NotYet { node, wait });
            }
            Err(error) => {
                let reason = error.to_string();
                return Err(TlsError::NotOurs { node, reason });
            }
        }
        // Only the verifier reads dates, so it is asked about the end of time.
        let end = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
        Ok(match verify(end) {
            Err(rustls::Error::InvalidCertificate(ExpiredContext { not_after, .. })) => not_after,
            _ => end,
        })
    }
}

/// The time from a moment to a later one.
fn between(from: UnixTime, to: UnixTime) -> Duration {
    Duration::from_secs(to.as_secs().saturating_sub(from.as_secs()))
}

/// The certificate that a client has shown: made by the authority for clients, and valid when the connection began.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    der: Vec<u8>,
    names: Vec<String>,
}

impl ClientCertificate {
    fn read(certificate: &CertificateDer<'_>) -> io::Result<Self> {
        let parsed = webpki::EndEntityCert::try_from(certificate).map_err(io::Error::other)?;
        Ok(ClientCertificate {
            names: parsed
                .valid_dns_names()
                .map(str::to_ascii_lowercase)
                .collect(),
            der: certificate.to_vec(),
        })
    }

    /// All of it, in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The DNS names that it is for, in lower case.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// The certificate in a text in PEM, in DER; the first if there are several.
pub fn certificate_from_pem(pem: &[u8]) -> Result<Vec<u8>, TlsError> {
    let all = parse("the certificate", pem)?;
    Ok(all.first().map(|first| first.to_vec()).unwrap_or_default())
}

/// What a connection's client proved about itself.
pub(super) struct PeerCertificate(CertificateDer<'static>);

impl PeerCertificate {
    #[cfg(feature = "quic")]
    pub fn new(certificate: CertificateDer<'static>) -> Self {
        Self(certificate)
    }

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

/// What the two ends have against each other's certificates, if that is what `error` says.
pub(super) fn refusal(error: &io::Error) -> Option<String> {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    use rustls::AlertDescription::{CertificateExpired, UnknownCA};
    use rustls::Error::{AlertReceived, InvalidCertificate};

    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let reason = match error {
        InvalidCertificate(Expired | ExpiredContext { .. }) => "its certificate has expired",
        InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            "its certificate is not valid yet: compare the clocks"
        }
        InvalidCertificate(UnknownIssuer | BadSignature) => {
            "its certificate was made by another authority"
        }
        InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "its certificate is that of another node"
        }
        AlertReceived(CertificateExpired) => "to it this node's certificate has expired",
        AlertReceived(UnknownCA) => "to it this node's certificate is one of another authority",
        other => return Some(other.to_string()),
    };
    Some(reason.to_owned())
}

fn name(node: NodeId) -> io::Result<ServerName<'static>> {
    ServerName::try_from(format!("node-{node}")).map_err(io::Error::other)
}

fn roots(what: &'static str, pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in parse(what, pem)? {
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(Arc::new(roots))
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

fn unreadable(path: &Path, source: io::Error) -> TlsError {
    TlsError::Read {
        path: path.display().to_string(),
        source,
    }
}

/// A time in the largest unit of which there are at least two.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    for (unit, length) in [("days", 24 * 60 * 60), ("hours", 60 * 60), ("minutes", 60)] {
        if seconds >= 2 * length {
            return format!("{} {unit}", seconds / length);
        }
    }
    format!("{seconds} seconds")
}

// The key is nobody's business.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn files_that_were_not_read_are_read_again_and_wrong_ones_when_they_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["node-1".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        std::fs::write(at("authority"), &certificate).expect("room");
        std::fs::write(at("certificate"), &certificate).expect("room");
        std::fs::write(at("key"), key.serialize_pem()).expect("room");
        let tls = Tls::from_files(1, &at("authority"), &at("certificate"), &at("key"));
        let tls = tls.expect("sound");
        let seen_after = |change: &dyn Fn()| {
            change();
            tls.0.configs();
            tls.0.current.lock().stamps.is_some()
        };
        assert!(seen_after(
            &|| std::fs::write(at("key"), "no key").expect("room")
        ));
        // Like any other fault of reading, as that there are no descriptors.
        assert!(!seen_after(&|| {
            std::fs::remove_file(at("key")).expect("it is there");
            std::fs::create_dir(at("key")).expect("room");
        }));
    }
}
