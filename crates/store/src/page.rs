//! The header every page starts with, and how a page proves that it is the one its parent means.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | crc32 of bytes 4.., seeded with the file's identity, so that a page of another file does not pass |
//! | 4 | kind |
//! | 5 | level: 0 for a leaf, one more for each level above |
//! | 6..8 | zero |
//! | 8..16 | the page's own number |
//! | 16..24 | the transaction that wrote it |
//! | 24..28 | the table it belongs to; 0 for the free-space map and manifests, the greatest numbers for catalogs |
//! | 28..32 | depends on the kind |
//!
//! Integers are little-endian.

use crate::bytes::{read_u32, read_u64, write_u32, write_u64};
pub(crate) use crate::cache::PageBytes;

/// Bytes taken by the header of every page.
pub(crate) const HEADER: usize = 32;

/// The smallest and the largest page size, in bytes. Every power of two between them is possible.
pub(crate) const PAGE_SIZES: std::ops::RangeInclusive<usize> = 4096..=65536;

/// A page as its parent refers to it: where it is and which transaction wrote it, so that an older page at the same
/// place is told apart from the right one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct PageRef {
    pub page: u64,
    pub transaction: u64,
}

impl PageRef {
    /// No page: the root of an empty tree. (Page 0 is the file header, so no tree page has that number.)
    pub const NONE: Self = Self {
        page: 0,
        transaction: 0,
    };

    pub fn is_none(self) -> bool {
        self.page == 0
    }

    pub fn read(bytes: &[u8], at: usize) -> Self {
        Self {
            page: read_u64(bytes, at),
            transaction: read_u64(bytes, at + 8),
        }
    }

    pub fn write(self, bytes: &mut [u8], at: usize) {
        write_u64(bytes, at, self.page);
        write_u64(bytes, at + 8, self.transaction);
    }
}

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum PageKind {
    Leaf = 1,
    Branch = 2,
    Overflow = 3,
    Manifest = 4,
}

impl PageKind {
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes[4] {
            1 => Some(Self::Leaf),
            2 => Some(Self::Branch),
            3 => Some(Self::Overflow),
            4 => Some(Self::Manifest),
            _ => None,
        }
    }
}

/// Writes everything of the header but the checksum.
pub(crate) fn write_header(bytes: &mut [u8], kind: PageKind, level: u8, at: PageRef, table: u32) {
    bytes[..HEADER].fill(0);
    bytes[4] = kind as u8;
    bytes[5] = level;
    at.write(bytes, 8);
    write_u32(bytes, 24, table);
}

/// Gives a copied page its new identity.
pub(crate) fn set_identity(bytes: &mut [u8], at: PageRef) {
    at.write(bytes, 8);
}

pub(crate) fn identity(bytes: &[u8]) -> PageRef {
    PageRef::read(bytes, 8)
}

/// The number of the table that a page belongs to.
pub(crate) fn table_number(bytes: &[u8]) -> u32 {
    read_u32(bytes, 24)
}

pub(crate) fn level(bytes: &[u8]) -> u8 {
    bytes[5]
}

/// Computes and checks the checksums of one file's pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealer {
    seed: u32,
}

impl Sealer {
    pub fn new(file_identity: &[u8; 16]) -> Self {
        Self {
            seed: crc32fast::hash(file_identity),
        }
    }

    /// For a file whose identity is lost, and what it hashes to is known.
    pub fn from_seed(seed: u32) -> Self {
        Self { seed }
    }

    fn checksum(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.seed);
        hasher.update(&bytes[4..]);
        hasher.finalize()
    }

    /// Stores the checksum in the page and returns it.
    pub fn seal(self, bytes: &mut [u8]) -> u32 {
        let checksum = self.checksum(bytes);
        write_u32(bytes, 0, checksum);
        checksum
    }

    /// The page's checksum, if the stored one is right.
    pub fn verify(self, bytes: &[u8]) -> Option<u32> {
        let checksum = self.checksum(bytes);
        (checksum == read_u32(bytes, 0)).then_some(checksum)
    }

    /// Checks that `bytes` are whole and are the page that `at` refers to; says what is wrong otherwise.
    pub fn check(self, bytes: &[u8], at: PageRef) -> Result<(), String> {
        if self.verify(bytes).is_none() {
            return Err("the checksum does not match: the page is torn or damaged".into());
        }
        let found = identity(bytes);
        if found.page != at.page {
            return Err(format!(
                "holds page {}: a write went to the wrong place",
                found.page
            ));
        }
        if found.transaction != at.transaction {
            return Err(format!(
                "was written by transaction {} and transaction {} is expected: a write was lost",
                found.transaction, at.transaction
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(sealer: Sealer, at: PageRef) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        write_header(&mut bytes, PageKind::Leaf, 0, at, 7);
        sealer.seal(&mut bytes);
        bytes
    }

    const AT: PageRef = PageRef {
        page: 9,
        transaction: 12,
    };

    #[test]
    fn a_sealed_page_passes_as_itself_only() {
        let sealer = Sealer::new(&[1; 16]);
        let bytes = sealed(sealer, AT);
        assert!(sealer.check(&bytes, AT).is_ok());
        assert!(
            sealer
                .check(&bytes, PageRef { page: 10, ..AT })
                .unwrap_err()
                .contains("wrong place")
        );
        assert!(
            sealer
                .check(
                    &bytes,
                    PageRef {
                        transaction: 13,
                        ..AT
                    }
                )
                .unwrap_err()
                .contains("lost")
        );
    }

    #[test]
    fn a_page_of_another_file_does_not_pass() {
        let bytes = sealed(Sealer::new(&[1; 16]), AT);
        assert!(Sealer::new(&[2; 16]).check(&bytes, AT).is_err());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealer = Sealer::new(&[1; 16]);
        let bytes = sealed(sealer, AT);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.check(&damaged, AT).is_err(), "bit {bit}");
        }
    }
}
