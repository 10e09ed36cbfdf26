//! Deleting half of the rows and giving their space back.

use std::time::Instant;

use super::{Context, Outcome};
use crate::engine::{Commit, Engine, Result, Table, Writer};
use crate::process::processor_seconds;

/// Which rows are removed.
pub fn removed(row: u64) -> bool {
    row.is_multiple_of(2)
}

pub fn delete_and_compact<E: Engine>(engine: E, context: &Context) -> Result<Outcome> {
    let end = context.sizes.rows_after("delete-compact");
    let (start, processor) = (Instant::now(), processor_seconds());
    for first in (0..end).step_by(20_000) {
        let last = (first + 20_000).min(end);
        let commit = if last == end {
            Commit::Durable
        } else {
            Commit::Later
        };
        engine.write(&[Table::Rows], commit, |writer| {
            (first..last)
                .filter(|row| removed(*row))
                .try_for_each(|row| writer.remove(Table::Rows, &context.data.key(row)))
        })?;
    }
    let deleted = start.elapsed().as_secs_f64();
    engine.compact(&context.directory)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Outcome {
        operations: end.div_ceil(2),
        seconds,
        processor: processor_seconds() - processor,
        more: [
            ("delete seconds".to_owned(), deleted),
            ("compact seconds".to_owned(), seconds - deleted),
        ]
        .into(),
        ..Outcome::default()
    })
}
