//! Tables opened by their definition, as bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;

use folio_store::{Database, Entry, Error, Table, TableDefinition};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = &'static [u8];
    type Value = &'static [u8];
}

struct Counts;
impl Table for Counts {
    const NAME: &'static str = "counts";
    type Key = u32;
    type Value = u64;
}

#[test]
fn untyped_tables_do_what_typed_ones_do() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.untyped(&TableDefinition::of::<Rows>()).unwrap();
    let mut loader = table.loader().unwrap();
    for key in 0..1_000u32 {
        loader
            .push(key.to_be_bytes().as_slice(), b"value".as_slice())
            .unwrap();
    }
    assert_eq!(loader.finish().unwrap(), 1_000);
    assert_eq!(table.prefix(&[0, 0, 1][..]).unwrap().count(), 256);
    assert_eq!(table.first().unwrap().unwrap().0, [0; 4]);
    assert_eq!(table.last().unwrap().unwrap().0, 999u32.to_be_bytes());
    assert_eq!(table.pop_first().unwrap().unwrap().1, b"value");
    assert_eq!(table.pop_last().unwrap().unwrap().0, 999u32.to_be_bytes());
    assert_eq!(table.retain(|key, _| key[3] % 2 == 0).unwrap(), 499);
    let mut source = &b"abc"[..];
    let fill = |part: &mut [u8]| source.read_exact(part);
    assert!(
        table
            .insert_reserve(b"key".as_slice(), 3, fill)
            .unwrap()
            .is_none()
    );
    assert_eq!(table.get(b"key".as_slice()).unwrap().unwrap(), b"abc");
    let mut cursor = table.cursor();
    cursor.seek_after([0, 0, 0, 2].as_slice()).unwrap();
    assert_eq!(cursor.next().unwrap().unwrap().0, [0, 0, 0, 4]);
    cursor.seek_end();
    assert_eq!(cursor.prev().unwrap().unwrap().0, b"key");
    assert_eq!(table.remove_range(b"k".as_slice()..).unwrap(), 1);
    assert_eq!(table.statistics().unwrap().rows, 499);
    assert_eq!(table.clear().unwrap(), 499);
}

#[test]
fn an_untyped_row_is_looked_at_and_changed_in_place() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    txn.table::<Counts>().unwrap().insert(1, 10).unwrap();
    let mut table = txn.untyped(&TableDefinition::of::<Counts>()).unwrap();
    let (one, two) = (1u32.to_be_bytes(), 2u32.to_be_bytes());
    match table.entry(&one[..]).unwrap() {
        Entry::Occupied(entry) => {
            assert_eq!(entry.get().unwrap(), 10u64.to_be_bytes());
            entry.insert(&11u64.to_be_bytes()[..]).unwrap();
        }
        Entry::Vacant(_) => panic!("there is a row"),
    }
    let made = table.entry(&two[..]).unwrap();
    let twenty = 20u64.to_be_bytes();
    let made = made.or_insert_with(|| twenty.as_slice()).unwrap();
    let there = table.entry(&two[..]).unwrap();
    let there = there.or_insert_with(|| -> &[u8] { panic!("there is a row") });
    assert_eq!(there.unwrap().bytes(), 20u64.to_be_bytes());
    assert_eq!(made.view().unwrap(), 20u64.to_be_bytes());

    let (ten, eleven) = (10u64.to_be_bytes(), 11u64.to_be_bytes());
    let (ten, eleven) = (&ten[..], &eleven[..]);
    let refused = table.compare_and_swap(&one[..], Some(&ten), None).unwrap();
    assert_eq!(refused.unwrap_err().unwrap().bytes(), eleven);
    let swapped = table.compare_and_swap(&one[..], Some(&eleven), Some(&ten));
    swapped.unwrap().unwrap();
    let gone = table.compare_and_swap(&two[..], Some(&&20u64.to_be_bytes()[..]), None);
    gone.unwrap().unwrap();
    drop(table);
    let table = txn.table::<Counts>().unwrap();
    let rows: Vec<_> = table.iter().unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, [(1, 10)]);
}

#[test]
fn the_untyped_rows_nearest_to_a_key_are_found() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.untyped(&TableDefinition::of::<Rows>()).unwrap();
    for key in ["b", "d", "f"] {
        assert!(table.insert(key.as_bytes(), &b"old"[..]).unwrap().is_none());
    }
    let key = |row: Option<(Vec<u8>, Vec<u8>)>| row.map(|(key, _)| String::from_utf8(key).unwrap());
    let nearest = |at: &str| {
        let at = at.as_bytes();
        [
            key(table.below(at).unwrap()),
            key(table.at_or_below(at).unwrap()),
            key(table.at_or_above(at).unwrap()),
            key(table.above(at).unwrap()),
        ]
    };
    let some = |key: &str| Some(key.to_owned());
    assert_eq!(nearest("d"), [some("b"), some("d"), some("d"), some("f")]);
    assert_eq!(nearest("e"), [some("d"), some("d"), some("f"), some("f")]);
    assert_eq!(nearest(""), [None, None, some("b"), some("b")]);
    assert_eq!(nearest("z"), [some("f"), some("f"), None, None]);
}

#[test]
fn the_old_value_of_an_untyped_row_comes_back() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.untyped(&TableDefinition::of::<Rows>()).unwrap();
    let key = &b"key"[..];
    assert!(table.insert(key, &b"one"[..]).unwrap().is_none());
    assert_eq!(
        table.insert(key, &b"two"[..]).unwrap().unwrap().bytes(),
        b"one"
    );
    assert_eq!(table.remove(key).unwrap().unwrap().bytes(), b"two");
    assert!(table.remove(key).unwrap().is_none());
}

#[test]
fn untyped_rows_that_are_extracted_are_gone_and_the_others_stay() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut table = txn.untyped(&TableDefinition::of::<Rows>()).unwrap();
    for key in 0..200u8 {
        table.insert(&[key][..], &[key % 7][..]).unwrap();
    }
    let extracted = table
        .extract_if(&[100][..].., |_, value| value == &[3])
        .unwrap();
    let extracted: Vec<u8> = extracted.map(|row| row.unwrap().0[0]).collect();
    let expected: Vec<u8> = (100..200).filter(|key| key % 7 == 3).collect();
    assert_eq!(extracted, expected);
    assert_eq!(table.len().unwrap(), 200 - expected.len() as u64);
    assert!(table.contains_key(&[3][..]).unwrap(), "below the range");
}

#[test]
fn a_table_that_was_taken_back_is_not_mistaken_for_one_made_afterwards() {
    let db = Database::in_memory().unwrap();
    let mut txn = db.begin_write().unwrap();
    let definition = TableDefinition::of::<Rows>();
    let (first, second) = (definition.renamed("first"), definition.renamed("second"));
    let before = txn.savepoint().unwrap();
    let mut table = txn.untyped(&first).unwrap();
    table.insert(&b"a"[..], &b"first"[..]).unwrap();
    drop(table);
    txn.rollback_to(&before).unwrap();
    let mut table = txn.untyped(&second).unwrap();
    table.insert(&b"a"[..], &b"second"[..]).unwrap();
    drop(table);
    assert_eq!(txn.tables().unwrap(), std::slice::from_ref(&second));
    assert!(!txn.delete_table(&first).unwrap());
    assert!(txn.untyped(&first).unwrap().is_empty().unwrap());
    let found = txn.untyped(&second).unwrap().get(&b"a"[..]).unwrap();
    assert_eq!(found.unwrap(), b"second");
    assert_eq!(txn.tables().unwrap(), [first, second]);
}

#[test]
fn an_untyped_handle_holds_its_table_as_a_typed_one_does() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let table = txn.untyped(&TableDefinition::of::<Counts>()).unwrap();
    let again = txn.table::<Counts>();
    assert!(matches!(again, Err(Error::TableInUse { table }) if &*table == "counts"));
    drop(table);
    assert!(txn.table::<Counts>().unwrap().is_empty().unwrap());
}
