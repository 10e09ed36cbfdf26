//! A new cluster from a copy of a node of another one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};

use common::served::{Served, Three, host, start};
use common::{Run, folio, text};
use folio_store::{Database, Group, Table};
use serde_json::Value;

/// The log of a node, as it is stored.
struct Log;
impl Table for Log {
    const NAME: &'static str = "raft_log";
    const GROUP: Group = Group::new(1);
    type Key = u64;
    type Value = &'static [u8];
}

fn restore(copy: &Path, data: &Path) -> Run {
    folio([
        "restore",
        text(copy),
        text(data),
        "--cluster",
        "second",
        "--format",
        "json",
    ])
}

fn members(node: &Served) -> Vec<u64> {
    let members: Value = serde_json::from_str(&node.done("members --format json")).unwrap();
    let members = members["members"].as_array().unwrap();
    members
        .iter()
        .map(|member| member["id"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_copy_of_a_node_becomes_a_cluster_of_its_own_that_grows() {
    let mut three = Three::start(None);
    let leader = three.leader(Served::post);
    let node = &three.nodes[&leader];
    for n in 0..30 {
        node.done(&format!("put 1 key-{n} value-{n}"));
    }
    let stale = node.done("members invite");
    let at = |name: &str| -> PathBuf { three.directory.path().join(name) };
    let copy = at("copy.folio");
    // The log of the leader has all that it acknowledged, whatever its state on the disk lacks.
    let copied = folio(["backup", text(&at(&format!("{leader}.folio"))), text(&copy)]);
    assert_eq!(copied.code, Some(0), "{copied:?}");
    let data = at("restored");
    let restored = restore(&copy, &data);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert_eq!(restored.json()["node"], 4);
    assert_eq!(restored.json()["copied_from"], leader);
    let verified = folio(["verify", text(&data.join("node.folio"))]);
    assert_eq!(verified.code, Some(0), "{verified:?}");

    // The old cluster goes on, and both have what there was.
    let new = start(9, &data, &[]);
    for n in 0..30 {
        assert_eq!(new.done(&format!("get 1 key-{n}")), format!("value-{n}"));
    }
    new.done("put 1 only new");
    three.nodes[&leader].done("put 1 only old");
    assert_eq!(new.done("get 1 only"), "new");
    assert_eq!(three.nodes[&leader].done("get 1 only"), "old");
    assert_eq!(members(&new), [4]);

    // An invitation of the old cluster is none of the new one, which invites others itself.
    let asked = new.post(
        "/v1/join",
        &format!(r#"{{"invitation": "{}"}}"#, stale.trim()),
    );
    assert!(asked.starts_with("HTTP/1.1 403"), "{asked}");
    let invitation = new.done("members invite");
    let (api, peers) = (format!("{}:7001", host(10)), format!("{}:7101", host(10)));
    let second = Served::start([
        "--data",
        text(&at("joined")),
        "--join",
        invitation.trim(),
        "--listen",
        &api,
        "--peer-listen",
        &peers,
    ]);
    assert_eq!(members(&second), [4, 5]);
    assert_eq!(second.done("get 1 only"), "new");
    drop(new);
    let _new = start(9, &data, &[]);
    assert_eq!(second.done("get 1 only"), "new");
    three.nodes.clear();
}

#[test]
fn a_restored_node_cannot_be_started_as_the_one_it_is_a_copy_of() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let data = at("first");
    let node = start(11, &data, &["--init"]);
    node.done("vaults create accounts");
    drop(node);
    let file = data.join("node.folio");
    let restored = restore(&file, &at("second"));
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert_eq!(restored.json()["node"], 2);
    let as_first = folio(["serve", "--data", text(&at("second")), "--id", "1"]);
    assert_eq!(as_first.code, Some(1), "{as_first:?}");
    assert!(
        as_first.stderr.contains("belongs to node 2"),
        "{as_first:?}"
    );
    // The copy was read and not changed.
    let again = start(11, &data, &[]);
    assert!(again.done("vaults").contains("accounts"));
}

#[test]
fn what_cannot_be_restored_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let node = start(12, &at("node"), &["--init"]);
    node.done("vaults create accounts");
    drop(node);
    let file = at("node").join("node.folio");

    // What a command left that was killed is no reason to refuse.
    let left = at("out").join("folio-restoring");
    std::fs::create_dir_all(left.join("folio-backup.1-0.scratch")).unwrap();
    for name in ["copy", "copy.1-1.new", "before", "node.folio"] {
        std::fs::write(left.join(name), "unfinished").unwrap();
    }
    let again = restore(&file, &at("out"));
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(std::fs::read_dir(at("out")).unwrap().count(), 2);
    std::fs::remove_dir_all(at("out")).unwrap();

    let occupied = restore(&file, &at("node"));
    assert_eq!(occupied.code, Some(1), "{occupied:?}");
    assert!(occupied.stderr.contains("is not empty"), "{occupied:?}");
    let missing = restore(&at("nothing"), &at("out"));
    assert_eq!(missing.code, Some(1), "{missing:?}");

    // An entry far beyond the others: they are not looked for one by one.
    let gap = at("gap");
    std::fs::copy(&file, &gap).unwrap();
    let database = Database::open(&gap).unwrap();
    let txn = database.begin_write().unwrap();
    let mut log = txn.table::<Log>().unwrap();
    log.insert(u64::MAX - 1, [0].as_slice()).unwrap();
    drop(log);
    txn.commit().unwrap();
    database.close().unwrap();
    let refused = restore(&gap, &at("out"));
    assert_eq!(refused.code, Some(3), "{refused:?}");

    let mut bytes = std::fs::read(&file).unwrap();
    let damaged = at("damaged");
    for page in bytes.chunks_mut(4096).skip(8) {
        page[100] ^= 1;
    }
    std::fs::write(&damaged, bytes).unwrap();
    let refused = restore(&damaged, &at("out"));
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert_eq!(std::fs::read_dir(at("out")).unwrap().count(), 0);
}

/// What the node has of a block.
fn block(node: &Served, height: u64) -> Value {
    let request = format!(
        "GET /v1/vaults/1/blocks/{height} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    );
    let answer = node.send(&request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

fn restore_to(backups: &[&Path], height: u64, data: &Path) -> Run {
    let height = height.to_string();
    let backups = backups.iter().map(|backup| text(backup));
    let more = [
        text(data),
        "--cluster",
        "second",
        "--vault",
        "1",
        "--height",
        &height,
        "--format",
        "json",
    ];
    folio(["restore"].into_iter().chain(backups).chain(more))
}

#[test]
fn a_ledger_is_restored_to_any_height_that_its_backups_cover() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let node = start(13, &at("node"), &["--init"]);
    node.done("vaults create accounts");
    node.done("vaults create others");
    let write = |heights: std::ops::RangeInclusive<u64>| {
        for height in heights {
            node.done(&format!("put 1 newest {height}"));
            node.done(&format!("put 2 beside {height}"));
        }
    };
    let (whole, second, third) = (at("1.folio.zst"), at("2.changes"), at("3.changes.zst"));
    write(1..=3);
    node.done(&format!("backup {}", text(&whole)));
    write(4..=6);
    node.done(&format!(
        "backup {} --since {}",
        text(&second),
        text(&whole)
    ));
    write(7..=9);
    node.done(&format!(
        "backup {} --since {}",
        text(&third),
        text(&second)
    ));
    let blocks: Vec<Value> = (0..=9).map(|height| block(&node, height)).collect();
    drop(node);

    let all: [&Path; 3] = [&whole, &second, &third];
    for height in 0..=9 {
        let data = at(&format!("to-{height}"));
        let restored = restore_to(&all, height, &data);
        assert_eq!(restored.code, Some(0), "{height}: {restored:?}");
        let restored = restored.json();
        let block = &blocks[height as usize];
        assert_eq!(restored["block"]["height"], height);
        assert_eq!(restored["block"]["hash"], block["hash"], "{height}");
        let root = &block["header"]["state_root"];
        assert_eq!(&restored["block"]["state_root"], root, "{height}");
        assert_eq!(restored["to_apply"], 0);
        let sound = folio(["verify", text(&data.join("node.folio")), "--format", "json"]);
        assert_eq!(sound.code, Some(0), "{sound:?}");
        let vaults = &sound.json()["vaults"];
        assert_eq!(vaults[0]["height"], height);
        assert_eq!(&vaults[0]["state_root"], root);
        // The other vault is as it was then: it was not there before the first write.
        let beside = vaults[1]["height"].as_u64();
        let earlier = height.checked_sub(1);
        assert!(
            [earlier, Some(height)].contains(&beside),
            "{beside:?} beside {height}"
        );
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 2);
    }

    // It goes on from there.
    let node = start(14, &at("to-5"), &[]);
    assert_eq!(node.done("get 1 newest"), "5");
    node.done("put 1 newest other");
    assert_eq!(block(&node, 5)["hash"], blocks[5]["hash"]);
    assert_ne!(block(&node, 6)["hash"], blocks[6]["hash"]);

    let beyond = restore_to(&all, 10, &at("out"));
    assert_eq!(beyond.code, Some(1), "{beyond:?}");
    assert!(
        beyond.stderr.contains("the last one in it is 9"),
        "{beyond:?}"
    );
    // One backup is enough where its log reaches back to the beginning.
    let one = restore_to(&[&whole], 2, &at("out"));
    assert_eq!(one.code, Some(0), "{one:?}");
    assert_eq!(one.json()["block"]["hash"], blocks[2]["hash"]);
    let out_of_order = restore_to(&[&whole, &third], 9, &at("out-2"));
    assert_eq!(out_of_order.code, Some(1), "{out_of_order:?}");
    assert!(
        out_of_order.stderr.contains("3.changes.zst"),
        "{out_of_order:?}"
    );
}

#[test]
fn a_log_that_makes_another_block_than_the_one_recorded_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let node = start(16, &at("node"), &["--init"]);
    node.done("vaults create accounts");
    for colour in ["blue", "red"] {
        node.done(&format!("put 1 colour {colour}"));
    }
    let copy = at("copy.folio");
    node.done(&format!("backup {}", text(&copy)));
    drop(node);
    let restored = restore_to(&[&copy], 1, &at("as it was"));
    assert_eq!(restored.code, Some(0), "{restored:?}");

    // Another value of the same length in the log, under right checksums.
    let database = Database::open(&copy).unwrap();
    let txn = database.begin_write().unwrap();
    let mut log = txn.table::<Log>().unwrap();
    let entries = log.iter().unwrap().map(Result::unwrap);
    let holds = |bytes: &[u8]| bytes.windows(4).position(|word| word == b"blue");
    let mut found: Vec<_> = entries
        .filter_map(|(index, bytes)| Some((index, holds(&bytes)?, bytes)))
        .collect();
    let [(index, place, bytes)] = &mut found[..] else {
        panic!("{found:?}");
    };
    bytes[*place..*place + 4].copy_from_slice(b"grey");
    log.insert(*index, bytes.as_slice()).unwrap();
    drop(log);
    txn.commit().unwrap();
    database.close().unwrap();
    let refused = restore_to(&[&copy], 1, &at("out"));
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("folio replay"), "{refused:?}");
    assert_eq!(std::fs::read_dir(at("out")).unwrap().count(), 0);
}

#[test]
fn heights_that_no_log_covers_are_refused_with_those_that_are_covered() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let forgetful = [
        "--init",
        "--raft-snapshot-after-entries",
        "4",
        "--raft-log-entries-kept",
        "0",
    ];
    let node = start(15, &at("node"), &forgetful);
    node.done("vaults create accounts");
    let purged = || {
        let status: Value = serde_json::from_str(&node.done("status --format json")).unwrap();
        status[0]["status"]["purged"].as_u64().unwrap_or(0)
    };
    // Until the log does not reach back to the entry before.
    let write_until = |gone: u64| {
        while purged() < gone {
            node.done("put 1 key value");
        }
    };
    let height = || -> u64 {
        let vaults: Value = serde_json::from_str(&node.done("vaults --format json")).unwrap();
        vaults[0]["height"].as_u64().unwrap()
    };
    write_until(8);
    let (whole, later) = (at("whole.folio"), at("later.changes"));
    node.done(&format!("backup {}", text(&whole)));
    let first = height();
    write_until(purged() + 20);
    node.done(&format!("backup {} --since {}", text(&later), text(&whole)));
    let last = height();
    drop(node);

    let before = restore_to(&[&whole, &later], 1, &at("out"));
    assert_eq!(before.code, Some(1), "{before:?}");
    assert!(
        before.stderr.contains(&format!("from height {first} on")),
        "{before:?}"
    );
    let between = restore_to(&[&whole, &later], first + 1, &at("out"));
    assert_eq!(between.code, Some(1), "{between:?}");
    for reachable in [
        format!("at height {first}"),
        format!("from height {last} on"),
    ] {
        assert!(
            between.stderr.contains(&reachable),
            "{reachable}: {between:?}"
        );
    }
    for reachable in [first, last] {
        let restored = restore_to(
            &[&whole, &later],
            reachable,
            &at(&format!("out-{reachable}")),
        );
        assert_eq!(restored.code, Some(0), "{restored:?}");
    }
}
