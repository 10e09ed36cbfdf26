//! `folio clients`, and a node that knows its clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::served::{FOLIO, Served, alone};
use common::{Run, folio, text};

fn clients<'a>(command: &'a str, file: &'a Path, more: &[&'a str]) -> Run {
    folio([&["clients", command, text(file)], more].concat())
}

fn ask(node: &Served, token: &str, method: &str, path: &str) -> String {
    node.send(&format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

#[test]
fn a_client_that_is_added_is_let_in_with_its_token_until_it_is_taken_out() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("clients");
    let added = clients("add", &file, &["ana", "--admin", "all"]);
    assert_eq!(added.code, Some(0), "{added:?}");
    let token = added.stdout.trim();
    assert!(token.starts_with("folio_"), "{added:?}");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(!kept.contains(token), "{kept}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let data = directory.path().join("node.folio");
    let with_clients = ["--clients", text(&file)];
    let node = Served::start([&alone(&data)[..], &with_clients].concat());
    assert!(ask(&node, token, "GET", "/v1/status").starts_with("HTTP/1.1 200"));
    let refused = node.send("GET /v1/status HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");

    // The tool's own commands, too.
    let url = format!("http://{}", node.address);
    let token_file = directory.path().join("ana.token");
    std::fs::write(&token_file, &added.stdout).unwrap();
    let verify = |more: &[&str]| folio([&["verify", "--node", &url], more].concat());
    let verified = verify(&["--token-file", text(&token_file)]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let nobody = verify(&[]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.stderr.contains("--token-file"), "{nobody:?}");

    let shop = clients("add", &file, &["shop", "--read", "all", "--write", "2,1"]);
    let shop = shop.stdout.trim();
    // The node looks at the file every second.
    while ask(&node, shop, "GET", "/v1/vaults").starts_with("HTTP/1.1 401") {}
    assert!(ask(&node, shop, "POST", "/v1/rebuild").starts_with("HTTP/1.1 403"));
    let listed = clients("list", &file, &["--format", "json"]).json();
    let roles: Vec<_> = (0..2)
        .map(|n| listed["clients"][n]["roles"].as_str())
        .collect();
    assert_eq!(roles, [Some("admin=all"), Some("read=all write=1,2")]);

    let removed = clients("remove", &file, &["ana"]);
    assert_eq!(removed.code, Some(0), "{removed:?}");
    // The node looks at the file every second.
    while !ask(&node, token, "GET", "/v1/status").starts_with("HTTP/1.1 401") {}
    assert!(!ask(&node, shop, "GET", "/v1/vaults").starts_with("HTTP/1.1 40"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_is_out_although_the_node_could_not_read_the_file_at_first() {
    use rustix::process::{Resource, getrlimit};
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("clients");
    let added = clients("add", &file, &["ana", "--admin", "all"]);
    let token = added.stdout.trim();
    let data = directory.path().join("node.folio");
    let node = Command::new(FOLIO)
        .arg("serve")
        .args(alone(&data))
        .args(["--clients", text(&file)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut node = Served::of(node.unwrap());
    let mut log = BufReader::new(node.process.stderr.take().unwrap()).lines();

    node.limit(Resource::Nofile, Some(0));
    clients("remove", &file, &["ana"]);
    let kept = |line: std::io::Result<String>| line.unwrap().contains("from before are kept");
    assert!(log.any(kept));
    node.limit(Resource::Nofile, getrlimit(Resource::Nofile).current);
    while !ask(&node, token, "GET", "/v1/status").starts_with("HTTP/1.1 401") {}
}

#[test]
fn a_node_whose_log_nobody_reads_any_more_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("clients");
    clients("add", &file, &["ana", "--monitor"]);
    let data = directory.path().join("node.folio");
    let node = Command::new(FOLIO)
        .arg("serve")
        .args(alone(&data))
        .args(["--clients", text(&file), "--log", "debug"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut node = Served::of(node.unwrap());
    drop(node.process.stderr.take());
    for name in ["bob", "eve"] {
        let added = clients("add", &file, &[name, "--monitor"]);
        let token = added.stdout.trim();
        while !ask(&node, token, "GET", "/v1/status").starts_with("HTTP/1.1 200") {
            assert!(node.process.try_wait().unwrap().is_none());
        }
    }
    node.terminate();
    assert_eq!(node.process.wait().unwrap().code(), Some(0));
}

#[test]
fn what_a_node_would_not_take_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("clients");
    for wrong in [
        &["Ana", "--monitor"][..],
        &["a b", "--monitor"],
        &["a", "--read", "0"],
        &["a", "--read", "*"],
        &["a"],
    ] {
        let refused = clients("add", &file, wrong);
        assert_ne!(refused.code, Some(0), "{refused:?}");
        assert_eq!(refused.stdout, "");
        assert!(!file.exists(), "{wrong:?}");
    }
    std::fs::write(&file, "# mine\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(clients("add", &file, &["ana", "--monitor"]).code, Some(0));
    let twice = clients("add", &file, &["ana", "--monitor"]);
    assert!(
        twice.code == Some(1) && twice.stderr.contains("named twice"),
        "{twice:?}"
    );
    let nobody = clients("remove", &file, &["bob"]);
    assert!(
        nobody.code == Some(1) && nobody.stderr.contains("no client"),
        "{nobody:?}"
    );
    assert_eq!(clients("remove", &file, &["ana"]).code, Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine\n");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_node_whose_file_of_clients_is_wrong_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("clients");
    let data = directory.path().join("node.folio");
    let start = || {
        let arguments = [&["serve"], &alone(&data)[..], &["--clients", text(&file)]];
        folio(arguments.concat())
    };
    let missing = start();
    assert!(
        missing.code == Some(1) && missing.stderr.contains("clients"),
        "{missing:?}"
    );
    std::fs::write(&file, "# nobody\nana sha256:12 admin=all\n").unwrap();
    let wrong = start();
    assert!(
        wrong.code == Some(1) && wrong.stderr.contains("line 2"),
        "{wrong:?}"
    );
}
