//! How a node becomes a member of a cluster that exists already.
//!
//! An administrator asks for an invitation. The new node shows it and is given an id that no node had before; it starts
//! under that id, and shows the invitation again to be added. So a node that was interrupted in between goes on with the
//! id that it has.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{Json, Path, State};
use folio_api::{Invited, JoinRequest, NewInvitation, Newcomer, Welcome};
use folio_ledger::command::{Command, Counter};
use folio_ledger::response::Response as LedgerResponse;
use folio_raft::NodeId;

use super::Api;
use super::bodies::Bodies;
use super::members::{Changed, addresses, admit};
use super::openapi::Created;
use super::problem::Problem;
use super::routes::{Body, Place};
use crate::access::Access;
use crate::address::MemberAddress;
use crate::invitation::{Invitation, SignedInvitation};
use crate::node::Node;
use crate::server::Limits;

/// The longest that an invitation is good for, in hours.
const MAX_HOURS: u32 = 24 * 7;

pub(super) async fn invite(
    State(api): State<Api>,
    body: Body<NewInvitation>,
) -> Result<Created<Invited>, Problem> {
    let NewInvitation { hours } = body?.0;
    if hours == 0 || hours > MAX_HOURS {
        return Err(Problem::malformed(format!(
            "`hours` is from 1 to {MAX_HOURS}"
        )));
    }
    let signed = api.invitation(hours).await?;
    Ok(Created(Invited {
        invitation: signed.to_secret(),
        until: signed.invitation.until,
    }))
}

/// An invitation to the cluster of a node that leads, good for so many hours.
pub async fn invitation(node: &Node, hours: u32) -> Result<SignedInvitation, Problem> {
    let api = Api {
        node: node.clone(),
        addresses: Default::default(),
        document: Bytes::new(),
        access: Access::open(),
        rules: Default::default(),
        bodies: Bodies::new(&Limits::default()),
    };
    api.invitation(hours).await
}

impl Api {
    async fn invitation(&self, hours: u32) -> Result<SignedInvitation, Problem> {
        let key = self.token_key().await?;
        let hours = Duration::from_secs(u64::from(hours) * 60 * 60);
        let members = self.node.members();
        if let Some(highest) = members.keys().max() {
            self.take_node_id(*highest).await?;
        }
        let apis = members.values().filter_map(|member| member.api.as_ref());
        let invitation = Invitation {
            cluster: self.node.cluster().to_owned(),
            apis: apis.map(|api| self.node.url(api)).collect(),
            until: now() + hours.as_secs(),
        };
        if invitation.apis.is_empty() {
            let reason = "no member says where its API is: start one with --advertise, or tell with PATCH /v1/members/{id}";
            return Err(Problem::membership_unchanged(reason));
        }
        SignedInvitation::new(invitation, &key).map_err(Problem::internal)
    }

    /// Whether an invitation that was shown is good here.
    async fn check(&self, shown: &str) -> Result<(), Problem> {
        let refused = |error| Problem::not_invited(error);
        let signed: SignedInvitation = shown.parse().map_err(refused)?;
        // The key is made with the first invitation, so a cluster without one has made none.
        let key = self.token_key().await?;
        signed.check(&key, now()).map_err(refused)
    }

    async fn last_node_id(&self) -> Result<NodeId, Problem> {
        self.read(Default::default(), |ledger| {
            ledger.last_allocated(Counter::Node)
        })
        .await
    }

    /// Sees to it that an id that was chosen by hand is not given to another node later.
    pub(super) async fn take_node_id(&self, id: NodeId) -> Result<(), Problem> {
        let beyond = id.saturating_sub(self.last_node_id().await?);
        // The counter does not get to ids that are so far away.
        if let Ok(count) = u32::try_from(beyond)
            && count > 0
        {
            self.write(Command::allocate_numbers(Counter::Node, count))
                .await?;
        }
        Ok(())
    }

    /// Takes an id that no node was ever given.
    async fn next_node_id(&self) -> Result<NodeId, Problem> {
        let last = self.last_node_id().await?;
        // Those that the cluster was formed with are not in the counter.
        let highest = self.node.members().keys().max().copied().unwrap_or(0);
        let missing = highest.saturating_sub(last).saturating_add(1);
        let count = u32::try_from(missing).map_err(|_| {
            Problem::membership_unchanged(
                "the ids of the members are too large to count on from: choose one with --id",
            )
        })?;
        match self
            .write(Command::allocate_numbers(Counter::Node, count))
            .await?
        {
            LedgerResponse::NumbersAllocated { first, count, .. } => {
                Ok(first + u64::from(count) - 1)
            }
            _ => Err(Problem::sequence_used()),
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

pub(super) async fn ask(
    State(api): State<Api>,
    body: Body<JoinRequest>,
) -> Result<Created<Welcome>, Problem> {
    api.check(&body?.0.invitation).await?;
    Ok(Created(Welcome {
        id: api.next_node_id().await?,
        cluster: api.node.cluster().to_owned(),
    }))
}

pub(super) async fn enter(
    State(api): State<Api>,
    id: Place<NodeId>,
    body: Body<Newcomer>,
) -> Result<Changed, Problem> {
    let (Path(id), Json(newcomer)) = (id?, body?);
    api.check(&newcomer.invitation).await?;
    let found: MemberAddress = addresses(newcomer.address, newcomer.api)?;
    admit(&api, id, found, None, true).await
}
