//! Savepoints that outlive their transaction and the process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accidents;
mod copies;
mod sample;

use std::{ops::ControlFlow, sync::Arc};

use folio_store::{
    CompactOptions, Database, Durability, Error, GroupSet, Table, TableDefinition,
    storage::{
        CountingStorage, Fault, FaultPlan, FaultStorage, MemoryStorage, SimulatedDisk, Storage,
        StorageCall,
    },
};

use self::sample::*;

#[test]
fn a_savepoint_outlives_its_transaction_and_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let db = Database::create(&path).unwrap();
    (0..20).for_each(|round| change(&db, round, Durability::Immediate));
    let before = contents(&db);
    let made = db.create_savepoint("monday").unwrap();
    assert_eq!(made.name, "monday");
    assert_eq!(made.transaction, db.published_transaction());
    change(&db, 20, Durability::Immediate);
    db.kill();

    let db = Database::open(&path).unwrap();
    assert_eq!(db.savepoints().unwrap(), std::slice::from_ref(&made));
    assert_eq!(db.statistics().savepoints, 1);
    (21..60).for_each(|round| change(&db, round, Durability::Immediate));
    sound(&db);
    db.close().unwrap();

    let db = Database::open_read_only(&path).unwrap();
    assert_eq!(contents_at(&db, "monday"), before);
    assert!(matches!(
        db.create_savepoint("tuesday"),
        Err(Error::ReadOnly { .. })
    ));
    sound(&db);
    drop(db);

    let db = Database::open(&path).unwrap();
    let restored = db.restore_savepoint("monday").unwrap();
    assert_eq!(restored, db.published_transaction());
    assert_eq!(contents(&db), before);
    sound(&db);
    db.kill();
    let db = Database::open(&path).unwrap();
    assert_eq!(contents(&db), before, "it is durable");
    assert_eq!(db.savepoints().unwrap(), [made], "it stays");
    db.release_savepoint("monday").unwrap();
    sound(&db);
    db.kill();
    let db = Database::open(&path).unwrap();
    assert_eq!(db.savepoints().unwrap(), []);
    assert_eq!(contents(&db), before);
    sound(&db);
}

#[test]
fn a_view_of_a_savepoint_shows_its_state_and_its_number() {
    let db = database();
    let before = contents(&db);
    let made = db.create_savepoint("one").unwrap();
    (30..60).for_each(|round| change(&db, round, Durability::Eventual));
    let view = db.begin_read_at("one").unwrap();
    assert_eq!(view.number(), made.transaction);
    assert_eq!(contents_of(&view), before);
    assert_ne!(contents(&db), before);
}

#[test]
fn savepoints_are_released_in_every_order_and_nothing_is_left() {
    let mut orders = vec![vec![]];
    for _ in 0..4 {
        let longer = orders.iter().flat_map(|order: &Vec<usize>| {
            let rest = (0..4).filter(|next| !order.contains(next));
            rest.map(|next| [order.as_slice(), &[next]].concat())
        });
        orders = longer.collect();
    }
    assert_eq!(orders.len(), 24);
    for order in orders {
        let db = database();
        let mut states = Vec::new();
        for number in 0..4u64 {
            states.push(contents(&db));
            db.create_savepoint(&number.to_string()).unwrap();
            let rounds = 30 + number * 10..40 + number * 10;
            rounds.for_each(|round| change(&db, round, Durability::Immediate));
        }
        sound(&db);
        let newest = contents(&db);
        for (done, number) in order.iter().enumerate() {
            let pages = db.savepoint_pages().unwrap();
            let alone = pages
                .iter()
                .find(|pages| pages.savepoint.name == number.to_string());
            let (before, alone) = (used(&db), alone.unwrap().alone);
            assert!(alone > 0, "{order:?}");
            db.release_savepoint(&number.to_string()).unwrap();
            sound(&db);
            // The engine's own pages may be a few more or less.
            let freed = before - used(&db);
            assert!(freed.abs_diff(alone) <= 4, "{order:?}: {freed} {alone}");
            for left in &order[done + 1..] {
                assert_eq!(contents_at(&db, &left.to_string()), states[*left]);
            }
        }
        assert_eq!(contents(&db), newest);
        assert_eq!(kept(&db), 0);
        // The free space is really used again.
        let length = db.statistics().length_pages;
        (80..110).for_each(|round| change(&db, round, Durability::Immediate));
        assert!(db.statistics().length_pages <= length, "{order:?}");
        sound(&db);
    }
}

#[test]
fn going_back_ends_the_savepoints_made_since_and_frees_what_they_kept() {
    for target in 0..4usize {
        let db = database();
        let mut states = Vec::new();
        for number in 0..4u64 {
            states.push((contents(&db), used(&db)));
            db.create_savepoint(&number.to_string()).unwrap();
            let rounds = 30 + number * 10..40 + number * 10;
            rounds.for_each(|round| change(&db, round, Durability::Immediate));
        }
        let name = target.to_string();
        db.restore_savepoint(&name).unwrap();
        let left: Vec<_> = (0..=target).map(|number| number.to_string()).collect();
        assert_eq!(names(&db), left);
        assert_eq!(contents(&db), states[target].0);
        sound(&db);
        assert!(used(&db).abs_diff(states[target].1) <= 4, "{target}");
        // And on from there, with savepoints of the same names.
        change(&db, 90, Durability::Immediate);
        for number in target + 1..4 {
            db.create_savepoint(&number.to_string()).unwrap();
            change(&db, 91 + number as u64, Durability::Immediate);
        }
        sound(&db);
        for number in (0..=target).rev() {
            db.restore_savepoint(&number.to_string()).unwrap();
            assert_eq!(contents(&db), states[number].0);
            sound(&db);
        }
        db.release_savepoint("0").unwrap();
        sound(&db);
        assert_eq!(kept(&db), 0);
    }
}

#[test]
fn savepoints_that_come_and_go_take_no_page_with_them() {
    let db = database();
    let before = used(&db);
    for round in 0..300 {
        db.create_savepoint("one").unwrap();
        if round % 3 == 0 {
            db.restore_savepoint("one").unwrap();
        }
        db.release_savepoint("one").unwrap();
    }
    assert!(used(&db).abs_diff(before) <= 4, "{} {before}", used(&db));
    sound(&db);
}

#[test]
fn a_savepoint_in_the_middle_leaves_the_others_what_they_share() {
    let db = database();
    for name in ["a", "b", "c"] {
        db.create_savepoint(name).unwrap();
    }
    // All three have the same pages.
    (30..60).for_each(|round| change(&db, round, Durability::Immediate));
    let alone: Vec<u64> = db
        .savepoint_pages()
        .unwrap()
        .iter()
        .map(|pages| pages.alone)
        .collect();
    assert_eq!(alone, [0, 0, 0]);
    assert!(kept(&db) > 20);
    let state = contents_at(&db, "b");
    for name in ["b", "a"] {
        db.release_savepoint(name).unwrap();
        sound(&db);
    }
    assert_eq!(contents_at(&db, "c"), state);
    assert_eq!(db.savepoint_pages().unwrap()[0].alone, kept(&db));
    db.release_savepoint("c").unwrap();
    sound(&db);
}

#[test]
fn a_savepoint_of_what_is_not_durable_yet_makes_it_durable() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    (0..10).for_each(|round| change(&db, round, Durability::Eventual));
    let before = contents(&db);
    db.create_savepoint("now").unwrap();
    (10..20).for_each(|round| change(&db, round, Durability::Eventual));
    db.kill();
    let db = Database::builder().open_on(storage).unwrap();
    assert_eq!(contents(&db), before);
    sound(&db);
}

#[test]
fn going_back_forgets_changes_that_are_not_durable() {
    let storage = Arc::new(MemoryStorage::new());
    // With the small cache some of them are in the file already.
    for cache in [64 * 4096, 8 << 20] {
        let db = Database::builder()
            .cache_size(cache)
            .create_on(storage.clone())
            .unwrap();
        (0..30).for_each(|round| change(&db, round, Durability::Immediate));
        let before = contents(&db);
        db.create_savepoint("now").unwrap();
        (30..40).for_each(|round| change(&db, round, Durability::Immediate));
        (40..90).for_each(|round| change(&db, round, Durability::Eventual));
        // One group is ahead of the other on disk.
        db.checkpoint(Log::GROUP.into()).unwrap();
        change(&db, 91, Durability::Eventual);
        db.restore_savepoint("now").unwrap();
        assert_eq!(contents(&db), before);
        sound(&db);
        change(&db, 92, Durability::Eventual);
        db.kill();
        let db = Database::builder().open_on(storage.clone()).unwrap();
        assert_eq!(contents(&db), before);
        sound(&db);
        storage.truncate(0).unwrap();
    }
}

#[test]
fn views_stay_what_they_are_while_savepoints_come_and_go() {
    // So small a cache that pages which were used again are not still found in it.
    let db = Database::builder()
        .cache_size(16 * 4096)
        .in_memory()
        .unwrap();
    (0..30).for_each(|round| change(&db, round, Durability::Immediate));
    let mut views = Vec::new();
    let mut keep = |db: &Database| {
        let view = db.begin_read().unwrap();
        let contents = contents_of(&view);
        views.push((view, contents));
    };
    keep(&db);
    db.create_savepoint("a").unwrap();
    (30..35).for_each(|round| change(&db, round, Durability::Immediate));
    keep(&db);
    db.create_savepoint("b").unwrap();
    (35..40).for_each(|round| change(&db, round, Durability::Eventual));
    keep(&db);
    let of_savepoint = (db.begin_read_at("b").unwrap(), contents_at(&db, "b"));
    db.restore_savepoint("a").unwrap();
    // The savepoint of one view is gone, and what it kept would be overwritten by these.
    (50..80).for_each(|round| change(&db, round, Durability::Immediate));
    keep(&db);
    db.release_savepoint("a").unwrap();
    (80..120).for_each(|round| change(&db, round, Durability::Immediate));
    views.push(of_savepoint);
    for (view, expected) in &views {
        assert_eq!(contents_of(view), *expected);
    }
    sound(&db);
    let before = db.statistics().free_pages;
    drop(views);
    change(&db, 120, Durability::Immediate);
    assert!(db.statistics().free_pages > before + 20);
    sound(&db);
}

#[test]
fn a_table_that_was_dropped_or_renamed_comes_back_as_it_was() {
    let db = database();
    let before = contents(&db);
    let tables = db.begin_read().unwrap().tables().unwrap();
    db.create_savepoint("all").unwrap();
    let (rows, log) = (TableDefinition::of::<Rows>(), TableDefinition::of::<Log>());
    let txn = db.begin_write().unwrap();
    assert!(txn.delete_table(&rows).unwrap());
    txn.rename_table(&log, "another").unwrap();
    txn.commit().unwrap();
    sound(&db);
    change(&db, 31, Durability::Immediate);
    sound(&db);
    db.restore_savepoint("all").unwrap();
    assert_eq!(db.begin_read().unwrap().tables().unwrap(), tables);
    assert_eq!(contents(&db), before);
    sound(&db);
    // A new table gets a number that no table had before, not even one that is gone.
    change(&db, 32, Durability::Immediate);
    let txn = db.begin_write().unwrap();
    txn.untyped(&rows.renamed("new")).unwrap();
    txn.commit().unwrap();
    sound(&db);
    db.release_savepoint("all").unwrap();
    sound(&db);
}

#[test]
fn an_empty_database_can_be_gone_back_to() {
    let db = Database::in_memory().unwrap();
    db.create_savepoint("nothing").unwrap();
    change(&db, 1, Durability::Immediate);
    db.restore_savepoint("nothing").unwrap();
    assert_eq!(db.begin_read().unwrap().tables().unwrap(), []);
    sound(&db);
}

#[test]
fn a_savepoint_within_a_transaction_goes_back_beside_one_that_lasts() {
    let db = database();
    db.create_savepoint("lasting").unwrap();
    let before = contents(&db);
    let mut txn = db.begin_write().unwrap();
    let inner = txn.savepoint().unwrap();
    {
        let mut rows = txn.table::<Rows>().unwrap();
        rows.remove_range(0..700).unwrap();
    }
    txn.rollback_to(&inner).unwrap();
    {
        let mut rows = txn.table::<Rows>().unwrap();
        rows.remove_range(100..900).unwrap();
        rows.insert(5, [1; 9_000].as_slice()).unwrap();
    }
    txn.commit().unwrap();
    sound(&db);
    assert_eq!(contents_at(&db, "lasting"), before);
    let txn = db.begin_write().unwrap();
    txn.table::<Rows>()
        .unwrap()
        .remove_range(0..u64::MAX)
        .unwrap();
    txn.abort();
    sound(&db);
    db.restore_savepoint("lasting").unwrap();
    assert_eq!(contents(&db), before);
    sound(&db);
}

#[test]
fn names_have_1_to_255_bytes_and_are_taken_once() {
    let db = Database::in_memory().unwrap();
    for name in [String::new(), "n".repeat(256)] {
        let refused = db.create_savepoint(&name).unwrap_err();
        assert!(matches!(refused, Error::Configuration(_)), "{refused}");
    }
    let (longest, shortest) = ("ü".repeat(127) + "n", "n");
    for name in [longest.as_str(), shortest] {
        db.create_savepoint(name).unwrap();
        let refused = db.create_savepoint(name).unwrap_err();
        assert!(matches!(refused, Error::SavepointExists { .. }));
    }
    assert_eq!(names(&db), [longest.as_str(), shortest]);
    for refused in [
        db.restore_savepoint("other").unwrap_err(),
        db.release_savepoint("other").unwrap_err(),
        db.begin_read_at("other").unwrap_err(),
    ] {
        assert!(matches!(&refused, Error::UnknownSavepoint { name } if &**name == "other"));
    }
    db.release_savepoint(&longest).unwrap();
    db.create_savepoint(&longest).unwrap();
    assert_eq!(names(&db), [shortest, longest.as_str()]);
    sound(&db);
}

#[test]
fn a_file_has_1024_savepoints_and_no_more() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    for number in 0..1024u64 {
        if number % 128 == 0 {
            change(&db, number, Durability::Immediate);
        }
        db.create_savepoint(&number.to_string()).unwrap();
    }
    let refused = db.create_savepoint("more").unwrap_err();
    assert!(refused.to_string().contains("1024 savepoints"), "{refused}");
    sound(&db);
    db.kill();
    let db = Database::builder().open_on(storage).unwrap();
    assert_eq!(db.savepoints().unwrap().len(), 1024);
    db.release_savepoint("500").unwrap();
    db.create_savepoint("more").unwrap();
    db.compact(CompactOptions::default(), |_, _| ControlFlow::Continue(()))
        .unwrap();
    sound(&db);
    // All but one go at once.
    db.restore_savepoint("0").unwrap();
    assert_eq!(names(&db), ["0"]);
    sound(&db);
}

#[test]
fn compaction_moves_around_what_a_savepoint_keeps_and_cuts_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let db = Database::create(folder.path().join("file")).unwrap();
    (0..20).for_each(|round| change(&db, round, Durability::Immediate));
    let insert = |keys: std::ops::Range<u64>| {
        let txn = db.begin_write().unwrap();
        let mut rows = txn.table::<Rows>().unwrap();
        for key in keys {
            rows.insert(key, [3; 900].as_slice()).unwrap();
        }
        drop(rows);
        txn.commit().unwrap();
    };
    // At the end of the file, so that nothing can be cut off while it is kept.
    insert(10_000..14_000);
    insert(20_000..20_200);
    db.create_savepoint("end").unwrap();
    let at_savepoint = contents(&db);
    let txn = db.begin_write().unwrap();
    txn.table::<Rows>()
        .unwrap()
        .remove_range(10_000..20_100)
        .unwrap();
    txn.commit().unwrap();
    let newest = contents(&db);
    let compact = || {
        let done = db.compact(CompactOptions::default().pages_a_step(16), |_, _| {
            ControlFlow::Continue(())
        });
        let done = done.unwrap();
        assert!(done.complete);
        sound(&db);
        assert_eq!(contents(&db), newest);
        done
    };
    let first = compact();
    assert_eq!(contents_at(&db, "end"), at_savepoint);
    let second = compact();
    assert_eq!(second.pages_moved, 0, "there is nothing left to do");
    assert!(second.bytes_after >= first.bytes_after);
    db.release_savepoint("end").unwrap();
    let last = compact();
    assert_eq!(last.pages_kept, 0);
    assert!(
        last.bytes_after < first.bytes_after / 4,
        "{first:?} {last:?}"
    );
}

#[test]
fn a_compaction_says_how_much_it_had_to_leave() {
    let db = Database::in_memory().unwrap();
    let txn = db.begin_write().unwrap();
    let mut rows = txn.table::<Rows>().unwrap();
    for key in 0..8_000 {
        rows.insert(key, [3; 900].as_slice()).unwrap();
    }
    drop(rows);
    txn.commit().unwrap();
    let remove = |keys: std::ops::Range<u64>| {
        let txn = db.begin_write().unwrap();
        txn.table::<Rows>().unwrap().remove_range(keys).unwrap();
        txn.commit().unwrap();
    };
    remove(0..7_000);
    // The thousand rows at the end of the file.
    db.create_savepoint("end").unwrap();
    remove(7_000..8_000);
    let compact = || db.compact(CompactOptions::default(), |_, _| ControlFlow::Continue(()));
    let done = compact().unwrap();
    assert!(done.pages_kept > 200 && done.pages_moved < 10, "{done:?}");
    let kept = done.bytes_after;
    sound(&db);
    db.release_savepoint("end").unwrap();
    let done = compact().unwrap();
    assert_eq!(done.pages_kept, 0);
    assert!(done.bytes_after < kept / 4, "{done:?}");
    sound(&db);
}

#[test]
fn a_program_that_does_not_know_of_savepoints_refuses_a_file_that_has_had_one() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    change(&db, 1, Durability::Immediate);
    let features = || storage.to_bytes()[32..40].to_vec();
    assert_eq!(features(), [0; 8], "nothing changes for a file without");
    db.create_savepoint("one").unwrap();
    // Of these bits a program refuses those that it does not know: `tests/format.rs`.
    assert_eq!(features(), [1, 0, 0, 0, 0, 0, 0, 0]);
    db.release_savepoint("one").unwrap();
    db.kill();
    let db = Database::builder().open_on(storage).unwrap();
    sound(&db);
}

#[test]
fn a_header_that_could_not_be_synced_is_not_taken_for_one_that_was() {
    let disk = Arc::new(SimulatedDisk::new());
    let storage = Arc::new(FaultStorage::over_disk(disk.clone()));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    change(&db, 1, Durability::Immediate);
    let before = contents(&db);
    storage.follow(FaultPlan {
        calls: &[StorageCall::Sync],
        at: 1,
        fault: Fault::InputOutput,
        lasting: false,
    });
    db.create_savepoint("one").unwrap_err();
    assert!(matches!(db.begin_write(), Err(Error::Latched { .. })));
    db.kill();
    // The system still shows the bit, and the disk does not have it.
    let db = Database::builder().open_on(disk.clone()).unwrap();
    assert_eq!(names(&db), [""; 0]);
    assert_eq!(contents(&db), before);
    db.create_savepoint("one").unwrap();
    db.kill();
    let image = Arc::new(disk.crash(&mut |_| false));
    let db = Database::builder().open_on(image).unwrap();
    assert_eq!(names(&db), ["one"]);
    sound(&db);
}

#[test]
fn a_disk_that_a_savepoint_has_filled_has_room_to_release_it() {
    let storage = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    (0..30).for_each(|round| change(&db, round, Durability::Immediate));
    // So much that its release is more than a slot can list.
    let txn = db.begin_write().unwrap();
    let mut rows = txn.table::<Rows>().unwrap();
    for key in 100_000..101_000 {
        rows.insert(key, [5; 900].as_slice()).unwrap();
    }
    drop(rows);
    txn.commit().unwrap();
    db.create_savepoint("one").unwrap();
    let txn = db.begin_write().unwrap();
    let mut rows = txn.table::<Rows>().unwrap();
    rows.remove_range(100_000..101_000).unwrap();
    drop(rows);
    txn.commit().unwrap();
    storage.follow(FaultPlan {
        calls: &[StorageCall::Grow],
        at: 1,
        fault: Fault::NoSpace,
        lasting: true,
    });
    let before = contents_at(&db, "one");
    let write = |round: u64, remove: bool| -> folio_store::Result<u64> {
        let mut txn = db.begin_write()?;
        txn.set_durability(match round % 3 {
            0 => Durability::Immediate,
            _ => Durability::Eventual,
        });
        let mut rows = txn.table::<Rows>()?;
        match remove {
            true => drop(rows.remove(round * 7 % 1_500)?),
            false => drop(rows.insert(round * 7 % 1_500, [1; 700].as_slice())?),
        }
        drop(rows);
        txn.commit()
    };
    let until_full = |remove| {
        (0..10_000)
            .map(|round| write(round, remove))
            .find_map(Result::err)
    };
    let full = until_full(false).unwrap();
    assert!(matches!(full, Error::Full { .. }), "{full}");
    // What a savepoint keeps is not free after a removal either, so these take of the last reserve.
    let full = until_full(true);
    assert!(matches!(full, None | Some(Error::Full { .. })), "{full:?}");
    // And these take all of it.
    let full = (20_000..30_000).find_map(|key| {
        let mut txn = db.begin_write().unwrap();
        txn.use_reserve();
        let inserted = txn
            .table::<Rows>()
            .unwrap()
            .insert(key, [1; 900].as_slice());
        inserted.map(drop).and_then(|()| txn.commit()).err()
    });
    assert!(matches!(full, Some(Error::Full { .. })), "{full:?}");
    assert_eq!(contents_at(&db, "one"), before);
    sound(&db);
    let newest = contents(&db);
    let free = db.statistics().free_pages;
    db.release_savepoint("one").unwrap();
    sound(&db);
    assert_eq!(contents(&db), newest);
    assert!(db.statistics().free_pages > free + 50);
    let full = (0..20)
        .map(|round| write(round, false))
        .find_map(Result::err);
    assert!(full.is_none(), "{full:?}");
    sound(&db);
}

#[test]
fn a_disk_that_a_savepoint_has_filled_has_room_to_go_back_to_it() {
    let storage = Arc::new(FaultStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    (0..30).for_each(|round| change(&db, round, Durability::Immediate));
    let before = contents(&db);
    for name in ["one", "two"] {
        db.create_savepoint(name).unwrap();
        change(&db, 31, Durability::Immediate);
    }
    storage.follow(FaultPlan {
        calls: &[StorageCall::Grow],
        at: 1,
        fault: Fault::NoSpace,
        lasting: true,
    });
    let full = (0..100_000).find_map(|key| {
        let txn = db.begin_write().unwrap();
        let inserted = txn
            .table::<Rows>()
            .unwrap()
            .insert(key, [1; 900].as_slice())
            .map(drop);
        inserted.and_then(|()| txn.commit()).err()
    });
    assert!(matches!(full, Some(Error::Full { .. })), "{full:?}");
    db.restore_savepoint("one").unwrap();
    assert_eq!(contents(&db), before);
    sound(&db);
    change(&db, 32, Durability::Immediate);
    sound(&db);
}

/// Storage calls and bytes of one transaction, the same one each time it is asked.
fn cost_of_a_change(with_savepoint: bool) -> (u64, u64, u64) {
    let storage = Arc::new(CountingStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    (0..30).for_each(|round| change(&db, round, Durability::Immediate));
    if with_savepoint {
        db.create_savepoint("one").unwrap();
    } else {
        db.checkpoint(GroupSet::ALL).unwrap();
    }
    let before = storage.counts();
    let txn = db.begin_write().unwrap();
    let mut rows = txn.table::<Rows>().unwrap();
    for key in [3, 700, 1_400] {
        rows.insert(key, [9; 50].as_slice()).unwrap();
    }
    drop(rows);
    txn.commit().unwrap();
    let counts = storage.counts().since(&before);
    (counts.syncs, counts.writes, counts.bytes_written)
}

#[test]
fn a_commit_costs_the_same_with_a_savepoint_as_without() {
    let (syncs, writes, bytes) = cost_of_a_change(true);
    let without = cost_of_a_change(false);
    assert_eq!((syncs, bytes), (without.0, without.2));
    // The copies may lie in one piece more.
    assert!(writes <= without.1 + 2, "{writes} {without:?}");
    assert_eq!(syncs, 1);
}

/// A file of so many rows with a savepoint, of which ten rows were changed since; opened without anything in the cache.
fn changed_a_little(rows: u64) -> (Arc<CountingStorage>, Database) {
    let storage = Arc::new(CountingStorage::new(Arc::new(MemoryStorage::new())));
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let insert = |keys: &mut dyn Iterator<Item = u64>, value: &[u8]| {
        let txn = db.begin_write().unwrap();
        let mut table = txn.table::<Rows>().unwrap();
        keys.for_each(|key| drop(table.insert(key, value).unwrap()));
        drop(table);
        txn.commit().unwrap();
    };
    insert(&mut (0..rows), &[1; 100]);
    db.create_savepoint("one").unwrap();
    insert(&mut (0..10).map(|step| step * rows / 10), &[2; 100]);
    db.close().unwrap();
    let db = Database::builder().open_on(storage.clone()).unwrap();
    (storage, db)
}

#[test]
fn what_is_done_with_a_savepoint_costs_what_was_changed_and_not_the_file() {
    type Act = fn(&Database);
    let acts: [(&str, Act); 4] = [
        ("release", |db| db.release_savepoint("one").unwrap()),
        ("restore", |db| {
            assert!(db.restore_savepoint("one").unwrap() > 0)
        }),
        ("pages", |db| assert!(kept(db) > 10)),
        ("create", |db| drop(db.create_savepoint("two").unwrap())),
    ];
    for (name, act) in acts {
        let [small, large] = [2_000, 100_000].map(|rows| {
            let (storage, db) = changed_a_little(rows);
            let before = storage.counts();
            act(&db);
            storage.counts().since(&before)
        });
        // Branches of the ten paths in both states; a few levels more in the large one.
        assert!(large.reads <= 80, "{name}: {large:?}");
        assert!(
            large.reads < small.reads + 60,
            "{name}: {small:?} {large:?}"
        );
        assert!(large.bytes_written < 40 * 4096, "{name}: {large:?}");
        assert!(large.syncs <= 3, "{name}: {large:?}");
    }
}

#[test]
fn a_table_that_a_savepoint_keeps_is_dropped_without_reading_it() {
    let (storage, db) = changed_a_little(100_000);
    db.release_savepoint("one").unwrap();
    db.create_savepoint("all").unwrap();
    db.close().unwrap();
    let db = Database::builder().open_on(storage.clone()).unwrap();
    let before = storage.counts();
    let txn = db.begin_write().unwrap();
    txn.delete_table(&TableDefinition::of::<Rows>()).unwrap();
    txn.commit().unwrap();
    let counts = storage.counts().since(&before);
    assert!(counts.reads <= 10, "{counts:?}");
    sound(&db);
}
