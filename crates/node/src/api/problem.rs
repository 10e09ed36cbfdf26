//! Errors of the API, in one shape: problem documents of RFC 9457.
//!
//! `code` is stable and meant for programs; `title` and `detail` are for people and may change. [`Code`] has them all,
//! with their status and meaning.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use folio_api::{Code, Divergence, MEDIA_TYPE, ProblemDocument};
use folio_ledger::NotRetained;
use folio_ledger::command::Invalid;
use folio_ledger::error::LedgerError;
use folio_ledger::response::Rejection;
use folio_raft::NodeId;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::access::{Need, Role};
use crate::address::MemberAddress;
use crate::backups::MAX_BACKUPS;
use crate::feeds::MAX_FEEDS;

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

/// An error as the client sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    code: Code,
    detail: String,
    /// Members beyond those of the standard.
    more: Map<String, Value>,
    /// The node to ask instead.
    leader: Option<NodeId>,
    /// A header that goes with it: where that node is to be asked, the methods there are, or how to say who one is.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    fn new(code: Code, detail: impl ToString) -> Self {
        Problem {
            code,
            detail: detail.to_string(),
            more: Map::new(),
            leader: None,
            header: None,
        }
    }

    fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Problem {
            header: Some(Box::new((name, value))),
            ..self
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
        Problem::new(Code::MalformedRequest, detail)
    }

    pub(crate) fn https_required() -> Self {
        let detail =
            "this node speaks HTTPS: write https:// and trust the authority of the cluster";
        Problem::new(Code::HttpsRequired, detail)
    }

    pub(super) fn no_such_route() -> Self {
        let detail = "there is nothing under this path";
        Problem::new(Code::RouteNotFound, detail)
    }

    /// `allowed` are the methods that the path takes, with commas between them.
    pub(super) fn method_not_allowed(allowed: &str) -> Self {
        let problem = Problem::new(Code::MethodNotAllowed, format!("this path takes {allowed}"));
        match HeaderValue::from_str(allowed) {
            Ok(allowed) => problem.with_header(ALLOW, allowed),
            Err(_) => problem,
        }
    }

    pub(crate) fn unauthenticated() -> Self {
        let detail = "send a token in the header `Authorization: Bearer TOKEN`; after a redirect, too: with `curl \
                      --location-trusted`";
        let how = HeaderValue::from_static("Bearer realm=\"folio\"");
        Problem::new(Code::Unauthenticated, detail).with_header(WWW_AUTHENTICATE, how)
    }

    pub(crate) fn unknown_client(detail: impl ToString) -> Self {
        let how = HeaderValue::from_static("Bearer realm=\"folio\", error=\"invalid_token\"");
        Problem::new(Code::UnknownClient, detail).with_header(WWW_AUTHENTICATE, how)
    }

    /// `client` has not got what is needed in `vault`, if it is about one.
    pub(crate) fn forbidden(client: &str, need: Need, vault: Option<u64>) -> Self {
        let place = match (need, vault) {
            (Need::InVault(_), Some(vault)) => format!("in vault {vault}"),
            (Need::InVault(_), None) => "in that vault".to_owned(),
            (Need::Somewhere(_), _) => "in some vault".to_owned(),
            (Need::Everywhere(_) | Need::Nothing, _) => "in all vaults".to_owned(),
        };
        let role = need.role().map_or("any", Role::name);
        Problem::new(
            Code::Forbidden,
            format!("this takes the role `{role}` {place}, which `{client}` has not got"),
        )
    }

    pub(super) fn timeout(detail: impl ToString) -> Self {
        Problem::new(Code::Timeout, detail)
    }

    pub(super) fn not_yet_applied(detail: impl ToString) -> Self {
        Problem::new(Code::NotYetApplied, detail)
    }

    /// The ledger answers each kind of command in one way. Another answer is that of another command: the one that had
    /// the same place in the session.
    pub(super) fn sequence_used() -> Self {
        let detail =
            "this place in the session was used for another kind of command, and nothing was done";
        Problem::new(Code::SequenceUsed, detail)
    }

    pub(super) fn session_not_found() -> Self {
        let detail = "no session that this client has opened has this id";
        Problem::new(Code::SessionUnknown, detail)
    }

    pub(super) fn verification_running() -> Self {
        let detail = "a verification of this node's file is under way";
        Problem::new(Code::VerificationRunning, detail)
    }

    pub(super) fn vault_not_found(vault: u64) -> Self {
        let detail = format!("there is no vault {vault}");
        Problem::new(Code::VaultNotFound, detail)
    }

    pub(super) fn vault_deleted(vault: u64) -> Self {
        let detail = format!("vault {vault} was deleted");
        Problem::new(Code::VaultDeleted, detail)
    }

    pub(super) fn entity_not_found(vault: u64, key: &[u8]) -> Self {
        let detail = format!(
            "there is no entity \"{}\" in vault {vault}",
            key.escape_ascii()
        );
        Problem::new(Code::EntityNotFound, detail)
    }

    pub(super) fn block_not_found(vault: u64, height: u64) -> Self {
        let detail = format!("vault {vault} has no block {height}");
        Problem::new(Code::BlockNotFound, detail)
    }

    pub(super) fn transaction_not_found(vault: u64, height: u64, position: u32) -> Self {
        let detail = format!("block {height} of vault {vault} has no transaction {position}");
        Problem::new(Code::TransactionNotFound, detail)
    }

    pub(super) fn vault_diverged(divergence: &Divergence) -> Self {
        Problem::new(
            Code::VaultDiverged,
            format!("{divergence}; ask another node, and have this one rebuilt"),
        )
    }

    pub(super) fn nobody_to_rebuild_from() -> Self {
        Problem::new(
            Code::NobodyToRebuildFrom,
            "this node is the only one of its cluster that votes",
        )
    }

    pub(super) fn membership_unchanged(detail: impl ToString) -> Self {
        Problem::new(Code::MembershipUnchanged, detail)
    }

    pub(super) fn not_invited(detail: impl ToString) -> Self {
        Problem::new(Code::NotInvited, detail)
    }

    pub(super) fn no_leader() -> Self {
        let detail = "no leader is known at the moment";
        Problem::new(Code::NoLeader, detail)
    }

    pub(super) fn shutting_down() -> Self {
        Problem::new(Code::ShuttingDown, "this node is about to stop")
    }

    pub(super) fn node_stopped(detail: impl ToString) -> Self {
        Problem::new(Code::NodeStopped, detail)
    }

    pub(super) fn internal(detail: impl ToString) -> Self {
        Problem::new(Code::Internal, detail)
    }

    pub(crate) fn too_many_connections(limit: usize) -> Self {
        let detail = format!(
            "{limit} requests are under way, the most that this node carries out at a time"
        );
        Problem::new(Code::TooManyConnections, detail)
    }

    pub(super) fn uri_too_long(limit: usize) -> Self {
        Problem::new(
            Code::UriTooLong,
            format!("path and query are longer than {limit} bytes"),
        )
    }

    /// The rest of the body is not read, so the connection cannot go on.
    pub(super) fn body_too_slow(patience: Duration) -> Self {
        let detail = format!("the body did not come within {patience:?}");
        Problem::new(Code::BodyTimeout, detail)
            .with_header(CONNECTION, HeaderValue::from_static("close"))
    }

    pub(super) fn body_too_large(most: usize) -> Self {
        Problem::too_large(format!("the body is larger than {most} bytes"))
    }

    pub(super) fn too_many_bytes(limit: usize) -> Self {
        let detail = format!(
            "the bodies of the requests under way have {limit} bytes, the most that this node keeps of them"
        );
        Problem::new(Code::TooManyBytes, detail)
    }

    pub(super) fn too_many_feeds() -> Self {
        let detail = format!("this node serves {MAX_FEEDS} feeds, the most it does at a time");
        Problem::new(Code::TooManyFeeds, detail)
    }

    pub(super) fn too_many_backups() -> Self {
        let detail = format!("this node makes {MAX_BACKUPS} backups, the most it does at a time");
        Problem::new(Code::TooManyBackups, detail)
    }

    pub(super) fn backup_base(detail: impl ToString) -> Self {
        Problem::new(Code::BackupBase, detail)
    }

    /// What kind of problem it is.
    pub(super) fn code(&self) -> Code {
        self.code
    }

    fn status(&self) -> StatusCode {
        if self.code == Code::NotLeader && self.header.is_some() {
            return StatusCode::TEMPORARY_REDIRECT;
        }
        let status = StatusCode::from_u16(self.code.status());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The problem as a document.
    pub(crate) fn document(&self) -> ProblemDocument {
        ProblemDocument {
            name: format!("urn:folio:problem:{}", self.code),
            title: self.code.title().to_owned(),
            status: self.status().as_u16(),
            code: self.code,
            detail: self.detail.clone(),
            more: self.more.clone(),
        }
    }

    /// The node to ask instead of this one.
    pub(super) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The same as a redirect. A client that follows redirects repeats the request there, method and body included.
    pub(super) fn redirected_to(self, location: HeaderValue) -> Self {
        self.with_header(LOCATION, location)
    }

    fn storage(detail: impl ToString) -> Self {
        Problem::new(Code::StorageFailed, detail)
    }

    pub(super) fn too_large(detail: impl ToString) -> Self {
        Problem::new(Code::TooLarge, detail)
    }

    fn rejected_by_http(status: StatusCode, detail: String) -> Self {
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(detail),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(Code::UnsupportedMediaType, detail),
            _ => Problem::malformed(detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Where the request went, and so where it should go, is known further out.
        let misdirected = (self.leader.is_some() && self.header.is_none()).then(|| self.clone());
        let status = self.status();
        let mut response = (status, Json(self.document())).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::INSUFFICIENT_STORAGE
        ) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(header) = self.header {
            let (name, value) = *header;
            headers.insert(name, value);
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
        Problem::new(Code::InvalidCommand, &invalid).with("invalid", invalid)
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
            } => Problem::new(Code::ConditionFailed, detail)
                .with("condition", condition)
                .with("found", found),
            Rejection::SessionExpired { session } => {
                Problem::new(Code::SessionExpired, detail).with("session", session)
            }
            Rejection::SessionUnknown { session } => {
                Problem::new(Code::SessionUnknown, detail).with("session", session)
            }
            Rejection::StaleSequence { latest, .. } => {
                Problem::new(Code::StaleSequence, detail).with("latest", latest)
            }
        }
    }
}

impl From<NotRetained> for Problem {
    fn from(outside: NotRetained) -> Self {
        if outside.asked > outside.to {
            return Problem::block_not_found(outside.vault, outside.asked);
        }
        Problem::new(Code::HeightNotRetained, &outside).with("from", outside.from)
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

        // Clients are told where the peers of a leader reach it, not all that the membership says.
        let error = match error {
            Error::NotLeader { leader, address } => Error::NotLeader {
                leader,
                address: address.map(|address| MemberAddress::parse(&address).peers),
            },
            other => other,
        };
        let detail = error.to_string();
        let code = match error {
            Error::NotLeader {
                leader: Some(leader),
                address,
            } => {
                let problem = Problem::new(Code::NotLeader, detail)
                    .with("leader", json!({ "node": leader, "peer_address": address }));
                return Problem {
                    leader: Some(leader),
                    ..problem
                };
            }
            Error::NotLeader { leader: None, .. } => return Problem::no_leader(),
            Error::TooFarBehind { .. } => Code::TooFarBehind,
            Error::Membership { .. } => Code::MembershipUnchanged,
            Error::Handover { .. } => Code::HandoverFailed,
            Error::NoQuorum => Code::NoQuorum,
            Error::ShuttingDown => Code::ShuttingDown,
            Error::Rebuilding { .. } => Code::Rebuilding,
            Error::Stopped { .. } => Code::NodeStopped,
            Error::Busy { .. } => Code::Overloaded,
            Error::DiskFull { .. } => Code::DiskFull,
            Error::TooLarge { .. } => Code::TooLarge,
            Error::Unknown { .. } => Code::OutcomeUnknown,
            Error::Timeout { .. } => Code::Timeout,
            Error::Store(_) => Code::StorageFailed,
            _ => Code::Internal,
        };
        Problem::new(code, detail)
    }
}
