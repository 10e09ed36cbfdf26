//! A file to damage, and what may become of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use folio_store::{
    Database, Durability, Group, LostRange, SalvageReport, TableDefinition, salvage_storage,
    storage::{MemoryStorage, SplitMix64},
};

pub const PAGE: usize = 4096;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Contents = BTreeMap<String, (u8, Rows)>;

pub fn definition(name: &str, group: u8) -> TableDefinition {
    TableDefinition {
        name: name.into(),
        group: Group::new(group),
        key_type: format!("keys of {name}"),
        value_type: "bytes".into(),
    }
}

/// In one table long keys that differ at both ends, so that a tree of a few hundred rows has several levels.
pub fn key(table: usize, number: u64) -> Vec<u8> {
    let filler = if table == 1 {
        "k".repeat(700)
    } else {
        String::new()
    };
    format!("{:06}{filler}{:02}", number / 8, number % 8).into_bytes()
}

/// Every value that a row ever had.
type History = BTreeMap<String, BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>>;

pub struct Sample {
    pub image: Vec<u8>,
    pub contents: Contents,
    pub history: History,
}

/// A file with history: groups at different flushes, free pages full of older versions, long values, a deleted table.
pub fn build(seed: u64, closed: bool, page_size: usize) -> Sample {
    let mut random = SplitMix64::new(seed);
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder()
        .page_size(page_size)
        .create_on(storage.clone())
        .unwrap();
    let names = [
        ("short", 0),
        ("deep", 0),
        ("other group", 3),
        ("long", 3),
        ("empty", 5),
    ];
    let mut contents: Contents = names
        .iter()
        .map(|&(name, group)| (name.into(), (group, Rows::new())))
        .collect();
    let gone = definition("gone", 0);
    let mut history = History::new();
    for round in 0..25u64 {
        let mut txn = db.begin_write().unwrap();
        if round == 0 {
            let mut table = txn.untyped(&gone).unwrap();
            for row in 0..100u64 {
                table
                    .insert(row.to_be_bytes().as_slice(), b"gone".as_slice())
                    .unwrap();
            }
            txn.untyped(&definition("empty", 5)).unwrap();
        }
        if round == 10 {
            assert!(txn.delete_table(&gone).unwrap());
        }
        for (index, &(name, group)) in names.iter().enumerate().take(4) {
            let rows = &mut contents.get_mut(name).unwrap().1;
            let mut table = txn.untyped(&definition(name, group)).unwrap();
            for _ in 0..random.below(30) {
                let key = key(index, random.below(400));
                if random.below(4) == 0 {
                    table.remove(key.as_slice()).unwrap();
                    rows.remove(&key);
                    continue;
                }
                let length = if index == 3 && random.below(3) == 0 {
                    random.below(30_000)
                } else {
                    random.below(120)
                };
                let mut value = vec![0; length as usize];
                noise(&mut random, &mut value);
                table.insert(key.as_slice(), value.as_slice()).unwrap();
                let of_table = history.entry(name.into()).or_default();
                of_table
                    .entry(key.clone())
                    .or_default()
                    .insert(value.clone());
                rows.insert(key, value);
            }
        }
        if random.below(3) == 0 {
            txn.set_durability(Durability::Eventual);
        }
        txn.commit().unwrap();
    }
    db.checkpoint(folio_store::GroupSet::ALL).unwrap();
    if closed {
        db.close().unwrap();
    } else {
        db.kill();
    }
    Sample {
        image: storage.to_bytes(),
        contents,
        history,
    }
}

pub fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| build(5, true, PAGE))
}

pub fn recover(image: &[u8]) -> folio_store::Result<(Contents, SalvageReport)> {
    let target = Database::in_memory()?;
    let report = salvage_storage(
        Arc::new(MemoryStorage::from_bytes(image)),
        &target,
        |_, done, total| {
            assert!(done <= total, "{done} of {total}");
        },
    )?;
    assert_eq!(target.verify(|_, _| {}).unwrap().problems, []);
    Ok((contents_of(&target), report))
}

pub fn contents_of(db: &Database) -> Contents {
    let view = db.begin_read().unwrap();
    let mut contents = Contents::new();
    for table in view.tables().unwrap() {
        let rows = view.untyped(&table).unwrap();
        let rows = rows.iter().unwrap().collect::<Result<_, _>>().unwrap();
        contents.insert(table.name.clone(), (table.group.index(), rows));
    }
    contents
}

pub fn covers(range: &LostRange, key: &[u8]) -> bool {
    range.from.as_deref().is_none_or(|from| from <= key)
        && range.to.as_deref().is_none_or(|to| key < to)
}

/// Everything that a report promises about what is in the new database.
pub fn check(sample: &Sample, found: &Contents, report: &SalvageReport, context: &str) {
    let right = &sample.contents;
    assert_eq!(found.len(), report.tables.len(), "{context}");
    for table in &report.tables {
        let rows = &found[&table.definition.name].1;
        assert_eq!(rows.len() as u64, table.rows(), "{context}: {table:?}");
        // Not even a stale row is one that never was.
        for (key, value) in rows {
            let known = sample.history.get(&table.definition.name);
            let was =
                known.is_none_or(|rows| rows.get(key).is_some_and(|values| values.contains(value)));
            assert!(was, "{context}: {} of {table:?}", key.escape_ascii());
        }
    }
    if report.doubt.is_some() {
        // An older commit, all of whose rows were right once.
        assert!(!report.is_complete(), "{context}");
        return;
    }
    for (name, (group, rows)) in right {
        let Some(table) = report
            .tables
            .iter()
            .find(|table| table.definition.name == *name)
        else {
            assert!(
                report.tables_missing || report.transaction.is_none(),
                "{context}: `{name}` is missing: {report:?}"
            );
            continue;
        };
        let (found_group, out) = &found[name];
        if table.named {
            assert_eq!(table.definition, definition(name, *group), "{context}");
        }
        assert_eq!(found_group, group, "{context}: group of `{name}`");
        let wrong = out
            .iter()
            .filter(|(key, value)| rows.get(*key) != Some(value))
            .count() as u64;
        assert!(
            wrong <= table.rows_stale,
            "{context}: {wrong} wrong rows in {table:?}"
        );
        let missing: Vec<&Vec<u8>> = rows.keys().filter(|key| !out.contains_key(*key)).collect();
        for key in &missing {
            let told = table.ranges_lost.iter().any(|range| covers(range, key))
                || table.values_lost.contains(key);
            assert!(
                told,
                "{context}: `{name}` misses {} in silence",
                key.escape_ascii()
            );
        }
        if table.rows_stale == 0 && !table.rows_lost_unknown {
            assert_eq!(
                missing.len() as u64,
                table.rows_lost + table.value_count,
                "{context}: {table:?}"
            );
        }
        if table.is_complete() {
            assert!(out == rows, "{context}: `{name}`");
        }
    }
    if report.is_complete() {
        assert!(found == right, "{context}");
    }
}

pub fn examine(image: &[u8], sample: &Sample, context: &str) -> (Contents, SalvageReport) {
    let (found, report) = recover(image).unwrap_or_else(|error| panic!("{context}: {error}"));
    check(sample, &found, &report, context);
    (found, report)
}

/// How many rows of the newest commit are not there.
pub fn missing(right: &Contents, found: &Contents) -> usize {
    let of = |name: &String, key: &Vec<u8>| {
        found
            .get(name)
            .is_none_or(|(_, rows)| !rows.contains_key(key))
    };
    right
        .iter()
        .map(|(name, (_, rows))| rows.keys().filter(|key| of(name, key)).count())
        .sum()
}

pub fn noise(random: &mut SplitMix64, bytes: &mut [u8]) {
    bytes.fill_with(|| random.next_u64() as u8);
}

pub fn spoil(image: &mut [u8], page: usize, random: &mut SplitMix64) {
    noise(random, &mut image[page * PAGE..(page + 1) * PAGE]);
}

/// The pages that the newest commit uses.
pub fn live(sample: &Sample) -> Vec<usize> {
    let mut live = Vec::new();
    for page in 8..sample.image.len() / PAGE {
        let mut image = sample.image.clone();
        image[page * PAGE + 1_000] ^= 1;
        let db = Database::builder().open_on(Arc::new(MemoryStorage::from_bytes(&image)));
        // A page of the last commit's manifest keeps the file from being opened.
        let sound = db.is_ok_and(|db| db.verify(|_, _| {}).unwrap().problems.is_empty());
        if !sound {
            live.push(page);
        }
    }
    live
}
