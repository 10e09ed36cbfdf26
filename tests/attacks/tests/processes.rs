//! Real processes and real filesystems: the short forms.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{io::Write, path::Path};

use folio_attacks::process;

/// Says that a test did nothing, past the harness, which shows nothing of tests that pass.
fn skipped(reason: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED: {reason}").unwrap();
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_folio-attacks"))
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let figures = process::kill(program(), 25, 1);
    println!("{figures}");
    assert_eq!(figures.get("cycles"), 25);
    assert!(figures.get("acknowledged steps checked") > 100, "{figures}");
}

#[test]
fn a_call_that_fails_is_a_typed_error_and_loses_nothing() {
    let extent = process::Extent {
        sample: Some(6),
        rounds: 1,
        seed: 1,
    };
    match process::inject(program(), extent) {
        Ok(figures) => {
            println!("{figures}");
            assert!(figures.get("runs") > 100, "{figures}");
            assert!(figures.get("typed errors") > 60, "{figures}");
            assert!(figures.get("lost writes noticed") > 0, "{figures}");
        }
        Err(reason) => skipped(&reason),
    }
}

#[test]
fn a_storage_filled_to_the_last_byte_recovers_once_there_is_room() {
    let figures = process::full_storage(1, 3);
    println!("{figures}");
    assert!(figures.get("recovered") > 50, "{figures}");
    assert!(figures.get("creations refused") > 10, "{figures}");
}

#[test]
fn a_filesystem_filled_to_the_last_byte_recovers_once_there_is_room() {
    match process::full_disk(1, 16) {
        Ok((figures, kind)) => {
            println!("{kind}: {figures}");
            assert!(figures.get("recovered") > 5, "{figures}");
        }
        Err(reason) => skipped(&reason),
    }
}
