//! Beginning a cluster, and becoming a member of one, with processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use common::served::{Served, host};
use common::{Run, folio, text};
use serde_json::Value;

/// A cluster whose nodes keep what they have in directories.
struct Cluster {
    directory: tempfile::TempDir,
    /// Its nodes have the addresses after this one.
    base: u64,
}

/// How many clusters this process has made.
static CLUSTERS: AtomicU64 = AtomicU64::new(0);

impl Cluster {
    fn new() -> Self {
        Cluster {
            directory: tempfile::tempdir().unwrap(),
            base: 16 * CLUSTERS.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn host(&self, node: u64) -> String {
        host(self.base + node)
    }

    fn data(&self, node: u64) -> PathBuf {
        self.directory.path().join(format!("node-{node}"))
    }

    fn invitation(&self) -> PathBuf {
        self.data(1).join("invitation")
    }

    /// What the first start of a node says, where it listens included.
    fn arguments(&self, node: u64, more: &[&str]) -> Vec<String> {
        let host = self.host(node);
        let data = self.data(node);
        let listen = [format!("{host}:7001"), format!("{host}:7101")];
        let arguments = [
            "--data",
            text(&data),
            "--listen",
            &listen[0],
            "--peer-listen",
            &listen[1],
        ];
        arguments
            .iter()
            .chain(more)
            .map(ToString::to_string)
            .collect()
    }

    fn begin(&self) -> Served {
        Served::start(self.arguments(1, &["--init"]))
    }

    fn join(&self, node: u64) -> Served {
        Served::start(self.arguments(node, &["--join", text(&self.invitation())]))
    }

    /// A run that is to end by itself.
    fn refused(&self, node: u64, more: &[&str]) -> Run {
        let arguments = self.arguments(node, more);
        let run = folio(std::iter::once("serve".to_owned()).chain(arguments));
        assert!(!run.stdout.contains("serves"), "{run:?}");
        run
    }
}

fn get(node: &Served, path: &str) -> Value {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    body(&node.send(&request))
}

fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn ids(node: &Served) -> Vec<(u64, bool)> {
    let members = get(node, "/v1/members");
    let member = |member: &Value| {
        (
            member["id"].as_u64().unwrap(),
            member["votes"].as_bool().unwrap(),
        )
    };
    members["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(member)
        .collect()
}

/// Writes a vault through any of the nodes, which sends its clients to the leader.
fn write(node: &Served) {
    loop {
        let answer = node.post("/v1/vaults", r#"{"name": "any"}"#);
        if answer.starts_with("HTTP/1.1 201") {
            return;
        }
        if let Some(line) = answer.lines().find(|line| line.starts_with("location: ")) {
            let address = line.trim_start_matches("location: http://");
            let (address, _) = address.split_once('/').unwrap();
            assert!(address.ends_with(":7001"), "{answer}");
            return;
        }
        assert!(answer.contains("no_leader"), "{answer}");
        std::thread::yield_now();
    }
}

#[test]
fn three_commands_form_a_cluster_and_a_directory_each_is_enough_to_start_it_again() {
    let cluster = Cluster::new();
    let nodes = [cluster.begin(), cluster.join(2), cluster.join(3)];
    for node in &nodes {
        assert_eq!(ids(node), [(1, true), (2, true), (3, true)]);
        write(node);
    }
    drop(nodes);
    // The invitation is of no use any more, and of no need.
    std::fs::write(cluster.invitation(), "gone").unwrap();
    let nodes: Vec<_> = (1..=3)
        .map(|node| Served::start(["--data", text(&cluster.data(node))]))
        .collect();
    nodes.iter().for_each(write);
    drop(nodes);
    // The commands of the first time are right as well: a unit or a container has only one.
    let nodes = [cluster.begin(), cluster.join(2), cluster.join(3)];
    nodes.iter().for_each(write);
    assert_eq!(ids(&nodes[0]), [(1, true), (2, true), (3, true)]);
}

#[test]
fn nodes_that_join_at_once_get_different_ids() {
    let cluster = Cluster::new();
    let first = cluster.begin();
    let mut joining: Vec<_> = std::thread::scope(|scope| {
        let joins = (2..=4).map(|node| {
            scope.spawn({
                let cluster = &cluster;
                move || cluster.join(node)
            })
        });
        let joins: Vec<_> = joins.collect();
        joins.into_iter().map(|join| join.join().unwrap()).collect()
    });
    assert_eq!(ids(&first), [(1, true), (2, true), (3, true), (4, true)]);
    joining.push(first);
}

#[test]
fn an_id_is_not_given_a_second_time() {
    let cluster = Cluster::new();
    let first = cluster.begin();
    let second = cluster.join(2);
    let by_hand = format!(
        r#"{{"id": 7, "address": "{}:7101", "votes": false}}"#,
        host(7)
    );
    let added = first.post("/v1/members", &by_hand);
    assert!(added.starts_with("HTTP/1.1 20"), "{added}");
    for id in [7, 2] {
        let request =
            format!("DELETE /v1/members/{id} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        let removed = first.send(&request);
        assert!(removed.starts_with("HTTP/1.1 200"), "{removed}");
    }
    drop(second);
    assert_eq!(ids(&first), [(1, true)]);
    let _third = cluster.join(3);
    assert_eq!(ids(&first), [(1, true), (8, true)]);
}

#[test]
fn whoever_is_not_invited_is_told_so_and_no_member() {
    let cluster = Cluster::new();
    let first = cluster.begin();
    let other = Cluster::new();
    let invitation = std::fs::read_to_string(cluster.invitation()).unwrap();
    let (said, code) = invitation.trim().rsplit_once('.').unwrap();
    let other_start = if code.starts_with('A') { "B" } else { "A" };
    let altered = format!("{said}.{other_start}{}", &code[1..]);
    let nobody = other.directory.path().join("nobody");
    for (given, exit, word) in [
        (&altered[..], 1, "not one of this cluster"),
        ("folio-join.", 2, "copy all of"),
        (text(&nobody), 2, "cannot be read"),
        (said, 2, "copy all of"),
    ] {
        let refused = other.refused(2, &["--join", given]);
        assert_eq!(refused.code, Some(exit), "{given}: {refused:?}");
        assert!(refused.stderr.contains(word), "{refused:?}");
        assert!(
            !refused.stderr.contains(code),
            "it is a secret: {refused:?}"
        );
        assert!(!other.data(2).join("node.folio").exists());
    }
    for (more, word) in [
        (
            &["--join", "folio-join.x", "--init"][..],
            "cannot be used with",
        ),
        (
            &["--join", invitation.trim(), "--tls", "certificates"],
            "leave out --tls",
        ),
    ] {
        let refused = other.refused(2, more);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(word), "{refused:?}");
    }
    let without_data = folio(["serve", "--file", "x", "--join", invitation.trim()]);
    assert!(
        without_data.stderr.contains("name one with --data"),
        "{without_data:?}"
    );
    let nothing = other.refused(2, &[]);
    assert!(
        nothing.stderr.contains("begin a cluster with --init"),
        "{nothing:?}"
    );
    assert_eq!(ids(&first), [(1, true)]);
    for (path, body, status) in [
        ("/v1/join", r#"{"invitation": "x"}"#.to_owned(), 403),
        (
            "/v1/join/2",
            format!(r#"{{"invitation": "{altered}", "address": "a:1"}}"#),
            403,
        ),
        (
            "/v1/join/2",
            format!(
                r#"{{"invitation": "{}", "address": "a:1,b:2"}}"#,
                invitation.trim()
            ),
            400,
        ),
        ("/v1/invitations", r#"{"hours": 0}"#.to_owned(), 400),
        ("/v1/invitations", r#"{"hours": 999}"#.to_owned(), 400),
        ("/v1/invitations", r#"{"hours": 1}"#.to_owned(), 201),
    ] {
        let answer = first.post(path, &body);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path} {body}: {answer}"
        );
    }
}

#[test]
fn a_node_that_was_killed_while_it_joined_goes_on_under_its_id() {
    let cluster = Cluster::new();
    let mut first = cluster.begin();
    let invitation = std::fs::read_to_string(cluster.invitation()).unwrap();
    // An id is given, and then nobody is there to make the node a member.
    let welcome = first.post(
        "/v1/join",
        &format!(r#"{{"invitation": "{}"}}"#, invitation.trim()),
    );
    assert_eq!(body(&welcome)["id"], 2, "{welcome}");
    let data = cluster.data(2);
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("folio.toml"), "id = 2\ncluster = \"folio\"\n").unwrap();
    first.process.kill().unwrap();
    first.process.wait().unwrap();
    let second = std::thread::scope(|scope| {
        let joining = scope.spawn(|| cluster.join(2));
        first = Served::start(["--data", text(&cluster.data(1))]);
        joining.join().unwrap()
    });
    assert_eq!(ids(&second), [(1, true), (2, true)]);
}

#[test]
fn a_node_joins_a_cluster_that_speaks_tls_with_a_certificate_of_its_own() {
    let cluster = Cluster::new();
    let certificates = cluster.directory.path().join("certificates");
    let made = folio(["cert", "authority", text(&certificates)]);
    assert_eq!(made.code, Some(0), "{made:?}");
    for id in ["1", "2"] {
        let address = cluster.host(id.parse().unwrap());
        let made = folio([
            "cert",
            "node",
            text(&certificates),
            "--id",
            id,
            "--host",
            &address,
        ]);
        assert_eq!(made.code, Some(0), "{made:?}");
    }
    let tls = ["--tls", text(&certificates)];
    let _first = Served::start(cluster.arguments(1, &[&tls[..], &["--init"]].concat()));
    let invitation = cluster.invitation();
    let join = ["--join", text(&invitation)];
    let without = cluster.refused(2, &join);
    assert!(without.stderr.contains("folio cert node"), "{without:?}");
    let second = cluster.arguments(2, &[&tls[..], &join, &["--id", "2"]].concat());
    let second = Served::start(second);
    let authority = certificates.join("authority.pem");
    let url = format!("https://{}", second.address);
    let verified = folio(["verify", "--node", &url, "--ca", text(&authority)]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

/// The three commands of the README are taken as they stand there.
#[test]
fn the_commands_of_the_readme_are_ones_that_the_tool_takes() {
    let readme = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"));
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, cluster) = readme.split_once("## Run a cluster").unwrap();
    let commands = cluster
        .lines()
        .filter_map(|line| line.strip_prefix("folio "));
    let mut joins = 0;
    for command in commands {
        let command = command.split(['#', '>']).next().unwrap();
        let arguments = command.split_whitespace().chain(["--help"]);
        let run = folio(arguments);
        assert_eq!(run.code, Some(0), "{command}: {run:?}");
        joins += u32::from(command.contains("--join"));
    }
    assert_eq!(joins, 2);
}
