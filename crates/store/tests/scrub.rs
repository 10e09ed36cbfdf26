//! The background scrub.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::IoSlice,
    sync::{Arc, mpsc},
    time::Duration,
};

use folio_store::{
    Database, ScrubOptions, Table, VerifyReport,
    storage::{MemoryStorage, Storage},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

const FOR_EVER: Duration = Duration::MAX;

fn fill(db: &Database, start: u64) {
    let txn = db.begin_write().unwrap();
    let mut table = txn.table::<Rows>().unwrap();
    for key in start..start + 1_000 {
        table.insert(key, [1; 100].as_slice()).unwrap();
    }
    drop(table);
    txn.commit().unwrap();
}

fn telling(options: ScrubOptions) -> (ScrubOptions, mpsc::Receiver<VerifyReport>) {
    let (tell, told) = mpsc::channel();
    // Nobody may be listening any more.
    let options = options.on_pass(move |report| drop(tell.send(report.unwrap().clone())));
    (options, told)
}

#[test]
fn passes_follow_each_other_while_the_database_is_written() {
    let db = Database::in_memory().unwrap();
    fill(&db, 0);
    assert_eq!(db.statistics().scrub_passes, 0);
    let (options, told) = telling(ScrubOptions::new().rate(0).interval(Duration::ZERO));
    let scrub = db.start_scrub(options).unwrap();
    for round in 0..20 {
        fill(&db, round * 500);
        assert_eq!(told.recv().unwrap().problems, []);
    }
    scrub.stop();
    let statistics = db.statistics();
    assert!(statistics.scrub_passes >= 20);
    assert_eq!((statistics.scrub_problems, statistics.readers), (0, 0));
    // With the scrub its callback is gone, so no pass can come any more.
    while told.recv().is_ok() {}
}

#[test]
fn damage_is_told_and_counted() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    fill(&db, 0);
    let leaf = storage
        .to_bytes()
        .chunks(4096)
        .rposition(|page| page[4] == 1 && page[24..28] == 1u32.to_le_bytes())
        .unwrap();
    storage
        .write_at(leaf as u64 * 4096 + 2_000, &[IoSlice::new(&[99])])
        .unwrap();
    let (options, told) = telling(ScrubOptions::new().rate(0).interval(FOR_EVER));
    let _scrub = db.start_scrub(options).unwrap();
    let report = told.recv().unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].page, Some(leaf as u64));
    assert_eq!(report.problems[0].table.as_deref(), Some("rows"));
    assert_eq!(db.statistics().scrub_problems, 1);
}

/// Were a scrub not to stop where it is, in a wait of days, these would never end.
#[test]
fn it_stops_at_once_when_dropped_or_when_the_database_closes_and_lets_the_file_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fill(&Database::create(&path).unwrap(), 0);
    for end in 0..5 {
        for resting in [true, false] {
            let db = Database::open(&path).unwrap();
            let rate = if resting { 0 } else { 1 };
            let (options, told) = telling(ScrubOptions::new().rate(rate).interval(FOR_EVER));
            let scrub = db.start_scrub(options).unwrap();
            if resting {
                told.recv().unwrap();
            }
            match end {
                0 => {
                    scrub.stop();
                    drop(db);
                }
                1 => drop((db, scrub)),
                2 => db.close().unwrap(),
                3 => db.kill(),
                // A scrub that nobody holds any more but the database.
                _ => {
                    std::mem::forget(scrub);
                    drop(db);
                }
            }
            // Nobody has the file now.
            Database::open(&path).unwrap().close().unwrap();
        }
    }
}

#[test]
fn its_callback_may_close_the_database() {
    let db = Database::in_memory().unwrap();
    fill(&db, 0);
    let (tell, told) = mpsc::channel();
    let closing = std::sync::Mutex::new(Some(db.clone()));
    let options = ScrubOptions::new().rate(0).on_pass(move |_| {
        let db = closing.lock().unwrap().take();
        tell.send(db.map(Database::close)).unwrap();
    });
    let _scrub = db.start_scrub(options).unwrap();
    assert!(told.recv().unwrap().unwrap().is_ok());
    assert!(db.start_scrub(ScrubOptions::new()).is_err());
}
