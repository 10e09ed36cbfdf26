//! Whether this node's vaults are those of the others, and what becomes of one that is not.
//!
//! Every few seconds the node asks the voters what block hashes they have at the heights that it has
//! ([`folio_ledger::agreement`]), a page of vaults at a time. A vault **diverges** if more than half of the voters have
//! another hash than this node; or if no hash is known to be that of more than half, and the leader has another one.
//! It is not served any more, until the state has been [rebuilt](crate::Node::rebuild) and agrees again. What was found out
//! is in memory only: after a start, it is found out again before anything else is compared.
//!
//! A node that leads gives its leadership away when a vault of its own diverges: what it answers to a command follows
//! from its state. The log is not in question, and is what the others go by.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use folio_api::Divergence;
use folio_ledger::agreement::{Asked, Held, MAX_ASKED, held, question, read_answer};
use folio_ledger::{Ledger, LedgerView};
use folio_raft::{Error, NodeId, ReadLevel, ReplicatedDatabase, Role};

/// The time between two comparisons.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long another node has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a node knows of its vaults and those of others.
#[derive(Default)]
pub(crate) struct Agreement {
    diverged: Mutex<BTreeMap<u64, Divergence>>,
    /// One comparison at a time.
    turn: tokio::sync::Mutex<()>,
}

/// The map is whole whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compares again and again until the node stops or the task is aborted.
pub(crate) async fn watch(ledger: ReplicatedDatabase<Ledger>, agreement: Arc<Agreement>) {
    loop {
        match agreement.compare(&ledger).await {
            Err(Error::ShuttingDown | Error::Stopped { .. }) => return,
            Err(error) => {
                tracing::debug!(%error, "the vaults were not compared with those of other nodes")
            }
            Ok(()) => {}
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// How the others stand to what a node has.
#[derive(Debug, Clone, Copy, Default)]
struct Votes {
    agree: usize,
    disagree: usize,
    leader_disagrees: bool,
}

/// What follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Agrees,
    Diverges,
    /// Too few have answered.
    Unknown,
}

impl Votes {
    /// With so many voters, of which this node may be one.
    fn verdict(self, voters: usize, is_voter: bool) -> Verdict {
        let with_us = self.agree + usize::from(is_voter);
        if self.disagree * 2 > voters {
            Verdict::Diverges
        } else if with_us * 2 > voters {
            Verdict::Agrees
        } else if self.leader_disagrees {
            Verdict::Diverges
        } else {
            Verdict::Unknown
        }
    }
}

impl Agreement {
    /// The vaults that are not served.
    pub fn divergences(&self) -> Vec<Divergence> {
        lock(&self.diverged).values().cloned().collect()
    }

    /// How a vault differs, if it does.
    pub fn divergence(&self, vault: u64) -> Option<Divergence> {
        lock(&self.diverged).get(&vault).cloned()
    }

    /// Compares every vault once.
    pub async fn compare(&self, ledger: &ReplicatedDatabase<Ledger>) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let mut after = 0;
        loop {
            let page = local(ledger, move |view| view.vaults(after, MAX_ASKED)).await?;
            let Some(last) = page.last() else { break };
            let next = last.vault;
            let asked: Vec<Asked> = page
                .iter()
                .map(|info| Asked {
                    vault: info.vault,
                    height: info.height,
                })
                .collect();
            // What is between two pages is gone.
            lock(&self.diverged).retain(|vault, _| {
                !(after + 1..=next).contains(vault) || page.iter().any(|info| info.vault == *vault)
            });
            self.compare_page(ledger, &asked).await?;
            after = next;
        }
        lock(&self.diverged).retain(|vault, _| *vault <= after);
        Ok(())
    }

    async fn compare_page(
        &self,
        ledger: &ReplicatedDatabase<Ledger>,
        asked: &[Asked],
    ) -> Result<(), Error> {
        let status = ledger.status();
        let (me, leader) = (status.node, status.leader);
        let mut votes = vec![Votes::default(); asked.len()];
        let mut witnesses: Vec<Option<(NodeId, u64)>> = vec![None; asked.len()];
        for &peer in status.voters.keys().filter(|id| **id != me) {
            let answer = match ask(ledger, peer, asked).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(peer, %error, "a node did not say what blocks it has");
                    continue;
                }
            };
            let ours = answer_here(ledger, asked, &answer).await?;
            let places = votes.iter_mut().zip(&mut witnesses);
            for ((theirs, ours), (votes, witness)) in answer.iter().zip(&ours).zip(places) {
                match (theirs, ours) {
                    (Some(theirs), Some(ours)) if theirs == ours => votes.agree += 1,
                    (Some(theirs), Some(_)) => {
                        votes.disagree += 1;
                        votes.leader_disagrees |= leader == Some(peer);
                        // The leader is the one to be named, if it is among them.
                        if witness.is_none() || leader == Some(peer) {
                            *witness = Some((peer, theirs.height));
                        }
                    }
                    _ => {}
                }
            }
        }
        let is_voter = status.voters.contains_key(&me);
        for ((asked, votes), witness) in asked.iter().zip(votes).zip(witnesses) {
            match (votes.verdict(status.voters.len(), is_voter), witness) {
                (Verdict::Agrees, _) => {
                    if lock(&self.diverged).remove(&asked.vault).is_some() {
                        tracing::info!(
                            vault = asked.vault,
                            "the vault agrees with other nodes again"
                        );
                    }
                }
                (Verdict::Diverges, Some((peer, height))) => {
                    self.diverge(ledger, asked.vault, peer, height).await?;
                }
                (Verdict::Unknown | Verdict::Diverges, _) => {}
            }
        }
        let leads = status.role == Role::Leader;
        if leads
            && !lock(&self.diverged).is_empty()
            && let Err(error) = ledger.transfer_leadership(None).await
        {
            tracing::warn!(%error, "a node whose vaults diverge goes on leading");
        }
        Ok(())
    }

    /// Notes that a vault differs from that of `peer`, which it does at `height`.
    async fn diverge(
        &self,
        ledger: &ReplicatedDatabase<Ledger>,
        vault: u64,
        peer: NodeId,
        height: u64,
    ) -> Result<(), Error> {
        if lock(&self.diverged).contains_key(&vault) {
            return Ok(());
        }
        // Equal up to the first block that differs, and different from there on.
        let (mut equal, mut differs) = (0, height);
        while equal < differs {
            let middle = equal + (differs - equal) / 2;
            let asked = [Asked {
                vault,
                height: middle,
            }];
            let theirs = ask(ledger, peer, &asked).await?;
            match theirs == answer_here(ledger, &asked, &theirs).await? {
                true => equal = middle + 1,
                false => differs = middle,
            }
        }
        let asked = [Asked {
            vault,
            height: differs,
        }];
        let theirs = ask(ledger, peer, &asked).await?;
        let ours = answer_here(ledger, &asked, &theirs).await?;
        let hash = |held: Vec<Option<Held>>| match held.into_iter().next().flatten() {
            Some(held) => held.hash.to_string(),
            None => "none".to_owned(),
        };
        let divergence = Divergence {
            vault,
            height: differs,
            ours: hash(ours),
            theirs: hash(theirs),
            node: peer,
        };
        tracing::error!(%divergence, "a vault is not served any more");
        lock(&self.diverged).insert(vault, divergence);
        Ok(())
    }
}

/// Asks another node what it has.
async fn ask(
    ledger: &ReplicatedDatabase<Ledger>,
    peer: NodeId,
    asked: &[Asked],
) -> Result<Vec<Option<Held>>, Error> {
    let answer = ledger.ask(peer, question(asked), PATIENCE).await?;
    read_answer(&answer, asked.len()).map_err(|reason| Error::Peer { node: peer, reason })
}

/// What this node has at the heights at which another one has answered.
async fn answer_here(
    ledger: &ReplicatedDatabase<Ledger>,
    asked: &[Asked],
    theirs: &[Option<Held>],
) -> Result<Vec<Option<Held>>, Error> {
    let asked: Vec<Asked> = asked
        .iter()
        .zip(theirs)
        .map(|(asked, theirs)| Asked {
            vault: asked.vault,
            height: theirs.map_or(asked.height, |theirs| theirs.height.min(asked.height)),
        })
        .collect();
    local(ledger, move |view| {
        asked.iter().map(|asked| held(view, *asked)).collect()
    })
    .await
}

/// Reads what this node has.
async fn local<T: Send + 'static>(
    ledger: &ReplicatedDatabase<Ledger>,
    read: impl FnOnce(LedgerView<'_>) -> folio_ledger::error::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let read = ledger
        .read(ReadLevel::Local, |view| read(LedgerView::new(view)))
        .await?;
    read.map_err(|error| Error::Peer {
        node: ledger.status().node,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(agree: usize, disagree: usize, leader_disagrees: bool) -> Votes {
        Votes {
            agree,
            disagree,
            leader_disagrees,
        }
    }

    #[test]
    fn most_of_the_voters_are_right_and_the_leader_if_there_is_no_majority() {
        use Verdict::{Agrees, Diverges, Unknown};

        let cases = [
            (votes(0, 0, false), 1, Agrees),
            (votes(1, 1, true), 3, Agrees),
            (votes(0, 2, false), 3, Diverges),
            (votes(0, 1, true), 3, Diverges),
            (votes(0, 1, false), 3, Unknown),
            (votes(0, 0, false), 3, Unknown),
            (votes(0, 1, true), 2, Diverges),
            (votes(0, 1, false), 2, Unknown),
            (votes(2, 2, true), 5, Agrees),
            (votes(1, 2, true), 5, Diverges),
        ];
        for (votes, voters, verdict) in cases {
            assert_eq!(
                votes.verdict(voters, true),
                verdict,
                "{votes:?} of {voters}"
            );
        }
        // A learner has no voice itself.
        assert_eq!(votes(1, 0, false).verdict(3, false), Unknown);
        assert_eq!(votes(2, 0, false).verdict(3, false), Agrees);
    }
}
