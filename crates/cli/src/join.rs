//! Becoming a member of a cluster with an invitation.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use folio_node::{Node, SignedInvitation};
use folio_raft::NodeId;
use serde_json::{Value, json};

use crate::client::{Client, Trust};
use crate::run::Failure;

/// How long the members are asked again when none of them can answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time between two questions.
const PAUSE: Duration = Duration::from_millis(500);

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
        let welcome = self
            .ask("/v1/join".into(), json!({ "invitation": self.secret }))
            .await?;
        let id = welcome["id"].as_u64().filter(|id| *id > 0);
        id.ok_or_else(|| Failure::Error(format!("the cluster answered without an id: {welcome}")))
    }

    /// Has the cluster make a running node a member that votes, and waits until the node knows that it is one.
    pub async fn enter(
        &self,
        node: &Node,
        address: &str,
        api: Option<String>,
    ) -> Result<(), Failure> {
        let path = format!("/v1/join/{}", node.id());
        let body = json!({ "invitation": self.secret, "address": address, "api": api });
        self.ask(path, body).await?;
        let id = node.id();
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

    /// Asks one member after the other until one answers.
    async fn ask(&self, path: String, body: Value) -> Result<Value, Failure> {
        let begun = Instant::now();
        loop {
            let mut last = Failure::Unavailable("the invitation names no member".into());
            for api in &self.signed.invitation.apis {
                let client = Client::new(api, &Trust::in_authority(self.authority.clone()))?;
                let (path, body) = (path.clone(), body.clone());
                let asked = tokio::task::spawn_blocking(move || client.post(&path, &body));
                last = match asked.await.map_err(Failure::error)? {
                    Ok((200..=299, answer)) => return Ok(answer),
                    Ok((status, problem)) => {
                        let detail = problem["detail"].as_str().unwrap_or("no reason was given");
                        let said = format!("{api}: {detail}");
                        match status {
                            // Another may lead, or lead soon.
                            307 | 421 | 429 | 503 | 504 => Failure::Unavailable(said),
                            _ => return Err(Failure::Error(said)),
                        }
                    }
                    Err(failure @ Failure::Unavailable(_)) => failure,
                    Err(failure) => return Err(failure),
                };
            }
            if begun.elapsed() > PATIENCE {
                return Err(last);
            }
            tokio::time::sleep(PAUSE).await;
        }
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
