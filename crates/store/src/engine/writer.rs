//! Writing pages to the file: sealed, in order, as few calls as the places allow.

use std::{io::IoSlice, time::Instant};

use super::Engine;
use crate::{
    error::Result,
    page::{PageBytes, PageRef},
    pager::Counters,
    workspace::Written,
};

/// Neighbouring pages written with one call, in bytes.
const MAX_WRITE: usize = 1 << 20;

impl Engine {
    /// Writes pages, which must be in the order of their numbers; gives back the checksums of each.
    pub(super) fn write_pages(
        &self,
        pages: &[(PageRef, PageBytes)],
    ) -> Result<Vec<(u64, Written)>> {
        let mut written = Vec::with_capacity(pages.len());
        let mut buffer = Vec::new();
        let neighbours = pages.chunk_by(|(left, _), (right, _)| left.page + 1 == right.page);
        for run in neighbours.flat_map(|run| run.chunks((MAX_WRITE / self.pager.page_size).max(1)))
        {
            buffer.clear();
            buffer.reserve_exact(run.len() * self.pager.page_size);
            for (at, bytes) in run {
                // The page itself is shared with readers, so its checksum goes into the copy that is written.
                let start = buffer.len();
                buffer.extend_from_slice(bytes);
                let copy = &mut buffer[start..];
                let checksum = self.pager.sealer.seal(copy);
                written.push((
                    at.page,
                    Written {
                        checksum,
                        hash: xxhash_rust::xxh3::xxh3_128(copy),
                    },
                ));
            }
            let first = run.first().map_or(0, |(at, _)| at.page);
            self.write(first, &buffer, "write pages")?;
            Counters::add(&self.pager.counters.pages_written, run.len() as u64);
        }
        Ok(written)
    }

    /// Writes bytes from the start of a page on.
    pub(super) fn write(&self, page: u64, bytes: &[u8], operation: &'static str) -> Result<()> {
        Counters::add(&self.pager.counters.write_calls, 1);
        Counters::add(&self.pager.counters.bytes_written, bytes.len() as u64);
        self.pager
            .storage
            .write_at(page * self.pager.page_size as u64, &[IoSlice::new(bytes)])
            .map_err(|error| self.pager.io_error(operation, error))
    }

    pub(super) fn sync(&self) -> Result<()> {
        let begun = Instant::now();
        let result = self.pager.storage.sync();
        self.pager.counters.add_sync(begun.elapsed());
        result.map_err(|error| self.pager.io_error("sync", error))
    }
}
