use std::collections::BTreeMap;

use folio_store::Database;

use super::*;
use crate::commitment::{bucket_hash, root_of};
use crate::digest::count::hashes_of;
use crate::merkle::node_hash;
use crate::tree::{check, find_bucket};

fn digest(number: u64) -> Digest {
    Digest::of(&[&number.to_be_bytes()])
}

fn change(number: u64, content: Option<u64>) -> Change {
    Change {
        path: digest(number),
        content: content.map(digest),
    }
}

/// Applies batches one after the other and returns the root and the hashes of the last one.
fn apply(database: &Database, batch: &[Change]) -> (Digest, u64) {
    let mut batch = batch.to_vec();
    batch.sort_by_key(|change| change.path);
    let txn = database.begin_write().expect("in memory");
    let (root, hashes) = {
        let mut tables = (
            txn.table().expect("in memory"),
            txn.table().expect("in memory"),
        );
        hashes_of(|| {
            Update::new(&mut tables, 1)
                .apply(&batch)
                .expect("in memory")
        })
    };
    txn.commit().expect("in memory");
    (root, hashes)
}

fn naive(contents: &BTreeMap<Digest, Digest>) -> Digest {
    let items: Vec<Item> = contents
        .iter()
        .map(|(&path, &content)| Item { path, content })
        .collect();
    root_of(&items)
}

fn rows(database: &Database) -> (u64, u64) {
    let view = database.begin_read().expect("in memory");
    let items = view
        .table::<Items>()
        .expect("in memory")
        .len()
        .expect("in memory");
    let fans = view
        .table::<Fans>()
        .expect("in memory")
        .len()
        .expect("in memory");
    (items, fans)
}

fn read<R>(database: &Database, work: impl FnOnce(Rows<'_, '_>) -> R) -> R {
    let view = database.begin_read().expect("in memory");
    let items = view.table().expect("in memory");
    let fans = view.table().expect("in memory");
    work(Rows {
        items: &items,
        fans: &fans,
    })
}

fn assert_sound(database: &Database, contents: &BTreeMap<Digest, Digest>) {
    let checked = read(database, |rows| check(rows, 1, &mut |_| {})).expect("a sound tree");
    assert_eq!(
        (checked.root, checked.items),
        (naive(contents), contents.len() as u64)
    );
}

#[test]
fn growing_to_a_thousand_and_shrinking_to_nothing_follows_the_definition_at_every_step() {
    let database = Database::in_memory().expect("in memory");
    let mut contents = BTreeMap::new();
    for number in 0..1000 {
        contents.insert(digest(number), digest(number + 1));
        let (root, _) = apply(&database, &[change(number, Some(number + 1))]);
        assert_eq!(root, naive(&contents), "after {number} was added");
    }
    assert_sound(&database, &contents);
    for number in (0..1000).rev() {
        contents.remove(&digest(number));
        let (root, _) = apply(&database, &[change(number, None)]);
        assert_eq!(root, naive(&contents), "after {number} was removed");
    }
    assert_eq!(rows(&database), (0, 0), "an empty tree leaves no rows");
}

#[test]
fn one_batch_gives_the_rows_that_single_changes_give() {
    let one_by_one = Database::in_memory().expect("in memory");
    let at_once = Database::in_memory().expect("in memory");
    let mut last = Digest::ZERO;
    for number in 0..300 {
        (last, _) = apply(&one_by_one, &[change(number, Some(number))]);
    }
    for number in 100..300 {
        (last, _) = apply(&one_by_one, &[change(number, None)]);
    }
    let batch: Vec<Change> = (0..100)
        .map(|number| change(number, Some(number)))
        .collect();
    assert_eq!(apply(&at_once, &batch).0, last);
    assert_eq!(rows(&one_by_one), rows(&at_once));
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let database = Database::in_memory().expect("in memory");
    let batch: Vec<Change> = (0..50).map(|number| change(number, Some(number))).collect();
    let (root, _) = apply(&database, &batch);
    assert_eq!(apply(&database, &[change(77, None)]).0, root);
}

#[test]
fn a_change_costs_its_group_and_seven_hashes_for_every_three_levels() {
    let mean = |size: u64| {
        let database = Database::in_memory().expect("in memory");
        let batch: Vec<Change> = (0..size)
            .map(|number| change(number, Some(number)))
            .collect();
        apply(&database, &batch);
        let hashes: u64 = (0..64)
            .map(|number| apply(&database, &[change(number, Some(number + 1))]).1)
            .sum();
        hashes / 64
    };
    let (small, large) = (mean(1 << 10), mean(1 << 16));
    // Groups of 16 items each, below two fans, and with 64 times as many items below two more.
    assert!((14..=22).contains(&small), "{small} hashes at 2^10 items");
    assert!(
        (13..=15).contains(&(large - small)),
        "{large} hashes at 2^16 items after {small} at 2^10"
    );
}

#[test]
fn a_batch_hashes_what_its_changes_share_once() {
    let database = Database::in_memory().expect("in memory");
    let batch: Vec<Change> = (0..10_000)
        .map(|number| change(number, Some(number)))
        .collect();
    apply(&database, &batch);
    let single = apply(&database, &[change(3, Some(9))]).1;
    let updates: Vec<Change> = (0..1000)
        .map(|number| change(number, Some(number + 1)))
        .collect();
    let together = apply(&database, &updates).1;
    assert!(
        together < 1000 * single / 2,
        "{together} hashes for 1000 changes, {single} for one"
    );
}

#[test]
fn a_planted_change_of_a_row_is_found() {
    let database = Database::in_memory().expect("in memory");
    let batch: Vec<Change> = (0..100)
        .map(|number| change(number, Some(number)))
        .collect();
    apply(&database, &batch);
    let txn = database.begin_write().expect("in memory");
    {
        let mut items = txn.table::<Items>().expect("in memory");
        let (key, mut content) = items.first().expect("in memory").expect("an item");
        content[8] ^= 1;
        items.insert(key, content).expect("in memory");
    }
    txn.commit().expect("in memory");
    let error = read(&database, |rows| check(rows, 1, &mut |_| {}))
        .expect_err("the item was altered")
        .to_string();
    assert!(error.contains("the hash of the subtree"), "{error}");
}

/// Paths that crowd into a few corners, so that a part of a fan is a bucket, fans lie deep, and what
/// was large becomes small.
#[test]
fn crowded_paths_follow_the_definition_and_every_proof_leads_to_the_root() {
    let crowded = |number: u64| {
        let mut path = digest(number);
        path.0[0] = match number % 16 {
            0 => 0x40 | path.0[0] & 0x3f,
            1 if number % 64 == 1 => path.0[0] | 0x80,
            _ => 0x02,
        };
        if number.is_multiple_of(3) {
            path.0[1] = 0;
        }
        path
    };
    let database = Database::in_memory().expect("in memory");
    let mut contents: BTreeMap<Digest, Digest> = BTreeMap::new();
    for step in 0..80_u64 {
        let numbers = (0..1 + step * 7 % 41).map(|place| (step * 37 + place * 11) % 400);
        let changes: BTreeMap<Digest, Option<Digest>> = numbers
            .map(|number| {
                let stays = step < 40 && step % 5 != 4;
                (crowded(number), stays.then(|| digest(number + step)))
            })
            .collect();
        for (&path, &content) in &changes {
            match content {
                Some(content) => contents.insert(path, content),
                None => contents.remove(&path),
            };
        }
        let batch: Vec<Change> = changes
            .into_iter()
            .map(|(path, content)| Change { path, content })
            .collect();
        let (root, _) = apply(&database, &batch);
        assert_eq!(root, naive(&contents), "step {step}");
        for number in 0..400 {
            let (path, key) = (crowded(number), number);
            let (bucket, siblings) =
                read(&database, |rows| find_bucket(rows, 1, &path)).expect("a sound tree");
            let found = bucket.iter().find(|item| item.path == path);
            assert_eq!(
                found.map(|item| item.content),
                contents.get(&path).copied(),
                "step {step}, item {key}"
            );
            let beside = (0_u16..256).zip(&siblings).rev();
            let computed = beside.fold(bucket_hash(&bucket), |hash, (level, sibling)| {
                if path.bit(level) {
                    node_hash(sibling, &hash)
                } else {
                    node_hash(&hash, sibling)
                }
            });
            assert_eq!(computed, root, "step {step}, item {key}");
        }
    }
    assert_sound(&database, &contents);
}

/// Every way to the rows of a damaged tree ends in an error or in an answer, never in a panic.
#[test]
fn a_damaged_tree_is_refused_and_makes_nobody_panic() {
    let database = Database::in_memory().expect("in memory");
    let batch: Vec<Change> = (0..600)
        .map(|number| change(number, Some(number)))
        .collect();
    apply(&database, &batch);
    let mut later: Vec<Change> = (60..90)
        .map(|number| change(number, (number > 64).then_some(1)))
        .collect();
    later.sort_by_key(|change| change.path);
    for place in 0..300 {
        let txn = database.begin_write().expect("in memory");
        let mut tables: Tables<'_> = (
            txn.table().expect("in memory"),
            txn.table().expect("in memory"),
        );
        damage(&mut tables, place);
        let rows = Rows {
            items: &tables.0,
            fans: &tables.1,
        };
        check(rows, 1, &mut |_| {}).expect_err("a damaged tree");
        for number in 0..64 {
            let _either = find_bucket(rows, 1, &digest(number));
        }
        let _either = Update::new(&mut tables, 1).apply(&later);
    }
}

/// Flips a bit of every fan, or of every fan and every fifth item, or moves fans to another depth.
fn damage(tables: &mut Tables<'_>, place: usize) {
    if place % 3 == 1 {
        let rows: Vec<_> = tables.0.iter().expect("in memory").step_by(5).collect();
        for row in rows {
            let (key, mut content) = row.expect("in memory");
            content[place % 32] ^= 0x80 >> (place % 8);
            tables.0.insert(key, content).expect("in memory");
        }
    }
    let rows: Vec<_> = tables.1.iter().expect("in memory").collect();
    for row in rows {
        let ((vault, depth, prefix), mut row) = row.expect("in memory");
        let key = (vault, depth, &prefix[..]);
        if place % 3 == 2 {
            tables.1.remove(key).expect("in memory");
            let deeper = depth + if place.is_multiple_of(2) { 3 } else { 252 };
            tables
                .1
                .insert((vault, deeper, &prefix[..]), &row[..])
                .expect("in memory");
            continue;
        }
        let length = row.len();
        row[place % length] ^= 1 << (place % 8);
        tables.1.insert(key, &row[..]).expect("in memory");
    }
}
