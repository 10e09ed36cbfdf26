//! `folio demo` as a program sees it.

mod common;

use common::{folio, text, write_purchases};
use serde_json::json;

#[test]
fn the_demo_loads_everything_through_the_failure_of_a_leader() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, keep) = (
        directory.path().join("purchases.csv"),
        directory.path().join("keep"),
    );
    write_purchases(&data, 300, 40);
    let run = folio([
        "demo",
        "--data",
        text(&data),
        "--keep",
        text(&keep),
        "--format",
        "json",
    ]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.stderr, "", "a program gets JSON and nothing else");
    let report = run.json();
    let sum: u64 = (1..=300).sum();
    for (member, expected) in [
        ("purchases", 300),
        ("customers", 40),
        ("discs", sum),
        ("cents", 10 * sum),
    ] {
        assert_eq!(report[member], expected, "{member}: {report}");
    }
    assert!(
        report["failover_ms"].as_u64().is_some_and(|ms| ms > 0),
        "{report}"
    );
    assert!(
        report["entries"]
            .as_u64()
            .is_some_and(|entries| entries > 0),
        "{report}"
    );
    assert!(
        report["fdatasyncs"].as_u64() >= report["durable_commits"].as_u64(),
        "{report}"
    );

    let nodes = report["nodes"].as_array().expect("a list of nodes");
    assert_eq!(
        nodes.iter().map(|node| &node["id"]).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    for node in nodes {
        for same in ["height", "state_root", "block_hash"] {
            assert_eq!(node[same], nodes[0][same], "{report}");
        }
        let file = node["file"].as_str().expect("a path");
        let verified = folio(["verify", file, "--format", "json"]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
        let vault = &verified.json()["vaults"][0];
        assert_eq!(
            (&vault["height"], &vault["state_root"]),
            (&node["height"], &node["state_root"])
        );
        assert_eq!(
            (&vault["transactions"], &vault["entities"]),
            (&json!(300), &json!(340))
        );

        let stat = folio(["stat", file, "--format", "json"]);
        assert_eq!(stat.code, Some(0), "{stat:?}");
        let stat = stat.json();
        assert_eq!(
            (&stat["raft"]["node"], &stat["vaults"][0]["height"]),
            (&node["id"], &node["height"])
        );
        // Whoever leads when the nodes stop gives its leadership away, and a new leader adds an entry.
        assert!(
            stat["raft"]["applied"].as_u64() >= report["entries"].as_u64(),
            "{stat} {report}"
        );
        assert_eq!(
            stat["raft"]["voters"].as_object().map(serde_json::Map::len),
            Some(3)
        );
    }

    let again = folio(["demo", "--data", text(&data), "--keep", text(&keep)]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(
        again.stderr.contains("a file of an earlier run"),
        "{again:?}"
    );
}

#[test]
fn a_single_purchase_outlives_the_leader_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("purchases.csv");
    write_purchases(&data, 1, 1);
    let keep = directory.path().join("keep");
    let run = folio([
        "demo",
        "--data",
        text(&data),
        "--keep",
        text(&keep),
        "--format",
        "json",
    ]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.json()["cents"], 10);
    assert!(run.json()["failover_ms"].is_u64(), "{run:?}");
}

#[test]
fn one_node_has_nobody_to_fail_over_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("purchases.csv");
    write_purchases(&data, 20, 3);
    let keep = directory.path().join("keep");
    let run = folio([
        "demo",
        "--data",
        text(&data),
        "--keep",
        text(&keep),
        "--nodes",
        "1",
    ]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("the leader is not stopped"), "{run:?}");
    assert!(
        run.stdout.contains("folio verify "),
        "it says how to look: {run:?}"
    );
}

#[test]
fn a_bad_row_is_named_and_nothing_is_loaded() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, keep) = (
        directory.path().join("purchases.csv"),
        directory.path().join("keep"),
    );
    std::fs::write(
        &data,
        "date,customer,discs,cents\n1997-01-01,1,1,1\n1997-02-30,1,1,1\n",
    )
    .expect("writable");
    let run = folio(["demo", "--data", text(&data), "--keep", text(&keep)]);
    assert_eq!((run.code, &run.stdout[..]), (Some(1), ""));
    let expected = format!(
        "{}:3: \"1997-02-30\" is not a day of the calendar; nothing was loaded",
        data.display()
    );
    assert!(run.stderr.contains(&expected), "{run:?}");
    assert!(!keep.exists(), "no node was started");
}

#[test]
fn wrong_usage_has_an_exit_code_of_its_own() {
    for arguments in [
        &["demo", "--nodes", "0"][..],
        &["demo", "--format", "xml"],
        &["verify"],
        &["fly"],
        &[],
    ] {
        assert_eq!(folio(arguments).code, Some(2), "{arguments:?}");
    }
}
