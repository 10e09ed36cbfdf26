//! Simulated clusters, the short form: see `folio_simulation`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use folio_simulation::{Campaign, Simulation};

#[test]
fn clusters_under_every_fault_behave_like_one_copy_that_loses_nothing() {
    let campaign = Campaign {
        from: 1,
        seeds: 40,
        threads: 2,
    };
    let (figures, violations) = campaign.run();
    println!("{figures}");
    assert!(violations.is_empty(), "{violations:#?}");
    for (what, least) in [
        ("writes acknowledged", 5_000),
        ("linearizable reads", 1_500),
        ("lease reads", 1_000),
        ("follower reads", 800),
        ("of unknown outcome", 100),
        ("terms with a leader", 100),
        ("terms led by a witness", 3),
        ("snapshots installed", 10),
        ("changes of members", 30),
        ("PowerCut", 40),
        ("DiskError", 40),
    ] {
        assert!(figures.get(what) >= least, "{what}: {figures}");
    }
}

#[test]
fn the_same_seed_gives_the_same_events() {
    for seed in 1..=6 {
        let [first, second] = [(); 2].map(|()| Simulation::new(seed).run());
        assert_eq!(first.violation, None);
        assert_eq!(first.digest, second.digest, "{}", Simulation::new(seed));
    }
}
