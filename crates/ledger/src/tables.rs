//! The tables of the ledger, and how their rows are encoded.
//!
//! All of them belong to the default group, and all of them are in a snapshot.

use folio_raft::TableSet;
use folio_store::{Postcard, Table};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::response::Response;

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $title:literal, $key:ty => $value:ty;)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;
            impl Table for $name {
                const NAME: &'static str = $title;
                type Key = $key;
                type Value = $value;
            }
        )*

        /// Every table of the ledger.
        pub(crate) fn all() -> TableSet {
            TableSet::new()$(.with::<$name>())*
        }
    };
}

/// A vault and the three names of a relationship, in one order or the other.
pub(crate) type Names = (u64, &'static str, &'static str, &'static str);

tables! {
    /// vault
    Vaults: "ledger_vaults", u64 => Postcard<VaultRow>;
    /// (vault, key); the canonical encoding of the entity, so that a row is hashed as it is
    Entities: "ledger_entities", (u64, &'static [u8]) => &'static [u8];
    /// (time, vault, key) of every entity that expires
    Expiries: "ledger_expiries", (u64, u64, &'static [u8]) => ();
    /// (vault, key, height): the entity as it was before that block changed it, as above, or nothing
    /// if it was not there
    Versions: "ledger_versions", (u64, &'static [u8], u64) => &'static [u8];
    /// (vault, height, key) of every past version
    VersionHeights: "ledger_version_heights", (u64, u64, &'static [u8]) => ();
    /// (vault, resource, relation, subject)
    ByResource: "ledger_relationships_by_resource", Names => ();
    /// (vault, subject, relation, resource)
    BySubject: "ledger_relationships_by_subject", Names => ();
    /// (vault, height); the canonical encoding of the header
    Blocks: "ledger_blocks", (u64, u64) => &'static [u8];
    /// (vault, height, position); the canonical encoding of the record
    Transactions: "ledger_transactions", (u64, u64, u32) => &'static [u8];
    /// (vault, level, index): the complete subtrees of the history tree
    History: "ledger_history", (u64, u8, u64) => [u8; 32];
    /// (vault, path): the content hash of every item of the commitment
    Items: "ledger_state_items", (u64, [u8; 32]) => [u8; 32];
    /// (vault, depth, prefix): the large subtrees of the commitment, three levels to a row
    Fans: "ledger_state_fans", (u64, u16, &'static [u8]) => &'static [u8];
    /// session
    Sessions: "ledger_sessions", u64 => Postcard<SessionRow>;
    /// (log index of the last use, session)
    SessionUses: "ledger_session_uses", (u64, u64) => ();
    /// name; the last number given out
    Counters: "ledger_counters", &'static str => u64;
    /// the key that page tokens are made with
    TokenKeys: "ledger_token_keys", () => [u8; 32];
    /// vault; why there are rows of it to remove
    Cleanups: "ledger_cleanups", u64 => Postcard<Cleanup>;
}

/// A vault and the end of its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VaultRow {
    pub(crate) name: String,
    /// Height, hash and time of the latest block.
    pub(crate) height: u64,
    pub(crate) block_hash: Digest,
    pub(crate) time: u64,
    /// What the latest block says of the state.
    pub(crate) state_root: Digest,
    pub(crate) entities: u64,
    pub(crate) relationships: u64,
    /// How many blocks back its entities can be read.
    pub(crate) retention: u64,
    /// The lowest height as of which its entities can be read.
    pub(crate) retained_from: u64,
}

impl VaultRow {
    /// What of the past can be read once there is a block at `height`.
    pub(crate) fn retain_at(&mut self, height: u64) {
        let earliest = height.saturating_sub(self.retention);
        self.retained_from = self.retained_from.max(earliest);
    }

    /// What of the past can be read from now on: no more than before, because what was not kept
    /// does not come back.
    pub(crate) fn set_retention(&mut self, retention: u64) {
        self.retention = retention;
        self.retain_at(self.height);
    }
}

/// Why a vault has rows that nobody can reach any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cleanup {
    /// It was deleted: all of them.
    Deleted,
    /// It retains fewer past versions than are there.
    Trimmed,
}

/// The names of the counters.
pub(crate) mod counter {
    pub(crate) const VAULT: &str = "vault";
    pub(crate) const SESSION: &str = "session";
    pub(crate) const ORGANIZATION: &str = "organization";
    pub(crate) const USER: &str = "user";
    pub(crate) const NODE: &str = "node";
}

/// A session: the latest sequence number, its answer, and when it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) used_at: u64,
    /// Absent in a session that has seen no command.
    pub(crate) latest: Option<Answered>,
}

/// A command that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) sequence: u64,
    pub(crate) response: Response,
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_table_is_listed_once() {
        let mut names: Vec<_> = super::all()
            .definitions()
            .into_iter()
            .map(|table| table.name)
            .collect();
        assert_eq!(names.len(), 17);
        names.dedup();
        assert_eq!(names.len(), 17);
    }
}
