//! `GET /v1/vaults/{vault}/changes`: the feed of a vault as server-sent events.
//!
//! | event | id | data |
//! |---|---|---|
//! | `transaction` | `height.position` | a transaction, what it did, and where it is recorded |
//! | `block` | `height` | hash and header of a block, after its transactions |
//! | `vault_deleted` | | the vault is gone, and the feed ends |
//! | `problem` | | a problem document: the node cannot go on, and the feed ends |
//!
//! A client that comes back says the id that it saw last (`Last-Event-ID`, as browsers do by
//! themselves), to this node or to another, and misses and repeats nothing. Any node serves the
//! feed, as far as it has applied the log.
//!
//! A feed is read when the client takes it: what is in memory is one page, whatever the client
//! lacks. No view is held between two pages, so a slow client does not keep the file from reusing
//! space.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use folio_ledger::{FeedItem, FeedPosition, PageLimit};
use futures_util::stream::{Stream, unfold};
use serde::{Deserialize, Serialize};

use super::Api;
use super::json::{BlockHeadJson, TransactionJson};
use super::problem::Problem;
use super::read::Level;
use super::routes::{Params, Place};
use crate::feeds::FeedPlace;

/// What is read at once.
const PAGE: PageLimit = PageLimit {
    rows: 256,
    bytes: 64 << 10,
};

/// How long a feed of which an entry changed nothing lets others gather: what a quiet vault costs
/// beside busy ones is so many reads a second.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    read: Level,
}

pub(super) async fn changes(
    State(api): State<Api>,
    vault: Place<u64>,
    params: Params<Changes>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Path(vault) = vault?;
    let Query(Changes { from, read }) = params?;
    let after = match headers.get("last-event-id") {
        None => FeedPosition::before(from),
        Some(id) => {
            let position = id.to_str().ok().and_then(|id| id.parse().ok());
            Some(position.ok_or_else(|| {
                Problem::malformed("`Last-Event-ID` is not the id of an event of a feed")
            })?)
        }
    };
    let place = api.node.feeds().enter();
    let place = place.ok_or_else(Problem::too_many_feeds)?;
    api.read_vault(read, vault, |_, _| Ok(())).await?;
    let feed = Feed {
        api,
        vault,
        after,
        page: VecDeque::new(),
        place,
        over: false,
    };
    let events = unfold(feed, async |mut feed| {
        let event = feed.next().await?;
        feed.api.node.feeds().count_event();
        Some((Ok(event), feed))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// A feed on its way to a client.
struct Feed {
    api: Api,
    vault: u64,
    /// The last item that was read.
    after: Option<FeedPosition>,
    /// What was read and not yet sent.
    page: VecDeque<FeedItem>,
    place: FeedPlace,
    over: bool,
}

impl Feed {
    /// The next event, once there is one.
    async fn next(&mut self) -> Option<Event> {
        let mut waited = false;
        loop {
            if self.over || self.place.has_ended() {
                return None;
            }
            if let Some(item) = self.page.pop_front() {
                return Some(self.event(item));
            }
            // Taken before the read: what is applied meanwhile is not waited for.
            let applied = self.api.node.ledger().status().applied;
            let (vault, after) = (self.vault, self.after);
            let page = self.api.read_vault(Level::LOCAL, vault, move |ledger, _| {
                ledger.feed(vault, after, PAGE)
            });
            match page.await {
                Ok(page) => {
                    self.after = page.last().map(FeedItem::position).or(self.after);
                    self.page = page.into();
                }
                Err(problem) => return Some(self.last(problem)),
            }
            if self.page.is_empty() {
                self.wait(applied, std::mem::replace(&mut waited, true))
                    .await?;
            }
        }
    }

    /// Waits until more than `applied` is applied; `None` when the feed is to end.
    async fn wait(&mut self, applied: Option<u64>, again: bool) -> Option<()> {
        let ledger = self.api.node.ledger().clone();
        let more = async {
            if again {
                tokio::time::sleep(PAUSE).await;
            }
            let more = ledger.wait_for("changes", Duration::MAX, |status| status.applied > applied);
            more.await.ok().map(drop)
        };
        tokio::select! {
            more = more => more,
            () = self.place.ended() => None,
        }
    }

    fn event(&mut self, item: FeedItem) -> Event {
        let id = item.position().to_string();
        match item {
            FeedItem::Transaction {
                height,
                position,
                record,
            } => {
                let transaction = RecordedJson {
                    height,
                    position,
                    transaction: record.into(),
                };
                self.json("transaction", &transaction).id(id)
            }
            FeedItem::Block(header) => self.json("block", &BlockHeadJson::new(header)).id(id),
        }
    }

    /// The last event of a feed that cannot go on.
    fn last(&mut self, problem: Problem) -> Event {
        self.over = true;
        if problem.code() == "vault_deleted" {
            let vault = self.vault;
            return self.json("vault_deleted", &serde_json::json!({ "vault": vault }));
        }
        self.json("problem", &problem.document())
    }

    fn json(&mut self, name: &str, data: &impl Serialize) -> Event {
        match serde_json::to_string(data) {
            Ok(data) => Event::default().event(name).data(data),
            // Strings and integers have a JSON form; a client that misses an event must not go on.
            Err(error) => {
                self.over = true;
                Event::default().event("problem").data(error.to_string())
            }
        }
    }
}

/// A transaction and where it is recorded.
#[derive(Serialize)]
struct RecordedJson {
    height: u64,
    position: u32,
    #[serde(flatten)]
    transaction: TransactionJson,
}
