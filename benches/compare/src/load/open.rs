//! Opening after the process was killed: what is measured is the check that follows.

use super::{Context, Outcome, measure};
use crate::engine::{Commit, Engine, Result, Table, Writer};

/// One durable commit, so that there is something that the killed process left.
pub fn before<E: Engine>(engine: &E, context: &Context) -> Result<Outcome> {
    let row = context.sizes.rows_after("open") - 1;
    let (key, value) = context.row(row, 0);
    measure(engine, 1, || {
        engine.write(&[Table::Rows], Commit::Durable, |writer| {
            writer.put(Table::Rows, &key, &value)
        })?;
        Ok(0)
    })
}
