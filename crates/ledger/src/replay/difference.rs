//! What a replay found.

use serde::Serialize;

use crate::state_key::StateKey;

/// Where a stored ledger is not what its history makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The vault; none if it is about what all vaults share.
    pub vault: Option<u64>,
    /// The height of the first block that differs, or of the last block if all are equal and the state is not.
    pub height: Option<u64>,
    /// What differs.
    pub what: String,
    /// The bucket of the commitment in which it is: the bits of its prefix, `the root` for none.
    pub bucket: Option<String>,
    /// The entity or relationship.
    pub key: Option<StateKey>,
    /// What is stored.
    pub stored: String,
    /// What the replay came to.
    pub replayed: String,
    /// What else is known of it.
    pub note: Option<String>,
}

impl Difference {
    pub(super) fn new(
        vault: u64,
        height: u64,
        what: impl Into<String>,
        stored: impl ToString,
        replayed: impl ToString,
    ) -> Self {
        Difference {
            vault: Some(vault),
            height: Some(height),
            what: what.into(),
            bucket: None,
            key: None,
            stored: stored.to_string(),
            replayed: replayed.to_string(),
            note: None,
        }
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(vault) = self.vault {
            write!(f, "vault {vault}, ")?;
        }
        if let Some(height) = self.height {
            write!(f, "block {height}, ")?;
        }
        if let Some(bucket) = &self.bucket {
            write!(f, "bucket {bucket}, ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}, ")?;
        }
        let Difference {
            what,
            stored,
            replayed,
            ..
        } = self;
        write!(f, "{what}: stored is {stored}, replayed is {replayed}")?;
        match &self.note {
            Some(note) => write!(f, "; {note}"),
            None => Ok(()),
        }
    }
}
