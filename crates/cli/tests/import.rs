//! `folio import`: rows of real files into the file of a node, all of them, once.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Run, folio, text, write_purchases};
use folio_ledger::LedgerView;
use folio_ledger::state_key::Relationship;
use folio_store::Database;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().expect("a directory"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("node.folio")
    }

    fn data(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("writable");
        path
    }

    fn import(&self, data: &Path, more: &[&str]) -> Run {
        let file = self.file();
        let mut arguments = vec!["import", text(&file), text(data), "--vault", "v"];
        arguments.extend(["--format", "json"]);
        arguments.extend(more);
        folio(arguments)
    }

    /// Imports, and gives back the report of it.
    fn imported(&self, data: &Path, more: &[&str]) -> serde_json::Value {
        let run = self.import(data, more);
        assert_eq!(run.code, Some(0), "{run:?}");
        run.json()
    }

    /// Looks into the only vault.
    fn look<R>(&self, look: impl FnOnce(LedgerView<'_>) -> R) -> R {
        let database = Database::open_read_only(self.file()).expect("a sound file");
        let view = database.begin_read().expect("open");
        look(LedgerView::new(&view))
    }

    /// The entities without those that say how far imports are, and the relationships.
    fn counts(&self, imports: u64) -> (u64, u64) {
        let vault = self.look(|ledger| ledger.vault(1)).expect("sound");
        let vault = vault.expect("it was created");
        (vault.entities - imports, vault.relationships)
    }

    fn value(&self, key: &str) -> Option<(u64, String)> {
        let entity = self.look(|ledger| ledger.entity(1, key.as_bytes()));
        let entity = entity.expect("sound")?;
        let value = String::from_utf8(entity.value).expect("text");
        Some((entity.version, value))
    }
}

#[test]
fn every_row_is_there_once_and_a_second_run_finds_nothing_to_do() {
    let folder = Folder::new();
    let tuples = (0..2500).map(|n| format!("doc:{},viewer,user:{n}\n", n % 10));
    let tuples = "resource,relation,subject\n".to_owned() + &tuples.collect::<String>();
    let tuples = folder.data("tuples.csv", tuples);
    let accounts = (0..1500).map(|n| format!("{{\"key\": \"a{n}\", \"value\": \"v{n}\"}}\n"));
    let accounts = folder.data("accounts.jsonl", accounts.collect::<String>());

    let report = folder.imported(&tuples, &[text(&accounts)]);
    assert_eq!(
        (&report["rows"], &report["created"]),
        (&4000.into(), &4000.into())
    );
    assert_eq!(folder.counts(2), (1500, 2500));
    assert_eq!(folder.value("a7"), Some((1, "v7".to_owned())));

    let report = folder.imported(&tuples, &[text(&accounts)]);
    assert_eq!(
        (&report["rows"], &report["earlier"]),
        (&0.into(), &4000.into())
    );
    assert_eq!(folder.counts(2), (1500, 2500));

    let verified = folio(["verify", text(&folder.file())]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn an_import_that_is_killed_again_and_again_loses_no_row_and_repeats_none() {
    const ROWS: u64 = 40_000;
    let folder = Folder::new();
    // Without the last newline, and with rows that are worth nothing in between.
    let rows = (0..ROWS).map(|n| match n % 1000 {
        999 => format!("a{n}\n"),
        _ => format!("a{n},\"v\n{n}\"\n"),
    });
    let rows = "key,value\n".to_owned() + &rows.collect::<String>();
    let data = folder.data("accounts.csv", rows.trim_end());
    let (file, bad) = (folder.file(), folder.0.path().join("bad.jsonl"));
    let arguments = ["import", text(&file), text(&data), "--vault", "v"];
    let mut kills = 0;
    for megabytes in 1..30 {
        let mut process = Command::new(env!("CARGO_BIN_EXE_folio"))
            .args(arguments)
            .args(["--skip-bad", text(&bad)])
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary was built");
        let grown = || fs::metadata(&file).map_or(0, |file| file.len()) > megabytes << 20;
        let ended = loop {
            if let Some(status) = process.try_wait().expect("a child") {
                break Some(status);
            }
            if grown() {
                process.kill().expect("a child");
                process.wait().expect("a child");
                break None;
            }
            std::thread::yield_now();
        };
        match ended {
            Some(status) => {
                assert!(status.success());
                break;
            }
            None => kills += 1,
        }
    }
    assert!(
        kills > 0,
        "the import was over before anybody could kill it"
    );

    let report = folder.imported(&data, &["--skip-bad", text(&bad)]);
    let whole = report["rows"].as_u64().zip(report["earlier"].as_u64());
    let whole = whole.map(|(rows, earlier)| rows + earlier);
    assert_eq!(whole, Some(ROWS - ROWS / 1000), "{report}");
    assert_eq!(folder.counts(1), (ROWS - ROWS / 1000, 0));
    for n in 0..ROWS {
        let expected = (n % 1000 != 999).then(|| (1, format!("v\n{n}")));
        if n % 97 == 0 || expected.is_none() {
            assert_eq!(folder.value(&format!("a{n}")), expected, "row {n}");
        }
    }
    let bad = fs::read_to_string(bad).expect("it was written");
    let rows: Vec<serde_json::Value> = bad
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let names: Vec<_> = rows.iter().map(|row| row["row"].clone()).collect();
    let expected: Vec<_> = (0..ROWS / 1000)
        .map(|n| format!("a{}", n * 1000 + 999))
        .collect();
    assert_eq!(names, expected, "each bad row is listed once");
}

#[test]
fn a_bad_row_is_named_and_the_rows_before_it_are_in() {
    let folder = Folder::new();
    let rows = |third: &str| format!("key,value\na,1\nb,2\n{third}\nd,4\n");
    for (third, reason) in [
        ("c", "1 fields"),
        ("c,3,x", "3 fields"),
        (",3", "empty"),
        (&format!("{},3", "c".repeat(257))[..], "257 bytes"),
        ("c,\"3\"x", "closing quote"),
    ] {
        let data = folder.data("rows.csv", rows(third));
        let run = folder.import(&data, &[]);
        assert_eq!(run.code, Some(1), "{run:?}");
        let named = run.stderr.contains("rows.csv, line 4:") && run.stderr.contains(reason);
        assert!(named, "{reason}: {}", run.stderr);
        assert_eq!(folder.counts(1), (2, 0), "{third}");
    }
    let data = folder.data("rows.csv", rows("c,3"));
    let report = folder.imported(&data, &[]);
    assert_eq!(
        (&report["rows"], &report["earlier"]),
        (&2.into(), &2.into())
    );
    assert_eq!(folder.counts(1), (4, 0));
    assert_eq!(folder.value("b"), Some((1, "2".to_owned())));
}

#[test]
fn columns_may_be_called_otherwise_and_what_is_no_column_of_its_own_is_the_value() {
    let folder = Folder::new();
    let data = folder.data("members.csv", "team,user,since\nred,7,1999\n");
    let named = [
        "--columns",
        "resource=team,subject=user",
        "--relation",
        "member",
    ];
    folder.imported(&data, &named);
    let exists = folder
        .look(|ledger| ledger.relationship_exists(1, &Relationship::new("red", "member", "7")));
    assert!(exists.expect("sound"));
    let data = folder.data(
        "people.ndjson",
        "{\"id\": 7, \"name\": \"Ada\", \"of\": [1]}\n",
    );
    folder.imported(&data, &["--columns", "key=id"]);
    let value = r#"{"name":"Ada","of":[1]}"#.to_owned();
    assert_eq!(folder.value("7"), Some((1, value)));
}

#[test]
fn what_is_there_stays_and_a_file_that_became_longer_goes_on() {
    let folder = Folder::new();
    let data = folder.data("rows.csv", "key,value\na,1\nb,2\n");
    folder.imported(&data, &[]);
    folder.data("rows.csv", "key,value\na,1\nb,2\na,3\n");
    let report = folder.imported(&data, &[]);
    assert_eq!(
        (&report["rows"], &report["updated"]),
        (&1.into(), &1.into())
    );
    assert_eq!(folder.value("a"), Some((2, "3".to_owned())));

    // Another file of that name is another import.
    for other in ["key,value\nz,1\nb,2\nc,3\n", "key,value\n"] {
        folder.data("rows.csv", other);
        let run = folder.import(&data, &[]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("--name"), "{run:?}");
    }
    folder.data("rows.csv", "key,value\nz,1\n");
    folder.imported(&data, &["--name", "second"]);
    assert_eq!(folder.counts(2), (3, 0));
}

#[test]
fn a_file_that_others_depend_on_and_data_that_says_nothing_are_refused() {
    let folder = Folder::new();
    let purchases = folder.0.path().join("purchases.csv");
    write_purchases(&purchases, 50, 5);
    let directory = folder.0.path();
    let demo = [
        "demo",
        "--data",
        text(&purchases),
        "--keep",
        text(directory),
    ];
    let demo = folio(demo.into_iter().chain(["--nodes", "3"]));
    assert_eq!(demo.code, Some(0), "{demo:?}");
    let data = folder.data("rows.csv", "key,value\na,1\n");
    let file = directory.join("node-1.folio");
    let run = folio(["import", text(&file), text(&data), "--vault", "v"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("one of 3"), "{run:?}");

    let nothing = folder.data("nothing.csv", "a,b\n1,2\n");
    let run = folder.import(&nothing, &[]);
    assert!(
        run.code == Some(1) && run.stderr.contains("--columns"),
        "{run:?}"
    );
    let unknown = folder.data("rows.txt", "key,value\n");
    let run = folder.import(&unknown, &[]);
    assert!(
        run.code == Some(2) && run.stderr.contains("--shape"),
        "{run:?}"
    );
    assert!(!folder.file().exists(), "a refused import leaves no file");
}
