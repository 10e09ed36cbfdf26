//! Keys and values, and sums over them: made from numbers, so that what an engine returns can be compared with what it was
//! given without a copy of it.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Bytes of a row's key.
pub const KEY: usize = 24;
/// Bytes of a row's value.
pub const VALUE: usize = 150;
/// Bytes of a log entry.
pub const ENTRY: usize = 256;

/// A bijection of the numbers that looks random (the finalizer of splitmix64), so that different numbers give different keys.
pub fn mix(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Numbers that look random.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        ((u128::from(mix(self.0)) * u128::from(bound)) >> 64) as u64
    }
}

/// What the rows and entries of a run look like.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    pub seed: u64,
}

impl Data {
    /// The key of a row. Keys of different rows differ, and their order has nothing to do with that of the rows.
    pub fn key(self, row: u64) -> [u8; KEY] {
        let mut key = [0; KEY];
        let first = mix(row ^ self.seed);
        key[..8].copy_from_slice(&first.to_be_bytes());
        key[8..16].copy_from_slice(&mix(first).to_be_bytes());
        key[16..].copy_from_slice(&row.to_be_bytes());
        key
    }

    /// The value of a row after so many changes.
    pub fn value(self, row: u64, version: u32) -> [u8; VALUE] {
        let mut value = [0; VALUE];
        fill(&mut value, self.head(row, version));
        value
    }

    /// The first eight bytes of a value, as a number.
    pub fn head(self, row: u64, version: u32) -> u64 {
        mix(mix(row ^ self.seed) ^ u64::from(version))
    }

    /// A log entry, which names a row and the version it brings about.
    pub fn entry(self, index: u64, row: u64, version: u32) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        fill(&mut entry[16..], mix(index ^ self.seed.rotate_left(32)));
        entry[..8].copy_from_slice(&row.to_le_bytes());
        entry[8..12].copy_from_slice(&version.to_le_bytes());
        entry
    }
}

/// The row and the version that an entry names.
pub fn named_by(entry: &[u8]) -> Option<(u64, u32)> {
    let row = u64::from_le_bytes(entry.get(..8)?.try_into().ok()?);
    let version = u32::from_le_bytes(entry.get(8..12)?.try_into().ok()?);
    Some((row, version))
}

/// The first eight bytes of a value as a number.
pub fn head_of(value: &[u8]) -> u64 {
    value
        .first_chunk()
        .map_or(0, |head| u64::from_le_bytes(*head))
}

fn fill(bytes: &mut [u8], first: u64) {
    let mut word = first;
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        // An xorshift: no compression finds it, and it costs little beside what is measured.
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
    }
}

/// Number and sum of rows; the same for the same rows in any order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sum {
    pub rows: u64,
    pub sum: u64,
}

impl Sum {
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        self.sum = self
            .sum
            .wrapping_add(xxh3_64_with_seed(value, xxh3_64(key)));
    }
}
