//! Comparing the rows of two ledgers.

use std::collections::BTreeSet;

use folio_raft::StateMachine;
use folio_store::{ReadTransaction, Table, TableDefinition, Value};

use super::Difference;
use crate::Ledger;
use crate::digest::Digest;
use crate::error::{LedgerError, Result};
use crate::prefix::Prefix;
use crate::read::LedgerView;
use crate::state_key::{Relationship, StateKey};
use crate::tables::{
    Blocks, ByResource, BySubject, Entities, Expiries, Fans, History, Items, Transactions, Vaults,
    Versions,
};
use crate::tree::{Rows, find_bucket};

/// Which rows are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What blocks record, of the vaults that the stored ledger has.
    Blocks,
    /// Every row of every table.
    Everything,
}

/// The tables that blocks determine, in the order in which they are compared: what people put there first.
fn determined() -> Vec<TableDefinition> {
    vec![
        TableDefinition::of::<Entities>(),
        TableDefinition::of::<ByResource>(),
        TableDefinition::of::<BySubject>(),
        TableDefinition::of::<Items>(),
        TableDefinition::of::<Fans>(),
        TableDefinition::of::<Expiries>(),
        TableDefinition::of::<Transactions>(),
        TableDefinition::of::<Blocks>(),
        TableDefinition::of::<History>(),
    ]
}

/// The rows that differ, `limit` of them at most, the first of each table first. Reads every row of both, and holds none.
/// `progress` gets the number of rows compared and their total.
pub fn compare(
    stored: &ReadTransaction,
    replayed: &ReadTransaction,
    scope: Scope,
    limit: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Difference>> {
    let mut tables = determined();
    if scope == Scope::Everything {
        for table in Ledger.tables().definitions() {
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
    }
    let mut vaults = BTreeSet::new();
    for row in stored.table::<Vaults>()?.iter()? {
        vaults.insert(row?.0);
    }
    let mut total = 0;
    for table in &tables {
        total += stored.untyped(table)?.len()?;
    }
    let words = Words { replayed };
    let (mut done, mut found) = (0, Vec::new());
    for table in &tables {
        let belongs = |key: &[u8]| {
            scope == Scope::Everything || vault_of(table, key).is_some_and(|v| vaults.contains(&v))
        };
        let (left, right) = (stored.untyped(table)?, replayed.untyped(table)?);
        let (mut left, mut right) = (left.iter()?, right.iter()?);
        let (mut a, mut b) = (left.next().transpose()?, right.next().transpose()?);
        while found.len() < limit && (a.is_some() || b.is_some()) {
            let order = match (&a, &b) {
                (Some((a, _)), Some((b, _))) => a.cmp(b),
                (Some(_), None) => std::cmp::Ordering::Less,
                _ => std::cmp::Ordering::Greater,
            };
            let (mut one, mut other) = (None, None);
            if order.is_le() {
                one = std::mem::replace(&mut a, left.next().transpose()?);
                done += 1;
                progress(done, total);
            }
            if order.is_ge() {
                other = std::mem::replace(&mut b, right.next().transpose()?);
            }
            if one != other
                && let Some((key, _)) = one.as_ref().or(other.as_ref())
                && belongs(key)
            {
                let value =
                    |row: &Option<(Vec<u8>, Vec<u8>)>| row.as_ref().map(|row| row.1.clone());
                found.push(words.describe(table, key, value(&one), value(&other))?);
            }
        }
    }
    Ok(found)
}

/// The vault in whose rows a key of a table is.
fn vault_of(table: &TableDefinition, key: &[u8]) -> Option<u64> {
    let place = if table.name == Expiries::NAME { 8 } else { 0 };
    let bytes = key.get(place..place + 8)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn shown(value: Option<Vec<u8>>) -> String {
    const LONGEST: usize = 64;
    match value {
        None => "no row".to_owned(),
        Some(value) if value.is_empty() => "a row".to_owned(),
        Some(value) => {
            let mut text: String = value
                .iter()
                .take(LONGEST)
                .map(|b| format!("{b:02x}"))
                .collect();
            if value.len() > LONGEST {
                text.push_str(&format!(".. ({} bytes)", value.len()));
            }
            text
        }
    }
}

/// Puts rows that differ into words, by what the replay has.
struct Words<'v> {
    replayed: &'v ReadTransaction,
}

impl Words<'_> {
    /// Puts a row that differs into words.
    fn describe(
        &self,
        table: &TableDefinition,
        key: &[u8],
        stored: Option<Vec<u8>>,
        replayed: Option<Vec<u8>>,
    ) -> Result<Difference> {
        let vault = match &table.name[..] {
            "ledger_sessions" | "ledger_session_uses" | "ledger_counters" => None,
            _ => vault_of(table, key),
        };
        let height = match vault {
            Some(vault) => LedgerView::new(self.replayed)
                .vault(vault)?
                .map(|info| info.height),
            None => None,
        };
        let mut difference = Difference {
            vault,
            height,
            what: format!("a row of `{}`", table.name),
            bucket: None,
            key: None,
            stored: shown(stored.clone()),
            replayed: shown(replayed.clone()),
            note: None,
        };
        match &table.name[..] {
            Entities::NAME => {
                let (_, key) = decoded::<<Entities as Table>::Key>(table, key)?;
                self.of_key(&mut difference, "the entity", StateKey::Entity(key))?;
            }
            Expiries::NAME => {
                let (_, _, key) = decoded::<<Expiries as Table>::Key>(table, key)?;
                self.of_key(
                    &mut difference,
                    "its expiry on the list",
                    StateKey::Entity(key),
                )?;
            }
            Versions::NAME => {
                let (_, key, height) = decoded::<<Versions as Table>::Key>(table, key)?;
                let what = format!("the version that block {height} replaced");
                self.of_key(&mut difference, &what, StateKey::Entity(key))?;
            }
            ByResource::NAME => {
                let (_, resource, relation, subject) =
                    decoded::<<ByResource as Table>::Key>(table, key)?;
                let key = Relationship::new(resource, relation, subject);
                let what = "the relationship in the index by resource";
                self.of_key(&mut difference, what, StateKey::Relationship(key))?;
            }
            BySubject::NAME => {
                let (_, subject, relation, resource) =
                    decoded::<<BySubject as Table>::Key>(table, key)?;
                let key = Relationship::new(resource, relation, subject);
                let what = "the relationship in the index by subject";
                self.of_key(&mut difference, what, StateKey::Relationship(key))?;
            }
            Items::NAME => {
                let (vault, path) = decoded::<<Items as Table>::Key>(table, key)?;
                difference.what = format!("the item {} of the commitment", Digest(path));
                difference.bucket = Some(bucket_at(self.replayed, vault, &Digest(path))?);
                difference.key = self.key_of_path(vault, &Digest(path))?;
            }
            Fans::NAME => {
                let (_, depth, bytes) = decoded::<<Fans as Table>::Key>(table, key)?;
                difference.what = "the hashes of the commitment below this prefix".to_owned();
                difference.bucket = prefix(depth, &bytes).map(|prefix| prefix.to_string());
            }
            Blocks::NAME => {
                let (_, height) = decoded::<<Blocks as Table>::Key>(table, key)?;
                difference.height = Some(height);
                difference.what = "the header".to_owned();
            }
            Transactions::NAME => {
                let (_, height, position) = decoded::<<Transactions as Table>::Key>(table, key)?;
                difference.height = Some(height);
                difference.what = format!("transaction {position}");
            }
            "ledger_vaults" => difference.what = "the record of the vault".to_owned(),
            "ledger_counters" => {
                difference.what = format!("the counter of {} numbers", key.escape_ascii());
            }
            "ledger_sessions" => {
                let session = vault_of(table, key).unwrap_or_default();
                difference.what = format!("session {session}");
            }
            _ => {
                let key: String = key.iter().map(|b| format!("{b:02x}")).collect();
                difference.what = format!("the row {key} of `{}`", table.name);
            }
        }
        Ok(difference)
    }

    /// Names a key and the bucket in which the replay has it, or would.
    fn of_key(&self, difference: &mut Difference, what: &str, key: StateKey) -> Result<()> {
        if let Some(vault) = difference.vault {
            difference.bucket = Some(bucket_of(self.replayed, vault, &key)?);
        }
        difference.what = what.to_owned();
        difference.key = Some(key);
        Ok(())
    }

    /// The key that has a path: reads the keys of the vault until it comes.
    fn key_of_path(&self, vault: u64, path: &Digest) -> Result<Option<StateKey>> {
        use std::ops::Bound::{Included, Unbounded};

        for row in
            (self.replayed.table::<Entities>()?).range((Included((vault, &b""[..])), Unbounded))?
        {
            let ((in_vault, key), _) = row?;
            if in_vault != vault {
                break;
            }
            let key = StateKey::Entity(key);
            if key.path() == *path {
                return Ok(Some(key));
            }
        }
        let table = self.replayed.table::<ByResource>()?;
        for row in table.range((Included((vault, "", "", "")), Unbounded))? {
            let ((in_vault, resource, relation, subject), ()) = row?;
            if in_vault != vault {
                break;
            }
            let key = StateKey::Relationship(Relationship::new(resource, relation, subject));
            if key.path() == *path {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}

/// The prefix of the bucket in which a key is, or would be.
pub(super) fn bucket_of(view: &ReadTransaction, vault: u64, key: &StateKey) -> Result<String> {
    bucket_at(view, vault, &key.path())
}

fn bucket_at(view: &ReadTransaction, vault: u64, path: &Digest) -> Result<String> {
    let (items, fans) = (view.table::<Items>()?, view.table::<Fans>()?);
    let rows = Rows {
        items: &items,
        fans: &fans,
    };
    let (_, siblings) = find_bucket(rows, vault, path)?;
    let depth = u16::try_from(siblings.len()).unwrap_or(u16::MAX).min(256);
    Ok(Prefix::of(path, depth).to_string())
}

/// The prefix that a row key names; `None` if there is none of that depth.
fn prefix(depth: u16, bytes: &[u8]) -> Option<Prefix> {
    let mut path = Digest::ZERO;
    path.0.get_mut(..bytes.len())?.copy_from_slice(bytes);
    (depth <= 256).then(|| Prefix::of(&path, depth))
}

fn decoded<K: Value>(table: &TableDefinition, key: &[u8]) -> Result<K::Owned> {
    K::decode(key).map_err(|source| {
        LedgerError::Store(folio_store::Error::Decode {
            table: table.name.as_str().into(),
            source,
        })
    })
}
