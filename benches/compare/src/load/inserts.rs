//! Small durable transactions in a large table.

use std::thread;

use super::{Context, Outcome, measure};
use crate::engine::{Commit, Engine, Result, Table, Writer};

const THREADS: u64 = 32;

pub fn one_at_a_time<E: Engine>(engine: &E, context: &Context) -> Result<Outcome> {
    let (first, end) = (context.sizes.rows, context.sizes.rows_after("insert-1"));
    measure(engine, end - first, || {
        for row in first..end {
            let (key, value) = context.row(row, 0);
            engine.write(&[Table::Rows], Commit::Durable, |writer| {
                writer.put(Table::Rows, &key, &value)
            })?;
        }
        Ok(0)
    })
}

pub fn by_many_threads<E: Engine>(engine: &E, context: &Context) -> Result<Outcome> {
    let first = context.sizes.rows_after("insert-1");
    let end = context.sizes.rows_after("insert-32");
    measure(engine, end - first, || {
        thread::scope(|scope| {
            let writers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    scope.spawn(move || {
                        for row in (first + thread..end).step_by(THREADS as usize) {
                            let (key, value) = context.row(row, 0);
                            engine.write_beside_others(&[Table::Rows], |writer| {
                                writer.put(Table::Rows, &key, &value)
                            })?;
                        }
                        Result::Ok(())
                    })
                })
                .collect();
            writers
                .into_iter()
                .try_for_each(|writer| writer.join().map_err(|_| "a writer panicked")?)
        })?;
        Ok(0)
    })
}
