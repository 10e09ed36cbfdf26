//! Verifying this node's file while it runs, and having its state rebuilt. Each node answers for its own.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Json, Query, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::openapi::Accepted;
use super::problem::Problem;
use crate::verification::Verification;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    /// The most bytes to read in a second; 0 for as many as possible.
    #[serde(default)]
    rate: u64,
}

pub(super) async fn start(
    State(api): State<Api>,
    params: Result<Query<Start>, QueryRejection>,
) -> Result<Accepted<Verification>, Problem> {
    if !api.node.start_verification(params?.rate)? {
        return Err(Problem::verification_running());
    }
    Ok(Accepted(api.node.verification()))
}

/// The state of the node is being rebuilt.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Rebuilding {
    /// That it is.
    rebuilding: bool,
}

pub(super) async fn rebuild(State(api): State<Api>) -> Result<Accepted<Rebuilding>, Problem> {
    let divergences = api.node.divergences();
    let reason = match divergences.first() {
        Some(first) => format!("somebody asked for that; {first}"),
        None => "somebody asked for that".to_owned(),
    };
    match api.node.rebuild(reason).await? {
        true => Ok(Accepted(Rebuilding { rebuilding: true })),
        false => Err(Problem::nobody_to_rebuild_from()),
    }
}

pub(super) async fn show(State(api): State<Api>) -> Json<Verification> {
    Json(api.node.verification())
}

pub(super) async fn stop(State(api): State<Api>) -> Result<Json<Verification>, Problem> {
    let node = api.node.clone();
    // Waits for a thread, if not for long.
    tokio::task::spawn_blocking(move || node.stop_verification())
        .await
        .map_err(Problem::internal)?;
    Ok(Json(api.node.verification()))
}
