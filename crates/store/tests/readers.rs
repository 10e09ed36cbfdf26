//! Who keeps pages, and how many.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{ops::ControlFlow, time::Duration};

use folio_store::{BackupOptions, Database, GroupSet, Table, VerifyOptions};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

fn write(db: &Database, byte: u8) {
    let txn = db.begin_write().unwrap();
    let mut rows = txn.table::<Rows>().unwrap();
    for key in 0..1_000 {
        rows.insert(key, [byte; 100].as_slice()).unwrap();
    }
    drop(rows);
    txn.commit().unwrap();
}

#[test]
fn views_are_listed_with_what_they_keep() {
    let db = Database::in_memory().unwrap();
    write(&db, 1);
    assert_eq!(db.readers(), []);
    let old = db.begin_read().unwrap();
    let same = db.begin_read().unwrap();
    write(&db, 2);
    let new = db.begin_read().unwrap();
    write(&db, 3);
    let pages = old.table::<Rows>().unwrap().statistics().unwrap().pages();
    let readers = db.readers();
    let seen: Vec<_> = readers.iter().map(|r| (r.transaction, r.count)).collect();
    assert_eq!(seen, [(Some(old.number()), 2), (Some(new.number()), 1)]);
    assert!(readers[0].age >= readers[1].age);
    for reader in &readers {
        // The tables and the way to them.
        assert!(
            (pages..pages + 8).contains(&reader.pages),
            "{reader:?}, {pages} pages"
        );
    }
    let kept = db.statistics().kept_pages;
    assert_eq!(kept, readers[0].pages + readers[1].pages);
    assert_eq!(db.statistics().readers, 3);

    drop(same);
    assert_eq!(db.readers()[0].count, 1);
    drop(old);
    write(&db, 4);
    let readers = db.readers();
    assert_eq!(readers.len(), 1);
    assert_eq!(readers[0].transaction, Some(new.number()));
    drop(new);
    assert_eq!(db.readers(), []);
    write(&db, 5);
    assert_eq!(db.statistics().kept_pages, 0);
}

#[test]
fn the_age_begins_anew_when_all_views_of_a_state_are_gone() {
    let db = Database::in_memory().unwrap();
    let first = db.begin_read().unwrap();
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(20) {
        std::thread::yield_now();
    }
    let aged = db.readers()[0].age;
    assert!(aged >= Duration::from_millis(20), "{aged:?}");
    drop(first);
    let before = std::time::Instant::now();
    let _second = db.begin_read().unwrap();
    let age = db.readers()[0].age;
    assert!(age <= before.elapsed(), "{age:?}");
}

#[test]
fn verifications_and_backups_are_readers_too() {
    let db = Database::in_memory().unwrap();
    write(&db, 1);
    let mut most = (0, 0);
    let mut look = |_, _| {
        write(&db, 2);
        db.checkpoint(GroupSet::ALL).unwrap();
        let readers = db.readers();
        assert_eq!(readers.len(), 1);
        assert_eq!((readers[0].transaction, readers[0].count), (None, 1));
        most = (most.0 + 1, most.1.max(readers[0].pages));
        match most.0 {
            3 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    db.verify_with(VerifyOptions::new(), &mut look).unwrap();
    assert!(most.1 > 25, "{most:?}");
    let mut seen = 0;
    let count = |_, _| {
        seen += db.readers().len();
        ControlFlow::Continue(())
    };
    db.backup(BackupOptions::new(), std::io::sink(), count)
        .unwrap();
    assert!(seen > 0);
    assert_eq!(db.readers(), []);
}
