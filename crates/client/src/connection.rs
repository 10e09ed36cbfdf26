//! A request to one node, and its answer. Connections are kept for the next request.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig};

use crate::address::Address;
use crate::error::{Error, Result};
use crate::settings::Settings;

/// How long a node may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// No answer is longer: pages are bounded, and a proof's record is the longest thing there is.
const MAX_ANSWER: usize = 32 << 20;

/// Idle connections kept to one node.
const KEPT: usize = 16;

type Sender = SendRequest<Full<Bytes>>;

/// A request, without the node it goes to.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub method: Method,
    /// With the query.
    pub path: String,
    /// JSON, if there is one.
    pub body: Option<Bytes>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a node answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The node does not know of the request.
    NotSent(String),
    /// It may.
    Sent(String),
    /// It is not worth trying again.
    Never(Error),
}

/// Connections to nodes.
pub(crate) struct Connections {
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<HeaderValue>,
    idle: Mutex<HashMap<Address, Vec<Sender>>>,
}

impl Connections {
    pub fn new(settings: &Settings) -> Result<Self> {
        let authorization = settings.token.as_ref().map(|token| {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| Error::Setting("no token looks like this".into()))?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Connections {
            tls: settings.tls()?,
            authorization: authorization.transpose()?,
            idle: Mutex::default(),
        })
    }

    /// Sends a request and reads the whole answer.
    pub async fn exchange(
        &self,
        address: &Address,
        request: &Request,
    ) -> std::result::Result<Answer, Lost> {
        let (sender, response) = self.send(address, request).await?;
        let answer = Self::collect(address, response).await?;
        self.keep(address, sender);
        Ok(answer)
    }

    /// Reads an answer to its end.
    pub async fn collect(
        address: &Address,
        response: Response<Incoming>,
    ) -> std::result::Result<Answer, Lost> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Lost::Never(not_folio(address, "the answer is too long")),
            None => Lost::Sent(format!("{address}: {error}")),
        })?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// Sends a request and gives the answer out as it comes, with what keeps its connection.
    pub async fn send(
        &self,
        address: &Address,
        request: &Request,
    ) -> std::result::Result<(Sender, Response<Incoming>), Lost> {
        loop {
            let kept = self.take(address);
            let is_new = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect(address).await?,
            };
            let ready = sender.ready().await;
            if ready.is_ok() {
                let message = self.message(address, request)?;
                match sender.try_send_request(message).await {
                    Ok(response) => return Ok((sender, response)),
                    Err(mut error) => {
                        // It comes back if the connection had ended before it took the request.
                        if error.take_message().is_none() {
                            let error = error.into_error();
                            return Err(Lost::Sent(format!("{address}: {error}")));
                        }
                    }
                }
            }
            if is_new {
                let reason = "the connection ended at once";
                return Err(Lost::NotSent(format!("{address}: {reason}")));
            }
        }
    }

    fn message(
        &self,
        address: &Address,
        request: &Request,
    ) -> std::result::Result<hyper::Request<Full<Bytes>>, Lost> {
        let mut message = hyper::Request::builder()
            .method(&request.method)
            .uri(&request.path)
            .header(HOST, &address.authority);
        if let Some(authorization) = &self.authorization {
            message = message.header(AUTHORIZATION, authorization);
        }
        if request.body.is_some() {
            message = message.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in &request.headers {
            message = message.header(name, value);
        }
        let body = Full::new(request.body.clone().unwrap_or_default());
        let message = message.body(body);
        message.map_err(|error| Lost::Never(Error::Setting(error.to_string())))
    }

    fn take(&self, address: &Address) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(address)?;
        kept.retain(|sender| !sender.is_closed());
        kept.pop()
    }

    fn keep(&self, address: &Address, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(address.clone()).or_default();
        if !sender.is_closed() && kept.len() < KEPT {
            kept.push(sender);
        }
    }

    async fn connect(&self, address: &Address) -> std::result::Result<Sender, Lost> {
        match tokio::time::timeout(CONNECT, self.reach(address)).await {
            Ok(Ok(sender)) => Ok(sender),
            Ok(Err(error)) => match refusal(&error) {
                Some(reason) => Err(Lost::Never(Error::Tls {
                    address: address.to_string(),
                    reason,
                })),
                None => Err(Lost::NotSent(format!("{address}: {error}"))),
            },
            Err(_) => Err(Lost::NotSent(format!(
                "{address}: nobody accepted a connection within {CONNECT:?}"
            ))),
        }
    }

    async fn reach(&self, address: &Address) -> io::Result<Sender> {
        let stream = TcpStream::connect(&address.authority).await?;
        stream.set_nodelay(true)?;
        if !address.secure {
            return converse(stream).await;
        }
        let config = self.tls.clone();
        let config = config.ok_or_else(|| io::Error::other("there is no authority to trust"))?;
        let host = ServerName::try_from(address.host().to_owned()).map_err(io::Error::other)?;
        converse(TlsConnector::from(config).connect(host, stream).await?).await
    }
}

/// Begins HTTP on a connection.
async fn converse<S>(stream: S) -> io::Result<Sender>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // What goes wrong on it, the request that is under way is told.
    tokio::spawn(connection);
    Ok(sender)
}

pub(crate) fn not_folio(address: &Address, reason: impl ToString) -> Error {
    Error::NotFolio {
        address: address.to_string(),
        reason: reason.to_string(),
    }
}

/// Why a node is not who it should be.
fn refusal(error: &io::Error) -> Option<String> {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        UnknownIssuer,
    };
    use rustls::Error::InvalidCertificate;

    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let reason = match inner {
        InvalidCertificate(Expired | ExpiredContext { .. }) => {
            "its certificate has expired: make it a new one"
        }
        InvalidCertificate(UnknownIssuer | BadSignature) => {
            "its certificate was made by another authority than the one that is trusted"
        }
        InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "its certificate is not for this host: make one with `folio cert node --host`"
        }
        other => return Some(other.to_string()),
    };
    Some(reason.to_owned())
}
