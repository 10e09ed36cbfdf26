//! Errors of the API, in one shape: problem documents of RFC 9457.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The media type of problem documents.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $variant:ident: $status:literal $name:literal, $title:literal;)*) => {
        /// What kind of problem it is. The name is stable and meant for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[doc = $meaning])+ #[serde(rename = $name)] $variant,)*
            /// One that this version does not know.
            #[serde(other)]
            Other,
        }

        impl Code {
            /// All codes that a node answers with.
            pub const ALL: &[Code] = &[$(Code::$variant),*];

            /// Its name in documents.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Code::$variant => $name,)*
                    Code::Other => "other",
                }
            }

            /// The HTTP status that it comes with.
            pub const fn status(self) -> u16 {
                match self {
                    $(Code::$variant => $status,)*
                    Code::Other => 500,
                }
            }

            /// The title of its documents.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Code::$variant => $title,)*
                    Code::Other => "Something else",
                }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Code::$variant => concat!($($meaning),+).trim_ascii(),)*
                    Code::Other => "One that this version does not know.",
                }
            }
        }
    };
}

codes! {
    /// Another node leads; `leader` says which, and `Location` (with status 307) where, as far as known.
    NotLeader: 421 "not_leader", "Another node leads";
    /// The request cannot be understood.
    MalformedRequest: 400 "malformed_request", "The request cannot be understood";
    /// The node speaks TLS only.
    HttpsRequired: 400 "https_required", "The request is not encrypted";
    /// The request says nothing of who sends it, and not everybody may ask for this.
    Unauthenticated: 401 "unauthenticated", "Who are you?";
    /// The request says who sends it, and that is nobody whom this node knows.
    UnknownClient: 401 "unknown_client", "This node does not know you";
    /// The client has not got the role that is needed.
    Forbidden: 403 "forbidden", "You may not do this";
    /// There is nothing under this path.
    RouteNotFound: 404 "route_not_found", "No such path";
    /// There never was such a vault.
    VaultNotFound: 404 "vault_not_found", "No such vault";
    /// There is no such entity.
    EntityNotFound: 404 "entity_not_found", "No such entity";
    /// The vault has no block of this height.
    BlockNotFound: 404 "block_not_found", "No such block";
    /// The block has no transaction at this position.
    TransactionNotFound: 404 "transaction_not_found", "No such transaction";
    /// There never was such a session.
    SessionUnknown: 404 "session_unknown", "No such session";
    /// The path does not take this method.
    MethodNotAllowed: 405 "method_not_allowed", "Method not allowed";
    /// The body came too slowly. Nothing was done.
    BodyTimeout: 408 "body_timeout", "The body came too slowly";
    /// A condition did not hold, and nothing was done.
    ConditionFailed: 409 "condition_failed", "A condition does not hold";
    /// The session has gone on to later commands.
    StaleSequence: 409 "stale_sequence", "The sequence number is stale";
    /// The place in the session was used for another kind of command. Nothing was done.
    SequenceUsed: 409 "sequence_used", "The sequence number was used for something else";
    /// A verification is under way; there is one at a time.
    VerificationRunning: 409 "verification_running", "A verification is running";
    /// The node is the only one of its cluster that votes.
    NobodyToRebuildFrom: 409 "nobody_to_rebuild_from", "There is no other node to have the state from";
    /// Changes since a copy of another database were asked for, or since one that is newer than what the node has. Make a
    /// whole backup, or ask another node.
    BackupBase: 409 "backup_base", "The copy is none of this node's past";
    /// The change of members makes no sense now, and nothing was done.
    MembershipUnchanged: 409 "membership_unchanged", "The members stay as they are";
    /// The invitation to the cluster is not good.
    NotInvited: 403 "not_invited", "The node may not become a member";
    /// The leadership was not handed over; the node may lead still, `GET /v1/members` tells.
    HandoverFailed: 409 "handover_failed", "The leadership was not handed over";
    /// The node has not got so far as the read asks for, although it waited. Try again later, or elsewhere.
    NotYetApplied: 409 "not_yet_applied", "The node has not applied that entry yet";
    /// There was such a vault.
    VaultDeleted: 410 "vault_deleted", "The vault was deleted";
    /// The vault does not keep what was that long ago; `from` is how far back it does.
    HeightNotRetained: 410 "height_not_retained", "The vault does not keep what was that long ago";
    /// The session is over.
    SessionExpired: 410 "session_expired", "The session is over";
    /// The request is larger than a node takes.
    TooLarge: 413 "too_large", "The request is too large";
    /// Path and query are longer than a node takes.
    UriTooLong: 414 "uri_too_long", "The path is too long";
    /// The body must be application/json.
    UnsupportedMediaType: 415 "unsupported_media_type", "The body must be application/json";
    /// No state could accept it.
    InvalidCommand: 422 "invalid_command", "No state could accept this";
    /// Too many requests are waiting. Nothing was done; try again later.
    Overloaded: 429 "overloaded", "Too many requests are waiting";
    /// The node's file cannot be used.
    StorageFailed: 500 "storage_failed", "The node's file cannot be used";
    /// Something is wrong in the node.
    Internal: 500 "internal", "Something is wrong in the node";
    /// No leader is known. Nothing was done; try again later, or elsewhere.
    NoLeader: 503 "no_leader", "No leader";
    /// The leader does not reach a majority. Nothing was done; try again later, or elsewhere.
    NoQuorum: 503 "no_quorum", "No quorum";
    /// This node is too far behind for the read. Try again later, or elsewhere.
    TooFarBehind: 503 "too_far_behind", "This node is too far behind the leader";
    /// The node is shutting down. Nothing was done; try elsewhere.
    ShuttingDown: 503 "shutting_down", "The node is shutting down";
    /// The state of the node comes from another one. Nothing was done; try again later, or elsewhere.
    Rebuilding: 503 "rebuilding", "The state of this node is being rebuilt";
    /// The node has stopped for good. Nothing was done; try elsewhere.
    NodeStopped: 503 "node_stopped", "The node has stopped";
    /// As many requests are under way as a node carries out at a time. Nothing was done; try again later, or elsewhere.
    TooManyConnections: 503 "too_many_connections", "Too many requests are under way";
    /// The bodies of the requests under way are as large as a node keeps at a time. Nothing was done; try again later, or elsewhere.
    TooManyBytes: 503 "too_many_bytes", "The requests under way are too large together";
    /// The node serves as many feeds as it does. Try again later, or elsewhere.
    TooManyFeeds: 503 "too_many_feeds", "Too many feeds are open";
    /// The node makes as many backups as it does at a time. Try again later, or another node.
    TooManyBackups: 503 "too_many_backups", "Too many backups are under way";
    /// The vault at this node is not that of the others. Nothing was done; try elsewhere.
    VaultDiverged: 503 "vault_diverged", "This node does not serve the vault";
    /// It took too long; a write may have been done.
    Timeout: 504 "timeout", "It took too long";
    /// It may have been done: repeat it in the same session to find out.
    OutcomeUnknown: 504 "outcome_unknown", "It is not known whether this was done";
    /// Nothing was done: make room, or write to another node if one leads.
    DiskFull: 507 "disk_full", "The disk of this node is full";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A problem document of RFC 9457.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Problem")
)]
pub struct ProblemDocument {
    /// `urn:folio:problem:` and the code: a name, not a place on the web.
    #[serde(rename = "type")]
    pub name: String,
    /// What kind of problem it is, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What kind of problem it is, for programs.
    pub code: Code,
    /// What is wrong this time, for people.
    pub detail: String,
    /// What else the code comes with.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Code {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        let lines: Vec<_> = Code::ALL
            .iter()
            .map(|code| format!("- `{code}`: {}", code.meaning()))
            .collect();
        schemars::json_schema!({
            "description": lines.join("\n"),
            "type": "string",
            "enum": names,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_is_not_known_yet_can_be_read() {
        let document = |code: &str| {
            let text = format!(
                r#"{{"type": "", "title": "", "status": 503, "code": "{code}", "detail": "", "leader": 7}}"#
            );
            serde_json::from_str::<ProblemDocument>(&text).expect("a document")
        };
        assert_eq!(document("no_leader").code, Code::NoLeader);
        assert_eq!(document("of_tomorrow").code, Code::Other);
        assert_eq!(document("not_leader").more["leader"], 7);
    }
}
