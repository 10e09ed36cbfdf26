//! The rules of the cache under every interleaving and every order of memory the language allows.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::sync::every_interleaving;

const PAGE: usize = 64;

fn page(number: u64) -> (PageRef, PageBytes) {
    let at = PageRef {
        page: number,
        transaction: number + 1,
    };
    let mut bytes = PageBytes::zeroed(PAGE);
    at.write(bytes.make_mut(), 8);
    (at, bytes)
}

fn insert(cache: &PageCache, number: u64, dirty: bool) {
    let (at, bytes) = page(number);
    cache.insert(at, bytes, dirty);
}

/// A cache with room for one page, which it has.
fn cache_of_one() -> Arc<PageCache> {
    let cache = PageCache::new(PAGE + FRAME_OVERHEAD, PAGE);
    assert_eq!(cache.limit(), 1);
    insert(&cache, 1, false);
    Arc::new(cache)
}

/// Reads a page under a guard, and uses its frame until the guard goes.
fn read(cache: &PageCache, number: u64) {
    let (at, bytes) = page(number);
    let guard = cache.enter();
    let Some(found) = guard.get(at) else { return };
    thread::yield_now();
    assert_eq!(*found, bytes);
    drop(guard);
}

#[test]
fn a_frame_is_freed_only_after_the_last_guard_that_could_see_it() {
    every_interleaving(|| {
        let cache = cache_of_one();
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || read(&cache, 1))
        };
        // The first evicts the page, the second frees what was evicted if it may.
        insert(&cache, 2, false);
        insert(&cache, 3, false);
        reader.join().expect("its own panic is shown");
    });
}

#[test]
fn a_page_taken_out_while_two_look_for_it_is_found_whole_or_not_at_all() {
    every_interleaving(|| {
        let cache = cache_of_one();
        let readers = [0, 1].map(|_| {
            let cache = cache.clone();
            thread::spawn(move || read(&cache, 1))
        });
        cache.remove(1);
        for reader in readers {
            reader.join().expect("its own panic is shown");
        }
        assert!(cache.enter().get(page(1).0).is_none());
    });
}

#[test]
fn a_page_in_a_list_is_found_while_its_neighbour_is_taken_out() {
    every_interleaving(|| {
        let cache = cache_of_one();
        let bucket = |page| std::ptr::from_ref(cache.place(page).frames);
        let neighbour = (3..).find(|&page| bucket(page) == bucket(2));
        let neighbour = neighbour.expect("there are few buckets");
        insert(&cache, 2, true);
        insert(&cache, neighbour, true);
        let remover = {
            let cache = cache.clone();
            thread::spawn(move || cache.remove(neighbour))
        };
        let (at, bytes) = page(2);
        assert_eq!(cache.enter().get(at).as_deref(), Some(&bytes));
        remover.join().expect("its own panic is shown");
    });
}

#[test]
fn two_who_insert_a_page_leave_one_frame() {
    every_interleaving(|| {
        let cache = cache_of_one();
        let other = {
            let cache = cache.clone();
            thread::spawn(move || insert(&cache, 2, false))
        };
        insert(&cache, 2, false);
        other.join().expect("its own panic is shown");
        assert_eq!(cache.counters.pages.load(Ordering::Relaxed), 1);
        read(&cache, 2);
    });
}
