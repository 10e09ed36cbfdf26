//! `folio verify` and `folio stat` on good files and on damaged ones, and `folio bench` on a file.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};

use common::served::{Served, alone};
use common::{folio, text, write_purchases};

/// The file of a node that loaded a few purchases and was stopped.
fn sound_file(directory: &Path) -> PathBuf {
    let data = directory.join("purchases.csv");
    write_purchases(&data, 200, 20);
    let run = folio([
        "demo",
        "--data",
        text(&data),
        "--keep",
        text(directory),
        "--nodes",
        "1",
        "--format",
        "json",
    ]);
    assert_eq!(run.code, Some(0), "{run:?}");
    directory.join("node-1.folio")
}

#[test]
fn a_sound_file_is_sound_and_is_not_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = sound_file(directory.path());
    let before = std::fs::read(&file).expect("readable");
    let verified = folio(["verify", text(&file)]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(
        verified.stdout.contains("The file is sound."),
        "{verified:?}"
    );
    let stat = folio(["stat", text(&file)]);
    assert_eq!(stat.code, Some(0), "{stat:?}");
    for word in [
        "page size",
        "ledger_entities",
        "raft_log",
        "applied",
        "state root",
    ] {
        assert!(stat.stdout.contains(word), "{word}: {}", stat.stdout);
    }
    assert!(
        before == std::fs::read(&file).expect("readable"),
        "looking at a file has changed it"
    );
}

#[test]
fn a_truncated_file_is_damaged_and_nothing_panics() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = sound_file(directory.path());
    let bytes = std::fs::read(&file).expect("readable");
    let stat = folio(["stat", text(&file), "--format", "json"]).json();
    let used =
        stat["pages"].as_u64().expect("a number") * stat["page_size"].as_u64().expect("a number");
    let used = usize::try_from(used).expect("a small file");
    let copy = directory.path().join("copy.folio");
    for length in [
        0,
        1,
        511,
        4096,
        4097,
        3 * 4096,
        used / 2,
        used - 4096,
        used - 1,
    ] {
        std::fs::write(&copy, &bytes[..length]).expect("writable");
        let verified = folio(["verify", text(&copy)]);
        assert_eq!(verified.code, Some(3), "{length} bytes: {verified:?}");
        assert!(
            !(verified.stdout + &verified.stderr).is_empty(),
            "{length} bytes"
        );
        let stat = folio(["stat", text(&copy)]);
        assert!(matches!(stat.code, Some(0 | 3)), "{length} bytes: {stat:?}");
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_a_commit_depends_on_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = sound_file(directory.path());
    let bytes = std::fs::read(&file).expect("readable");
    let copy = directory.path().join("copy.folio");
    let pages = bytes.len() / 4096;
    let mut found = 0;
    // One bit in every few pages, each at another place of its page.
    for page in (0..pages).step_by(pages.div_ceil(40)) {
        let mut damaged = bytes.clone();
        damaged[page * 4096 + (page * 997) % 4096] ^= 1 << (page % 8);
        std::fs::write(&copy, &damaged).expect("writable");
        let verified = folio(["verify", text(&copy), "--format", "json"]);
        assert!(
            matches!(verified.code, Some(0 | 3)),
            "page {page}: {verified:?}"
        );
        found += usize::from(verified.code == Some(3));
        let stat = folio(["stat", text(&copy)]);
        assert!(matches!(stat.code, Some(0 | 3)), "page {page}: {stat:?}");
    }
    assert!(found > 0, "no flipped bit was found");
}

#[test]
fn a_row_that_was_altered_is_found_and_its_page_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = sound_file(directory.path());
    let bytes = std::fs::read(&file).expect("readable");
    let row = b"\"customer\":7,";
    let places = (0..bytes.len() - row.len()).filter(|&at| bytes[at..].starts_with(row));
    let mut named = 0;
    // The row is also in the log, in the block, and in pages that are free by now.
    for at in places.take(40) {
        let mut altered = bytes.clone();
        altered[at + row.len() - 2] = b'8';
        std::fs::write(&file, altered).expect("writable");
        let verified = folio(["verify", text(&file)]);
        assert!(
            matches!(verified.code, Some(0 | 3)),
            "byte {at}: {verified:?}"
        );
        let page = format!("page {}", at / 4096);
        let said = verified.stdout + &verified.stderr;
        assert_eq!(
            verified.code == Some(3),
            said.contains(&page),
            "byte {at}: {said}"
        );
        named += u32::from(verified.code == Some(3));
    }
    assert!(named > 0, "no altered row was found");
}

#[test]
fn a_file_that_a_writer_has_open_is_looked_at_all_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = sound_file(directory.path());
    let held = folio_store::Database::open(&file).expect("nobody else has it");
    let reader = folio_store::Database::open_read_only(&file).expect("nobody minds");
    let verified = folio(["verify", text(&file)]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let stat = folio(["stat", text(&file)]);
    assert_eq!(stat.code, Some(0), "{stat:?}");
    assert!(
        stat.stdout.contains("by readers in other processes"),
        "{stat:?}"
    );
    drop(reader);
    // A process that another test is starting may hold, until it is another program, what this one has let go of.
    let pinned =
        || folio(["stat", text(&file), "--format", "json"]).json()["pinned_commits"].clone();
    while pinned() != serde_json::json!([]) {}
    // What reads more than one commit of it does mind.
    let refused = folio(["recover", text(&file), text(&directory.path().join("new"))]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("already open"), "{refused:?}");
    held.close().expect("it is closed");
}

#[test]
fn what_is_no_folio_file_is_said_to_be_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("letter.txt");
    std::fs::write(&file, "Dear reader, ".repeat(1000)).expect("writable");
    for command in ["verify", "stat"] {
        let refused = folio([command, text(&file)]);
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(
            refused.stderr.contains("not a Folio database"),
            "{refused:?}"
        );
        let missing = folio([command, "no/such/file.folio"]);
        assert_eq!(missing.code, Some(1), "{missing:?}");
        assert!(missing.stderr.contains("no/such/file.folio"), "{missing:?}");
        let directory = folio([command, text(directory.path())]);
        assert_eq!(directory.code, Some(1), "{directory:?}");
    }
}

#[test]
fn a_row_that_no_hash_covers_is_checked_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = sound_file(directory.path());
    // Sessions are the node's memory of what it answered; their pages stay sound when a row is taken out.
    let database = folio_store::Database::open(&file).expect("sound");
    let txn = database.begin_write().expect("open");
    let uses = txn
        .tables()
        .expect("sound")
        .into_iter()
        .find(|table| table.name == "ledger_session_uses")
        .expect("the ledger has it");
    let mut rows = txn.untyped(&uses).expect("sound");
    let (first, _) = rows
        .iter()
        .expect("sound")
        .next()
        .expect("a row")
        .expect("sound");
    rows.remove(first.as_slice()).expect("sound");
    drop(rows);
    txn.commit().expect("room");
    database.close().expect("room");

    let verified = folio(["verify", text(&file)]);
    assert_eq!(verified.code, Some(3), "{verified:?}");
    assert!(verified.stdout.contains("session"), "{verified:?}");
}

/// Changes a byte of the first row of a table, by default the last.
fn alter(file: &Path, table: &str, place: Option<usize>) {
    let database = folio_store::Database::open(file).expect("sound");
    let txn = database.begin_write().expect("open");
    let tables = txn.tables().expect("sound");
    let table = tables.iter().find(|found| found.name == table);
    let mut rows = txn.untyped(table.expect("it is there")).expect("sound");
    let row = rows.iter().expect("sound").next().expect("a row");
    let (key, mut value) = row.expect("sound");
    let place = place.unwrap_or(value.len() - 1);
    value[place] ^= 1;
    drop(rows.insert(key.as_slice(), value.as_slice()).expect("room"));
    drop(rows);
    txn.commit().expect("room");
    database.close().expect("room");
}

#[test]
fn a_replay_finds_nothing_in_a_sound_file_and_names_what_was_altered() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = sound_file(directory.path());
    let before = std::fs::read(&file).expect("readable");
    let sound = folio(["replay", text(&file)]);
    assert_eq!(sound.code, Some(0), "{sound:?}");
    assert!(
        sound
            .stdout
            .contains("Everything that was compared is equal."),
        "{sound:?}"
    );
    assert!(before == std::fs::read(&file).expect("readable"));

    let copy = directory.path().join("copy.folio");
    assert_eq!(folio(["backup", text(&file), text(&copy)]).code, Some(0));
    let of_copy = folio([
        "replay",
        text(&copy),
        "--from",
        text(&copy),
        "--format",
        "json",
    ]);
    assert_eq!(of_copy.code, Some(0), "{of_copy:?}");
    assert_eq!(of_copy.json()["difference"], serde_json::Value::Null);

    alter(&file, "ledger_entities", None);
    let altered = folio([
        "replay",
        text(&file),
        "--scratch",
        text(directory.path()),
        "--format",
        "json",
    ]);
    assert_eq!(altered.code, Some(3), "{altered:?}");
    let difference = &altered.json()["difference"];
    for field in ["vault", "height", "bucket", "key"] {
        assert!(!difference[field].is_null(), "{field}: {difference}");
    }
    let altered = folio(["replay", text(&file)]);
    assert!(
        altered
            .stdout
            .contains("The first difference: vault 1, block"),
        "{altered:?}"
    );
    let left = std::fs::read_dir(directory.path())
        .expect("readable")
        .count();
    assert_eq!(
        left, 3,
        "the file, its copy and its data; the replay's ledger is gone"
    );

    // What is not what its own hashes say is found without a replay, and then there is none.
    let damaged = folio(["verify", text(&file), "--deep", "--format", "json"]);
    assert_eq!(damaged.code, Some(3), "{damaged:?}");
    assert_eq!(damaged.json()["problem_count"], 1, "{damaged:?}");
    assert!(damaged.json()["replay"].is_null(), "{damaged:?}");

    let missing = folio(["replay", "no/such/file.folio"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    let no_copy = folio(["replay", text(&file), "--from", "no/such/file.folio"]);
    assert_eq!(no_copy.code, Some(1), "{no_copy:?}");
}

#[test]
fn a_deep_verification_computes_what_no_hash_of_the_file_covers() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = sound_file(directory.path());
    let sound = folio(["verify", text(&file), "--deep"]);
    assert_eq!(sound.code, Some(0), "{sound:?}");
    for words in [
        "The file is sound.",
        "Everything that was compared is equal.",
    ] {
        assert!(sound.stdout.contains(words), "{sound:?}");
    }
    // The name of the vault, which only the log has.
    alter(&file, "ledger_vaults", Some(1));
    assert_eq!(folio(["verify", text(&file)]).code, Some(0));
    let altered = folio(["verify", text(&file), "--deep", "--format", "json"]);
    assert_eq!(altered.code, Some(3), "{altered:?}");
    let report = altered.json();
    assert_eq!(report["problem_count"], 0, "{report}");
    assert_eq!(
        report["replay"]["difference"]["what"], "the record of the vault",
        "{report}"
    );
    let at_a_node = folio(["verify", "--node", "http://127.0.0.1:1", "--deep"]);
    assert_eq!(at_a_node.code, Some(2), "{at_a_node:?}");
}

#[test]
fn a_damaged_file_is_recovered_into_a_new_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = sound_file(directory.path());
    let bytes = std::fs::read(&file).expect("readable");
    let out = directory.path().join("out.folio");
    let stat = |file: &Path| folio(["stat", text(file), "--format", "json"]).json();
    let before = stat(&file);

    // Without its header the file cannot be opened; all that was in it is in its pages.
    let mut headless = bytes.clone();
    headless[..4096].fill(0x55);
    std::fs::write(&file, &headless).expect("writable");
    assert_eq!(folio(["verify", text(&file)]).code, Some(3));
    let run = folio(["recover", text(&file), text(&out)]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("Nothing was lost."), "{run:?}");
    assert_eq!(folio(["verify", text(&out)]).code, Some(0));
    let after = stat(&out);
    assert_eq!(after["vaults"], before["vaults"]);
    assert_eq!(after["tables"], before["tables"]);
    assert!(
        headless == std::fs::read(&file).expect("readable"),
        "the damaged file was changed"
    );

    // An existing file is not written over.
    let again = folio(["recover", text(&file), text(&out)]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("out.folio"), "{again:?}");

    // With a leaf lost its rows are named, and all others are there.
    let leaves = bytes.chunks(4096).enumerate().rev().filter(|(_, page)| {
        let of_a_table = page[24..28] != [0; 4] && page[27] != 0xFF;
        page[4] == 1 && of_a_table
    });
    let harmed = leaves.map(|(leaf, _)| leaf).find(|leaf| {
        let mut damaged = bytes.clone();
        damaged[leaf * 4096 + 99] ^= 1;
        std::fs::write(&file, &damaged).expect("writable");
        folio(["verify", text(&file)]).code == Some(3)
    });
    assert!(harmed.is_some(), "no leaf is in use");
    std::fs::remove_file(&out).expect("it is there");
    let run = folio(["recover", text(&file), text(&out), "--format", "json"]);
    assert_eq!(run.code, Some(3), "{run:?}");
    let report = run.json();
    assert_eq!(report["complete"], false, "{report}");
    assert!(report["problem_count"].as_u64() > Some(0), "{report}");
    assert_eq!(report["page_size"], 4096, "{report}");
    let tables = report["tables"].as_array().expect("a list");
    assert_eq!(
        tables.len(),
        before["tables"].as_array().expect("a list").len()
    );
}

#[test]
fn what_cannot_be_recovered_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = sound_file(directory.path());
    let out = directory.path().join("out.folio");
    let held = folio_store::Database::open(&file).expect("nobody else has it");
    let refused = folio(["recover", text(&file), text(&out)]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    drop(held);
    std::fs::write(&file, "Dear reader, ".repeat(1000)).expect("writable");
    let refused = folio(["recover", text(&file), text(&out)]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(
        refused.stderr.contains("not a Folio database"),
        "{refused:?}"
    );
    let missing = folio(["recover", "no/such/file", text(&out)]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(!out.exists());
}

#[test]
fn a_file_is_measured_without_a_server_and_is_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (new, kept) = (
        directory.path().join("new.folio"),
        directory.path().join("kept.folio"),
    );
    let node = Served::start(alone(&kept));
    node.create_vault();
    let busy = folio(["bench", "--file", text(&kept), "--for", "50ms"]);
    assert_eq!(busy.code, Some(4), "{busy:?}");
    drop(node);
    for file in [&new, &kept] {
        for load in ["write", "read", "local", "mixed"] {
            let arguments = [
                "bench",
                load,
                "--clients",
                "2",
                "--for",
                "50ms",
                "--format",
                "json",
            ];
            let run = folio(arguments.iter().chain(&["--file", text(file)]));
            assert_eq!(run.code, Some(0), "{run:?}");
            let report = run.json();
            assert_eq!(report["load"], load);
            let steps = report["latency"]["histogram"].as_array().unwrap().iter();
            let counted: u64 = steps.map(|step| step[1].as_u64().unwrap()).sum();
            assert!(counted > 0 && report["requests"] == counted, "{report}");
        }
    }
    assert!(!new.exists());
    let run = folio(["stat", text(&kept), "--format", "json"]).json();
    let vaults = run["vaults"].as_array().unwrap();
    assert_eq!(vaults.len(), 1, "{run}");
    assert_eq!(vaults[0]["name"], "first");
}
