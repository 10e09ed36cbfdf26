//! What a node says about itself.

use axum::Json;
use axum::extract::State;
use folio_api::{FileStatus, Role, Status};
use folio_raft::NodeId;
use schemars::JsonSchema;
use serde::Serialize;

use super::Api;
use super::problem::Problem;
use crate::address::MemberAddress;

pub(super) async fn status(State(api): State<Api>) -> Result<Json<Status>, Problem> {
    let status = api.node.ledger().status();
    let statistics = api.node.ledger().statistics()?;
    let folio_raft::Status {
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
        disk_full,
        error,
        ..
    } = status;
    Ok(Json(Status {
        node,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: role(status.role),
        term,
        leader,
        last_log,
        applied,
        checkpointed,
        snapshot,
        purged,
        voters: voters.into_iter().map(peers).collect(),
        learners: learners.into_iter().map(peers).collect(),
        rebuilding,
        diverged: api.node.divergences(),
        disk_full,
        error,
        file: FileStatus {
            path: api.node.file().display().to_string(),
            page_size: statistics.page_size,
            pages: statistics.length_pages,
            free_pages: statistics.free_pages,
            flushes: statistics.flushes,
            fdatasyncs: statistics.syncs,
        },
    }))
}

/// A member, and where its peers reach it.
fn peers((id, address): (NodeId, String)) -> (NodeId, String) {
    (id, MemberAddress::parse(&address).peers)
}

/// The node can serve.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    /// Always `ready`.
    status: &'static str,
}

/// Answers at all when the node runs, and with success when it knows a leader.
pub(super) async fn health(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    let status = api.node.ledger().status();
    match (status.error, status.leader) {
        (Some(error), _) => Err(Problem::node_stopped(error)),
        (None, None) => Err(Problem::no_leader()),
        (None, Some(_)) => Ok(Json(Health { status: "ready" })),
    }
}

fn role(role: folio_raft::Role) -> Role {
    use folio_raft::Role as Of;

    match role {
        Of::Leader => Role::Leader,
        Of::Follower => Role::Follower,
        Of::Candidate => Role::Candidate,
        Of::Learner => Role::Learner,
        Of::Stopped => Role::Stopped,
        // The list of roles may grow.
        _ => Role::Other,
    }
}
