//! How a request reads and writes: read levels, sizes of pages, and keys in paths.

use folio_api::{MAX_LIMIT, ReadLevel};
use folio_ledger::command::{Command, validate};
use folio_ledger::error::LedgerError;
use folio_ledger::response::Response;
use folio_ledger::{LedgerView, VaultInfo};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::Instrument;

use super::Api;
use super::problem::Problem;
use super::spans;

/// How many rows a page has when the request does not say.
const DEFAULT_LIMIT: usize = 100;

/// The level of the replicated database.
fn level(of: ReadLevel) -> folio_raft::ReadLevel {
    use folio_raft::ReadLevel as To;

    match of {
        ReadLevel::Linearizable => To::Linearizable,
        ReadLevel::Lease => To::Lease,
        ReadLevel::Follower => To::Follower,
        ReadLevel::AtLeast(index) => To::AtLeast(index),
        ReadLevel::Local => To::Local,
    }
}

/// `?read=`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    #[serde(default)]
    pub(super) read: ReadLevel,
}

impl Api {
    /// Reads the ledger on a thread for blocking work.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        at: ReadLevel,
        read: impl FnOnce(LedgerView<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, Problem> {
        let read = move |view: &_| read(LedgerView::new(view));
        let reading = self.node.ledger().read(level(at), read);
        match reading.instrument(spans::read(at)).await {
            Err(error @ folio_raft::Error::Timeout { .. })
                if matches!(at, ReadLevel::AtLeast(_)) =>
            {
                Err(Problem::not_yet_applied(error))
            }
            done => Ok(done??),
        }
    }

    /// That this node's copy of a vault is not that of the others is a problem.
    fn serves(&self, vault: u64) -> Result<(), Problem> {
        match self.node.divergence(vault) {
            None => Ok(()),
            Some(divergence) => Err(Problem::vault_diverged(&divergence)),
        }
    }

    /// Reads a vault. That it is not there is a problem.
    pub(super) async fn read_vault<T: Send + 'static>(
        &self,
        at: ReadLevel,
        vault: u64,
        read: impl FnOnce(LedgerView<'_>, VaultInfo) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.serves(vault)?;
        let read = move |ledger: LedgerView<'_>| match ledger.vault(vault)? {
            Some(info) => read(ledger, info).map(Ok),
            None if ledger.was_deleted(vault)? => Ok(Err(Problem::vault_deleted(vault))),
            None => Ok(Err(Problem::vault_not_found(vault))),
        };
        self.read(at, read).await?
    }

    /// Has the cluster carry out a command. What was refused is a problem.
    pub(super) async fn write(&self, command: Command) -> Result<Response, Problem> {
        validate(&command)?;
        if let Some(vault) = command.action.vault() {
            self.serves(vault)?;
        }
        let span = spans::write();
        let writing = self.node.ledger().write(command).instrument(span.clone());
        let written = writing.await?;
        span.record("folio.log_index", written.index);
        match written.response {
            Response::Rejected(rejection) => Err(rejection.into()),
            response => Ok(response),
        }
    }
}

/// The number of rows to return.
pub(super) fn page_limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::malformed(format!(
            "`limit` is {limit}, it must be from 1 to {MAX_LIMIT}"
        ))),
    }
}

/// The key in a path, which may hold any bytes: `%FF` stands for a byte that is not text.
/// It comes after so many slashes.
pub(super) fn key_in_path(path: &str, slashes: usize) -> Result<Vec<u8>, Problem> {
    let parts = path.splitn(slashes + 1, '/');
    let encoded = parts.last().unwrap_or_default();
    let mut key = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            key.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => key.push((high * 16 + low) as u8),
            _ => {
                return Err(Problem::malformed(
                    "a `%` in the key is not followed by two hexadecimal digits",
                ));
            }
        }
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_can_be_a_key_in_a_path() {
        let key = |encoded: &str| key_in_path(&format!("/v1/vaults/1/entities/{encoded}"), 5);
        assert_eq!(key("customer:4").ok(), Some(b"customer:4".to_vec()));
        assert_eq!(key("a/b//c").ok(), Some(b"a/b//c".to_vec()));
        assert_eq!(key("%ff%00%2F").ok(), Some(b"\xff\x00/".to_vec()));
        for broken in ["%", "%f", "a%fg", "%%%"] {
            assert!(key(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_page_has_a_limit() {
        assert!(page_limit(Some(0)).is_err());
        assert!(page_limit(Some(MAX_LIMIT + 1)).is_err());
        assert_eq!(page_limit(Some(MAX_LIMIT)), Ok(MAX_LIMIT));
        assert_eq!(page_limit(None), Ok(DEFAULT_LIMIT));
    }
}
