//! Cutting the free end off the file.

use std::sync::Arc;

use super::{Engine, FlushKind, Flusher, flush::CEILING_STEP};
use crate::{
    error::Result,
    file::Slot,
    space::{PageSet, Purpose},
    types::GroupSet,
};

impl Engine {
    /// Moves the engine's own pages below `bound`, as far as there is room, and gives what is free at the end of the file
    /// back to the filesystem.
    ///
    /// The shorter length is made durable twice before the file is cut, so that no slot that recovery may choose describes
    /// more than there is.
    pub(crate) fn shrink(self: &Arc<Self>, bound: u64) -> Result<()> {
        let mut flusher = self.flusher.lock();
        self.check_writable()?;
        let room = self.space.lock().begin_settling(&self.pager);
        self.latch_failed_growth(room)?;
        let shrunk = self
            .flush_locked(&mut flusher, GroupSet::ALL, FlushKind::Settling { bound })
            .and_then(|()| self.cut(&mut flusher));
        self.space.lock().end_settling();
        shrunk.inspect_err(|failure| self.durability.latch(failure))
    }

    fn cut(&self, flusher: &mut Flusher) -> Result<()> {
        let mut described = 0;
        for _ in 0..2 {
            let length = self.space.lock().lower_length(&self.pager)?;
            let number = self.take_number();
            let slot = Slot {
                ceiling: flusher.slot.ceiling.max(number + CEILING_STEP),
                length,
                ..flusher.next_slot(number)
            };
            self.write_slot(flusher, slot, PageSet::default())?;
            described = described.max(length);
        }
        self.space.lock().cut(described, &self.pager)
    }

    /// From where on a compaction moves pages, and how many there are.
    pub(crate) fn compaction_goal(&self, pages_a_step: u64) -> Result<(u64, u64)> {
        self.release_waiting()?;
        let mut space = self.space.lock();
        // Copies made by one step and by its flush lie beside what they replace.
        let bound = space.in_use() + space.kept_back(Purpose::Growth) + 2 * pages_a_step;
        let total = space.used_from(bound, &self.pager)?;
        Ok((bound, total))
    }

    /// How many pages from `bound` on are in use.
    pub(crate) fn pages_from(&self, bound: u64) -> Result<u64> {
        self.space.lock().used_from(bound, &self.pager)
    }

    /// Makes pages be taken from the start of the file, or as usual.
    pub(crate) fn pack(&self, packing: bool) {
        self.space.lock().pack(packing);
    }

    /// The length of the file, in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.space.lock().physical() * self.pager.page_size as u64
    }
}
