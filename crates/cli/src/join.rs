//! Becoming a member of a cluster with an invitation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use folio_client::Client;
use folio_client::api::Newcomer;
use folio_node::{Node, SignedInvitation};
use folio_raft::NodeId;

use crate::run::Failure;

/// How long the members are asked again when none of them can answer, and how long the change may take then.
const PATIENCE: Duration = Duration::from_secs(60);

/// An invitation, and whom its holder believes to be a member of that cluster.
#[derive(Clone)]
pub struct Guest {
    signed: SignedInvitation,
    secret: String,
    authority: Option<PathBuf>,
}

impl Guest {
    /// From the text of an invitation, or a file with one.
    pub fn new(given: &str, authority: Option<PathBuf>) -> Result<Self, Failure> {
        let text = match given.starts_with("folio-join.") {
            true => given.to_owned(),
            false => read(Path::new(given))?,
        };
        let signed: SignedInvitation = text
            .parse()
            .map_err(|error| Failure::Usage(format!("--join: {error}")))?;
        let secure = signed
            .invitation
            .apis
            .iter()
            .any(|api| api.starts_with("https://"));
        match (secure, &authority) {
            (true, None) => Err(Failure::Usage(
                "the cluster speaks TLS: make a certificate for this node with `folio cert node`, and name the directory with --tls".into(),
            )),
            (false, Some(_)) => Err(Failure::Usage(
                "the cluster does not speak TLS: leave out --tls".into(),
            )),
            _ => Ok(Guest {
                secret: signed.to_secret(),
                signed,
                authority,
            }),
        }
    }

    /// The name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.signed.invitation.cluster
    }

    /// Has the cluster choose an id for a new node.
    pub async fn ask_for_id(&self) -> Result<NodeId, Failure> {
        let welcome = self.client()?.ask_to_join(&self.secret).await?;
        match welcome.id {
            0 => Err(Failure::error("the cluster answered without an id")),
            id => Ok(id),
        }
    }

    /// Has the cluster make a running node a member that votes, and waits until the node knows that it is one.
    pub async fn enter(
        &self,
        node: &Node,
        address: &str,
        api: Option<String>,
    ) -> Result<(), Failure> {
        let id = node.id();
        let newcomer = Newcomer {
            invitation: self.secret.clone(),
            address: address.to_owned(),
            api,
        };
        self.client()?.join(id, &newcomer).await?;
        let voting = node
            .ledger()
            .wait_for("the vote of this node", PATIENCE, |status| {
                status.voters.contains_key(&id)
            });
        voting.await.map(drop).map_err(|error| {
            Failure::Unavailable(format!(
                "{error}; start the node again in the same way, and it goes on"
            ))
        })
    }

    /// A client of those whom the invitation names.
    fn client(&self) -> Result<Client, Failure> {
        let mut settings = folio_client::Settings::new(&self.signed.invitation.apis)?
            .deadline(PATIENCE)
            .patience(PATIENCE / 2);
        if let Some(authority) = &self.authority {
            settings = settings.authority(authority)?;
        }
        Ok(Client::new(settings)?)
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        Failure::Usage(format!(
            "--join is an invitation or a file with one, and {} cannot be read: {error}",
            file.display()
        ))
    })
}
