//! What is done to the table of several values a key.

use std::{
    collections::BTreeSet,
    ops::Bound::{Included, Unbounded},
};

use folio_store::{MultiTableMut, MultiTableView, Pairs, Result, Table, Value, WriteTransaction};

use super::{Outcome, differs, rows::goes};
use crate::{
    model::{PAIRS, Rows, Tags, definitions, key, rows_differ, value},
    script::Change,
};

type Pair = (Vec<u8>, Vec<u8>);
type PairKey = <Pairs<Tags> as Table>::Key;

/// So few that each has several values.
const KEYS: u16 = 12;
/// Key and value have to fit a key of the table of pairs, escaped.
const LONGEST: usize = 100;

fn key_of(number: u16, page_size: usize) -> Vec<u8> {
    let mut key = key(PAIRS, number % KEYS, page_size);
    key.truncate(LONGEST);
    key
}

fn value_of(seed: u32, length: u32) -> Vec<u8> {
    value(seed % 64, length % LONGEST as u32).to_vec()
}

fn row(pair: &Pair) -> Vec<u8> {
    let mut bytes = Vec::new();
    PairKey::encode(&(pair.0.as_slice(), pair.1.as_slice()), &mut bytes);
    bytes
}

fn pairs(rows: &Rows) -> BTreeSet<Pair> {
    rows.keys()
        .map(|row| PairKey::decode(row).expect("the model has what it was given"))
        .collect()
}

pub(super) fn apply_to(
    txn: &WriteTransaction,
    change: Change,
    rows: &mut Rows,
    page_size: usize,
) -> Result<Outcome> {
    let mut table = txn.multi_table::<Tags>()?;
    let mut model = pairs(rows);
    let outcome = apply(&mut table, change, &mut model, page_size);
    *rows = model.iter().map(|pair| (row(pair), [].into())).collect();
    let outcome = outcome?;
    if matches!(change, Change::Scan) {
        drop(table);
        let difference = rows_differ(rows, &*txn.untyped(&definitions()[PAIRS])?)?;
        return Ok(Outcome::read(outcome.difference.or(difference)));
    }
    Ok(outcome)
}

fn apply(
    table: &mut MultiTableMut<'_, Tags>,
    change: Change,
    model: &mut BTreeSet<Pair>,
    page_size: usize,
) -> Result<Outcome> {
    let key = |number| key_of(number, page_size);
    let before = model.len();
    match change {
        Change::Insert {
            key: number,
            seed,
            length,
        }
        | Change::Reserve {
            key: number,
            seed,
            length,
        } => {
            let pair = (key(number), value_of(seed, length));
            let new = table.insert(pair.0.as_slice(), pair.1.as_slice())?;
            Ok(Outcome::changed(differs(
                "a pair is new",
                model.insert(pair),
                new,
            )))
        }
        Change::Fill { rows, seed, length } => {
            for number in 0..rows {
                let seed = seed.wrapping_add(number.into());
                let pair = (key(number), value_of(seed, length));
                let new = table.insert(pair.0.as_slice(), pair.1.as_slice())?;
                if model.insert(pair) != new {
                    return Ok(Outcome::changed(Some("a pair is new or not".into())));
                }
            }
            Ok(Outcome::changed(None))
        }
        Change::Append { seed, length } => {
            let last = model.last().map_or(Vec::new(), |pair| pair.0.clone());
            let pair = (last, value_of(seed, length));
            let new = table.insert(pair.0.as_slice(), pair.1.as_slice())?;
            Ok(Outcome::changed(differs(
                "a pair is new",
                model.insert(pair),
                new,
            )))
        }
        Change::Remove { key: number } => {
            let key = key(number);
            let first = model
                .range((Included((key.clone(), Vec::new())), Unbounded))
                .next();
            let value = match first {
                Some((found, value)) if *found == key => value.clone(),
                _ => b"not there".to_vec(),
            };
            let removed = table.remove(key.as_slice(), value.as_slice())?;
            let wanted = model.remove(&(key, value));
            Ok(Outcome::changed(differs(
                "a pair was there",
                wanted,
                removed,
            )))
        }
        Change::Entry { key: number, .. } | Change::Swap { key: number, .. } => {
            let key = key(number);
            model.retain(|pair| pair.0 != key);
            let removed = table.remove_all(key.as_slice())?;
            let wanted = (before - model.len()) as u64;
            Ok(Outcome::changed(differs(
                "values of a key",
                wanted,
                removed,
            )))
        }
        Change::RemoveRange { from, to } => {
            let (from, to) = (key(from), key(to));
            model.retain(|pair| pair.0 < from || pair.0 >= to);
            let removed = table.remove_range(from.as_slice()..to.as_slice())?;
            let wanted = (before - model.len()) as u64;
            Ok(Outcome::changed(differs(
                "pairs of a range",
                wanted,
                removed,
            )))
        }
        Change::Clear => {
            model.clear();
            Ok(Outcome::changed(differs(
                "cleared",
                before as u64,
                table.clear()?,
            )))
        }
        Change::Retain { share } => {
            model.retain(|pair| !goes(share, &pair.1));
            let removed = table.retain(|_, value| !goes(share, value))?;
            let wanted = (before - model.len()) as u64;
            Ok(Outcome {
                changed: wanted > 0,
                difference: differs("pairs that a rule chooses", wanted, removed),
            })
        }
        Change::Extract {
            from,
            share,
            enough,
        } => {
            let from = key(from);
            let wanted: Vec<Pair> = model
                .range((from.clone(), Vec::new())..)
                .filter(|pair| goes(share, &pair.1))
                .take(enough.into())
                .cloned()
                .collect();
            let found: Vec<Pair> = table
                .extract_if(from.as_slice().., |_, value| goes(share, value))?
                .take(enough.into())
                .collect::<Result<_>>()?;
            model.retain(|pair| !wanted.contains(pair));
            Ok(Outcome {
                changed: !wanted.is_empty(),
                difference: differs("extracted pairs", wanted, found),
            })
        }
        Change::Pop { ends } => {
            let mut outcome = Outcome::read(None);
            for bit in 0..8 {
                let (wanted, found) = match ends >> bit & 1 {
                    0 => (model.pop_first(), table.pop_first()?),
                    _ => (model.pop_last(), table.pop_last()?),
                };
                outcome.changed |= wanted.is_some();
                outcome.difference = outcome
                    .difference
                    .or(differs("a popped pair", wanted, found));
            }
            Ok(outcome)
        }
        Change::Get { key: number }
        | Change::Nearest { key: number }
        | Change::Walk { key: number, .. } => look(table, model, &key(number)).map(Outcome::read),
        Change::Scan => keys(table, model).map(Outcome::read),
        _ => Ok(Outcome::read(None)),
    }
}

fn keys(table: &MultiTableView<'_, Tags>, model: &BTreeSet<Pair>) -> Result<Option<String>> {
    let wanted: BTreeSet<Vec<u8>> = model.iter().map(|pair| pair.0.clone()).collect();
    let found: Vec<Vec<u8>> = table.keys()?.collect::<Result<_>>()?;
    Ok(differs("the keys", wanted.into_iter().collect(), found))
}

/// The values of a key from both ends, and what a cursor finds around them.
fn look(
    table: &MultiTableView<'_, Tags>,
    model: &BTreeSet<Pair>,
    key: &[u8],
) -> Result<Option<String>> {
    let at = (key.to_vec(), Vec::new());
    let wanted: Vec<Vec<u8>> = model
        .range(at.clone()..)
        .take_while(|pair| pair.0 == key)
        .map(|pair| pair.1.clone())
        .collect();
    let found: Vec<Vec<u8>> = table.get(key)?.collect::<Result<_>>()?;
    let mut backwards: Vec<Vec<u8>> = table.get(key)?.rev().collect::<Result<_>>()?;
    backwards.reverse();
    let mut cursor = table.cursor();
    cursor.seek(key)?;
    let before = cursor.prev()?;
    cursor.seek_after(key)?;
    let behind = cursor.next()?;
    let last = wanted.last().cloned();
    let differences = [
        differs(
            "a key has values",
            !wanted.is_empty(),
            table.contains_key(key)?,
        ),
        differs("the values backwards", wanted.clone(), backwards),
        differs("the values", wanted, found),
        differs(
            "the pair before",
            model.range(..at).next_back().cloned(),
            before,
        ),
        differs(
            "the pair behind",
            model.iter().find(|pair| pair.0.as_slice() > key).cloned(),
            behind,
        ),
        differs("the first pair", model.first().cloned(), table.first()?),
        differs("the last pair", model.last().cloned(), table.last()?),
        match last {
            Some(last) => differs(
                "it has its last value",
                true,
                table.contains(key, last.as_slice())?,
            ),
            None => None,
        },
    ];
    Ok(differences.into_iter().flatten().next())
}
