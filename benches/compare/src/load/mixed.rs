//! The load that Folio is for: a durable log, and rows that follow from it.

use super::{Context, Outcome, measure};
use crate::data::ENTRY;
use crate::engine::{Change, Engine, Result, Row};

const BATCH: u64 = 16;

/// The rows before, in the order of their keys.
pub fn prepare<E: Engine>(engine: &E, context: &Context) -> Result<()> {
    let mut order: Vec<u64> = (0..context.sizes.state).collect();
    order.sort_unstable_by_key(|row| context.data.key(*row));
    let mut rows = order.into_iter().map(|row| -> Row { context.row(row, 0) });
    engine.load_sorted(&mut rows)
}

/// Numbers of entries begin at 1, so that 0 says that nothing was applied.
fn changes(context: &Context) -> impl Iterator<Item = (u64, u64, u32)> {
    let mut random = context.random(1);
    let mut versions = vec![0u32; context.sizes.state as usize];
    (1..=context.sizes.commits * BATCH).map(move |index| {
        let row = random.below(versions.len() as u64);
        versions[row as usize] += 1;
        (index, row, versions[row as usize])
    })
}

/// The version of every row afterwards; `entry` is told each entry of the log.
pub fn versions(context: &Context, mut entry: impl FnMut(u64, &[u8; ENTRY])) -> Vec<u32> {
    let mut versions = vec![0; context.sizes.state as usize];
    for (index, row, version) in changes(context) {
        entry(index, &context.data.entry(index, row, version));
        versions[row as usize] = version;
    }
    versions
}

pub fn apply<E: Engine>(
    engine: &E,
    context: &Context,
    commit: impl Fn(&E, &[Change]) -> Result<()>,
) -> Result<Outcome> {
    let mut changes = changes(context).map(|(index, row, version)| {
        let (key, value) = context.row(row, version);
        Change {
            index: index.to_be_bytes(),
            entry: context.data.entry(index, row, version),
            key,
            value,
        }
    });
    measure(engine, context.sizes.commits * BATCH, || {
        for _ in 0..context.sizes.commits {
            let batch: Vec<Change> = changes.by_ref().take(BATCH as usize).collect();
            commit(engine, &batch)?;
        }
        Ok(0)
    })
}
