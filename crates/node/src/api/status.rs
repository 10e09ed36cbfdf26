//! What a node says about itself.

use axum::Json;
use axum::extract::State;
use folio_api::{FileStatus, Role, Status};
use folio_raft::NodeId;
use schemars::JsonSchema;
use serde::Serialize;

use super::Api;
use super::openapi::Accepted;
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

/// Begins a snapshot; the status tells when it is there, and how far the log is gone.
pub(super) async fn snapshot(api: State<Api>) -> Result<Accepted<Status>, Problem> {
    api.node.ledger().trigger_snapshot().await?;
    let Json(status) = status(api).await?;
    Ok(Accepted(status))
}

/// A member, and where its peers reach it.
fn peers((id, address): (NodeId, String)) -> (NodeId, String) {
    (id, MemberAddress::parse(&address).peers)
}

/// How the node is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    /// What was asked for, which is so.
    status: Sound,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Sound {
    /// It is started.
    Started,
    /// It lives.
    Live,
    /// It is ready.
    Ready,
}

/// Whether the node has stopped for good: nothing but a restart changes that.
fn is_running(api: &Api) -> Result<folio_raft::Status, Problem> {
    let status = api.node.ledger().status();
    match status.error {
        Some(error) => Err(Problem::node_stopped(error)),
        None => Ok(status),
    }
}

/// That it answers at all says that its file is open and recovered: there is no API before. What it waits for after that, a
/// leader or a state from others, no restart would bring.
pub(super) async fn started(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    is_running(&api)?;
    let status = Sound::Started;
    Ok(Json(Health { status }))
}

/// The same later in its life. A node that waits for others, or for room on its disk, lives.
pub(super) async fn live(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    is_running(&api)?;
    let status = Sound::Live;
    Ok(Json(Health { status }))
}

/// Whether requests should be sent here: it knows a leader, has a state of its own, and is not about to stop.
pub(super) async fn ready(State(api): State<Api>) -> Result<Json<Health>, Problem> {
    let status = is_running(&api)?;
    if api.node.is_leaving() {
        return Err(Problem::shutting_down());
    }
    if let Some(damage) = status.rebuilding {
        return Err(folio_raft::Error::Rebuilding { damage }.into());
    }
    if status.leader.is_none() {
        return Err(Problem::no_leader());
    }
    let status = Sound::Ready;
    Ok(Json(Health { status }))
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
