//! The HTTP API: JSON over HTTP/1.1.
//!
//! What there is, [`routes`](router) says, and `GET /v1/openapi.json` says it to others: parameters, bodies, answers and problems
//! of each route, as an OpenAPI 3.1 document that is made from the types of the handlers.
//!
//! Reads are linearizable, and so are answered by the leader. `?read=` asks for another level: `lease`, `follower`,
//! `at_least:` with a `log_index` that a write was answered with, or `local`, which is what this node has; see
//! [`ReadLevel`](folio_api::ReadLevel). Lists are pages, of `limit` rows and so many bytes at most: pass `next` of one as `after`
//! to get the following one. It is good at every node and for as long as you like, for the same list only. Errors are problem documents
//! (RFC 9457) with a stable `code`; see [`Code`](folio_api::Code). A node that does not lead answers with the leader's address: as
//! a redirect where it knows the leader's API, else in the problem document.

mod command;
mod feed;
mod join;
mod members;
mod metrics;
mod openapi;
pub mod problem;
mod prove;
mod read;
mod routes;
mod status;
mod table;
mod token;
mod verification;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use folio_raft::NodeId;

use crate::node::Node;
pub use join::invitation;
use problem::Problem;
pub(crate) use token::hmac;

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
    /// What there is, as an OpenAPI document.
    document: Bytes,
}

/// The API of `node`. `addresses` are the API addresses of the members, for redirects to the leader, where
/// they are others than those that the membership has; it may be empty.
pub fn router(node: Node, addresses: BTreeMap<NodeId, String>) -> Router {
    let (routes, document) = table::routes().finish();
    let api = Api {
        node,
        addresses: Arc::new(addresses),
        document: document.to_string().into(),
    };
    routes
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
    let address = problem.leader().and_then(|leader| {
        let given = api.addresses.get(&leader).cloned();
        given.or_else(|| api.node.members().remove(&leader)?.api)
    });
    let location = address.map(|address| api.node.url(&address) + &target);
    match location.map(HeaderValue::try_from) {
        Some(Ok(location)) => problem.clone().redirected_to(location).into_response(),
        _ => response,
    }
}
