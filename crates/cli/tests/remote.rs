//! The commands that ask a running cluster.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::served::Served;
use common::{Run, folio, text};
use serde_json::Value;

/// A node alone, and commands that ask it.
struct Node {
    served: Served,
    _directory: tempfile::TempDir,
}

impl Node {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("node");
        let listen = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
        let served = Served::start(["--data", text(&data), "--init"].iter().chain(&listen));
        Node {
            served,
            _directory: directory,
        }
    }

    fn run(&self, command: &str) -> Run {
        let url = format!("http://{}", self.served.address);
        let arguments = command.split_whitespace().map(str::to_owned);
        folio(arguments.chain(["--node".to_owned(), url]))
    }

    fn done(&self, command: &str) -> String {
        let run = self.run(command);
        assert_eq!(run.code, Some(0), "{command}: {run:?}");
        run.stdout
    }

    fn json(&self, command: &str) -> Value {
        let text = self.done(&format!("{command} --format json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

#[test]
fn a_vault_is_made_filled_read_watched_and_deleted() {
    let node = Node::start();
    assert_eq!(node.done("vaults create accounts --retention 5"), "1\n");
    assert!(
        node.done("put 1 colour blue")
            .contains("block 1: entity created")
    );
    assert_eq!(
        node.done("get 1 colour"),
        "blue",
        "on no terminal not a byte more"
    );
    assert!(
        node.done("put 1 colour green --if-version 1")
            .contains("block 2: entity updated")
    );
    assert_eq!(node.done("get 1 colour --height 1"), "blue");
    let found = node.json("get 1 colour");
    assert_eq!(
        (&found["value"], &found["version"]),
        (&"green".into(), &2.into())
    );
    node.done("put 1 shape round");
    let listed = node.done("list 1 sh");
    assert!(
        listed.contains("round") && !listed.contains("green"),
        "{listed}"
    );
    assert_eq!(node.json("list 1 --limit 1").as_array().unwrap().len(), 1);
    assert!(node.done("delete 1 shape").contains("entity deleted"));

    let seen = node.done("watch 1 --from 1 --blocks 4 --format json");
    let seen: Vec<Value> = seen
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        seen.len(),
        8,
        "a transaction and a block, four times: {seen:?}"
    );
    let vaults = node.json("vaults");
    assert_eq!(
        (&vaults[0]["name"], &vaults[0]["height"]),
        (&"accounts".into(), &4.into())
    );
    assert!(node.done("vaults").contains("accounts"));
    assert_eq!(node.done("vaults delete 1"), "deleted vault 1\n");
}

#[test]
fn what_is_refused_says_why_and_with_which_code() {
    let node = Node::start();
    node.done("vaults create first");
    node.done("put 1 colour blue");
    for (command, code, said) in [
        (
            "get 1 nothing",
            1,
            "there is no entity `nothing` in vault 1",
        ),
        ("get 7 colour", 1, "no vault 7"),
        ("put 1 colour red --if-absent", 1, "condition"),
        ("put 1 colour red --if-version 9", 1, "condition"),
        ("members remove 9", 1, "node 9"),
        ("members promote 9", 1, "node 9 is no member"),
        ("members add 2 nowhere", 1, "HOST:PORT"),
        ("members invite --hours 0", 2, "hours"),
        ("list", 2, "VAULT"),
        ("bench --for ten", 2, "write a whole number and its unit"),
        ("get 1 colour --ca /nonexistent", 2, "/nonexistent"),
    ] {
        let run = node.run(command);
        assert_eq!(run.code, Some(code), "{command}: {run:?}");
        assert!(run.stderr.contains(said), "{command}: {run:?}");
        assert!(run.stdout.is_empty(), "{command}: {run:?}");
    }
    assert_eq!(node.done("get 1 colour"), "blue");
    // Nobody listens there.
    let silent = folio(["status", "--node", "http://127.0.0.1:9", "--timeout", "1s"]);
    assert_eq!(silent.code, Some(4), "{silent:?}");
}

#[test]
fn a_cluster_shows_its_members_and_those_that_are_silent() {
    let node = Node::start();
    let status = node.done("status");
    assert!(
        status.contains("leader") && status.contains("serves"),
        "{status}"
    );
    assert_eq!(node.json("status")[0]["status"]["role"], "leader");
    let members = node.json("members");
    assert_eq!(members["members"][0]["api"], node.served.address.as_str());
    assert!(node.done("members invite").starts_with("folio-join."));
    node.done("members add 7 127.0.0.1:9 --api 127.0.0.1:9 --learner");
    let list = node.done("members list");
    assert!(list.contains("learns") && list.contains("leads"), "{list}");
    let status = node.run("status --timeout 1s");
    assert_eq!(status.code, Some(4), "{status:?}");
    assert!(status.stdout.contains("does not answer"), "{status:?}");
    assert_eq!(node.done("members remove 7"), "done\n");
    node.done("status");
}

#[test]
fn a_load_is_measured_and_leaves_nothing_behind() {
    let node = Node::start();
    for load in ["write", "read", "local", "mixed"] {
        let report = node.json(&format!("bench {load} --clients 2 --for 100ms"));
        let requests = report["requests"].as_u64().unwrap();
        let counted: u64 = report["latency"]["histogram"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step[1].as_u64().unwrap())
            .sum();
        assert!(requests > 0);
        assert_eq!(
            counted, requests,
            "every request is in the histogram: {report}"
        );
    }
    assert!(
        node.done("bench --clients 1 --for 50ms")
            .contains("99 of 100")
    );
    assert_eq!(node.json("vaults").as_array().unwrap().len(), 0);
}

#[test]
fn a_file_gets_as_short_as_what_is_in_it() {
    let mut node = Node::start();
    node.done("vaults create first");
    node.served.terminate();
    node.served.process.wait().unwrap();
    let file = node._directory.path().join("node").join("node.folio");
    let before = std::fs::metadata(&file).unwrap().len();
    let compacted = folio(["compact", text(&file)]);
    assert_eq!(compacted.code, Some(0), "{compacted:?}");
    assert!(std::fs::metadata(&file).unwrap().len() <= before);
    let verified = folio(["verify", text(&file)]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn every_command_has_a_page_an_example_and_a_completion() {
    let directory = tempfile::tempdir().unwrap();
    let made = folio(["man", text(directory.path())]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let help = folio(["--help"]).stdout;
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands: Vec<_> = commands
        .lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| {
            line.strip_prefix("  ")?
                .split(' ')
                .next()
                .filter(|name| !name.is_empty())
        })
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    let completions = folio(["completions", "bash"]).stdout;
    for command in commands {
        let page = directory.path().join(format!("folio-{command}.1"));
        let page =
            std::fs::read_to_string(page).unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
        assert!(
            completions.contains(&format!("folio__{}", command)) || completions.contains(command)
        );
        let help = folio([command, "--help"]);
        let has_example = help.stdout.contains("Example") || ["apply"].contains(&command);
        assert!(has_example, "{command} --help has no example");
    }
}
