//! Verifying at a rate, and what a pin keeps.

use std::{cell::Cell, ops::ControlFlow, sync::Arc, time::Duration};

use super::*;
use crate::{
    Database, Durability, Table,
    engine::{GROWTH, OpenMode, OpenOptions},
    storage::MemoryStorage,
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

fn engine() -> Arc<Engine> {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder()
        .create_on(storage.clone())
        .expect("memory");
    let txn = db.begin_write().expect("open");
    let mut table = txn.table::<Rows>().expect("new");
    for key in 0..2_000u64 {
        table.insert(key, [7; 100].as_slice()).expect("memory");
    }
    drop(table);
    txn.commit().expect("memory");
    db.close().expect("memory");
    let options = OpenOptions {
        cache_size: 1 << 20,
        page_size: None,
        accept_loss: false,
        growth: GROWTH,
        durability: Durability::Immediate,
    };
    Engine::open(storage, OpenMode::ReadWrite, options).expect("sound")
}

#[test]
fn a_walk_takes_as_long_as_its_rate_says() {
    let engine = engine();
    for rate in [4_096 * 10, 4_096 * 100, 50 << 20] {
        let clock = FakeClock::new();
        let options = VerifyOptions::new().rate(rate);
        let report = engine.verify(options, &clock, |_, _| ControlFlow::Continue(()));
        let report = report.expect("memory");
        assert_eq!(report.problems, []);
        assert!(report.pages > 50, "{}", report.pages);
        let wanted = Duration::from_secs_f64((report.pages * 4_096) as f64 / rate as f64);
        let off = wanted.abs_diff(clock.now());
        assert!(
            off <= Duration::from_millis(5),
            "{rate}: {:?} for {wanted:?}",
            clock.now()
        );
    }
}

#[test]
fn a_walk_without_a_rate_never_waits() {
    let clock = FakeClock::new();
    let report = engine().verify(VerifyOptions::new(), &clock, |_, _| {
        ControlFlow::Continue(())
    });
    assert!(!report.expect("memory").interrupted);
    assert_eq!(clock.now(), Duration::ZERO);
}

#[test]
fn a_walk_ends_when_the_clock_or_the_caller_says_so() {
    let engine = engine();
    let clock = FakeClock::new();
    clock.sleeps_left.set(3);
    let options = VerifyOptions::new().rate(4_096);
    let go_on = |_, _| ControlFlow::Continue(());
    let report = engine.verify(options, &clock, go_on).expect("memory");
    assert!(report.interrupted && report.pages < 3, "{report:?}");

    let calls = Cell::new(0);
    let ten = |_, _| {
        calls.set(calls.get() + 1);
        if calls.get() < 10 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let report = engine
        .verify(VerifyOptions::new(), &clock, ten)
        .expect("memory");
    assert!(report.interrupted, "{report:?}");
    assert_eq!(calls.get(), 10);
    // Whether it ended early or not, nothing stays pinned.
    assert!(!engine.is_pinned());
}

/// While a walk is under way, thousands of commits and flushes give up pages of every tree; no page of the state that is
/// being checked may be among those that are taken again.
#[test]
fn a_walk_that_is_overtaken_by_flushes_still_sees_its_own_moment() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder()
        .cache_size(1 << 20)
        .create_on(storage)
        .expect("memory");
    let change = |round: u64| {
        let mut txn = db.begin_write().expect("open");
        if round.is_multiple_of(3) {
            txn.set_durability(Durability::Eventual);
        }
        let mut table = txn.table::<Rows>().expect("same types");
        for key in 0..40u64 {
            let key = (key * 7_919 + round * 104_729) % 6_000;
            let length = if key.is_multiple_of(50) {
                9_000
            } else {
                60 + key % 60
            };
            table
                .insert(key, vec![round as u8; length as usize].as_slice())
                .expect("memory");
        }
        if round.is_multiple_of(5) {
            table
                .remove_range(round % 5_000..round % 5_000 + 300)
                .expect("memory");
        }
        drop(table);
        txn.commit().expect("memory");
    };
    (0..100).for_each(change);
    let mut round = 100;
    for _ in 0..3 {
        let report = db.verify(|done, _| {
            if done % 2 == 0 {
                change(round);
                round += 1;
            }
        });
        let report = report.expect("memory");
        assert_eq!(report.problems, []);
        assert!(report.transaction < db.published_transaction());
        assert!(report.pages > 100 && report.rows > 1_000, "{report:?}");
    }
    assert!(round > 300, "{round}");
    let before = db.statistics().length_pages;
    (0..400).for_each(change);
    // What the pins kept is free again.
    assert!(db.statistics().length_pages < before + before / 2);
}
