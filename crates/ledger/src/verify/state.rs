//! Checking the state of a vault: the commitment is recomputed from its own rows, and every entity
//! and relationship is looked up in it.
//!
//! Memory does not grow with the vault: rows are compared one by one, in both directions. Every row
//! has its item in the commitment, and there are as many items as rows, so there is no item without
//! a row.

use std::ops::Bound;

use folio_store::{ReadTransaction, TableView};

use super::{VerifyError, compare};
use crate::digest::Digest;
use crate::read::{LedgerView, decode_entity};
use crate::state_key::{Relationship, StateKey, content_hash};
use crate::tables::{ByResource, BySubject, Entities, Expiries, Fans, Items};
use crate::tree::{Rows, check};

/// A state that is sound.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StateReport {
    /// The vault.
    pub vault: u64,
    /// The number of entities.
    pub entities: u64,
    /// The number of relationships.
    pub relationships: u64,
    /// The state root, recomputed from the rows.
    pub state_root: Digest,
}

/// Checks that the state root of a vault is the one of its rows, that both indexes of the
/// relationships agree, and that the counts are right. `progress` gets the number of items checked
/// and their total; each item is checked twice.
pub fn verify_state(
    view: &ReadTransaction,
    vault: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<StateReport, VerifyError> {
    let info = LedgerView::new(view)
        .vault(vault)?
        .ok_or(VerifyError::UnknownVault(vault))?;
    let total = info
        .entities
        .saturating_add(info.relationships)
        .saturating_mul(2);
    let (items, fans) = (view.table::<Items>()?, view.table::<Fans>()?);
    let rows = Rows {
        items: &items,
        fans: &fans,
    };
    let checked = check(rows, vault, &mut |done| progress(done, total))?;
    let whole = || format!("vault {vault}, the whole state");
    compare(whole, "the state root", info.state_root, checked.root)?;

    let mut seen = Seen {
        vault,
        items: &items,
        rows: 0,
        committed: checked.items,
        total,
        progress,
    };
    let entities = verify_entities(view, &mut seen)?;
    compare(whole, "the number of entities", info.entities, entities)?;
    let relationships = verify_relationships(view, &mut seen)?;
    compare(
        whole,
        "the number of relationships",
        info.relationships,
        relationships,
    )?;
    compare(
        whole,
        "the number of items in the commitment",
        checked.items,
        entities + relationships,
    )?;
    Ok(StateReport {
        vault,
        entities,
        relationships,
        state_root: checked.root,
    })
}

/// The rows compared so far.
struct Seen<'s, 't> {
    vault: u64,
    items: &'s TableView<'t, Items>,
    rows: u64,
    committed: u64,
    total: u64,
    progress: &'s mut dyn FnMut(u64, u64),
}

impl Seen<'_, '_> {
    /// Compares a row with its item in the commitment.
    fn row(&mut self, key: &StateKey, content: &[u8]) -> Result<(), VerifyError> {
        let committed = self.items.get((self.vault, key.path().0))?.map(Digest);
        let place = || format!("vault {}, {key}", self.vault);
        let text =
            |hash: Option<Digest>| hash.map_or("nothing".to_owned(), |hash| hash.to_string());
        compare(
            place,
            "the content hash in the commitment",
            text(committed),
            text(Some(content_hash(content))),
        )?;
        self.rows += 1;
        (self.progress)(self.committed + self.rows, self.total);
        Ok(())
    }
}

fn verify_entities(view: &ReadTransaction, seen: &mut Seen<'_, '_>) -> Result<u64, VerifyError> {
    let (vault, table, expiries) = (
        seen.vault,
        view.table::<Entities>()?,
        view.table::<Expiries>()?,
    );
    let mut entities = 0;
    for row in table.range((Bound::Included((vault, &b""[..])), Bound::Unbounded))? {
        let ((in_vault, key), row) = row?;
        if in_vault != vault {
            break;
        }
        let entity = decode_entity(vault, &key, &row)?;
        if let Some(time) = entity.expires_at {
            let listed = expiries.contains_key((time, vault, &key[..]))?;
            let place = || format!("vault {vault}, {}", StateKey::Entity(key.clone()));
            compare(place, "its entry in the list of expiries", listed, true)?;
        }
        seen.row(&StateKey::Entity(key), &row)?;
        entities += 1;
    }
    Ok(entities)
}

fn verify_relationships(
    view: &ReadTransaction,
    seen: &mut Seen<'_, '_>,
) -> Result<u64, VerifyError> {
    let (vault, by_resource, by_subject) = (
        seen.vault,
        view.table::<ByResource>()?,
        view.table::<BySubject>()?,
    );
    let first = || Bound::Included((vault, "", "", ""));
    let mut relationships = 0;
    for row in by_resource.range((first(), Bound::Unbounded))? {
        let ((in_vault, resource, relation, subject), ()) = row?;
        if in_vault != vault {
            break;
        }
        let listed =
            by_subject.contains_key((vault, &subject[..], &relation[..], &resource[..]))?;
        let key = StateKey::Relationship(Relationship {
            resource,
            relation,
            subject,
        });
        let place = || format!("vault {vault}, {key}");
        compare(place, "its row in the index by subject", listed, true)?;
        seen.row(&key, &[])?;
        relationships += 1;
    }
    let mut listed = 0_u64;
    for row in by_subject.range((first(), Bound::Unbounded))? {
        let ((in_vault, ..), ()) = row?;
        if in_vault != vault {
            break;
        }
        listed += 1;
    }
    let place = || format!("vault {vault}, the index by subject");
    compare(place, "its length", listed, relationships)?;
    Ok(relationships)
}
