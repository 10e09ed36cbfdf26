//! Finding out how a file's pages are read, where its header is lost.
//!
//! The checksum of a page is a CRC that goes on from the hash of the file's identity. A CRC is affine in what it goes on
//! from, so every intact page gives that hash away: the one that most pages agree on is the file's. The page size is the
//! one for which pages carry their own numbers.

use std::collections::HashMap;

use crate::{
    bytes::read_u32,
    file::FIXED_PAGES,
    page::{PAGE_SIZES, PageKind, Sealer, identity},
    storage::Storage,
};

/// Pages to look at for each page size, spread over the file.
const SAMPLE: u64 = 4096;

/// Fewer pages that agree could do so by accident.
const FEWEST_VOTES: u32 = 2;

/// The page size, and what checks the pages.
pub(super) fn find(storage: &dyn Storage, length: u64) -> Option<(usize, Sealer)> {
    let sizes = PAGE_SIZES.filter(|size| size.is_power_of_two());
    let found = sizes
        .filter_map(|size| votes(storage, length, size).map(|(seed, votes)| (votes, size, seed)));
    found
        .max_by_key(|&(votes, ..)| votes)
        .map(|(_, size, seed)| (size, Sealer::from_seed(seed)))
}

fn votes(storage: &dyn Storage, length: u64, page_size: usize) -> Option<(u32, u32)> {
    let pages = length / page_size as u64;
    let step = (pages / SAMPLE).max(1);
    let shift = Shift::over(page_size - 4);
    let mut votes: HashMap<u32, u32> = HashMap::new();
    let mut bytes = vec![0; page_size];
    // Neighbours are looked at in turn, so that a file that is used only at its start gives enough.
    let first = FIXED_PAGES..pages.min(FIXED_PAGES + SAMPLE);
    let spread = (FIXED_PAGES + SAMPLE..pages).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    for page in first.chain(spread) {
        let read = storage.read_at(page * page_size as u64, &mut bytes);
        // What cannot be read says nothing.
        if read.is_err() || PageKind::of(&bytes).is_none() || identity(&bytes).page != page {
            continue;
        }
        if bytes[6..8] == [0, 0]
            && let Some(seed) = shift.seed(&bytes)
        {
            *votes.entry(seed).or_default() += 1;
        }
    }
    let (seed, most) = votes.into_iter().max_by_key(|&(_, votes)| votes)?;
    (most >= FEWEST_VOTES).then_some((seed, most))
}

/// What going on over a number of zero bytes makes of a CRC: a linear map of 32 bits, as its inverse.
struct Shift {
    /// For each pivot bit: the image that has it as its lowest bit, and what it is the image of.
    rows: [(u32, u32); 32],
}

impl Shift {
    fn over(length: usize) -> Self {
        let zeros = vec![0; length];
        let crc = |start: u32| {
            let mut hasher = crc32fast::Hasher::new_with_initial(start);
            hasher.update(&zeros);
            hasher.finalize()
        };
        let origin = crc(0);
        let mut rows = [(0, 0); 32];
        for bit in 0..32 {
            let mut row = (crc(1 << bit) ^ origin, 1 << bit);
            while row.0 != 0 {
                let pivot = row.0.trailing_zeros() as usize;
                if rows[pivot].0 == 0 {
                    rows[pivot] = row;
                    break;
                }
                row = (row.0 ^ rows[pivot].0, row.1 ^ rows[pivot].1);
            }
        }
        Self { rows }
    }

    /// What the checksum of a page goes on from, if the page is intact.
    fn seed(&self, page: &[u8]) -> Option<u32> {
        let mut image = read_u32(page, 0) ^ crc32fast::hash(&page[4..]);
        let mut seed = 0;
        while image != 0 {
            let row = self.rows[image.trailing_zeros() as usize];
            if row.0 == 0 {
                return None;
            }
            (image, seed) = (image ^ row.0, seed ^ row.1);
        }
        Some(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{PageRef, write_header};

    #[test]
    fn an_intact_page_gives_the_seed_away() {
        for (page_size, mark) in [(4096, 1), (8192, 2), (65536, 3)] {
            let file = [mark; 16];
            let mut bytes = vec![mark; page_size];
            let at = PageRef {
                page: 9,
                transaction: 4,
            };
            write_header(&mut bytes, PageKind::Leaf, 0, at, 1);
            Sealer::new(&file).seal(&mut bytes);
            let seed = Shift::over(page_size - 4).seed(&bytes);
            assert_eq!(seed, Some(crc32fast::hash(&file)));
        }
    }
}
