//! The Raft state in a file.

use std::collections::BTreeMap;

use folio_raft::{LogId, NodeId, SnapshotMeta, StoredMembership, Vote};
use folio_store::{
    Error, Postcard, ReadTransaction, Result, TableDefinition, TableView, Untyped, Value,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::address::MemberAddress;

/// What a node would find in its file when it starts.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct RaftSummary {
    /// Whose file this is.
    pub node: Option<NodeId>,
    /// The newest term the node has seen.
    pub term: Option<u64>,
    /// The node it voted for in that term.
    pub voted_for: Option<NodeId>,
    /// Index of the first entry in the log.
    pub first_log: Option<u64>,
    /// Index of the last entry in the log.
    pub last_log: Option<u64>,
    /// Index of the last entry that was removed from the log.
    pub purged: Option<u64>,
    /// Index up to which the node knew that a quorum has the log.
    pub committed: Option<u64>,
    /// Index of the last entry whose effect is in the tables of this file; the node applies the rest when it starts.
    pub applied: Option<u64>,
    /// The voting members and their addresses, as of the applied index.
    pub voters: BTreeMap<NodeId, String>,
    /// The members that do not vote.
    pub learners: BTreeMap<NodeId, String>,
}

/// The rows of the Raft store. Fields stand in the order in which they are stored.
#[derive(Serialize, Deserialize)]
struct StateRow {
    last_applied: Option<LogId>,
    membership: StoredMembership,
    time: u64,
    snapshot: Option<SnapshotMeta>,
}

impl RaftSummary {
    /// Reads it from a view of the file.
    pub(crate) fn read(view: &ReadTransaction) -> Result<Self> {
        let mut summary = RaftSummary::default();
        for definition in &view.tables()? {
            let table = view.untyped(definition)?;
            match &definition.name[..] {
                "raft_identity" => summary.node = only_row(&table, definition)?,
                "raft_vote" => {
                    let vote: Option<Vote> = only_row(&table, definition)?;
                    summary.term = vote.map(|vote| vote.leader_id.term);
                    summary.voted_for = vote.and_then(|vote| vote.leader_id.voted_for());
                }
                "raft_purged" => {
                    summary.purged = only_row(&table, definition)?.map(|id: LogId| id.index);
                }
                "raft_committed" => {
                    let committed: Option<Option<LogId>> = only_row(&table, definition)?;
                    summary.committed = committed.flatten().map(|id| id.index);
                }
                "raft_state" => {
                    if let Some(state) = only_row::<StateRow>(&table, definition)? {
                        summary.applied = state.last_applied.map(|id| id.index);
                        let membership = state.membership.membership();
                        let member = |id| {
                            let node = membership.get_node(&id);
                            let address = node.map(|node| MemberAddress::parse(&node.addr).peers);
                            (id, address.unwrap_or_default())
                        };
                        summary.voters = membership.voter_ids().map(member).collect();
                        summary.learners = membership.learner_ids().map(member).collect();
                    }
                }
                "raft_log" => {
                    let index = |row: Option<Result<(Vec<u8>, Vec<u8>)>>| {
                        row.map(|row| decode::<u64>(&row?.0, definition))
                            .transpose()
                    };
                    summary.first_log = index(table.iter()?.next())?;
                    summary.last_log = index(table.iter()?.next_back())?;
                }
                _ => {}
            }
        }
        Ok(summary)
    }
}

/// The row of a table that has one.
fn only_row<T>(table: &TableView<'_, Untyped>, definition: &TableDefinition) -> Result<Option<T>>
where
    T: Serialize + DeserializeOwned + 'static,
{
    let row = table.iter()?.next().transpose()?;
    row.map(|(_, value)| decode::<Postcard<T>>(&value, definition))
        .transpose()
}

fn decode<V: Value>(bytes: &[u8], definition: &TableDefinition) -> Result<V::Owned> {
    V::decode(bytes).map_err(|source| Error::Decode {
        table: definition.name.as_str().into(),
        source,
    })
}
