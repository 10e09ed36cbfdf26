//! Nodes beside a sorted list of rows, and crafted ones.

use std::collections::BTreeMap;

use super::*;
use crate::{bytes::write_u16, storage::SplitMix64};

const AT: PageRef = PageRef {
    page: 9,
    transaction: 3,
};

const PAGE_SIZES: [usize; 3] = [4096, 16384, 65536];

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn leaf(page_size: usize) -> Vec<u8> {
    let mut bytes = vec![0; page_size];
    NodeMut::format(&mut bytes, 0, AT, 1);
    bytes
}

/// Keys with a long prefix in common, keys that break it, keys that end within the first four bytes or in zeros.
fn key(random: &mut SplitMix64, page_size: usize) -> Vec<u8> {
    let number = random.below(300) as u16;
    match random.below(12) {
        0 => vec![b'p'; random.below(max_key(page_size) as u64 + 1) as usize],
        1 => vec![0; random.below(9) as usize],
        2 => vec![random.next_u64() as u8; random.below(6) as usize],
        3..=5 => [
            b"prefix in common ".as_slice(),
            &number.to_be_bytes(),
            &[0; 3],
        ]
        .concat(),
        _ => [b"prefix in common ".as_slice(), &number.to_be_bytes()].concat(),
    }
}

fn body(random: &mut SplitMix64, page_size: usize, key: usize) -> Vec<u8> {
    let room = max_entry(page_size) - SLOT_SIZE - CELL_HEADER - key;
    let length = if random.one_in(6) {
        room as u64 + 1
    } else {
        30
    };
    vec![random.next_u64() as u8; random.below(length) as usize]
}

fn assert_holds(bytes: &[u8], rows: &Rows, context: &str) {
    let node = Node::new(bytes);
    if !rows.is_empty() {
        assert_eq!(validate(bytes), Ok(()), "{context}");
    }
    assert_eq!(node.len(), rows.len(), "{context}");
    for (index, (key, body)) in rows.iter().enumerate() {
        assert_eq!(node.key(index), *key, "{context}");
        assert_eq!(node.body(index), body, "{context}");
        assert_eq!(node.search(key), Ok(index), "{context}");
    }
}

fn place(rows: &Rows, key: &[u8]) -> Result<usize, usize> {
    let before = rows
        .keys()
        .take_while(|other| other.as_slice() < key)
        .count();
    if rows.contains_key(key) {
        Ok(before)
    } else {
        Err(before)
    }
}

/// Splits a full leaf as a tree does; gives back its rows in two parts.
fn split(bytes: &[u8], index: usize, entry: Entry<'_>, context: &str) -> [Vec<u8>; 2] {
    let mut entries = gather(Node::new(bytes));
    entries.insert(index, entry);
    let point = split_point(&entries, true, bytes.len());
    let separator = separator(&entries[point - 1], &entries[point]);
    assert!(entries[point - 1].key() < separator && separator <= entries[point].key());
    let parts = [&entries[..point], &entries[point..]];
    parts.map(|part| {
        let mut half = leaf(bytes.len());
        assert!(build(&mut NodeMut::new(&mut half), part), "{context}");
        assert!(size(part, true) >= Node::new(&half).used(), "{context}");
        half
    })
}

fn run(seed: u64, page_size: usize, steps: u64) {
    let context = format!("seed {seed}, pages of {page_size}");
    let mut random = SplitMix64::new(seed);
    let mut bytes = leaf(page_size);
    let mut rows = Rows::new();
    let mut splits = 0;
    for _ in 0..steps {
        let key = key(&mut random, page_size);
        let place = place(&rows, &key);
        assert_eq!(Node::new(&bytes).search(&key), place, "{context}");
        match place {
            Ok(index) if random.one_in(2) => {
                NodeMut::new(&mut bytes).remove(index..index + 1);
                rows.remove(&key);
            }
            Ok(index) => {
                let new = vec![7; rows[&key].len()];
                assert!(NodeMut::new(&mut bytes).overwrite_body(index, &new, false));
                rows.insert(key, new);
            }
            Err(_) if random.one_in(12) && !rows.is_empty() => {
                let start = random.below(rows.len() as u64) as usize;
                let end = start + random.below((rows.len() - start) as u64 + 1) as usize;
                NodeMut::new(&mut bytes).remove(start..end);
                let gone: Vec<_> = rows.keys().take(end).skip(start).cloned().collect();
                gone.iter().for_each(|key| drop(rows.remove(key)));
            }
            Err(index) => {
                let body = body(&mut random, page_size, key.len());
                let entry = Entry::new(&key, &body, false);
                let before = bytes.clone();
                if NodeMut::new(&mut bytes).insert(index, entry) {
                    rows.insert(key, body);
                } else {
                    assert!(
                        bytes == before,
                        "{context}: changed although there is no room"
                    );
                    splits += 1;
                    let [left, right] = split(&bytes, index, entry, &context);
                    rows.insert(key, body);
                    let right_rows = rows.split_off(&Node::new(&right).key(0));
                    assert_holds(&left, &rows, &context);
                    assert_holds(&right, &right_rows, &context);
                    (bytes, rows) = if random.one_in(2) {
                        (left, rows)
                    } else {
                        (right, right_rows)
                    };
                }
            }
        }
        assert_holds(&bytes, &rows, &context);
    }
    assert!(splits > 0, "{context}");
}

#[test]
fn a_leaf_holds_what_a_sorted_list_would() {
    let steps = if cfg!(miri) { 60 } else { 1_500 };
    for (seed, page_size) in (1..).zip(PAGE_SIZES) {
        run(
            seed,
            page_size,
            if page_size > 4096 { steps * 2 } else { steps },
        );
    }
}

#[test]
fn a_branch_finds_the_child_of_every_key_and_splits_where_both_parts_fit() {
    let rounds = if cfg!(miri) { 40 } else { 1_500 };
    for (seed, page_size) in (10..).zip(PAGE_SIZES) {
        let context = format!("seed {seed}, pages of {page_size}");
        let mut random = SplitMix64::new(seed);
        let child = |rows| {
            Child {
                at: AT,
                rows,
                overflow: rows % 2 == 1,
            }
            .encode()
        };
        let mut bytes = vec![0; page_size];
        let first = child(0);
        let mut node = NodeMut::format(&mut bytes, 3, AT, 1);
        assert!(node.insert(0, Entry::new(&[], &first, false)));
        // The separators, without the one that entry 0 does not have.
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for round in 1..rounds {
            let key = key(&mut random, page_size);
            let node = Node::new(&bytes);
            let below = keys.partition_point(|other| *other <= key);
            assert_eq!(node.child_index(&key), below, "{context}");
            if keys.contains(&key) {
                continue;
            }
            assert!(node.admits(below + 1, &key), "{context}");
            let body = child(round);
            let entry = Entry::new(&key, &body, false);
            if NodeMut::new(&mut bytes).insert(below + 1, entry) {
                keys.insert(below, key);
            } else {
                let full = bytes.clone();
                let mut entries = gather(Node::new(&full));
                entries.insert(below + 1, entry);
                let point = split_point(&entries, false, page_size);
                let fits = build(&mut NodeMut::new(&mut bytes), &entries[point..]);
                assert!(fits, "{context}");
                let mut left = full.clone();
                assert!(build(&mut NodeMut::new(&mut left), &entries[..point]));
                assert_eq!(validate(&left), Ok(()), "{context}");
                keys.insert(below, key);
                keys.drain(..point);
            }
            if random.one_in(5) && keys.len() > 2 {
                let start = random.below(keys.len() as u64) as usize;
                NodeMut::new(&mut bytes).remove(start..start + 1);
                keys.remove(start.saturating_sub(1));
            }
            assert_eq!(validate(&bytes), Ok(()), "{context}");
            let node = Node::new(&bytes);
            let found: Vec<_> = (1..node.len()).map(|index| node.key(index)).collect();
            assert!(found == keys, "{context}");
        }
    }
}

/// A leaf of rows of many kinds, as full as they make it.
fn full(random: &mut SplitMix64, page_size: usize) -> Vec<u8> {
    let mut bytes = leaf(page_size);
    loop {
        let key = key(random, page_size);
        let body = body(random, page_size, key.len());
        if let Err(index) = Node::new(&bytes).search(&key)
            && !NodeMut::new(&mut bytes).insert(index, Entry::new(&key, &body, false))
        {
            return bytes;
        }
    }
}

#[test]
fn whatever_bytes_pass_validation_can_be_read_and_changed() {
    let rounds = if cfg!(miri) { 30 } else { 20_000 };
    let mut random = SplitMix64::new(77);
    let page_size = 4096;
    let mut passed = 0;
    let mut sound = full(&mut random, page_size);
    for round in 0..rounds {
        if round % 100 == 0 {
            sound = full(&mut random, page_size);
        }
        let mut bytes = sound.clone();
        for _ in 0..random.below(4) {
            let at = match random.below(3) {
                0 => 4 + random.below(44),
                1 => 40 + random.below(500),
                _ => 4 + random.below(page_size as u64 - 4),
            };
            bytes[at as usize] = match random.below(3) {
                0 => 0,
                1 => 0xFF,
                _ => random.next_u64() as u8,
            };
        }
        if validate(&bytes).is_err() {
            continue;
        }
        passed += 1;
        let node = Node::new(&bytes);
        node.describe(AT);
        for index in 0..node.len() {
            let _ = (node.key(index), node.body(index), node.overflow(index));
        }
        if !node.is_leaf() {
            continue;
        }
        for _ in 0..8 {
            let key = key(&mut random, page_size);
            let body = body(&mut random, page_size, key.len());
            let entry = Entry::new(&key, &body, false);
            match Node::new(&bytes).search(&key) {
                Ok(index) => NodeMut::new(&mut bytes).remove(index..index + 1),
                Err(index) if NodeMut::new(&mut bytes).insert(index, entry) => {}
                Err(index) => drop(split(&bytes, index, entry, &format!("round {round}"))),
            }
            assert!(Node::new(&bytes).used() <= page_size);
        }
    }
    assert!(passed * 10 > rounds, "{passed} of {rounds}");
}

#[test]
fn entries_that_share_bytes_of_the_heap_are_refused() {
    let mut bytes = leaf(4096);
    let mut node = NodeMut::new(&mut bytes);
    assert!(node.insert(0, Entry::new(b"a", &[0; 100], false)));
    assert!(node.insert(1, Entry::new(b"b", &[0; 100], false)));
    assert_eq!(validate(&bytes), Ok(()));
    // The body of the second reaches over the first one.
    let cell = Node::new(&bytes).cell(1);
    write_u16(&mut bytes, cell + 2, 150);
    assert!(validate(&bytes).is_err());
}

#[test]
fn entries_of_more_than_a_quarter_page_are_refused() {
    let mut bytes = leaf(4096);
    let mut node = NodeMut::new(&mut bytes);
    assert!(node.insert(0, Entry::new(b"a", &[0; 1_000], false)));
    assert_eq!(validate(&bytes), Ok(()));
    for (key, body) in [(1, 1_100), (1_000, 0)] {
        let mut bytes = leaf(4096);
        let (key, body) = (vec![1; key], vec![0; body]);
        assert!(NodeMut::new(&mut bytes).insert(0, Entry::new(&key, &body, false)));
        assert!(validate(&bytes).is_err());
    }
}
