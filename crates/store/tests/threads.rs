//! What may be used by several threads, and what may move between them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Barrier, thread};

use folio_store::{
    Builder, Cursor, Database, Entry, Error, ExtractIf, Keys, Loader, MultiCursor, MultiKeys,
    MultiRange, MultiTable, MultiTableMut, MultiTableView, MultiValues, Range, ReadTransaction,
    Savepoint, Scrub, Stored, StoredRange, Table, TableDefinition, TableMut, TableView, Ticket,
    Untyped, WriteTransaction,
};

struct Numbers;
impl Table for Numbers {
    const NAME: &'static str = "numbers";
    type Key = u64;
    type Value = u64;
}

struct Names;
impl Table for Names {
    const NAME: &'static str = "names";
    type Key = u64;
    type Value = &'static str;
}

struct Tags;
impl MultiTable for Tags {
    const NAME: &'static str = "tags";
    type Key = u64;
    type Value = u64;
}

const ROWS: u64 = 10_000;

fn filled() -> Database {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut numbers = txn.table::<Numbers>().unwrap();
    for number in 0..ROWS {
        numbers.insert(number, number * 3).unwrap();
    }
    drop(numbers);
    txn.commit().unwrap();
    db
}

#[test]
fn everything_may_be_shared_by_threads_and_move_between_them() {
    fn is_send_sync<T: Send + Sync>() {}
    is_send_sync::<Builder>();
    is_send_sync::<Database>();
    is_send_sync::<ReadTransaction>();
    is_send_sync::<WriteTransaction>();
    is_send_sync::<Ticket>();
    is_send_sync::<Savepoint>();
    is_send_sync::<Scrub>();
    is_send_sync::<Error>();
    is_send_sync::<Stored<&'static str>>();
    is_send_sync::<TableView<'static, Names>>();
    is_send_sync::<TableView<'static, Untyped>>();
    is_send_sync::<MultiTableView<'static, Tags>>();
    is_send_sync::<TableMut<'static, Names>>();
    is_send_sync::<TableMut<'static, Untyped>>();
    is_send_sync::<MultiTableMut<'static, Tags>>();
    is_send_sync::<Range<'static, Names>>();
    is_send_sync::<StoredRange<'static, Names>>();
    is_send_sync::<Keys<'static, Names>>();
    is_send_sync::<MultiRange<'static, Tags>>();
    is_send_sync::<MultiValues<'static, Tags>>();
    is_send_sync::<MultiKeys<'static, Tags>>();
    is_send_sync::<Cursor<'static, Names>>();
    is_send_sync::<MultiCursor<'static, Tags>>();
    is_send_sync::<Entry<'static, 'static, Names>>();
    is_send_sync::<Loader<'static, 'static, Names>>();
    is_send_sync::<ExtractIf<'static, Names, fn(&u64, &String) -> bool>>();
}

#[test]
fn threads_read_one_view_each_through_tables_of_its_own() {
    let db = filled();
    let view = db.begin_read().unwrap();
    let go = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let numbers = view.table::<Numbers>().unwrap();
                go.wait();
                for row in numbers.iter().unwrap() {
                    let (number, triple) = row.unwrap();
                    assert_eq!(triple, number * 3);
                    assert_eq!(numbers.get(number).unwrap(), Some(triple));
                }
                assert_eq!(numbers.iter().unwrap().rev().count() as u64, ROWS);
            });
        }
        go.wait();
        let txn = db.begin_write().unwrap();
        txn.table::<Numbers>().unwrap().clear().unwrap();
        txn.commit().unwrap();
    });
    assert_eq!(view.table::<Numbers>().unwrap().len().unwrap(), ROWS);
}

#[test]
fn threads_share_a_table_of_a_view_and_take_its_walks_with_them() {
    let db = filled();
    let view = db.begin_read().unwrap();
    let numbers = view.table::<Numbers>().unwrap();
    let sums: Vec<u64> = thread::scope(|scope| {
        let walks = [
            numbers.range(..5_000).unwrap(),
            numbers.range(5_000..).unwrap(),
        ];
        let threads = walks.map(|walk| scope.spawn(|| walk.map(|row| row.unwrap().1).sum()));
        let mut cursor = numbers.cursor();
        cursor.seek(ROWS - 1).unwrap();
        let last = scope.spawn(move || cursor.next().unwrap().unwrap());
        assert_eq!(last.join().unwrap(), (ROWS - 1, (ROWS - 1) * 3));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    assert_eq!(sums.iter().sum::<u64>(), (0..ROWS).sum::<u64>() * 3);
}

#[test]
fn a_write_transaction_goes_on_and_commits_in_another_thread() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    txn.table::<Numbers>().unwrap().insert(1, 1).unwrap();
    let ticket = thread::spawn(move || {
        txn.table::<Numbers>().unwrap().insert(2, 2).unwrap();
        txn.commit_with_ticket().unwrap()
    });
    let ticket = ticket.join().unwrap();
    thread::spawn(move || ticket.wait().unwrap())
        .join()
        .unwrap();
    // The place of the writer is free again.
    let next = db.try_begin_write().unwrap().expect("no other writer");
    assert_eq!(next.table::<Numbers>().unwrap().len().unwrap(), 2);
    thread::spawn(move || drop(next)).join().unwrap();
    assert!(db.try_begin_write().unwrap().is_some());
}

#[test]
fn a_view_outlives_the_handle_and_ends_in_another_thread() {
    let db = filled();
    let view = db.begin_read().unwrap();
    let value = {
        let numbers = view.table::<Numbers>().unwrap();
        numbers.get_stored(7).unwrap().unwrap()
    };
    drop(db);
    let view = thread::spawn(move || {
        assert_eq!(view.table::<Numbers>().unwrap().len().unwrap(), ROWS);
        view
    });
    drop(view.join().unwrap());
    // A value that was read is good without view and database.
    assert_eq!(
        thread::spawn(move || value.decode().unwrap())
            .join()
            .unwrap(),
        21
    );
}

#[test]
fn threads_write_tables_of_one_transaction_at_the_same_time() {
    // A cache of 64 pages: pages are written early, and read again, while others write theirs.
    let db = Database::builder()
        .cache_size(64 * 4096)
        .in_memory()
        .unwrap();
    let txn = db.begin_write().unwrap();
    let go = Barrier::new(4);
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let (txn, go) = (&txn, &go);
            scope.spawn(move || {
                let name = format!("table {thread}");
                let table = TableDefinition::of::<Numbers>().renamed(name);
                let mut rows = txn.untyped(&table).unwrap();
                go.wait();
                for step in 0..8_000u64 {
                    // Odd, so that every number comes once.
                    let key = (step.wrapping_mul(2 * thread + 3) % 8_192).to_be_bytes();
                    let value = [thread as u8; 60];
                    rows.insert(key.as_slice(), value.as_slice()).unwrap();
                    if step % 3 == 0 {
                        rows.remove(key.as_slice()).unwrap();
                    }
                    if step % 2_000 == 0 {
                        let mut all = rows.iter().unwrap();
                        assert!(all.all(|row| row.unwrap().1 == value));
                    }
                }
            });
        }
    });
    txn.commit().unwrap();
    let view = db.begin_read().unwrap();
    let tables = view.tables().unwrap();
    assert_eq!(tables.len(), 4);
    for table in &tables {
        let rows = view.untyped(table).unwrap();
        assert_eq!(rows.len().unwrap(), rows.iter().unwrap().count() as u64);
        assert_eq!(rows.len().unwrap(), 8_000 - 8_000u64.div_ceil(3));
    }
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn a_table_that_one_thread_has_open_is_refused_to_another() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let first = txn.table::<Numbers>().unwrap();
    thread::scope(|scope| {
        let refused = scope.spawn(|| txn.table::<Numbers>().unwrap_err());
        assert!(matches!(
            refused.join().unwrap(),
            Error::TableInUse { table } if &*table == "numbers"
        ));
        scope.spawn(move || drop(first)).join().unwrap();
        scope.spawn(|| txn.table::<Numbers>().unwrap().insert(1, 1).unwrap());
    });
    assert_eq!(txn.table::<Numbers>().unwrap().len().unwrap(), 1);
}

#[test]
fn a_panic_of_one_thread_between_its_changes_leaves_the_transaction_to_the_others() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut numbers = txn.table::<Numbers>().unwrap();
    numbers.insert(1, 1).unwrap();
    thread::scope(|scope| {
        let panics = scope.spawn(|| {
            let mut tags = txn.multi_table::<Tags>().unwrap();
            tags.insert(1, 1).unwrap();
            panic!("the caller's own");
        });
        assert!(panics.join().is_err());
    });
    // It panicked outside the engine: its handle is gone, and what was done stands.
    assert!(txn.multi_table::<Tags>().unwrap().contains(1, 1).unwrap());
    assert_eq!(numbers.get(1).unwrap(), Some(1));
}
