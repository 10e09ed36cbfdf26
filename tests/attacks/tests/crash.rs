//! Power cuts, the short form: see `folio_attacks::crash`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use folio_attacks::crash::CrashAttack;

#[test]
fn every_image_of_a_power_cut_holds_what_was_acknowledged_and_life_goes_on_in_it() {
    let figures = CrashAttack::short().run();
    println!("{figures}");
    let again = figures.get("of them after a power cut before");
    assert!(again > 10_000, "{figures}");
    assert!(figures.get("images") >= 150_000, "{figures}");
    assert!(figures.get("images") - again >= 60_000, "{figures}");
    assert!(figures.get("power cuts") > 20, "{figures}");
    assert!(figures.get("processes killed") > 20, "{figures}");
}
