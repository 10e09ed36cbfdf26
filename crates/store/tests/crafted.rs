//! Crafted files: every checksum is right and what it covers is not. The outcome is rows or errors, never a panic, an
//! endless walk, or memory without bound.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, panic::catch_unwind, sync::Arc};

use folio_store::{
    Database, Table, TableDefinition,
    storage::{MemoryStorage, SplitMix64},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

type Contents = BTreeMap<u64, Vec<u8>>;

fn read(db: &Database) -> folio_store::Result<Contents> {
    let view = db.begin_read()?;
    view.table::<Rows>()?.iter()?.collect()
}

fn open(image: MemoryStorage) -> folio_store::Result<Database> {
    Database::builder().open_on(Arc::new(image))
}

/// Gives a page its right checksum.
fn seal(image: &mut [u8], page: usize) {
    let seed = crc32fast::hash(&image[48..64]);
    let bytes = &mut image[page * 4096..(page + 1) * 4096];
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&bytes[4..]);
    let checksum = hasher.finalize();
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// A file whose last commit changed nothing, so that no manifest vouches for its pages.
fn sound() -> Vec<u8> {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    for start in 0..3u64 {
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Rows>().unwrap();
        for key in 0..400u64 {
            let length = if key % 97 == 50 { 9_000 } else { key % 90 };
            table
                .insert(key * 3 + start, vec![1; length as usize].as_slice())
                .unwrap();
        }
        drop(table);
        txn.commit().unwrap();
        if start == 1 {
            db.create_savepoint("second").unwrap();
        }
    }
    db.close().unwrap();
    storage.to_bytes()
}

#[test]
fn crafted_pages_with_right_checksums_never_panic() {
    let sound = sound();
    let pages = sound.len() / 4096;
    let live: Vec<usize> = (8..pages)
        .filter(|page| sound[page * 4096 + 4] != 0)
        .collect();
    let mut random = SplitMix64::new(99);
    for round in 0..2_000 {
        let mut image = sound.clone();
        for _ in 0..1 + random.below(2) {
            let page = live[random.below(live.len() as u64) as usize];
            for _ in 0..1 + random.below(4) {
                let at = match random.below(4) {
                    0 => 24 + random.below(32),
                    1 => 40 + random.below(200),
                    _ => 24 + random.below(4072),
                } as usize;
                let byte = match random.below(4) {
                    0 => 0,
                    1 => 0xFF,
                    2 => image[page * 4096 + at] ^ (1 << random.below(8)),
                    _ => random.next_u64() as u8,
                };
                image[page * 4096 + at] = byte;
            }
            seal(&mut image, page);
        }
        let seed = random.next_u64();
        let outcome = catch_unwind(|| use_everything(&image, seed));
        assert!(outcome.is_ok(), "round {round}");
    }
}

/// Reads and changes whatever can be; errors are fine.
fn use_everything(image: &[u8], seed: u64) {
    let mut random = SplitMix64::new(seed);
    let Ok(db) = open(MemoryStorage::from_bytes(image)) else {
        return;
    };
    let _ = read(&db);
    let _ = db.verify(|_, _| {});
    for _ in 0..4 {
        let _ = (|| {
            let txn = db.begin_write()?;
            let mut table = txn.table::<Rows>()?;
            for _ in 0..40 {
                let key = random.below(1_300);
                match random.below(8) {
                    0..=3 => {
                        let length = random.below(1_500) as usize;
                        table.insert(key, vec![2; length].as_slice())?;
                    }
                    4..=6 => {
                        table.remove(key)?;
                    }
                    _ => {
                        table.remove_range(key..key + random.below(200))?;
                    }
                }
            }
            drop(table);
            txn.commit()
        })();
    }
    let _ = change_by_walks(&db, &mut random);
    let _ = db.savepoint_pages();
    let _ = match seed % 2 {
        0 => db.restore_savepoint("second").map(drop),
        _ => db.release_savepoint("second"),
    };
    let _ = db.begin_write().and_then(|txn| {
        txn.delete_table(&TableDefinition::of::<Rows>())?;
        txn.commit()
    });
}

/// What goes from leaf to leaf, and what begins at an end of the tree.
fn change_by_walks(db: &Database, random: &mut SplitMix64) -> folio_store::Result<()> {
    let view = db.begin_read()?;
    let table = view.table::<Rows>()?;
    let _ = table.statistics();
    let mut cursor = table.cursor();
    for _ in 0..100 {
        let key = random.below(1_300);
        let _ = match random.below(3) {
            0 => cursor.seek(key),
            1 => cursor.next().map(drop),
            _ => cursor.prev().map(drop),
        };
    }
    for _ in 0..6 {
        let _ = (|| {
            let txn = db.begin_write()?;
            let mut table = txn.table::<Rows>()?;
            for _ in 0..4 {
                let key = random.below(1_300);
                match random.below(5) {
                    0 => drop((table.pop_first()?, table.pop_last()?)),
                    1 => drop(table.retain(|row, _| row % 7 != key % 7)?),
                    2 => {
                        let rows = table.extract_if(key.., |row, _| row % 2 == 0)?;
                        rows.take(30).try_for_each(|row| row.map(drop))?;
                    }
                    3 => {
                        let mut loader = table.loader()?;
                        for number in 0..100 {
                            loader.push(u64::MAX / 2 + key * 100 + number, [3; 90].as_slice())?;
                        }
                        loader.finish()?;
                    }
                    _ => drop(table.insert_reserve(key, 9_000, |_| Ok(()))?),
                }
            }
            drop(table);
            txn.commit()
        })();
    }
    Ok(())
}

#[test]
fn a_long_value_that_leads_back_to_itself_is_refused() {
    let mut image = sound();
    let page = (8..image.len() / 4096)
        .find(|page| image[page * 4096 + 4] == 3 && image[page * 4096 + 48] == 3)
        .unwrap();
    // The extent goes on with itself, and the leaf promises 4 GiB.
    let own: Vec<u8> = image[page * 4096 + 8..page * 4096 + 24].to_vec();
    image[page * 4096 + 32..page * 4096 + 48].copy_from_slice(&own);
    seal(&mut image, page);
    let reference = [&own[..], &9_000u32.to_le_bytes()[..]].concat();
    for leaf in 8..image.len() / 4096 {
        let start = leaf * 4096;
        let found = image[start..start + 4096]
            .windows(20)
            .position(|window| window == reference);
        if image[start + 4] == 1
            && let Some(at) = found
        {
            image[start + at + 16..start + at + 20].copy_from_slice(&u32::MAX.to_le_bytes());
            seal(&mut image, leaf);
        }
    }
    let db = open(MemoryStorage::from_bytes(&image)).unwrap();
    let error = read(&db).unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}

#[test]
fn a_branch_that_leads_to_one_leaf_twice_is_refused() {
    let mut image = sound();
    let pages = image.len() / 4096;
    let of_kind = |kind: u8| {
        let found = (8..pages).filter(|page| image[page * 4096 + 4] == kind);
        found.collect::<Vec<_>>()
    };
    let (branches, leaves) = (of_kind(2), of_kind(1));
    let leaves: Vec<[u8; 16]> = leaves
        .into_iter()
        .map(|page| image[page * 4096 + 8..page * 4096 + 24].try_into().unwrap())
        .collect();
    for branch in branches {
        let start = branch * 4096;
        let places: Vec<usize> = leaves
            .iter()
            .filter_map(|leaf| {
                let page = &image[start..start + 4096];
                page.windows(16).rposition(|window| window == leaf)
            })
            .collect();
        if let [first, second, ..] = places[..] {
            image.copy_within(start + first..start + first + 16, start + second);
            seal(&mut image, branch);
        }
    }
    let db = open(MemoryStorage::from_bytes(&image)).unwrap();
    let view = db.begin_read().unwrap();
    let table = view.table::<Rows>().unwrap();
    let forwards: folio_store::Result<Contents> = table.iter().unwrap().collect();
    let backwards: folio_store::Result<Contents> = table.iter().unwrap().rev().collect();
    let mut cursor = table.cursor();
    let steps = (0..).find_map(|_| cursor.next().map(|row| assert!(row.is_some())).err());
    for error in [
        forwards.unwrap_err(),
        backwards.unwrap_err(),
        steps.unwrap(),
    ] {
        assert!(error.to_string().contains("out of order"), "{error}");
    }
    for error in [
        table.statistics().unwrap_err(),
        db.savepoint_pages().unwrap_err(),
    ] {
        assert!(error.to_string().contains("twice"), "{error}");
    }
    let txn = db.begin_write().unwrap();
    let error = txn.table::<Rows>().unwrap().retain(|_, _| true);
    assert!(error.unwrap_err().to_string().contains("out of order"));
}
