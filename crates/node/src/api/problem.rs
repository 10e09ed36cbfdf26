//! Errors of the API, in one shape: problem documents of RFC 9457.
//!
//! `code` is stable and meant for programs; `title` and `detail` are for people and may change. `type` is a name, not
//! a place on the web.
//!
//! | status | code | meaning |
//! |---|---|---|
//! | 307, 421 | `not_leader` | another node leads; `leader` says which, and `Location` where, as far as known |
//! | 400 | `malformed_request` | the request cannot be understood |
//! | 400 | `https_required` | the node speaks TLS only |
//! | 404 | `route_not_found`, `vault_not_found`, `entity_not_found`, `block_not_found`, `transaction_not_found`, `session_unknown` | |
//! | 410 | `vault_deleted` | there was such a vault |
//! | 410 | `height_not_retained` | the vault does not keep what was that long ago; `from` is how far back it does |
//! | 405 | `method_not_allowed` | |
//! | 409 | `condition_failed` | a condition did not hold, and nothing was done |
//! | 409 | `stale_sequence` | the session has gone on to later commands |
//! | 409 | `verification_running` | one at a time |
//! | 409 | `nobody_to_rebuild_from` | the node is the only one |
//! | 409 | `membership_unchanged` | the change of members makes no sense now, and nothing was done |
//! | 410 | `session_expired` | the session is over |
//! | 413 | `too_large` | |
//! | 415 | `unsupported_media_type` | the body must be `application/json` |
//! | 422 | `invalid_command` | no state could accept it |
//! | 429 | `overloaded` | nothing was done; try again later |
//! | 500 | `storage_failed`, `internal` | |
//! | 503 | `no_leader`, `no_quorum`, `too_far_behind`, `shutting_down`, `node_stopped`, `too_many_feeds`, `vault_diverged` | nothing was done; try again later, or elsewhere |
//! | 503 | `handover_failed` | this node may lead still; ask `GET /v1/members` |
//! | 504 | `timeout` | |
//! | 504 | `outcome_unknown` | it may have been done: repeat it in the same session to find out |

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use folio_ledger::NotRetained;
use folio_ledger::command::Invalid;
use folio_ledger::error::LedgerError;
use folio_ledger::response::Rejection;
use folio_raft::NodeId;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::agreement::Divergence;
use crate::feeds::MAX_FEEDS;

/// The media type of the documents.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// An error as the client sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    /// Members beyond those of the standard.
    more: Map<String, Value>,
    /// The node to ask instead.
    leader: Option<NodeId>,
    /// Where that node is to be asked.
    location: Option<Box<HeaderValue>>,
}

impl Problem {
    fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl ToString,
    ) -> Self {
        Problem {
            status,
            code,
            title,
            detail: detail.to_string(),
            more: Map::new(),
            leader: None,
            location: None,
        }
    }

    fn with(mut self, member: &str, value: impl Serialize) -> Self {
        // What is added is made of strings and integers: it has a JSON form.
        if let Ok(value) = serde_json::to_value(value) {
            self.more.insert(member.to_owned(), value);
        }
        self
    }

    pub(super) fn malformed(detail: impl ToString) -> Self {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "malformed_request",
            "The request cannot be understood",
            detail,
        )
    }

    pub(crate) fn https_required() -> Self {
        let detail =
            "this node speaks HTTPS: write https:// and trust the authority of the cluster";
        Problem::new(
            StatusCode::BAD_REQUEST,
            "https_required",
            "The request is not encrypted",
            detail,
        )
    }

    pub(super) fn no_such_route() -> Self {
        let detail = "there is nothing under this path";
        Problem::new(
            StatusCode::NOT_FOUND,
            "route_not_found",
            "No such path",
            detail,
        )
    }

    pub(super) fn method_not_allowed() -> Self {
        let detail = "this path does not take this method";
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method not allowed",
            detail,
        )
    }

    pub(super) fn timeout(detail: impl ToString) -> Self {
        Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "timeout",
            "It took too long",
            detail,
        )
    }

    pub(super) fn verification_running() -> Self {
        let detail = "a verification of this node's file is under way";
        Problem::new(
            StatusCode::CONFLICT,
            "verification_running",
            "A verification is running",
            detail,
        )
    }

    pub(super) fn vault_not_found(vault: u64) -> Self {
        let detail = format!("there is no vault {vault}");
        Problem::new(
            StatusCode::NOT_FOUND,
            "vault_not_found",
            "No such vault",
            detail,
        )
    }

    pub(super) fn vault_deleted(vault: u64) -> Self {
        let detail = format!("vault {vault} was deleted");
        Problem::new(
            StatusCode::GONE,
            "vault_deleted",
            "The vault was deleted",
            detail,
        )
    }

    pub(super) fn entity_not_found(vault: u64, key: &[u8]) -> Self {
        let detail = format!(
            "there is no entity \"{}\" in vault {vault}",
            key.escape_ascii()
        );
        Problem::new(
            StatusCode::NOT_FOUND,
            "entity_not_found",
            "No such entity",
            detail,
        )
    }

    pub(super) fn block_not_found(vault: u64, height: u64) -> Self {
        let detail = format!("vault {vault} has no block {height}");
        Problem::new(
            StatusCode::NOT_FOUND,
            "block_not_found",
            "No such block",
            detail,
        )
    }

    pub(super) fn transaction_not_found(vault: u64, height: u64, position: u32) -> Self {
        let detail = format!("block {height} of vault {vault} has no transaction {position}");
        Problem::new(
            StatusCode::NOT_FOUND,
            "transaction_not_found",
            "No such transaction",
            detail,
        )
    }

    pub(super) fn vault_diverged(divergence: &Divergence) -> Self {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "vault_diverged",
            "This node does not serve the vault",
            format!("{divergence}; ask another node, and have this one rebuilt"),
        )
    }

    pub(super) fn nobody_to_rebuild_from() -> Self {
        Problem::new(
            StatusCode::CONFLICT,
            "nobody_to_rebuild_from",
            "There is no other node to have the state from",
            "this node is the only one of its cluster that votes",
        )
    }

    pub(super) fn no_leader() -> Self {
        let detail = "no leader is known at the moment";
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no_leader",
            "No leader",
            detail,
        )
    }

    pub(super) fn node_stopped(detail: impl ToString) -> Self {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "node_stopped",
            "The node has stopped",
            detail,
        )
    }

    pub(super) fn internal(detail: impl ToString) -> Self {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something is wrong in the node",
            detail,
        )
    }

    pub(super) fn too_many_feeds() -> Self {
        let detail = format!("this node serves {MAX_FEEDS} feeds, the most it does at a time");
        let title = "Too many feeds are open";
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_feeds",
            title,
            detail,
        )
    }

    /// The stable name of the problem.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The problem as a document.
    pub(crate) fn document(&self) -> Value {
        let mut document = self.more.clone();
        document.insert(
            "type".into(),
            format!("urn:folio:problem:{}", self.code).into(),
        );
        document.insert("title".into(), self.title.into());
        document.insert("status".into(), self.status.as_u16().into());
        document.insert("code".into(), self.code.into());
        document.insert("detail".into(), self.detail.clone().into());
        Value::Object(document)
    }

    /// The node to ask instead of this one.
    pub(super) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The same as a redirect. A client that follows redirects repeats the request there, method and body included.
    pub(super) fn redirected_to(self, location: HeaderValue) -> Self {
        Problem {
            status: StatusCode::TEMPORARY_REDIRECT,
            location: Some(Box::new(location)),
            ..self
        }
    }

    fn storage(detail: impl ToString) -> Self {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "storage_failed",
            "The node's file cannot be used",
            detail,
        )
    }

    pub(super) fn too_large(detail: impl ToString) -> Self {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "The request is too large",
            detail,
        )
    }

    fn rejected_by_http(status: StatusCode, detail: String) -> Self {
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(detail),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(
                status,
                "unsupported_media_type",
                "The body must be application/json",
                detail,
            ),
            _ => Problem::malformed(detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Where the request went, and so where it should go, is known further out.
        let misdirected = (self.leader.is_some() && self.location.is_none()).then(|| self.clone());
        let body = self.document().to_string();
        let mut response = (self.status, body).into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(location) = self.location {
            response.headers_mut().insert(LOCATION, *location);
        }
        if let Some(problem) = misdirected {
            response.extensions_mut().insert(problem);
        }
        response
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Problem::rejected_by_http(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Problem::rejected_by_http(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Problem::rejected_by_http(rejection.status(), rejection.body_text())
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Problem::new(
            status,
            "invalid_command",
            "No state could accept this",
            &invalid,
        )
        .with("invalid", invalid)
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        match rejection {
            Rejection::Invalid(invalid) => invalid.into(),
            Rejection::UnknownVault { vault } => Problem::vault_not_found(vault),
            Rejection::VaultDeleted { vault } => Problem::vault_deleted(vault),
            Rejection::ConditionFailed {
                condition, found, ..
            } => {
                let title = "A condition does not hold";
                Problem::new(StatusCode::CONFLICT, "condition_failed", title, detail)
                    .with("condition", condition)
                    .with("found", found)
            }
            Rejection::SessionExpired { session } => Problem::new(
                StatusCode::GONE,
                "session_expired",
                "The session is over",
                detail,
            )
            .with("session", session),
            Rejection::SessionUnknown { session } => Problem::new(
                StatusCode::NOT_FOUND,
                "session_unknown",
                "No such session",
                detail,
            )
            .with("session", session),
            Rejection::StaleSequence { latest, .. } => {
                let title = "The sequence number is stale";
                Problem::new(StatusCode::CONFLICT, "stale_sequence", title, detail)
                    .with("latest", latest)
            }
        }
    }
}

impl From<NotRetained> for Problem {
    fn from(outside: NotRetained) -> Self {
        if outside.asked > outside.to {
            return Problem::block_not_found(outside.vault, outside.asked);
        }
        let title = "The vault does not keep what was that long ago";
        Problem::new(StatusCode::GONE, "height_not_retained", title, &outside)
            .with("from", outside.from)
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        Problem::storage(error)
    }
}

impl From<folio_raft::Error> for Problem {
    fn from(error: folio_raft::Error) -> Self {
        use folio_raft::Error;

        let detail = error.to_string();
        let unavailable =
            |code, title| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title, &detail);
        match error {
            Error::NotLeader { leader: None, .. } => Problem::no_leader(),
            Error::NotLeader {
                leader: Some(leader),
                address,
            } => {
                let title = "Another node leads";
                let problem =
                    Problem::new(StatusCode::MISDIRECTED_REQUEST, "not_leader", title, detail)
                        .with("leader", json!({ "node": leader, "peer_address": address }));
                Problem {
                    leader: Some(leader),
                    ..problem
                }
            }
            Error::TooFarBehind { .. } => {
                unavailable("too_far_behind", "This node is too far behind the leader")
            }
            Error::Membership { .. } => {
                let title = "The members stay as they are";
                Problem::new(StatusCode::CONFLICT, "membership_unchanged", title, detail)
            }
            Error::Handover { .. } => {
                unavailable("handover_failed", "The leadership was not handed over")
            }
            Error::NoQuorum => unavailable("no_quorum", "No quorum"),
            Error::ShuttingDown => unavailable("shutting_down", "The node is shutting down"),
            Error::Rebuilding { .. } => {
                unavailable("rebuilding", "The state of this node is being rebuilt")
            }
            Error::Stopped { .. } => Problem::node_stopped(detail),
            Error::Busy { .. } => Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "overloaded",
                "Too many requests are waiting",
                detail,
            ),
            Error::TooLarge { .. } => Problem::too_large(detail),
            Error::Unknown { .. } => {
                let title = "It is not known whether this was done";
                Problem::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "outcome_unknown",
                    title,
                    detail,
                )
            }
            Error::Timeout { .. } => Problem::timeout(detail),
            Error::Store(_) => Problem::storage(detail),
            _ => Problem::internal(detail),
        }
    }
}
