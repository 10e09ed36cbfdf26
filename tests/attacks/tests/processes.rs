//! Real processes and real filesystems: the short forms.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use folio_attacks::process;

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
