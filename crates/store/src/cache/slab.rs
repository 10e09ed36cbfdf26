//! Memory for pages.
//!
//! Pages lie in slabs: pieces of 2 MiB at addresses that are multiples of their size, so that the system can back each by
//! one huge page. A random read then seldom waits for the translation of an address, which costs as much as the read. The
//! head of a slab has the number of handles of each of its pages, away from the bytes; where a page is, its slab is found
//! by arithmetic.
//!
//! Rules, which the `unsafe` blocks rely on:
//!
//! 1. A page that has a handle belongs to its handles. Its bytes are written only through the one handle of a page that has
//!    no other.
//! 2. A page without a handle is on its slab's list of free pages, which is touched under the lock of the pool only.
//! 3. A slab is given back when all of its pages are free, under that lock.
//! 4. The bytes of a slab are zeros when it is made, so they are initialised ever after.

use std::{
    alloc::{self, Layout},
    fmt,
    mem::ManuallyDrop,
    ops::{Deref, Range},
    process,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence},
};

use parking_lot::Mutex;

/// Bytes of a slab: one huge page on the usual machines. Miri, which checks each byte, gets by with less.
const SLAB: usize = if cfg!(miri) { 1 << 18 } else { 1 << 21 };

/// The powers of two that the size of a page may be. (Those below a file's smallest are for tests.)
const SIZES: Range<u32> = 6..17;

/// More handles of one page than this are a leak that would let the count overflow.
const MOST_HANDLES: u32 = u32::MAX / 2;

/// What ends the list of free pages.
const NO_PAGE: u32 = u32::MAX;

/// The pools, by size of page. They outlive every database, so memory of one that was closed serves the next.
static POOLS: [Pool; (SIZES.end - SIZES.start) as usize] = [const { Pool::new() }; _];

/// The bits that the address of a page of this size does not use.
pub(super) fn free_address_bits(page_size: usize) -> usize {
    page_size - 1
}

/// Pointers to nothing. Their memory is taken from the system as they are set.
pub(super) fn null_pointers<T>(count: usize) -> Box<[AtomicPtr<T>]> {
    let layout = Layout::array::<AtomicPtr<T>>(count).expect("fewer than the bytes of a cache");
    assert!(count > 0, "no memory is not allocated");
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc::alloc_zeroed(layout) };
    if memory.is_null() {
        alloc::handle_alloc_error(layout);
    }
    // SAFETY: zeros are null pointers, and the layout is that of the slice.
    unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(memory.cast(), count)) }
}

/// Slabs for pages of one size.
struct Pool(Mutex<Slabs>);

struct Slabs {
    /// Slabs with a free page. The last one is taken from.
    open: Vec<NonNull<Slab>>,
    /// How many of them have no page in use.
    empty: usize,
    /// Whether there ever was a slab.
    begun: bool,
    /// The first slab, while it is the only one. A huge page is filled with zeros as a whole, which takes longer than to open
    /// a database and read from it; so there is none before one slab is too few.
    first: Option<NonNull<Slab>>,
}

// SAFETY: slabs belong to their pool, and are looked into under its lock (rules 2 and 3).
unsafe impl Send for Slabs {}

/// The head of a slab. The states of its pages follow; the pages are counted from the start of the slab, so those that the
/// head takes itself are never used.
struct Slab {
    /// The first free page. Read and written under the lock of the pool, like all that follows.
    free: AtomicU32,
    in_use: AtomicU32,
    /// Where the pool has it, if it has a free page.
    place: AtomicUsize,
}

struct PageState {
    /// Handles; of a free page the next one on the list.
    handles: AtomicU32,
    /// Whether the page was read since the clock of a cache passed it.
    used: AtomicBool,
}

/// The bytes of a page, shared by the cache and by whoever reads them. They do not change while there is another handle.
pub(crate) struct PageBytes {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: like an `Arc<[u8]>`: bytes are shared read-only, and the count of handles is atomic.
unsafe impl Send for PageBytes {}
// SAFETY: as above.
unsafe impl Sync for PageBytes {}

impl Pool {
    const fn new() -> Self {
        Self(Mutex::new(Slabs {
            open: Vec::new(),
            empty: 0,
            begun: false,
            first: None,
        }))
    }

    fn of(page_size: usize) -> &'static Self {
        let size = page_size.trailing_zeros();
        assert!(
            page_size.is_power_of_two() && SIZES.contains(&size),
            "pages of {page_size} bytes"
        );
        &POOLS[(size - SIZES.start) as usize]
    }

    fn take(&self, page_size: usize) -> PageBytes {
        let mut slabs = self.0.lock();
        let slab = match slabs.open.last() {
            Some(&slab) => slab,
            None => slabs.add(page_size),
        };
        // SAFETY: a slab of the pool is alive (rule 3).
        let head = unsafe { slab.as_ref() };
        let page = head.free.load(Ordering::Relaxed);
        let state = Slab::state(slab, page);
        head.free
            .store(state.handles.load(Ordering::Relaxed), Ordering::Relaxed);
        state.handles.store(1, Ordering::Relaxed);
        state.used.store(false, Ordering::Relaxed);
        if head.in_use.fetch_add(1, Ordering::Relaxed) == 0 {
            slabs.empty -= 1;
        }
        if head.free.load(Ordering::Relaxed) == NO_PAGE {
            slabs.open.pop();
        }
        // SAFETY: the page lies in the slab.
        let start = unsafe { slab.byte_add(page as usize * page_size) }.cast();
        PageBytes {
            start,
            len: page_size,
        }
    }

    /// Takes back a page that has no handle any more.
    fn free(&self, slab: NonNull<Slab>, page: u32) {
        let mut slabs = self.0.lock();
        // SAFETY: the slab has a page that is not free, so it is alive (rule 3).
        let head = unsafe { slab.as_ref() };
        let next = head.free.swap(page, Ordering::Relaxed);
        Slab::state(slab, page)
            .handles
            .store(next, Ordering::Relaxed);
        if next == NO_PAGE {
            head.place.store(slabs.open.len(), Ordering::Relaxed);
            slabs.open.push(slab);
        }
        if head.in_use.fetch_sub(1, Ordering::Relaxed) == 1 {
            slabs.empty += 1;
            // One is kept for the next page.
            if slabs.empty > 1 {
                slabs.give_back(slab);
            }
        }
    }
}

impl Slabs {
    fn add(&mut self, page_size: usize) -> NonNull<Slab> {
        let slab = memory::take().cast::<Slab>();
        if std::mem::replace(&mut self.begun, true) {
            self.first.take().into_iter().for_each(memory::advise_huge);
            memory::advise_huge(slab);
        } else {
            self.first = Some(slab);
        }
        let pages = Slab::pages(page_size);
        // SAFETY: the memory is large enough and aligned, and nobody else has it. Zeros are a `PageState`.
        unsafe {
            slab.write(Slab {
                free: AtomicU32::new(pages.start),
                in_use: AtomicU32::new(0),
                place: AtomicUsize::new(self.open.len()),
            });
        }
        for page in pages.clone() {
            let next = if page + 1 < pages.end {
                page + 1
            } else {
                NO_PAGE
            };
            Slab::state(slab, page)
                .handles
                .store(next, Ordering::Relaxed);
        }
        self.open.push(slab);
        self.empty += 1;
        slab
    }

    fn give_back(&mut self, slab: NonNull<Slab>) {
        // SAFETY: the slab is one of the pool's (rule 3).
        let place = unsafe { slab.as_ref() }.place.load(Ordering::Relaxed);
        self.open.swap_remove(place);
        if let Some(moved) = self.open.get(place) {
            // SAFETY: as above.
            unsafe { moved.as_ref() }
                .place
                .store(place, Ordering::Relaxed);
        }
        self.empty -= 1;
        self.first = self.first.filter(|&first| first != slab);
        // SAFETY: taken by `add`, and no page of it has a handle (rule 3).
        unsafe { memory::give_back(slab.cast()) };
    }
}

/// Memory for slabs: zeros at multiples of the size.
#[cfg(not(miri))]
mod memory {
    use std::{alloc, num::NonZeroUsize, ptr::NonNull};

    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    use super::{SLAB, Slab};

    /// Straight from the system, whose memory is zeros already: what an allocator aligns it fills itself, and so touches
    /// all of it.
    pub fn take() -> NonNull<u8> {
        let twice = NonZeroUsize::new(2 * SLAB).expect("not zero");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new memory at an address that the system chooses.
        let mapped = unsafe { mmap_anonymous(None, twice, access, MapFlags::MAP_PRIVATE) };
        let Ok(mapped) = mapped else {
            alloc::handle_alloc_error(Slab::layout());
        };
        let before = mapped.addr().get().wrapping_neg() % SLAB;
        // SAFETY: both are within what was mapped, and beside the slab.
        unsafe {
            let slab = mapped.byte_add(before);
            unmap(mapped, before);
            unmap(slab.byte_add(SLAB), SLAB - before);
            slab.cast()
        }
    }

    /// # Safety
    ///
    /// Taken by `take`, and nobody uses it any more.
    pub unsafe fn give_back(slab: NonNull<u8>) {
        // SAFETY: as the caller says.
        unsafe { unmap(slab.cast(), SLAB) };
    }

    /// # Safety
    ///
    /// Mapped by `take`, and nobody uses it.
    unsafe fn unmap(memory: NonNull<std::ffi::c_void>, length: usize) {
        if length > 0 {
            // SAFETY: as the caller says. Where the system refuses, the memory stays mapped and untouched.
            let _ = unsafe { munmap(memory, length) };
        }
    }

    /// Asks for a huge page. Whether there is one is the system's business.
    pub fn advise_huge(slab: NonNull<Slab>) {
        #[cfg(target_os = "linux")]
        {
            use nix::sys::mman::{MmapAdvise, madvise};
            // SAFETY: the memory is ours, and the advice changes none of it. Where it is not taken nothing is lost.
            let _ = unsafe { madvise(slab.cast(), SLAB, MmapAdvise::MADV_HUGEPAGE) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = slab;
    }
}

/// The same from the allocator, for Miri, which knows no system.
#[cfg(miri)]
mod memory {
    use std::{alloc, ptr::NonNull};

    use super::Slab;

    pub fn take() -> NonNull<u8> {
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc::alloc_zeroed(Slab::layout()) };
        NonNull::new(memory).unwrap_or_else(|| alloc::handle_alloc_error(Slab::layout()))
    }

    /// # Safety
    ///
    /// Taken by `take`, and nobody uses it any more.
    pub unsafe fn give_back(slab: NonNull<u8>) {
        // SAFETY: as the caller says.
        unsafe { alloc::dealloc(slab.as_ptr(), Slab::layout()) };
    }

    pub fn advise_huge(_: NonNull<Slab>) {}
}

impl Slab {
    fn layout() -> Layout {
        Layout::from_size_align(SLAB, SLAB).expect("a power of two")
    }

    /// The pages behind the head and the states.
    fn pages(page_size: usize) -> Range<u32> {
        let count = SLAB / page_size;
        let head = size_of::<Self>() + count * size_of::<PageState>();
        head.div_ceil(page_size) as u32..count as u32
    }

    /// The state of a page of a slab that is alive.
    #[inline]
    fn state<'s>(slab: NonNull<Self>, page: u32) -> &'s PageState {
        // SAFETY: the states lie behind the head; `page` is below their number, and its state is initialised (rule 4).
        unsafe { slab.add(1).cast::<PageState>().add(page as usize).as_ref() }
    }
}

impl PageBytes {
    /// A page of zeros.
    pub fn zeroed(page_size: usize) -> Self {
        let mut page = Self::unset(page_size);
        page.make_mut().fill(0);
        page
    }

    /// A page of any bytes, for one who sets them all.
    pub fn unset(page_size: usize) -> Self {
        Pool::of(page_size).take(page_size)
    }

    /// The bytes, to be changed, if this is the only handle.
    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        let handles = self.state().handles.load(Ordering::Acquire);
        // SAFETY: nobody else has a handle, and this one is borrowed (rule 1).
        (handles == 1).then(|| unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) })
    }

    /// The bytes, to be changed. If there is another handle, they are copied first.
    pub fn make_mut(&mut self) -> &mut [u8] {
        if self.state().handles.load(Ordering::Acquire) != 1 {
            let mut copy = Self::unset(self.len);
            if let Some(bytes) = copy.get_mut() {
                bytes.copy_from_slice(self);
            }
            *self = copy;
        }
        self.get_mut().expect("the only handle")
    }

    /// Remembers that the page was read.
    pub fn mark_used(&self) {
        let used = &self.state().used;
        // Reading first keeps the line shared among readers of a hot page.
        if !used.load(Ordering::Relaxed) {
            used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the page was read since this was asked last.
    pub fn take_used(&self) -> bool {
        self.state().used.swap(false, Ordering::Relaxed)
    }

    /// Where the bytes are. The address is a multiple of their number, which leaves its low bits to others.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Another view of a page that has a handle, without one of its own.
    ///
    /// # Safety
    ///
    /// `start` is that of a page of `len` bytes, of which some handle outlives what is returned.
    pub unsafe fn borrowed(start: NonNull<u8>, len: usize) -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self { start, len })
    }

    /// Has the processor fetch the bytes from `at` on, about two lines of them, if it can do that on the side.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        for line in 0..2 {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = self.start.as_ptr().wrapping_add(at + 64 * line).cast();
            // SAFETY: every processor of this architecture has the instruction, which may be given any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = at;
    }

    #[inline]
    fn slab(&self) -> (NonNull<Slab>, u32) {
        let inside = self.start.addr().get() % SLAB;
        // SAFETY: the head of the slab is `inside` bytes before the page, in the same allocation.
        let slab = unsafe { self.start.byte_sub(inside) }.cast();
        // The length is a power of two; the compiler does not know.
        (slab, (inside >> self.len.trailing_zeros()) as u32)
    }

    #[inline]
    fn state(&self) -> &PageState {
        let (slab, page) = self.slab();
        Slab::state(slab, page)
    }
}

impl Deref for PageBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the page has a handle, this one, and is not written while it is borrowed (rule 1).
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Clone for PageBytes {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed for the reason given in `Arc`: whoever has a handle keeps the page alive while he makes another.
        if self.state().handles.fetch_add(1, Ordering::Relaxed) > MOST_HANDLES {
            process::abort();
        }
        Self {
            start: self.start,
            len: self.len,
        }
    }
}

impl Drop for PageBytes {
    #[inline]
    fn drop(&mut self) {
        let (slab, page) = self.slab();
        if Slab::state(slab, page)
            .handles
            .fetch_sub(1, Ordering::Release)
            == 1
        {
            // What others did with the page comes before its next use.
            fence(Ordering::Acquire);
            Pool::of(self.len).free(slab, page);
        }
    }
}

impl From<&[u8]> for PageBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut page = Self::unset(bytes.len());
        page.make_mut().copy_from_slice(bytes);
        page
    }
}

impl PartialEq for PageBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for PageBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const PAGE: usize = 4096;

    #[test]
    fn a_page_is_as_long_as_asked_and_aligned_to_that() {
        for size in SIZES {
            let page = PageBytes::zeroed(1 << size);
            assert_eq!(page.len(), 1 << size);
            assert_eq!(page.start().addr().get() % page.len(), 0);
            assert!(page.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn pages_do_not_overlap_each_other_or_what_is_known_of_them() {
        // More than a slab has.
        let count = SLAB / PAGE + 3;
        let pages: Vec<PageBytes> = (0..count)
            .map(|number| PageBytes::from([number as u8; PAGE].as_slice()))
            .collect();
        let copies = pages.clone();
        for (number, page) in copies.iter().enumerate() {
            assert!(page.iter().all(|&byte| byte == number as u8));
        }
    }

    #[test]
    fn a_page_that_somebody_else_holds_is_copied_before_a_change() {
        let mut page = PageBytes::zeroed(PAGE);
        let other = page.clone();
        assert!(page.get_mut().is_none());
        page.make_mut()[0] = 1;
        assert_eq!((page[0], other[0]), (1, 0));
        drop(other);
        let start = page.start();
        page.make_mut()[0] = 2;
        assert_eq!((page[0], page.start()), (2, start));
    }

    #[test]
    fn a_page_that_is_used_again_does_not_count_as_read() {
        let page = PageBytes::zeroed(PAGE);
        page.mark_used();
        assert!(page.take_used());
        assert!(!page.take_used());
        page.mark_used();
        drop(page);
        assert!(!PageBytes::zeroed(PAGE).take_used());
    }

    #[test]
    fn a_slab_whose_pages_are_all_free_is_given_back_but_for_one() {
        // A size that no other test uses.
        const SIZE: usize = 128;
        let slabs = || Pool::of(SIZE).0.lock().open.len();
        let a_slab = Slab::pages(SIZE).len();
        let pages: Vec<_> = (0..3 * a_slab).map(|_| PageBytes::unset(SIZE)).collect();
        assert_eq!(slabs(), 0, "three full ones");
        drop(pages);
        assert_eq!(slabs(), 1);
    }

    #[test]
    fn threads_share_and_free_pages_at_once() {
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        let shared = PageBytes::from([7; PAGE].as_slice());
        thread::scope(|scope| {
            for number in 0..3 {
                let shared = &shared;
                scope.spawn(move || {
                    for _ in 0..rounds {
                        let held = shared.clone();
                        let own = PageBytes::from([number; PAGE].as_slice());
                        assert_eq!((held[0], own[PAGE - 1]), (7, number));
                    }
                });
            }
        });
    }
}
