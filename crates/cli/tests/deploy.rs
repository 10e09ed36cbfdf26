//! The files in `deploy`: what they say of the program is so.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::served::{Served, alone, host};

fn deploy(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).expect("it is there")
}

/// Whether the tool takes these arguments: with `--help` last it only looks at them.
fn assert_taken(arguments: &str) {
    let arguments = arguments.split_whitespace().chain(["--help"]);
    let run = common::folio(arguments);
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn the_commands_of_unit_and_compose_file_are_ones_that_the_tool_takes() {
    let unit = read("folio@.service");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let start = start.expect("the unit starts something").replace("%i", "1");
    let (program, arguments) = start.split_once(' ').expect("the program has arguments");
    assert_eq!(program, "/usr/local/bin/folio");
    let flag = |assignment: &str| {
        let (variable, value) = assignment.split_once('=').expect("it has a value");
        let name = variable.to_lowercase().replace('_', "-");
        match value {
            "true" => format!("--{name}"),
            value => format!("--{name} {value}"),
        }
    };
    let comment = unit.lines().take_while(|line| line.starts_with('#'));
    let words = comment.flat_map(|line| line.split([' ', ',']).collect::<Vec<_>>());
    let variables: Vec<_> = words
        .filter_map(|word| {
            word.strip_prefix("FOLIO_")
                .filter(|rest| rest.contains('='))
        })
        .map(flag)
        .collect();
    assert!(
        variables.len() > 3,
        "the unit has an example: {variables:?}"
    );
    assert_taken(&format!("{arguments} {}", variables.join(" ")));

    let compose = read("compose.yaml");
    let mut commands = 0;
    for block in compose.split("command: >-").skip(1) {
        let words: Vec<_> = block
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with("      "))
            .collect();
        assert_taken(&words.join(" "));
        commands += 1;
    }
    assert_eq!(commands, 3);
    let health = compose
        .lines()
        .find_map(|line| line.split_once("test: folio "));
    assert_taken(health.expect("a node is asked how it is").1);
    // What is made once; with words of the shell in place of its variables.
    let made = compose.lines().filter_map(|line| line.split_once("folio "));
    let made = made.filter(|(before, _)| before.contains("test -e"));
    let made: Vec<_> = made.map(|(_, command)| command).collect();
    assert_eq!(made.len(), 3);
    for command in made {
        let command = command.split(" > ").next().expect("it has a beginning");
        assert_taken(&command.replace("$$id", "1"));
    }
}

#[test]
fn the_container_file_builds_this_package_and_starts_a_node() {
    let file = read("Containerfile");
    let build = file
        .lines()
        .find_map(|line| line.strip_prefix("RUN cargo "));
    let build = build.expect("it builds something");
    assert!(
        build.ends_with(concat!("--package ", env!("CARGO_PKG_NAME"))),
        "{build}"
    );
    let start = file.lines().find_map(|line| line.strip_prefix("CMD "));
    let start: Vec<String> =
        serde_json::from_str(start.expect("it starts something")).expect("it is a list");
    assert_taken(&start.join(" "));
}

/// The nodes of the compose file as processes: each on an address of its own, by which it is called there by a name.
#[test]
fn the_nodes_of_the_compose_file_form_a_cluster() {
    let directory = tempfile::tempdir().expect("a directory");
    let certificates = directory.path().join("certificates");
    let place = common::text(&certificates);
    let done = |arguments: &str| {
        let run = common::folio(arguments.split_whitespace());
        assert_eq!(run.code, Some(0), "{arguments}: {run:?}");
        run.stdout
    };
    done(&format!("cert authority {place}"));
    let clients = certificates.join("clients");
    let token = done(&format!(
        "clients add {} admin --admin all",
        common::text(&clients)
    ));
    std::fs::write(certificates.join("admin.token"), token).expect("writable");
    let compose = read("compose.yaml");
    let mut nodes = Vec::new();
    for (id, block) in (1..).zip(compose.split("command: >-").skip(1)) {
        let host = host(30 + id);
        done(&format!("cert node {place} --id {id} --host {host}"));
        let data = directory.path().join(format!("node-{id}"));
        let lines = block.lines().skip(1);
        let command: Vec<_> = lines
            .take_while(|line| line.starts_with("      "))
            .collect();
        let command = command
            .join(" ")
            .replace("0.0.0.0", &host)
            .replace(
                &format!("--advertise node-{id}"),
                &format!("--advertise {host}"),
            )
            .replace("/certificates", place)
            .replace("/data", common::text(&data))
            .replace(
                "/node-1/",
                &format!("{}/node-1/", common::text(directory.path())),
            );
        let mut words = command.split_whitespace();
        assert_eq!(words.next(), Some("serve"));
        nodes.push(Served::start(words));
    }
    let ca = certificates.join("authority.pem");
    let admin = certificates.join("admin.token");
    let listed = done(&format!(
        "members --node https://{} --ca {} --token-file {} --format json",
        nodes[2].address,
        common::text(&ca),
        common::text(&admin)
    ));
    let members: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let members = members["members"].as_array().expect("a list");
    assert_eq!(members.len(), 3, "{listed}");
    assert!(
        members.iter().all(|member| member["votes"] == true),
        "{listed}"
    );
}

#[test]
fn every_metric_of_the_dashboard_is_one_that_a_node_has() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.folio");
    let node = Served::start(alone(&file));
    let page = node.send("GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let known: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(known.contains("folio_leader"), "{page}");
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("grafana.json")).expect("it is JSON");
    let mut names = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("it has panels") {
        for target in panel["targets"].as_array().expect("a panel has targets") {
            let expression = target["expr"].as_str().expect("a target has a query");
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            names.extend(
                words
                    .filter(|word| word.starts_with("folio_"))
                    .map(str::to_owned),
            );
        }
    }
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        let series = ["_bucket", "_sum", "_count"];
        let family = series.iter().find_map(|end| name.strip_suffix(end));
        let found =
            known.contains(name.as_str()) || family.is_some_and(|name| known.contains(name));
        assert!(found, "{name}");
    }
}

/// Where there is systemd; its program must be there for the check, so another takes its place.
#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let directory = tempfile::tempdir().expect("a directory");
    let unit = read("folio@.service").replace("/usr/local/bin/folio", env!("CARGO_BIN_EXE_folio"));
    let path = directory.path().join("folio@.service");
    std::fs::write(&path, unit).expect("the directory is writable");
    let checked = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(directory.path().join("folio@1.service"))
        .output();
    let Ok(checked) = checked else {
        eprintln!("not checked: there is no systemd-analyze");
        return;
    };
    let said = String::from_utf8_lossy(&checked.stderr);
    let wrong: Vec<_> = said
        .lines()
        .filter(|line| line.contains("folio@"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
