//! A file of format 1, written by an earlier build, stays readable. `docs/format-policy.md` says what is promised.
//!
//! `format/v1.folio` was closed in order; `format/v1-killed.folio` was not: its process ended after an acknowledged
//! commit, and a later one, which was not durable, is not in it. `format/v1-savepoints.folio` has savepoints. The zeros at
//! their ends were cut off. None is ever written again: a change of the format adds files of the new one beside them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use folio_store::{
    Database, Durability, Error, Group, MultiTable, Table, TableDefinition,
    storage::{MemoryStorage, Storage},
};

/// Different types of keys and values, and two groups.
struct Names;
impl Table for Names {
    const NAME: &'static str = "names";
    type Key = &'static str;
    type Value = u64;
}

struct Pairs;
impl Table for Pairs {
    const NAME: &'static str = "pairs";
    const GROUP: Group = Group::new(3);
    type Key = (i32, Option<&'static str>);
    type Value = &'static [u8];
}

struct Long;
impl Table for Long {
    const NAME: &'static str = "long";
    const GROUP: Group = Group::new(15);
    type Key = u128;
    type Value = &'static [u8];
}

struct Tags;
impl MultiTable for Tags {
    const NAME: &'static str = "tags";
    type Key = &'static str;
    type Value = u32;
}

struct Empty;
impl Table for Empty {
    const NAME: &'static str = "empty";
    type Key = bool;
    type Value = ();
}

/// Some bytes that are easily made again.
fn bytes(number: u64, length: usize) -> Vec<u8> {
    let mix = |at: u64| (number * 31 + at * 7 + (at >> 8)) as u8;
    (0..length as u64).map(mix).collect()
}

fn name(number: u64) -> String {
    format!("name {}", number * 7919 % 1000)
}

fn fill(db: &Database) {
    let txn = db.begin_write().unwrap();
    {
        let mut names = txn.table::<Names>().unwrap();
        for number in 0..120 {
            names.insert(name(number).as_str(), number).unwrap();
        }
        let mut pairs = txn.table::<Pairs>().unwrap();
        for number in 0..60 {
            let word = (number % 3 > 0).then(|| name(number));
            let key = (number as i32 - 50, word.as_deref());
            let value = bytes(number, number as usize);
            pairs.insert(key, value.as_slice()).unwrap();
        }
        let mut long = txn.table::<Long>().unwrap();
        for number in [1, 2, 3u64] {
            let value = bytes(number, 2_000 * number as usize);
            let key = u128::from(number) << 64;
            long.insert(key, value.as_slice()).unwrap();
        }
        let mut tags = txn.multi_table::<Tags>().unwrap();
        for tag in 0..20 {
            tags.insert(["a", "b"][tag as usize % 2], tag).unwrap();
        }
        txn.table::<Empty>().unwrap();
    }
    txn.commit().unwrap();
    // Changed since, so that pages are free.
    let txn = db.begin_write().unwrap();
    let mut names = txn.table::<Names>().unwrap();
    for number in (0..120).step_by(4) {
        names.remove(name(number).as_str()).unwrap();
    }
    drop(names);
    txn.commit().unwrap();
}

fn check(db: &Database) {
    let report = db.verify(|_, _| ()).unwrap();
    assert_eq!(report.problems, []);
    let view = db.begin_read().unwrap();
    let mut tables: Vec<_> = view.tables().unwrap();
    tables.sort_by(|left, right| left.name.cmp(&right.name));
    let of = |name: &str, group, key: &str, value: &str| TableDefinition {
        name: name.into(),
        group: Group::new(group),
        key_type: key.into(),
        value_type: value.into(),
    };
    let tags = tables.remove(4);
    assert_eq!((tags.name.as_str(), tags.group), ("tags", Group::DEFAULT));
    let expected = [
        of("empty", Group::DEFAULT.index(), "bool", "()"),
        of("long", 15, "u128", "bytes"),
        of("names", Group::DEFAULT.index(), "str", "u64"),
        of("pairs", 3, "(i32,option<str>)", "bytes"),
    ];
    assert_eq!(tables, expected);

    let names = view.table::<Names>().unwrap();
    let found: BTreeMap<String, u64> = names.iter().unwrap().map(Result::unwrap).collect();
    let expected: BTreeMap<String, u64> = (0..120)
        .filter(|number| number % 4 > 0)
        .map(|number| (name(number), number))
        .collect();
    assert_eq!(found, expected);
    let pairs = view.table::<Pairs>().unwrap();
    assert_eq!(pairs.len().unwrap(), 60);
    for number in 0..60u64 {
        let word = (number % 3 > 0).then(|| name(number));
        let key = (number as i32 - 50, word.as_deref());
        let value = pairs.get(key).unwrap();
        assert_eq!(value, Some(bytes(number, number as usize)), "{number}");
    }
    let keys = pairs.iter().unwrap().keys().map(|key| key.unwrap().0);
    assert!(keys.eq(-50..10), "in the order of the numbers");
    let long = view.table::<Long>().unwrap();
    assert_eq!(long.len().unwrap(), 3);
    for number in [1, 2, 3u64] {
        let value = long.get(u128::from(number) << 64).unwrap();
        assert_eq!(value, Some(bytes(number, 2_000 * number as usize)));
    }
    let tags = view.multi_table::<Tags>().unwrap();
    let of_b: Vec<u32> = tags.get("b").unwrap().map(Result::unwrap).collect();
    assert_eq!(of_b, (1..20).step_by(2).collect::<Vec<_>>());
    assert!(view.table::<Empty>().unwrap().is_empty().unwrap());
}

/// Two savepoints, the first of which shows what [`check`] expects, and changes after each.
fn add_savepoints(db: &Database) {
    for name in ["first", "second"] {
        db.create_savepoint(name).unwrap();
        let txn = db.begin_write().unwrap();
        txn.delete_table(&TableDefinition::of::<Long>()).unwrap();
        let mut names = txn.table::<Names>().unwrap();
        for number in 0..60 {
            names
                .insert(format!("{name} {number}").as_str(), number)
                .unwrap();
        }
        drop(names);
        txn.commit().unwrap();
    }
}

fn check_savepoints(db: &Database) {
    let names: Vec<_> = db.savepoints().unwrap();
    let names: Vec<_> = names.iter().map(|savepoint| &*savepoint.name).collect();
    assert_eq!(names, ["first", "second"]);
    let counts = |view: folio_store::ReadTransaction| {
        let names = view.table::<Names>().unwrap().len().unwrap();
        (names, view.table::<Long>().unwrap().len().unwrap())
    };
    assert_eq!(counts(db.begin_read().unwrap()), (210, 0));
    assert_eq!(counts(db.begin_read_at("second").unwrap()), (150, 0));
    assert_eq!(counts(db.begin_read_at("first").unwrap()), (90, 3));
    assert_eq!(db.verify(|_, _| ()).unwrap().problems, []);
    db.restore_savepoint("first").unwrap();
    check(db);
    db.release_savepoint("first").unwrap();
    check(db);
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/format")
        .join(name)
}

/// The length of a new file.
const LENGTH: usize = 64 * 4096;

fn kept(name: &str) -> Vec<u8> {
    let mut bytes = fs::read(path(name)).unwrap();
    bytes.resize(LENGTH.max(bytes.len()), 0);
    bytes
}

fn open(bytes: &[u8]) -> folio_store::Result<Database> {
    let storage = MemoryStorage::new();
    storage
        .write_at(0, &[std::io::IoSlice::new(bytes)])
        .unwrap();
    Database::builder().open_on(std::sync::Arc::new(storage))
}

#[test]
fn a_file_of_format_1_opens_verifies_and_has_its_rows() {
    check(&open(&kept("v1.folio")).unwrap());
}

#[test]
fn a_file_of_format_1_whose_process_was_killed_recovers() {
    check(&open(&kept("v1-killed.folio")).unwrap());
}

#[test]
fn a_file_of_format_1_with_savepoints_opens_and_they_can_be_gone_back_to() {
    check_savepoints(&open(&kept("v1-savepoints.folio")).unwrap());
}

#[test]
fn a_file_of_format_1_can_be_written_to() {
    for name in ["v1.folio", "v1-killed.folio"] {
        let db = open(&kept(name)).unwrap();
        let txn = db.begin_write().unwrap();
        txn.table::<Names>().unwrap().insert("new", 1).unwrap();
        txn.commit().unwrap();
        assert_eq!(db.verify(|_, _| ()).unwrap().problems, []);
        let txn = db.begin_write().unwrap();
        txn.table::<Names>().unwrap().remove("new").unwrap();
        txn.commit().unwrap();
        check(&db);
    }
}

/// Bytes of a header that are another file's business: its checksum is made right again.
fn with_header(change: impl Fn(&mut [u8])) -> folio_store::Result<Database> {
    let mut bytes = kept("v1.folio");
    change(&mut bytes);
    let checksum = crc32fast::hash(&bytes[20..128]);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    open(&bytes)
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let refused = with_header(|bytes| bytes[20] = 2).unwrap_err();
    assert!(
        matches!(&refused, Error::NewerFormat { found, supported: 1, .. } if found == "version 2"),
        "{refused}"
    );
    assert!(refused.to_string().contains("open it with a newer Folio"));
    let refused = with_header(|bytes| bytes[32] = 3).unwrap_err();
    assert!(
        matches!(&refused, Error::NewerFormat { found, .. } if found.contains("features 0x2")),
        "{refused}"
    );
    // Features that need not be known.
    check(&with_header(|bytes| bytes[40] = 1).unwrap());
}

/// What made the kept files makes files that pass the same check today. With `FOLIO_WRITE_FORMAT` they are kept, in the
/// folder that it names.
#[test]
fn a_file_of_today_passes_the_same_check() {
    let temporary = tempfile::tempdir().unwrap();
    let [closed, killed, savepoints] =
        ["closed", "killed", "savepoints"].map(|name| temporary.path().join(name));
    let db = Database::create(&closed).unwrap();
    fill(&db);
    check(&db);
    db.close().unwrap();
    let db = Database::create(&killed).unwrap();
    fill(&db);
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(Durability::Eventual);
    txn.table::<Names>().unwrap().insert("lost", 1).unwrap();
    txn.commit().unwrap();
    db.kill();
    let db = Database::create(&savepoints).unwrap();
    fill(&db);
    add_savepoints(&db);
    db.close().unwrap();
    if let Some(folder) = std::env::var_os("FOLIO_WRITE_FORMAT") {
        for (file, name) in [
            (&closed, "v1.folio"),
            (&killed, "v1-killed.folio"),
            (&savepoints, "v1-savepoints.folio"),
        ] {
            let bytes = fs::read(file).unwrap();
            let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
            fs::write(PathBuf::from(&folder).join(name), &bytes[..=end]).unwrap();
        }
    }
    check(&Database::open(&closed).unwrap());
    check(&Database::open(&killed).unwrap());
    check_savepoints(&Database::open(&savepoints).unwrap());
}
