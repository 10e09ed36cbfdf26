//! The HTTP API: JSON over HTTP/1.1.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/sessions` | opens a session, in which a repeated transaction happens once |
//! | `DELETE /v1/sessions/{session}?sequence=` | ends a session; `sequence` is one that it has not used |
//! | `POST /v1/numbers` | takes numbers that nobody else gets, for organizations or users |
//! | `GET /v1/numbers` | the last numbers that were taken |
//! | `POST /v1/vaults` | creates a vault |
//! | `GET /v1/vaults` | lists vaults |
//! | `GET /v1/vaults/{vault}` | a vault: height, block hash, state root |
//! | `PATCH /v1/vaults/{vault}` | sets its `retention`: how many blocks back its entities can be read |
//! | `DELETE /v1/vaults/{vault}` | deletes it with everything in it; `?session=` and `&sequence=` make that repeatable |
//! | `POST /v1/vaults/{vault}/transactions` | carries out a transaction |
//! | `GET /v1/vaults/{vault}/entities?prefix=` | lists entities |
//! | `GET /v1/vaults/{vault}/entities/{key}` | an entity; the key is percent-encoded and may hold any bytes; `?height=` for what it was |
//! | `GET /v1/vaults/{vault}/history/{key}?from=` | what an entity was since a height |
//! | `GET /v1/vaults/{vault}/relationships?resource=` or `?subject=`, `&relation=`, `&order=backwards` | lists relationships |
//! | `GET /v1/vaults/{vault}/blocks/{height}` | a block and its transactions; `?from=` for those that did not fit |
//! | `GET /v1/vaults/{vault}/changes?from=` | all that happens from a height on, as server-sent events; `Last-Event-ID` resumes |
//! | `GET /v1/vaults/{vault}/proofs/entities/{key}` | an entity or its absence, and the proof of it |
//! | `GET /v1/vaults/{vault}/proofs/relationships?resource=&relation=&subject=` | a relationship or its absence, and the proof of it |
//! | `GET /v1/vaults/{vault}/proofs/transactions/{height}/{position}` | the record of a transaction, and the proof that it is in its block |
//! | `GET /v1/vaults/{vault}/proofs/blocks/{height}?head=` | the proof that a block is in a chain |
//! | `GET /v1/vaults/{vault}/proofs/extensions?from=&to=` | the proof that a chain goes on from an earlier end |
//! | `GET /v1/status` | what this node knows of itself and the cluster |
//! | `GET /v1/health` | whether this node can serve |
//! | `GET /metrics` | this node's counters, in the text format of Prometheus |
//! | `POST /v1/verification` | begin to verify this node's file; `?rate=` bytes a second at most |
//! | `GET /v1/verification` | how far that is, and what it found |
//! | `DELETE /v1/verification` | stop it |
//! | `POST /v1/rebuild` | give up this node's state, and have it rebuilt from another node |
//!
//! Reads are linearizable, and so are answered by the leader. `?read=` asks for another level: `lease`, `follower`,
//! `at_least:` with a `log_index` that a write was answered with, or `local`, which is what this node has; see
//! [`ReadLevel`](folio_raft::ReadLevel). Lists are pages, of `limit` rows and so many bytes at most: pass `next` of one as `after`
//! to get the following one. It is good at every node and for as long as you like, for the same list only. Errors are problem documents
//! (RFC 9457) with a stable `code`; see [`problem`]. A node that does not lead answers with the leader's address: as
//! a redirect where it knows the leader's API, else in the problem document.

mod feed;
pub mod json;
mod members;
mod metrics;
pub mod problem;
mod prove;
mod read;
mod routes;
mod status;
mod token;
mod verification;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use folio_raft::NodeId;

use crate::node::Node;
use problem::Problem;

/// The largest body of a request: a transaction of the largest size, in base64, with room for the JSON around it.
pub const MAX_BODY_BYTES: usize = 8 << 20;

/// How long a request may take, the sending of its body included. Longer than any deadline of the replication, so
/// that the more precise answer comes first.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the handlers share.
#[derive(Clone)]
struct Api {
    node: Node,
    /// The members' API addresses, as far as they were given.
    addresses: Arc<BTreeMap<NodeId, String>>,
}

/// The API of `node`. `addresses` are the API addresses of the members, for redirects to the leader; it may be empty.
pub fn router(node: Node, addresses: BTreeMap<NodeId, String>) -> Router {
    let api = Api {
        node,
        addresses: Arc::new(addresses),
    };
    Router::new()
        .route("/v1/sessions", post(routes::open_session))
        .route("/v1/sessions/{session}", delete(routes::close_session))
        .route(
            "/v1/vaults",
            post(routes::create_vault).get(routes::list_vaults),
        )
        .route(
            "/v1/numbers",
            post(routes::allocate_numbers).get(routes::last_numbers),
        )
        .route(
            "/v1/vaults/{vault}",
            get(routes::get_vault)
                .patch(routes::change_vault)
                .delete(routes::delete_vault),
        )
        .route("/v1/vaults/{vault}/transactions", post(routes::submit))
        .route("/v1/vaults/{vault}/entities", get(routes::list_entities))
        .route(
            "/v1/vaults/{vault}/entities/{*key}",
            get(routes::get_entity),
        )
        .route(
            "/v1/vaults/{vault}/history/{*key}",
            get(routes::entity_history),
        )
        .route(
            "/v1/vaults/{vault}/relationships",
            get(routes::list_relationships),
        )
        .route("/v1/vaults/{vault}/blocks/{height}", get(routes::get_block))
        .route("/v1/vaults/{vault}/changes", get(feed::changes))
        .route(
            "/v1/vaults/{vault}/proofs/entities/{*key}",
            get(prove::entity),
        )
        .route(
            "/v1/vaults/{vault}/proofs/relationships",
            get(prove::relationship),
        )
        .route(
            "/v1/vaults/{vault}/proofs/transactions/{height}/{position}",
            get(prove::transaction),
        )
        .route(
            "/v1/vaults/{vault}/proofs/blocks/{height}",
            get(prove::block),
        )
        .route(
            "/v1/vaults/{vault}/proofs/extensions",
            get(prove::extension),
        )
        .route("/v1/members", get(members::list).post(members::add))
        .route(
            "/v1/members/{member}",
            patch(members::change).delete(members::remove),
        )
        .route("/v1/leader", post(members::lead))
        .route("/v1/status", get(status::status))
        .route("/v1/health", get(status::health))
        .route("/metrics", get(metrics::metrics))
        .route(
            "/v1/verification",
            post(verification::start)
                .get(verification::show)
                .delete(verification::stop),
        )
        .route("/v1/rebuild", post(verification::rebuild))
        .fallback(async || Problem::no_such_route())
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(api.clone(), guard))
        .with_state(api)
}

/// Refuses a body that says it is too large, puts a deadline on every request, and turns "not the leader" into a redirect
/// where the leader's API is known.
async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let length = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Problem::too_large(format!("the body is larger than {MAX_BODY_BYTES} bytes"))
            .into_response();
    }
    let target = request
        .uri()
        .path_and_query()
        .map_or_else(|| "/".to_owned(), ToString::to_string);
    let Ok(response) = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await else {
        return Problem::timeout(format!("the request took longer than {REQUEST_TIMEOUT:?}"))
            .into_response();
    };
    let Some(problem) = response.extensions().get::<Problem>() else {
        return response;
    };
    let address = problem
        .leader()
        .and_then(|leader| api.addresses.get(&leader));
    // The others speak what this node does.
    let scheme = match api.node.tls() {
        Some(_) => "https",
        None => "http",
    };
    match address.map(|address| HeaderValue::try_from(format!("{scheme}://{address}{target}"))) {
        Some(Ok(location)) => problem.clone().redirected_to(location).into_response(),
        _ => response,
    }
}
