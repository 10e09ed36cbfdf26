//! Whether a node holds the state: a whole one does, one that is being rebuilt or a witness does not.
//!
//! A node without a state keeps every promise that Raft needs: it votes, appends, and counts entries
//! as applied without applying them, so that its log can be compacted. What it has not got it must
//! not give away: it does not lead unless there is no other way, sends no snapshot and answers no
//! read. Where it stands is a row in the log group, so that no page of the state has to be read to
//! learn it.

use folio_store::{Database, Durability, ReadTransaction, WriteTransaction};

use super::failure::{Failure, Result};
use super::shared::{Shared, state_record};
use super::tables::{Members, Purged, Reason, State, StateRecord, Stateless, StatelessRecord};
use crate::error::Error;
use crate::state_machine::StateMachine;
use crate::types::Entry;

/// Whether the tables hold the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They do.
    Whole,
    /// They were damaged, and the state comes from another node.
    Rebuilding {
        /// What was damaged.
        damage: String,
    },
    /// They never do.
    Witness,
}

impl Standing {
    pub fn of(record: Option<&StatelessRecord>) -> Self {
        match record.map(|record| &record.reason) {
            None => Self::Whole,
            Some(Reason::Damaged(damage)) => Self::Rebuilding {
                damage: damage.clone(),
            },
            Some(Reason::Witness) => Self::Witness,
        }
    }

    /// An error unless the state is there.
    pub fn check(&self) -> crate::Result<()> {
        match self {
            Self::Whole => Ok(()),
            Self::Rebuilding { damage } => Err(Error::Rebuilding {
                damage: damage.clone(),
            }),
            Self::Witness => Err(Error::Witness),
        }
    }
}

impl<S: StateMachine> Shared<S> {
    pub fn holds_state(&self) -> bool {
        *self.standing.borrow() == Standing::Whole
    }

    pub fn is_witness(&self) -> bool {
        *self.standing.borrow() == Standing::Witness
    }

    /// A view of the state, for those who answer from it.
    pub fn view_of_state(&self, database: &Database) -> crate::Result<ReadTransaction> {
        let mut standing = self.standing.subscribe();
        standing.borrow_and_update().check()?;
        let view = database.begin_read()?;
        // It may have been given up, and even rebuilt, in between, and then the view may be of an
        // earlier state than Raft believes.
        match standing.has_changed() {
            Ok(false) => Ok(view),
            _ => {
                standing.borrow_and_update().check()?;
                Err(Error::Rebuilding {
                    damage: "it has just been rebuilt".into(),
                })
            }
        }
    }

    /// What the state machine says to a question of another node.
    pub fn answer(&self, question: &[u8]) -> std::result::Result<Vec<u8>, String> {
        let view = self.with_database(|database| Ok(self.view_of_state(database)));
        let view = view.map_err(|failure| failure.to_string())?;
        let view = view.map_err(|error| error.to_string())?;
        self.machine.answer(&view, question)
    }

    /// Counts `entries` as applied, which a node without a state only remembers.
    pub fn note_applied(
        &self,
        database: &Database,
        entries: &[Entry<S>],
    ) -> Result<Vec<Vec<S::Response>>> {
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Eventual);
        change_position(&txn, |position| {
            for entry in entries {
                position.note(entry);
            }
            Ok(())
        })?;
        txn.commit()?;
        Ok(entries.iter().map(|_| Vec::new()).collect())
    }

    /// Marks the state as one that is to be rebuilt, durably. Whoever calls this changes the state.
    pub fn give_up_state(&self, database: &Database, damage: &str) -> Result<()> {
        let record = give_up_state(database, damage)?;
        tracing::error!(
            node = self.node,
            damage,
            "the state is damaged and is being rebuilt from another node"
        );
        self.standing.send_replace(Standing::of(Some(&record)));
        Ok(())
    }
}

/// Writes the mark that the state is to be rebuilt.
pub(super) fn give_up_state(
    database: &Database,
    damage: &str,
) -> std::result::Result<StatelessRecord, folio_store::Error> {
    let view = database.begin_read()?;
    let position = match state_record(&view) {
        Err(error) if error.is_corruption() => purge_point(&view)?,
        record => record?,
    };
    let record = StatelessRecord {
        reason: Reason::Damaged(damage.to_owned()),
        position,
    };
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate);
    txn.table::<Stateless>()?.insert(&(), &record)?;
    txn.commit()?;
    Ok(record)
}

/// The earliest position that the log allows, for when the state cannot say where it is. Raft counts
/// the entries after it as applied once more.
fn purge_point(view: &ReadTransaction) -> std::result::Result<StateRecord, folio_store::Error> {
    let purged = view.table::<Purged>()?.get(&())?;
    let members = view.table::<Members>()?.get(&())?;
    Ok(StateRecord {
        last_applied: purged.map(|record| record.log_id),
        membership: members.map_or_else(Default::default, |record| record.membership),
        ..StateRecord::default()
    })
}

/// Changes the record of where the state is, wherever it is kept.
pub(super) fn change_position(
    txn: &WriteTransaction,
    change: impl FnOnce(&mut StateRecord) -> Result<()>,
) -> Result<()> {
    let mut stateless = txn.table::<Stateless>()?;
    if let Some(mut record) = stateless.get(&())? {
        change(&mut record.position)?;
        stateless.insert(&(), &record)?;
        return Ok(());
    }
    let mut states = txn.table::<State>()?;
    let mut record = states.get(&())?.unwrap_or_default();
    change(&mut record)?;
    states.insert(&(), &record)?;
    Ok(())
}

impl StateRecord {
    /// Counts `entry` as applied.
    pub fn note<S: StateMachine>(&mut self, entry: &Entry<S>) {
        if let openraft::EntryPayload::Membership(membership) = &entry.payload {
            self.membership =
                crate::types::StoredMembership::new(Some(entry.log_id), membership.clone());
        }
        self.last_applied = Some(entry.log_id);
    }

    /// Refuses an entry that the state has already. That none is left out is openraft's to see to:
    /// its own storage suite leaves some out.
    pub fn check_next<S: StateMachine>(&self, entry: &Entry<S>) -> Result<()> {
        let index = entry.log_id.index;
        match self.applied_index() {
            Some(applied) if index <= applied => Err(Failure::AppliedTwice { index, applied }),
            _ => Ok(()),
        }
    }
}
