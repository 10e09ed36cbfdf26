//! Which node a request goes to, and what becomes of it if that one cannot answer.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use folio_api::{Code, MEDIA_TYPE, ProblemDocument};
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};

use crate::address::Address;
use crate::connection::{Answer, Connections, Lost, Request, not_folio};
use crate::error::{Error, Result};
use crate::settings::Settings;

/// Nodes that are known at a time. Redirects make more known; the last of these gives way.
const MAX_NODES: usize = 64;

/// The pause after all nodes were asked once; it doubles from round to round.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What may be done with a request that got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes nothing, and the leader is asked first.
    Read,
    /// It changes nothing, and any node may answer.
    ReadAnywhere,
    /// It is done each time that it is carried out.
    Once,
    /// It is done once however often it is sent.
    Repeatable,
}

/// The nodes of a cluster, as far as they are known, and connections to them.
pub(crate) struct Routes {
    pub connections: Connections,
    nodes: Mutex<Nodes>,
    pub deadline: Duration,
    patience: Duration,
}

struct Nodes {
    addresses: Vec<Address>,
    /// Who answered last as the leader does.
    leader: usize,
    /// Who is next when any node will do.
    turn: usize,
}

/// What an answer, or that there is none, means for the request.
pub(crate) enum Verdict<T> {
    /// This is the answer.
    Done(T),
    /// Another node is to be asked.
    Elsewhere(Address, String),
    /// Nothing was done; it may be otherwise later, or at another node.
    Later(String, Option<Duration>),
    /// It may have been done.
    Doubtful(String),
    /// No node would do it.
    Never(Error),
}

impl Routes {
    pub fn new(settings: &Settings) -> Result<Self> {
        let turn = random() as usize % settings.addresses.len();
        Ok(Routes {
            connections: Connections::new(settings)?,
            nodes: Mutex::new(Nodes {
                addresses: settings.addresses.clone(),
                leader: turn,
                turn,
            }),
            deadline: settings.deadline,
            patience: settings.patience,
        })
    }

    /// Has a request answered, at whatever node.
    pub async fn ask(&self, request: &Request, kind: Kind) -> Result<Answer> {
        let attempt = |address: Address| async move {
            match self.connections.exchange(&address, request).await {
                Ok(answer) => judge(&address, answer),
                Err(lost) => lost.into(),
            }
        };
        self.ask_by(kind, attempt).await
    }

    /// Has one node begin an answer that is taken as it comes, if it is of the kind that is `wanted`.
    pub async fn open(
        &self,
        address: Address,
        request: &Request,
        wanted: impl Fn(&Response<Incoming>) -> bool,
    ) -> Verdict<(Address, Response<Incoming>)> {
        let response = match self.connections.send(&address, request).await {
            Ok((_, response)) => response,
            Err(lost) => return lost.into(),
        };
        if wanted(&response) {
            return Verdict::Done((address, response));
        }
        match Connections::collect(&address, response).await {
            Err(lost) => lost.into(),
            Ok(answer) => match judge(&address, answer) {
                Verdict::Done(answer) => {
                    let reason = format!(
                        "the answer is of another kind, with status {}",
                        answer.status
                    );
                    Verdict::Never(not_folio(&address, reason))
                }
                Verdict::Elsewhere(leader, reason) => Verdict::Elsewhere(leader, reason),
                Verdict::Later(reason, wait) => Verdict::Later(reason, wait),
                Verdict::Doubtful(reason) => Verdict::Doubtful(reason),
                Verdict::Never(error) => Verdict::Never(error),
            },
        }
    }

    /// The same by any way to ask one node.
    pub async fn ask_by<T, F>(&self, kind: Kind, attempt: impl Fn(Address) -> F) -> Result<T>
    where
        F: Future<Output = Verdict<T>>,
    {
        let began = Instant::now();
        let mut address = self.first(kind);
        let mut attempts = Attempts::default();
        loop {
            let Some(left) = self
                .deadline
                .checked_sub(began.elapsed())
                .filter(|left| !left.is_zero())
            else {
                return Err(attempts.gave_up(kind, began.elapsed()));
            };
            // What cannot be repeated is worth waiting for.
            let patience = match kind {
                Kind::Once => left,
                _ => left.min(self.patience),
            };
            let asked = attempt(address.clone());
            let verdict = match tokio::time::timeout(patience, asked).await {
                Ok(verdict) => verdict,
                Err(_) => Verdict::Doubtful(format!("{address}: no answer within {patience:?}")),
            };
            let mut wait = None;
            match verdict {
                Verdict::Done(answer) => {
                    if kind != Kind::ReadAnywhere {
                        self.leads(&address);
                    }
                    return Ok(answer);
                }
                Verdict::Never(error @ (Error::Tls { .. } | Error::NotFolio { .. })) => {
                    // One node may be wrong where others are right.
                    attempts.wrong += 1;
                    if attempts.wrong >= self.count() {
                        return Err(attempts.in_doubt(kind).unwrap_or(error));
                    }
                    attempts.last = error.to_string();
                }
                Verdict::Never(error) => return Err(error),
                Verdict::Elsewhere(leader, reason) => {
                    attempts.last = reason;
                    attempts.asked += 1;
                    // Nodes that refer to each other are not followed for ever without a pause.
                    if attempts.asked % (self.count() + 1) != 0 {
                        address = leader;
                        continue;
                    }
                }
                Verdict::Doubtful(reason) if kind == Kind::Once => {
                    return Err(Error::OutcomeUnknown { reason });
                }
                Verdict::Doubtful(reason) => {
                    attempts.doubt = Some(reason.clone());
                    attempts.last = reason;
                }
                Verdict::Later(reason, after) => {
                    attempts.last = reason;
                    wait = after;
                }
            }
            attempts.asked += 1;
            address = self.after(&address);
            if attempts.asked % self.count() == 0 {
                wait = wait.max(Some(attempts.pause()));
            }
            if let Some(wait) = wait {
                let left = self.deadline.saturating_sub(began.elapsed());
                tokio::time::sleep(wait.min(left)).await;
            }
        }
    }

    /// The node to ask first.
    pub fn first(&self, kind: Kind) -> Address {
        let mut nodes = self.nodes();
        let place = match kind {
            Kind::ReadAnywhere => {
                nodes.turn = (nodes.turn + 1) % nodes.addresses.len();
                nodes.turn
            }
            _ => nodes.leader,
        };
        nodes.addresses[place].clone()
    }

    /// The node to ask after that one.
    pub fn after(&self, address: &Address) -> Address {
        let nodes = self.nodes();
        let place = nodes.addresses.iter().position(|known| known == address);
        let next = place.map_or(0, |place| (place + 1) % nodes.addresses.len());
        nodes.addresses[next].clone()
    }

    fn leads(&self, address: &Address) {
        let mut nodes = self.nodes();
        let place = nodes.addresses.iter().position(|known| known == address);
        nodes.leader = place.unwrap_or_else(|| {
            if nodes.addresses.len() == MAX_NODES {
                nodes.addresses.pop();
            }
            nodes.addresses.push(address.clone());
            nodes.addresses.len() - 1
        });
    }

    fn count(&self) -> usize {
        self.nodes().addresses.len()
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, Nodes> {
        // What is in there is whole whoever panicked.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has been tried for a request.
#[derive(Default)]
struct Attempts {
    asked: usize,
    rounds: u32,
    /// Nodes that were not what they should be.
    wrong: usize,
    /// Why it may have been done.
    doubt: Option<String>,
    last: String,
}

impl Attempts {
    /// How long to wait before the next round: anything up to a bound that doubles.
    fn pause(&mut self) -> Duration {
        let most = FIRST_PAUSE.saturating_mul(1 << self.rounds.min(10));
        self.rounds += 1;
        let parts = random() % 1000 + 1;
        most.min(LONGEST_PAUSE) * u32::try_from(parts).unwrap_or(1000) / 1000
    }

    fn in_doubt(&mut self, kind: Kind) -> Option<Error> {
        let reason = self.doubt.take().filter(|_| kind == Kind::Repeatable)?;
        Some(Error::OutcomeUnknown { reason })
    }

    fn gave_up(mut self, kind: Kind, waited: Duration) -> Error {
        self.in_doubt(kind).unwrap_or(Error::Unavailable {
            waited,
            last: self.last,
        })
    }
}

/// Clients that were cut off together do not come back together.
fn random() -> u64 {
    // Without random numbers the pauses are the same ones each time, which does no harm to a single client.
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

impl<T> From<Lost> for Verdict<T> {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::NotSent(reason) => Verdict::Later(reason, None),
            Lost::Sent(reason) => Verdict::Doubtful(reason),
            Lost::Never(error) => Verdict::Never(error),
        }
    }
}

/// What an answer means.
fn judge(address: &Address, answer: Answer) -> Verdict<Answer> {
    if (200..300).contains(&answer.status) {
        return Verdict::Done(answer);
    }
    let header = |name| {
        answer
            .headers
            .get(name)
            .and_then(|value: &hyper::header::HeaderValue| value.to_str().ok())
    };
    let problem = match header(CONTENT_TYPE) {
        Some(MEDIA_TYPE) => serde_json::from_slice::<ProblemDocument>(&answer.body).ok(),
        _ => None,
    };
    let Some(problem) = problem else {
        let reason = format!(
            "the status is {}, without a problem document",
            answer.status
        );
        // Something between here and the node.
        return match answer.status {
            502..=504 => Verdict::Doubtful(format!("{address}: {reason}")),
            _ => Verdict::Never(not_folio(address, reason)),
        };
    };
    let reason = format!("{address}: {}: {}", problem.title, problem.detail);
    match problem.code {
        Code::NotLeader => match header(LOCATION).and_then(|to| address.redirected(to)) {
            Some(leader) => Verdict::Elsewhere(leader, reason),
            None => Verdict::Later(reason, None),
        },
        Code::NodeStopped | Code::StorageFailed | Code::Timeout | Code::OutcomeUnknown => {
            Verdict::Doubtful(reason)
        }
        Code::Overloaded => {
            let seconds = header(RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
            Verdict::Later(reason, seconds.map(Duration::from_secs))
        }
        Code::NotYetApplied | Code::DiskFull => Verdict::Later(reason, None),
        _ if matches!(problem.status, 408 | 429 | 503) => Verdict::Later(reason, None),
        _ => Verdict::Never(Error::Refused(Box::new(problem))),
    }
}
