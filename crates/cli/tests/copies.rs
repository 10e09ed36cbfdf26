//! `folio dump`, `load`, `backup` and `apply`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use common::{folio, text};
use folio_store::{Database, Group, ReaderPlace, TableDefinition};

/// These tests open files themselves and run the tool. A process that is being started holds, until it is another
/// program, the locks of all files that are open here, those of other tests too; so they run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn table(name: &str, group: u8) -> TableDefinition {
    TableDefinition {
        name: name.into(),
        group: Group::from_index(group).unwrap(),
        key_type: "bytes".into(),
        value_type: "str".into(),
    }
}

fn fill(path: &Path, rows: std::ops::Range<u32>, length: usize) {
    let db = Database::builder().open_or_create(path).unwrap();
    let txn = db.begin_write().unwrap();
    for definition in [table("one", 0), table("two \"quoted\"", 7)] {
        let mut table = txn.untyped(&definition).unwrap();
        for row in rows.clone() {
            let value = vec![row as u8; row as usize % 50];
            table
                .insert(row.to_be_bytes().as_slice(), value.as_slice())
                .unwrap();
        }
        table
            .insert([].as_slice(), vec![9; length].as_slice())
            .unwrap();
    }
    txn.untyped(&table("empty", 3)).unwrap();
    txn.commit().unwrap();
    db.close().unwrap();
}

type Row = (Vec<u8>, Vec<u8>);

fn contents(path: &Path) -> Vec<(TableDefinition, Vec<Row>)> {
    let db = Database::open_read_only(path).unwrap();
    assert_eq!(db.verify(|_, _| ()).unwrap().problems, []);
    let view = db.begin_read().unwrap();
    let tables = view.tables().unwrap().into_iter();
    let rows = |table: TableDefinition| {
        let rows = view.untyped(&table).unwrap();
        let rows = rows.iter().unwrap().map(Result::unwrap).collect();
        (table, rows)
    };
    tables.map(rows).collect()
}

#[test]
fn a_reader_in_another_process_keeps_its_pages_until_it_is_killed() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    // More than a pipe takes, so that the dump waits for somebody to read it.
    fill(&path, 0..5_000, 1_000_000);
    let db = Database::open(&path).unwrap();
    let mut byte = 0;
    let mut rewrite = || {
        byte += 1;
        let txn = db.begin_write().unwrap();
        let mut rows = txn.untyped(&table("one", 0)).unwrap();
        for row in 0u32..5_000 {
            rows.insert(&row.to_be_bytes()[..], &[byte; 100][..])
                .unwrap();
        }
        drop(rows);
        txn.commit().unwrap();
    };
    let mut dump = Command::new(env!("CARGO_BIN_EXE_folio"))
        .args(["dump", text(&path)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while db.readers().is_empty() {
        rewrite();
    }
    (0..3).for_each(|_| rewrite());
    let readers = db.readers();
    assert_eq!(readers.len(), 1, "{readers:?}");
    assert!(
        matches!(readers[0].place, ReaderPlace::Elsewhere { commit: Some(_) }),
        "{readers:?}"
    );
    assert!(db.statistics().kept_pages > 20);
    dump.kill().unwrap();
    dump.wait().unwrap();
    rewrite();
    assert_eq!(db.readers(), []);
    assert_eq!(db.statistics().kept_pages, 0);
    assert_eq!(db.verify(|_, _| ()).unwrap().problems, []);
}

#[test]
fn a_dump_loads_into_the_same_rows() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fill(&at("old"), 0..5_000, 100_000);
    for form in ["jsonl", "binary"] {
        let (dump, new) = (at(&format!("dump-{form}")), at(&format!("new-{form}")));
        let arguments = ["dump", text(&at("old")), "--format", form, "--out"].map(str::to_owned);
        let run = folio(arguments.iter().map(String::as_str).chain([text(&dump)]));
        assert_eq!(run.code, Some(0), "{run:?}");
        let run = folio(["load", text(&new), "--from", text(&dump)]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.stdout.contains("10,002 rows in 3 tables"), "{run:?}");
        assert!(contents(&new) == contents(&at("old")));
        // Not over rows that are there.
        let before = fs::read(&new).unwrap();
        let run = folio(["load", text(&new), "--from", text(&dump)]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("has rows already"), "{run:?}");
        assert!(fs::read(&new).unwrap().len() == before.len());
        assert!(contents(&new) == contents(&at("old")));
    }
    let run = folio(["dump", text(&at("old")), "--table", "two \"quoted\""]);
    assert_eq!(run.stdout.lines().count(), 5_003);
    let run = folio(["dump", text(&at("old")), "--table", "three"]);
    assert_eq!(run.code, Some(1), "{run:?}");
}

#[test]
fn a_damaged_dump_loads_nothing() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fill(&at("old"), 0..12, 70);
    let (bad, new) = (at("bad"), at("new"));
    for form in ["jsonl", "binary"] {
        let whole = at(form);
        let run = folio([
            "dump",
            text(&at("old")),
            "--format",
            form,
            "--out",
            text(&whole),
        ]);
        assert_eq!(run.code, Some(0), "{run:?}");
        let bytes = fs::read(&whole).unwrap();
        let refused = |bytes: &[u8], what: &str| {
            fs::write(&bad, bytes).unwrap();
            let run = folio(["load", text(&new), "--from", text(&bad)]);
            // A version that is damaged may look like a newer one.
            assert!(matches!(run.code, Some(1 | 3)), "{form}, {what}: {run:?}");
            assert!(!new.exists(), "{form}, {what}");
        };
        for place in (0..bytes.len()).step_by(bytes.len() / 60) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << (place % 7);
            refused(&damaged, &format!("byte {place}"));
        }
        for length in (0..bytes.len()).step_by(bytes.len() / 30) {
            refused(&bytes[..length], &format!("{length} bytes"));
        }
        refused(&bytes[..bytes.len() - 1], "a byte less");
        refused(&[&bytes[..], b"\n"].concat(), "a byte more");
    }
    // Lengths and names that nobody means.
    let head = |tables: &str| format!("{{\"folio_dump\":1,\"tables\":[{tables}]}}\n");
    for (text, why) in [
        (head("").replace(":1,", ":9,"), "a newer version"),
        (
            head(r#"{"name":"","group":0,"key_type":"","value_type":"","rows":0}"#),
            "no name",
        ),
        (
            head(r#"{"name":"a","group":99,"key_type":"","value_type":"","rows":0}"#),
            "no such group",
        ),
    ] {
        fs::write(&bad, text).unwrap();
        let run = folio(["load", common::text(&new), "--from", common::text(&bad)]);
        assert!(matches!(run.code, Some(1 | 3)), "{why}: {run:?}");
        assert!(!new.exists(), "{why}");
    }
    fs::write(
        &bad,
        [b"FolioDmp\x01\0\0\0".as_slice(), &[0xFF; 40]].concat(),
    )
    .unwrap();
    let run = folio(["load", text(&new), "--from", text(&bad)]);
    assert_eq!(run.code, Some(3), "{run:?}");
}

#[test]
fn a_copy_and_its_changes_are_the_file() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (file, copy, changes) = (at("file"), at("copy"), at("changes"));
    fill(&file, 0..3_000, 10);
    let run = folio(["backup", text(&file), text(&copy)]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(contents(&copy) == contents(&file));
    fill(&file, 2_900..3_100, 50_000);
    let since = [
        "backup",
        text(&file),
        text(&changes),
        "--since",
        text(&copy),
    ];
    let run = folio(since);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(fs::metadata(&changes).unwrap().len() < fs::metadata(&copy).unwrap().len());
    let run = folio(["apply", text(&copy), text(&changes)]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(contents(&copy) == contents(&file));
    let run = folio(["apply", text(&copy), text(&changes)]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let run = folio(["apply", text(&copy), text(&file)]);
    assert_eq!(run.code, Some(3), "{run:?}");
    let run = folio(["backup", text(&file), text(&at("small")), "--compacted"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(contents(&at("small")) == contents(&file));
    // A file that somebody has open for writing is copied all the same.
    let open = Database::open(&file).unwrap();
    let run = folio(["backup", text(&file), text(&at("other"))]);
    assert_eq!(run.code, Some(0), "{run:?}");
    drop(open);
    assert!(contents(&at("other")) == contents(&file));
}

#[test]
fn the_pages_that_stat_counts_add_up_to_the_file() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fill(&file, 0..3_000, 50_000);
    let db = Database::open(&file).unwrap();
    db.create_savepoint("before").unwrap();
    db.close().unwrap();
    fill(&file, 2_000..3_100, 10);
    let run = folio(["stat", text(&file), "--pages", "--format", "json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let report = run.json();
    let found = &report["page_use"];
    let count = |value: &serde_json::Value| value.as_u64().unwrap();
    let tables = found["tables"].as_array().unwrap().iter();
    let of_tables =
        tables.map(|table| ["branch", "leaf", "long_values"].map(|of| count(&table[of])));
    let others = [
        "fixed",
        "catalogs_and_map",
        "savepoints",
        "free",
        "grown_ahead",
    ];
    let others = others.map(|of| count(&found[of]));
    let sum = of_tables.flatten().sum::<u64>() + others.iter().sum::<u64>();
    assert_eq!(sum * 4096, fs::metadata(&file).unwrap().len(), "{report}");
    assert!(others[1] > 0 && others[1] < 30, "{report}");
    let [savepoint] = &report["savepoints"].as_array().unwrap()[..] else {
        panic!("{report}")
    };
    assert_eq!(savepoint["name"], "before");
    assert!(others[2] > 0 && count(&savepoint["pages"]) == others[2]);
    let run = folio(["stat", text(&file), "--pages"]);
    for words in [
        "table 0/one",
        "catalogs, free-space map",
        "savepoints alone",
        "before",
        "grown ahead",
        "depth",
        "fill",
    ] {
        assert!(run.stdout.contains(words), "{run:?}");
    }
    // What has most has the longest bar, and in a pipe it is drawn without colours.
    let bar = |line: &str| line.chars().filter(|c| *c == '#').count();
    let pages = run.stdout.split("pages of").nth(1).unwrap();
    let longest = pages.lines().max_by_key(|line| bar(line)).unwrap();
    assert_eq!(bar(longest), 40, "{run:?}");
    // The savepoint keeps more than any table has.
    assert!(longest.contains("savepoints alone"), "{run:?}");
    assert!(!run.stdout.contains('\x1b'), "{run:?}");
    let run = folio(["stat", text(&file), "--format", "json"]);
    assert!(run.json()["page_use"].is_null(), "{run:?}");
}
