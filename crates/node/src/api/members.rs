//! Who belongs to the cluster, and who leads it. The leader carries changes out, one at a time.
//!
//! Waiting for a new member to have the whole log may take long. An answer 202 says that a change goes on; `GET
//! /v1/members` shows what has become of it, and asking for the same change again does no harm.

use std::future::Future;
use std::time::Duration;

use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use folio_raft::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Api;
use super::problem::Problem;
use super::routes::{Body, Place};

/// How long an answer waits for a change; shorter than any request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answer to `GET /v1/members`.
#[derive(Debug, Serialize)]
pub(super) struct Members {
    leader: Option<NodeId>,
    term: u64,
    members: Vec<Member>,
}

#[derive(Debug, Serialize)]
struct Member {
    id: NodeId,
    /// Where the other nodes reach it.
    address: String,
    votes: bool,
}

pub(super) async fn list(State(api): State<Api>) -> Json<Members> {
    let status = api.node.ledger().status();
    let member = |votes| move |(id, address)| Member { id, address, votes };
    let voters = status.voters.into_iter().map(member(true));
    let mut members: Vec<_> = voters
        .chain(status.learners.into_iter().map(member(false)))
        .collect();
    members.sort_by_key(|member| member.id);
    Json(Members {
        leader: status.leader,
        term: status.term,
        members,
    })
}

/// A node that is to belong to the cluster. It runs already, with an empty file and without `--init`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMember {
    id: NodeId,
    /// Its `--peer-listen` address, as the other nodes reach it.
    address: String,
    /// The voter whose place it takes.
    replaces: Option<NodeId>,
    /// Whether it gets a vote, once it has the whole log.
    #[serde(default = "yes")]
    votes: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn add(
    State(api): State<Api>,
    body: Body<NewMember>,
) -> Result<Response, Problem> {
    let NewMember {
        id,
        address,
        replaces,
        votes,
    } = body?.0;
    if id == 0 {
        return Err(Problem::malformed("ids of nodes begin with 1"));
    }
    if replaces.is_some() && !votes {
        return Err(Problem::malformed(
            "who replaces a voter votes: leave out `votes`",
        ));
    }
    let ledger = api.node.ledger().clone();
    carry_out(async move {
        match replaces {
            Some(old) => ledger.replace(old, id, address).await,
            None => {
                let added = ledger.add_learner(id, address).await?;
                match votes {
                    true => ledger.promote(id).await,
                    false => Ok(added),
                }
            }
        }
    })
    .await
}

/// A member that is found elsewhere now.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moved {
    address: String,
}

pub(super) async fn change(
    State(api): State<Api>,
    member: Place<NodeId>,
    body: Body<Moved>,
) -> Result<Response, Problem> {
    let (Path(member), Json(Moved { address })) = (member?, body?);
    let ledger = api.node.ledger().clone();
    carry_out(async move { ledger.set_address(member, address).await }).await
}

pub(super) async fn remove(
    State(api): State<Api>,
    member: Place<NodeId>,
) -> Result<Response, Problem> {
    let Path(member) = member?;
    let ledger = api.node.ledger().clone();
    carry_out(async move { ledger.remove(member).await }).await
}

/// Who is to lead.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Successor {
    /// The voter whose log is furthest along, if nobody is named.
    id: Option<NodeId>,
}

pub(super) async fn lead(
    State(api): State<Api>,
    body: Body<Successor>,
) -> Result<Json<serde_json::Value>, Problem> {
    let leader = api.node.ledger().transfer_leadership(body?.id).await?;
    Ok(Json(json!({ "leader": leader })))
}

/// Carries a change out to its end, whether or not the client waits for it.
async fn carry_out(
    change: impl Future<Output = folio_raft::Result<u64>> + Send + 'static,
) -> Result<Response, Problem> {
    let Ok(ended) = tokio::time::timeout(PATIENCE, tokio::spawn(change)).await else {
        return Ok((StatusCode::ACCEPTED, Json(json!({ "done": false }))).into_response());
    };
    let log_index = ended.map_err(Problem::internal)??;
    Ok(Json(json!({ "done": true, "log_index": log_index })).into_response())
}
