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
use crate::address::{MemberAddress, is_host_and_port};

/// How long an answer waits for a change; shorter than any request may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn list(State(api): State<Api>) -> Json<Members> {
    let status = api.node.ledger().status();
    let members = api.node.members().into_iter();
    let members = members.map(|(id, MemberAddress { peers, api })| Member {
        id,
        address: peers,
        api,
        votes: status.voters.contains_key(&id),
    });
    Json(Members {
        leader: status.leader,
        term: status.term,
        members: members.collect(),
    })
}

pub(super) async fn add(State(api): State<Api>, body: Body<NewMember>) -> Result<Changed, Problem> {
    let NewMember {
        id,
        address,
        api: its_api,
        replaces,
        votes,
    } = body?.0;
    if replaces.is_some() && !votes {
        return Err(Problem::malformed(
            "who replaces a voter votes: leave out `votes`",
        ));
    }
    admit(&api, id, addresses(address, its_api)?, replaces, votes).await
}

/// The addresses of a member, as a client has given them. Nobody knows yet whether somebody listens there.
pub(super) fn addresses(peers: String, api: Option<String>) -> Result<MemberAddress, Problem> {
    match std::iter::once(&peers)
        .chain(&api)
        .find(|address| !is_host_and_port(address))
    {
        None => Ok(MemberAddress { peers, api }),
        Some(address) => Err(Problem::malformed(format!(
            "`{}` is no address of a member: write HOST:PORT",
            address.escape_debug()
        ))),
    }
}

/// Makes a node a member, in the place of another if one is named.
pub(super) async fn admit(
    api: &Api,
    id: NodeId,
    found: MemberAddress,
    replaces: Option<NodeId>,
    votes: bool,
) -> Result<Changed, Problem> {
    if id == 0 {
        return Err(Problem::malformed("ids of nodes begin with 1"));
    }
    api.take_node_id(id).await?;
    let ledger = api.node.ledger().clone();
    let address = found.to_string();
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
    let (Path(member), Json(moved)) = (member?, body?);
    let before = || api.node.members().remove(&member)?.api;
    let found = addresses(moved.address, moved.api.or_else(before))?;
    let ledger = api.node.ledger().clone();
    carry_out(async move { ledger.set_address(member, found.to_string()).await }).await
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
