//! Purging the beginning of a log, as a Raft node does after a snapshot.

use std::ops::Range;
use std::time::Instant;

use super::{Context, Outcome, Sizes, log, measure};
use crate::engine::{Commit, Engine, Result, Table, Writer};

const STEP: u64 = 1000;

fn steps(sizes: &Sizes) -> u64 {
    (sizes.log * 9 / 10 / STEP).max(1)
}

/// The entries that stay.
pub fn left(sizes: &Sizes) -> Range<u64> {
    steps(sizes) * STEP..sizes.log
}

pub fn prepare<E: Engine>(engine: &E, context: &Context) -> Result<()> {
    let entries = context.sizes.log;
    for first in (0..entries).step_by(10_000) {
        let end = (first + 10_000).min(entries);
        let commit = if end == entries {
            Commit::Durable
        } else {
            Commit::Later
        };
        engine.write(&[Table::Log], commit, |writer| {
            (first..end).try_for_each(|index| {
                writer.put(
                    Table::Log,
                    &index.to_be_bytes(),
                    &log::entry(context, index),
                )
            })
        })?;
    }
    Ok(())
}

pub fn purge<E: Engine>(engine: &E, context: &Context) -> Result<Outcome> {
    let steps = steps(&context.sizes);
    let mut times = Vec::with_capacity(steps as usize);
    let mut outcome = measure(engine, steps * STEP, || {
        for step in 0..steps {
            let start = Instant::now();
            engine.write(&[Table::Log], Commit::Durable, |writer| {
                writer.purge(step * STEP, (step + 1) * STEP)
            })?;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(0)
    })?;
    // Whether a step takes longer the more was purged before: medians of the first and the last quarter.
    let quarter = times.len().div_ceil(4);
    let last = median(&times[times.len() - quarter..]);
    outcome
        .more
        .insert("growth".to_owned(), last / median(&times[..quarter]));
    Ok(outcome)
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
