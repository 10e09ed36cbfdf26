//! Writes that are carried out once.

use bytes::Bytes;
use folio_api::{
    Code, NewTransaction, NewVault, Receipt, SessionClosed, SessionOpened, VaultCreated,
    VaultDeleted,
};
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::connection::{Request, not_folio};
use crate::error::{Error, Result};
use crate::path::Path;
use crate::route::Kind;

/// A session with the cluster, in which each write is carried out once however often it is sent: the client numbers its
/// writes, and the cluster remembers the last number and what it answered. So a write whose answer is lost is simply sent
/// again, at whatever node leads then.
///
/// One write is under way at a time; open a session for each task that writes. The cluster forgets a session that was not
/// used for a million entries of its log; writes are then refused with
/// [`SessionExpired`](folio_api::Code::SessionExpired).
#[derive(Debug)]
pub struct Session {
    client: Client,
    id: String,
    number: u64,
    /// The place that was used last.
    sequence: u64,
    /// The write of that place, while nobody knows what became of it.
    pending: Option<Request>,
}

impl Session {
    pub(crate) fn new(client: Client, opened: SessionOpened) -> Self {
        Session {
            client,
            id: opened.session,
            number: opened.number,
            sequence: 0,
            pending: None,
        }
    }

    /// The number of the session, under which blocks have what was done in it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether nobody knows what became of the last write; [`settle`](Self::settle) finds out.
    pub fn is_unsettled(&self) -> bool {
        self.pending.is_some()
    }

    /// Carries out a transaction, once.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] if no node answered for as long as the settings say, and some node may have it; see
    /// [`settle`](Self::settle).
    pub async fn submit(&mut self, vault: u64, transaction: &NewTransaction) -> Result<Receipt> {
        let transaction = NewTransaction {
            session: Some(self.next()),
            ..transaction.clone()
        };
        let path = Path::vault(vault).push("transactions");
        self.write(Method::POST, path, Some(&transaction)).await
    }

    /// Creates a vault, once.
    pub async fn create_vault(&mut self, name: &str, retention: u64) -> Result<VaultCreated> {
        let vault = NewVault {
            name: name.to_owned(),
            retention,
            session: Some(self.next()),
        };
        self.write(Method::POST, Path::new("vaults"), Some(&vault))
            .await
    }

    /// Deletes a vault, once.
    pub async fn delete_vault(&mut self, vault: u64) -> Result<VaultDeleted> {
        let place = self.next();
        let path = Path::vault(vault).query("session", place.id);
        let path = path.query("sequence", place.sequence);
        self.write(Method::DELETE, path, None::<&()>).await
    }

    /// Ends the session. The cluster would forget it by itself, later.
    pub async fn close(mut self) -> Result<()> {
        let place = self.next();
        let path = Path::new("sessions")
            .push(place.id)
            .query("sequence", place.sequence);
        let closed: Result<SessionClosed> = self.write(Method::DELETE, path, None::<&()>).await;
        match closed {
            // Ended by an attempt whose answer was lost, or because it was not used for long.
            Err(error) if error.code() == Some(Code::SessionExpired) => Ok(()),
            closed => closed.map(drop),
        }
    }

    /// Sends the last write again, whose answer was lost, and gives its answer; `None` if there is no such write. The
    /// answer is of the type that the write has. Whoever goes on with another write instead can be sure of one thing:
    /// the lost one is not carried out after that.
    pub async fn settle<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        match self.pending.take() {
            None => Ok(None),
            Some(request) => self.send(request).await.map(Some),
        }
    }

    fn next(&mut self) -> folio_api::Session {
        self.sequence += 1;
        folio_api::Session {
            id: self.id.clone(),
            sequence: self.sequence,
        }
    }

    async fn write<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: Path,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let body = body.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| Error::Setting(error.to_string()))?;
        self.send(Request {
            method,
            path: path.into_text(),
            body: body.map(Bytes::from),
            headers: Vec::new(),
        })
        .await
    }

    async fn send<T: DeserializeOwned>(&mut self, request: Request) -> Result<T> {
        // Also if the caller does not wait for the end of this.
        self.pending = Some(request.clone());
        let answer = self.client.routes.ask(&request, Kind::Repeatable).await;
        if !matches!(answer, Err(Error::OutcomeUnknown { .. })) {
            self.pending = None;
        }
        serde_json::from_slice(&answer?.body).map_err(|error| {
            let place = self.client.routes.first(Kind::Read);
            not_folio(&place, format!("the answer cannot be read: {error}"))
        })
    }
}
