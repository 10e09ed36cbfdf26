//! Salvage of damaged files: every row is recovered as it was, or reported.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use folio_store::{
    Database, Durability, Error, Group, LostRange, SalvageReport, SalvagedTable, TableDefinition,
    salvage, salvage_storage,
    storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, SplitMix64, StorageCall},
};

const PAGE: usize = 4096;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Contents = BTreeMap<String, (u8, Rows)>;

fn definition(name: &str, group: u8) -> TableDefinition {
    TableDefinition {
        name: name.into(),
        group: Group::new(group),
        key_type: format!("keys of {name}"),
        value_type: "bytes".into(),
    }
}

/// In one table long keys that differ at both ends, so that a tree of a few hundred rows has several levels.
fn key(table: usize, number: u64) -> Vec<u8> {
    let filler = if table == 1 {
        "k".repeat(700)
    } else {
        String::new()
    };
    format!("{:06}{filler}{:02}", number / 8, number % 8).into_bytes()
}

/// Every value that a row ever had.
type History = BTreeMap<String, BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>>;

struct Sample {
    image: Vec<u8>,
    contents: Contents,
    history: History,
}

/// A file with history: groups at different flushes, free pages full of older versions, long values, a deleted table.
fn build(seed: u64, closed: bool, page_size: usize) -> Sample {
    let mut random = SplitMix64::new(seed);
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder()
        .page_size(page_size)
        .create_on(storage.clone())
        .unwrap();
    let names = [
        ("short", 0),
        ("deep", 0),
        ("other group", 3),
        ("long", 3),
        ("empty", 5),
    ];
    let mut contents: Contents = names
        .iter()
        .map(|&(name, group)| (name.into(), (group, Rows::new())))
        .collect();
    let gone = definition("gone", 0);
    let mut history = History::new();
    for round in 0..25u64 {
        let mut txn = db.begin_write().unwrap();
        if round == 0 {
            let mut table = txn.untyped(&gone).unwrap();
            for row in 0..100u64 {
                table.insert(&row.to_be_bytes(), b"gone").unwrap();
            }
            txn.untyped(&definition("empty", 5)).unwrap();
        }
        if round == 10 {
            assert!(txn.delete_table(&gone).unwrap());
        }
        for (index, &(name, group)) in names.iter().enumerate().take(4) {
            let rows = &mut contents.get_mut(name).unwrap().1;
            let mut table = txn.untyped(&definition(name, group)).unwrap();
            for _ in 0..random.below(30) {
                let key = key(index, random.below(400));
                if random.below(4) == 0 {
                    table.remove(&key).unwrap();
                    rows.remove(&key);
                    continue;
                }
                let length = if index == 3 && random.below(3) == 0 {
                    random.below(30_000)
                } else {
                    random.below(120)
                };
                let mut value = vec![0; length as usize];
                noise(&mut random, &mut value);
                table.insert(&key, &value).unwrap();
                let of_table = history.entry(name.into()).or_default();
                of_table
                    .entry(key.clone())
                    .or_default()
                    .insert(value.clone());
                rows.insert(key, value);
            }
        }
        if random.below(3) == 0 {
            txn.set_durability(Durability::Eventual);
        }
        txn.commit().unwrap();
    }
    db.checkpoint(folio_store::GroupSet::ALL).unwrap();
    if closed {
        db.close().unwrap();
    } else {
        db.kill();
    }
    Sample {
        image: storage.to_bytes(),
        contents,
        history,
    }
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| build(5, true, PAGE))
}

fn recover(image: &[u8]) -> folio_store::Result<(Contents, SalvageReport)> {
    let target = Database::in_memory()?;
    let report = salvage_storage(
        Arc::new(MemoryStorage::from_bytes(image)),
        &target,
        |_, done, total| {
            assert!(done <= total, "{done} of {total}");
        },
    )?;
    assert_eq!(target.verify(|_, _| {}).unwrap().problems, []);
    Ok((contents_of(&target), report))
}

fn contents_of(db: &Database) -> Contents {
    let view = db.begin_read().unwrap();
    let mut contents = Contents::new();
    for table in view.tables().unwrap() {
        let rows = view.untyped(&table).unwrap();
        let rows = rows.iter().collect::<Result<_, _>>().unwrap();
        contents.insert(table.name.clone(), (table.group.index(), rows));
    }
    contents
}

fn covers(range: &LostRange, key: &[u8]) -> bool {
    range.from.as_deref().is_none_or(|from| from <= key)
        && range.to.as_deref().is_none_or(|to| key < to)
}

/// Everything that a report promises about what is in the new database.
fn check(sample: &Sample, found: &Contents, report: &SalvageReport, context: &str) {
    let right = &sample.contents;
    assert_eq!(found.len(), report.tables.len(), "{context}");
    for table in &report.tables {
        let rows = &found[&table.definition.name].1;
        assert_eq!(rows.len() as u64, table.rows(), "{context}: {table:?}");
        // Not even a stale row is one that never was.
        for (key, value) in rows {
            let known = sample.history.get(&table.definition.name);
            let was =
                known.is_none_or(|rows| rows.get(key).is_some_and(|values| values.contains(value)));
            assert!(was, "{context}: {} of {table:?}", key.escape_ascii());
        }
    }
    if report.doubt.is_some() {
        // An older commit, all of whose rows were right once.
        assert!(!report.is_complete(), "{context}");
        return;
    }
    for (name, (group, rows)) in right {
        let Some(table) = report
            .tables
            .iter()
            .find(|table| table.definition.name == *name)
        else {
            assert!(
                report.tables_missing || report.transaction.is_none(),
                "{context}: `{name}` is missing: {report:?}"
            );
            continue;
        };
        let (found_group, out) = &found[name];
        if table.named {
            assert_eq!(table.definition, definition(name, *group), "{context}");
        }
        assert_eq!(found_group, group, "{context}: group of `{name}`");
        let wrong = out
            .iter()
            .filter(|(key, value)| rows.get(*key) != Some(value))
            .count() as u64;
        assert!(
            wrong <= table.rows_stale,
            "{context}: {wrong} wrong rows in {table:?}"
        );
        let missing: Vec<&Vec<u8>> = rows.keys().filter(|key| !out.contains_key(*key)).collect();
        for key in &missing {
            let told = table.ranges_lost.iter().any(|range| covers(range, key))
                || table.values_lost.contains(key);
            assert!(
                told,
                "{context}: `{name}` misses {} in silence",
                key.escape_ascii()
            );
        }
        if table.rows_stale == 0 && !table.rows_lost_unknown {
            assert_eq!(
                missing.len() as u64,
                table.rows_lost + table.value_count,
                "{context}: {table:?}"
            );
        }
        if table.is_complete() {
            assert!(out == rows, "{context}: `{name}`");
        }
    }
    if report.is_complete() {
        assert!(found == right, "{context}");
    }
}

fn examine(image: &[u8], sample: &Sample, context: &str) -> (Contents, SalvageReport) {
    let (found, report) = recover(image).unwrap_or_else(|error| panic!("{context}: {error}"));
    check(sample, &found, &report, context);
    (found, report)
}

/// How many rows of the newest commit are not there.
fn missing(right: &Contents, found: &Contents) -> usize {
    let of = |name: &String, key: &Vec<u8>| {
        found
            .get(name)
            .is_none_or(|(_, rows)| !rows.contains_key(key))
    };
    right
        .iter()
        .map(|(name, (_, rows))| rows.keys().filter(|key| of(name, key)).count())
        .sum()
}

fn noise(random: &mut SplitMix64, bytes: &mut [u8]) {
    bytes.fill_with(|| random.next_u64() as u8);
}

fn spoil(image: &mut [u8], page: usize, random: &mut SplitMix64) {
    noise(random, &mut image[page * PAGE..(page + 1) * PAGE]);
}

/// The pages that the newest commit uses.
fn live(sample: &Sample) -> Vec<usize> {
    let mut live = Vec::new();
    for page in 8..sample.image.len() / PAGE {
        let mut image = sample.image.clone();
        image[page * PAGE + 1_000] ^= 1;
        let db = Database::builder().open_on(Arc::new(MemoryStorage::from_bytes(&image)));
        // A page of the last commit's manifest keeps the file from being opened.
        let sound = db.is_ok_and(|db| db.verify(|_, _| {}).unwrap().problems.is_empty());
        if !sound {
            live.push(page);
        }
    }
    live
}

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
            rows.insert(&row.to_be_bytes(), &[round]).unwrap();
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
    let everything = (Bound::Unbounded, Bound::Unbounded);
    for (name, (group, rows)) in &sample.contents {
        let table = view.untyped(&definition(name, *group)).unwrap();
        assert!(
            table.range(everything).map(Result::unwrap).eq(rows.clone()),
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
        .insert(b"a", b"b")
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
    let change = |change: &dyn Fn(&mut folio_store::UntypedTableMut<'_>)| {
        let txn = db.begin_write().unwrap();
        change(&mut txn.untyped(&table).unwrap());
        txn.commit().unwrap();
    };
    change(&|rows| (0..90u8).for_each(|row| assert!(!rows.insert(&[row], b"right").unwrap())));
    change(&|rows| (20..70u8).for_each(|row| assert!(rows.remove(&[row]).unwrap())));
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

/// A small file of one table, changed in several commits, as a killed process leaves it. `change` is called with the number
/// of each.
fn small(commits: u8, change: impl Fn(&folio_store::WriteTransaction, u8)) -> Vec<Vec<u8>> {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let mut images = Vec::new();
    for number in 0..commits {
        let txn = db.begin_write().unwrap();
        change(&txn, number);
        txn.commit().unwrap();
        images.push(storage.to_bytes());
    }
    db.kill();
    images
}

fn pages_of(image: &[u8], kind: u8, table: u32) -> impl Iterator<Item = usize> + '_ {
    let pages = image.chunks(PAGE).enumerate().skip(8);
    let wanted =
        pages.filter(move |(_, page)| page[4] == kind && page[24..28] == table.to_le_bytes());
    wanted.map(|(number, _)| number)
}

fn write_rows(txn: &folio_store::WriteTransaction, table: &TableDefinition, rows: u64, value: u8) {
    let mut table = txn.untyped(table).unwrap();
    for row in 0..rows {
        table.insert(&row.to_be_bytes(), &[value; 40]).unwrap();
    }
}

#[test]
fn an_older_version_of_a_page_never_passes_for_a_lost_one() {
    let table = definition("rows", 0);
    let images = small(12, |txn, number| write_rows(txn, &table, 30, number));
    let image = images.last().unwrap();
    let newest =
        |page: &usize| u64::from_le_bytes(image[page * PAGE + 16..][..8].try_into().unwrap());
    let leaf = pages_of(image, 1, 1).max_by_key(newest).unwrap();
    let before = images
        .iter()
        .rev()
        .map(|image| &image[leaf * PAGE..(leaf + 1) * PAGE]);
    let older = before
        .skip_while(|page| *page == &image[leaf * PAGE..(leaf + 1) * PAGE])
        .find(|page| page[4] == 1 && page[24..28] == 1u32.to_le_bytes())
        .unwrap();
    let mut lost_write = image.clone();
    lost_write[leaf * PAGE..(leaf + 1) * PAGE].copy_from_slice(older);
    let mut torn = image.clone();
    spoil(&mut torn, leaf, &mut SplitMix64::new(2));
    // Older versions of all rows are in the file, some in pages that are free, one in the very place.
    for image in [lost_write, torn] {
        let (found, report) = recover(&image).unwrap();
        assert!(report.doubt.is_none(), "{report:?}");
        assert!(found["rows"].1.is_empty(), "{report:?}");
        assert_eq!(
            (report.tables[0].rows_lost, report.tables[0].rows()),
            (30, 0)
        );
    }
}

#[test]
fn a_damaged_page_of_the_newest_commit_does_not_cost_the_commit() {
    let table = definition("rows", 0);
    let images = small(5, |txn, number| write_rows(txn, &table, 500, number));
    let mut image = images.last().unwrap().clone();
    let newest =
        |page: &usize| u64::from_le_bytes(image[page * PAGE + 16..][..8].try_into().unwrap());
    let leaf = pages_of(&image, 1, 1).max_by_key(newest).unwrap();
    spoil(&mut image, leaf, &mut SplitMix64::new(2));
    let (found, report) = recover(&image).unwrap();
    let rows = &found["rows"].1;
    assert!(
        report.doubt.is_none() && !report.is_complete(),
        "{report:?}"
    );
    assert!(rows.len() > 350 && rows.len() < 500, "{}", rows.len());
    assert!(rows.values().all(|value| *value == [4; 40]));
    assert_eq!(report.tables[0].rows_lost, 500 - rows.len() as u64);
}

#[test]
fn a_table_without_name_and_root_is_never_called_complete() {
    let (table, other) = (definition("rows", 0), definition("other", 0));
    let images = small(4, |txn, number| {
        write_rows(txn, &table, 2_000, number);
        write_rows(txn, &other, 10, number);
    });
    let image = images.last().unwrap();
    let mut without_catalog = image.clone();
    let catalogs: Vec<usize> = pages_of(image, 1, u32::MAX).collect();
    for &page in &catalogs {
        spoil(
            &mut without_catalog,
            page,
            &mut SplitMix64::new(page as u64),
        );
    }
    // With all its pages a table is found whole, but for its name.
    let (found, report) = recover(&without_catalog).unwrap();
    assert_eq!(
        (found["table-1"].1.len(), found["table-2"].1.len()),
        (2_000, 10)
    );
    assert!(
        report
            .tables
            .iter()
            .all(|table| table.rows_lost == 0 && !table.rows_lost_unknown)
    );
    assert!(
        report.tables.iter().all(|table| table.rows_stale == 0),
        "{report:?}"
    );
    assert!(!report.is_complete());
    // Without some of them nobody knows what is missing.
    for page in pages_of(image, 2, 1).chain(pages_of(image, 1, 1)) {
        let mut image = without_catalog.clone();
        spoil(&mut image, page, &mut SplitMix64::new(3));
        let (found, report) = recover(&image).unwrap();
        let rows = found.get("table-1").map_or(0, |(_, rows)| rows.len());
        let table = report
            .tables
            .iter()
            .find(|table| table.definition.name == "table-1");
        let told = table.is_none_or(|table| table.rows_lost > 0 || table.rows_lost_unknown);
        assert!(
            rows == 2_000 || told,
            "page {page}: {rows} rows, {report:?}"
        );
        assert!(!report.is_complete());
    }
}

#[test]
fn a_table_that_was_deleted_last_stays_deleted() {
    let [first, gone, last] = ["a", "m", "z"].map(|name| definition(name, 0));
    let images = small(4, |txn, number| {
        write_rows(txn, &first, 20, number);
        write_rows(txn, &last, 20, number);
        if number < 3 {
            write_rows(txn, &gone, 20, number);
        } else {
            assert!(txn.delete_table(&gone).unwrap());
        }
    });
    let mut image = images.last().unwrap().clone();
    (1..=5).for_each(|page| spoil(&mut image, page, &mut SplitMix64::new(8)));
    let (found, report) = recover(&image).unwrap();
    // The newest page of the catalog has names before and after it, so it would have this one too.
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "z"], "{report:?}");
    assert!(found.values().all(|(_, rows)| rows.len() == 20));
    assert!(report.tables.iter().all(|table| table.rows_stale == 20));
}

#[test]
fn a_leaf_that_is_left_alone_is_not_taken_for_a_whole_table() {
    let table = definition("rows", 0);
    let images = small(1, |txn, number| write_rows(txn, &table, 120, number));
    let image = &images[0];
    let leaves: Vec<usize> = pages_of(image, 1, 1).collect();
    assert_eq!(leaves.len(), 2, "the table is small enough");
    for kept in &leaves {
        let mut image = image.clone();
        let others = leaves.iter().filter(|leaf| *leaf != kept).copied();
        let lost: Vec<usize> = pages_of(&image, 1, u32::MAX)
            .chain(pages_of(&image, 2, 1))
            .chain(others)
            .collect();
        lost.iter()
            .for_each(|&page| spoil(&mut image, page, &mut SplitMix64::new(3)));
        let (found, report) = recover(&image).unwrap();
        let rows = found["table-1"].1.len();
        assert!((1..120).contains(&rows), "{rows}");
        assert!(report.tables[0].rows_lost_unknown, "{report:?}");
        assert_eq!(report.pages_unreadable, 3, "{report:?}");
    }
}
