//! Shared parts of the benchmarks.

use folio_store::{Database, Durability, Group, Table};

/// A table like a Raft log: keys in order, values of some hundred bytes.
pub struct Log;

impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(1);
    type Key = u64;
    type Value = &'static [u8];
}

/// A table like a state machine's: keys in no order.
pub struct State;

impl Table for State {
    const NAME: &'static str = "state";
    type Key = u64;
    type Value = &'static [u8];
}

/// Spreads numbers over the key space, each to a place of its own.
#[must_use]
pub fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Fills [`State`] with rows of 150 bytes.
///
/// # Errors
///
/// As the engine's.
pub fn fill(db: &Database, rows: u64) -> folio_store::Result<()> {
    for start in (0..rows).step_by(10_000) {
        let mut txn = db.begin_write()?;
        txn.set_durability(Durability::Eventual);
        let mut table = txn.table::<State>()?;
        for number in start..rows.min(start + 10_000) {
            table.insert(scattered(number), [7; 150].as_slice())?;
        }
        drop(table);
        txn.commit()?;
    }
    Ok(())
}
