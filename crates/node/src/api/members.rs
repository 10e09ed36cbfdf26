//! Who belongs to the cluster, and who leads it. The leader carries changes out, one at a time.
//!
//! Waiting for a new member to have the whole log may take long. An answer 202 says that a change goes on; `GET
//! /v1/members` shows what has become of it, and asking for the same change again does no harm.

use std::future::Future;
use std::time::Duration;

use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use folio_api::{Leader, Member, MemberChange, Members, Moved, NewMember, Successor};
use folio_raft::NodeId;

use super::Api;
use super::openapi::{Operation, Output};
use super::problem::Problem;
use super::routes::{Body, Place};

/// How long an answer waits for a change; shorter than any request may take.
const PATIENCE: Duration = Duration::from_secs(20);

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

pub(super) async fn add(State(api): State<Api>, body: Body<NewMember>) -> Result<Changed, Problem> {
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
    check_address(&address)?;
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

pub(super) async fn change(
    State(api): State<Api>,
    member: Place<NodeId>,
    body: Body<Moved>,
) -> Result<Changed, Problem> {
    let (Path(member), Json(Moved { address })) = (member?, body?);
    check_address(&address)?;
    let ledger = api.node.ledger().clone();
    carry_out(async move { ledger.set_address(member, address).await }).await
}

pub(super) async fn remove(
    State(api): State<Api>,
    member: Place<NodeId>,
) -> Result<Changed, Problem> {
    let Path(member) = member?;
    let ledger = api.node.ledger().clone();
    carry_out(async move { ledger.remove(member).await }).await
}

pub(super) async fn lead(
    State(api): State<Api>,
    body: Body<Successor>,
) -> Result<Json<Leader>, Problem> {
    let leader = api.node.ledger().transfer_leadership(body?.0.id).await?;
    Ok(Json(Leader { leader }))
}

/// Whether others can be told to look there. Nobody knows yet whether somebody listens.
fn check_address(address: &str) -> Result<(), Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let parts = address.rsplit_once(':');
    let there = parts.is_some_and(|(host, port)| {
        !host.is_empty() && host.chars().all(plain) && port.parse().is_ok_and(|port: u16| port > 0)
    });
    match there {
        true => Ok(()),
        false => Err(Problem::malformed(format!(
            "`{}` is no address of a member: write HOST:PORT",
            address.escape_debug()
        ))),
    }
}

/// What has become of a change; 202 while it goes on.
pub(super) struct Changed(MemberChange);

impl IntoResponse for Changed {
    fn into_response(self) -> Response {
        let status = match self.0.done {
            true => StatusCode::OK,
            false => StatusCode::ACCEPTED,
        };
        (status, Json(self.0)).into_response()
    }
}

impl Output for Changed {
    fn describe(operation: &mut Operation<'_>) {
        operation.json::<MemberChange>(200, "Done");
        operation.json::<MemberChange>(202, "Under way");
    }
}

/// Carries a change out to its end, whether or not the client waits for it.
async fn carry_out(
    change: impl Future<Output = folio_raft::Result<u64>> + Send + 'static,
) -> Result<Changed, Problem> {
    let Ok(ended) = tokio::time::timeout(PATIENCE, tokio::spawn(change)).await else {
        return Ok(Changed(MemberChange {
            done: false,
            log_index: None,
        }));
    };
    let log_index = ended.map_err(Problem::internal)??;
    Ok(Changed(MemberChange {
        done: true,
        log_index: Some(log_index),
    }))
}
