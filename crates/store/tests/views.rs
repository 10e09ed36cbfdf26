//! What a view that is kept for long costs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use folio_store::{Database, Durability, GroupSet, ReadTransaction, Table, storage::SplitMix64};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

const ROWS: u64 = 3_000;

fn update(db: &Database, random: &mut SplitMix64, rows: u64, durability: Durability) {
    let mut txn = db.begin_write().unwrap();
    txn.set_durability(durability);
    let mut table = txn.table::<Rows>().unwrap();
    for _ in 0..rows {
        let value = vec![random.next_u64() as u8; 300];
        table.insert(random.below(ROWS), value.as_slice()).unwrap();
    }
    drop(table);
    txn.commit().unwrap();
}

fn rows(view: &ReadTransaction) -> Vec<(u64, Vec<u8>)> {
    let table = view.table::<Rows>().unwrap();
    table.iter().unwrap().collect::<Result<_, _>>().unwrap()
}

/// How the file grows by many updates beside a view, counted in the pages of one state.
fn growth(durability: Durability, checkpoint_every: u64, short_views: bool) -> f64 {
    let db = Database::builder().cache_size(1 << 20).in_memory().unwrap();
    let mut random = SplitMix64::new(1);
    update(&db, &mut random, 20 * ROWS, Durability::Immediate);
    // As large as it gets without a view.
    for _ in 0..30 {
        update(&db, &mut random, 100, Durability::Immediate);
    }
    let before = db.statistics();
    let one_state = before.length_pages - before.free_pages;
    let kept = db.begin_read().unwrap();
    let seen = rows(&kept);
    let mut short = None;
    for round in 0..400 {
        update(&db, &mut random, 50, durability);
        if round % checkpoint_every == 0 {
            db.checkpoint(GroupSet::ALL).unwrap();
        }
        if short_views && round % 3 == 0 {
            // The one before ends after this one has begun, so there is always one.
            short = Some(db.begin_read().unwrap());
        }
    }
    let after = db.statistics();
    assert!(rows(&kept) == seen, "a view has changed");
    drop((kept, short));
    for _ in 0..3 {
        update(&db, &mut random, 50, Durability::Immediate);
    }
    db.checkpoint(GroupSet::ALL).unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    let ended = db.statistics();
    let in_use = ended.length_pages - ended.free_pages;
    assert!(
        in_use < one_state * 5 / 4,
        "{in_use} pages are in use, {one_state} were"
    );
    (after.length_pages - before.length_pages) as f64 / one_state as f64
}

#[test]
fn a_view_kept_for_long_costs_one_set_of_pages() {
    for (durability, checkpoint_every) in
        [(Durability::Immediate, 1_000), (Durability::Eventual, 10)]
    {
        for short_views in [false, true] {
            let grown = growth(durability, checkpoint_every, short_views);
            // Besides the newest state there are those of the view, of the disk, and of the short views.
            assert!(
                grown < 3.0,
                "{durability:?}, short views {short_views}: {grown:.2} times the pages of one state"
            );
        }
    }
}
