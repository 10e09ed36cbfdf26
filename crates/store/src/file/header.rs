//! The file header: what the file is. Written when it is created, and again when it gets a feature that it had not.

use crate::{
    bytes::{array, read_u32, read_u64, write_u32, write_u64},
    page::PAGE_SIZES,
};

const MAGIC: [u8; 16] = *b"Folio database\r\n";

/// The newest format this code reads and the one it writes.
pub(crate) const FORMAT: u32 = 1;

/// A feature that a program must know: the space tree may have savepoints, whose pages are in use (`space/savepoints.rs`).
pub(crate) const SAVEPOINTS: u64 = 1;

/// The features that this code knows.
const KNOWN: u64 = SAVEPOINTS;

/// A mark: the file was opened at an older commit than one that was acknowledged as durable, or may have been.
pub(crate) const LOSS_ACCEPTED: u64 = 1;

/// A mark: the file is what could be read of a damaged one.
pub(crate) const SALVAGED: u64 = 2;

/// | bytes | field |
/// |---|---|
/// | 0..16 | magic |
/// | 16..20 | crc32 of bytes 20..128 |
/// | 20..24 | format version |
/// | 24..28 | page size |
/// | 28..32 | zero |
/// | 32..40 | features that a program must know to open the file |
/// | 40..48 | marks, which say what became of the file; a program that does not know one ignores it |
/// | 48..64 | identity of the file: random, part of every checksum |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub page_size: usize,
    pub identity: [u8; 16],
    /// Those that a program must know.
    pub features: u64,
    /// What became of the file.
    pub marks: u64,
}

/// Why a header is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    NotADatabase(String),
    Newer(String),
}

impl Header {
    /// The bytes that hold everything, at the start of page 0.
    pub const LENGTH: usize = 128;

    pub fn new(page_size: usize) -> Self {
        Self {
            page_size,
            identity: random_identity(),
            features: 0,
            marks: 0,
        }
    }

    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..16].copy_from_slice(&MAGIC);
        write_u32(&mut bytes, 20, FORMAT);
        write_u32(&mut bytes, 24, self.page_size as u32);
        write_u64(&mut bytes, 32, self.features);
        write_u64(&mut bytes, 40, self.marks);
        bytes[48..64].copy_from_slice(&self.identity);
        let checksum = crc32fast::hash(&bytes[20..]);
        write_u32(&mut bytes, 16, checksum);
        bytes
    }

    pub fn decode(bytes: &[u8; Self::LENGTH]) -> Result<Self, HeaderFault> {
        let refuse = |reason: &str| Err(HeaderFault::NotADatabase(reason.into()));
        if bytes[..16] != MAGIC {
            return refuse("it does not start with Folio's magic bytes");
        }
        if read_u32(bytes, 16) != crc32fast::hash(&bytes[20..]) {
            return refuse("the checksum of its header does not match");
        }
        let format = read_u32(bytes, 20);
        if format > FORMAT {
            return Err(HeaderFault::Newer(format!("version {format}")));
        }
        let features = read_u64(bytes, 32);
        if features & !KNOWN != 0 {
            return Err(HeaderFault::Newer(format!(
                "version {format} with features {:#x}",
                features & !KNOWN
            )));
        }
        let page_size = read_u32(bytes, 24) as usize;
        if format == 0 || !PAGE_SIZES.contains(&page_size) || !page_size.is_power_of_two() {
            return refuse("its header has an impossible version or page size");
        }
        Ok(Self {
            page_size,
            identity: array(bytes, 48),
            features,
            marks: read_u64(bytes, 40),
        })
    }
}

/// 128 bits that no other file has, from the operating system's randomness as the standard library hands it out.
fn random_identity() -> [u8; 16] {
    use std::hash::{BuildHasher, RandomState};
    let half = || {
        RandomState::new()
            .hash_one(std::time::SystemTime::now())
            .to_le_bytes()
    };
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&half());
    identity[8..].copy_from_slice(&half());
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_written() {
        let header = Header {
            features: SAVEPOINTS,
            marks: SALVAGED,
            ..Header::new(16384)
        };
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn two_files_have_different_identities() {
        assert_ne!(Header::new(4096).identity, Header::new(4096).identity);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let bytes = Header::new(4096).encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    fn resealed(change: impl Fn(&mut [u8; Header::LENGTH])) -> Result<Header, HeaderFault> {
        let mut bytes = Header::new(4096).encode();
        change(&mut bytes);
        let checksum = crc32fast::hash(&bytes[20..]);
        write_u32(&mut bytes, 16, checksum);
        Header::decode(&bytes)
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        assert_eq!(
            resealed(|bytes| write_u32(bytes, 20, 9)),
            Err(HeaderFault::Newer("version 9".into()))
        );
        assert!(matches!(
            resealed(|bytes| write_u64(bytes, 32, 4)),
            Err(HeaderFault::Newer(_))
        ));
        assert!(resealed(|bytes| write_u64(bytes, 40, 4)).is_ok());
    }

    #[test]
    fn impossible_page_sizes_are_refused() {
        for size in [0, 1, 2048, 5000, 131_072, u32::MAX] {
            assert!(
                matches!(
                    resealed(|bytes| write_u32(bytes, 24, size)),
                    Err(HeaderFault::NotADatabase(_))
                ),
                "{size}"
            );
        }
    }
}
