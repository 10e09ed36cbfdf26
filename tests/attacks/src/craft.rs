//! Crafted files: bytes are changed and the checksums made right again, so that the checks behind the checksums are met.

use folio_store::storage::MemoryStorage;

use crate::{
    choices::Choices,
    damage::{FIXED_PAGES, Fixture, bytes, put},
};

/// Gives a page its right checksum.
pub fn seal_page(image: &MemoryStorage, page: u64, page_size: u64) {
    let mut content = bytes(image, page * page_size, page_size as usize);
    let mut hasher = crc32fast::Hasher::new_with_initial(crc32fast::hash(&identity(image)));
    hasher.update(&content[4..]);
    content[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
    put(image, page * page_size, &content);
}

/// Gives the header its right checksum.
pub fn seal_header(image: &MemoryStorage) {
    let content = bytes(image, 20, 108);
    put(image, 16, &crc32fast::hash(&content).to_le_bytes());
}

/// Gives a slot or a twin its right checksum.
pub fn seal_slot(image: &MemoryStorage, page: u64, page_size: u64) {
    let content = bytes(image, page * page_size + 24, page_size as usize - 24);
    let checksum = xxhash_rust::xxh3::xxh3_128_with_seed(&content, seed(image));
    put(image, page * page_size + 8, &checksum.to_le_bytes());
}

/// Gives the acknowledgement its right checksum.
pub fn seal_acknowledgement(image: &MemoryStorage, page_size: u64) {
    let content = bytes(image, 5 * page_size + 16, 24);
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(&content, seed(image));
    put(image, 5 * page_size + 8, &checksum.to_le_bytes());
}

fn identity(image: &MemoryStorage) -> Vec<u8> {
    bytes(image, 48, 16)
}

fn seed(image: &MemoryStorage) -> u64 {
    identity(image)[..8]
        .iter()
        .rev()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Bytes that are likely to mean something where they are put.
fn something(fixture: &Fixture, pages: &[u64], old: &[u8], choices: &mut impl Choices) -> Vec<u8> {
    let number = old
        .iter()
        .rev()
        .fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
    let of_number = |number: u64| number.to_le_bytes()[..old.len().min(8)].to_vec();
    match choices.below(8) {
        0 => vec![0; old.len()],
        1 => vec![0xFF; old.len()],
        2 => of_number(number.wrapping_add(1)),
        3 => of_number(number.wrapping_sub(1)),
        4 => of_number(1 << choices.below(64)),
        // The identity of another page: a reference to it.
        5 if !pages.is_empty() => {
            let page = pages[choices.below(pages.len() as u64) as usize];
            bytes(&fixture.image, page * fixture.page_size + 8, 16)
        }
        6 => of_number(number ^ (1 << choices.below(8 * old.len().min(8) as u64))),
        _ => (0..old.len()).map(|_| choices.below(256) as u8).collect(),
    }
}

fn edit(
    image: &MemoryStorage,
    fixture: &Fixture,
    pages: &[u64],
    at: u64,
    choices: &mut impl Choices,
) {
    let width = [8, 1, 2, 4, 16][choices.below(5) as usize];
    let old = bytes(image, at, width);
    let new = something(fixture, pages, &old, choices);
    let end = at - at % fixture.page_size + fixture.page_size;
    let fitting = new.len().min((end - at) as usize);
    put(image, at, &new[..fitting]);
}

/// The file with some bytes of some leaves, branches, overflow pages and manifest pages changed, and their checksums right.
#[must_use]
pub fn crafted_pages(fixture: &Fixture, choices: &mut impl Choices) -> MemoryStorage {
    let image = fixture.image.clone();
    let pages = fixture.written_pages();
    for _ in 0..1 + choices.below(2) {
        let page = pages[choices.below(pages.len() as u64) as usize];
        for _ in 0..1 + choices.below(4) {
            let within = match choices.below(4) {
                0 => 24 + choices.below(32),
                1 => 40 + choices.below(200),
                2 => 4 + choices.below(28),
                _ => 24 + choices.below(fixture.page_size - 24),
            };
            let at = page * fixture.page_size + within;
            edit(&image, fixture, &pages, at, choices);
        }
        seal_page(&image, page, fixture.page_size);
    }
    image
}

/// The file with some fields of header, slots, twins and acknowledgement changed, and their checksums right.
#[must_use]
pub fn crafted_slots(fixture: &Fixture, choices: &mut impl Choices) -> MemoryStorage {
    let image = fixture.image.clone();
    let pages = fixture.written_pages();
    let size = fixture.page_size;
    for _ in 0..1 + choices.below(3) {
        let page = choices.weighted(&[(1, 0), (4, 1), (1, 2), (4, 3), (1, 4), (2, 5)]);
        for _ in 0..1 + choices.below(3) {
            let within = match page {
                // Not the identity: all other checksums are made with it.
                0 => 20 + choices.below(28),
                5 => 16 + choices.below(24),
                _ if choices.one_in(4) => 648 + choices.below(size - 648),
                _ => 24 + choices.below(624),
            };
            edit(&image, fixture, &pages, page * size + within, choices);
        }
        match page {
            0 => seal_header(&image),
            5 => seal_acknowledgement(&image, size),
            _ => seal_slot(&image, page, size),
        }
    }
    image
}

/// Every 8-byte field of the fixed pages set to an extreme. With `sealed` the checksums are right.
pub fn extremes(fixture: &Fixture, sealed: bool, mut attempt: impl FnMut(MemoryStorage, String)) {
    let size = fixture.page_size;
    for page in 0..FIXED_PAGES {
        let fields = match page {
            0 => 0..16,
            1..=4 => 0..100,
            5 => 0..8,
            _ => 0..2,
        };
        for field in fields {
            for (name, value) in [
                ("0", 0),
                ("1", 1),
                ("the greatest", u64::MAX),
                ("2^63", 1 << 63),
                ("2^32", 1 << 32),
                ("2^44", 1 << 44),
            ] {
                let at = page * size + field * 8;
                let image = fixture.image.clone();
                put(&image, at, &u64::to_le_bytes(value));
                match page {
                    _ if !sealed => {}
                    0 => seal_header(&image),
                    1..=4 => seal_slot(&image, page, size),
                    5 => seal_acknowledgement(&image, size),
                    _ => {}
                }
                attempt(image, format!("page {page}, field {field} set to {name}"));
            }
        }
    }
}
