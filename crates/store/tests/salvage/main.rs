//! Salvage of damaged files: every row is recovered as it was, or reported.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sample;
mod stale;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use folio_store::{
    Database, Error, SalvagedTable, TableMut, Untyped, salvage, salvage_storage,
    storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, SplitMix64, StorageCall},
};

use self::sample::*;

#[test]
fn a_sound_file_is_copied_whole() {
    for (seed, closed) in [(1, true), (2, false), (3, true), (4, false)] {
        let sample = build(seed, closed, PAGE);
        let (found, report) = examine(&sample.image, &sample, &format!("seed {seed}"));
        assert!(
            report.is_complete() && report.problems.is_empty(),
            "{report:?}"
        );
        assert!(found == sample.contents);
        let exact = |table: &SalvagedTable| table.rows_exact == table.rows();
        assert!(report.tables.iter().all(exact));
    }
}

#[test]
fn each_page_damaged_in_turn_costs_its_own_rows_and_no_others() {
    let sample = sample();
    let mut random = SplitMix64::new(77);
    let live = live(sample);
    let mut seen = BTreeMap::new();
    for page in 8..sample.image.len() / PAGE {
        let mut image = sample.image.clone();
        let header = &sample.image[page * PAGE..][..32];
        let number = u32::from_le_bytes(header[24..28].try_into().unwrap());
        let (kind, level) = (header[4], header[5]);
        let entries = usize::from(u16::from_le_bytes([header[28], header[29]]));
        spoil(&mut image, page, &mut random);
        let context = format!("page {page}, kind {kind}, level {level}, table {number}");
        let (found, report) = examine(&image, sample, &context);
        let gone = missing(&sample.contents, &found);
        let is_live = live.contains(&page);
        let role = match (is_live, kind, number) {
            (false, ..) => "free",
            (_, _, 0) => "space",
            (_, _, number) if number > u32::MAX - 16 => "catalog",
            (_, 1, _) => "leaf",
            (_, 2, _) => "branch",
            (_, 3, _) => "long",
            _ => "other",
        };
        *seen.entry((role, level)).or_insert(0) += 1;
        match role {
            "leaf" => {
                assert_eq!(gone, entries, "{context}");
                assert!(
                    !report.is_complete() && report.pages_unreadable == 1,
                    "{context}: {report:?}"
                );
            }
            "long" => assert_eq!(gone, 1, "{context}"),
            // The leaves below are all found, and the counts in the tree prove it.
            _ => assert_eq!(gone, 0, "{context}: {report:?}"),
        }
        if role == "branch" || role == "free" || role == "space" || role == "other" {
            assert!(report.is_complete(), "{context}: {report:?}");
        }
        let stale: u64 = report.tables.iter().map(|table| table.rows_stale).sum();
        assert_eq!(stale, 0, "{context}: {report:?}");
    }
    for role in [
        ("leaf", 0),
        ("branch", 1),
        ("branch", 2),
        ("long", 0),
        ("catalog", 0),
        ("space", 0),
        ("free", 0),
    ] {
        assert!(seen.contains_key(&role), "{role:?} is not in {seen:?}");
    }
}

#[test]
fn fixed_pages_are_not_needed_if_the_file_was_closed_in_order() {
    for (closed, seed) in [(true, 5), (false, 6)] {
        let sample = build(seed, closed, PAGE);
        let mut random = SplitMix64::new(9);
        // Any one of them, and the header with any one.
        for page in 0..8 {
            for with_header in [false, true] {
                let mut image = sample.image.clone();
                spoil(&mut image, page, &mut random);
                if with_header {
                    spoil(&mut image, 0, &mut random);
                }
                let context = format!("closed {closed}, page {page}, header {with_header}");
                let (found, report) = examine(&image, &sample, &context);
                assert_eq!(report.header_lost, with_header || page == 0, "{context}");
                if closed {
                    assert!(
                        report.is_complete() && found == sample.contents,
                        "{context}: {report:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn without_any_commit_the_newest_page_of_each_row_wins() {
    let mut random = SplitMix64::new(10);
    for seed in 20..26 {
        let sample = build(seed, seed % 2 == 0, PAGE);
        for header in [false, true] {
            let mut image = sample.image.clone();
            (1..=5).for_each(|page| spoil(&mut image, page, &mut random));
            if header {
                spoil(&mut image, 0, &mut random);
            }
            let context = format!("seed {seed}, header lost: {header}");
            let (found, report) = examine(&image, &sample, &context);
            assert!(
                !report.is_complete() && report.transaction.is_none(),
                "{context}"
            );
            // Nothing is damaged but the way to the rows, so all of them are there, the newest versions.
            assert_eq!(missing(&sample.contents, &found), 0, "{context}");
            for (name, (_, rows)) in &sample.contents {
                for (key, value) in rows {
                    assert!(
                        found[name].1[key] == *value,
                        "{context}: `{name}` {}",
                        key.escape_ascii()
                    );
                }
            }
            let all_stale = |table: &SalvagedTable| table.rows_stale == table.rows();
            assert!(report.tables.iter().all(all_stale), "{context}: {report:?}");
            assert!(
                !found.contains_key("gone"),
                "{context}: a deleted table came back"
            );
        }
    }
}

#[test]
fn a_lost_newest_commit_is_said_and_the_one_before_is_taken() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let table = definition("rows", 0);
    for round in 0..6u8 {
        let txn = db.begin_write().unwrap();
        let mut rows = txn.untyped(&table).unwrap();
        for row in 0..200u64 {
            rows.insert(row.to_be_bytes().as_slice(), [round].as_slice())
                .unwrap();
        }
        drop(rows);
        txn.commit().unwrap();
    }
    db.kill();
    let mut image = storage.to_bytes();
    let sequence =
        |page: usize| u64::from_le_bytes(image[page * PAGE + 24..][..8].try_into().unwrap());
    let newest = if sequence(1) > sequence(3) { 1 } else { 3 };
    spoil(&mut image, newest, &mut SplitMix64::new(1));
    let (found, report) = recover(&image).unwrap();
    assert!(
        report
            .doubt
            .as_ref()
            .is_some_and(|doubt| doubt.contains("acknowledged")),
        "{report:?}"
    );
    assert!(!report.is_complete());
    let rows = &found["rows"].1;
    assert_eq!(rows.len(), 200);
    assert!(rows.values().all(|value| *value == [4]), "{report:?}");
}

#[test]
fn random_damage_never_gives_a_wrong_row_that_is_not_counted() {
    let rounds = 400;
    for seed in 1_000..1_000 + rounds {
        let mut random = SplitMix64::new(seed);
        let owned;
        let sample = if seed % 8 == 0 {
            owned = build(seed, seed % 16 == 0, PAGE);
            &owned
        } else {
            sample()
        };
        let mut image = sample.image.clone();
        let pages = image.len() / PAGE;
        let first = if random.below(3) == 0 { 0 } else { 8 };
        for _ in 0..1 + random.below(12) {
            let page = first + random.below((pages - first) as u64) as usize;
            match random.below(4) {
                0 => {
                    image[page * PAGE + random.below(PAGE as u64) as usize] ^= 1 << random.below(8)
                }
                1 => image[page * PAGE..(page + 1) * PAGE].fill(0),
                2 => {
                    let at = page * PAGE + 512 * random.below(8) as usize;
                    noise(&mut random, &mut image[at..at + 512]);
                }
                _ => spoil(&mut image, page, &mut random),
            }
        }
        if random.below(6) == 0 {
            image.truncate(
                (9 + random.below(pages as u64 - 9) as usize) * PAGE + random.below(600) as usize,
            );
        }
        examine(&image, sample, &format!("seed {seed}"));
    }
}

#[test]
fn a_truncated_file_gives_what_is_left() {
    let sample = sample();
    let pages = sample.image.len() / PAGE;
    let mut last = usize::MAX;
    for kept in (9..=pages).step_by(7) {
        let (found, _) = examine(
            &sample.image[..kept * PAGE],
            sample,
            &format!("{kept} pages"),
        );
        let gone = missing(&sample.contents, &found);
        assert!(
            gone <= last.saturating_add(60),
            "{kept} pages: {gone} after {last}"
        );
        last = gone;
    }
    assert_eq!(last.min(60), last, "nearly all pages are there");
}

#[test]
fn larger_pages_are_found_out_without_a_header() {
    for page_size in [8192, 65536] {
        let sample = build(3, true, page_size);
        let mut image = sample.image.clone();
        image[..128].fill(0xEE);
        let target = Database::builder()
            .page_size(page_size)
            .in_memory()
            .unwrap();
        let report = salvage_storage(
            Arc::new(MemoryStorage::from_bytes(&image)),
            &target,
            |_, _, _| {},
        )
        .unwrap();
        assert_eq!(
            (report.page_size, report.header_lost),
            (page_size as u64, true)
        );
        assert!(report.is_complete(), "{report:?}");
        let rows: usize = sample.contents.values().map(|(_, rows)| rows.len()).sum();
        assert_eq!(
            report.tables.iter().map(SalvagedTable::rows).sum::<u64>(),
            rows as u64
        );
    }
}

#[test]
fn what_is_no_folio_file_is_refused() {
    let mut garbage = vec![0; 1 << 20];
    noise(&mut SplitMix64::new(4), &mut garbage);
    let mut foreign = vec![0; 400 * PAGE];
    // Pages with their own numbers in them, and checksums of somebody else's making.
    for (number, page) in foreign.chunks_mut(PAGE).enumerate() {
        page[4] = 1;
        page[8..16].copy_from_slice(&(number as u64).to_le_bytes());
        page[40..48].copy_from_slice(&(number as u64 * 77).to_le_bytes());
    }
    for bytes in [
        Vec::new(),
        vec![1; 100],
        b"Dear reader, ".repeat(9_000),
        vec![0; 1 << 20],
        garbage,
        foreign,
    ] {
        let refused = recover(&bytes);
        assert!(
            matches!(refused, Err(Error::NotADatabase { .. })),
            "{} bytes: {refused:?}",
            bytes.len()
        );
    }
}

/// Gives a page its right checksum.
fn seal(image: &mut [u8], page: usize) {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc32fast::hash(&image[48..64]));
    let bytes = &mut image[page * PAGE..(page + 1) * PAGE];
    hasher.update(&bytes[4..]);
    let checksum = hasher.finalize();
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn crafted_pages_with_right_checksums_never_panic_and_never_hang() {
    let sample = sample();
    let pages = sample.image.len() / PAGE;
    for seed in 0..600 {
        let mut random = SplitMix64::new(seed);
        let mut image = sample.image.clone();
        for _ in 0..1 + random.below(6) {
            let page = 8 + random.below(pages as u64 - 8) as usize;
            match random.below(5) {
                // Another page's bytes under this one's number.
                0 => {
                    let from = 8 + random.below(pages as u64 - 8) as usize;
                    image.copy_within(from * PAGE..(from + 1) * PAGE, page * PAGE);
                    image[page * PAGE + 8..][..8].copy_from_slice(&(page as u64).to_le_bytes());
                }
                1 => noise(&mut random, &mut image[page * PAGE + 16..page * PAGE + 48]),
                2 => image[page * PAGE + 24..][..4]
                    .copy_from_slice(&(u32::MAX - random.below(17) as u32).to_le_bytes()),
                _ => {
                    for _ in 0..1 + random.below(8) {
                        let at = page * PAGE + 4 + random.below(PAGE as u64 - 4) as usize;
                        image[at] = random.next_u64() as u8;
                    }
                }
            }
            seal(&mut image, page);
        }
        if random.below(2) == 0 {
            (1..=5).for_each(|page| spoil(&mut image, page, &mut random));
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let target = Database::in_memory().unwrap();
            let storage = Arc::new(MemoryStorage::from_bytes(&image));
            let report = salvage_storage(storage, &target, |_, _, _| {}).unwrap();
            assert_eq!(target.verify(|_, _| {}).unwrap().problems, []);
            let view = target.begin_read().unwrap();
            for table in &report.tables {
                let rows = view.untyped(&table.definition).unwrap().len().unwrap();
                assert_eq!(rows, table.rows(), "{table:?}");
            }
        }));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_file_is_salvaged_into_a_new_one_and_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("damaged"), folder.path().join("out"));
    let sample = sample();
    let mut image = sample.image.clone();
    spoil(&mut image, 2, &mut SplitMix64::new(3));
    std::fs::write(&file, &image).unwrap();
    let report = salvage(&file, &out, |_, _, _| {}).unwrap();
    assert!(report.is_complete());
    assert!(std::fs::read(&file).unwrap() == image);
    assert!(!folder.path().join("out.partial").exists());
    let db = Database::open(&out).unwrap();
    assert_eq!(db.verify(|_, _| {}).unwrap().problems, []);
    let view = db.begin_read().unwrap();
    for (name, (group, rows)) in &sample.contents {
        let table = view.untyped(&definition(name, *group)).unwrap();
        assert!(
            table.iter().unwrap().map(Result::unwrap).eq(rows.clone()),
            "{name}"
        );
    }
    drop(view);
    db.close().unwrap();

    // An existing file is left alone, and so is a folder.
    let before = std::fs::read(&out).unwrap();
    for taken in [out.as_path(), folder.path()] {
        let refused = salvage(&file, taken, |_, _, _| {});
        assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    }
    assert!(std::fs::read(&out).unwrap() == before);
}

#[test]
fn a_run_that_fails_leaves_no_file_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("letter"), folder.path().join("out"));
    std::fs::write(&file, "Dear reader, ".repeat(5_000)).unwrap();
    assert!(matches!(
        salvage(&file, &out, |_, _, _| {}),
        Err(Error::NotADatabase { .. })
    ));
    std::fs::write(&file, &sample().image).unwrap();
    // Interrupted in the middle.
    let interrupted = catch_unwind(|| salvage(&file, &out, |_, done, _| assert!(done < 40)));
    assert!(interrupted.is_err());
    assert!(matches!(
        salvage(&file, folder.path().join("no/such/folder"), |_, _, _| {}),
        Err(Error::Io { .. })
    ));
    let held = Database::open(&file).unwrap();
    assert!(matches!(
        salvage(&file, &out, |_, _, _| {}),
        Err(Error::InUse { .. })
    ));
    drop(held);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["letter"]);
}

#[test]
fn only_an_empty_database_is_salvaged_into() {
    let target = Database::in_memory().unwrap();
    let txn = target.begin_write().unwrap();
    txn.untyped(&definition("rows", 0))
        .unwrap()
        .insert(b"a".as_slice(), b"b".as_slice())
        .unwrap();
    txn.commit().unwrap();
    let image = MemoryStorage::from_bytes(&sample().image);
    let refused = salvage_storage(Arc::new(image), &target, |_, _, _| {});
    assert!(
        matches!(refused, Err(Error::Configuration(_))),
        "{refused:?}"
    );
}

#[test]
fn a_row_that_was_deleted_within_a_leaf_does_not_come_back() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let table = definition("rows", 0);
    let change = |change: &dyn Fn(&mut TableMut<'_, Untyped>)| {
        let txn = db.begin_write().unwrap();
        change(&mut txn.untyped(&table).unwrap());
        txn.commit().unwrap();
    };
    change(&|rows| {
        (0..90u8).for_each(|row| {
            assert!(
                rows.insert([row].as_slice(), b"right".as_slice())
                    .unwrap()
                    .is_none()
            )
        })
    });
    change(&|rows| {
        (20..70u8).for_each(|row| assert!(rows.remove([row].as_slice()).unwrap().is_some()))
    });
    db.close().unwrap();
    let mut image = storage.to_bytes();
    (1..=5).for_each(|page| spoil(&mut image, page, &mut SplitMix64::new(8)));
    let (found, report) = recover(&image).unwrap();
    let keys: Vec<u8> = found["rows"].1.keys().map(|key| key[0]).collect();
    let right: Vec<u8> = (0..20).chain(70..90).collect();
    assert_eq!(keys, right, "{report:?}");
    assert_eq!(report.tables[0].rows_stale, 40);
}

#[test]
fn a_read_that_fails_costs_what_was_to_be_read_and_no_more() {
    let sample = sample();
    let storage = |at| {
        let image = MemoryStorage::from_bytes(&sample.image);
        let storage = Arc::new(FaultStorage::new(Arc::new(image)));
        storage.follow(FaultPlan {
            calls: &[StorageCall::Read],
            at,
            fault: Fault::InputOutput,
            lasting: false,
        });
        storage
    };
    let run = |storage: Arc<FaultStorage>| {
        let target = Database::in_memory().unwrap();
        salvage_storage(storage, &target, |_, _, _| {}).map(|report| (target, report))
    };
    let sound = storage(u64::MAX);
    run(sound.clone()).unwrap();
    let reads = sound.counted();
    assert!(reads > 100, "{reads}");
    for at in (1..=reads).step_by(2) {
        let (target, report) = run(storage(at)).unwrap();
        let context = format!("read {at} of {reads}");
        check(sample, &contents_of(&target), &report, &context);
        // Of one page of a table at most the rows of one leaf are lost.
        let lost: u64 = report
            .tables
            .iter()
            .map(|table| table.rows_lost + table.value_count)
            .sum();
        assert!(lost < 100, "{context}: {report:?}");
    }
}
