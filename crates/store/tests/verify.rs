//! Verifying a database that is in use.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::IoSlice,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use folio_store::{
    Database, Durability, Error, Group, GroupSet, Table, VerifyOptions,
    storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, SplitMix64, Storage, StorageCall},
};

const PAGE: usize = 4096;

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(1);
    type Key = u64;
    type Value = &'static [u8];
}

fn fill(db: &Database, rows: u64) {
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    for key in 0..rows {
        let length = if key % 500 == 3 { 20_000 } else { 80 };
        table
            .insert(key, vec![key as u8; length].as_slice())
            .unwrap();
    }
    drop(table);
    txn.commit().unwrap();
}

/// Pages of a tree that hold rows of a table of this number, by their headers.
fn pages_of(bytes: &[u8], kind: u8, level: u8, table: u32) -> Vec<usize> {
    let pages = bytes.chunks(PAGE).enumerate().skip(8);
    let wanted = pages.filter(|(_, page)| {
        page[4] == kind && page[5] == level && page[24..28] == table.to_le_bytes()
    });
    wanted.map(|(number, _)| number).collect()
}

#[test]
fn a_busy_database_verifies_without_a_problem() {
    let seed = 0x5EED_0001;
    let db = Database::builder().cache_size(2 << 20).in_memory().unwrap();
    fill(&db, 5_000);
    let stop = Arc::new(AtomicBool::new(false));
    let commits = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..2u64)
        .map(|writer| {
            let (db, stop, commits) = (db.clone(), stop.clone(), commits.clone());
            thread::spawn(move || {
                let mut random = SplitMix64::new(seed + writer);
                while !stop.load(Ordering::Relaxed) {
                    let mut txn = db.begin_write().unwrap();
                    if random.below(3) > 0 {
                        txn.set_durability(Durability::Eventual);
                    }
                    let number = txn.number();
                    if random.below(2) == 0 {
                        let mut log = txn.table::<Log>().unwrap();
                        log.insert(number, [1; 300].as_slice()).unwrap();
                        log.remove_range(..number.saturating_sub(200)).unwrap();
                    }
                    let mut rows = txn.table::<Rows>().unwrap();
                    for _ in 0..1 + random.below(20) {
                        let key = random.below(8_000);
                        let length = if random.below(40) == 0 {
                            15_000
                        } else {
                            random.below(150)
                        };
                        match random.below(5) {
                            0 => drop(rows.remove(key).unwrap()),
                            1 => drop(rows.remove_range(key..key + 30).unwrap()),
                            _ => drop(
                                rows.insert(key, vec![2; length as usize].as_slice())
                                    .unwrap(),
                            ),
                        }
                    }
                    drop(rows);
                    if random.below(10) > 0 {
                        txn.commit().unwrap();
                    }
                    if random.below(30) == 0 {
                        db.checkpoint(GroupSet::ALL).unwrap();
                    }
                    commits.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..15 {
        let before = commits.load(Ordering::Relaxed);
        let report = db
            .verify(|done, _| {
                // The walk is short, so it lets the writers go on now and then.
                if done % 50 == 0 {
                    thread::yield_now();
                }
            })
            .unwrap();
        assert_eq!(report.problems, [], "seed {seed:#x}, round {round}");
        assert!(report.pages > 10, "{report:?}");
        while commits.load(Ordering::Relaxed) < before + 20 {
            thread::yield_now();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    let report = db.verify(|_, _| {}).unwrap();
    assert_eq!(report.problems, []);
    let view = db.begin_read().unwrap();
    let rows =
        view.table::<Rows>().unwrap().len().unwrap() + view.table::<Log>().unwrap().len().unwrap();
    assert_eq!(report.rows, rows);
}

#[test]
fn damage_that_is_planted_under_a_running_database_is_named_with_page_and_table() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    fill(&db, 3_000);
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    let bytes = storage.to_bytes();
    // Leaf, branch and long value; each table page belongs to table number 1.
    for (kind, level) in [(1, 0), (2, 1), (3, 0)] {
        let page = *pages_of(&bytes, kind, level, 1).last().unwrap();
        let offset = (page * PAGE + 1_000) as u64;
        let right = bytes[offset as usize];
        storage
            .write_at(offset, &[IoSlice::new(&[right ^ 8])])
            .unwrap();
        let report = db.verify(|_, _| {}).unwrap();
        let named = report.problems.iter().any(|problem| {
            problem.page == Some(page as u64) && problem.table.as_deref() == Some("rows")
        });
        assert!(named, "kind {kind}: {:?}", report.problems);
        storage.write_at(offset, &[IoSlice::new(&[right])]).unwrap();
    }
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn what_was_not_durable_is_made_so_first() {
    let db = Database::in_memory().unwrap();
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(Durability::Eventual);
    txn.table::<Rows>()
        .unwrap()
        .insert(1, [1; 10].as_slice())
        .unwrap();
    let number = txn.commit().unwrap();
    let report = db.verify(|_, _| {}).unwrap();
    assert_eq!((report.rows, report.tables), (1, 1));
    assert!(db.durable_transaction(Group::DEFAULT) >= number);
}

#[test]
fn a_walk_may_be_asked_to_end_and_then_says_that_it_did() {
    let db = Database::in_memory().unwrap();
    fill(&db, 2_000);
    let mut told = Vec::new();
    let report = db
        .verify_with(VerifyOptions::new(), |done, total| {
            told.push((done, total));
            if done < 5 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .unwrap();
    assert!(report.interrupted && report.problems.is_empty());
    assert_eq!(told.len(), 5);
    assert!(told.iter().all(|&(done, total)| done <= total));
    let mut last = (0, 1);
    assert!(
        !db.verify(|done, total| last = (done, total))
            .unwrap()
            .interrupted
    );
    assert_eq!(last.0, last.1, "every page in use was read, and no other");
}

#[test]
fn a_sector_that_cannot_be_read_is_named_and_the_walk_goes_on() {
    let disk = Arc::new(MemoryStorage::new());
    let storage = Arc::new(FaultStorage::new(disk));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    fill(&db, 2_000);
    let pages = db.verify(|_, _| {}).unwrap().pages;
    let mut pages_read = 0;
    storage.follow(FaultPlan {
        calls: &[StorageCall::Read],
        at: 10,
        fault: Fault::InputOutput,
        lasting: false,
    });
    let report = db.verify(|done, _| pages_read = done).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    let problem = &report.problems[0];
    assert!(problem.fault.contains("cannot be read"), "{problem}");
    assert!(
        problem.page.is_some() && pages_read + 1 >= pages / 2,
        "{problem}"
    );
}

#[test]
fn a_file_open_for_reading_is_verified_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let db = Database::create(&path).unwrap();
    fill(&db, 1_000);
    db.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    let db = Database::open_read_only(&path).unwrap();
    let report = db.verify(|_, _| {}).unwrap();
    assert_eq!(
        (report.problems.as_slice(), report.rows),
        ([].as_slice(), 1_000)
    );
    drop(db);
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_closed_database_is_not_verified() {
    let db = Database::in_memory().unwrap();
    db.clone().close().unwrap();
    assert!(matches!(db.verify(|_, _| {}), Err(Error::Closed { .. })));
}

/// Gives a page its right checksum.
fn seal(image: &mut [u8], page: usize) {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc32fast::hash(&image[48..64]));
    let bytes = &mut image[page * PAGE..(page + 1) * PAGE];
    hasher.update(&bytes[4..]);
    let checksum = hasher.finalize();
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// What a verification says of an image in which some bytes were replaced, under right checksums.
fn faults(image: &[u8], page: usize, at: usize, bytes: &[u8]) -> Vec<String> {
    let mut image = image.to_vec();
    image[page * PAGE + at..][..bytes.len()].copy_from_slice(bytes);
    seal(&mut image, page);
    let storage = Arc::new(MemoryStorage::from_bytes(&image));
    let db = Database::builder().open_on(storage).unwrap();
    let problems = db.verify(|_, _| {}).unwrap().problems;
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn what_contradicts_itself_is_named_although_every_checksum_is_right() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    fill(&db, 3_000);
    // Enough changes that the free-space map is in pages of its own.
    fill(&db, 3_000);
    db.close().unwrap();
    let image = storage.to_bytes();
    assert_eq!(
        faults(&image, 8, 0, &image[8 * PAGE..8 * PAGE + 4]),
        [""; 0]
    );
    let of_page = |page: usize| &image[page * PAGE..(page + 1) * PAGE];
    let said = |page: usize, at: usize, bytes: &[u8], words: &str| {
        let faults = faults(&image, page, at, bytes);
        faults.iter().any(|fault| fault.contains(words))
    };

    // A long value that says it is longer, or shorter, than its pages have room for.
    let length = 20_000u32.to_le_bytes();
    for other in [15_000u32, 25_000, 1, u32::MAX] {
        let named = pages_of(&image, 1, 0, 1).into_iter().any(|page| {
            let at = of_page(page).windows(4).position(|bytes| bytes == length);
            at.is_some_and(|at| said(page, at, &other.to_le_bytes(), "room for another length"))
        });
        assert!(named, "{other}");
    }
    // A leaf of another table.
    let named = |page: &usize| said(*page, 24, &9u32.to_le_bytes(), "number 9");
    assert!(pages_of(&image, 1, 0, 1).iter().any(named));
    // A page that is used and marked as free, and one that is marked as used and not.
    let mut leaked = 0;
    let mut free = 0;
    for page in pages_of(&image, 1, 0, 0) {
        for at in (PAGE - 512..PAGE).step_by(8) {
            let byte = of_page(page)[at];
            leaked += usize::from(said(page, at, &[byte | 1 << 7], "nothing refers to it"));
            free += usize::from(said(page, at, &[byte & !1], "marked as free"));
        }
    }
    assert!(leaked > 0 && free > 0, "{leaked} {free}");
    // A catalog that counts one row too many.
    let rows = 3_000u64.to_le_bytes();
    let named = pages_of(&image, 1, 0, u32::MAX).into_iter().any(|page| {
        let at = of_page(page).windows(8).position(|bytes| bytes == rows);
        at.is_some_and(|at| said(page, at, &3_001u64.to_le_bytes(), "3001 are recorded above"))
    });
    assert!(named);
}
