//! The HTTP API: JSON over HTTP/1.1.
//!
//! What there is, [`routes`](router) says, and `GET /v1/openapi.json` says it to others: parameters, bodies, answers and problems
//! of each route, as an OpenAPI 3.1 document that is made from the types of the handlers.
//!
//! A node that knows its clients ([`Access`]) wants a token, `Authorization: Bearer TOKEN`, with every request but those
//! for its health and the document, and a role: the document says for each route which one.
//!
//! Reads are linearizable, and so are answered by the leader. `?read=` asks for another level: `lease`, `follower`,
//! `at_least:` with a `log_index` that a write was answered with, or `local`, which is what this node has; see
//! [`ReadLevel`](folio_api::ReadLevel). Lists are pages, of `limit` rows and so many bytes at most: pass `next` of one as `after`
//! to get the following one. It is good at every node and for as long as you like, for the same list only. Errors are problem documents
//! (RFC 9457) with a stable `code`; see [`Code`](folio_api::Code). A node that does not lead answers with the leader's address: as
//! a redirect where it knows the leader's API, else in the problem document.

mod backup;
mod bodies;
mod command;
mod feed;
mod join;
mod members;
mod metrics;
mod openapi;
mod page;
pub mod problem;
mod prove;
mod read;
mod routes;
mod session;
pub(crate) mod spans;
mod status;
mod table;
mod token;
mod verification;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use folio_raft::NodeId;

use crate::access::{Access, Caller, Certificate, Need, Role, Rules};
use crate::node::Node;
use crate::server::Limits;
use bodies::Bodies;
pub use join::invitation;
use problem::Problem;
use session::Client;
pub(crate) use token::hmac;

/// The largest body of a request: a transaction of the largest size, in base64, with room for the JSON around it.
pub const MAX_BODY_BYTES: usize = 8 << 20;

/// The longest path with its query, in bytes: the largest relationship in a query, percent-encoded.
const MAX_URI_BYTES: usize = 32 << 10;

/// The largest body of a request for which everybody may ask: an invitation with what a newcomer says.
const MAX_OPEN_BODY_BYTES: usize = 32 << 10;

/// How long a request may take once its body is there. Longer than any deadline of the replication, so that the more
/// precise answer comes first.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the handlers share.
#[derive(Clone)]
struct Api {
    node: Node,
    /// The members' API addresses, as far as they were given.
    addresses: Arc<BTreeMap<NodeId, String>>,
    /// What there is, as an OpenAPI document.
    document: Bytes,
    access: Access,
    rules: Arc<Rules>,
    bodies: Bodies,
}

/// The API of `node`. `addresses` are the API addresses of the members, for redirects to the leader, where
/// they are others than those that the membership has; it may be empty. `access` says who may do what, and `limits` how
/// much bodies may hold.
pub fn router(
    node: Node,
    addresses: BTreeMap<NodeId, String>,
    access: Access,
    limits: &Limits,
) -> Router {
    let (routes, rules, document) = table::routes().finish();
    let api = Api {
        node,
        addresses: Arc::new(addresses),
        document: document.to_string().into(),
        access,
        rules: Arc::new(rules),
        bodies: Bodies::new(limits),
    };
    guarded(routes, api)
}

/// Puts what is the same for all routes around them.
fn guarded(routes: Router<Api>, api: Api) -> Router {
    routes
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(api.clone(), guard))
        .layer(from_fn_with_state(api.clone(), admit))
        .layer(from_fn_with_state(api.clone(), spans::traced))
        .with_state(api)
}

/// Lets a request through to a route that has a rule, if whoever sends it has what the rule asks for, and says who that is.
async fn admit(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let vault = routes::vault_in_path(request.uri().path());
    let certificate = request.extensions().get::<Arc<Certificate>>();
    let caller = api.access.caller(request.headers(), certificate);
    match allowed(&api.rules, &caller, &request, vault) {
        Ok((need, client)) => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(need);
            request.extensions_mut().insert(Client(client));
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The name of the client, if it may be answered.
fn allowed(
    rules: &Rules,
    caller: &Caller,
    request: &Request,
    vault: Option<u64>,
) -> Result<(Need, String), Problem> {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.ok_or_else(Problem::no_such_route)?.as_str();
    let method = request.method();
    let need = rules
        .of(path, method)
        .ok_or_else(|| Problem::method_not_allowed(&rules.methods(path)))?;
    let client = caller.check(need, vault)?;
    if need.role() == Some(Role::Admin) && method != Method::GET {
        tracing::info!(client, %method, path = request.uri().path(), "administered");
    }
    Ok((need, client))
}

/// Refuses a body that says it is too large and a path that is, reads the body, puts a deadline on what the request takes then,
/// and turns "not the leader" into a redirect where the leader's API is known.
async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let length = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let most = match request.extensions().get::<Need>() {
        Some(Need::Nothing) | None => MAX_OPEN_BODY_BYTES,
        Some(_) => MAX_BODY_BYTES,
    };
    if length.is_some_and(|length| length > most) {
        return Problem::body_too_large(most).into_response();
    }
    let asked = request.uri().path_and_query();
    if asked.is_some_and(|asked| asked.as_str().len() > MAX_URI_BYTES) {
        return Problem::uri_too_long(MAX_URI_BYTES).into_response();
    }
    let target = request
        .uri()
        .path_and_query()
        .map_or_else(|| "/".to_owned(), ToString::to_string);
    let (request, _held) = match api.bodies.receive(request, most).await {
        Ok(received) => received,
        Err(problem) => return problem.into_response(),
    };
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

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::{get, patch};
    use tower::ServiceExt;

    use super::*;
    use crate::{DEFAULT_CACHE_BYTES, NodeOptions};

    #[tokio::test]
    async fn a_route_that_nobody_has_made_a_rule_for_is_not_served() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = NodeOptions {
            id: 1,
            file: directory.path().join("node.folio"),
            cluster: "test".to_owned(),
            peer_listen: ([127, 0, 0, 1], 0).into(),
            tls: None,
            cache_bytes: DEFAULT_CACHE_BYTES,
            raft: folio_raft::Config::default(),
        };
        let (routes, rules, _) = table::routes().finish();
        let api = Api {
            node: Node::start(options).await.expect("the node starts"),
            addresses: Arc::default(),
            document: Bytes::new(),
            access: Access::open(),
            rules: Arc::new(rules),
            bodies: Bodies::new(&Limits::default()),
        };
        let more = routes
            .route("/v1/new", get(async || "served"))
            .route("/v1/status", patch(async || "served"))
            .fallback(async || "served");
        let router = guarded(more, api);
        let ask = async |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path);
            let request = request.body(Body::empty()).expect("a request");
            let answer = router.clone().oneshot(request).await;
            answer.expect("it answers").status()
        };
        assert_eq!(ask("GET", "/v1/status").await, StatusCode::OK);
        assert_eq!(
            ask("PATCH", "/v1/status").await,
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(ask("GET", "/v1/new").await, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask("GET", "/elsewhere").await, StatusCode::NOT_FOUND);
    }
}
