//! A commit slot: everything needed to open the file at one flush, and to know that the flush is whole.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic |
//! | 8..24 | xxh3-128 of bytes 24.., seeded with the first half of the file's identity |
//! | 24..32 | sequence number of the flush |
//! | 32..40 | newest transaction in it |
//! | 40..48 | ceiling: no page in the file carries a later transaction number |
//! | 48..56 | length: the number of pages that may be in use, fixed ones included |
//! | 56..64 | pages in use, fixed ones included |
//! | 64..80, 80..88 | root and rows of the space tree |
//! | 88..104 | manifest digest |
//! | 104..112 | manifest entries |
//! | 112..128 | first manifest page, or none if the manifest is in the slot |
//! | 128..132 | number of space changes below |
//! | 132..136 | the next table number |
//! | 136..648 | for each of the 16 groups: root of its catalog (16), its tables (8), the transaction it stands at (8) |
//! | 648.. | space changes that are not in the space tree yet, 8 bytes each: page * 2 + 1 if in use |
//! | then | the manifest if it is short: page (8) and crc32 (4) of each page that the flush wrote |

use crate::{
    bytes::{read_u32, read_u64, read_u128, write_u32, write_u64, write_u128},
    page::PageRef,
    types::Group,
};

use super::{FIXED_PAGES, MAX_NUMBER, MAX_PAGES};

const MAGIC: u64 = u64::from_le_bytes(*b"FolioSlt");
const GROUPS: usize = 136;
const GROUP_SIZE: usize = 32;
const LISTS: usize = GROUPS + Group::COUNT * GROUP_SIZE;
const CHANGE_SIZE: usize = 8;
pub(crate) const MANIFEST_ENTRY_SIZE: usize = 12;

/// The most space changes kept in a slot; beyond that they are folded into the space tree.
pub(crate) const MAX_SPACE_CHANGES: usize = 160;

/// The longest manifest that fits into the slot beside `changes` space changes.
pub(crate) fn inline_manifest_limit(page_size: usize, changes: usize) -> usize {
    (page_size - LISTS - changes * CHANGE_SIZE) / MANIFEST_ENTRY_SIZE
}

/// The durable root of a table group: a tree from table name to table record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GroupRoot {
    pub catalog: PageRef,
    pub tables: u64,
    /// The transaction whose state the group shows.
    pub transaction: u64,
}

impl GroupRoot {
    pub const EMPTY: Self = Self {
        catalog: PageRef::NONE,
        tables: 0,
        transaction: 0,
    };
}

/// A page whose use differs from what the space tree says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SpaceChange {
    pub page: u64,
    pub used: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub sequence: u64,
    pub transaction: u64,
    pub ceiling: u64,
    pub length: u64,
    pub used: u64,
    pub space_root: PageRef,
    pub space_rows: u64,
    pub digest: u128,
    pub manifest_entries: u64,
    pub manifest_page: PageRef,
    pub next_table: u32,
    pub groups: [GroupRoot; Group::COUNT],
    pub space_changes: Vec<SpaceChange>,
    /// Empty if the manifest is on pages of its own.
    pub manifest: Vec<(u64, u32)>,
}

impl Slot {
    /// The slot of a new file.
    pub fn first(ceiling: u64) -> Self {
        Self {
            sequence: 0,
            transaction: 0,
            ceiling,
            length: FIXED_PAGES,
            used: FIXED_PAGES,
            space_root: PageRef::NONE,
            space_rows: 0,
            digest: 0,
            manifest_entries: 0,
            manifest_page: PageRef::NONE,
            next_table: 1,
            groups: [GroupRoot::EMPTY; Group::COUNT],
            space_changes: Vec::new(),
            manifest: Vec::new(),
        }
    }

    pub fn encode(&self, page_size: usize, identity: &[u8; 16]) -> Vec<u8> {
        let mut bytes = vec![0; page_size];
        write_u64(&mut bytes, 0, MAGIC);
        for (at, value) in [
            (24, self.sequence),
            (32, self.transaction),
            (40, self.ceiling),
            (48, self.length),
            (56, self.used),
            (80, self.space_rows),
            (104, self.manifest_entries),
        ] {
            write_u64(&mut bytes, at, value);
        }
        self.space_root.write(&mut bytes, 64);
        write_u128(&mut bytes, 88, self.digest);
        self.manifest_page.write(&mut bytes, 112);
        write_u32(&mut bytes, 128, self.space_changes.len() as u32);
        write_u32(&mut bytes, 132, self.next_table);
        for (index, group) in self.groups.iter().enumerate() {
            let at = GROUPS + index * GROUP_SIZE;
            group.catalog.write(&mut bytes, at);
            write_u64(&mut bytes, at + 16, group.tables);
            write_u64(&mut bytes, at + 24, group.transaction);
        }
        let mut at = LISTS;
        for change in &self.space_changes {
            write_u64(&mut bytes, at, change.page * 2 + u64::from(change.used));
            at += CHANGE_SIZE;
        }
        for &(page, checksum) in &self.manifest {
            write_u64(&mut bytes, at, page);
            write_u32(&mut bytes, at + 8, checksum);
            at += MANIFEST_ENTRY_SIZE;
        }
        let checksum = checksum(&bytes, identity);
        write_u128(&mut bytes, 8, checksum);
        bytes
    }

    /// Reads a slot and checks it against itself; says what is wrong otherwise.
    pub fn decode(bytes: &[u8], identity: &[u8; 16]) -> Result<Self, &'static str> {
        if read_u64(bytes, 0) != MAGIC {
            return Err("not a commit slot");
        }
        if read_u128(bytes, 8) != checksum(bytes, identity) {
            return Err("the checksum of the slot does not match");
        }
        Self::decode_unverified(bytes)
    }

    /// The same where the identity that is part of the checksum is lost.
    pub fn decode_unverified(bytes: &[u8]) -> Result<Self, &'static str> {
        if read_u64(bytes, 0) != MAGIC {
            return Err("not a commit slot");
        }
        let changes = read_u32(bytes, 128) as usize;
        let manifest_entries = read_u64(bytes, 104);
        let manifest_page = PageRef::read(bytes, 112);
        let in_slot = if manifest_page.is_none() {
            manifest_entries
        } else {
            0
        };
        if changes > MAX_SPACE_CHANGES
            || in_slot > inline_manifest_limit(bytes.len(), changes) as u64
        {
            return Err("the lists of the slot do not fit it");
        }
        let mut groups = [GroupRoot::EMPTY; Group::COUNT];
        for (index, group) in groups.iter_mut().enumerate() {
            let at = GROUPS + index * GROUP_SIZE;
            *group = GroupRoot {
                catalog: PageRef::read(bytes, at),
                tables: read_u64(bytes, at + 16),
                transaction: read_u64(bytes, at + 24),
            };
        }
        let manifest_at = LISTS + changes * CHANGE_SIZE;
        let slot = Self {
            sequence: read_u64(bytes, 24),
            transaction: read_u64(bytes, 32),
            ceiling: read_u64(bytes, 40),
            length: read_u64(bytes, 48),
            used: read_u64(bytes, 56),
            space_root: PageRef::read(bytes, 64),
            space_rows: read_u64(bytes, 80),
            digest: read_u128(bytes, 88),
            manifest_entries,
            manifest_page,
            next_table: read_u32(bytes, 132),
            groups,
            space_changes: (0..changes)
                .map(|index| read_u64(bytes, LISTS + index * CHANGE_SIZE))
                .map(|change| SpaceChange {
                    page: change / 2,
                    used: change % 2 == 1,
                })
                .collect(),
            manifest: (0..in_slot as usize)
                .map(|index| manifest_at + index * MANIFEST_ENTRY_SIZE)
                .map(|at| (read_u64(bytes, at), read_u32(bytes, at + 8)))
                .collect(),
        };
        slot.check()?;
        Ok(slot)
    }

    /// What no slot of ours says, whatever its checksum.
    fn check(&self) -> Result<(), &'static str> {
        let refers_inside = |at: PageRef| {
            at.is_none()
                || ((FIXED_PAGES..self.length).contains(&at.page)
                    && at.transaction <= self.transaction)
        };
        if self.ceiling < self.transaction
            || self.ceiling > MAX_NUMBER
            || self.sequence > MAX_NUMBER
        {
            return Err("impossible transaction numbers");
        }
        if self.length < FIXED_PAGES
            || self.length > MAX_PAGES
            || !(FIXED_PAGES..=self.length).contains(&self.used)
        {
            return Err("impossible length");
        }
        if self.manifest_entries > self.length || !refers_inside(self.manifest_page) {
            return Err("the manifest lies outside the file");
        }
        if !refers_inside(self.space_root)
            || self
                .groups
                .iter()
                .any(|group| !refers_inside(group.catalog))
        {
            return Err("a root lies outside the file");
        }
        if self
            .groups
            .iter()
            .any(|group| group.transaction > self.transaction)
        {
            return Err("a group is newer than the commit");
        }
        if self
            .space_changes
            .iter()
            .any(|change| !(FIXED_PAGES..self.length).contains(&change.page))
        {
            return Err("a space change lies outside the file");
        }
        Ok(())
    }
}

fn checksum(bytes: &[u8], identity: &[u8; 16]) -> u128 {
    xxhash_rust::xxh3::xxh3_128_with_seed(&bytes[24..], read_u64(identity, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: [u8; 16] = [3; 16];

    fn slot() -> Slot {
        let mut groups = [GroupRoot::EMPTY; Group::COUNT];
        groups[3] = GroupRoot {
            catalog: PageRef {
                page: 20,
                transaction: 8,
            },
            tables: 2,
            transaction: 9,
        };
        Slot {
            sequence: 5,
            transaction: 9,
            ceiling: 100,
            length: 64,
            used: 30,
            space_root: PageRef {
                page: 9,
                transaction: 7,
            },
            space_rows: 1,
            digest: u128::MAX / 3,
            manifest_entries: 2,
            next_table: 4,
            groups,
            space_changes: vec![
                SpaceChange {
                    page: 10,
                    used: true,
                },
                SpaceChange {
                    page: 11,
                    used: false,
                },
            ],
            manifest: vec![(20, 7), (21, u32::MAX)],
            ..Slot::first(0)
        }
    }

    #[test]
    fn a_slot_reads_back_as_written_at_every_page_size() {
        for page_size in [4096, 8192, 65536] {
            assert_eq!(
                Slot::decode(&slot().encode(page_size, &IDENTITY), &IDENTITY),
                Ok(slot())
            );
        }
    }

    #[test]
    fn full_lists_fit() {
        let mut slot = slot();
        slot.space_changes = vec![
            SpaceChange {
                page: 63,
                used: true
            };
            MAX_SPACE_CHANGES
        ];
        slot.manifest = vec![(9, 1); inline_manifest_limit(4096, MAX_SPACE_CHANGES)];
        slot.manifest_entries = slot.manifest.len() as u64;
        slot.length = 1000;
        assert_eq!(
            Slot::decode(&slot.encode(4096, &IDENTITY), &IDENTITY),
            Ok(slot)
        );
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = slot().encode(4096, &IDENTITY);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Slot::decode(&damaged, &IDENTITY).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_file_has_up_to_2_to_the_44_pages_and_not_one_more() {
        let decoded = |length| {
            let mut slot = slot();
            slot.length = length;
            Slot::decode(&slot.encode(4096, &IDENTITY), &IDENTITY).map(|slot| slot.length)
        };
        assert_eq!(decoded(1 << 44), Ok(1 << 44));
        assert_eq!(decoded((1 << 44) + 1), Err("impossible length"));
    }

    #[test]
    fn extreme_fields_are_refused_although_the_checksum_is_right() {
        let changes: [fn(&mut Slot); 9] = [
            |slot| slot.ceiling = 8,
            |slot| slot.ceiling = u64::MAX,
            |slot| slot.length = 7,
            |slot| slot.length = u64::MAX,
            |slot| slot.used = 65,
            |slot| slot.space_root.page = 64,
            |slot| {
                slot.groups[0].catalog = PageRef {
                    page: 9,
                    transaction: 10,
                }
            },
            |slot| slot.groups[0].transaction = 10,
            |slot| slot.space_changes[0].page = 2,
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut slot = slot();
            change(&mut slot);
            assert!(
                Slot::decode(&slot.encode(4096, &IDENTITY), &IDENTITY).is_err(),
                "change {index}"
            );
        }
    }
}
