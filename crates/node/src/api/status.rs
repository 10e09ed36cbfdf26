//! What a node says about itself.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use folio_raft::{NodeId, Role, Status};
use serde::Serialize;

use super::Api;
use super::problem::Problem;
use crate::agreement::Divergence;

/// Answer to `GET /v1/status`.
#[derive(Debug, Serialize)]
pub(super) struct StatusJson {
    node: NodeId,
    version: &'static str,
    role: &'static str,
    term: u64,
    leader: Option<NodeId>,
    last_log: Option<u64>,
    applied: Option<u64>,
    checkpointed: Option<u64>,
    snapshot: Option<u64>,
    purged: Option<u64>,
    /// Members that vote, and where their peers reach them.
    voters: BTreeMap<NodeId, String>,
    learners: BTreeMap<NodeId, String>,
    /// What was damaged, while the state of the node is being rebuilt.
    rebuilding: Option<String>,
    /// The vaults that this node does not serve, because they are not those of other nodes.
    diverged: Vec<Divergence>,
    /// Why the node stopped, if it did.
    error: Option<String>,
    file: FileJson,
}

#[derive(Debug, Serialize)]
struct FileJson {
    path: String,
    page_size: u64,
    pages: u64,
    free_pages: u64,
    /// Durable commits since the node started.
    flushes: u64,
    /// `fdatasync` calls since the node started.
    fdatasyncs: u64,
}

pub(super) async fn status(State(api): State<Api>) -> Result<Json<StatusJson>, Problem> {
    let status = api.node.ledger().status();
    let statistics = api.node.ledger().statistics()?;
    let Status {
        node,
        term,
        leader,
        last_log,
        applied,
        checkpointed,
        snapshot,
        purged,
        voters,
        learners,
        rebuilding,
        error,
        ..
    } = status;
    Ok(Json(StatusJson {
        node,
        version: env!("CARGO_PKG_VERSION"),
        role: role(status.role),
        term,
        leader,
        last_log,
        applied,
        checkpointed,
        snapshot,
        purged,
        voters,
        learners,
        rebuilding,
        diverged: api.node.divergences(),
        error,
        file: FileJson {
            path: api.node.file().display().to_string(),
            page_size: statistics.page_size,
            pages: statistics.length_pages,
            free_pages: statistics.free_pages,
            flushes: statistics.flushes,
            fdatasyncs: statistics.syncs,
        },
    }))
}

/// Answers at all when the node runs, and with success when it knows a leader.
pub(super) async fn health(
    State(api): State<Api>,
) -> Result<Json<BTreeMap<&'static str, &'static str>>, Problem> {
    let status = api.node.ledger().status();
    match (status.error, status.leader) {
        (Some(error), _) => Err(Problem::node_stopped(error)),
        (None, None) => Err(Problem::no_leader()),
        (None, Some(_)) => Ok(Json(BTreeMap::from([("status", "ready")]))),
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
        // The list of roles may grow.
        _ => "other",
    }
}
