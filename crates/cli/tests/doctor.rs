//! `folio doctor`: what it finds, and what it says to type.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::served::Served;
use common::{Run, folio, text};
use serde_json::Value;

fn doctor(data: &Path) -> Run {
    folio(["doctor", text(data), "--format", "json"])
}

/// The finding about something, as verdict, what was found, and what to do.
fn about(run: &Run, about: &str, verdict: &str) -> (String, String) {
    let findings = run.json();
    let found = findings.as_array().unwrap().iter().find(|finding| {
        (&finding["about"], &finding["verdict"]) == (&Value::from(about), &Value::from(verdict))
    });
    let found = found.unwrap_or_else(|| panic!("nothing about {about} is {verdict}: {run:?}"));
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (text("found"), text("remedy"))
}

fn mode(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_node_is_looked_at_while_it_runs_and_each_finding_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("node");
    let certificates = directory.path().join("certificates");
    let made = folio(["cert", "authority", text(&certificates)]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let certificate = ["cert", "node", text(&certificates), "--id", "1", "--days"];
    let made = folio(certificate.iter().chain(&["3"]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let node = Served::start([
        "--data",
        text(&data),
        "--init",
        "--tls",
        text(&certificates),
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
    ]);
    let run = doctor(&data);
    for topic in ["settings", "file", "access"] {
        about(&run, topic, "good");
    }
    let (_, remedy) = about(&run, "certificates", "look");
    assert!(remedy.contains("--replace"), "{remedy}");
    let made = folio(certificate.iter().chain(&["90", "--replace"]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let (found, _) = about(&doctor(&data), "certificates", "good");
    assert!(
        found.contains("89 days") || found.contains("90 days"),
        "{found}"
    );

    mode(&data.join("invitation"), 0o644);
    mode(&certificates.join("node-1.key"), 0o640);
    let run = doctor(&data);
    assert_eq!(run.code, Some(1), "{run:?}");
    let (_, remedy) = about(&run, "access", "wrong");
    let fixed = remedy.strip_prefix("chmod 600 ").unwrap();
    mode(Path::new(fixed), 0o600);
    let (_, remedy) = about(&run, "certificates", "wrong");
    mode(Path::new(remedy.strip_prefix("chmod 600 ").unwrap()), 0o600);
    about(&doctor(&data), "access", "good");
    drop(node);

    let settings = std::fs::read_to_string(data.join("folio.toml")).unwrap();
    std::fs::write(data.join("folio.toml"), settings.clone() + "colour = 1\n").unwrap();
    let (found, remedy) = about(&doctor(&data), "settings", "wrong");
    assert!(
        found.contains("colour") && remedy.contains("folio config check"),
        "{found}"
    );
    std::fs::write(data.join("folio.toml"), settings).unwrap();
    std::fs::write(data.join("node.folio"), "nothing of the kind").unwrap();
    let (_, remedy) = about(&doctor(&data), "file", "wrong");
    assert!(remedy.contains("folio verify"), "{remedy}");
}

#[test]
fn where_there_is_no_node_it_says_how_to_begin_one() {
    let directory = tempfile::tempdir().unwrap();
    let (_, remedy) = about(&doctor(directory.path()), "settings", "look");
    assert!(remedy.contains("--init"), "{remedy}");
    let nowhere = doctor(&directory.path().join("nowhere"));
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
    let table = folio(["doctor", text(directory.path())]);
    assert!(
        table.stdout.contains("flush") && table.stdout.contains("open files"),
        "{table:?}"
    );
    // It leaves nothing behind.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
