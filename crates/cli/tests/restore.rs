//! A new cluster from a copy of a node of another one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};

use common::served::{Served, Three, host};
use common::{Run, folio, text};
use serde_json::Value;

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

fn run(node: &Served, command: &str) -> Run {
    let url = format!("http://{}", node.address);
    let arguments = command.split_whitespace().map(str::to_owned);
    folio(arguments.chain(["--node".to_owned(), url]))
}

fn done(node: &Served, command: &str) -> String {
    let run = run(node, command);
    assert_eq!(run.code, Some(0), "{command}: {run:?}");
    run.stdout
}

/// A node on an address of its own: tests run beside each other.
fn start(number: u64, data: &Path, more: &[&str]) -> Served {
    let host = host(number);
    let (api, peers) = (format!("{host}:7001"), format!("{host}:7101"));
    let arguments = [
        "--data",
        text(data),
        "--listen",
        &api,
        "--peer-listen",
        &peers,
    ];
    Served::start(arguments.iter().chain(more))
}

fn members(node: &Served) -> Vec<u64> {
    let members: Value = serde_json::from_str(&done(node, "members --format json")).unwrap();
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
        done(node, &format!("put 1 key-{n} value-{n}"));
    }
    let stale = done(node, "members invite");
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
        assert_eq!(done(&new, &format!("get 1 key-{n}")), format!("value-{n}"));
    }
    done(&new, "put 1 only new");
    done(&three.nodes[&leader], "put 1 only old");
    assert_eq!(done(&new, "get 1 only"), "new");
    assert_eq!(done(&three.nodes[&leader], "get 1 only"), "old");
    assert_eq!(members(&new), [4]);

    // An invitation of the old cluster is none of the new one, which invites others itself.
    let asked = new.post(
        "/v1/join",
        &format!(r#"{{"invitation": "{}"}}"#, stale.trim()),
    );
    assert!(asked.starts_with("HTTP/1.1 403"), "{asked}");
    let invitation = done(&new, "members invite");
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
    assert_eq!(done(&second, "get 1 only"), "new");
    drop(new);
    let _new = start(9, &data, &[]);
    assert_eq!(done(&second, "get 1 only"), "new");
    three.nodes.clear();
}

#[test]
fn a_restored_node_cannot_be_started_as_the_one_it_is_a_copy_of() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let data = at("first");
    let node = start(11, &data, &["--init"]);
    done(&node, "vaults create accounts");
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
    assert!(done(&again, "vaults").contains("accounts"));
}

#[test]
fn what_cannot_be_restored_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let node = start(12, &at("node"), &["--init"]);
    done(&node, "vaults create accounts");
    drop(node);
    let file = at("node").join("node.folio");

    let occupied = restore(&file, &at("node"));
    assert_eq!(occupied.code, Some(1), "{occupied:?}");
    assert!(occupied.stderr.contains("is not empty"), "{occupied:?}");
    let missing = restore(&at("nothing"), &at("out"));
    assert_eq!(missing.code, Some(1), "{missing:?}");

    let mut bytes = std::fs::read(&file).unwrap();
    let damaged = at("damaged");
    for page in bytes.chunks_mut(4096).skip(8) {
        page[100] ^= 1;
    }
    std::fs::write(&damaged, bytes).unwrap();
    let refused = restore(&damaged, &at("out"));
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(!at("out").join("node.folio").exists());
}
