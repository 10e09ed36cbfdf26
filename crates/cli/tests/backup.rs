//! `folio backup` of a running node, whole and incremental, and what becomes of the copies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::served::{Served, start};
use common::{Run, folio, text};
use folio_store::storage::SplitMix64;

/// A node with more in it than a frame of a compressed backup, in a form that does not compress.
fn filled(number: u64, data: &Path) -> Served {
    let node = start(number, data, &["--init"]);
    node.done("vaults create accounts");
    let mut random = SplitMix64::new(number);
    for key in 0..12 {
        let value: String = (0..500_000)
            .map(|_| char::from(b'!' + random.below(90) as u8))
            .collect();
        let value = serde_json::Value::from(value);
        let body =
            format!(r#"{{"operations": [{{"set": {{"key": "key {key}", "value": {value}}}}}]}}"#);
        let answer = node.post("/v1/vaults/1/transactions", &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    node
}

fn heights(file: &Path) -> serde_json::Value {
    let sound = folio(["verify", text(file), "--format", "json"]);
    assert_eq!(sound.code, Some(0), "{sound:?}");
    sound.json()["vaults"][0]["height"].clone()
}

/// Runs the tool with standard input from a file.
fn with_input(input: &Path, arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_folio"))
        .args(arguments)
        .stdin(Stdio::from(fs::File::open(input).unwrap()))
        .output()
        .unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn backups_of_a_running_node_are_checked_put_together_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let node = start(21, &at("node"), &["--init"]);
    node.done("vaults create accounts");
    node.done("put 1 colour blue");
    let [plain, packed, changes, later] =
        ["plain.folio", "packed.folio.zst", "changes", "later.zst"].map(at);
    node.done(&format!("backup {}", text(&packed)));
    node.done("put 1 colour green");
    // What an incremental backup begins with may be compressed, or incremental itself.
    node.done(&format!(
        "backup {} --since {}",
        text(&changes),
        text(&packed)
    ));
    node.done("put 1 colour red");
    node.done(&format!(
        "backup {} --since {}",
        text(&later),
        text(&changes)
    ));
    node.done(&format!("backup {}", text(&plain)));
    for file in [&plain, &packed, &changes, &later] {
        let sound = folio(["verify", text(file)]);
        assert_eq!(sound.code, Some(0), "{sound:?}");
        assert!(sound.stdout.contains("is sound"), "{sound:?}");
        let streamed = with_input(file, &["verify", "-"]);
        assert_eq!(streamed.code, Some(0), "{streamed:?}");
    }
    assert_eq!(heights(&plain), 3);
    // A backup that is there is kept, unless a whole one takes its place.
    let kept = node.run(&format!(
        "backup {} --since {}",
        text(&changes),
        text(&packed)
    ));
    assert_eq!(kept.code, Some(1), "{kept:?}");
    assert!(kept.stderr.contains("is there already"), "{kept:?}");
    // What is copied, by whatever name, and what a node has open.
    let (file, linked) = (at("node").join("node.folio"), at("linked.zst"));
    fs::hard_link(&file, &linked).unwrap();
    for place in [&file, &linked] {
        let refused = folio(["backup", text(&file), text(place), "--compress"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("to be copied"), "{refused:?}");
        let refused = node.run(&format!("backup {}", text(place)));
        assert_eq!(refused.code, Some(4), "{refused:?}");
        assert!(refused.stderr.contains("has it open"), "{refused:?}");
    }
    drop(node);
    assert_eq!(heights(&file), 3);

    let chain = [&packed, &changes, &later].map(|file| text(file));
    let restored = |name: &str, backups: &[&str], height: u64| {
        let data = at(name);
        let arguments = ["restore"].into_iter().chain(backups.iter().copied());
        let run = folio(arguments.chain([text(&data), "--cluster", "second"]));
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(heights(&data.join("node.folio")), height, "{name}");
    };
    restored("of one", &chain[..1], 1);
    restored("of two", &chain[..2], 2);
    restored("of three", &chain, 3);
    restored("as it is", &[text(&plain)], 3);
    let data = at("of a stream");
    let run = with_input(
        &packed,
        &["restore", "-", text(&data), "--cluster", "second"],
    );
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(heights(&data.join("node.folio")), 1);

    // Whoever reads them reads the ledger.
    for file in [&plain, &packed, &changes, &later] {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }

    let copy = at("copy.folio");
    fs::copy(&plain, &copy).unwrap();
    let applied = folio(["apply", text(&copy), text(&later)]);
    assert_eq!(applied.code, Some(1), "{applied:?}");
    assert!(applied.stderr.contains("is based on"), "{applied:?}");
}

#[test]
fn what_is_no_backup_is_refused_with_its_name_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let node = filled(22, &at("node"));
    let (whole, changes) = (at("whole.folio.zst"), at("changes.zst"));
    node.done(&format!("backup {}", text(&whole)));
    node.done("put 1 colour red");
    node.done(&format!(
        "backup {} --since {}",
        text(&changes),
        text(&whole)
    ));
    drop(node);
    let (bytes, of_changes) = (fs::read(&whole).unwrap(), fs::read(&changes).unwrap());
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    // A frame of a gigabyte of zeros is a few kilobytes.
    let bomb = zstd::stream::encode_all(std::io::repeat(0).take(1 << 30), 1).unwrap();
    assert!(bomb.len() < 1 << 20);
    let bomb_behind = [&bytes[..], &bomb].concat();
    for (name, bytes) in [
        ("cut", &bytes[..bytes.len() - 1]),
        ("cut in its head", &bytes[..5]),
        ("flipped", &flipped),
        ("with more behind it", &[&bytes[..], b"more"].concat()),
        ("changes alone", &of_changes),
        ("cut changes", &of_changes[..of_changes.len() - 9]),
        ("a bomb", &bomb),
        ("with a bomb behind it", &bomb_behind),
        (
            "a letter",
            &zstd::encode_all(&b"Dear reader"[..], 1).unwrap(),
        ),
    ] {
        let bad = at("bad.zst");
        fs::write(&bad, bytes).unwrap();
        if name != "changes alone" {
            let verified = folio(["verify", text(&bad)]);
            assert_eq!(verified.code, Some(3), "{name}: {verified:?}");
            assert!(verified.stderr.contains("bad.zst"), "{name}: {verified:?}");
        }
        let out = at("out");
        let restored = folio(["restore", text(&bad), text(&out), "--cluster", "second"]);
        assert_eq!(restored.code, Some(3), "{name}: {restored:?}");
        assert!(restored.stderr.contains("bad.zst"), "{name}: {restored:?}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "{name}");
    }
    for place in ["missing/copy.zst", "node"] {
        let file = at("node").join("node.folio");
        let refused = folio(["backup", text(&file), text(&at(place))]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("directory"), "{refused:?}");
    }
}

/// Stands between the tool and a node, and cuts connections off.
struct Cutter {
    address: String,
    /// Bytes that were let through to the tool.
    passed: Arc<AtomicU64>,
}

/// Ends each of the first `times` connections after it has let `bytes` through, and those that follow after `later` bytes.
fn cut(node: &str, bytes: u64, times: u64, later: u64) -> Cutter {
    damage(node, bytes, times, later, u64::MAX)
}

/// The same, and changes one byte of each answer on its way.
fn damage(node: &str, bytes: u64, times: u64, later: u64, changed: u64) -> Cutter {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cutter = Cutter {
        address: listener.local_addr().unwrap().to_string(),
        passed: Arc::default(),
    };
    let (node, passed) = (node.to_owned(), cutter.passed.clone());
    std::thread::spawn(move || {
        for (number, client) in (1..).zip(listener.incoming()) {
            let (mut client, mut node) = (client.unwrap(), TcpStream::connect(&node).unwrap());
            let (mut requests, mut there) =
                (client.try_clone().unwrap(), node.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut requests, &mut there));
            let most = if number <= times { bytes } else { later };
            let passed = passed.clone();
            std::thread::spawn(move || {
                let mut piece = [0; 1 << 14];
                let mut left = most;
                while left > 0
                    && let Ok(length @ 1..) = node.read(&mut piece)
                {
                    let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
                    let place = changed.checked_sub(most - left);
                    let place = place.and_then(|place| usize::try_from(place).ok());
                    if let Some(byte) = place.and_then(|place| piece.get_mut(place)) {
                        *byte ^= 1;
                    }
                    if client.write_all(&piece[..length]).is_err() {
                        break;
                    }
                    left -= length as u64;
                    passed.fetch_add(length as u64, Ordering::Relaxed);
                }
                // Either end may be gone already.
                let _ = client.shutdown(std::net::Shutdown::Both);
                let _ = node.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    cutter
}

#[test]
fn a_transfer_whose_connections_are_cut_goes_on_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let node = filled(23, &at("node"));
    let whole = at("whole.folio");
    node.done(&format!("backup {}", text(&whole)));
    let length = fs::metadata(&whole).unwrap().len();
    for name in ["cut.folio", "cut.folio.zst"] {
        let cutter = cut(&node.address, length / 4, 3, u64::MAX);
        let url = format!("http://{}", cutter.address);
        let run = folio(["backup", "--node", &url, text(&at(name))]);
        assert_eq!(run.code, Some(0), "{run:?}");
        let verified = folio(["verify", text(&at(name))]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
        let passed = cutter.passed.load(Ordering::Relaxed);
        // Heads of answers are all that is sent twice.
        assert!(
            (length..length + 10_000).contains(&passed),
            "{passed} of {length}"
        );
        assert!(!at(&format!("{name}.partial")).exists());
    }
    assert!(fs::read(at("cut.folio")).unwrap() == fs::read(&whole).unwrap());
    // Changes are begun anew, by whoever wants them.
    let cutter = cut(&node.address, 600, 1, u64::MAX);
    let url = format!("http://{}", cutter.address);
    let since = ["--since", text(&whole)];
    let changes = at("changes");
    let run = folio(
        ["backup", "--node", &url, text(&changes)]
            .iter()
            .chain(&since),
    );
    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(!changes.exists() && !at("changes.partial").exists());
    let run = folio(
        ["backup", "--node", &url, text(&changes)]
            .iter()
            .chain(&since),
    );
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn what_is_damaged_on_its_way_takes_nobodys_place() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let node = filled(25, &at("node"));
    for name in ["copy.folio", "copy.folio.zst"] {
        let copy = at(name);
        fs::write(&copy, "the one before").unwrap();
        let between = damage(&node.address, 0, 0, u64::MAX, 3 << 20);
        let url = format!("http://{}", between.address);
        let run = folio(["backup", "--node", &url, text(&copy)]);
        assert_eq!(run.code, Some(3), "{run:?}");
        assert!(run.stderr.contains("no whole backup"), "{run:?}");
        assert_eq!(fs::read(&copy).unwrap(), b"the one before");
        assert!(!at(&format!("{name}.partial")).exists());
    }
}

#[test]
fn a_backup_that_was_given_up_goes_on_where_it_was_when_it_is_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let node = filled(24, &at("node"));
    for name in ["copy.folio", "copy.folio.zst"] {
        let (copy, partial) = (at(name), at(&format!("{name}.partial")));
        // Nothing gets through after the first connection. On a busy machine not even that may begin in so short a time.
        let run = loop {
            let cutter = cut(&node.address, 5 << 20, 1, 0);
            let url = format!("http://{}", cutter.address);
            let short = ["--timeout", "2s"];
            let run = folio(["backup", "--node", &url, text(&copy)].iter().chain(&short));
            assert_eq!(run.code, Some(4), "{run:?}");
            assert_eq!(
                partial.exists(),
                run.stderr.contains("goes on from there"),
                "{run:?}"
            );
            if partial.exists() {
                break run;
            }
        };
        assert!(!copy.exists(), "{run:?}");
        node.done("put 1 colour red");

        let direct = cut(&node.address, 0, 0, u64::MAX);
        let url = format!("http://{}", direct.address);
        let run = folio(["backup", "--node", &url, text(&copy), "--format", "json"]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(copy.exists() && !partial.exists());
        let passed = direct.passed.load(Ordering::Relaxed);
        let length = run.json()["bytes"].as_u64().unwrap();
        assert!(
            passed + (4 << 20) <= length + 10_000,
            "{passed} of {length}"
        );
        let verified = folio(["verify", text(&copy)]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }
    // What is there and of no use is begun anew, also where it is the beginning of the same copy in the other form.
    let begun = fs::read(at("copy.folio.zst")).unwrap();
    for there in [&begun[..begun.len() / 2], &b"no backup"[..]] {
        for name in ["other.folio", "other.folio.zst"] {
            let partial = at(&format!("{name}.partial"));
            fs::write(&partial, there).unwrap();
            node.done(&format!("backup {}", text(&at(name))));
            assert_eq!(folio(["verify", text(&at(name))]).code, Some(0));
            assert!(!partial.exists());
        }
    }
}
