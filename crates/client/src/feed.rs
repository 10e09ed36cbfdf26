//! What happens to a vault, as it happens.

use std::time::Duration;

use bytes::Bytes;
use folio_api::{BlockHead, Code, ProblemDocument, Recorded};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::address::Address;
use crate::client::Client;
use crate::connection::{Request, not_folio};
use crate::error::{Error, Result};
use crate::path::Path;
use crate::route::Kind;

/// A node says something at least every 15 s, if only that it is there.
const SILENCE: Duration = Duration::from_secs(45);

/// No event is longer than the largest transaction in JSON, with its largest values in base64.
const MAX_EVENT: usize = 32 << 20;

/// Something that happened to a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A transaction was carried out.
    Transaction(Box<Recorded>),
    /// A block is at its end: its transactions came before.
    Block(Box<BlockHead>),
    /// The vault was deleted with all that it recorded, and nothing will ever come after this.
    VaultDeleted,
}

/// All that happens to a vault, without a gap and nothing twice: when a connection ends, the feed goes on at another node
/// where it was.
#[derive(Debug)]
pub struct Feed {
    client: Client,
    vault: u64,
    from: u64,
    /// The id of the event that was given out last.
    last: Option<String>,
    open: Option<Open>,
    over: bool,
}

/// A connection on which events come.
#[derive(Debug)]
struct Open {
    address: Address,
    body: Incoming,
    lines: Lines,
}

impl Feed {
    pub(crate) fn new(client: Client, vault: u64, from: u64) -> Self {
        Feed {
            client,
            vault,
            from,
            last: None,
            open: None,
            over: false,
        }
    }

    /// Goes on after the event with this id instead of at a height.
    pub fn after(mut self, id: impl Into<String>) -> Self {
        self.last = Some(id.into());
        self
    }

    /// The id of the event that was given out last, for [`after`](Self::after) of a feed to come.
    pub fn last_id(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// The next event, as soon as there is one; `None` once the vault is deleted. After an error the feed can go on.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        while !self.over {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.connect().await {
                    Err(error) if error.code() == Some(Code::VaultDeleted) => {
                        self.over = true;
                        return Ok(Some(Event::VaultDeleted));
                    }
                    opened => opened?,
                },
            };
            let Some(message) = open.message().await? else {
                continue;
            };
            let event = self.event(&open.address, &message)?;
            let Some(event) = event else { continue };
            self.open = Some(open);
            if let Some(id) = message.id {
                self.last = Some(id);
            }
            self.over = event == Event::VaultDeleted;
            return Ok(Some(event));
        }
        Ok(None)
    }

    /// `None` if this node cannot go on, and another one may.
    fn event(&self, address: &Address, message: &Message) -> Result<Option<Event>> {
        let wrong = |error: serde_json::Error| {
            not_folio(address, format!("an event cannot be read: {error}"))
        };
        Ok(Some(match message.event.as_str() {
            "transaction" => {
                Event::Transaction(serde_json::from_str(&message.data).map_err(wrong)?)
            }
            "block" => Event::Block(serde_json::from_str(&message.data).map_err(wrong)?),
            "vault_deleted" => Event::VaultDeleted,
            "problem" => {
                let problem: ProblemDocument =
                    serde_json::from_str(&message.data).map_err(wrong)?;
                if problem.status < 500 && problem.status != 429 && problem.status != 421 {
                    return Err(Error::Refused(Box::new(problem)));
                }
                return Ok(None);
            }
            _ => return Ok(None),
        }))
    }

    async fn connect(&self) -> Result<Open> {
        let mut path = Path::vault(self.vault).push("changes");
        let mut headers = Vec::new();
        match &self.last {
            None => path = path.query("from", self.from),
            Some(id) => {
                let value = HeaderValue::try_from(id);
                let value =
                    value.map_err(|_| Error::Setting(format!("`{id}` is no event's id")))?;
                headers.push((HeaderName::from_static("last-event-id"), value));
            }
        }
        let request = &Request {
            method: Method::GET,
            path: path.into_text(),
            body: None,
            headers,
        };
        let routes = &self.client.routes;
        let attempt = |address: Address| {
            routes.open(address, request, |response| {
                let kind = response.headers().get(CONTENT_TYPE);
                response.status() == 200 && kind.is_some_and(|kind| kind == "text/event-stream")
            })
        };
        let (address, response) = routes.ask_by(Kind::Read, attempt).await?;
        Ok(Open {
            address,
            body: response.into_body(),
            lines: Lines::default(),
        })
    }
}

impl Open {
    /// The next message; `None` when the connection has ended.
    async fn message(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(message) = self.lines.message() {
                return Ok(Some(message));
            }
            if self.lines.len() > MAX_EVENT {
                return Err(not_folio(&self.address, "an event is too long"));
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            match frame {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.push(&data);
                    }
                }
                // It ended, in whatever way: nothing is lost by asking again.
                Ok(None | Some(Err(_))) | Err(_) => return Ok(None),
            }
        }
    }
}

/// A message of a feed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    event: String,
    data: String,
    id: Option<String>,
}

/// Puts messages together from what comes.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Up to here there is no end of a line.
    searched: usize,
    message: Message,
}

impl Lines {
    fn push(&mut self, bytes: &Bytes) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes in memory.
    fn len(&self) -> usize {
        self.bytes.len() + self.message.data.len()
    }

    /// A message that is whole.
    fn message(&mut self) -> Option<Message> {
        let mut begin = 0;
        let mut whole = None;
        while let Some(end) = self.bytes[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            let end = self.searched + end;
            let line = String::from_utf8_lossy(&self.bytes[begin..end]);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            (begin, self.searched) = (end + 1, end + 1);
            if line.is_empty() {
                let message = std::mem::take(&mut self.message);
                if !message.event.is_empty() {
                    whole = Some(message);
                    break;
                }
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => self.message.event = value.to_owned(),
                "id" => self.message.id = Some(value.to_owned()),
                "data" => {
                    if !self.message.data.is_empty() {
                        self.message.data.push('\n');
                    }
                    self.message.data.push_str(value);
                }
                // A comment: the node is there.
                _ => {}
            }
        }
        self.bytes.drain(..begin);
        self.searched -= begin;
        if whole.is_none() {
            self.searched = self.bytes.len();
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_came_in() {
        let text =
            b": there\n\nevent: block\nid: 7\ndata: {\"a\":\ndata: 1}\n\nevent: x\ndata: \xff\n\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut messages = Vec::new();
            for part in text.chunks(size) {
                lines.push(&Bytes::copy_from_slice(part));
                messages.extend(std::iter::from_fn(|| lines.message()));
            }
            assert_eq!(lines.len(), 0, "{size}");
            let [block, x] = messages.as_slice() else {
                panic!("{messages:?} by {size}");
            };
            assert_eq!(
                (block.event.as_str(), block.data.as_str()),
                ("block", "{\"a\":\n1}")
            );
            assert_eq!(block.id.as_deref(), Some("7"));
            assert_eq!((x.data.as_str(), &x.id), ("\u{fffd}", &None));
        }
    }
}
