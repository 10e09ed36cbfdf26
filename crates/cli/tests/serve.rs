//! `folio serve` as a process.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use common::served::{Served, alone};
use common::{folio, text};

fn serve(file: &Path) -> Served {
    Served::start(alone(file))
}

#[test]
fn a_killed_node_has_kept_what_it_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.folio");
    let mut served = serve(&file);
    served.create_vault();
    for n in 0..50 {
        let body = format!(r#"{{"operations": [{{"set": {{"key": "k{n}", "value": "v"}}}}]}}"#);
        let answer = served.post("/v1/vaults/1/transactions", &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let beside = folio(["verify", text(&file)]);
    assert_eq!(beside.code, Some(0), "{beside:?}");
    served.process.kill().expect("it runs");
    served.process.wait().expect("it ran");
    let verified = folio(["verify", text(&file)]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(
        verified
            .stdout
            .contains("which the node applies when it starts"),
        "{verified:?}"
    );

    let served = serve(&file);
    served.create_vault();
    let answer = served.send("GET /v1/vaults/1/entities?prefix=k&limit=100 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.matches(r#""version":1"#).count(), 50, "{answer}");
}

/// Lets the other thread end when a test fails, too.
struct SetWhenDropped<'f>(&'f AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_file_of_a_running_node_is_verified_described_dumped_and_copied() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let file = at("node.folio");
    let served = serve(&file);
    served.create_vault();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0u64.. {
                let body =
                    format!(r#"{{"operations": [{{"set": {{"key": "k{n}", "value": "v"}}}}]}}"#);
                let answer = served.post("/v1/vaults/1/transactions", &body);
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let _over = SetWhenDropped(&over);
        for round in 0..5 {
            let verified = folio(["verify", text(&file)]);
            assert_eq!(verified.code, Some(0), "{verified:?}");
            let stat = folio(["stat", text(&file), "--pages"]);
            assert_eq!(stat.code, Some(0), "{stat:?}");
            let dump = at(&format!("dump-{round}"));
            let dumped = folio(["dump", text(&file), "--out", text(&dump)]);
            assert_eq!(dumped.code, Some(0), "{dumped:?}");
            let loaded = folio([
                "load",
                text(&at(&format!("loaded-{round}"))),
                "--from",
                text(&dump),
            ]);
            assert_eq!(loaded.code, Some(0), "{loaded:?}");
            let copy = at(&format!("copy-{round}"));
            let copied = folio(["backup", text(&file), text(&copy)]);
            assert_eq!(copied.code, Some(0), "{copied:?}");
            let verified = folio(["verify", text(&copy)]);
            assert_eq!(verified.code, Some(0), "{verified:?}");
        }
    });
}

#[test]
fn a_signal_ends_a_node_cleanly() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.folio");
    let mut served = serve(&file);
    served.create_vault();
    served.terminate();
    assert_eq!(served.process.wait().expect("it ran").code(), Some(0));
    let stat = folio(["stat", text(&file), "--format", "json"]).json();
    assert_eq!(
        stat["raft"]["applied"], stat["raft"]["last_log"],
        "a clean end leaves nothing to apply again: {stat}"
    );
    assert_eq!(stat["vaults"][0]["name"], "first");
}

#[test]
fn a_node_that_is_told_to_stop_is_not_ready_from_then_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.folio");
    let patient = ["--raft-handover-timeout", "60s"];
    let mut served = Served::start([&alone(&file)[..], &patient].concat());
    served.create_vault();
    let ask = |path: &str| {
        served.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        ))
    };
    assert!(ask("/v1/health/ready").starts_with("HTTP/1.1 200"));
    // A member that cannot be reached is not given a vote, and the leadership not handed over before that is given up.
    let nowhere = r#"{"id": 2, "address": "127.0.0.1:1"}"#;
    let mut change = served.connect();
    let request = Served::request("/v1/members", nowhere);
    change.write_all(request.as_bytes()).expect("it reads");
    while !ask("/v1/members").contains("127.0.0.1:1\"") {}
    // What was proposed before is done then.
    served.create_vault();
    assert!(ask("/v1/status").starts_with("HTTP/1.1 200"));
    served.terminate();
    while !ask("/v1/health/ready").contains("shutting_down") {}
    assert!(ask("/v1/health/live").starts_with("HTTP/1.1 200"));
    assert!(ask("/v1/status").starts_with("HTTP/1.1 200"));
    served.terminate();
    assert_eq!(served.process.wait().expect("it ran").code(), Some(1));
}

#[test]
fn traces_go_where_the_settings_say_until_the_node_has_ended() {
    let collector = TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = format!("http://{}", collector.local_addr().expect("it has one"));
    let (sent, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in collector.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let (mut length, mut line) = (0, String::new());
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).expect("a head");
                let lower = line.to_lowercase();
                if let Some(given) = lower.strip_prefix("content-length:") {
                    length = given.trim().parse().expect("a number");
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("it is whole");
            let body = String::from_utf8_lossy(&body).into_owned();
            // The test may be over.
            let _ = sent.send(body);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.get_mut().write_all(answer).expect("it reads");
        }
    });
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.folio");
    // The filter of the log says nothing of traces.
    let traced = ["--otlp-endpoint", &place, "--log", "off"];
    let mut served = Served::start([&alone(&file)[..], &traced].concat());
    served.create_vault();
    served.terminate();
    assert_eq!(served.process.wait().expect("it ran").code(), Some(0));
    // The node has waited for the answer.
    let spans: String = received.try_iter().collect();
    assert!(spans.contains("POST /v1/vaults"), "{spans}");
    assert!(spans.contains("raft write"), "{spans}");
}

#[test]
fn an_address_that_others_can_reach_needs_permission() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.folio");
    for option in ["--listen", "--peer-listen"] {
        let refused = folio([
            "serve",
            "--id",
            "1",
            "--file",
            text(&file),
            option,
            "0.0.0.0:0",
        ]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("--insecure-network"), "{refused:?}");
    }
    assert!(!file.exists(), "nothing was started");
}

#[test]
fn a_file_of_another_node_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.folio");
    drop(serve(&file));
    let other = [
        "serve",
        "--id",
        "2",
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--file",
        text(&file),
    ];
    let refused = folio(other);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("belongs to node 1"), "{refused:?}");
}

#[test]
fn a_running_node_verifies_its_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.folio");
    let mut served = serve(&file);
    served.create_vault();
    let url = format!("http://{}", served.address);
    let verified = folio(["verify", "--node", &url]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(
        verified.stdout.contains("The file is sound."),
        "{verified:?}"
    );
    let report = folio([
        "verify", "--node", &url, "--rate", "500M", "--format", "json",
    ]);
    assert_eq!(report.json()["state"], "sound");

    // One that takes for ever is in the way of a second one until it is stopped.
    let started = served.post("/v1/verification?rate=1", "");
    assert!(started.starts_with("HTTP/1.1 202"), "{started}");
    let second = folio(["verify", "--node", &url]);
    assert_eq!(second.code, Some(4), "{second:?}");
    let stopped =
        served.send("DELETE /v1/verification HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert!(stopped.contains("\"state\":\"stopped\""), "{stopped}");

    // Damage under the running node.
    let bytes = std::fs::read(&file).expect("readable");
    let live = bytes
        .chunks(4096)
        .enumerate()
        .filter(|(_, page)| page[4] == 1 && page[24..28] != [0; 4]);
    for (page, _) in live {
        use std::os::unix::fs::FileExt;
        let raw = std::fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .expect("writable");
        raw.write_all_at(&[0xA5], page as u64 * 4096 + 50)
            .expect("writable");
    }
    let damaged = folio(["verify", "--node", &url]);
    assert_eq!(damaged.code, Some(3), "{damaged:?}");
    assert!(damaged.stdout.contains("checksum"), "{damaged:?}");

    // A verification does not keep a node from ending.
    served.post("/v1/verification?rate=1", "");
    served.terminate();
    served.process.wait().expect("it ran");
    let gone = folio(["verify", "--node", &url]);
    assert_eq!(gone.code, Some(4), "{gone:?}");
}

#[test]
fn a_node_scrubs_its_file_when_it_is_asked_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.folio");
    drop(serve(&file));
    let mut process = Command::new(env!("CARGO_BIN_EXE_folio"))
        .arg("serve")
        .args(alone(&file))
        .args(["--scrub", "900M"])
        .env("FOLIO_LOG", "folio_store=info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built");
    let errors = BufReader::new(process.stderr.take().expect("it is piped"));
    let scrubbed = errors
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("scrubbed"));
    process.kill().expect("it runs");
    process.wait().expect("it ran");
    assert!(scrubbed, "the log does not tell of a pass");
    let meaningless = folio([
        "serve",
        "--id",
        "1",
        "--file",
        text(&file),
        "--scrub-every",
        "3",
    ]);
    assert_eq!(meaningless.code, Some(2), "{meaningless:?}");
}

/// A node with free ports that keeps what it has in `data`.
fn in_directory(data: &Path, more: &[&str]) -> Served {
    Served::start(["--data", text(data)].iter().chain(more))
}

#[test]
fn the_data_directory_is_all_that_a_restart_needs() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("node");
    let certificates = directory.path().join("certificates");
    for arguments in [
        vec!["cert", "authority", text(&certificates)],
        vec!["cert", "node", text(&certificates), "--id", "7"],
    ] {
        let made = folio(arguments);
        assert_eq!(made.code, Some(0), "{made:?}");
    }
    let first = Command::new(env!("CARGO_BIN_EXE_folio"))
        .current_dir(directory.path())
        .env("FOLIO_CLUSTER", "a \"name\"")
        .env("FOLIO_PEER_LISTEN", "127.0.0.1:0")
        .args([
            "serve",
            "--data",
            "node",
            "--init",
            "--id",
            "7",
            "--tls",
            "certificates",
        ])
        .args(["--listen", "127.0.0.1:0", "--raft-queue-limit", "99"])
        .stdout(Stdio::piped())
        .spawn();
    let mut first = Served::of(first.expect("the binary was built"));
    first.process.kill().expect("it runs");
    first.process.wait().expect("it ran");

    let remembered = std::fs::read_to_string(data.join("folio.toml")).expect("it is there");
    let tls = format!("tls = \"{}\"", text(&certificates));
    for line in [
        "id = 7",
        "[raft]\nqueue-limit = 99",
        r#"cluster = "a \"name\"""#,
        &tls,
    ] {
        assert!(remembered.contains(line), "{remembered}");
    }
    let again = in_directory(&data, &[]);
    let url = format!("https://{}", again.address);
    let authority = certificates.join("authority.pem");
    let verified = folio(["verify", "--node", &url, "--ca", text(&authority)]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let other = folio(["serve", "--data", text(&data), "--id", "8"]);
    assert_eq!(other.code, Some(1), "it is node 7: {other:?}");
}

#[test]
fn flags_go_before_the_environment_that_before_a_file_and_that_before_what_is_remembered() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("node");
    std::fs::create_dir(&data).expect("it is writable");
    let file = directory.path().join("settings.toml");
    let layers = [
        (
            &data.join("folio.toml"),
            "id = 1\ncluster = 'remembered'\nlisten = 'remembered'\npeer-listen = 'remembered'\nfile = 'remembered'\n",
        ),
        (
            &file,
            "cluster = 'file'\nlisten = 'file'\npeer-listen = 'file'\n",
        ),
    ];
    for (path, settings) in layers {
        std::fs::write(path, settings).expect("it is writable");
    }
    // What is wrong with an address names it.
    let run = |variables: &[(&str, &str)], flags: &[&str]| {
        let run = Command::new(env!("CARGO_BIN_EXE_folio"))
            .current_dir(directory.path())
            .args(["serve", "--data", text(&data)])
            .envs(variables.iter().copied())
            .args(flags)
            .output();
        String::from_utf8(run.expect("the binary was built").stderr).expect("it prints text")
    };
    let file = ["--config", text(&file)];
    let variable = [("FOLIO_PEER_LISTEN", "environment")];
    assert!(run(&[], &[]).contains("remembered is not an address"));
    assert!(run(&[], &file).contains("file is not an address"));
    assert!(run(&variable, &file).contains("environment is not an address"));
    let flags = [&file[..], &["--peer-listen", "flag"]].concat();
    assert!(run(&variable, &flags).contains("flag is not an address"));
    let mistyped = run(&[("FOLIO_LISTN", "a")], &[]);
    assert!(mistyped.contains("FOLIO_LISTN"), "{mistyped}");
}

#[test]
fn a_file_of_settings_is_checked_before_anything_is_started() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("settings.toml");
    let data = directory.path().join("node");
    std::fs::write(&file, "id = 1\n\n[raft]\nheartbeat-interval = '2s'\n").expect("it is writable");
    let checked = folio(["config", "check", text(&file)]);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    assert!(
        checked
            .stderr
            .contains("election-timeout-min is 1.25s: set it to 4s or more"),
        "{checked:?}"
    );
    let refused = folio([
        "serve",
        "--data",
        text(&data),
        "--init",
        "--config",
        text(&file),
    ]);
    assert_eq!(
        (refused.code, data.exists()),
        (Some(2), false),
        "{refused:?}"
    );

    std::fs::write(&file, "id = 1\n[raft]\nheartbeat = '2s'\n").expect("it is writable");
    let unknown = folio(["config", "check", text(&file)]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(
        unknown
            .stderr
            .contains("settings.toml:3: there is no setting heartbeat in [raft]"),
        "{unknown:?}"
    );

    std::fs::write(&file, folio(["config", "example"]).stdout).expect("it is writable");
    let right = folio(["config", "check", text(&file)]);
    assert_eq!(right.code, Some(0), "{right:?}");
}

#[test]
fn a_log_for_programs_is_an_object_a_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = Command::new(env!("CARGO_BIN_EXE_folio"))
        .args([
            "serve",
            "--data",
            text(directory.path()),
            "--log-format",
            "json",
        ])
        .env("FOLIO_LISTN", "mistyped")
        .output()
        .expect("the binary was built");
    let said = String::from_utf8(run.stderr).expect("it prints text");
    let line: serde_json::Value =
        serde_json::from_str(said.lines().next().expect("it warns")).expect("it is JSON");
    assert_eq!(
        (&line["level"], &line["variable"]),
        (&"WARN".into(), &"FOLIO_LISTN".into()),
        "{said}"
    );
}
