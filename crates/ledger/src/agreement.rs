//! How replicas find out that they do not agree.
//!
//! The hash of a block commits to the state after it and to all blocks before it. So two replicas that have the same hash
//! at a height of a vault have the same history of it up to there, and two that have different ones do not, at whatever
//! moment they are asked. A node asks others for the hashes that they have at the heights that it has itself, or, if they
//! are not that far, at the heights that they have.
//!
//! Nothing of that is in the log, and applying an entry knows nothing of it.

use folio_store::ReadTransaction;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::read::LedgerView;

/// How many vaults one question may be about.
pub const MAX_ASKED: usize = 1_000;

/// A vault and a height of its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The vault.
    pub vault: u64,
    /// The height.
    pub height: u64,
}

/// A block of a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its height: the one asked for, or that of the last block if that is lower.
    pub height: u64,
    /// Its hash.
    pub hash: Digest,
}

/// The question of what another node has at these heights, as its `Ledger` takes it.
pub fn question(asked: &[Asked]) -> Vec<u8> {
    postcard::to_allocvec(asked).expect("integers encode")
}

/// Reads the answer to a question about `asked` vaults: for each in turn, what the other node has, or nothing if it has no
/// such vault. An error if these bytes are no answer to that.
pub fn read_answer(bytes: &[u8], asked: usize) -> Result<Vec<Option<Held>>, String> {
    let answer: Vec<Option<Held>> = postcard::from_bytes(bytes)
        .map_err(|error| format!("the answer does not decode: {error}"))?;
    match answer.len() == asked {
        true => Ok(answer),
        false => Err(format!("{} answers to {asked} questions", answer.len())),
    }
}

/// What this node has.
pub(crate) fn answer(view: &ReadTransaction, question: &[u8]) -> Result<Vec<u8>, String> {
    let asked: Vec<Asked> = postcard::from_bytes(question)
        .map_err(|error| format!("the question does not decode: {error}"))?;
    if asked.len() > MAX_ASKED {
        return Err(format!(
            "{} vaults in one question, the limit is {MAX_ASKED}",
            asked.len()
        ));
    }
    let ledger = LedgerView::new(view);
    let held = asked.iter().map(|asked| held(ledger, *asked));
    let held: Vec<Option<Held>> = held
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    postcard::to_allocvec(&held).map_err(|error| error.to_string())
}

/// What a view has at a height, or at its last one if that is lower; `None` without such a vault.
pub fn held(ledger: LedgerView<'_>, asked: Asked) -> crate::error::Result<Option<Held>> {
    let Some(info) = ledger.vault(asked.vault)? else {
        return Ok(None);
    };
    if asked.height >= info.height {
        return Ok(Some(Held {
            height: info.height,
            hash: info.block_hash,
        }));
    }
    let header = ledger.block(asked.vault, asked.height)?;
    Ok(header.map(|header| Held {
        height: asked.height,
        hash: header.hash(),
    }))
}
