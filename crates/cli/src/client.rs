//! Talking to a node's API: a request, an answer, and no more.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
};

use crate::run::Failure;

/// A node that does not answer within this time is not there.
const PATIENCE: Duration = Duration::from_secs(30);

/// No answer that is asked for here is longer.
const MAX_ANSWER: u64 = 16 << 20;

/// Whom a command trusts, and who it is.
#[derive(Args, Default)]
pub struct Trust {
    /// The certificate of the cluster's authority, for a node at https://
    #[arg(long, value_name = "FILE", requires = "node")]
    ca: Option<PathBuf>,
    /// A file with the token of `folio clients add`, for a node that knows its clients
    #[arg(long, value_name = "FILE", requires = "node")]
    token_file: Option<PathBuf>,
}

impl Trust {
    /// Whoever has a certificate of this authority, and nobody without one if there is an authority.
    pub fn in_authority(ca: Option<PathBuf>) -> Self {
        Trust {
            ca,
            token_file: None,
        }
    }
}

/// A node, by the address of its API.
pub struct Client {
    /// `HOST:PORT`
    address: String,
    tls: Option<Tls>,
    /// The line of a request that says who sends it, or nothing.
    authorization: String,
}

/// What makes a connection one that nobody else can read.
struct Tls {
    config: Arc<ClientConfig>,
    /// Whom the node's certificate has to name.
    host: ServerName<'static>,
}

impl Client {
    /// The node at `http://HOST:PORT`, or just `HOST:PORT`, or at `https://HOST:PORT`.
    pub fn new(url: &str, trust: &Trust) -> Result<Self, Failure> {
        let (secure, address) = match url.strip_prefix("https://") {
            Some(address) => (true, address),
            None => (false, url.strip_prefix("http://").unwrap_or(url)),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let host = host_of(address).ok_or_else(|| {
            Failure::Usage(format!(
                "`{url}` is no address of a node: write http://HOST:PORT or https://HOST:PORT"
            ))
        })?;
        let tls = match (secure, &trust.ca) {
            (true, Some(ca)) => Some(Tls::trusting(ca, host)?),
            (true, None) => {
                return Err(Failure::Usage(format!(
                    "whom to trust at {url}? Name the certificate of the cluster's authority with --ca"
                )));
            }
            (false, Some(_)) => {
                return Err(Failure::Usage(format!(
                    "{url} is not encrypted, so --ca means nothing there: write https://"
                )));
            }
            (false, None) => None,
        };
        Ok(Client {
            address: address.to_owned(),
            tls,
            authorization: authorization(trust)?,
        })
    }

    /// The status and the JSON of the answer.
    pub fn send(&self, method: &str, path: &str) -> Result<(u16, Value), Failure> {
        self.answer(method, path, "")
            .map(|answer| (answer.status, answer.body))
    }

    /// The status and the JSON of the answer to a POST, at the node that this one sends its clients to, if it does.
    pub fn post(&self, path: &str, body: &Value) -> Result<(u16, Value), Failure> {
        let body = body.to_string();
        let answer = self.answer("POST", path, &body)?;
        let elsewhere = answer.location.as_deref().and_then(|url| {
            let end = url.find("://")? + 3;
            let end = url[end..].find('/').map_or(url.len(), |slash| end + slash);
            self.at(&url[..end])
        });
        let answer = match elsewhere {
            Some(leader) => leader.answer("POST", path, &body)?,
            None => answer,
        };
        Ok((answer.status, answer.body))
    }

    /// The same with another node of the cluster.
    fn at(&self, url: &str) -> Option<Client> {
        let (secure, address) = match url.strip_prefix("https://") {
            Some(address) => (true, address),
            None => (false, url.strip_prefix("http://")?),
        };
        let host = host_of(address)?;
        let tls = match (&self.tls, secure) {
            (Some(tls), true) => Some(Tls {
                config: tls.config.clone(),
                host: ServerName::try_from(host.to_owned()).ok()?,
            }),
            (None, false) => None,
            // Nobody is sent from an encrypted place to one that is not.
            _ => return None,
        };
        Some(Client {
            address: address.to_owned(),
            tls,
            authorization: self.authorization.clone(),
        })
    }

    fn answer(&self, method: &str, path: &str, body: &str) -> Result<Answer, Failure> {
        let answer = self.exchange(method, path, body).map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            match inner.map(refusal) {
                Some(reason) => Failure::Error(format!("{}: {reason}", self.address)),
                None => Failure::Unavailable(format!("{}: {error}", self.address)),
            }
        })?;
        parse(&answer).ok_or_else(|| {
            Failure::Error(format!("{}: what answers is no Folio node", self.address))
        })
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> io::Result<Vec<u8>> {
        let mut stream = self.connect()?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n{}\
             Content-Length: {length}\r\n\r\n{body}",
            self.address, self.authorization
        )?;
        stream.flush()?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn connect(&self) -> io::Result<Box<dyn Connection>> {
        let stream = reach(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let session = ClientConnection::new(tls.config.clone(), tls.host.clone());
        let session = session.map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(session, stream)))
    }
}

fn authorization(trust: &Trust) -> Result<String, Failure> {
    let Some(file) = &trust.token_file else {
        return Ok(String::new());
    };
    let refused = |reason: String| Failure::Error(format!("{}: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
    let token = text.trim();
    match !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(format!("Authorization: Bearer {token}\r\n")),
        false => Err(refused("there is no token in it".to_owned())),
    }
}

/// A connection to a node, as it is or within TLS.
trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// Connects to the first of its addresses where somebody listens.
fn reach(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Tls {
    fn trusting(authority: &Path, host: &str) -> Result<Self, Failure> {
        let refused = |reason: String| Failure::Error(format!("{}: {reason}", authority.display()));
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(authority);
        for certificate in certificates.map_err(|error| refused(error.to_string()))? {
            let certificate = certificate.map_err(|error| refused(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| refused(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(refused("there is no certificate in it".into()));
        }
        let host = ServerName::try_from(host.to_owned());
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            config: Arc::new(config.with_root_certificates(roots).with_no_client_auth()),
            host: host.map_err(|error| Failure::Usage(error.to_string()))?,
        })
    }
}

/// Why a node is not who it should be.
fn refusal(error: &rustls::Error) -> String {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        UnknownIssuer,
    };
    use rustls::Error::InvalidCertificate;

    let reason = match error {
        InvalidCertificate(Expired | ExpiredContext { .. }) => {
            "its certificate has expired: make it a new one"
        }
        InvalidCertificate(UnknownIssuer | BadSignature) => {
            "its certificate was made by another authority than the one in --ca"
        }
        InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "its certificate is not for this host: make one with `folio cert node --host`"
        }
        other => return other.to_string(),
    };
    reason.to_owned()
}

/// The host of `HOST:PORT`, without the brackets of an IPv6 address.
fn host_of(address: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let (host, port) = address.rsplit_once(':')?;
    if host.is_empty() || port.parse::<u16>().is_err() || !address.chars().all(plain) {
        return None;
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    Some(bare.unwrap_or(host))
}

/// An answer that came to its end.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    /// Where the node sends its client.
    location: Option<String>,
    body: Value,
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let location = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location")
            .then(|| value.trim().to_owned())
    });
    let body = serde_json::from_slice(&answer[end + 4..]).ok()?;
    Some(Answer {
        status,
        location,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusting(ca: Option<PathBuf>) -> Trust {
        Trust {
            ca,
            token_file: None,
        }
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let client = |url: &str| Client::new(url, &trusting(None));
        for right in ["http://127.0.0.1:7001", "localhost:7001", "http://[::1]:1/"] {
            assert!(client(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "localhost",
            "ftp://a:1",
            "http://a:b",
            "a:1/v1",
            "a b:1",
            ":1",
        ] {
            assert!(client(wrong).is_err(), "{wrong}");
        }
        assert_eq!(host_of("[::1]:7001"), Some("::1"));
        assert_eq!(host_of("node-1:7001"), Some("node-1"));
    }

    #[test]
    fn whom_to_trust_is_said_for_https_and_for_nothing_else() {
        let without = Client::new("https://localhost:1", &trusting(None));
        assert!(matches!(without, Err(Failure::Usage(message)) if message.contains("--ca")));
        let authority = trusting(Some("authority.pem".into()));
        let meaningless = Client::new("http://localhost:1", &authority);
        assert!(
            matches!(meaningless, Err(Failure::Usage(message)) if message.contains("https://"))
        );
    }

    #[test]
    fn an_answer_has_a_status_and_json() {
        let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        let parsed = parse(answer).map(|answer| (answer.status, answer.body));
        assert_eq!(parsed, Some((202, serde_json::json!({"a": 1}))));
        for wrong in [&answer[..20], &answer[..50], b"", b"SSH-2.0\r\n\r\n{}"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
