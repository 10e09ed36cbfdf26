//! One operation, on the engine and on the model side by side.

use std::sync::Arc;

use folio_store::{Error, Result, TableMut, WriteTransaction};

mod pairs;
mod rows;

use crate::{
    model::{
        Numbered, Rows, STAGING, State, TABLES, definitions, group_of, key, next_key, rows_differ,
        value,
    },
    script::{Change, Operation},
};

/// What became of an operation.
pub struct Applied {
    /// The bit of the group that it changed; 0 if it changed none.
    pub changed_group: u16,
    /// How the engine's answer differs from the model's.
    pub difference: Option<String>,
}

type ApplyTo = fn(&WriteTransaction, Change, &mut Rows, usize) -> Result<Outcome>;

/// What became of an operation on one table.
pub(crate) struct Outcome {
    /// Whether the tree was changed, if only into the same one.
    pub changed: bool,
    pub difference: Option<String>,
}

impl Outcome {
    pub fn read(difference: Option<String>) -> Self {
        Self {
            changed: false,
            difference,
        }
    }

    pub fn changed(difference: Option<String>) -> Self {
        Self {
            changed: true,
            difference,
        }
    }
}

const APPLY: [ApplyTo; TABLES] = [
    apply_to::<0>,
    apply_to::<1>,
    apply_to::<2>,
    apply_to::<3>,
    apply_to::<4>,
    apply_to::<5>,
    apply_to::<6>,
    pairs::apply_to,
];

/// Does an operation and compares the answers.
///
/// # Errors
///
/// Those of the engine; the model is of no use then.
pub fn apply(
    txn: &WriteTransaction,
    operation: &Operation,
    state: &mut State,
    page_size: usize,
) -> Result<Applied> {
    let Operation { table, change } = *operation;
    match change {
        Change::Delete => {
            let existed = state.delete(table).is_some();
            let deleted = txn.delete_table(&definitions()[table])?;
            Ok(Applied {
                changed_group: if existed { bit(table) } else { 0 },
                difference: differs("deleting the table", existed, deleted),
            })
        }
        Change::Replace => replace(txn, table, state),
        Change::Rename => rename(txn, table, state),
        change => {
            let created = state.table(table).is_none();
            let done = APPLY[table](txn, change, state.table_mut(table), page_size)?;
            Ok(Applied {
                changed_group: if created || done.changed {
                    bit(table)
                } else {
                    0
                },
                difference: done.difference,
            })
        }
    }
}

fn bit(table: usize) -> u16 {
    1 << group_of(table)
}

/// Moves the rows of the staging table into a table of the same group.
fn replace(txn: &WriteTransaction, table: usize, state: &mut State) -> Result<Applied> {
    let table = if group_of(table) == group_of(STAGING) && table != STAGING {
        table
    } else {
        0
    };
    let done = txn.replace_table(&definitions()[STAGING], &definitions()[table]);
    let Some(rows) = state.delete(STAGING) else {
        return match done {
            Err(Error::NoSuchTable { .. }) => Ok(Applied {
                changed_group: 0,
                difference: None,
            }),
            Err(error) => Err(error),
            Ok(()) => Ok(Applied {
                changed_group: 0,
                difference: Some("a table that does not exist was moved".into()),
            }),
        };
    };
    done?;
    state.replace(table, rows);
    Ok(Applied {
        changed_group: bit(table),
        difference: None,
    })
}

/// Gives a table another name and its own again.
fn rename(txn: &WriteTransaction, table: usize, state: &State) -> Result<Applied> {
    let own = &definitions()[table];
    let aside = own.renamed("renamed");
    let done = txn.rename_table(own, &aside.name);
    let exists = state.table(table).is_some();
    if !exists {
        let difference = match done {
            Err(Error::NoSuchTable { .. }) => None,
            Err(error) => return Err(error),
            Ok(()) => Some("a table that does not exist has another name".into()),
        };
        return Ok(Applied {
            changed_group: 0,
            difference,
        });
    }
    done?;
    let there = txn.tables()?;
    let moved = there.contains(&aside) && !there.contains(own) && !txn.delete_table(own)?;
    txn.rename_table(&aside, &own.name)?;
    Ok(Applied {
        changed_group: bit(table),
        difference: differs("renaming the table", true, moved),
    })
}

fn apply_to<const N: usize>(
    txn: &WriteTransaction,
    change: Change,
    rows: &mut Rows,
    page_size: usize,
) -> Result<Outcome> {
    let mut table = txn.table::<Numbered<N>>()?;
    let difference = match change {
        Change::Insert {
            key: number,
            seed,
            length,
        } => insert(
            &mut table,
            rows,
            key(N, number, page_size),
            value(seed, length),
        )?,
        Change::Append { seed, length } => {
            insert(&mut table, rows, next_key(rows), value(seed, length))?
        }
        Change::Remove { key: number } => {
            let key = key(N, number, page_size);
            let old = table.remove(key.as_slice())?;
            let wanted = rows.remove(&key);
            differs_bytes(
                "the removed value",
                wanted.as_deref(),
                old.as_ref().map(|old| old.bytes()),
            )
        }
        Change::Purge { rows: count } => {
            let Some(end) = rows.keys().nth(usize::from(count)).cloned() else {
                return clear(&mut table, rows).map(Outcome::changed);
            };
            let wanted = rows.len();
            *rows = rows.split_off(&end);
            let removed = table.remove_range(..end.as_slice())?;
            differs("purged", (wanted - rows.len()) as u64, removed)
        }
        Change::RemoveRange { from, to } => {
            let ends = [key(N, from, page_size), key(N, to, page_size)];
            let [start, end] = &ends;
            let wanted = rows.len();
            if start <= end {
                let mut behind = rows.split_off(start);
                rows.append(&mut behind.split_off(end));
            }
            let removed = table.remove_range(start.as_slice()..end.as_slice())?;
            differs(
                "removed of the range",
                (wanted - rows.len()) as u64,
                removed,
            )
        }
        Change::Get { key: number } => {
            let key = key(N, number, page_size);
            let found = table.get(key.as_slice())?;
            let mut difference = differs_bytes(
                "the value",
                rows.get(&key).map(AsRef::as_ref),
                found.as_deref(),
            );
            for (name, wanted, found) in [
                ("the first row", rows.first_key_value(), table.first()?),
                ("the last row", rows.last_key_value(), table.last()?),
            ] {
                let same = match (wanted, &found) {
                    (Some((key, value)), Some(found)) => found.0 == *key && found.1[..] == **value,
                    (None, None) => true,
                    _ => false,
                };
                if !same {
                    difference = Some(format!("{name} is {found:?}"));
                }
            }
            return Ok(Outcome::read(difference));
        }
        Change::Scan => {
            // Drops the typed handle: a table is open once in a transaction.
            drop(table);
            let difference = rows_differ(rows, &*txn.untyped(&definitions()[N])?)?;
            return Ok(Outcome::read(difference));
        }
        Change::Fill {
            rows: count,
            seed,
            length,
        } => {
            for number in 0..count {
                let key = key(N, 1_000 + number, page_size);
                let value = value(seed.wrapping_add(number.into()), length);
                let difference = insert(&mut table, rows, key, value)?;
                if difference.is_some() {
                    return Ok(Outcome::changed(difference));
                }
            }
            None
        }
        Change::Clear => clear(&mut table, rows)?,
        change => return rows::apply_to(&mut table, change, rows, page_size),
    };
    Ok(Outcome::changed(difference))
}

fn insert<const N: usize>(
    table: &mut TableMut<'_, Numbered<N>>,
    rows: &mut Rows,
    key: Vec<u8>,
    value: Arc<[u8]>,
) -> Result<Option<String>> {
    let old = table.insert(key.as_slice(), &*value)?;
    let wanted = rows.insert(key, value);
    Ok(differs_bytes(
        "the replaced value",
        wanted.as_deref(),
        old.as_ref().map(|old| old.bytes()),
    ))
}

fn clear<const N: usize>(
    table: &mut TableMut<'_, Numbered<N>>,
    rows: &mut Rows,
) -> Result<Option<String>> {
    let wanted = std::mem::take(rows).len() as u64;
    Ok(differs("cleared", wanted, table.clear()?))
}

fn differs<T: PartialEq + std::fmt::Debug>(what: &str, wanted: T, found: T) -> Option<String> {
    (wanted != found).then(|| format!("{what}: {found:?} in place of {wanted:?}"))
}

fn differs_bytes(what: &str, wanted: Option<&[u8]>, found: Option<&[u8]>) -> Option<String> {
    let told = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.escape_ascii().to_string());
    (wanted != found).then(|| format!("{what}: {:?} in place of {:?}", told(found), told(wanted)))
}
