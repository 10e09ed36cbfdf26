//! Comparing the blocks of two ledgers.

use std::collections::BTreeSet;

use folio_store::ReadTransaction;

use super::Difference;
use super::explain::{first_field, is_of_the_state, locate, touched_by};
use crate::block::BlockHeader;
use crate::error::Result;
use crate::read::LedgerView;
use crate::tables::{Blocks, Vaults};

/// The first block that differs, by log index and vault. If it differs by its state, the key is looked for in what both
/// ledgers hold now. `progress` gets what is being done, how much of it is done, and of how much.
pub fn compare_chains(
    stored: &ReadTransaction,
    replayed: &ReadTransaction,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Option<Difference>> {
    let mut vaults = BTreeSet::new();
    for view in [stored, replayed] {
        for row in view.table::<Vaults>()?.iter()? {
            vaults.insert(row?.0);
        }
    }
    let total = stored.table::<Blocks>()?.len()?;
    let mut done = 0;
    let mut first: Option<(u64, Difference)> = None;
    for vault in vaults {
        let mut height = 0;
        loop {
            let of = |view| LedgerView::new(view).block(vault, height);
            let (ours, theirs) = (of(stored)?, of(replayed)?);
            let index = match (&ours, &theirs) {
                (None, None) => break,
                (Some(header), _) | (None, Some(header)) => header.log_index,
            };
            if ours != theirs {
                if first.as_ref().is_none_or(|(earliest, _)| index < *earliest) {
                    let difference = headers_differ(vault, height, ours.as_ref(), theirs.as_ref());
                    first = Some((index, difference));
                }
                break;
            }
            height += 1;
            done += 1;
            progress("blocks", done, total);
        }
    }
    let Some((_, difference)) = first else {
        return Ok(None);
    };
    let (Some(vault), Some(height)) = (difference.vault, difference.height) else {
        return Ok(Some(difference));
    };
    if !is_of_the_state(&difference) {
        return Ok(Some(difference));
    }
    let touched = touched_by(&LedgerView::new(replayed).records(vault, height)?);
    locate((stored, replayed), difference, &touched, progress).map(Some)
}

fn headers_differ(
    vault: u64,
    height: u64,
    stored: Option<&BlockHeader>,
    replayed: Option<&BlockHeader>,
) -> Difference {
    let said = |header: Option<&BlockHeader>| if header.is_some() { "there" } else { "missing" };
    match (stored, replayed) {
        (Some(stored), Some(replayed)) => match first_field(stored, replayed) {
            Some((what, stored, replayed)) => {
                Difference::new(vault, height, what, stored, replayed)
            }
            None => Difference::new(vault, height, "the header", stored.hash(), replayed.hash()),
        },
        _ => Difference::new(vault, height, "the block", said(stored), said(replayed)),
    }
}
