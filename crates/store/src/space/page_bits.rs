//! One bit a page, for walks over a whole file.

use std::collections::BTreeMap;

use super::{CHUNK_BYTES, CHUNK_PAGES};

const WORDS: usize = CHUNK_BYTES / 8;

/// A set of page numbers that takes a bit for each page of those stretches of the file where it holds any.
#[derive(Default)]
pub(crate) struct PageBits {
    chunks: BTreeMap<u64, Box<[u64; WORDS]>>,
}

impl PageBits {
    /// The set without any page.
    pub const EMPTY: Self = Self {
        chunks: BTreeMap::new(),
    };

    /// Whether the page was not in the set yet.
    pub fn insert(&mut self, page: u64) -> bool {
        let word = &mut self.chunk(page / CHUNK_PAGES)[(page % CHUNK_PAGES / 64) as usize];
        let bit = 1 << (page % 64);
        let before = *word & bit;
        *word |= bit;
        before == 0
    }

    pub fn remove(&mut self, page: u64) {
        if let Some(chunk) = self.chunks.get_mut(&(page / CHUNK_PAGES)) {
            chunk[(page % CHUNK_PAGES / 64) as usize] &= !(1 << (page % 64));
        }
    }

    pub fn contains(&self, page: u64) -> bool {
        self.chunks.get(&(page / CHUNK_PAGES)).is_some_and(|chunk| {
            chunk[(page % CHUNK_PAGES / 64) as usize] & (1 << (page % 64)) != 0
        })
    }

    pub fn len(&self) -> u64 {
        let words = self.chunks.values().flat_map(|chunk| chunk.iter());
        words.map(|word| u64::from(word.count_ones())).sum()
    }

    /// Adds the pages of a row of the space tree.
    pub fn insert_row(&mut self, index: u64, bits: &[u8; CHUNK_BYTES]) {
        if bits.iter().any(|&byte| byte != 0) {
            let chunk = self.chunk(index);
            for (word, bytes) in chunk.iter_mut().zip(bits.chunks_exact(8)) {
                *word |= crate::bytes::read_u64(bytes, 0);
            }
        }
    }

    fn chunk(&mut self, index: u64) -> &mut [u64; WORDS] {
        self.chunks
            .entry(index)
            .or_insert_with(|| Box::new([0; WORDS]))
    }

    /// The pages that are not in the other set, in ascending order.
    pub fn without<'s>(&'s self, other: &'s Self) -> impl Iterator<Item = u64> + 's {
        self.chunks.iter().flat_map(move |(&index, chunk)| {
            let theirs = other.chunks.get(&index);
            (0..WORDS).flat_map(move |place| {
                let rest = chunk[place] & !theirs.map_or(0, |theirs| theirs[place]);
                let first = index * CHUNK_PAGES + place as u64 * 64;
                (0..64)
                    .filter(move |bit| rest & (1 << bit) != 0)
                    .map(move |bit| first + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_put_in_and_not_taken_out() {
        let mut bits = PageBits::default();
        for page in [3, 63, 64, 4_095, 4_096, 1 << 44] {
            assert!(bits.insert(page) && !bits.insert(page), "{page}");
        }
        bits.remove(64);
        assert!(!bits.contains(64) && bits.contains(63) && bits.contains(1 << 44));
        assert_eq!(bits.len(), 5);
        let mut other = PageBits::default();
        let mut row = [0; CHUNK_BYTES];
        row[0] = 1 << 3;
        other.insert_row(0, &row);
        other.insert_row(1, &row);
        let rest: Vec<u64> = bits.without(&other).collect();
        assert_eq!(rest, [63, 4_095, 4_096, 1 << 44]);
        assert_eq!(other.without(&bits).collect::<Vec<_>>(), [4_099]);
    }
}
