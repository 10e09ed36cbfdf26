//! Ranges from either end, prefixes, and the rows nearest to a key.

use folio_store::{Database, Table};

/// Temperatures by place and second.
struct Readings;
impl Table for Readings {
    const NAME: &'static str = "readings";
    type Key = (&'static str, u64);
    type Value = i32;
}

/// Runs the example.
pub fn main() -> folio_store::Result<()> {
    let db = Database::in_memory()?;
    let txn = db.begin_write()?;
    let mut readings = txn.table::<Readings>()?;
    for second in 0..100 {
        readings.insert(("attic", second * 10), 20 + (second % 5) as i32)?;
        readings.insert(("cellar", second * 10), 12)?;
    }

    // Between two keys, and backwards.
    let between = readings.range(("attic", 100)..("attic", 200))?;
    assert_eq!(between.count(), 10);
    let latest = readings.prefix(("attic",))?.next_back().transpose()?;
    assert_eq!(latest, Some((("attic".to_owned(), 990), 24)));

    // What held at second 455, and when it was measured next.
    let at = readings.at_or_below(("cellar", 455))?;
    assert_eq!(at.map(|((_, second), _)| second), Some(450));
    let next = readings.above(("cellar", 455))?;
    assert_eq!(next.map(|((_, second), _)| second), Some(460));

    // Everything before second 500 goes; leaves full of it are not read.
    for place in ["attic", "cellar"] {
        assert_eq!(readings.remove_range((place, 0)..(place, 500))?, 50);
    }
    println!("{} readings are left", readings.len()?);
    Ok(())
}
