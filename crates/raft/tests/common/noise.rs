//! A state machine whose rows do not compress, for what depends on the size of a state.

use folio_raft::{Applied, ApplyError, StateMachine, TableSet};
use folio_store::storage::SplitMix64;
use folio_store::{Table, WriteTransaction};
use serde::{Deserialize, Serialize};

/// Bytes of a row's value.
pub const VALUE: usize = 512;

pub struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

/// Puts so many rows, from a key on. What is in them depends on the entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Put {
    pub first: u64,
    pub count: u64,
}

pub struct Noise;
impl StateMachine for Noise {
    type Command = Put;
    type Response = ();

    fn tables(&self) -> TableSet {
        TableSet::new().with::<Rows>()
    }

    fn apply(&self, txn: &WriteTransaction, at: Applied, put: &Put) -> Result<(), ApplyError> {
        let mut rows = txn.table::<Rows>()?;
        let mut random = SplitMix64::new(at.index);
        for key in put.first..put.first + put.count {
            let value = (0..VALUE / 8).flat_map(|_| random.next_u64().to_le_bytes());
            rows.insert(key, value.collect::<Vec<u8>>().as_slice())?;
        }
        Ok(())
    }
}
