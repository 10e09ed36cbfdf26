//! The tables of the Raft store, and the records in them.
//!
//! Two groups, because they become durable at different times: every append flushes the log group
//! and nothing else, while the state group reaches the disk by checkpoints. Records are types of
//! this crate, so that the layout of the file does not follow the layout of openraft's modules.

use std::marker::PhantomData;

use folio_store::{Group, Postcard, Table};
use serde::{Deserialize, Serialize};

use crate::types::{LogId, NodeId, SnapshotMeta, StoredMembership, Vote};

/// The group of the log and of what Raft must not forget.
pub const LOG_GROUP: Group = Group::new(1);

/// The log: index to encoded entry.
///
/// The values are bytes that this crate encodes itself: encoding a user's command may fail, which
/// has to be an error, and a reader that is limited by bytes must not decode to learn a length.
pub struct Log<S>(PhantomData<fn() -> S>);
impl<S: 'static> Table for Log<S> {
    const NAME: &'static str = "raft_log";
    const GROUP: Group = LOG_GROUP;
    type Key = u64;
    type Value = &'static [u8];
}

/// What Raft must find again after a crash, besides the log; one row each.
pub struct Votes;
impl Table for Votes {
    const NAME: &'static str = "raft_vote";
    const GROUP: Group = LOG_GROUP;
    type Key = ();
    type Value = Postcard<VoteRecord>;
}

/// The last purged log id.
pub struct Purged;
impl Table for Purged {
    const NAME: &'static str = "raft_purged";
    const GROUP: Group = LOG_GROUP;
    type Key = ();
    type Value = Postcard<PurgedRecord>;
}

/// The committed log id.
pub struct Committed;
impl Table for Committed {
    const NAME: &'static str = "raft_committed";
    const GROUP: Group = LOG_GROUP;
    type Key = ();
    type Value = Postcard<CommittedRecord>;
}

/// Which node the file belongs to.
pub struct Identity;
impl Table for Identity {
    const NAME: &'static str = "raft_identity";
    const GROUP: Group = LOG_GROUP;
    type Key = ();
    type Value = Postcard<IdentityRecord>;
}

/// The membership at the purge point, in case the state can no longer be read that holds it, too.
pub struct Members;
impl Table for Members {
    const NAME: &'static str = "raft_members";
    const GROUP: Group = LOG_GROUP;
    type Key = ();
    type Value = Postcard<MembersRecord>;
}

/// Why there is no state in the tables. No row if there is one.
pub struct Stateless;
impl Table for Stateless {
    const NAME: &'static str = "raft_stateless";
    const GROUP: Group = LOG_GROUP;
    type Key = ();
    type Value = Postcard<StatelessRecord>;
}

/// That a part of the log is damaged whose entries are applied. No row if none is.
pub struct Damaged;
impl Table for Damaged {
    const NAME: &'static str = "raft_damaged";
    const GROUP: Group = LOG_GROUP;
    type Key = ();
    type Value = Postcard<DamagedRecord>;
}

/// Where the state machine stands; written in the transaction that changes its tables.
pub struct State;
impl Table for State {
    const NAME: &'static str = "raft_state";
    type Key = ();
    type Value = Postcard<StateRecord>;
}

/// The row of [`Votes`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VoteRecord {
    /// The vote, with its `committed` flag.
    pub vote: Vote,
}

/// The row of [`Purged`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PurgedRecord {
    /// Up to here, inclusive, the log is gone.
    pub log_id: LogId,
}

/// The row of [`Members`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MembersRecord {
    /// The membership when the log was purged.
    pub membership: StoredMembership,
}

/// The row of [`Stateless`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatelessRecord {
    /// Why.
    pub reason: Reason,
    /// What [`State`] would say if the state were there. Raft counts these entries as applied.
    pub position: StateRecord,
}

/// Why there is no state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// It was damaged, as told here, and is being rebuilt.
    Damaged(String),
    /// The node is a witness.
    Witness,
}

/// The row of [`Damaged`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DamagedRecord {
    /// What the engine said.
    pub damage: String,
}

/// The row of [`Committed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedRecord {
    /// Up to here a quorum had the log when this was written.
    pub log_id: Option<LogId>,
}

/// The row of [`Identity`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// The node whose file this is.
    pub node: NodeId,
}

/// The row of [`State`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord {
    /// The last entry whose effect is in the tables.
    pub last_applied: Option<LogId>,
    /// The last applied membership.
    pub membership: StoredMembership,
    /// The newest proposer time applied, in microseconds since the Unix epoch.
    pub time: u64,
    /// The last snapshot that was built or installed.
    pub snapshot: Option<SnapshotMeta>,
}

impl StateRecord {
    /// The index of the last applied entry.
    pub fn applied_index(&self) -> Option<u64> {
        self.last_applied.map(|id| id.index)
    }
}
