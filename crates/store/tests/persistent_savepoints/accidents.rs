//! What becomes of savepoints when the power goes, calls fail, or pages are damaged.

use std::{ops::ControlFlow, sync::Arc};

use folio_store::{
    Database, Durability, Error, Result, VerifyOptions,
    storage::{
        DiskEvent, Fault, FaultPlan, FaultStorage, MemoryStorage, SimulatedDisk, SplitMix64,
        StorageCall, SubsetPlan,
    },
};

use super::sample::*;

/// What a file holds: its rows, and its savepoints with theirs.
type Whole = (Contents, Vec<(String, Contents)>);

fn whole(db: &Database) -> Whole {
    let names = names(db).into_iter();
    let savepoints = names.map(|name| (name.clone(), contents_at(db, &name)));
    (contents(db), savepoints.collect())
}

fn created() -> MemoryStorage {
    let disk = Arc::new(SimulatedDisk::new());
    let db = Database::builder().create_on(disk.clone()).unwrap();
    change(&db, 0, Durability::Immediate);
    db.kill();
    disk.crash(&mut |_| true)
}

/// Steps after each of which everything is durable.
const STEPS: [fn(&Database) -> Result<()>; 9] = [
    |db| db.create_savepoint("a").map(drop),
    |db| {
        change_some(db, 1)?;
        change_some(db, 2)
    },
    |db| db.create_savepoint("b").map(drop),
    |db| change_some(db, 3),
    |db| db.create_savepoint("c").map(drop),
    |db| change_some(db, 4),
    |db| db.restore_savepoint("b").map(drop),
    |db| db.release_savepoint("a"),
    |db| db.release_savepoint("b"),
];

/// Rows in both groups, in one transaction.
fn change_some(db: &Database, round: u64) -> Result<()> {
    let txn = db.begin_write()?;
    {
        let mut rows = txn.table::<Rows>()?;
        for key in (round * 100..round * 100 + 60).step_by(3) {
            rows.insert(key, vec![round as u8; 200].as_slice())?;
        }
        rows.insert(round % 3, vec![round as u8; 9_000].as_slice())?;
        txn.table::<Log>()?.insert(round, [1].as_slice())?;
    }
    txn.commit().map(drop)
}

#[test]
fn a_power_cut_at_any_call_leaves_a_change_of_savepoints_done_or_not() {
    // With the small cache pages are written early.
    for cache in [1 << 20, 32 * 4096] {
        let disk = Arc::new(SimulatedDisk::recording(&created()));
        let db = Database::builder()
            .cache_size(cache)
            .open_on(disk.clone())
            .unwrap();
        let mut owed = vec![whole(&db)];
        for step in STEPS {
            disk.mark(owed.len() as u64 - 1).unwrap();
            step(&db).unwrap();
            owed.push(whole(&db));
        }
        disk.mark(owed.len() as u64 - 1).unwrap();
        db.kill();
        let journal = disk.journal().unwrap();
        let mut replay = journal.replay();
        let mut random = SplitMix64::new(1);
        let plan = SubsetPlan {
            exhaustive_up_to: 3,
            singles: 5,
            random: 5,
            torn_prefixes: 3,
            torn_masks: 2,
        };
        let (mut mark, mut met) = (0, vec![false; owed.len()]);
        while let Some(event) = replay.advance() {
            if let DiskEvent::Mark(next) = event {
                mark = *next as usize;
            }
            let point = replay.crash_point();
            for subset in plan.subsets(point.pending(), &mut random) {
                let image = Arc::new(point.image(&subset));
                let db = Database::builder().open_on(image).unwrap();
                let found = whole(&db);
                // The second step is two commits.
                let middle = mark == 1 && found.1 == owed[1].1;
                let which = (mark..owed.len().min(mark + 2)).find(|&which| owed[which] == found);
                assert!(which.is_some() || middle, "{mark}, {event:?}: {found:?}");
                which.into_iter().for_each(|which| met[which] = true);
                sound(&db);
            }
        }
        assert!(met.iter().all(|&met| met), "{met:?}");
    }
}

#[test]
fn any_call_that_fails_leaves_a_change_of_savepoints_done_or_not() {
    const FAILURES: [(&[StorageCall], Fault); 4] = [
        (&[StorageCall::Write], Fault::ShortWrite),
        (&[StorageCall::Sync], Fault::InputOutput),
        (&[StorageCall::Read], Fault::InputOutput),
        (&[StorageCall::Grow], Fault::NoSpace),
    ];
    let image = created();
    let (mut told, mut healed) = (0, 0);
    for (calls, fault) in FAILURES {
        for at in 1.. {
            let inner = Arc::new(MemoryStorage::clone(&image));
            let storage = Arc::new(FaultStorage::new(inner.clone()));
            // Nothing stays in the cache, so that all is read.
            let db = Database::builder()
                .cache_size(0)
                .open_on(storage.clone())
                .unwrap();
            storage.follow(FaultPlan {
                calls,
                at,
                fault,
                lasting: false,
            });
            let outcome = STEPS.iter().try_for_each(|step| step(&db));
            let failed = storage.failed() > 0;
            storage.heal();
            if let Err(error) = &outcome {
                assert!(failed, "{error}");
                told += 1;
                sound(&db);
                // A read or a growth that fails before the flush is an error of the step and of nothing else.
                match change_some(&db, 9) {
                    Ok(()) => healed += 1,
                    Err(error) => assert!(matches!(error, Error::Latched { .. }), "{error}"),
                }
            }
            let memory = contents(&db);
            db.kill();
            let db = Database::builder().open_on(inner).unwrap();
            sound(&db);
            let (rows, savepoints) = whole(&db);
            if outcome.is_ok() {
                assert_eq!(rows, memory);
                assert!(savepoints.is_empty());
            }
            // Whatever is there can be gone back to and ended.
            for (name, contents_then) in savepoints.iter().rev() {
                db.restore_savepoint(name).unwrap();
                assert_eq!(contents(&db), *contents_then);
                db.release_savepoint(name).unwrap();
                sound(&db);
            }
            if !failed {
                break;
            }
        }
    }
    assert!(told > 60 && healed > 20, "{told} {healed}");
}

#[test]
fn a_verification_that_savepoints_overtake_sees_its_own_moment() {
    let db = database();
    for name in ["a", "b", "c"] {
        db.create_savepoint(name).unwrap();
        (30..33).for_each(|round| change(&db, round, Durability::Immediate));
    }
    let (mut round, mut steps) = (40, 0);
    for _ in 0..4 {
        let report = db.verify_with(VerifyOptions::new(), |done, _| {
            if done % 30 == 0 {
                steps += 1;
                change(&db, round, Durability::Immediate);
                round += 1;
                match steps % 5 {
                    0 => drop(db.create_savepoint(&round.to_string()).unwrap()),
                    1 => {
                        let first = names(&db).remove(0);
                        db.release_savepoint(&first).unwrap();
                    }
                    3 => {
                        let last = names(&db).pop();
                        last.into_iter()
                            .for_each(|last| drop(db.restore_savepoint(&last)));
                        db.create_savepoint(&format!("{round} again")).unwrap();
                    }
                    _ => {}
                }
            }
            ControlFlow::Continue(())
        });
        assert_eq!(report.unwrap().problems, []);
    }
    assert!(steps > 20, "{steps}");
    sound(&db);
    for name in names(&db) {
        db.release_savepoint(&name).unwrap();
        sound(&db);
    }
}

/// The pages that hold this byte many times over.
fn pages_of(image: &[u8], byte: u8) -> Vec<usize> {
    let pages = image.chunks(4096).enumerate();
    let full = |page: &[u8]| page.iter().filter(|&&other| other == byte).count() > 1_500;
    pages
        .filter(|(_, page)| full(page))
        .map(|(number, _)| number)
        .collect()
}

/// A closed file in which all rows are 0xA1 in a savepoint and 0xB2 now.
fn file_of_two_versions() -> Vec<u8> {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let write = |value: u8| {
        let txn = db.begin_write().unwrap();
        let mut rows = txn.table::<Rows>().unwrap();
        for key in 0..400 {
            rows.insert(key, [value; 100].as_slice()).unwrap();
        }
        drop(rows);
        txn.commit().unwrap();
    };
    write(0xA1);
    db.create_savepoint("old").unwrap();
    write(0xB2);
    // So that the last commit does not vouch for their pages.
    for _ in 0..2 {
        change_some(&db, 70).unwrap();
    }
    db.close().unwrap();
    storage.to_bytes()
}

fn open(image: &[u8]) -> Database {
    let storage = Arc::new(MemoryStorage::from_bytes(image));
    Database::builder().open_on(storage).unwrap()
}

#[test]
fn a_damaged_page_of_a_savepoint_costs_the_savepoint_and_nothing_else() {
    let mut image = file_of_two_versions();
    let old = pages_of(&image, 0xA1);
    assert!(old.len() > 5);
    image[old[2] * 4096 + 2_000] ^= 1;
    let db = open(&image);
    let report = db.verify(|_, _| {}).unwrap();
    let problem = &report.problems[0];
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(problem.page, Some(old[2] as u64));
    assert!(problem.fault.contains("savepoint `old`"), "{problem}");
    let rows = contents(&db);
    let read = db
        .begin_read_at("old")
        .unwrap()
        .table::<Rows>()
        .unwrap()
        .iter()
        .unwrap()
        .find_map(Result::err);
    assert!(matches!(read, Some(Error::Corrupted { .. })), "{read:?}");
    // Leaves are not read for it, so it can be released all the same.
    change(&db, 5, Durability::Immediate);
    assert_ne!(contents(&db), rows);
    db.release_savepoint("old").unwrap();
    sound(&db);
}

#[test]
fn a_savepoint_whose_branches_are_damaged_stays_and_the_rest_goes_on() {
    let mut image = file_of_two_versions();
    // The one branch whose children are the old leaves: it refers to the first of them.
    let old = pages_of(&image, 0xA1);
    let branch = image
        .chunks(4096)
        .position(|page| {
            let refers = |&leaf: &usize| {
                let reference = (leaf as u64).to_le_bytes();
                page.windows(8).any(|part| part == reference)
            };
            page[4] == 2 && old.iter().all(refers)
        })
        .unwrap();
    image[branch * 4096 + 2_000] ^= 1;
    let db = open(&image);
    let rows = contents(&db);
    for refused in [
        db.release_savepoint("old").unwrap_err(),
        db.savepoint_pages().map(drop).unwrap_err(),
    ] {
        assert!(
            matches!(refused, Error::Corrupted { page, .. } if page == branch as u64),
            "{refused}"
        );
    }
    assert_eq!(names(&db), ["old"]);
    assert_eq!(contents(&db), rows);
    change(&db, 5, Durability::Immediate);
    db.create_savepoint("new").unwrap();
    change(&db, 6, Durability::Immediate);
    db.restore_savepoint("new").unwrap();
    db.release_savepoint("new").unwrap();
    let report = db.verify(|_, _| {}).unwrap();
    let about_it = |problem: &folio_store::Problem| problem.fault.contains("savepoint `old`");
    assert!(report.problems.iter().all(about_it), "{report:?}");
}

#[test]
fn a_damaged_list_of_savepoints_stops_writing_and_not_reading() {
    let mut image = file_of_two_versions();
    // The page of the space tree that names the savepoint.
    let page = image
        .chunks(4096)
        .rposition(|page| page[24..28] == [0; 4] && page.windows(3).any(|part| part == b"old"))
        .unwrap();
    image[page * 4096 + 3_000] ^= 1;
    let db = open(&image);
    let rows = db.begin_read().unwrap().table::<Rows>().unwrap().len();
    assert!(rows.unwrap() >= 400);
    assert!(matches!(db.begin_write(), Err(Error::Latched { .. })));
    let refused = db.create_savepoint("another").unwrap_err();
    assert!(matches!(refused, Error::Latched { .. }), "{refused}");
    let refused = db.savepoints().unwrap_err();
    assert!(matches!(refused, Error::Corrupted { .. }), "{refused}");
    let report = db.verify(|_, _| {}).unwrap();
    let named = |problem: &folio_store::Problem| problem.page == Some(page as u64);
    assert!(report.problems.iter().any(named), "{report:?}");
}

#[test]
fn dropping_the_only_table_of_a_group_is_durable_though_a_savepoint_keeps_its_pages() {
    let disk = Arc::new(SimulatedDisk::new());
    let db = Database::builder().create_on(disk.clone()).unwrap();
    change(&db, 0, Durability::Immediate);
    db.create_savepoint("before").unwrap();
    let txn = db.begin_write().unwrap();
    let definition = folio_store::TableDefinition::of::<Log>();
    // No page is made, and none is given up.
    assert!(txn.delete_table(&definition).unwrap());
    txn.commit().unwrap();
    db.kill();
    let image = disk.crash(&mut |_| false);
    let db = Database::builder().open_on(Arc::new(image)).unwrap();
    let tables = db.begin_read().unwrap().tables().unwrap();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["rows"]);
}
