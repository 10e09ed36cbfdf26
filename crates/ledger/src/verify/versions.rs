//! Checking the past versions of entities against the blocks that ended them and began them.

use std::collections::BTreeMap;

use folio_store::{ReadTransaction, TableView};

use super::{VerifyError, compare};
use crate::error::LedgerError;
use crate::read::LedgerView;
use crate::record::Record;
use crate::response::Outcome;
use crate::state_key::{Entity, StateKey};
use crate::tables::{VersionHeights, Versions};
use crate::transaction::Operation;

/// Goes through the blocks of a vault and the past versions that they ended.
///
/// A block says which entities it changed, which versions they had before, and what they were after.
/// So every past version is compared with the block that ended it and, but for the earliest one of
/// its entity, with the block that began it.
pub(super) struct VersionCheck<'v> {
    ledger: LedgerView<'v>,
    vault: u64,
    /// Blocks up to this one may have lost their past versions.
    from: u64,
    versions: TableView<'v, Versions>,
    heights: TableView<'v, VersionHeights>,
    /// How many past versions the blocks have named.
    named: u64,
}

/// What a block did to an entity.
struct Effect {
    /// The version before the block.
    before: Option<u64>,
    after: Option<Entity>,
    /// Whether any of its transactions found the entity there, or left it there.
    touched: bool,
}

impl<'v> VersionCheck<'v> {
    pub(super) fn new(
        view: &'v ReadTransaction,
        vault: u64,
        from: u64,
    ) -> Result<Self, VerifyError> {
        Ok(VersionCheck {
            ledger: LedgerView::new(view),
            vault,
            from,
            versions: view.table()?,
            heights: view.table()?,
            named: 0,
        })
    }

    /// Checks what a block has ended and begun.
    pub(super) fn block(&mut self, height: u64, records: &[Vec<u8>]) -> Result<(), VerifyError> {
        if height <= self.from {
            return Ok(());
        }
        let vault = self.vault;
        for (key, effect) in effects(vault, height, records)? {
            if !effect.touched {
                continue;
            }
            self.named += 1;
            let key = &key[..];
            let place = || {
                let key = StateKey::Entity(key.to_vec());
                format!("vault {vault}, {key} before block {height}")
            };
            let listed = self.heights.contains_key((vault, height, key))?;
            compare(
                place,
                "its being on the list of past versions",
                listed,
                true,
            )?;
            let found = self
                .content(key, height)?
                .map(|past| past.map(|e| e.version));
            compare(place, "its version", text(found), text(Some(effect.before)))?;
            let next = match self.versions.above((vault, key, height))? {
                Some(((in_vault, of, end), _)) if in_vault == vault && of == key => {
                    self.content(key, end)?.flatten()
                }
                _ => self.ledger.stored_entity(vault, key)?,
            };
            let place = || {
                let key = StateKey::Entity(key.to_vec());
                format!("vault {vault}, {key} after block {height}")
            };
            let same = next == effect.after;
            compare(place, "its agreement with the block", same, true)?;
        }
        Ok(())
    }

    /// Checks that there are no past versions but those that were named.
    pub(super) fn end(&self) -> Result<(), VerifyError> {
        let place = || format!("vault {}, its past versions", self.vault);
        let (vault, mut old, mut listed) = (self.vault, 0, 0_u64);
        for row in self.heights.prefix((vault,))?.keys() {
            let (_, height, _) = row?;
            listed += 1;
            old += u64::from(height <= self.from);
        }
        compare(place, "their number", listed - old, self.named)?;
        let rows = self.versions.prefix((vault,))?.keys().count() as u64;
        compare(place, "the length of their list", listed, rows)
    }

    /// What is kept of an entity as it was before a block: nothing, that it was not there, or how it
    /// was.
    fn content(&self, key: &[u8], height: u64) -> Result<Option<Option<Entity>>, VerifyError> {
        let Some(row) = self.versions.get((self.vault, key, height))? else {
            return Ok(None);
        };
        if row.is_empty() {
            return Ok(Some(None));
        }
        let entity = Entity::decode(&row).map_err(|source| LedgerError::Row {
            row: format!(
                "entity \"{}\" of vault {} before block {height}",
                key.escape_ascii(),
                self.vault
            ),
            source,
        })?;
        Ok(Some(Some(entity)))
    }
}

fn text(version: Option<Option<u64>>) -> String {
    match version {
        None => "not kept".to_owned(),
        Some(None) => "none: it was not there".to_owned(),
        Some(Some(version)) => version.to_string(),
    }
}

/// What the transactions of a block did to entities, by key.
fn effects(
    vault: u64,
    height: u64,
    records: &[Vec<u8>],
) -> Result<BTreeMap<Vec<u8>, Effect>, LedgerError> {
    let mut effects: BTreeMap<Vec<u8>, Effect> = BTreeMap::new();
    for (position, record) in records.iter().enumerate() {
        let record = Record::decode(record).map_err(|source| LedgerError::Row {
            row: format!("transaction {position} of block {height} of vault {vault}"),
            source,
        })?;
        // An entity that one transaction makes and removes was never there.
        let mut last = BTreeMap::new();
        for (operation, outcome) in record.transaction.operations.iter().zip(record.outcomes) {
            let (key, before, after) = match (operation, outcome) {
                (
                    Operation::SetEntity {
                        key,
                        value,
                        expires_at,
                    },
                    outcome,
                ) => {
                    let version = match outcome {
                        Outcome::EntityUpdated { version } => version,
                        _ => 1,
                    };
                    let entity = Entity {
                        version,
                        expires_at: *expires_at,
                        value: value.clone(),
                    };
                    (key, version.checked_sub(1).filter(|&v| v > 0), Some(entity))
                }
                (Operation::DeleteEntity { key }, Outcome::EntityDeleted { version }) => {
                    (key, Some(version), None)
                }
                (Operation::DeleteEntity { key }, _) => (key, None, None),
                _ => continue,
            };
            let effect = effects.entry(key.clone()).or_insert(Effect {
                before,
                after: None,
                touched: false,
            });
            if last.insert(key, ()).is_none() {
                effect.touched |= before.is_some();
            }
            effect.after = after;
        }
        for (key, ()) in last {
            if let Some(effect) = effects.get_mut(key) {
                effect.touched |= effect.after.is_some();
            }
        }
    }
    Ok(effects)
}
