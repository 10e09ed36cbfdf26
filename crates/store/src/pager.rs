//! Pages from the file, through the cache, verified when they enter it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    cache::PageCache,
    error::{Error, Result},
    node::{self, Node},
    page::{PageBytes, PageKind, PageRef, Sealer, identity},
    storage::Storage,
};

/// What the file is asked to do when it has no free page.
pub(crate) const GROW: &str = "grow the file";

/// Classes of the times that syncs take.
pub(crate) const SYNC_TIMES: usize = 24;

/// What the engine did since the database was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub commits: AtomicU64,
    pub flushes: AtomicU64,
    pub syncs: AtomicU64,
    /// Syncs by the time they took: see [`Statistics`](crate::Statistics).
    pub sync_times: [AtomicU64; SYNC_TIMES],
    pub write_calls: AtomicU64,
    pub read_calls: AtomicU64,
    pub pages_written: AtomicU64,
    pub bytes_written: AtomicU64,
}

impl Counters {
    pub fn add_sync(&self, time: std::time::Duration) {
        Self::add(&self.syncs, 1);
        let class = 64 - (time.as_micros() as u64).leading_zeros() as usize;
        Self::add(&self.sync_times[class.min(SYNC_TIMES - 1)], 1);
    }

    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

pub(crate) struct Pager {
    pub file: Arc<str>,
    pub storage: Arc<dyn Storage>,
    pub page_size: usize,
    pub sealer: Sealer,
    pub cache: PageCache,
    pub counters: Counters,
    /// Whether somebody else may be writing to the file.
    pub read_only: bool,
}

impl Pager {
    pub fn io_error(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Io {
            file: self.file.clone(),
            operation,
            source: Arc::new(source),
        }
    }

    /// The error for a file that could not grow by `needed` bytes.
    pub fn growth_error(&self, needed: u64, source: io::Error) -> Error {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        if !matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            return self.io_error(GROW, source);
        }
        Error::Full {
            file: self.file.clone(),
            needed,
            source: Arc::new(source),
        }
    }

    pub fn corrupted(&self, page: u64, fault: impl Into<String>) -> Error {
        Error::Corrupted {
            file: self.file.clone(),
            page,
            table: None,
            fault: fault.into(),
        }
    }

    /// Reads a page from the file without the cache and without verifying it.
    pub fn read_raw(&self, page: u64) -> Result<PageBytes> {
        let mut bytes = PageBytes::unset(self.page_size);
        let buffer = bytes.make_mut();
        Counters::add(&self.counters.read_calls, 1);
        let offset = page
            .checked_mul(self.page_size as u64)
            .ok_or_else(|| self.corrupted(page, "no such page"))?;
        self.storage
            .read_at(offset, buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    self.corrupted(page, "lies beyond the end of the file")
                }
                _ => self.io_error("read a page", error),
            })?;
        Ok(bytes)
    }

    /// Checks that a page of the file is the one that `at` refers to.
    pub fn check(&self, bytes: &[u8], at: PageRef) -> Result<()> {
        let Err(fault) = self.sealer.check(bytes, at) else {
            return Ok(());
        };
        let found = identity(bytes);
        let whole = self.sealer.verify(bytes).is_some() && found.page == at.page;
        if self.read_only && whole && found.transaction > at.transaction {
            return Err(Error::Outlived {
                file: self.file.clone(),
                page: at.page,
            });
        }
        Err(self.corrupted(at.page, fault))
    }

    /// Makes the next reads of some pages come from the device.
    pub fn forget_cached(&self, first: u64, pages: u64) -> Result<()> {
        let page_size = self.page_size as u64;
        self.storage
            .forget_cached(
                first.saturating_mul(page_size),
                pages.saturating_mul(page_size),
            )
            .map_err(|error| self.io_error("read past the system's cache", error))
    }

    /// Says that pages will be read soon.
    pub fn will_read(&self, first: u64, pages: u64) -> Result<()> {
        let page_size = self.page_size as u64;
        self.storage
            .will_read(
                first.saturating_mul(page_size),
                pages.saturating_mul(page_size),
            )
            .map_err(|error| self.io_error("read ahead", error))
    }

    /// Reads a page, verifies it and puts it into the cache.
    fn load(&self, at: PageRef) -> Result<PageBytes> {
        self.cache.counters.misses.fetch_add(1, Ordering::Relaxed);
        let bytes = self.read_raw(at.page)?;
        self.check(&bytes, at)?;
        match PageKind::of(&bytes) {
            Some(PageKind::Leaf | PageKind::Branch) => {
                node::validate(&bytes).map_err(|fault| self.corrupted(at.page, fault))?;
            }
            Some(PageKind::Overflow | PageKind::Manifest) => {}
            None => {
                return Err(self.corrupted(at.page, format!("has the unknown kind {}", bytes[4])));
            }
        }
        self.cache.insert(at, bytes.clone(), false);
        Ok(bytes)
    }
}

/// Where the pages of a tree come from: the file alone for a view, the transaction's own pages first for the writer.
pub(crate) trait PageSource {
    fn pager(&self) -> &Pager;

    /// Calls `visit` with a page of the committed state, or of the running transaction.
    fn visit<R>(&self, at: PageRef, visit: impl FnOnce(&PageBytes) -> R) -> Result<R>;

    fn fetch(&self, at: PageRef) -> Result<PageBytes> {
        self.visit(at, PageBytes::clone)
    }

    /// Visits a node of a tree. `level` is the one its parent implies, so that a damaged reference can neither loop
    /// nor pass for something else.
    fn visit_node<R>(
        &self,
        at: PageRef,
        level: Option<u8>,
        visit: impl FnOnce(&PageBytes, Node<'_>) -> R,
    ) -> Result<R> {
        self.visit(at, |bytes| {
            check_node(bytes, level).map(|()| visit(bytes, Node::new(bytes)))
        })?
        .map_err(|fault| self.pager().corrupted(at.page, fault))
    }
}

pub(crate) fn check_node(bytes: &[u8], level: Option<u8>) -> Result<(), String> {
    let found = Node::new(bytes).level();
    match PageKind::of(bytes) {
        Some(PageKind::Leaf | PageKind::Branch) if level.is_none_or(|level| level == found) => {
            Ok(())
        }
        Some(PageKind::Leaf | PageKind::Branch) => Err(format!(
            "is at level {found} of its tree and its parent implies level {}",
            level.unwrap_or(0)
        )),
        _ => Err("is not a node of a tree, and its parent says it is".into()),
    }
}

impl<S: PageSource> PageSource for &S {
    fn pager(&self) -> &Pager {
        (*self).pager()
    }

    fn visit<R>(&self, at: PageRef, visit: impl FnOnce(&PageBytes) -> R) -> Result<R> {
        (*self).visit(at, visit)
    }
}

impl PageSource for Pager {
    fn pager(&self) -> &Pager {
        self
    }

    fn visit<R>(&self, at: PageRef, visit: impl FnOnce(&PageBytes) -> R) -> Result<R> {
        {
            let guard = self.cache.enter();
            if let Some(bytes) = guard.get(at) {
                return Ok(visit(&bytes));
            }
        }
        Ok(visit(&self.load(at)?))
    }
}
