//! Making the file of a new cluster out of a copy of a node of another one.
//!
//! The copy has made no promise to the new cluster, and must not be taken for the node that it is a copy of. So it gets an
//! id that the old cluster never had, forgets the votes, and is the only member. Its state and the log above it stay
//! as they are, for what was acknowledged may be in the log only; changes of members in that log become
//! ones to this member. The term is that of the last entry at least, so that entries to come are newer than all there are.

use std::collections::{BTreeMap, BTreeSet};

use folio_store::{Database, Durability, ReadTransaction, WriteTransaction};
use openraft::{EntryPayload, Membership};

use super::failure::Failure;
use super::log::{decode_entry, encode_entry};
use super::shared::state_record;
use super::tables::{
    Committed, Damaged, Identity, IdentityRecord, Log, Members, MembersRecord, Purged,
    PurgedRecord, Reason, State, Stateless, VoteRecord, Votes,
};
use crate::error::{Error, Result};
use crate::state_machine::StateMachine;
use crate::types::{Entry, LogId, Node, NodeId, StoredMembership, Vote};

/// What a new cluster begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refounded {
    /// Index of the last entry whose effect is in the state, if there is one.
    pub applied: Option<u64>,
    /// Entries of the log that its node applies when it starts.
    pub to_apply: u64,
}

/// Makes `database`, a copy of a node of some cluster, the file of node `node`, the only member of a new one, which is
/// found at `address`. `more` changes what else is not to go on, in the same transaction. Durable on return.
///
/// `node` must be an id that the old cluster never had. The copy must be nobody else's: a database of its own, such as a
/// compacted backup makes.
pub fn refound<S: StateMachine>(
    database: &Database,
    node: NodeId,
    address: String,
    more: impl FnOnce(&WriteTransaction) -> folio_store::Result<()>,
) -> Result<Refounded> {
    let view = database.begin_read()?;
    if let Some(record) = view.table::<Stateless>()?.get(&())? {
        return Err(match record.reason {
            Reason::Damaged(damage) => Error::Rebuilding { damage },
            Reason::Witness => Error::Witness,
        });
    }
    let nodes = BTreeMap::from([(node, Node::new(address))]);
    let alone = Membership::new(vec![BTreeSet::from([node])], nodes);
    let mut record = state_record(&view)?;
    let applied = record.last_applied;
    let above = log_above::<S>(&view, applied, &alone);
    let Above { last, memberships } = above.map_err(|failure| unreadable(node, failure))?;
    let Some(last) = last else {
        return Err(Error::Membership {
            reason: "the copy is of a node that was in no cluster yet: there is nothing to begin one with".into(),
        });
    };
    // With nothing applied the log begins with the membership.
    if applied.is_some() {
        record.membership = StoredMembership::new(applied, alone);
    }
    record.snapshot = None;
    let members = MembersRecord {
        membership: record.membership.clone(),
    };

    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate);
    {
        let mut log = txn.table::<Log<S>>()?;
        if let Some(applied) = applied {
            log.remove_range(..=applied.index)?;
        }
        for (index, bytes) in &memberships {
            log.insert(index, bytes.as_slice())?;
        }
        txn.table::<Identity>()?
            .insert(&(), &IdentityRecord { node })?;
        let vote = Vote::new(last.leader_id.term, node);
        txn.table::<Votes>()?.insert(&(), &VoteRecord { vote })?;
        txn.table::<Committed>()?.clear()?;
        txn.table::<Damaged>()?.clear()?;
        let mut purged = txn.table::<Purged>()?;
        purged.clear()?;
        if let Some(log_id) = applied {
            purged.insert(&(), &PurgedRecord { log_id })?;
        }
        txn.table::<Members>()?.insert(&(), &members)?;
        txn.table::<State>()?.insert(&(), &record)?;
        more(&txn)?;
    }
    txn.commit()?;
    Ok(Refounded {
        applied: applied.map(|id| id.index),
        to_apply: applied.map_or_else(
            || last.index.saturating_add(1),
            |applied| last.index.saturating_sub(applied.index),
        ),
    })
}

/// The log above what is applied.
struct Above {
    /// The id of its last entry, or of what is applied if it has none.
    last: Option<LogId>,
    /// Its changes of members, by index and encoded, with the new members.
    memberships: Vec<(u64, Vec<u8>)>,
}

/// Reads the entries above what is applied, with `alone` for members.
fn log_above<S: StateMachine>(
    view: &ReadTransaction,
    applied: Option<LogId>,
    alone: &Membership<NodeId, Node>,
) -> std::result::Result<Above, Failure> {
    let mut last = applied;
    let mut memberships = Vec::new();
    let first = applied.map_or(0, |id| id.index.saturating_add(1));
    for row in view.table::<Log<S>>()?.range(first..)? {
        let (index, bytes) = row?;
        let expected = last.map_or(0, |id| id.index.saturating_add(1));
        if index != expected {
            return Err(Failure::Hole {
                expected,
                found: index,
            });
        }
        let entry: Entry<S> = decode_entry(index, &bytes)?;
        last = Some(entry.log_id);
        if let EntryPayload::Membership(_) = entry.payload {
            let alone = Entry::<S> {
                log_id: entry.log_id,
                payload: EntryPayload::Membership(alone.clone()),
            };
            memberships.push((index, encode_entry::<S>(&alone)?));
        }
    }
    Ok(Above { last, memberships })
}

fn unreadable(node: NodeId, failure: Failure) -> Error {
    match failure {
        Failure::Store(error) => error.into(),
        other => Error::LogDamaged {
            node,
            reason: other.to_string(),
        },
    }
}
