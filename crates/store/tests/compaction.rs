//! Compaction: free space goes back to the filesystem, and nobody notices but for the length of the file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc, thread};

use folio_store::{
    CompactOptions, Compaction, Database, Durability, Error, Group, ReadTransaction, Table,
    storage::{MemoryStorage, SimulatedDisk, SplitMix64, Storage, SubsetPlan},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

struct Other;
impl Table for Other {
    const NAME: &'static str = "other";
    const GROUP: Group = Group::new(3);
    type Key = u64;
    type Value = &'static [u8];
}

type Contents = BTreeMap<u64, Vec<u8>>;

fn value(random: &mut SplitMix64) -> Vec<u8> {
    let length = match random.below(40) {
        0 => random.below(60_000),
        _ => random.below(400),
    };
    (0..length).map(|_| random.next_u64() as u8).collect()
}

fn read(view: &ReadTransaction) -> [Contents; 2] {
    let rows = view.table::<Rows>().unwrap();
    let other = view.table::<Other>().unwrap();
    [
        rows.iter().unwrap().map(Result::unwrap).collect(),
        other.iter().unwrap().map(Result::unwrap).collect(),
    ]
}

/// Two tables of `rows` rows each, of which every `keep`-th is left.
fn sparse(db: &Database, seed: u64, rows: u64, keep: u64) {
    let mut random = SplitMix64::new(seed);
    for part in 0..rows.div_ceil(500) {
        let txn = db.begin_write().unwrap();
        for key in part * 500..rows.min((part + 1) * 500) {
            let bytes = value(&mut random);
            txn.table::<Rows>()
                .unwrap()
                .insert(key, bytes.as_slice())
                .unwrap();
            let bytes = value(&mut random);
            txn.table::<Other>()
                .unwrap()
                .insert(key, bytes.as_slice())
                .unwrap();
        }
        txn.commit().unwrap();
    }
    let txn = db.begin_write().unwrap();
    for key in (0..rows).filter(|key| key % keep != 0) {
        txn.table::<Rows>().unwrap().remove(key).unwrap();
        txn.table::<Other>().unwrap().remove(key).unwrap();
    }
    txn.commit().unwrap();
}

fn compact(db: &Database) -> Compaction {
    db.compact(CompactOptions::new(), |_, _| ControlFlow::Continue(()))
        .unwrap()
}

/// The length the file has, and the bytes that are in use.
fn sizes(db: &Database) -> (u64, u64) {
    let statistics = db.statistics();
    let used = statistics.length_pages - statistics.free_pages;
    (
        statistics.file_pages * statistics.page_size,
        used * statistics.page_size,
    )
}

fn sound(db: &Database) {
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
}

#[test]
fn what_was_removed_goes_back_to_the_filesystem_and_every_row_stays() {
    for page_size in [4096, 16384] {
        let storage = Arc::new(MemoryStorage::new());
        let builder = Database::builder()
            .page_size(page_size)
            .cache_size(100 * page_size);
        let db = builder.create_on(storage.clone()).unwrap();
        sparse(&db, 1, 6_000, 20);
        let before = read(&db.begin_read().unwrap());
        let (length, used) = sizes(&db);
        assert!(length > 5 * used, "{length} bytes, {used} in use");

        let done = compact(&db);
        assert!(done.complete);
        assert_eq!(done.bytes_before, length);
        let (length, used) = sizes(&db);
        assert_eq!(done.bytes_after, length);
        assert_eq!(storage.len().unwrap(), length);
        let slack = 600 * page_size as u64;
        assert!(
            length < used + slack,
            "{length} bytes for {used} in use after {done:?}"
        );
        assert!(read(&db.begin_read().unwrap()) == before);
        sound(&db);

        // The database is as good as before: it takes rows, closes and opens.
        sparse(&db, 2, 1_000, 1);
        sound(&db);
        let after = read(&db.begin_read().unwrap());
        db.close().unwrap();
        let db = Database::builder().open_on(storage).unwrap();
        assert!(read(&db.begin_read().unwrap()) == after);
        sound(&db);
    }
}

#[test]
fn a_second_compaction_finds_nothing_to_move() {
    let db = Database::in_memory().unwrap();
    sparse(&db, 3, 3_000, 10);
    let first = compact(&db);
    assert!(first.pages_moved > 0);
    let second = compact(&db);
    assert_eq!(second.pages_moved, 0, "{first:?}, {second:?}");
    assert!(second.bytes_after <= first.bytes_after);
}

#[test]
fn an_open_view_keeps_its_rows_and_the_space_they_take() {
    let db = Database::in_memory().unwrap();
    sparse(&db, 4, 3_000, 1);
    let view = db.begin_read().unwrap();
    let seen = read(&view);
    let txn = db.begin_write().unwrap();
    txn.table::<Rows>().unwrap().remove_range(10..).unwrap();
    txn.table::<Other>().unwrap().remove_range(10..).unwrap();
    txn.commit().unwrap();
    let pinned = compact(&db);
    assert!(read(&view) == seen, "a view changed");
    drop(view);
    let free = compact(&db);
    assert!(
        free.bytes_after < pinned.bytes_after / 2,
        "{pinned:?}, {free:?}"
    );
    sound(&db);
}

#[test]
fn an_interrupted_compaction_counts_and_the_next_goes_on() {
    let db = Database::in_memory().unwrap();
    sparse(&db, 5, 3_000, 10);
    let before = read(&db.begin_read().unwrap());
    let options = CompactOptions::new().pages_a_step(16);
    let mut steps = 0;
    let ended = db
        .compact(options, |moved, total| {
            assert!(moved <= total);
            steps += 1;
            match steps {
                3 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })
        .unwrap();
    assert!(!ended.complete);
    assert!((40..100).contains(&ended.pages_moved), "{ended:?}");
    sound(&db);
    let rest = compact(&db);
    assert!(rest.complete);
    assert!(read(&db.begin_read().unwrap()) == before);
    sound(&db);
}

#[test]
fn every_step_is_durable_whatever_commits_do_by_default() {
    let builder = Database::builder().durability(Durability::Eventual);
    let db = builder.in_memory().unwrap();
    sparse(&db, 10, 3_000, 10);
    let options = CompactOptions::new().pages_a_step(16);
    let mut steps = 0;
    db.compact(options, |_, _| {
        let published = db.published_transaction();
        // Of the two groups a step has changed at least one.
        let durable = [Group::DEFAULT, Group::new(3)].map(|group| db.durable_transaction(group));
        assert!(durable.contains(&published), "{durable:?}, {published}");
        steps += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(steps > 3, "{steps}");
}

#[test]
fn writers_and_readers_go_on_meanwhile() {
    let db = Database::builder()
        .cache_size(64 * 4096)
        .in_memory()
        .unwrap();
    sparse(&db, 6, 4_000, 8);
    let writer = {
        let db = db.clone();
        thread::spawn(move || {
            let mut random = SplitMix64::new(7);
            for round in 0..200_u64 {
                let mut txn = db.begin_write().unwrap();
                if round % 3 == 0 {
                    txn.set_durability(Durability::Eventual);
                }
                let bytes = value(&mut random);
                txn.table::<Rows>()
                    .unwrap()
                    .insert(10_000 + round, bytes.as_slice())
                    .unwrap();
                txn.commit().unwrap();
            }
        })
    };
    let kept = read(&db.begin_read().unwrap())[1].clone();
    let options = CompactOptions::new().pages_a_step(8);
    for _ in 0..3 {
        db.compact(options, |_, _| {
            assert!(read(&db.begin_read().unwrap())[1] == kept);
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    writer.join().unwrap();
    let view = db.begin_read().unwrap();
    let rows = view.table::<Rows>().unwrap();
    assert_eq!(
        rows.range(10_000..).unwrap().map(Result::unwrap).count(),
        200
    );
    db.checkpoint(folio_store::GroupSet::ALL).unwrap();
    sound(&db);
}

#[test]
fn a_power_cut_at_any_moment_of_a_compaction_costs_nothing() {
    let disk = Arc::new(SimulatedDisk::new());
    let builder = Database::builder().cache_size(64 * 4096);
    let db = builder.create_on(disk.clone()).unwrap();
    sparse(&db, 8, 600, 6);
    let before = read(&db.begin_read().unwrap());
    db.close().unwrap();
    let disk = Arc::new(SimulatedDisk::recording(&disk.crash(&mut |_| true)));
    let db = builder.open_on(disk.clone()).unwrap();
    let options = CompactOptions::new().pages_a_step(30);
    let done = db
        .compact(options, |_, _| ControlFlow::Continue(()))
        .unwrap();
    assert!(done.bytes_after < done.bytes_before, "{done:?}");
    // What is written into the cut part of the file later must not depend on the cut having landed.
    let txn = db.begin_write().unwrap();
    let bytes = vec![9; 900_000];
    txn.table::<Other>()
        .unwrap()
        .insert(1, bytes.as_slice())
        .unwrap();
    disk.mark(0).unwrap();
    txn.commit().unwrap();
    let mut after = before.clone();
    after[1].insert(1, bytes);

    let plan = SubsetPlan {
        exhaustive_up_to: 3,
        singles: 3,
        random: 3,
        torn_prefixes: 3,
        torn_masks: 2,
    };
    let journal = disk.journal().unwrap();
    let mut replay = journal.replay();
    let mut random = SplitMix64::new(9);
    let mut images = 0;
    let mut committing = false;
    while let Some(event) = replay.advance() {
        committing |= matches!(event, folio_store::storage::DiskEvent::Mark(_));
        let point = replay.crash_point();
        for subset in plan.subsets(point.pending(), &mut random) {
            let db = builder
                .open_on(Arc::new(point.image(&subset)))
                .unwrap_or_else(|error| panic!("{event:?}: {error}"));
            let found = read(&db.begin_read().unwrap());
            assert!(
                found == before || (committing && found == after),
                "{event:?}: rows are not what they were"
            );
            sound(&db);
            images += 1;
        }
    }
    assert!(images > 300, "{images}");
}

#[test]
fn a_file_opened_for_reading_is_not_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    sparse(&Database::create(&path).unwrap(), 1, 10, 1);
    let db = Database::open_read_only(&path).unwrap();
    let refused = db.compact(CompactOptions::new(), |_, _| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::ReadOnly { .. })));
}
