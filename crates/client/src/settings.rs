//! Where the cluster is, and how a client talks to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::address::Address;
use crate::error::{Error, Result};

/// Where the cluster is, and how a client talks to it.
///
/// ```
/// use std::time::Duration;
/// use folio_client::Settings;
///
/// let settings = Settings::new(["http://127.0.0.1:7001", "http://127.0.0.1:7002"])?
///     .token("the token that `folio` gave out")
///     .deadline(Duration::from_secs(5));
/// # Ok::<(), folio_client::Error>(())
/// ```
#[derive(Clone)]
pub struct Settings {
    pub(crate) addresses: Vec<Address>,
    pub(crate) token: Option<String>,
    authority: Option<Vec<CertificateDer<'static>>>,
    identity: Option<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
    pub(crate) deadline: Duration,
    pub(crate) patience: Duration,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("addresses", &self.addresses)
            .field("deadline", &self.deadline)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// A cluster that has nodes at these addresses: `http://HOST:PORT`, `https://HOST:PORT`, or `HOST:PORT` for the first
    /// of these. Some of the nodes are enough; a redirect makes another one known.
    pub fn new<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Result<Self> {
        let addresses = addresses.into_iter();
        let addresses: Vec<Address> = addresses
            .map(|address| address.as_ref().parse())
            .collect::<Result<_>>()?;
        if addresses.is_empty() {
            return Err(Error::Setting("name at least one node".into()));
        }
        Ok(Settings {
            addresses,
            token: None,
            authority: None,
            identity: None,
            deadline: Duration::from_secs(30),
            patience: Duration::from_secs(5),
        })
    }

    /// Says who the client is: sent as `Authorization: Bearer` with every request.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Trusts nodes whose certificate is of the authority in this PEM file; needed for `https://`.
    pub fn authority(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.authority = Some(certificates(file.as_ref())?);
        Ok(self)
    }

    /// Says who the client is by a certificate and its key, both PEM files.
    pub fn identity(
        mut self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self> {
        let path = key.as_ref();
        let key = PrivateKeyDer::from_pem_file(path);
        let key = key.map_err(|error| unusable(path, &error.to_string()))?;
        self.identity = Some((certificates(certificate.as_ref())?, Arc::new(key)));
        Ok(self)
    }

    /// How long a call goes on trying, 30 s if nothing is said.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long one node may take before another one is asked, 5 s if nothing is said. Only for what may be repeated.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What connections to `https://` are made with.
    pub(crate) fn tls(&self) -> Result<Option<Arc<ClientConfig>>> {
        let secure = self.addresses.iter().any(|address| address.secure);
        let Some(authority) = self.authority.as_ref().filter(|_| secure) else {
            return match (secure, self.authority.is_some() || self.identity.is_some()) {
                (true, _) => Err(Error::Setting(
                    "whom to trust at https://? Name the certificate of the cluster's authority"
                        .into(),
                )),
                (false, true) => Err(Error::Setting(
                    "certificates mean nothing where nothing is encrypted: write https://".into(),
                )),
                (false, false) => Ok(None),
            };
        };
        let wrong = |error: &dyn std::fmt::Display| Error::Setting(error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in authority {
            roots
                .add(certificate.clone())
                .map_err(|error| wrong(&error))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&error))?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| wrong(&error))?,
        };
        Ok(Some(Arc::new(config)))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(|found| found.collect::<std::result::Result<Vec<_>, _>>())
        .map_err(|error| unusable(file, &error.to_string()))?;
    match found.is_empty() {
        true => Err(unusable(file, "there is no certificate in it")),
        false => Ok(found),
    }
}

fn unusable(file: &Path, reason: &str) -> Error {
    Error::Setting(format!("{}: {reason}", file.display()))
}
