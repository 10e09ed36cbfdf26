//! Blocks: the record of what one log entry did to one vault.
//!
//! Block 0 of a vault records its creation. After that, each log entry that changes the vault adds
//! one block. A block is its header and its transactions. A transaction that was rejected is in no
//! block. Entities that expired are deleted by a transaction of the ledger's own, the first one of
//! the block. So a change of the state is in a transaction, and every block but block 0 has one.
//!
//! # The canonical encoding of a header
//!
//! 189 bytes; integers are big-endian.
//!
//! | offset | bytes | field                                                              |
//! |--------|-------|--------------------------------------------------------------------|
//! | 0      | 1     | `0x01`, the version of this encoding                               |
//! | 1      | 8     | vault                                                              |
//! | 9      | 8     | height                                                             |
//! | 17     | 8     | log index of the entry                                             |
//! | 25     | 8     | log term of the entry                                              |
//! | 33     | 8     | the proposer's time, microseconds since 1970                       |
//! | 41     | 32    | hash of the previous block; zeros in block 0                       |
//! | 73     | 32    | history root                                                       |
//! | 105    | 4     | number of transactions                                             |
//! | 109    | 32    | transactions root                                                  |
//! | 141    | 8     | number of entities after the block                                 |
//! | 149    | 8     | number of relationships after the block                            |
//! | 157    | 32    | state root after the block                                         |
//!
//! - The **block hash** is the RFC 6962 leaf hash of the encoded header, `SHA-256(0x00 || header)`.
//! - The **transactions root** is the RFC 6962 tree over the canonical encodings of the
//!   [records](crate::record) of its transactions, in order.
//! - The **history root** is the RFC 6962 tree over the encoded headers of all earlier blocks. A
//!   block hash is therefore a leaf hash of the history tree of every later block, and one header
//!   proves all blocks before it.
//! - The **state root** is described in [`commitment`](crate::commitment).

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::merkle;
use crate::wire::{Reader, WireError, Writer};

const ENCODING: u8 = 0x01;

/// The length of an encoded header.
pub const HEADER_BYTES: usize = 189;

/// The header of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockHeader {
    /// The vault.
    pub vault: u64,
    /// The number of blocks before this one.
    pub height: u64,
    /// Index of the log entry that made the block.
    pub log_index: u64,
    /// Term of that entry.
    pub log_term: u64,
    /// The time the proposer gave the entry, in microseconds since 1970.
    pub time: u64,
    /// Hash of the block before this one; [`Digest::ZERO`] in block 0.
    pub previous: Digest,
    /// Root of the tree over the headers of all blocks before this one.
    pub history_root: Digest,
    /// The number of transactions.
    pub transactions: u32,
    /// Root of the tree over the transactions.
    pub transactions_root: Digest,
    /// The number of entities in the vault after the block.
    pub entities: u64,
    /// The number of relationships in the vault after the block.
    pub relationships: u64,
    /// The state root of the vault after the block.
    pub state_root: Digest,
}

impl BlockHeader {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(HEADER_BYTES));
        out.u8(ENCODING);
        for integer in [
            self.vault,
            self.height,
            self.log_index,
            self.log_term,
            self.time,
        ] {
            out.u64(integer);
        }
        out.raw(self.previous.as_bytes());
        out.raw(self.history_root.as_bytes());
        out.u32(self.transactions);
        out.raw(self.transactions_root.as_bytes());
        out.u64(self.entities);
        out.u64(self.relationships);
        out.raw(self.state_root.as_bytes());
        out.0
    }

    /// Reads what [`BlockHeader::encode`] writes, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let what = "a block header";
        match reader.u8(what)? {
            ENCODING => {}
            tag => return Err(WireError::Tag { what, tag }),
        }
        let header = BlockHeader {
            vault: reader.u64(what)?,
            height: reader.u64(what)?,
            log_index: reader.u64(what)?,
            log_term: reader.u64(what)?,
            time: reader.u64(what)?,
            previous: Digest(reader.array(what)?),
            history_root: Digest(reader.array(what)?),
            transactions: reader.u32(what)?,
            transactions_root: Digest(reader.array(what)?),
            entities: reader.u64(what)?,
            relationships: reader.u64(what)?,
            state_root: Digest(reader.array(what)?),
        };
        reader.finish()?;
        Ok(header)
    }

    /// The block hash.
    pub fn hash(&self) -> Digest {
        merkle::leaf_hash(&self.encode())
    }
}

/// The transactions root over canonical encodings.
pub fn transactions_root<'a>(transactions: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut frontier = merkle::Frontier::new();
    for transaction in transactions {
        frontier.append(merkle::leaf_hash(transaction));
    }
    frontier.root()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BlockHeader {
        BlockHeader {
            vault: 1,
            height: 2,
            log_index: 3,
            log_term: 4,
            time: 5,
            previous: Digest::of(&[b"previous"]),
            history_root: Digest::of(&[b"history"]),
            transactions: 6,
            transactions_root: Digest::of(&[b"transactions"]),
            entities: 7,
            relationships: 8,
            state_root: Digest::of(&[b"state"]),
        }
    }

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(BlockHeader::decode(&bytes), Ok(header()));
    }

    #[test]
    fn every_byte_of_a_header_counts() {
        let bytes = header().encode();
        for place in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[place] ^= 1;
            let decoded = BlockHeader::decode(&altered);
            assert_ne!(
                decoded.map(|header| header.hash()),
                Ok(header().hash()),
                "byte {place}"
            );
        }
        assert!(BlockHeader::decode(&bytes[..188]).is_err());
        assert!(BlockHeader::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
