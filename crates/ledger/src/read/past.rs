//! What entities were before.

use std::ops::Bound;

use folio_store::TableView;
use serde::{Deserialize, Serialize};

use super::{LedgerView, Page, PageLimit, decode_entity};
use crate::error::Result;
use crate::state_key::Entity;
use crate::tables::{Vaults, Versions};

/// An entity at a time before now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastEntity {
    /// The last height as of which it was so; the first is the one after the `until` of the past
    /// entity before it.
    pub until: u64,
    /// What it was, or `None` when it was not there.
    pub entity: Option<Entity>,
}

/// The past that was asked for is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("vault {vault} can be read as of the heights {from} to {to}, not as of {asked}")]
pub struct NotRetained {
    /// The vault.
    pub vault: u64,
    /// The height asked for.
    pub asked: u64,
    /// The lowest height as of which entities can be read.
    pub from: u64,
    /// The highest: that of the latest block.
    pub to: u64,
}

impl LedgerView<'_> {
    /// An entity as it was when the block at `height` was the latest. Costs two look-ups more than
    /// [`entity`](LedgerView::entity).
    pub fn entity_at(
        &self,
        vault: u64,
        key: &[u8],
        height: u64,
    ) -> Result<Result<Option<Entity>, NotRetained>> {
        let Some(row) = self.view.table::<Vaults>()?.get(vault)? else {
            return Ok(Ok(None));
        };
        if !(row.retained_from..=row.height).contains(&height) {
            return Ok(Err(NotRetained {
                vault,
                asked: height,
                from: row.retained_from,
                to: row.height,
            }));
        }
        let table = self.view.table::<Versions>()?;
        let next = past_entities(&table, vault, key, height)?.next();
        match next.transpose()? {
            Some(past) => Ok(Ok(past.entity)),
            None => self.stored_entity(vault, key).map(Ok),
        }
    }

    /// What an entity was at the height `from` and after, in as far as it has changed since and its
    /// vault still has it, the earliest first. What it is now is not among them. To go on, pass `next`
    /// of a page as `from`.
    pub fn entity_history(
        &self,
        vault: u64,
        key: &[u8],
        from: u64,
        limit: impl Into<PageLimit>,
    ) -> Result<Page<PastEntity, u64>> {
        let mut page = Page::new();
        let Some(row) = self.view.table::<Vaults>()?.get(vault)? else {
            return Ok(page);
        };
        let mut room = limit.into().room();
        let table = self.view.table::<Versions>()?;
        for past in past_entities(&table, vault, key, from.max(row.retained_from))? {
            let past = past?;
            let bytes = past.entity.as_ref().map_or(0, |entity| entity.value.len());
            if !room.take(bytes) {
                page.next = page.items.last().map(|past: &PastEntity| past.until + 1);
                break;
            }
            page.items.push(past);
        }
        Ok(page)
    }
}

/// What an entity was at a height and after, until its last change.
fn past_entities(
    table: &TableView<'_, Versions>,
    vault: u64,
    key: &[u8],
    height: u64,
) -> Result<impl Iterator<Item = Result<PastEntity>>> {
    let first = Bound::Excluded((vault, key, height));
    let rows = table.range((first, Bound::Included((vault, key, u64::MAX))))?;
    Ok(rows.map(move |row| {
        let ((vault, key, block), row) = row?;
        let entity = match &row[..] {
            [] => None,
            row => Some(decode_entity(vault, &key, row)?),
        };
        // The range begins above a height, so no block in it is 0.
        let until = block - 1;
        Ok(PastEntity { until, entity })
    }))
}
