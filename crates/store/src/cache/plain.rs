//! Memory for pages, one allocation each: in place of `slab.rs` where a scheduler runs the threads. Under loom a page notices
//! that it is given up while somebody may still read it.

use std::{mem::ManuallyDrop, ops::Deref, ptr::NonNull, sync::Arc};

use crate::sync::{Witness, atomic::AtomicPtr};

#[derive(Clone)]
pub(crate) struct PageBytes(Arc<Page>);

struct Page {
    bytes: Box<[u8]>,
    used: std::sync::atomic::AtomicBool,
    witness: Witness,
}

// SAFETY: what is done to the witness is for loom to judge.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

/// Nothing is assumed of the address of a page.
pub(super) fn free_address_bits(_page_size: usize) -> usize {
    0
}

pub(super) fn null_pointers<T>(count: usize) -> Box<[AtomicPtr<T>]> {
    (0..count)
        .map(|_| AtomicPtr::new(std::ptr::null_mut()))
        .collect()
}

impl PageBytes {
    pub fn zeroed(page_size: usize) -> Self {
        Self::from(vec![0; page_size].as_slice())
    }

    pub fn unset(page_size: usize) -> Self {
        Self::zeroed(page_size)
    }

    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        Arc::get_mut(&mut self.0).map(|page| &mut *page.bytes)
    }

    pub fn make_mut(&mut self) -> &mut [u8] {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Self::from(&**self);
        }
        self.get_mut().expect("the only handle")
    }

    pub fn mark_used(&self) {
        self.0
            .used
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub fn take_used(&self) -> bool {
        self.0
            .used
            .swap(false, std::sync::atomic::Ordering::Relaxed)
    }

    pub fn prefetch(&self, _at: usize) {}

    pub fn start(&self) -> NonNull<u8> {
        let page = Arc::as_ptr(&self.0).cast_mut().cast();
        NonNull::new(page).expect("the address of a page")
    }

    /// # Safety
    ///
    /// As in `slab.rs`.
    pub unsafe fn borrowed(start: NonNull<u8>, _len: usize) -> ManuallyDrop<Self> {
        // SAFETY: made by `start`, and the caller knows of another handle.
        ManuallyDrop::new(Self(unsafe { Arc::from_raw(start.as_ptr().cast()) }))
    }

    /// The cache gives its handle up, which was the last one.
    #[cfg(folio_loom)]
    pub fn no_longer_cached(&self) {
        self.0.witness.not_used();
    }
}

impl Deref for PageBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.witness.used();
        &self.0.bytes
    }
}

impl From<&[u8]> for PageBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(Arc::new(Page {
            bytes: bytes.into(),
            used: false.into(),
            witness: Witness::default(),
        }))
    }
}

impl PartialEq for PageBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl std::fmt::Debug for PageBytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(formatter)
    }
}
