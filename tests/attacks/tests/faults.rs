//! Every fault at every call, the short form: see `folio_attacks::faults`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use folio_attacks::faults::FaultAttack;

#[test]
fn whatever_call_fails_it_is_told_and_nothing_acknowledged_is_lost() {
    let figures = FaultAttack::short().run();
    println!("{figures}");
    assert!(figures.get("calls failed") > 3_000, "{figures}");
    assert!(figures.get("failures told") > 2_500, "{figures}");
}
