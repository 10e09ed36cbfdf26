//! Opening a file: whose it is, whether it can be trusted, and whether it holds the state.
//!
//! A file that lost what its node acknowledged is refused: Raft would count a promise that is
//! forgotten. So is damage in the vote or above the last applied entry. Damage in the state costs the
//! state, which other nodes have, too; damage in the log below it costs that part of the log.

use folio_store::{
    Database, Durability, ReadTransaction, Table, TableDefinition, WriteTransaction,
};

use super::failure::Failure;
use super::log::decode_log_id;
use super::shared::state_record;
use super::standing::{Standing, give_up_state};
use super::tables::{
    Committed, Damaged, Identity, IdentityRecord, LOG_GROUP, Log, Members, MembersRecord, Purged,
    PurgedRecord, Reason, StateRecord, Stateless, StatelessRecord, VoteRecord, Votes,
};
use crate::error::Error;
use crate::state_machine::{STAGED_PREFIX, StateMachine};
use crate::types::{NodeId, Vote};

/// Prepares the database for node `node`.
pub(super) fn prepare<S: StateMachine>(
    database: &Database,
    node: NodeId,
    tables: &[TableDefinition],
) -> crate::Result<Standing> {
    let losses = database.losses();
    if losses.accepted || losses.salvaged {
        let what = match losses.salvaged {
            true => "is what was salvaged of a damaged one",
            false => "lost commits that were acknowledged, which was accepted when it was opened",
        };
        return Err(Error::LostCommits { node, what });
    }
    let promises = |error: folio_store::Error| match error.is_corruption() {
        true => Error::LogDamaged {
            node,
            reason: error.to_string(),
        },
        false => error.into(),
    };
    claim::<S>(database, node, promises)?;
    let record = stand::<S>(database, tables, promises)?;
    check_log::<S>(&database.begin_read()?, node)?;
    let damaged = database.begin_read()?.table::<Damaged>()?.get(&())?;
    if let Some(damaged) = damaged {
        drop_applied_log::<S>(database, &damaged.damage).map_err(promises)?;
    }
    resign(database, node).map_err(promises)?;
    Ok(Standing::of(record.as_ref()))
}

/// A node that led does not lead on after a restart, it has to be elected again.
///
/// openraft would let it lead at once, with what was saved of the committed id as all that it knows
/// to be committed. That may be less than it had answered to clients, since the id is flushed with
/// the append after it; a linearizable read would be stale. A newly elected leader knows better: it
/// commits an entry of its own first. A vote that is not known to have won is no promise to anybody,
/// so nothing is broken by forgetting that it did.
///
/// It need not be durable: it is done again at each start.
fn resign(database: &Database, node: NodeId) -> std::result::Result<(), folio_store::Error> {
    let Some(VoteRecord { vote }) = database.begin_read()?.table::<Votes>()?.get(&())? else {
        return Ok(());
    };
    if vote.is_committed() && vote.leader_id().voted_for() == Some(node) {
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        let vote = Vote::new(vote.leader_id().term, node);
        txn.table::<Votes>()?.insert(&(), &VoteRecord { vote })?;
        txn.commit()?;
    }
    Ok(())
}

/// Writes the node's id into a new file, and compares it with that of an old one. Makes the tables of
/// the log group: later no other group is to be read for that.
fn claim<S: StateMachine>(
    database: &Database,
    node: NodeId,
    promises: impl Fn(folio_store::Error) -> Error + Copy,
) -> crate::Result<()> {
    let view = database.begin_read()?;
    let identity = view
        .table::<Identity>()
        .and_then(|table| table.get(&()))
        .map_err(promises)?;
    if let Some(IdentityRecord { node: found }) = identity
        && found != node
    {
        return Err(Error::WrongNode {
            found,
            wanted: node,
        });
    }
    make_tables::<S>(database, identity.is_none().then_some(node)).map_err(promises)
}

/// Costs nothing if they are there.
fn make_tables<S: StateMachine>(
    database: &Database,
    new: Option<NodeId>,
) -> std::result::Result<(), folio_store::Error> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate);
    if let Some(node) = new {
        txn.table::<Identity>()?
            .insert(&(), &IdentityRecord { node })?;
    }
    txn.table::<Log<S>>()?;
    txn.table::<Votes>()?;
    txn.table::<Committed>()?;
    txn.table::<Purged>()?;
    txn.table::<Members>()?;
    txn.table::<Stateless>()?;
    txn.table::<Damaged>()?;
    txn.commit()?;
    Ok(())
}

/// Finds out whether the file holds the state, and prepares its tables if it does.
fn stand<S: StateMachine>(
    database: &Database,
    tables: &[TableDefinition],
    promises: impl Fn(folio_store::Error) -> Error,
) -> crate::Result<Option<StatelessRecord>> {
    let view = database.begin_read()?;
    let record = view
        .table::<Stateless>()
        .and_then(|table| table.get(&()))
        .map_err(promises)?;
    match record.as_ref().map(|record| &record.reason) {
        Some(Reason::Witness) if !S::HOLDS_STATE => Ok(record),
        // A witness that becomes a full replica lacks the state as one does whose state is damaged.
        Some(Reason::Witness) => {
            give_up_state(database, "the node was a witness until now").map(Some)
        }
        Some(Reason::Damaged(_)) if S::HOLDS_STATE => Ok(record),
        Some(Reason::Damaged(_)) => return Err(Error::NotAWitness),
        None if !S::HOLDS_STATE => return become_witness(database).map(Some),
        None => match prepare_tables(database, tables).and_then(|()| state_record(&view)) {
            Ok(_) => Ok(None),
            Err(error) if error.is_corruption() => {
                tracing::error!(%error, "the state is damaged and is to be rebuilt");
                give_up_state(database, &error.to_string()).map(Some)
            }
            Err(error) => Err(error),
        },
    }
    .map_err(Error::from)
}

/// Makes an empty file a witness's.
fn become_witness(database: &Database) -> crate::Result<StatelessRecord> {
    let view = database.begin_read()?;
    if state_record(&view)? != StateRecord::default() {
        return Err(Error::NotAWitness);
    }
    let record = StatelessRecord {
        reason: Reason::Witness,
        position: StateRecord::default(),
    };
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate);
    txn.table::<Stateless>()?.insert(&(), &record)?;
    txn.commit()?;
    Ok(record)
}

/// Makes the tables that are missing, which also refuses a file whose tables have other types, and
/// removes staged tables. None of it needs to be durable: it is done again at each start.
fn prepare_tables(
    database: &Database,
    tables: &[TableDefinition],
) -> std::result::Result<(), folio_store::Error> {
    let present = database.begin_read()?.tables()?;
    let stale: Vec<_> = present
        .iter()
        .filter(|table| table.name.starts_with(STAGED_PREFIX) && table.group != LOG_GROUP)
        .collect();
    if stale.is_empty() && tables.iter().all(|table| present.contains(table)) {
        return Ok(());
    }
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Eventual);
    for table in tables {
        txn.untyped(table)?;
    }
    for table in stale {
        txn.delete_table(table)?;
    }
    txn.commit()?;
    Ok(())
}

/// Reads what this node has promised and what is not in its state: the vote, and the log above the
/// last applied entry, which a checkpoint keeps short.
fn check_log<S: StateMachine>(view: &ReadTransaction, node: NodeId) -> crate::Result<()> {
    let applied = state_record(view)?.applied_index();
    let outcome = read_promises::<S>(view, applied.map_or(0, |index| index.saturating_add(1)));
    outcome.map_err(|failure| match failure {
        Failure::Store(error) if !error.is_corruption() => error.into(),
        failure => Error::LogDamaged {
            node,
            reason: failure.to_string(),
        },
    })
}

fn missing(index: u64) -> Failure {
    Failure::Entry {
        index,
        reason: "it is missing".into(),
    }
}

pub(super) fn read_promises<S: StateMachine>(
    view: &ReadTransaction,
    first: u64,
) -> std::result::Result<(), Failure> {
    view.table::<Votes>()?.get(&())?;
    view.table::<Committed>()?.get(&())?;
    view.table::<Members>()?.get(&())?;
    let purged = view.table::<Purged>()?.get(&())?;
    let mut expected = None;
    for row in view.table::<Log<S>>()?.range(first..)? {
        let (index, value) = row?;
        decode_log_id(index, &value)?;
        if let Some(expected) = expected.filter(|&expected| expected != index) {
            return Err(missing(expected));
        }
        // A log without any past may begin anywhere: that of a restored node does.
        if expected.is_none() && index > first && (first > 0 || purged.is_some()) {
            return Err(missing(first));
        }
        expected = Some(index.saturating_add(1));
    }
    Ok(())
}

/// Drops the part of the log that is applied, because some of it is damaged. Everything else in the
/// group is written anew, since a damaged page may lie above all of it.
fn drop_applied_log<S: StateMachine>(
    database: &Database,
    damage: &str,
) -> std::result::Result<(), folio_store::Error> {
    let view = database.begin_read()?;
    let position = state_record(&view)?;
    tracing::warn!(
        damage,
        upto = ?position.last_applied,
        "the applied part of the log is damaged and is dropped"
    );
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate);
    txn.discard_group(LOG_GROUP)?;
    copy::<Identity>(&view, &txn)?;
    copy::<Votes>(&view, &txn)?;
    copy::<Committed>(&view, &txn)?;
    copy::<Stateless>(&view, &txn)?;
    txn.table::<Damaged>()?;
    if let Some(log_id) = position.last_applied {
        txn.table::<Purged>()?
            .insert(&(), &PurgedRecord { log_id })?;
    }
    let membership = position.membership;
    txn.table::<Members>()?
        .insert(&(), &MembersRecord { membership })?;
    {
        let first = position
            .last_applied
            .map_or(0, |id| id.index.saturating_add(1));
        let mut log = txn.table::<Log<S>>()?;
        for row in view.table::<Log<S>>()?.range(first..)? {
            let (index, value) = row?;
            log.insert(&index, value.as_slice())?;
        }
    }
    txn.commit()?;
    Ok(())
}

/// Copies a table of few rows.
fn copy<T: Table>(
    view: &ReadTransaction,
    txn: &WriteTransaction,
) -> std::result::Result<(), folio_store::Error> {
    let definition = TableDefinition::of::<T>();
    let mut target = txn.untyped(&definition)?;
    for row in view.untyped(&definition)?.iter()? {
        let (key, value) = row?;
        target.insert(key.as_slice(), value.as_slice())?;
    }
    Ok(())
}
