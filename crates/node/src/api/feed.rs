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

use axum::extract::FromRequestParts;
use axum::extract::{Extension, Path, Query, State};
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use folio_api::{BlockHead, Code, ProblemDocument, ReadLevel, Recorded};
use folio_ledger::{FeedItem, FeedPosition, PageLimit};
use futures_util::stream::{Stream, unfold};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Api;
use super::openapi::{Input, Operation, Output};
use super::problem::Problem;
use super::routes::{Params, Place};
use crate::access::{Caller, Need, Role};
use crate::feeds::FeedPlace;

/// What is read at once.
const PAGE: PageLimit = PageLimit {
    rows: 256,
    bytes: 64 << 10,
};

/// How long a feed of which an entry changed nothing lets others gather: what a quiet vault costs
/// beside busy ones is so many reads a second.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    /// The height to begin with, for a client that has seen nothing.
    #[serde(default)]
    from: u64,
    #[serde(default)]
    read: ReadLevel,
}

/// The id of the event that the client saw last.
pub(super) struct LastEventId(Option<FeedPosition>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(id) = parts.headers.get("last-event-id") else {
            return Ok(LastEventId(None));
        };
        let position = id.to_str().ok().and_then(|id| id.parse().ok());
        let position = position.ok_or_else(|| {
            Problem::malformed("`Last-Event-ID` is not the id of an event of a feed")
        })?;
        Ok(LastEventId(Some(position)))
    }
}

impl Input for Result<LastEventId, Problem> {
    fn describe(operation: &mut Operation<'_>) {
        let about = "The id of the event that was seen last; goes before `from`.";
        let schema = json!({ "type": "string", "pattern": r"^[0-9]{1,19}(\.[0-9]{1,9})?$" });
        operation.header("Last-Event-ID", about, schema);
    }
}

impl<S> Output for Sse<S> {
    fn describe(operation: &mut Operation<'_>) {
        let events = json!({
            "transaction": operation.schema::<Recorded>(),
            "block": operation.schema::<BlockHead>(),
            "vault_deleted": operation.schema::<Gone>(),
            "problem": operation.schema::<ProblemDocument>(),
        });
        let content = json!({ "schema": { "type": "string" }, "x-events": events });
        let about = "Server-sent events; `x-events` has the schema of the data of each kind";
        operation.response(200, about, "text/event-stream", content);
    }
}

/// The last event of a feed whose vault was deleted.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "VaultGone")]
struct Gone {
    /// The vault.
    vault: u64,
}

pub(super) async fn changes(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    vault: Place<u64>,
    params: Params<Changes>,
    last: Result<LastEventId, Problem>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Path(vault) = vault?;
    let Query(Changes { from, read }) = params?;
    let after = last?.0.or_else(|| FeedPosition::before(from));
    let place = api.node.feeds().enter();
    let place = place.ok_or_else(Problem::too_many_feeds)?;
    api.read_vault(read, vault, |_, _| Ok(())).await?;
    let feed = Feed {
        api,
        caller,
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
    /// Who follows it. It ends when they may not any more.
    caller: Caller,
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
            // Taken before the check: a change after it is not waited for.
            let changed = self.caller.changed();
            let reads = Need::InVault(Role::Read);
            if let Err(problem) = self.caller.check(reads, Some(self.vault)) {
                return Some(self.last(problem));
            }
            if let Some(item) = self.page.pop_front() {
                return Some(self.event(item));
            }
            // Taken before the read: what is applied meanwhile is not waited for.
            let applied = self.api.node.ledger().status().applied;
            let (vault, after) = (self.vault, self.after);
            let page = self
                .api
                .read_vault(ReadLevel::Local, vault, move |ledger, _| {
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
                let again = std::mem::replace(&mut waited, true);
                self.wait(applied, changed, again).await?;
            }
        }
    }

    /// Waits until more than `applied` is applied, or there are other clients; `None` when the feed is to end.
    async fn wait(
        &mut self,
        applied: Option<u64>,
        changed: impl Future<Output = ()>,
        again: bool,
    ) -> Option<()> {
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
            () = changed => Some(()),
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
                let transaction = Recorded {
                    height,
                    position,
                    transaction: record.into(),
                };
                self.json("transaction", &transaction).id(id)
            }
            FeedItem::Block(header) => self.json("block", &BlockHead::from(header)).id(id),
        }
    }

    /// The last event of a feed that cannot go on.
    fn last(&mut self, problem: Problem) -> Event {
        self.over = true;
        if problem.code() == Code::VaultDeleted {
            let vault = self.vault;
            return self.json("vault_deleted", &Gone { vault });
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
