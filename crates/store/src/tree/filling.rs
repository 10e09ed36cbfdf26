//! A long value whose bytes arrive a page at a time.

use super::overflow::{EXTENT_HEADER, NEXT, PAGES};
use crate::{
    bytes::write_u32,
    error::Result,
    node::OverflowRef,
    page::{HEADER, PageBytes, PageKind, PageRef, write_header},
    workspace::{Owner, Workspace},
};

/// Pages filled between two looks at the memory in use.
const RELIEF_INTERVAL: u64 = 64;

/// The pages of a value, taken before its bytes are there. Whoever does not finish it gives the pages back with
/// [`abandon`](Filling::abandon).
pub(crate) struct Filling {
    extents: Vec<(u64, u64)>,
    /// The transaction that the pages carry.
    transaction: u64,
    owner: Owner,
    table: u32,
    page_size: usize,
    length: u32,
    /// Bytes that are still to come.
    left: usize,
    /// The next page to be filled: the place of its extent, and its own place there.
    next: (usize, u64),
}

impl Filling {
    pub fn begin(workspace: &mut Workspace, length: u32, owner: Owner, table: u32) -> Result<Self> {
        let mut filling = Self {
            extents: Vec::new(),
            transaction: workspace.stamp,
            owner,
            table,
            page_size: workspace.page_size(),
            length,
            left: length as usize,
            next: (0, 0),
        };
        let payload = (filling.page_size - HEADER) as u64;
        let mut left = u64::from(length);
        while left > 0 {
            let wanted = (left + EXTENT_HEADER as u64).div_ceil(payload);
            let (first, count) = workspace.allocate_run(wanted, owner)?;
            filling.extents.push((first, count));
            left = left.saturating_sub(count * payload - EXTENT_HEADER as u64);
        }
        Ok(filling)
    }

    fn reference(&self, extent: usize) -> PageRef {
        let transaction = self.transaction;
        self.extents
            .get(extent)
            .map_or(PageRef::NONE, |&(page, _)| PageRef { page, transaction })
    }

    /// The next page, filled by `fill`; `None` when the value is whole.
    pub fn next<E>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Option<(u64, PageBytes)>, E> {
        let (extent, offset) = self.next;
        let Some(&(first, count)) = self.extents.get(extent) else {
            return Ok(None);
        };
        let at = PageRef {
            page: first + offset,
            transaction: self.transaction,
        };
        let mut bytes = PageBytes::zeroed(self.page_size);
        let buffer = bytes.make_mut();
        write_header(buffer, PageKind::Overflow, 0, at, self.table);
        let mut start = HEADER;
        if offset == 0 {
            self.reference(extent + 1).write(buffer, NEXT);
            write_u32(buffer, PAGES, count as u32);
            start += EXTENT_HEADER;
        }
        let end = buffer.len().min(start + self.left);
        fill(&mut buffer[start..end])?;
        self.left -= end - start;
        self.next = match offset + 1 == count {
            true => (extent + 1, 0),
            false => (extent, offset + 1),
        };
        Ok(Some((at.page, bytes)))
    }

    /// Takes a page that was filled.
    pub fn keep(&self, workspace: &mut Workspace, page: u64, bytes: PageBytes) -> Result<()> {
        workspace.fill(page, bytes, self.owner);
        match page % RELIEF_INTERVAL {
            0 => workspace.relieve(),
            _ => Ok(()),
        }
    }

    /// Where the value is, once it is whole.
    pub fn finish(self) -> OverflowRef {
        debug_assert_eq!(self.left, 0, "the value is not whole");
        OverflowRef {
            at: self.reference(0),
            length: self.length,
        }
    }

    /// Gives back all pages.
    pub fn abandon(self, workspace: &mut Workspace) -> Result<()> {
        let transaction = self.transaction;
        for page in self
            .extents
            .iter()
            .flat_map(|&(first, count)| first..first + count)
        {
            workspace.free(PageRef { page, transaction }, self.owner)?;
        }
        Ok(())
    }
}
