//! Sessions, and whose they are.
//!
//! The ledger knows sessions by numbers that follow each other, and blocks show them. So a client names a session
//! with more than its number: the id that it was given is a [page token](super::token) in the list of the sessions of
//! this client, and nobody else's requests are carried out in it, or told what was answered there.

use axum::extract::{Extension, Json, State};
use folio_api::{Session, SessionClosed, SessionOpened};
use folio_ledger::command::Command;
use folio_ledger::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Api;
use super::openapi::Created;
use super::problem::Problem;
use super::routes::{Answer, Params, Place};
use super::token::List;

/// The name of the client that sends a request.
#[derive(Clone)]
pub(super) struct Client(pub(super) String);

pub(super) async fn open_session(
    State(api): State<Api>,
    Extension(Client(client)): Extension<Client>,
) -> Result<Created<SessionOpened>, Problem> {
    let key = api.token_key().await?;
    match api.write(Command::open_session()).await? {
        Response::SessionOpened { session: number } => {
            let session = List::sessions(&client).token(&key, &number.to_be_bytes());
            Ok(Created(SessionOpened { session, number }))
        }
        _ => Err(Problem::sequence_used()),
    }
}

/// The place in the session that is to be closed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AtSequence {
    /// One that the session has not used.
    #[schemars(range(min = 1))]
    sequence: u64,
}

pub(super) async fn close_session(
    State(api): State<Api>,
    Extension(client): Extension<Client>,
    session: Place<String>,
    params: Params<AtSequence>,
) -> Answer<SessionClosed> {
    let number = api.session_number(&client, &session?.0).await?;
    let close = Command::close_session(number, params?.0.sequence);
    match api.write(close).await? {
        Response::SessionClosed => Ok(Json(SessionClosed { closed: number })),
        _ => Err(Problem::sequence_used()),
    }
}

/// A place in a session, in the query of a request that has no body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InSession {
    session: Option<String>,
    /// Counts the session's commands from 1; goes together with `session`.
    #[schemars(range(min = 1))]
    sequence: Option<u64>,
}

impl InSession {
    pub(super) fn place(self) -> Result<Option<Session>, Problem> {
        match (self.session, self.sequence) {
            (Some(id), Some(sequence)) => Ok(Some(Session { id, sequence })),
            (None, None) => Ok(None),
            _ => Err(Problem::malformed(
                "`session` and `sequence` go together, or neither is given",
            )),
        }
    }
}

impl Api {
    /// Carries a command out, at its place in a session of the client if it has one.
    pub(super) async fn write_in(
        &self,
        client: &Client,
        session: Option<Session>,
        command: Command,
    ) -> Result<Response, Problem> {
        let command = match session {
            None => command,
            Some(Session { id, sequence }) => {
                command.in_session(self.session_number(client, &id).await?, sequence)
            }
        };
        self.write(command).await
    }

    /// The number of the client's session of that id.
    async fn session_number(&self, Client(client): &Client, id: &str) -> Result<u64, Problem> {
        let place = List::sessions(client).place(&self.token_key().await?, id);
        let number = place.and_then(|place| place.try_into().ok());
        number
            .map(u64::from_be_bytes)
            .ok_or_else(Problem::session_not_found)
    }
}
