//! The damaged file: what it is, its commits, and its pages as far as they can be read.

use std::sync::Arc;

use crate::{
    engine::{GROWTH, OpenOptions, pager, verify_manifest},
    error::{Error, Result},
    file::{
        ACKNOWLEDGEMENT_PAGE, Acknowledgement, FIXED_PAGES, FORMAT, Header, HeaderFault, SECTOR,
        Slot, slot_page, twin_page,
    },
    node::{self, Node, OverflowRef},
    page::{HEADER, PageBytes, PageKind, PageRef, identity, table_number},
    pager::Pager,
    space::PageBits,
    storage::Storage,
    transaction::Durability,
    tree::overflow,
};

pub(super) struct Source {
    pub pager: Pager,
    /// Whole pages in the file.
    pub pages: u64,
    pub bytes: u64,
    /// None if it was lost, and how pages are checked was found out from the pages.
    pub header: Option<Header>,
}

/// The commit to walk from.
pub(super) struct Basis {
    pub slot: Slot,
    /// What is known to be missing or not certain about it.
    pub doubt: Option<String>,
}

/// The salvage keeps no pages; each is read once or twice.
const OPTIONS: OpenOptions = OpenOptions {
    cache_size: 0,
    page_size: None,
    accept_loss: true,
    growth: GROWTH,
    durability: Durability::Immediate,
};

impl Source {
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let file: Arc<str> = storage.name().into();
        let bytes = storage.len().map_err(|error| Error::Io {
            file: file.clone(),
            operation: "find the length",
            source: Arc::new(error),
        })?;
        let mut start = [0; Header::LENGTH];
        let read = storage.read_at(0, &mut start);
        let reason = match (read, Header::decode(&start)) {
            (Ok(()), Ok(header)) => return Ok(Self::new(storage, bytes, &header, Some(header))),
            (Ok(()), Err(HeaderFault::Newer(found))) => {
                let supported = FORMAT;
                return Err(Error::NewerFormat {
                    file,
                    found,
                    supported,
                });
            }
            (Ok(()), Err(HeaderFault::NotADatabase(reason))) => reason,
            (Err(error), _) => format!("its header cannot be read: {error}"),
        };
        let Some((page_size, sealer)) = super::seed::find(&*storage, bytes) else {
            let reason = format!("{reason}, and no pages of a Folio file are in it");
            return Err(Error::NotADatabase { file, reason });
        };
        let mut source = Self::new(
            storage,
            bytes,
            &Header {
                page_size,
                identity: [0; 16],
                features: 0,
                marks: 0,
            },
            None,
        );
        source.pager.sealer = sealer;
        Ok(source)
    }

    fn new(storage: Arc<dyn Storage>, bytes: u64, layout: &Header, header: Option<Header>) -> Self {
        Self {
            pager: pager(storage, layout, OPTIONS),
            pages: bytes / layout.page_size as u64,
            bytes,
            header,
        }
    }

    /// The newest commit that was whole once.
    pub fn basis(&self) -> Option<Basis> {
        let (slots, mut damaged) = self.slots();
        let acknowledged = self.acknowledgement();
        let promised = acknowledged.map_or(0, |last| last.sequence);
        let newest = slots.first().map_or(0, |slot| slot.sequence);
        for slot in &slots {
            // The flush after a commit begins when that commit is durable.
            let once_whole = promised >= slot.sequence || newest > slot.sequence;
            if !once_whole && verify_manifest(&self.pager, slot, false).is_err() {
                damaged = true;
                continue;
            }
            let doubt = match acknowledged {
                Some(last) if last.sequence > slot.sequence => Some(format!(
                    "transaction {} was acknowledged as durable, and its commit is not in the file",
                    last.transaction
                )),
                None if damaged => Some(
                    "a newer commit may be missing: a slot and the acknowledgement are damaged"
                        .into(),
                ),
                _ => None,
            };
            let slot = slot.clone();
            return Some(Basis { slot, doubt });
        }
        slots.into_iter().next().map(|slot| Basis {
            doubt: Some("pages of the newest commit are missing, and nothing tells whether it was whole once".into()),
            slot,
        })
    }

    /// The slots that are whole in themselves, newest first, and whether one is not. Without the identity, which is part
    /// of their checksums, their manifests have to prove them.
    fn slots(&self) -> (Vec<Slot>, bool) {
        let (mut slots, mut damaged) = (Vec::new(), false);
        for page in [slot_page(0), slot_page(1), twin_page(0), twin_page(1)] {
            let Ok(bytes) = self.pager.read_raw(page) else {
                damaged |= [slot_page(0), slot_page(1)].contains(&page);
                continue;
            };
            let decoded = match &self.header {
                Some(header) => Slot::decode(&bytes, &header.identity).ok(),
                None => Slot::decode_unverified(&bytes)
                    .ok()
                    .filter(|slot| verify_manifest(&self.pager, slot, false).is_ok()),
            };
            match decoded
                .filter(|slot| [slot_page(slot.sequence), twin_page(slot.sequence)].contains(&page))
            {
                Some(slot) if slots.contains(&slot) => {}
                Some(slot) => slots.push(slot),
                None => {
                    let blank = bytes.iter().all(|&byte| byte == 0);
                    damaged |= !blank && [slot_page(0), slot_page(1)].contains(&page);
                }
            }
        }
        slots.sort_by_key(|slot| std::cmp::Reverse(slot.sequence));
        (slots, damaged)
    }

    fn acknowledgement(&self) -> Option<Acknowledgement> {
        let bytes = self.pager.read_raw(ACKNOWLEDGEMENT_PAGE).ok()?;
        let Some(header) = &self.header else {
            return Acknowledgement::decode_unverified(&crate::bytes::array(&bytes, 0));
        };
        Acknowledgement::decode(&crate::bytes::array::<SECTOR>(&bytes, 0), &header.identity)
    }

    /// A page as somebody refers to it.
    pub fn read(&self, at: PageRef) -> Result<PageBytes, String> {
        let bytes = self.pager.read_raw(at.page).map_err(|error| match error {
            Error::Io { source, .. } => format!("cannot be read: {source}"),
            Error::Corrupted { fault, .. } => fault,
            other => other.to_string(),
        })?;
        self.pager.sealer.check(&bytes, at)?;
        Ok(bytes)
    }

    /// A node of a tree of the table with this number.
    pub fn read_node(&self, at: PageRef, number: u32) -> Result<PageBytes, String> {
        let bytes = self.read(at)?;
        check_node(&bytes, number)?;
        Ok(bytes)
    }

    /// Whether the bytes are the page that has its place there.
    pub fn is_intact(&self, page: u64, bytes: &[u8]) -> bool {
        self.pager.sealer.verify(bytes).is_some() && identity(bytes).page == page
    }

    /// A long value. `met` gets its pages; one that is in it already belongs to another value. What is allocated grows
    /// with the pages that were verified.
    pub fn read_value(
        &self,
        value: OverflowRef,
        number: u32,
        met: &mut PageBits,
    ) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut left = value.length as usize;
        let mut extent = value.at;
        while left > 0 {
            let (mut next, mut count, mut offset) = (PageRef::NONE, 1, 0);
            while offset < count && left > 0 {
                let at = PageRef {
                    page: extent.page.saturating_add(offset),
                    ..extent
                };
                let named = |fault: String| format!("page {}: {fault}", at.page);
                if !met.insert(at.page) {
                    return Err(named("two references lead to it".into()));
                }
                let page = self.read(at).map_err(named)?;
                if PageKind::of(&page) != Some(PageKind::Overflow) || table_number(&page) != number
                {
                    return Err(named("is not part of the value".into()));
                }
                let mut start = HEADER;
                if offset == 0 {
                    (next, count) = overflow::extent_header(&page);
                    start += overflow::EXTENT_HEADER;
                }
                let here = left.min(page.len() - start);
                bytes.extend_from_slice(&page[start..start + here]);
                left -= here;
                offset += 1;
            }
            extent = next;
        }
        Ok(bytes)
    }

    /// Reads all pages behind the fixed ones in order.
    pub fn scan(
        &self,
        progress: &mut dyn FnMut(&str, u64, u64),
        mut visit: impl FnMut(u64, Found<'_>),
    ) {
        let page_size = self.pager.page_size;
        let step = (SCAN_BYTES / page_size) as u64;
        let mut buffer = vec![0; SCAN_BYTES];
        let mut first = FIXED_PAGES;
        while first < self.pages {
            let count = step.min(self.pages - first);
            let part = &mut buffer[..count as usize * page_size];
            let together = self
                .pager
                .storage
                .read_at(first * page_size as u64, part)
                .is_ok();
            for (page, bytes) in (first..).zip(part.chunks_exact_mut(page_size)) {
                // One sector that cannot be read takes nothing from its neighbours.
                let read = together
                    || self
                        .pager
                        .storage
                        .read_at(page * page_size as u64, bytes)
                        .is_ok();
                let found = match read {
                    true if self.is_intact(page, bytes) => Found::Intact(bytes),
                    true if bytes.iter().all(|&byte| byte == 0) => Found::Blank,
                    _ => Found::Damaged,
                };
                visit(page, found);
            }
            first += count;
            progress("scan", first, self.pages);
        }
    }
}

/// What a scan finds in the place of a page.
pub(super) enum Found<'p> {
    /// The page itself.
    Intact(&'p [u8]),
    /// Zeros: most likely never written.
    Blank,
    Damaged,
}

/// Read at a time in a scan.
const SCAN_BYTES: usize = 1 << 20;

/// Checks a page that is intact.
pub(super) fn check_node(bytes: &[u8], number: u32) -> Result<(), String> {
    if !matches!(PageKind::of(bytes), Some(PageKind::Leaf | PageKind::Branch)) {
        return Err("is not a node of a tree".into());
    }
    if table_number(bytes) != number {
        return Err("belongs to another table".into());
    }
    node::validate(bytes)
}

/// The keys of a node at both ends.
pub(super) fn ends(node: Node<'_>) -> (Vec<u8>, Vec<u8>) {
    (node.key(0), node.key(node.len() - 1))
}
