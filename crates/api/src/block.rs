//! Blocks, and the transactions that they record.

use folio_proof::block::BlockHeader;
use folio_proof::digest::Digest;
use folio_proof::record::{Origin, Record};
use folio_proof::transaction::SessionSequence;
use serde::{Deserialize, Serialize};

use crate::{Condition, Operation, Outcome};

/// A block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Block {
    /// Its hash.
    pub hash: Digest,
    /// Its header.
    pub header: BlockHeader,
    /// Its transactions, or some of them.
    pub transactions: Vec<RecordedTransaction>,
    /// To be passed as `from` for the transactions that follow; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
}

impl Block {
    /// The block of this header, and its transactions from one on.
    pub fn new(header: BlockHeader, from: u32, records: impl Iterator<Item = Record>) -> Self {
        let transactions: Vec<_> = records.map(RecordedTransaction::from).collect();
        let shown = u32::try_from(transactions.len()).unwrap_or(u32::MAX);
        let next = from.saturating_add(shown);
        Block {
            hash: header.hash(),
            next: (shown > 0 && next < header.transactions).then_some(next),
            transactions,
            header,
        }
    }
}

/// Hash and header of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockHead {
    /// Its hash.
    pub hash: Digest,
    /// Its header.
    pub header: BlockHeader,
}

impl From<BlockHeader> for BlockHead {
    fn from(header: BlockHeader) -> Self {
        BlockHead {
            hash: header.hash(),
            header,
        }
    }
}

/// The place in a session that a transaction was sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecordedSession {
    /// The session's number.
    pub number: u64,
    /// The place in it.
    pub sequence: u64,
}

/// A transaction of a block, and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecordedTransaction {
    /// Whether the ledger asked for it, to remove entities whose time had come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expiry: bool,
    /// The place in the session of the client that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<RecordedSession>,
    /// What had to hold before.
    pub conditions: Vec<Condition>,
    /// What was done.
    pub operations: Vec<Operation>,
    /// What each operation did, in the order of the operations.
    pub outcomes: Vec<Outcome>,
}

impl From<Record> for RecordedTransaction {
    fn from(
        Record {
            origin,
            transaction,
            outcomes,
        }: Record,
    ) -> Self {
        let session = match origin {
            Origin::Session(SessionSequence { session, sequence }) => Some(RecordedSession {
                number: session,
                sequence,
            }),
            Origin::Client | Origin::Expiry => None,
        };
        let conditions = transaction.conditions.into_iter();
        RecordedTransaction {
            expiry: origin == Origin::Expiry,
            session,
            conditions: conditions.map(Into::into).collect(),
            operations: transaction.operations.into_iter().map(Into::into).collect(),
            outcomes: outcomes.into_iter().map(Into::into).collect(),
        }
    }
}

/// A transaction, and where it is recorded: what a feed tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Recorded {
    /// The height of its block.
    pub height: u64,
    /// Its place in the block, from 0.
    pub position: u32,
    /// The transaction.
    #[serde(flatten)]
    pub transaction: RecordedTransaction,
}
