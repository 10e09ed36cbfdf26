//! Carrying out again what the blocks of a log entry record.
//!
//! Blocks hold what was carried out, and nothing of what was refused or of sessions. So this is an entry without
//! admission: what a block has was admitted.

use std::collections::BTreeMap;

use folio_raft::Applied;
use folio_store::WriteTransaction;

use super::tables::Tables;
use super::{Entry, Ledger};
use crate::error::Result;
use crate::record::{Origin, Record};
use crate::response::Response;
use crate::tables::counter;
use crate::transaction::Operation;

/// A block, as far as it says what was done.
#[derive(Debug, Clone)]
pub(crate) struct Recorded<'b> {
    pub(crate) vault: u64,
    pub(crate) action: RecordedAction<'b>,
}

/// What a block says was done.
#[derive(Debug, Clone)]
pub(crate) enum RecordedAction<'b> {
    /// Block 0.
    Create {
        name: &'b str,
    },
    Records(&'b [Record]),
}

/// Which entities the entry removes because their time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Those that any entry would remove.
    AsAnyEntry,
    /// Those that the blocks say, if they are due: others that were due may have been of vaults that are gone.
    AsRecorded,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CarriedOut {
    /// All of it was done; entities expired in these vaults.
    Whole { expired_in: Vec<u64> },
    /// A record cannot be carried out again.
    Refused {
        vault: u64,
        position: u32,
        reason: String,
    },
}

impl Ledger {
    /// Carries out what the blocks of one entry record, and adds those blocks. After a refusal nothing of `txn` may be
    /// committed.
    pub(crate) fn apply_recorded(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        blocks: &[Recorded<'_>],
        expiry: Expiry,
    ) -> Result<CarriedOut> {
        let mut entry = Entry {
            at,
            tables: Tables::open(txn)?,
            vaults: BTreeMap::new(),
            kept: 0,
        };
        match expiry {
            Expiry::AsAnyEntry => entry.expire_entities()?,
            Expiry::AsRecorded => {
                if let Some(refused) = entry.expire_recorded(blocks)? {
                    return Ok(refused);
                }
            }
        }
        let expired_in = entry.vaults.keys().copied().collect();
        for Recorded { vault, action } in blocks {
            match action {
                RecordedAction::Create { name } => {
                    // Numbers between may be those of vaults that are gone.
                    entry
                        .tables
                        .counters
                        .insert(counter::VAULT, vault.saturating_sub(1))?;
                    entry.create_vault(name, 0)?;
                }
                RecordedAction::Records(records) => {
                    for (position, record) in (0..).zip(*records) {
                        let session = match record.origin {
                            Origin::Expiry => continue,
                            Origin::Client => None,
                            Origin::Session(place) => Some(place),
                        };
                        let answer = entry.execute(&record.transaction, session)?;
                        if let Response::Rejected(rejection) = answer {
                            return Ok(CarriedOut::Refused {
                                vault: *vault,
                                position,
                                reason: rejection.to_string(),
                            });
                        }
                    }
                }
            }
        }
        entry.seal_blocks()?;
        Ok(CarriedOut::Whole { expired_in })
    }
}

impl Entry<'_> {
    /// Removes the entities that the blocks say have expired.
    fn expire_recorded(&mut self, blocks: &[Recorded<'_>]) -> Result<Option<CarriedOut>> {
        let mut due = Vec::new();
        for Recorded { vault, action } in blocks {
            let RecordedAction::Records(records) = action else {
                continue;
            };
            for (position, record) in (0..).zip(*records) {
                if record.origin != Origin::Expiry {
                    continue;
                }
                for operation in &record.transaction.operations {
                    let time = match operation {
                        Operation::DeleteEntity { key } => self.tables.head(*vault, key)?,
                        _ => None,
                    };
                    match (time.and_then(|head| head.expires_at), operation) {
                        (Some(time), Operation::DeleteEntity { key }) if time <= self.at.time => {
                            due.push((time, *vault, key.clone()));
                        }
                        _ => {
                            return Ok(Some(CarriedOut::Refused {
                                vault: *vault,
                                position,
                                reason: "it removes what is not due to expire".to_owned(),
                            }));
                        }
                    }
                }
            }
        }
        self.expire(due)?;
        Ok(None)
    }
}
