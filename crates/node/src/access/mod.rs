//! Who a client is, and what it may do.
//!
//! Clients are named in a file ([`Clients`]), each with a token or a certificate and with roles. A request, or the
//! connection that it comes on, shows what it has, and every route says what it needs (`rules.rs`). A route without a rule is not served.
//!
//! A thread of its own looks at the file every second, and reads it again when it is another one than before: who is
//! taken out of it is refused from then on, whatever connection it has, and a feed that it follows ends. No request
//! waits for a file.

mod clients;
mod rules;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{fs, io, thread};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use folio_raft::transport::ClientCertificate;
use tokio::sync::watch;

pub use clients::{Client, Clients, Credential, ParseError, Rights, Role, Vaults};
pub(crate) use rules::{Need, Rules};

use crate::api::problem::Problem;

/// The largest file of clients that is read, in bytes: several thousand of them.
const MAX_FILE: u64 = 1 << 20;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// The clients of a node. Clones share them.
#[derive(Clone)]
pub struct Access(Option<Arc<Source>>);

struct Source {
    path: PathBuf,
    clients: watch::Sender<Arc<Clients>>,
    /// Whether the file could not be used when it was looked at last, and the clients are those of an earlier one.
    outdated: AtomicBool,
}

/// What tells that a file has changed: its inode, the times of its last changes, and its length.
type Stamp = [i64; 6];

/// Why the clients are not known.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file is not one of clients.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Everybody who has an account on the machine could make themselves a client.
    #[error(
        "{path} can be written by everybody on this machine: take that away with `chmod o-w {path}`"
    )]
    Writable {
        /// The file.
        path: String,
    },
}

impl Access {
    /// Everybody may do everything.
    #[must_use]
    pub fn open() -> Self {
        Access(None)
    }

    /// Only the clients in a file may do anything, and only what it says. [`Clients`] has its form.
    ///
    /// A file that cannot be used when it is read again later changes nothing but the log and the metric
    /// `folio_clients_outdated`.
    pub fn from_file(path: &Path) -> Result<Self, AccessError> {
        // Before it is read: what changes meanwhile is seen the next time.
        let stamp = stamp(path).ok();
        let source = Arc::new(Source {
            path: path.to_owned(),
            clients: watch::Sender::new(Arc::new(read(path)?)),
            outdated: AtomicBool::new(false),
        });
        let watched = Arc::downgrade(&source);
        let watching = thread::Builder::new().name("folio-clients".to_owned());
        let watching = watching.spawn(move || watch(&watched, stamp));
        watching.map_err(|source| AccessError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Access(Some(source)))
    }

    /// Whether the file has changed into one that cannot be used; `None` without a file.
    pub(crate) fn outdated(&self) -> Option<bool> {
        let source = self.0.as_ref()?;
        Some(source.outdated.load(Ordering::Relaxed))
    }

    /// Who sends a request with these headers, on a connection whose client has shown this certificate. A token goes
    /// before a certificate.
    pub(crate) fn caller(
        &self,
        headers: &HeaderMap,
        certificate: Option<&Arc<Certificate>>,
    ) -> Caller {
        let shown = match (headers.get(AUTHORIZATION), certificate) {
            (Some(value), _) => bearer(value.as_bytes()).map_or(Shown::Other, |token| {
                Shown::Token(Credential::of_token(token))
            }),
            (None, Some(certificate)) => Shown::Certificate(certificate.clone()),
            (None, None) => Shown::Nothing,
        };
        Caller {
            access: self.clone(),
            shown,
        }
    }
}

/// Reads the file again when it is another one than before, or could not be used, until nobody asks any more.
fn watch(source: &Weak<Source>, mut before: Option<Stamp>) {
    let mut told = String::new();
    loop {
        thread::sleep(INTERVAL);
        let Some(source) = source.upgrade() else {
            return;
        };
        let now = stamp(&source.path).ok();
        if now.is_some() && now == before && !source.outdated.load(Ordering::Relaxed) {
            continue;
        }
        before = now;
        match read(&source.path) {
            Ok(clients) => {
                tracing::info!(path = %source.path.display(), "the clients have changed and were read again");
                source.clients.send_replace(Arc::new(clients));
                source.outdated.store(false, Ordering::Relaxed);
                told.clear();
            }
            Err(error) => {
                let reason = error.to_string();
                if told != reason {
                    tracing::error!(%error, "the clients have changed, and those from before are kept");
                }
                source.outdated.store(true, Ordering::Relaxed);
                told = reason;
            }
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let of = fs::metadata(path)?;
    Ok([
        of.ino() as i64,
        of.mtime(),
        of.mtime_nsec(),
        of.ctime(),
        of.ctime_nsec(),
        of.len() as i64,
    ])
}

fn read(path: &Path) -> Result<Clients, AccessError> {
    let name = || path.display().to_string();
    let failed = |source| AccessError::Read {
        path: name(),
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & 0o002 != 0 {
        return Err(AccessError::Writable { path: name() });
    }
    let mut text = String::new();
    let mut limited = io::Read::take(file, MAX_FILE + 1);
    io::Read::read_to_string(&mut limited, &mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        let reason = format!("the file is larger than {MAX_FILE} bytes");
        return Err(failed(io::Error::other(reason)));
    }
    text.parse().map_err(|source| AccessError::Parse {
        path: name(),
        source,
    })
}

/// The token of `Bearer TOKEN` (RFC 6750).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// What a request shows of who sends it.
#[derive(Clone)]
enum Shown {
    Nothing,
    /// Credentials of a kind that a node does not know.
    Other,
    Token(Credential),
    Certificate(Arc<Certificate>),
}

/// What the certificate of a connection's client says of it, as it may be written in a file of clients.
pub(crate) struct Certificate {
    /// That it is this certificate, and then that it has these names.
    says: Vec<Credential>,
}

impl From<ClientCertificate> for Certificate {
    fn from(shown: ClientCertificate) -> Self {
        let names = shown.names().iter().cloned().map(Credential::Name);
        let itself = Credential::of_certificate(shown.der());
        Certificate {
            says: std::iter::once(itself).chain(names).collect(),
        }
    }
}

/// Who sends a request. What it may do is looked up each time, so that it can be asked again while an answer goes on.
#[derive(Clone)]
pub(crate) struct Caller {
    access: Access,
    shown: Shown,
}

impl Caller {
    /// Who it is, if it may do what `need` says; in `vault`, if it is about one.
    pub(crate) fn check(&self, need: Need, vault: Option<u64>) -> Result<String, Problem> {
        if need == Need::Nothing {
            return Ok("anybody".to_owned());
        }
        let Some(source) = &self.access.0 else {
            return Ok("anybody".to_owned());
        };
        let clients = source.clients.borrow().clone();
        let client = self.client(&clients)?;
        match client.rights.meet(need, vault) {
            true => Ok(client.name.clone()),
            false => Err(Problem::forbidden(&client.name, need, vault)),
        }
    }

    /// The vaults that it may read; `None` for all.
    pub(crate) fn readable(&self) -> Result<Option<Vec<u64>>, Problem> {
        let Some(source) = &self.access.0 else {
            return Ok(None);
        };
        let clients = source.clients.borrow().clone();
        Ok(self.client(&clients)?.rights.readable())
    }

    /// Waits until there are other clients than when this was called.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + use<> {
        let changes = self
            .access
            .0
            .as_ref()
            .map(|source| source.clients.subscribe());
        async move {
            if let Some(mut changes) = changes
                && changes.changed().await.is_ok()
            {
                return;
            }
            std::future::pending().await
        }
    }

    fn client<'c>(&self, clients: &'c Clients) -> Result<&'c Client, Problem> {
        let found = match &self.shown {
            Shown::Nothing => return Err(Problem::unauthenticated()),
            Shown::Other => {
                return Err(Problem::unknown_client(
                    "the header `Authorization` must be `Bearer` and a token",
                ));
            }
            Shown::Token(credential) => clients.with(credential).ok_or("token"),
            Shown::Certificate(certificate) => {
                let mut found = certificate
                    .says
                    .iter()
                    .filter_map(|said| clients.with(said));
                found.next().ok_or("certificate")
            }
        };
        found.map_err(|what| {
            Problem::unknown_client(format!("the {what} is that of no client of this node"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_after_the_word_bearer_in_any_case() {
        for right in ["Bearer t", "bearer  t ", "BEARER t"] {
            assert_eq!(bearer(right.as_bytes()), Some(&b"t"[..]), "{right}");
        }
        for wrong in ["", "t", "Bearer", "Bearer ", "Basic t", "Bearert"] {
            assert_eq!(bearer(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
