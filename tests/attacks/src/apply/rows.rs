//! What is done to a table of bytes by cursors, entries, loaders, and walks that remove.

use std::{
    io,
    ops::Bound::{Excluded, Included, Unbounded},
};

use folio_store::{Entry, Error, Result, TableMut};

use super::{Outcome, differs, differs_bytes};
use crate::{
    model::{Numbered, Rows, key, next_key, value},
    script::Change,
};

type Row = (Vec<u8>, Vec<u8>);

fn row(row: Option<(&Vec<u8>, &std::sync::Arc<[u8]>)>) -> Option<Row> {
    row.map(|(key, value)| (key.clone(), value.to_vec()))
}

fn row_differs(what: &str, wanted: Option<Row>, found: Option<Row>) -> Option<String> {
    let told = |row: &Option<Row>| {
        let row = row.as_ref();
        row.map(|row| (row.0.escape_ascii().to_string(), row.1.len()))
    };
    (wanted != found).then(|| format!("{what}: {:?} in place of {:?}", told(&found), told(&wanted)))
}

/// A rule by which rows are chosen.
pub(super) fn goes(share: u8, key: &[u8]) -> bool {
    let sum: u32 = key.iter().copied().map(u32::from).sum();
    sum.is_multiple_of(u32::from(share) + 1)
}

pub(super) fn apply_to<const N: usize>(
    table: &mut TableMut<'_, Numbered<N>>,
    change: Change,
    rows: &mut Rows,
    page_size: usize,
) -> Result<Outcome> {
    let key = |number| key(N, number, page_size);
    match change {
        Change::Walk { key: first, steps } => {
            walk(table, rows, first, steps, key).map(Outcome::read)
        }
        Change::Nearest { key: number } => nearest(table, rows, &key(number)).map(Outcome::read),
        Change::Entry {
            key: number,
            seed,
            length,
        } => entry(table, rows, key(number), seed, length),
        Change::Swap {
            key: number,
            seed,
            length,
            expected,
        } => {
            let new = (!seed.is_multiple_of(3)).then(|| value(seed, length));
            swap(table, rows, key(number), new, expected)
        }
        Change::Reserve {
            key: number,
            seed,
            length,
        } => {
            let (key, value) = (key(number), value(seed, length));
            let failed = table.insert_reserve(key.as_slice(), value.len(), |_| {
                Err(io::ErrorKind::InvalidData.into())
            });
            match failed {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    return Ok(Outcome::changed(Some(
                        "a source that fails was not asked".into(),
                    )));
                }
            }
            let mut rest = &value[..];
            let old = table.insert_reserve(key.as_slice(), value.len(), |part| {
                let (here, later) = rest.split_at(part.len());
                part.copy_from_slice(here);
                rest = later;
                Ok(())
            })?;
            let wanted = rows.insert(key, value.clone());
            Ok(Outcome::changed(differs_bytes(
                "the value replaced in its place",
                wanted.as_deref(),
                old.as_ref().map(|old| old.bytes()),
            )))
        }
        Change::Load {
            rows: count,
            seed,
            length,
        } => {
            let mut loader = table.loader()?;
            for number in 0..count {
                let (key, value) = (
                    next_key(rows),
                    value(seed.wrapping_add(number.into()), length),
                );
                loader.push(key.as_slice(), &*value)?;
                match loader.push(key.as_slice(), &*value) {
                    Err(Error::OutOfOrder { .. }) => {}
                    Err(error) => return Err(error),
                    Ok(()) => return Ok(Outcome::changed(Some("a key was loaded twice".into()))),
                }
                rows.insert(key, value);
            }
            let pushed = loader.finish()?;
            Ok(Outcome {
                changed: count > 0,
                difference: differs("pushed", u64::from(count), pushed),
            })
        }
        Change::Retain { share } => {
            let before = rows.len();
            rows.retain(|key, _| !goes(share, key));
            let wanted = (before - rows.len()) as u64;
            let removed = table.retain(|key, _| !goes(share, key))?;
            Ok(Outcome {
                changed: wanted > 0,
                difference: differs("removed by a rule", wanted, removed),
            })
        }
        Change::Extract {
            from,
            share,
            enough,
        } => {
            let from = key(from);
            let wanted: Vec<Row> = rows
                .range(from.clone()..)
                .filter(|(key, _)| goes(share, key))
                .take(enough.into())
                .map(|(key, value)| (key.clone(), value.to_vec()))
                .collect();
            let found: Vec<Row> = table
                .extract_if(from.as_slice().., |key, _| goes(share, key))?
                .take(enough.into())
                .collect::<Result<_>>()?;
            wanted.iter().for_each(|(key, _)| drop(rows.remove(key)));
            Ok(Outcome {
                changed: !wanted.is_empty(),
                difference: (wanted != found).then(|| {
                    format!(
                        "extracted {} rows in place of {}",
                        found.len(),
                        wanted.len()
                    )
                }),
            })
        }
        Change::Pop { ends } => {
            let mut outcome = Outcome::read(None);
            for bit in 0..8 {
                let (wanted, found) = match ends >> bit & 1 {
                    0 => (rows.pop_first(), table.pop_first()?),
                    _ => (rows.pop_last(), table.pop_last()?),
                };
                outcome.changed |= wanted.is_some();
                let wanted = wanted.map(|(key, value)| (key, value.to_vec()));
                outcome.difference =
                    outcome
                        .difference
                        .or(row_differs("the row from an end", wanted, found));
            }
            Ok(outcome)
        }
        // Not done to a table that is open.
        _ => Ok(Outcome::read(None)),
    }
}

fn walk<const N: usize>(
    table: &TableMut<'_, Numbered<N>>,
    rows: &Rows,
    first: u16,
    steps: u16,
    key: impl Fn(u16) -> Vec<u8>,
) -> Result<Option<String>> {
    let mut cursor = table.cursor();
    // The place: behind all rows below it, which is what a seek leaves.
    let mut place = Included(key(first));
    cursor.seek(key(first).as_slice())?;
    for step in 0..8u16 {
        let range = (place.clone(), Unbounded);
        let before = match &place {
            Included(key) => (Unbounded, Excluded(key.clone())),
            Excluded(key) => (Unbounded, Included(key.clone())),
            Unbounded => (Unbounded, Unbounded),
        };
        let difference = match steps >> (2 * step) & 3 {
            0 => {
                let wanted = match &place {
                    Unbounded => None,
                    _ => row(rows.range::<Vec<u8>, _>(range).next()),
                };
                if let Some((key, _)) = &wanted {
                    place = Excluded(key.clone());
                }
                row_differs("the next row", wanted, cursor.next()?)
            }
            1 => {
                let wanted = row(rows.range::<Vec<u8>, _>(before).next_back());
                if let Some((key, _)) = &wanted {
                    place = Included(key.clone());
                }
                row_differs("the row before", wanted, cursor.prev()?)
            }
            2 if step % 2 == 0 => {
                cursor.seek_start();
                place = Included(Vec::new());
                None
            }
            2 => {
                cursor.seek_end();
                place = Unbounded;
                None
            }
            _ => {
                let next = key(first.wrapping_add(step) % 64);
                cursor.seek_after(next.as_slice())?;
                place = Excluded(next);
                None
            }
        };
        if difference.is_some() {
            return Ok(difference);
        }
    }
    Ok(None)
}

fn nearest<const N: usize>(
    table: &TableMut<'_, Numbered<N>>,
    rows: &Rows,
    key: &[u8],
) -> Result<Option<String>> {
    let below = |end| row(rows.range::<[u8], _>((Unbounded, end)).next_back());
    let above = |start| row(rows.range::<[u8], _>((start, Unbounded)).next());
    let pairs = [
        ("below", below(Excluded(key)), table.below(key)?),
        ("at or below", below(Included(key)), table.at_or_below(key)?),
        ("above", above(Excluded(key)), table.above(key)?),
        ("at or above", above(Included(key)), table.at_or_above(key)?),
    ];
    let mut differences = pairs
        .into_iter()
        .map(|(what, wanted, found)| row_differs(what, wanted, found));
    Ok(differences.find_map(|difference| difference))
}

fn entry<const N: usize>(
    table: &mut TableMut<'_, Numbered<N>>,
    rows: &mut Rows,
    key: Vec<u8>,
    seed: u32,
    length: u32,
) -> Result<Outcome> {
    let new = value(seed, length);
    let wanted = rows.get(&key).cloned();
    let (found, changed) = match table.entry(key.as_slice())? {
        Entry::Occupied(entry) => {
            let found = Some(entry.get()?);
            match seed % 3 {
                0 => {
                    entry.remove()?;
                    rows.remove(&key);
                }
                1 => {
                    entry.insert(&*new)?;
                    rows.insert(key, new);
                }
                _ => {}
            }
            (found, seed % 3 < 2)
        }
        Entry::Vacant(entry) if seed.is_multiple_of(3) => {
            entry.insert(&*new)?;
            rows.insert(key, new);
            (None, true)
        }
        vacant @ Entry::Vacant(_) if seed % 3 == 1 => {
            vacant.or_insert(&*new)?;
            rows.insert(key, new);
            (None, true)
        }
        Entry::Vacant(_) => (None, false),
    };
    Ok(Outcome {
        changed,
        difference: differs_bytes("the entry", wanted.as_deref(), found.as_deref()),
    })
}

fn swap<const N: usize>(
    table: &mut TableMut<'_, Numbered<N>>,
    rows: &mut Rows,
    key: Vec<u8>,
    new: Option<std::sync::Arc<[u8]>>,
    right: bool,
) -> Result<Outcome> {
    let there = rows.get(&key).cloned();
    let expected = match (right, &there) {
        (true, _) => there.clone(),
        (false, Some(_)) => None,
        (false, None) => Some(value(1, 3)),
    };
    let done = table.compare_and_swap(
        key.as_slice(),
        expected.as_deref().as_ref(),
        new.as_deref().as_ref(),
    )?;
    match done {
        Ok(()) if right => {
            let changed = there.is_some() || new.is_some();
            match new {
                Some(new) => drop(rows.insert(key, new)),
                None => drop(rows.remove(&key)),
            }
            Ok(Outcome {
                changed,
                difference: None,
            })
        }
        Ok(()) => Ok(Outcome::changed(Some("another value was swapped".into()))),
        Err(found) => {
            let found = found.as_ref().map(|found| found.bytes());
            let difference = differs_bytes("the value that stays", there.as_deref(), found);
            Ok(Outcome::read(match right {
                true => Some("the value that was expected is there".into()),
                false => difference,
            }))
        }
    }
}
