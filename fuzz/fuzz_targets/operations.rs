//! Operations on the engine beside a `BTreeMap`, on a disk that may lose power.
//!
//! Run with `cargo +nightly fuzz run operations`.
#![no_main]

use std::{collections::BTreeMap, sync::Arc};

use arbitrary::Arbitrary;
use folio_store::{
    Database, Durability, Table,
    storage::{SimulatedDisk, SplitMix64},
};
use libfuzzer_sys::fuzz_target;

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = &'static [u8];
    type Value = &'static [u8];
}

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Arbitrary, Debug)]
enum Operation {
    Insert {
        key: Vec<u8>,
        seed: u64,
        length: u16,
    },
    Remove {
        key: Vec<u8>,
    },
    RemoveRange {
        start: Vec<u8>,
        end: Vec<u8>,
    },
}

#[derive(Arbitrary, Debug)]
enum Step {
    Transaction {
        operations: Vec<Operation>,
        durable: bool,
        abort: bool,
    },
    Close,
    Kill,
    /// Power is lost, and the sectors written since the last sync land by the bits of a random number.
    PowerCut {
        seed: u64,
    },
}

#[derive(Arbitrary, Debug)]
struct Input {
    page_size: u8,
    cache_pages: u8,
    steps: Vec<Step>,
}

fn value(seed: u64, length: u16) -> Vec<u8> {
    let mut random = SplitMix64::new(seed);
    (0..length).map(|_| random.next_u64() as u8).collect()
}

fn contents(db: &Database) -> Contents {
    let view = db.begin_read().expect("open");
    let table = view.table::<Rows>().expect("sound");
    table
        .iter()
        .expect("sound")
        .collect::<Result<_, _>>()
        .expect("sound")
}

fuzz_target!(|input: Input| {
    let page_size = 4096 << (input.page_size % 5);
    let builder = Database::builder().cache_size(usize::from(input.cache_pages) * page_size);
    let mut disk = Arc::new(SimulatedDisk::new());
    let mut db = builder
        .clone()
        .page_size(page_size)
        .create_on(disk.clone())
        .expect("empty disk");
    let mut newest = Contents::new();
    let mut durable = Contents::new();
    for step in input.steps {
        match step {
            Step::Transaction {
                operations,
                durable: wait,
                abort,
            } => {
                let mut next = newest.clone();
                let mut txn = db.begin_write().expect("open");
                let mut table = txn.table::<Rows>().expect("sound");
                for operation in operations {
                    match operation {
                        Operation::Insert {
                            mut key,
                            seed,
                            length,
                        } => {
                            key.truncate(page_size / 4 - 64);
                            let value = value(seed, length);
                            table
                                .insert(key.as_slice(), value.as_slice())
                                .expect("sound");
                            next.insert(key, value);
                        }
                        Operation::Remove { key } => {
                            let found = table.remove(key.as_slice()).expect("sound").is_some();
                            assert_eq!(found, next.remove(&key).is_some());
                        }
                        Operation::RemoveRange { start, end } => {
                            let before = next.len();
                            next.retain(|key, _| !(start <= *key && *key < end));
                            let removed = table
                                .remove_range(start.as_slice()..end.as_slice())
                                .expect("sound");
                            assert_eq!(removed, (before - next.len()) as u64);
                        }
                    }
                }
                drop(table);
                if abort {
                    txn.abort();
                } else {
                    txn.set_durability(if wait {
                        Durability::Immediate
                    } else {
                        Durability::Eventual
                    });
                    txn.commit().expect("the disk works");
                    newest = next;
                    if wait {
                        durable = newest.clone();
                    }
                }
            }
            Step::Close => {
                db.close().expect("the disk works");
                durable = newest.clone();
                db = builder.open_on(disk.clone()).expect("closed in order");
            }
            Step::Kill => {
                db.kill();
                newest = durable.clone();
                db = builder
                    .open_on(disk.clone())
                    .expect("a killed process loses no sector");
            }
            Step::PowerCut { seed } => {
                db.kill();
                let mut random = SplitMix64::new(seed);
                let image = disk.crash(&mut |_| random.one_in(2));
                disk = Arc::new(SimulatedDisk::from_image(&image));
                newest = durable.clone();
                db = builder
                    .open_on(disk.clone())
                    .expect("an acknowledged state is on the disk");
            }
        }
        assert_eq!(contents(&db), newest);
    }
    db.clone().close().expect("the disk works");
    let db = builder.open_on(disk).expect("closed in order");
    assert_eq!(contents(&db), newest);
    assert_eq!(db.verify(|_, _| {}).expect("the disk works").problems, []);
});
