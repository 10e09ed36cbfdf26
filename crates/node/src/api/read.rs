//! How a request reads and writes: read levels, sizes of pages, and keys in paths.

use folio_ledger::command::{Command, validate};
use folio_ledger::error::LedgerError;
use folio_ledger::response::Response;
use folio_ledger::{LedgerView, VaultInfo};
use folio_raft::ReadLevel;
use serde::Deserialize;

use super::Api;
use super::problem::Problem;

/// How many rows a page has when the request does not say.
const DEFAULT_LIMIT: usize = 100;
/// How many rows a page has at most.
const MAX_LIMIT: usize = 1000;

/// How fresh a read has to be, as `?read=` says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Level(ReadLevel);

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let level = match text.as_str() {
            "linearizable" => ReadLevel::Linearizable,
            "lease" => ReadLevel::Lease,
            "follower" => ReadLevel::Follower,
            "local" => ReadLevel::Local,
            other => match other.strip_prefix("at_least:").map(str::parse) {
                Some(Ok(index)) => ReadLevel::AtLeast(index),
                _ => {
                    return Err(
                        "`read` is one of `linearizable`, `lease`, `follower`, `local`, and `at_least:` with a log index"
                            .into(),
                    );
                }
            },
        };
        Ok(Level(level))
    }
}

impl Level {
    /// What this node has.
    pub(super) const LOCAL: Level = Level(ReadLevel::Local);
}

/// `?read=`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    #[serde(default)]
    pub(super) read: Level,
}

impl Api {
    /// Reads the ledger on a thread for blocking work.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        level: Level,
        read: impl FnOnce(LedgerView<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, Problem> {
        let read = move |view: &_| read(LedgerView::new(view));
        Ok(self.node.ledger().read(level.0, read).await??)
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
        level: Level,
        vault: u64,
        read: impl FnOnce(LedgerView<'_>, VaultInfo) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.serves(vault)?;
        let read = move |ledger: LedgerView<'_>| match ledger.vault(vault)? {
            Some(info) => read(ledger, info).map(Ok),
            None if ledger.was_deleted(vault)? => Ok(Err(Problem::vault_deleted(vault))),
            None => Ok(Err(Problem::vault_not_found(vault))),
        };
        self.read(level, read).await?
    }

    /// Has the cluster carry out a command. What was refused is a problem.
    pub(super) async fn write(&self, command: Command) -> Result<Response, Problem> {
        validate(&command)?;
        if let Some(vault) = command.action.vault() {
            self.serves(vault)?;
        }
        match self.node.ledger().write(command).await?.response {
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
    fn every_read_level_has_a_name() {
        let level = |text: &str| Level::try_from(text.to_owned()).map(|level| level.0);
        for (text, expected) in [
            ("linearizable", ReadLevel::Linearizable),
            ("lease", ReadLevel::Lease),
            ("follower", ReadLevel::Follower),
            ("local", ReadLevel::Local),
            ("at_least:17", ReadLevel::AtLeast(17)),
        ] {
            assert_eq!(level(text), Ok(expected));
        }
        for wrong in ["", "Local", "at_least", "at_least:", "at_least:-1"] {
            assert!(level(wrong).is_err(), "{wrong}");
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
