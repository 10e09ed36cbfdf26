//! Appending to a log.

use super::{Context, Outcome, measure};
use crate::data::ENTRY;
use crate::engine::{Commit, Engine, Result, Table, Writer};

pub fn entry(context: &Context, index: u64) -> [u8; ENTRY] {
    context.data.entry(index, index, 0)
}

pub fn append<E: Engine>(engine: &E, context: &Context, batch: u64) -> Result<Outcome> {
    let commits = context.sizes.log_commits(batch);
    measure(engine, commits * batch, || {
        for commit in 0..commits {
            engine.write(&[Table::Log], Commit::Durable, |writer| {
                (commit * batch..(commit + 1) * batch).try_for_each(|index| {
                    writer.put(Table::Log, &index.to_be_bytes(), &entry(context, index))
                })
            })?;
        }
        Ok(0)
    })
}
