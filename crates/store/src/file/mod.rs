//! The fixed pages at the start of a file.
//!
//! | page | content |
//! |---|---|
//! | 0 | the header, hardly ever written again (`header.rs`) |
//! | 1, 3 | the commit slots of flushes with an even and an odd sequence number (`slot.rs`) |
//! | 2, 4 | the twins: 2 of the slot on page 3, 4 of the slot on page 1 |
//! | 5 | the acknowledgement (`acknowledgement.rs`) |
//! | 6, 7 | reserved, zero |
//! | 8.. | tree, overflow and manifest pages |
//!
//! Flush N writes its slot, and beside it, in the same call, the twin of slot N - 1.

mod acknowledgement;
mod header;
mod slot;

pub(crate) use self::{
    acknowledgement::Acknowledgement,
    header::{FORMAT, Header, HeaderFault, LOSS_ACCEPTED, SALVAGED, SAVEPOINTS},
    slot::{
        GroupRoot, MANIFEST_ENTRY_SIZE, MAX_SPACE_CHANGES, Slot, SpaceChange, inline_manifest_limit,
    },
};

/// The number of fixed pages.
pub(crate) const FIXED_PAGES: u64 = 8;

pub(crate) const ACKNOWLEDGEMENT_PAGE: u64 = 5;

/// Sectors are written whole or not at all.
pub(crate) const SECTOR: usize = 512;

/// No sequence or transaction number of ours is greater, so that arithmetic on those of a file cannot overflow.
const MAX_NUMBER: u64 = u64::MAX / 2;

/// No file has more pages, so that no offset in one overflows.
pub(crate) const MAX_PAGES: u64 = 1 << 44;

/// The page of the slot of a flush. The twin of the flush before has its place on the following page.
pub(crate) fn slot_page(sequence: u64) -> u64 {
    if sequence.is_multiple_of(2) { 1 } else { 3 }
}

/// The page of the twin of the slot of a flush.
pub(crate) fn twin_page(sequence: u64) -> u64 {
    slot_page(sequence + 1) + 1
}
