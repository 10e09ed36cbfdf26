//! The acknowledgement: which commit somebody was last told is durable.
//!
//! It is written after the sync of a flush and before its commits return, into one sector, without a sync of its own. It
//! survives a killed process; after a power cut it is behind by the last commits at most. Recovery refuses to offer
//! less than it names.

use super::{MAX_NUMBER, SECTOR};
use crate::bytes::{read_u64, write_u64};

const MAGIC: u64 = u64::from_le_bytes(*b"FolioAck");

/// | bytes | field |
/// |---|---|
/// | 0..8 | magic |
/// | 8..16 | xxh3 of bytes 16..40, seeded with the first half of the file's identity |
/// | 16..24 | sequence number of the flush |
/// | 24..32 | its transaction |
/// | 32..40 | zero |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Acknowledgement {
    pub sequence: u64,
    pub transaction: u64,
}

impl Acknowledgement {
    pub fn encode(self, identity: &[u8; 16]) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        write_u64(&mut sector, 0, MAGIC);
        write_u64(&mut sector, 16, self.sequence);
        write_u64(&mut sector, 24, self.transaction);
        let checksum = checksum(&sector, identity);
        write_u64(&mut sector, 8, checksum);
        sector
    }

    /// Nothing if the sector is damaged or says what no acknowledgement of ours says.
    pub fn decode(sector: &[u8; SECTOR], identity: &[u8; 16]) -> Option<Self> {
        let whole = read_u64(sector, 8) == checksum(sector, identity);
        Self::decode_unverified(sector).filter(|_| whole)
    }

    /// The same where the identity that is part of the checksum is lost.
    pub fn decode_unverified(sector: &[u8; SECTOR]) -> Option<Self> {
        let whole = read_u64(sector, 0) == MAGIC;
        let found = Self {
            sequence: read_u64(sector, 16),
            transaction: read_u64(sector, 24),
        };
        (whole && found.sequence <= MAX_NUMBER && found.transaction <= MAX_NUMBER).then_some(found)
    }
}

fn checksum(sector: &[u8; SECTOR], identity: &[u8; 16]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&sector[16..40], read_u64(identity, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_notices_every_flip() {
        let acknowledgement = Acknowledgement {
            sequence: 77,
            transaction: 1234,
        };
        let sector = acknowledgement.encode(&[5; 16]);
        assert_eq!(
            Acknowledgement::decode(&sector, &[5; 16]),
            Some(acknowledgement)
        );
        assert_eq!(Acknowledgement::decode(&sector, &[6; 16]), None);
        for bit in 0..40 * 8 {
            let mut damaged = sector;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                Acknowledgement::decode(&damaged, &[5; 16]),
                None,
                "bit {bit}"
            );
        }
    }
}
