//! Copies of a node's file.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, ETAG, HeaderName, HeaderValue, IF_RANGE, RANGE};
use hyper::{Method, Response};

use crate::address::Address;
use crate::client::Client;
use crate::connection::{Request, not_folio};
use crate::error::{Error, Result};
use crate::path::Path;
use crate::route::{Kind, Verdict};

/// A node that sends nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// The pause before a node is asked again for the rest.
const PAUSE: Duration = Duration::from_millis(200);

/// A copy of a node's file on its way, or what has changed since one: bytes as the engine's backups are.
///
/// When a connection ends early, the rest of a whole copy is asked for by itself, of the same node, until nothing has come for
/// as long as the deadline of the settings says. Whether what came is whole is for whoever takes it to check (`folio verify`).
#[derive(Debug)]
pub struct Download {
    client: Client,
    address: Address,
    path: String,
    moment: String,
    /// The length of a whole copy.
    length: Option<u64>,
    from: u64,
    place: u64,
    /// Since when connections end without a byte.
    fruitless: Option<Instant>,
    body: Incoming,
}

/// What of a copy is there already: its moment, and how many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// [`Download::moment`] of the transfer that was interrupted.
    pub moment: String,
    /// The bytes that came.
    pub bytes: u64,
}

impl Client {
    /// Begins a copy of the file of one of the nodes; takes the role `admin` in all vaults. With `since`, the moment of an earlier
    /// copy, it is what has changed since. `rate` is the most bytes that the node reads in a second, 0 for as many as possible.
    ///
    /// With `resume` the node is asked for the rest. It may have given that moment up: then it begins another one, and
    /// [`Download::begins_at`] is 0.
    pub async fn backup(
        &self,
        since: Option<&str>,
        rate: u64,
        resume: Option<&Resume>,
    ) -> Result<Download> {
        let mut path = Path::new("backup").query("rate", rate);
        if let Some(since) = since {
            path = path.query("since", since);
        }
        let path = path.into_text();
        let request = &request(&path, resume)?;
        let attempt = |address| self.routes.open(address, request, is_copy);
        let (address, response) = self.routes.ask_by(Kind::ReadAnywhere, attempt).await?;
        let part = Part::of(&address, &response)?;
        let from = match (response.status().as_u16(), resume) {
            (206, Some(resume)) if part.moment == resume.moment => resume.bytes,
            (200, _) => 0,
            _ => {
                return Err(not_folio(
                    &address,
                    "the answer is a part that was not asked for",
                ));
            }
        };
        Ok(Download {
            client: self.clone(),
            address,
            path,
            length: part
                .length
                .filter(|_| since.is_none())
                .map(|rest| from.saturating_add(rest)),
            moment: part.moment,
            from,
            place: from,
            fruitless: None,
            body: response.into_body(),
        })
    }
}

impl Download {
    /// The moment that it is of: for [`Resume`], and as `since` of a later one.
    pub fn moment(&self) -> &str {
        &self.moment
    }

    /// The first byte that comes: 0, or where a resumed transfer goes on.
    pub fn begins_at(&self) -> u64 {
        self.from
    }

    /// The length of a whole copy; that of changes is known at their end.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the connection ended early and the rest is not to be had any more.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let reason = match tokio::time::timeout(SILENCE, self.body.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => {
                        self.place += data.len() as u64;
                        self.fruitless = None;
                        return Ok(Some(data));
                    }
                    Err(_) => continue,
                },
                Ok(None) if self.length.is_none_or(|length| self.place == length) => {
                    return Ok(None);
                }
                Ok(None) => "it ended early".to_owned(),
                Ok(Some(Err(error))) => error.to_string(),
                Err(_) => format!("nothing came for {SILENCE:?}"),
            };
            self.go_on(reason).await?;
        }
    }

    /// Asks for the rest. A node that cannot read its file any further answers, too, and then sends nothing.
    async fn go_on(&mut self, mut last: String) -> Result<()> {
        let began = *self.fruitless.get_or_insert_with(Instant::now);
        let routes = &self.client.routes;
        let resume = Resume {
            moment: self.moment.clone(),
            bytes: self.place,
        };
        let request = request(&self.path, Some(&resume))?;
        while self.length.is_some()
            && let Some(left) = routes.deadline.checked_sub(began.elapsed())
        {
            tokio::time::sleep(PAUSE.min(left)).await;
            let asked = routes.open(self.address.clone(), &request, is_copy);
            let Ok(verdict) = tokio::time::timeout(left, asked).await else {
                last = format!("{}: no answer within {left:?}", self.address);
                break;
            };
            match verdict {
                Verdict::Done((address, response)) => {
                    let part = Part::of(&address, &response)?;
                    if response.status() != 206 || part.moment != self.moment {
                        last = format!("{address} does not keep that moment any more");
                        break;
                    }
                    self.body = response.into_body();
                    return Ok(());
                }
                Verdict::Never(error) => return Err(error),
                Verdict::Elsewhere(_, reason)
                | Verdict::Later(reason, _)
                | Verdict::Doubtful(reason) => last = reason,
            }
        }
        Err(Error::Unavailable {
            waited: began.elapsed(),
            last: format!(
                "the transfer was interrupted after {} bytes, and the log of the node may say why: {last}",
                self.place
            ),
        })
    }
}

/// What the head of an answer says of its body.
struct Part {
    moment: String,
    length: Option<u64>,
}

impl Part {
    fn of(address: &Address, response: &Response<Incoming>) -> Result<Self> {
        let header = |name| {
            let value: Option<&HeaderValue> = response.headers().get(name);
            value.and_then(|value| value.to_str().ok())
        };
        let moment = header(ETAG).and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
        let moment = moment.ok_or_else(|| not_folio(address, "the copy has no name"))?;
        Ok(Part {
            moment: moment.to_owned(),
            length: header(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
        })
    }
}

fn is_copy(response: &Response<Incoming>) -> bool {
    matches!(response.status().as_u16(), 200 | 206) && response.headers().contains_key(ETAG)
}

fn request(path: &str, resume: Option<&Resume>) -> Result<Request> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    if let Some(Resume { moment, bytes }) = resume {
        for (name, value) in [
            (RANGE, format!("bytes={bytes}-")),
            (IF_RANGE, format!("\"{moment}\"")),
        ] {
            let value = HeaderValue::try_from(value);
            let value =
                value.map_err(|_| Error::Setting(format!("`{moment}` is no moment of a copy")))?;
            headers.push((name, value));
        }
    }
    Ok(Request {
        method: Method::GET,
        path: path.to_owned(),
        body: None,
        headers,
    })
}
