//! Values too long for a leaf.
//!
//! A value is a chain of extents, each a run of neighbouring pages. After the page header the first page of an extent
//! holds a reference to the next extent (32..48), the number of pages of this one (48..52) and four zero bytes; all pages
//! carry bytes of the value from there to their end. Freeing a value reads one page for each extent.

use std::sync::Arc;

use crate::{
    bytes::{read_u32, write_u32},
    error::Result,
    node::OverflowRef,
    page::{HEADER, PageBytes, PageKind, PageRef, identity, write_header, zeroed},
    pager::PageSource,
    space::PageSet,
    workspace::{Owner, Workspace},
};

const NEXT: usize = HEADER;
const PAGES: usize = HEADER + 16;
pub(crate) const EXTENT_HEADER: usize = 24;

/// Pages filled between two looks at the memory in use.
const RELIEF_INTERVAL: u64 = 64;

/// Stores a value in pages of its own.
pub(super) fn write(
    workspace: &mut Workspace,
    value: &[u8],
    owner: Owner,
    table: u32,
) -> Result<OverflowRef> {
    let payload = (workspace.page_size() - HEADER) as u64;
    let mut extents = Vec::new();
    let mut left = value.len() as u64;
    while left > 0 {
        let wanted = (left + EXTENT_HEADER as u64).div_ceil(payload);
        let (first, count) = workspace.allocate_run(wanted, owner)?;
        extents.push((first, count));
        left = left.saturating_sub(count * payload - EXTENT_HEADER as u64);
    }
    let transaction = workspace.stamp;
    let reference = |extent: Option<&(u64, u64)>| {
        extent.map_or(PageRef::NONE, |&(page, _)| PageRef { page, transaction })
    };
    let mut rest = value;
    for (index, &(first, count)) in extents.iter().enumerate() {
        for page in first..first + count {
            let mut bytes = zeroed(workspace.page_size());
            let buffer = Arc::get_mut(&mut bytes).expect("nobody else has the page yet");
            write_header(
                buffer,
                PageKind::Overflow,
                0,
                PageRef { page, transaction },
                table,
            );
            let mut start = HEADER;
            if page == first {
                reference(extents.get(index + 1)).write(buffer, NEXT);
                write_u32(buffer, PAGES, count as u32);
                start += EXTENT_HEADER;
            }
            let (here, later) = rest.split_at(rest.len().min(buffer.len() - start));
            buffer[start..start + here.len()].copy_from_slice(here);
            rest = later;
            workspace.fill(page, bytes, owner);
            if page % RELIEF_INTERVAL == 0 {
                workspace.relieve()?;
            }
        }
    }
    Ok(OverflowRef {
        at: reference(extents.first()),
        length: value.len() as u32,
    })
}

/// Reads a value. What is allocated grows with the verified pages, not with the length that the leaf claims.
pub(crate) fn read(source: &impl PageSource, value: OverflowRef) -> Result<Vec<u8>> {
    let length = value.length as usize;
    let mut bytes = Vec::new();
    let mut seen = PageSet::default();
    let mut extent = value.at;
    while bytes.len() < length {
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
            let here = (length - bytes.len()).min(page.len() - start);
            bytes.extend_from_slice(&page[start..start + here]);
        }
        extent = next;
    }
    Ok(bytes)
}

/// Gives up the pages of a value.
pub(super) fn free(workspace: &mut Workspace, value: OverflowRef, owner: Owner) -> Result<()> {
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
