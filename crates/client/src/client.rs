//! What a cluster can be asked for.

use std::sync::Arc;

use bytes::Bytes;
use folio_api::Code;
use folio_api::{
    Block, Counter, Entity, JoinRequest, LastNumbers, Leader, MemberChange, Members, Moved,
    NewMember, NewNumbers, NewTransaction, NewVault, Newcomer, NodeId, Numbers, PastEntity,
    ReadLevel, Receipt, Relationship, RetentionSet, SessionOpened, Status, Successor, Vault,
    VaultChange, VaultCreated, VaultDeleted, Welcome,
};
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connection::{Request, not_folio};
use crate::error::{Error, Result};
use crate::feed::Feed;
use crate::pages::Pages;
use crate::path::{Path, is_anywhere};
use crate::route::{Kind, Routes};
use crate::session::Session;
use crate::settings::Settings;

/// A client of a cluster. Copies share what they know of it, and its connections.
///
/// What a node cannot answer is asked of the next one, for as long as [`Settings::deadline`] says; the leader is found by
/// itself. Reads are linearizable unless another [`ReadLevel`] is asked for.
#[derive(Clone)]
pub struct Client {
    pub(crate) routes: Arc<Routes>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Which relationships to list.
#[derive(Debug, Clone, Default)]
pub struct Relationships {
    /// Those of this resource; not together with `subject`.
    pub resource: Option<String>,
    /// Those of this relation.
    pub relation: Option<String>,
    /// Those of this subject.
    pub subject: Option<String>,
    /// The last ones first.
    pub backwards: bool,
}

impl Client {
    /// A client of the cluster that the settings name. Nothing is sent yet.
    pub fn new(settings: Settings) -> Result<Self> {
        Ok(Client {
            routes: Arc::new(Routes::new(&settings)?),
        })
    }

    /// Opens a session, in which each write is carried out once however often it has to be sent.
    pub async fn open_session(&self) -> Result<Session> {
        // One that was opened and not heard of is forgotten by the cluster.
        let opened: SessionOpened = self
            .write(Path::new("sessions"), &(), Kind::Repeatable)
            .await?;
        Ok(Session::new(self.clone(), opened))
    }

    /// Creates a vault. If the answer is lost, it is not known whether there is one more; a session knows.
    pub async fn create_vault(&self, name: &str, retention: u64) -> Result<VaultCreated> {
        let vault = NewVault {
            name: name.to_owned(),
            retention,
            session: None,
        };
        self.write(Path::new("vaults"), &vault, Kind::Once).await
    }

    /// Sets how many blocks back the entities of a vault can be read.
    pub async fn set_retention(&self, vault: u64, retention: u64) -> Result<RetentionSet> {
        let change = VaultChange {
            retention,
            session: None,
        };
        let path = Path::vault(vault);
        // The second time changes nothing.
        self.call(Method::PATCH, path, Some(&change), Kind::Repeatable)
            .await
    }

    /// Deletes a vault with everything in it. If the answer is lost, so is what became of it; a session knows.
    pub async fn delete_vault(&self, vault: u64) -> Result<VaultDeleted> {
        self.call(Method::DELETE, Path::vault(vault), None::<&()>, Kind::Once)
            .await
    }

    /// Carries out a transaction. If the answer is lost, it is not known whether it was; a session knows.
    pub async fn submit(&self, vault: u64, transaction: &NewTransaction) -> Result<Receipt> {
        let kind = match transaction.session {
            Some(_) => Kind::Repeatable,
            None => Kind::Once,
        };
        self.write(Path::vault(vault).push("transactions"), transaction, kind)
            .await
    }

    /// Takes numbers that nobody else gets. Numbers whose answer is lost are nobody's.
    pub async fn allocate_numbers(&self, counter: Counter, count: u32) -> Result<Numbers> {
        let numbers = NewNumbers {
            counter,
            count,
            session: None,
        };
        self.write(Path::new("numbers"), &numbers, Kind::Repeatable)
            .await
    }

    /// The last numbers that were taken.
    pub async fn last_numbers(&self, read: ReadLevel) -> Result<LastNumbers> {
        self.read(Path::new("numbers"), read).await
    }

    /// A vault and the end of its chain.
    pub async fn vault(&self, vault: u64, read: ReadLevel) -> Result<Vault> {
        self.read(Path::vault(vault), read).await
    }

    /// All vaults.
    pub fn vaults(&self, read: ReadLevel) -> Pages<Vault> {
        Pages::new(self.clone(), Path::new("vaults"), read)
    }

    /// An entity, if it is there.
    pub async fn entity(
        &self,
        vault: u64,
        key: impl AsRef<[u8]>,
        read: ReadLevel,
    ) -> Result<Option<Entity>> {
        let path = Path::vault(vault).push("entities").key(key.as_ref());
        there(self.read(path, read).await)
    }

    /// What an entity was as of a height, as far back as the vault retains it.
    pub async fn entity_at(
        &self,
        vault: u64,
        key: impl AsRef<[u8]>,
        height: u64,
        read: ReadLevel,
    ) -> Result<Option<Entity>> {
        let path = Path::vault(vault).push("entities").key(key.as_ref());
        there(self.read(path.query("height", height), read).await)
    }

    /// What an entity was since a height, in the order of time.
    pub fn history(
        &self,
        vault: u64,
        key: impl AsRef<[u8]>,
        from: u64,
        read: ReadLevel,
    ) -> Pages<PastEntity> {
        let path = Path::vault(vault).push("history").key(key.as_ref());
        Pages::new(self.clone(), path.query("from", from), read)
    }

    /// The entities whose keys begin with `prefix`, in the order of keys.
    pub fn entities(&self, vault: u64, prefix: &str, read: ReadLevel) -> Pages<Entity> {
        let path = Path::vault(vault).push("entities");
        Pages::new(self.clone(), path.query("prefix", prefix), read)
    }

    /// Relationships of a vault.
    pub fn relationships(
        &self,
        vault: u64,
        of: &Relationships,
        read: ReadLevel,
    ) -> Pages<Relationship> {
        let mut path = Path::vault(vault).push("relationships");
        for (name, value) in [
            ("resource", &of.resource),
            ("relation", &of.relation),
            ("subject", &of.subject),
        ] {
            if let Some(value) = value {
                path = path.query(name, value);
            }
        }
        if of.backwards {
            path = path.query("order", "backwards");
        }
        Pages::new(self.clone(), path, read)
    }

    /// A block, and its transactions from `from` on as far as they fit; `next` of it is where to go on.
    pub async fn block(
        &self,
        vault: u64,
        height: u64,
        from: u32,
        read: ReadLevel,
    ) -> Result<Block> {
        let path = Path::vault(vault).push("blocks").push(height);
        self.read(path.query("from", from), read).await
    }

    /// All that happens to a vault from a height on, without end and without a gap.
    pub fn changes(&self, vault: u64, from: u64) -> Feed {
        Feed::new(self.clone(), vault, from)
    }

    /// What one of the nodes knows of itself and the cluster.
    pub async fn status(&self) -> Result<Status> {
        self.call(
            Method::GET,
            Path::new("status"),
            None::<&()>,
            Kind::ReadAnywhere,
        )
        .await
    }

    /// Who belongs to the cluster.
    pub async fn members(&self) -> Result<Members> {
        self.call(Method::GET, Path::new("members"), None::<&()>, Kind::Read)
            .await
    }

    /// Adds a member, or puts it in the place of another. Asking again does no harm.
    pub async fn add_member(&self, member: &NewMember) -> Result<MemberChange> {
        self.write(Path::new("members"), member, Kind::Once).await
    }

    /// Says where a member is found now.
    pub async fn move_member(&self, member: NodeId, address: &str) -> Result<MemberChange> {
        let moved = Moved {
            address: address.to_owned(),
            api: None,
        };
        let path = Path::new("members").push(member);
        self.call(Method::PATCH, path, Some(&moved), Kind::Once)
            .await
    }

    /// Has the cluster choose an id for a node that was invited. An id whose answer is lost is nobody's.
    pub async fn ask_to_join(&self, invitation: &str) -> Result<Welcome> {
        let request = JoinRequest {
            invitation: invitation.to_owned(),
        };
        self.write(Path::new("join"), &request, Kind::Repeatable)
            .await
    }

    /// Makes a node that was invited, and runs under the id that it was given, a member. Asking again does no harm.
    pub async fn join(&self, node: NodeId, newcomer: &Newcomer) -> Result<MemberChange> {
        let path = Path::new("join").push(node);
        self.write(path, newcomer, Kind::Repeatable).await
    }

    /// Removes a member.
    pub async fn remove_member(&self, member: NodeId) -> Result<MemberChange> {
        let path = Path::new("members").push(member);
        self.call(Method::DELETE, path, None::<&()>, Kind::Once)
            .await
    }

    /// Hands the leadership over, to `to` or to the voter whose log is furthest along.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<Leader> {
        self.write(Path::new("leader"), &Successor { id: to }, Kind::Once)
            .await
    }

    /// Sends any request of the API, for what has no method here: `/v1/verification`, say. It is sent again only if
    /// it is a GET, or if no node knows of it.
    pub async fn request<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let wrong = |_| Error::Setting(format!("`{method}` is no method"));
        let method: Method = method.parse().map_err(wrong)?;
        let kind = match method == Method::GET {
            true if is_anywhere(path) => Kind::ReadAnywhere,
            true => Kind::Read,
            false => Kind::Once,
        };
        self.call(method, Path::raw(path), body, kind).await
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, path: Path, read: ReadLevel) -> Result<T> {
        let kind = match read {
            ReadLevel::Linearizable | ReadLevel::Lease => Kind::Read,
            _ => Kind::ReadAnywhere,
        };
        let path = match read {
            ReadLevel::Linearizable => path,
            other => path.query("read", other),
        };
        self.call(Method::GET, path, None::<&()>, kind).await
    }

    pub(crate) async fn write<T: DeserializeOwned>(
        &self,
        path: Path,
        body: &impl Serialize,
        kind: Kind,
    ) -> Result<T> {
        self.call(Method::POST, path, Some(body), kind).await
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: Path,
        body: Option<&impl Serialize>,
        kind: Kind,
    ) -> Result<T> {
        let body = body.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| Error::Setting(error.to_string()))?;
        let request = Request {
            method,
            path: path.into_text(),
            body: body.map(Bytes::from),
            headers: Vec::new(),
        };
        let answer = self.routes.ask(&request, kind).await?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            let place = self.routes.first(Kind::Read);
            not_folio(&place, format!("the answer cannot be read: {error}"))
        })
    }
}

/// An entity that is not there is no error.
fn there<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if error.code() == Some(Code::EntityNotFound) => Ok(None),
        found => found.map(Some),
    }
}
