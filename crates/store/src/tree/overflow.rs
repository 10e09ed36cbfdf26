//! Values too long for a leaf.
//!
//! A value is a chain of extents, each a run of neighbouring pages. After the page header the first page of an extent
//! holds a reference to the next extent (32..48), the number of pages of this one (48..52) and four zero bytes; all pages
//! carry bytes of the value from there to their end. Freeing a value reads one page for each extent.

use super::Filling;
use crate::{
    bytes::read_u32,
    error::Result,
    node::OverflowRef,
    page::{HEADER, PageBytes, PageKind, PageRef, identity},
    pager::PageSource,
    space::PageSet,
    workspace::{Owner, Workspace},
};

pub(super) const NEXT: usize = HEADER;
pub(super) const PAGES: usize = HEADER + 16;
pub(crate) const EXTENT_HEADER: usize = 24;

/// Stores a value in pages of its own.
pub(super) fn write(
    workspace: &mut Workspace,
    value: &[u8],
    owner: Owner,
    table: u32,
) -> Result<OverflowRef> {
    let mut rest = value;
    write_from(workspace, value.len() as u32, owner, table, |_, bytes| {
        let (here, later) = rest.split_at(bytes.len());
        bytes.copy_from_slice(here);
        rest = later;
        Ok(())
    })
}

/// Stores a value in other pages than those it has. A page of it is in memory at a time.
pub(super) fn copy(
    workspace: &mut Workspace,
    value: OverflowRef,
    owner: Owner,
    table: u32,
) -> Result<OverflowRef> {
    let mut source = Chain::new(value.at);
    write_from(workspace, value.length, owner, table, |workspace, bytes| {
        source.read(workspace, bytes)
    })
}

/// Stores a value whose bytes `fill` provides, one part after the other.
fn write_from(
    workspace: &mut Workspace,
    length: u32,
    owner: Owner,
    table: u32,
    mut fill: impl FnMut(&Workspace, &mut [u8]) -> Result<()>,
) -> Result<OverflowRef> {
    let mut filling = Filling::begin(workspace, length, owner, table)?;
    while let Some((page, bytes)) = filling.next(|bytes| fill(workspace, bytes))? {
        filling.keep(workspace, page, bytes)?;
    }
    Ok(filling.finish())
}

/// Reads the bytes of a chain of extents, page by page.
struct Chain {
    /// The extent that follows the present one.
    next: PageRef,
    /// The pages of the present extent that are still to be read.
    rest: std::ops::Range<u64>,
    transaction: u64,
    page: Option<PageBytes>,
    /// Where in the page the bytes go on.
    offset: usize,
}

impl Chain {
    fn new(first: PageRef) -> Self {
        Self {
            next: first,
            rest: 0..0,
            transaction: 0,
            page: None,
            offset: 0,
        }
    }

    fn read(&mut self, source: &impl PageSource, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            let page = self.page.as_ref();
            let left = page.map_or(&[][..], |page| &page[self.offset..]);
            if left.is_empty() {
                self.advance(source)?;
                continue;
            }
            let count = bytes.len().min(left.len());
            let (here, later) = bytes.split_at_mut(count);
            here.copy_from_slice(&left[..count]);
            self.offset += count;
            bytes = later;
        }
        Ok(())
    }

    fn advance(&mut self, source: &impl PageSource) -> Result<()> {
        self.offset = HEADER;
        if self.rest.is_empty() {
            let extent = self.next;
            let (next, count) = read_extent_header(source, extent)?;
            (self.next, self.transaction) = (next, extent.transaction);
            self.rest = extent.page..extent.page + count;
            self.offset += EXTENT_HEADER;
        }
        let at = PageRef {
            page: self.rest.start,
            transaction: self.transaction,
        };
        self.rest.start += 1;
        self.page = Some(fetch(source, at)?);
        Ok(())
    }
}

/// The places of a value.
pub(super) struct Places {
    /// The number of its pages.
    pub count: u64,
    /// The page behind the last one in the file.
    pub end: u64,
}

/// Where a value lies. Reads one page for each extent.
pub(super) fn pages(source: &impl PageSource, value: OverflowRef) -> Result<Places> {
    let mut places = Places { count: 0, end: 0 };
    let mut seen = PageSet::default();
    let mut extent = value.at;
    while !extent.is_none() {
        let (next, count) = read_extent_header(source, extent)?;
        if seen.contains(extent.page) {
            return Err(source
                .pager()
                .corrupted(extent.page, "belongs to one long value twice"));
        }
        seen.insert(extent.page);
        places.count += count;
        places.end = places.end.max(extent.page + count);
        extent = next;
    }
    Ok(places)
}

/// Reads a value. What is allocated grows with the verified pages, not with the length that the leaf claims.
pub(crate) fn read(source: &impl PageSource, value: OverflowRef) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_parts(source, value, |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    Ok(bytes)
}

/// Reads a value page by page.
pub(super) fn read_parts(
    source: &impl PageSource,
    value: OverflowRef,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut left = value.length as usize;
    let mut seen = PageSet::default();
    let mut extent = value.at;
    while left > 0 {
        let (next, count) = read_extent_header(source, extent)?;
        for offset in 0..count {
            let at = PageRef {
                page: extent.page + offset,
                ..extent
            };
            if seen.contains(at.page) {
                return Err(source
                    .pager()
                    .corrupted(at.page, "belongs to one long value twice"));
            }
            seen.insert(at.page);
            let page = fetch(source, at)?;
            let start = if offset == 0 {
                HEADER + EXTENT_HEADER
            } else {
                HEADER
            };
            let here = left.min(page.len() - start);
            take(&page[start..start + here])?;
            left -= here;
        }
        extent = next;
    }
    Ok(())
}

/// Gives up the pages of a value.
pub(super) fn free(workspace: &mut Workspace, value: OverflowRef, owner: Owner) -> Result<()> {
    if workspace.keeps(value.at) {
        return Ok(());
    }
    let mut extent = value.at;
    while !extent.is_none() {
        let (next, count) = read_extent_header(workspace, extent)?;
        for page in extent.page..extent.page + count {
            workspace.free(PageRef { page, ..extent }, owner)?;
        }
        extent = next;
    }
    Ok(())
}

/// The next extent, and the number of pages of this one.
pub(crate) fn read_extent_header(
    source: &impl PageSource,
    extent: PageRef,
) -> Result<(PageRef, u64)> {
    let (next, count) = extent_header(&fetch(source, extent)?);
    if count == 0 || extent.page.checked_add(count).is_none() {
        return Err(source
            .pager()
            .corrupted(extent.page, format!("starts an extent of {count} pages")));
    }
    Ok((next, count))
}

/// The same, from the bytes of the first page of an extent.
pub(crate) fn extent_header(page: &[u8]) -> (PageRef, u64) {
    (PageRef::read(page, NEXT), u64::from(read_u32(page, PAGES)))
}

fn fetch(source: &impl PageSource, at: PageRef) -> Result<PageBytes> {
    let bytes = source.visit(at, PageBytes::clone)?;
    // A private page of this transaction was not checked on its way from the file, so its identity is checked here.
    if PageKind::of(&bytes) == Some(PageKind::Overflow) && identity(&bytes) == at {
        return Ok(bytes);
    }
    Err(source.pager().corrupted(
        at.page,
        "is not part of a long value, and a reference says it is",
    ))
}
