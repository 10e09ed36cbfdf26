//! Reading.

use std::thread;

use super::{Context, Outcome, measure};
use crate::data::head_of;
use crate::engine::{Engine, Reader, Result, Table};

/// A view is renewed after so many reads, as a program would that answers requests.
const READS_A_VIEW: u64 = 1000;

/// Reads random rows and sums up the heads of their values.
fn read<E: Engine>(engine: &E, context: &Context, purpose: u64, reads: u64) -> Result<u64> {
    let mut random = context.random(purpose);
    let mut sum = 0u64;
    let mut done = 0;
    while done < reads {
        let now = READS_A_VIEW.min(reads - done);
        engine.read(Table::Rows, |reader| {
            for _ in 0..now {
                let row = random.below(context.sizes.rows);
                let head = reader.get(&context.data.key(row), head_of)?;
                sum = sum.wrapping_add(head.ok_or("a row is missing")?);
            }
            Ok(())
        })?;
        done += now;
    }
    Ok(sum)
}

/// The sum that [`read`] should find.
fn sum_of(context: &Context, purpose: u64, reads: u64) -> u64 {
    let mut random = context.random(purpose);
    (0..reads).fold(0, |sum, _| {
        sum.wrapping_add(context.data.head(random.below(context.sizes.rows), 0))
    })
}

fn verified(mut outcome: Outcome, expected: u64) -> Result<Outcome> {
    if outcome.checksum != expected {
        return Err("the rows that were read are not those that were written".into());
    }
    outcome.checksum = expected;
    Ok(outcome)
}

fn warm<E: Engine>(engine: &E, context: &Context) -> Result<()> {
    full_scan(engine)?;
    read(engine, context, 99, context.sizes.reads / 4)?;
    Ok(())
}

pub fn points<E: Engine>(engine: &E, context: &Context, threads: u64) -> Result<Outcome> {
    warm(engine, context)?;
    let reads = context.sizes.reads;
    let outcome = measure(engine, threads * reads, || {
        thread::scope(|scope| {
            let readers: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || read(engine, context, 10 + thread, reads)))
                .collect();
            readers.into_iter().try_fold(0u64, |sum, reader| {
                let read = reader.join().map_err(|_| "a reader panicked")??;
                Ok(sum.wrapping_add(read))
            })
        })
    })?;
    let expected = (0..threads)
        .map(|thread| sum_of(context, 10 + thread, reads))
        .fold(0, u64::wrapping_add);
    verified(outcome, expected)
}

/// The same where most reads miss the engine's own cache.
pub fn points_with_small_cache<E: Engine>(engine: &E, context: &Context) -> Result<Outcome> {
    let reads = context.sizes.reads / 5;
    read(engine, context, 98, reads / 4)?;
    let outcome = measure(engine, reads, || read(engine, context, 20, reads))?;
    verified(outcome, sum_of(context, 20, reads))
}

pub fn short_scans<E: Engine>(engine: &E, context: &Context) -> Result<Outcome> {
    warm(engine, context)?;
    let scans = context.sizes.reads / 10;
    let mut random = context.random(30);
    measure(engine, scans, || {
        let mut sum = 0u64;
        let mut done = 0;
        while done < scans {
            let now = READS_A_VIEW.min(scans - done);
            engine.read(Table::Rows, |reader| {
                for _ in 0..now {
                    let start = context.data.key(random.below(context.sizes.rows));
                    let mut left = 10;
                    reader.scan(&start, |key, value| {
                        sum = sum.rotate_left(1) ^ head_of(value) ^ head_of(key);
                        left -= 1;
                        left > 0
                    })?;
                }
                Ok(())
            })?;
            done += now;
        }
        Ok(sum)
    })
}

fn full_scan<E: Engine>(engine: &E) -> Result<u64> {
    engine.read(Table::Rows, |reader| {
        let mut sum = 0u64;
        reader.scan(&[0], |key, value| {
            sum = sum.rotate_left(1) ^ head_of(value) ^ head_of(key);
            true
        })?;
        Ok(sum)
    })
}

pub fn full_scans<E: Engine>(engine: &E, context: &Context) -> Result<Outcome> {
    warm(engine, context)?;
    measure(engine, 3 * context.sizes.rows, || {
        (0..3).try_fold(0, |sum: u64, _| Ok(sum.wrapping_add(full_scan(engine)?)))
    })
}
