//! Loading many rows.

use super::{Context, Outcome, measure};
use crate::engine::{Engine, Result};

pub fn random<E: Engine>(engine: &E, context: &Context) -> Result<Outcome> {
    let rows = context.sizes.rows;
    measure(engine, rows, || {
        engine.load(&mut (0..rows).map(|row| context.row(row, 0)))?;
        Ok(0)
    })
}

pub fn sorted<E: Engine>(context: &Context) -> Result<Outcome> {
    let rows = context.sizes.rows;
    // Before the engine is opened, so that its memory is told apart from that of the order.
    let mut order: Vec<u32> = (0..rows as u32).collect();
    order.sort_unstable_by_key(|row| context.data.key(u64::from(*row)));
    let engine = E::open(&context.directory, context.settings)?;
    let outcome = measure(&engine, rows, || {
        let mut rows = order.iter().map(|row| context.row(u64::from(*row), 0));
        engine.load_sorted(&mut rows)?;
        Ok(0)
    })?;
    engine.close()?;
    Ok(outcome)
}
