//! The whole engine under schedules chosen at random: readers, the writer, those who wait for a flush, checkpoints, eviction,
//! compaction, closing, threads that share a transaction. Built with `--cfg folio_shuttle` only, see `src/sync.rs`; a failure
//! prints the schedule that repeats it.

#![cfg(folio_shuttle)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use folio_store::{
    CompactOptions, Database, Durability, Error, Group, GroupSet, ReadTransaction, Table,
    TableDefinition, Ticket,
    storage::{Fault, FaultPlan, FaultStorage, SimulatedDisk, StorageCall},
};
use shuttle::thread;

const SCHEDULES: usize = 400;

/// Rows of 1,000 bytes, so that a few fill a page.
struct Accounts;
impl Table for Accounts {
    const NAME: &'static str = "accounts";
    type Key = u64;
    type Value = &'static [u8];
}

struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(1);
    type Key = u64;
    type Value = u64;
}

const ACCOUNTS: u64 = 12;
const BALANCE: u64 = 100;

fn account(balance: u64) -> Vec<u8> {
    let mut value = vec![balance as u8; 1_000];
    value[..8].copy_from_slice(&balance.to_le_bytes());
    value
}

fn balance(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

/// A database on a disk of its own, in a cache of few pages.
fn bank(disk: &Arc<SimulatedDisk>) -> Database {
    let db = Database::builder()
        .cache_size(40 * 4096)
        .create_on(disk.clone())
        .unwrap();
    let txn = db.begin_write().unwrap();
    for key in 0..ACCOUNTS {
        let mut table = txn.table::<Accounts>().unwrap();
        table.insert(key, account(BALANCE).as_slice()).unwrap();
    }
    txn.commit().unwrap();
    db
}

fn total(view: &ReadTransaction) -> u64 {
    let table = view.table::<Accounts>().unwrap();
    let rows = table.iter().unwrap();
    rows.map(|row| balance(&row.unwrap().1)).sum()
}

/// Moves one from an account to another and notes it in the log, which is of another group.
fn transfer(db: &Database, number: u64, durability: Durability) -> Result<Ticket, Error> {
    let mut txn = db.begin_write()?;
    txn.set_durability(durability);
    {
        let mut accounts = txn.table::<Accounts>()?;
        let (from, to) = (number % ACCOUNTS, (number * 7 + 1) % ACCOUNTS);
        let taken = balance(&accounts.get(from)?.unwrap().to_vec()) - 1;
        accounts.insert(from, account(taken).as_slice())?;
        let given = balance(&accounts.get(to)?.unwrap().to_vec()) + 1;
        accounts.insert(to, account(given).as_slice())?;
        txn.table::<Log>()?.insert(number, number)?;
    }
    txn.commit_with_ticket()
}

/// What the disk would hold after a power cut now, opened.
fn after_a_cut(disk: &SimulatedDisk) -> Database {
    let image = disk.crash(&mut |_| false);
    Database::builder().open_on(Arc::new(image)).unwrap()
}

#[test]
fn views_stay_whole_and_acknowledged_commits_stay_durable_under_any_schedule() {
    shuttle::check_pct(
        || {
            let disk = Arc::new(SimulatedDisk::new());
            let db = bank(&disk);
            let acknowledged = Arc::new(AtomicU64::new(0));
            let reader = {
                let db = db.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let view = db.begin_read().unwrap();
                        let first = total(&view);
                        thread::yield_now();
                        assert_eq!(first, ACCOUNTS * BALANCE);
                        assert_eq!(total(&view), first, "a view changed");
                    }
                })
            };
            let checkpointer = {
                let db = db.clone();
                thread::spawn(move || {
                    db.checkpoint(GroupSet::from(Group::DEFAULT)).unwrap();
                    db.checkpoint(GroupSet::ALL).unwrap();
                })
            };
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let (db, acknowledged) = (db.clone(), acknowledged.clone());
                    thread::spawn(move || {
                        for step in 0..2 {
                            let number = writer * 10 + step;
                            let ticket = transfer(&db, number, Durability::Eventual).unwrap();
                            ticket.wait().unwrap();
                            acknowledged.fetch_or(1 << number, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let auditor = {
                let (disk, acknowledged) = (disk.clone(), acknowledged.clone());
                thread::spawn(move || {
                    let owed = acknowledged.load(Ordering::Relaxed);
                    let db = after_a_cut(&disk);
                    let view = db.begin_read().unwrap();
                    assert_eq!(total(&view), ACCOUNTS * BALANCE);
                    let log = view.table::<Log>();
                    for number in (0..20).filter(|number| owed >> number & 1 == 1) {
                        assert!(log.as_ref().unwrap().contains_key(number).unwrap());
                    }
                })
            };
            for thread in writers.into_iter().chain([reader, checkpointer, auditor]) {
                thread.join().unwrap();
            }
            assert_eq!(
                db.begin_read()
                    .unwrap()
                    .table::<Log>()
                    .unwrap()
                    .len()
                    .unwrap(),
                4
            );
            db.checkpoint(GroupSet::ALL).unwrap();
            assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
            db.close().unwrap();
        },
        SCHEDULES,
        3,
    );
}

#[test]
fn a_compaction_and_a_verification_disturb_nobody_under_any_schedule() {
    shuttle::check_random(
        || {
            let disk = Arc::new(SimulatedDisk::new());
            let db = bank(&disk);
            // Space to give back: rows that are gone again, before the accounts' newest pages.
            let txn = db.begin_write().unwrap();
            let value = vec![7; 100_000];
            txn.table::<Accounts>()
                .unwrap()
                .insert(ACCOUNTS, value.as_slice())
                .unwrap();
            txn.commit().unwrap();
            transfer(&db, 0, Durability::Eventual).unwrap();
            let txn = db.begin_write().unwrap();
            txn.table::<Accounts>().unwrap().remove(ACCOUNTS).unwrap();
            txn.commit().unwrap();

            let reader = {
                let db = db.clone();
                thread::spawn(move || {
                    let view = db.begin_read().unwrap();
                    assert_eq!(total(&view), ACCOUNTS * BALANCE);
                    thread::yield_now();
                    assert_eq!(total(&view), ACCOUNTS * BALANCE);
                })
            };
            let writer = {
                let db = db.clone();
                thread::spawn(move || {
                    for number in 1..3 {
                        let ticket = transfer(&db, number, Durability::Eventual).unwrap();
                        ticket.wait().unwrap();
                    }
                })
            };
            let verifier = {
                let db = db.clone();
                thread::spawn(move || {
                    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
                })
            };
            let options = CompactOptions::new().pages_a_step(4);
            db.compact(options, |_, _| ControlFlow::Continue(()))
                .unwrap();
            for thread in [reader, writer, verifier] {
                thread.join().unwrap();
            }
            let db = after_a_cut(&disk);
            let view = db.begin_read().unwrap();
            assert_eq!(total(&view), ACCOUNTS * BALANCE);
            assert_eq!(view.table::<Log>().unwrap().len().unwrap(), 3);
            assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
        },
        SCHEDULES,
    );
}

#[test]
fn a_database_that_closes_under_its_users_leaves_each_with_an_answer() {
    shuttle::check_random(
        || {
            let disk = Arc::new(SimulatedDisk::new());
            let db = bank(&disk);
            let users: Vec<_> = (0..3)
                .map(|number| {
                    let db = db.clone();
                    thread::spawn(move || {
                        let done = transfer(&db, number, Durability::Eventual)
                            .and_then(|ticket| ticket.wait());
                        match done {
                            Ok(()) => Some(number),
                            Err(Error::Closed { .. }) => None,
                            Err(error) => panic!("{error}"),
                        }
                    })
                })
                .collect();
            db.close().unwrap();
            let done: Vec<_> = users
                .into_iter()
                .filter_map(|user| user.join().unwrap())
                .collect();
            let db = after_a_cut(&disk);
            let view = db.begin_read().unwrap();
            assert_eq!(total(&view), ACCOUNTS * BALANCE);
            for number in done {
                assert!(view.table::<Log>().unwrap().contains_key(number).unwrap());
            }
            assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
        },
        SCHEDULES,
    );
}

#[test]
fn a_sync_that_fails_is_told_to_everybody_who_waits_for_it() {
    shuttle::check_random(
        || {
            let disk = Arc::new(SimulatedDisk::new());
            bank(&disk).close().unwrap();
            let storage = Arc::new(FaultStorage::over_disk(disk.clone()));
            let db = Database::builder().open_on(storage.clone()).unwrap();
            storage.follow(FaultPlan {
                calls: &[StorageCall::Sync],
                at: 2,
                fault: Fault::InputOutput,
                lasting: false,
            });
            let users: Vec<_> = (0..3)
                .map(|number| {
                    let db = db.clone();
                    thread::spawn(move || {
                        let done = transfer(&db, number, Durability::Eventual)
                            .and_then(|ticket| ticket.wait());
                        done.is_ok().then_some(number)
                    })
                })
                .collect();
            let done: Vec<_> = users
                .into_iter()
                .filter_map(|user| user.join().unwrap())
                .collect();
            assert!(done.is_empty(), "the first sync of data failed");
            // Reads go on.
            assert_eq!(total(&db.begin_read().unwrap()), ACCOUNTS * BALANCE);
            assert!(matches!(
                db.begin_write().map(drop),
                Err(Error::Latched { .. })
            ));
            db.kill();
            let db = after_a_cut(&disk);
            let view = db.begin_read().unwrap();
            assert_eq!(total(&view), ACCOUNTS * BALANCE);
        },
        SCHEDULES,
    );
}

#[test]
fn threads_that_share_a_write_transaction_have_each_operation_to_themselves() {
    shuttle::check_pct(
        || {
            let disk = Arc::new(SimulatedDisk::new());
            let db = bank(&disk);
            let txn = Arc::new(db.begin_write().unwrap());
            let writers = [0, 1].map(|writer: u64| {
                let txn = txn.clone();
                thread::spawn(move || {
                    let named = |name: String| TableDefinition::of::<Log>().renamed(name);
                    let own = named(format!("of writer {writer}"));
                    let mut rows = txn.untyped(&own).unwrap();
                    for number in 0..6u64 {
                        let key = number.to_be_bytes();
                        rows.insert(key.as_slice(), account(writer).as_slice())
                            .unwrap();
                    }
                    assert_eq!(rows.iter().unwrap().count(), 6);
                    drop(rows);
                    txn.rename_table(&own, "the name of one").is_ok()
                })
            });
            let renamed = writers.map(|writer| writer.join().unwrap());
            assert_ne!(renamed[0], renamed[1], "a name for one table");
            let ticket = Arc::into_inner(txn).unwrap().commit_with_ticket().unwrap();
            ticket.wait().unwrap();
            let db = after_a_cut(&disk);
            let view = db.begin_read().unwrap();
            assert_eq!(total(&view), ACCOUNTS * BALANCE);
            let tables = view.tables().unwrap();
            assert_eq!(tables.len(), 3);
            for table in tables.iter().filter(|table| table.group == Log::GROUP) {
                let rows = view.untyped(table).unwrap();
                let values: Vec<u64> = rows
                    .iter()
                    .unwrap()
                    .map(|row| balance(&row.unwrap().1))
                    .collect();
                assert_eq!(values, [u64::from(values[0] > 0); 6]);
            }
            assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
        },
        SCHEDULES,
        3,
    );
}
