//! Every storage call of a scripted load fails once. Whatever fails, the handle stops writing, says why, goes on reading,
//! and nothing that was acknowledged is lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Arc};

use folio_store::{
    Database, Durability, Error, Table,
    storage::{
        Fault, FaultPlan, FaultStorage, MemoryStorage, SimulatedDisk, SplitMix64, Storage,
        StorageCall,
    },
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

type Contents = BTreeMap<u64, Vec<u8>>;

fn contents(db: &Database) -> Contents {
    let view = db.begin_read().unwrap();
    view.table::<Rows>()
        .unwrap()
        .iter()
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn created() -> MemoryStorage {
    let disk = Arc::new(SimulatedDisk::new());
    Database::builder().create_on(disk.clone()).unwrap().kill();
    disk.crash(&mut |_| true)
}

/// What a load had done when it stopped.
struct Outcome {
    /// What was acknowledged as durable.
    durable: Contents,
    /// What the commit that failed would have made durable.
    in_flight: Option<Contents>,
    published: Contents,
    failure: Option<Error>,
    db: Option<Database>,
}

/// Thirty transactions over a cache so small that pages are written early.
fn load(storage: Arc<FaultStorage>) -> Outcome {
    let mut outcome = Outcome {
        durable: Contents::new(),
        in_flight: None,
        published: Contents::new(),
        failure: None,
        db: None,
    };
    let db = match Database::builder().cache_size(16 * 4096).open_on(storage) {
        Ok(db) => db,
        Err(error) => {
            outcome.failure = Some(error);
            return outcome;
        }
    };
    let mut random = SplitMix64::new(11);
    for number in 0..30u64 {
        let durable = number % 3 != 1;
        let mut next = outcome.published.clone();
        let result = (|| {
            let mut txn = db.begin_write()?;
            let mut table = txn.table::<Rows>()?;
            for _ in 0..12 {
                let (key, length) = (random.below(200), random.below(700) as usize);
                table.insert(key, vec![number as u8; length].as_slice())?;
                next.insert(key, vec![number as u8; length]);
            }
            drop(table);
            txn.set_durability(if durable {
                Durability::Immediate
            } else {
                Durability::Eventual
            });
            if durable {
                outcome.in_flight = Some(next.clone());
            }
            txn.commit()
        })();
        match result {
            Ok(_) => {
                outcome.published = next;
                if let Some(durable) = outcome.in_flight.take() {
                    outcome.durable = durable;
                }
            }
            Err(error) => {
                outcome.failure = Some(error);
                break;
            }
        }
    }
    outcome.db = Some(db);
    outcome
}

fn attack(fault: Fault, calls: &'static [StorageCall]) {
    let image = created();
    let never = FaultPlan {
        calls,
        at: u64::MAX,
        fault,
        lasting: false,
    };
    let counting = Arc::new(FaultStorage::new(Arc::new(image.clone())));
    counting.follow(never);
    let sound = load(counting.clone());
    assert!(sound.failure.is_none());
    let total = counting.counted();
    assert!(total > 20, "the load makes {total} such calls");

    for at in 1..=total {
        let context = format!("{fault:?} at call {at} of {total} among {calls:?}");
        let disk = Arc::new(SimulatedDisk::from_image(&image));
        let storage = Arc::new(FaultStorage::over_disk(disk.clone()));
        storage.follow(FaultPlan {
            calls,
            at,
            fault,
            lasting: false,
        });
        let outcome = load(storage);
        let Some(failure) = outcome.failure else {
            panic!("{context}: nobody noticed")
        };
        assert!(
            failure.to_string().starts_with("simulated disk: "),
            "{context}: {failure}"
        );

        if let Some(db) = &outcome.db {
            let reads_fail = calls.contains(&StorageCall::Read);
            if !reads_fail && !is_full(&failure) {
                let error = db.begin_write().map(drop).unwrap_err();
                assert!(matches!(error, Error::Latched { .. }), "{context}: {error}");
            }
            let found = contents(db);
            let in_flight = outcome.in_flight.as_ref();
            assert!(
                found == outcome.published || Some(&found) == in_flight,
                "{context}: the published view"
            );
        }
        outcome.db.into_iter().for_each(Database::kill);

        // The process ends; the disk keeps what it has.
        let db = Database::builder()
            .open_on(disk)
            .unwrap_or_else(|error| panic!("{context}, reopened: {error}"));
        let found = contents(&db);
        let whole = found == outcome.durable || Some(&found) == outcome.in_flight.as_ref();
        assert!(whole, "{context}: an acknowledged commit is missing");
        assert_eq!(db.verify(|_, _| {}).unwrap().problems, [], "{context}");
        let txn = db.begin_write().unwrap();
        txn.table::<Rows>()
            .unwrap()
            .insert(999, b"life goes on".as_slice())
            .unwrap();
        txn.commit().unwrap();
    }
}

/// A disk without room fails the transaction that needs some and nothing else.
fn is_full(failure: &Error) -> bool {
    matches!(failure, Error::Full { .. })
}

#[test]
fn a_failing_write_stops_the_handle_and_loses_nothing() {
    attack(Fault::InputOutput, &[StorageCall::Write]);
}

#[test]
fn a_short_write_stops_the_handle_and_loses_nothing() {
    attack(Fault::ShortWrite, &[StorageCall::Write]);
}

#[test]
fn a_full_disk_stops_the_handle_and_loses_nothing() {
    attack(Fault::NoSpace, &[StorageCall::Write]);
}

#[test]
fn a_failing_sync_is_never_tried_again() {
    attack(Fault::InputOutput, &[StorageCall::Sync]);
}

#[test]
fn a_failing_read_is_an_error_of_its_transaction() {
    attack(Fault::InputOutput, &[StorageCall::Read]);
}

#[test]
fn a_file_that_cannot_grow_fails_the_transaction_and_goes_on_when_there_is_room() {
    let storage = Arc::new(FaultStorage::new(Arc::new(created())));
    let db = Database::builder().open_on(storage.clone()).unwrap();
    let fill = |key: u64| {
        let txn = db.begin_write()?;
        txn.table::<Rows>()?
            .insert(key, vec![1; 600_000].as_slice())?;
        txn.commit()
    };
    fill(1).unwrap();
    storage.follow(FaultPlan {
        calls: &[StorageCall::Grow],
        at: 1,
        fault: Fault::NoSpace,
        lasting: true,
    });
    let error = (2..10)
        .find_map(|key| fill(key).err())
        .expect("the disk is full");
    assert!(is_full(&error), "{error}");
    let kept = contents(&db);
    // Deleting works on a full disk: it needs few pages.
    let txn = db.begin_write().unwrap();
    txn.table::<Rows>().unwrap().remove(1).unwrap();
    txn.commit().unwrap();
    storage.heal();
    fill(100).unwrap();
    assert_eq!(contents(&db).len(), kept.len());
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_page_that_cannot_be_read_while_opening_does_not_bring_back_an_older_commit() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    for key in 0..5 {
        let txn = db.begin_write().unwrap();
        txn.table::<Rows>()
            .unwrap()
            .insert(key, [1; 9].as_slice())
            .unwrap();
        txn.commit().unwrap();
    }
    let right = contents(&db);
    db.kill();
    // After a power cut the acknowledgement may be behind.
    storage
        .write_at(5 * 4096, &[std::io::IoSlice::new(&[0; 512])])
        .unwrap();
    let mut failures = 0;
    for at in 1..100 {
        let faulty = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::clone(&storage))));
        faulty.follow(FaultPlan {
            calls: &[StorageCall::Read],
            at,
            fault: Fault::InputOutput,
            lasting: false,
        });
        match Database::builder().open_on(faulty.clone()) {
            Ok(db) => {
                if faulty.failed() == 0 {
                    break;
                }
                assert_eq!(contents(&db), right, "read {at}");
            }
            Err(error) => {
                assert!(matches!(error, Error::Io { .. }), "read {at}: {error}");
                failures += 1;
            }
        }
    }
    assert!(failures > 5, "{failures}");
}
