//! Carrying out a transaction: first what it would do is worked out in memory, then it is written.
//!
//! Working it out only reads, and it alone can end in a rejection. So there is nothing to undo.

use std::collections::BTreeMap;

use super::tables::Tables;
use super::{Entry, OpenVault, following};
use crate::error::{LedgerError, Result};
use crate::record::{self, Origin};
use crate::response::{FailedRequirement, Found, Outcome, Receipt, Rejection, Response};
use crate::state_key::{self, EntityView, Relationship, StateKey, content_hash};
use crate::transaction::{Condition, Operation, Requirement, SessionSequence, Transaction};

/// What is known of a stored entity without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) version: u64,
    pub(super) expires_at: Option<u64>,
}

/// An entity before and after a transaction.
struct EntityEffect<'c> {
    before: Option<Head>,
    after: Option<EntityView<'c>>,
    /// The version that the next operation sees.
    version: Option<u64>,
}

/// Whether a relationship is there before and after a transaction.
struct RelationshipEffect {
    before: bool,
    after: bool,
}

/// Everything a transaction does.
#[derive(Default)]
struct Effects<'c> {
    entities: BTreeMap<&'c [u8], EntityEffect<'c>>,
    relationships: BTreeMap<&'c Relationship, RelationshipEffect>,
    outcomes: Vec<Outcome>,
}

impl Entry<'_> {
    pub(super) fn execute(
        &mut self,
        transaction: &Transaction,
        session: Option<SessionSequence>,
    ) -> Result<Response> {
        let vault = transaction.vault;
        if self.vault(vault)?.is_none() {
            return self.no_vault(vault);
        }
        for (place, condition) in (0..).zip(&transaction.conditions) {
            if let Some(found) = self.tables.violation(vault, condition)? {
                return Ok(Response::Rejected(Rejection::ConditionFailed {
                    condition: place,
                    target: condition.target.clone(),
                    requirement: FailedRequirement::from(&condition.requirement),
                    found,
                }));
            }
        }
        let mut effects = Effects::default();
        for operation in &transaction.operations {
            let outcome = effects.add(&self.tables, vault, operation)?;
            effects.outcomes.push(outcome);
        }
        self.write(vault, &effects)?;
        let log_index = self.at.index;
        let open = self.open_vault(vault)?;
        let position = u32::try_from(open.records.len()).map_err(|_| {
            LedgerError::Inconsistent("a log entry has more than 2^32 transactions".to_owned())
        })?;
        let record = record::encode(Origin::from(session), transaction, &effects.outcomes);
        open.records.push(record);
        let height = open.height;
        Ok(Response::Committed(Receipt {
            vault,
            height,
            position,
            log_index,
            outcomes: effects.outcomes,
        }))
    }

    /// A vault that the caller knows to be there.
    pub(super) fn open_vault(&mut self, vault: u64) -> Result<&mut OpenVault> {
        self.vault(vault)?
            .ok_or_else(|| LedgerError::Inconsistent(format!("vault {vault} has lost its row")))
    }

    fn write(&mut self, vault: u64, effects: &Effects<'_>) -> Result<()> {
        for (&key, effect) in &effects.entities {
            self.write_entity(vault, key, effect.before, effect.after)?;
        }
        for (relationship, effect) in &effects.relationships {
            if effect.before != effect.after {
                self.write_relationship(vault, relationship, effect.after)?;
            }
        }
        Ok(())
    }

    pub(super) fn write_entity(
        &mut self,
        vault: u64,
        key: &[u8],
        before: Option<Head>,
        after: Option<EntityView<'_>>,
    ) -> Result<()> {
        if before.is_none() && after.is_none() {
            return Ok(());
        }
        let open = self.open_vault(vault)?;
        if open.row.retention > 0 {
            let block = open.height;
            self.keep_version(vault, key, block)?;
        }
        let old_expiry = before.and_then(|head| head.expires_at);
        let new_expiry = after.and_then(|entity| entity.expires_at);
        if old_expiry != new_expiry {
            if let Some(time) = old_expiry {
                self.tables.expiries.remove((time, vault, key))?;
            }
            if let Some(time) = new_expiry {
                self.tables.expiries.insert((time, vault, key), ())?;
            }
        }
        let content = match after {
            None => {
                self.tables.entities.remove((vault, key))?;
                None
            }
            Some(entity) => {
                let row = entity.encode();
                self.tables.entities.insert((vault, key), &row[..])?;
                Some(content_hash(&row))
            }
        };
        let open = self.open_vault(vault)?;
        open.row.entities = recount(open.row.entities, before.is_some(), after.is_some())?;
        open.changes.insert(state_key::entity_path(key), content);
        Ok(())
    }

    fn write_relationship(
        &mut self,
        vault: u64,
        relationship: &Relationship,
        exists: bool,
    ) -> Result<()> {
        let Relationship {
            resource,
            relation,
            subject,
        } = relationship;
        let by_resource = (vault, &resource[..], &relation[..], &subject[..]);
        let by_subject = (vault, &subject[..], &relation[..], &resource[..]);
        if exists {
            self.tables.by_resource.insert(by_resource, ())?;
            self.tables.by_subject.insert(by_subject, ())?;
        } else {
            self.tables.by_resource.remove(by_resource)?;
            self.tables.by_subject.remove(by_subject)?;
        }
        let path = state_key::relationship_path(resource, relation, subject);
        let open = self.open_vault(vault)?;
        open.row.relationships = recount(open.row.relationships, !exists, exists)?;
        open.changes.insert(path, exists.then(|| content_hash(&[])));
        Ok(())
    }
}

/// A count after something of it came or went.
fn recount(count: u64, before: bool, after: bool) -> Result<u64> {
    (count + u64::from(after))
        .checked_sub(u64::from(before))
        .ok_or_else(|| LedgerError::Inconsistent("a vault holds more than it counts".to_owned()))
}

impl<'c> Effects<'c> {
    /// Adds what an operation does, given what the ones before it did.
    fn add(
        &mut self,
        tables: &Tables<'_>,
        vault: u64,
        operation: &'c Operation,
    ) -> Result<Outcome> {
        match operation {
            Operation::SetEntity {
                key,
                value,
                expires_at,
            } => {
                let effect = self.entity(tables, vault, key)?;
                let version = following(effect.version.unwrap_or(0), || {
                    format!("the version of an entity of vault {vault}")
                })?;
                effect.after = Some(EntityView {
                    version,
                    expires_at: *expires_at,
                    value,
                });
                effect.version = Some(version);
                Ok(if version == 1 {
                    Outcome::EntityCreated
                } else {
                    Outcome::EntityUpdated { version }
                })
            }
            Operation::DeleteEntity { key } => {
                let effect = self.entity(tables, vault, key)?;
                effect.after = None;
                Ok(effect.version.take().map_or(Outcome::Unchanged, |version| {
                    Outcome::EntityDeleted { version }
                }))
            }
            Operation::CreateRelationship(relationship) => {
                let effect = self.relationship(tables, vault, relationship)?;
                let was = std::mem::replace(&mut effect.after, true);
                Ok(if was {
                    Outcome::Unchanged
                } else {
                    Outcome::RelationshipCreated
                })
            }
            Operation::DeleteRelationship(relationship) => {
                let effect = self.relationship(tables, vault, relationship)?;
                let was = std::mem::replace(&mut effect.after, false);
                Ok(if was {
                    Outcome::RelationshipDeleted
                } else {
                    Outcome::Unchanged
                })
            }
        }
    }

    fn entity(
        &mut self,
        tables: &Tables<'_>,
        vault: u64,
        key: &'c [u8],
    ) -> Result<&mut EntityEffect<'c>> {
        if !self.entities.contains_key(key) {
            let before = tables.head(vault, key)?;
            self.entities.insert(
                key,
                EntityEffect {
                    before,
                    after: None,
                    version: before.map(|head| head.version),
                },
            );
        }
        Ok(self.entities.get_mut(key).expect("it was inserted above"))
    }

    fn relationship(
        &mut self,
        tables: &Tables<'_>,
        vault: u64,
        relationship: &'c Relationship,
    ) -> Result<&mut RelationshipEffect> {
        if !self.relationships.contains_key(relationship) {
            let before = tables.relationship_exists(vault, relationship)?;
            self.relationships.insert(
                relationship,
                RelationshipEffect {
                    before,
                    after: before,
                },
            );
        }
        Ok(self
            .relationships
            .get_mut(relationship)
            .expect("it was inserted above"))
    }
}

impl Tables<'_> {
    /// What is there when a condition does not hold; `None` when it does.
    fn violation(&self, vault: u64, condition: &Condition) -> Result<Option<Found>> {
        let (found, holds) = match &condition.target {
            StateKey::Entity(key) => match self.entities.get_stored((vault, &key[..]))? {
                None => (
                    Found::Nothing,
                    condition.requirement == Requirement::MustNotExist,
                ),
                Some(stored) => {
                    let entity = decode_entity(vault, key, stored.bytes())?;
                    let holds = match &condition.requirement {
                        Requirement::MustExist => true,
                        Requirement::MustNotExist => false,
                        Requirement::VersionIs(version) => entity.version == *version,
                        Requirement::ValueIs(value) => entity.value == value,
                    };
                    (
                        Found::Entity {
                            version: entity.version,
                        },
                        holds,
                    )
                }
            },
            StateKey::Relationship(relationship) => {
                let exists = self.relationship_exists(vault, relationship)?;
                let holds = match condition.requirement {
                    Requirement::MustExist => exists,
                    Requirement::MustNotExist => !exists,
                    // Refused before by `validate`; a relationship has neither version nor value.
                    Requirement::VersionIs(_) | Requirement::ValueIs(_) => false,
                };
                (
                    if exists {
                        Found::Relationship
                    } else {
                        Found::Nothing
                    },
                    holds,
                )
            }
        };
        Ok((!holds).then_some(found))
    }

    pub(super) fn head(&self, vault: u64, key: &[u8]) -> Result<Option<Head>> {
        let Some(stored) = self.entities.get_stored((vault, key))? else {
            return Ok(None);
        };
        let entity = decode_entity(vault, key, stored.bytes())?;
        Ok(Some(Head {
            version: entity.version,
            expires_at: entity.expires_at,
        }))
    }

    fn relationship_exists(&self, vault: u64, relationship: &Relationship) -> Result<bool> {
        let Relationship {
            resource,
            relation,
            subject,
        } = relationship;
        Ok(self
            .by_resource
            .contains_key((vault, &resource[..], &relation[..], &subject[..]))?)
    }
}

fn decode_entity<'r>(vault: u64, key: &[u8], row: &'r [u8]) -> Result<EntityView<'r>> {
    EntityView::decode(row).map_err(|source| LedgerError::Row {
        row: format!("entity \"{}\" of vault {vault}", key.escape_ascii()),
        source,
    })
}
