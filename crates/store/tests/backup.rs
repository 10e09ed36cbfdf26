//! Copies of a database that is in use.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use folio_store::{
    BackupOptions, BackupPoint, Database, Durability, Error, Group, GroupSet, Table, apply_backup,
    check_backup,
    storage::{MemoryStorage, SplitMix64, Storage},
    unpack_backup,
};

const PAGE: usize = 4096;

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

struct Log;
impl Table for Log {
    const NAME: &'static str = "log";
    const GROUP: Group = Group::new(5);
    type Key = u64;
    type Value = &'static [u8];
}

type Contents = (BTreeMap<u64, Vec<u8>>, BTreeMap<u64, Vec<u8>>);

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Some changes in one transaction: rows, removals, long values, and the other group.
fn change(db: &Database, random: &mut SplitMix64, model: &mut Contents, count: u64) {
    let mut txn = db.begin_write().unwrap();
    if random.below(3) > 0 {
        txn.set_durability(Durability::Eventual);
    }
    {
        let mut rows = txn.table::<Rows>().unwrap();
        for _ in 0..count {
            let key = random.below(3_000);
            if random.below(4) == 0 {
                rows.remove(key).unwrap();
                model.0.remove(&key);
                continue;
            }
            let length = match random.below(40) {
                0 => 9_000 + random.below(20_000),
                _ => random.below(120),
            };
            let value = vec![random.below(256) as u8; length as usize];
            rows.insert(key, value.as_slice()).unwrap();
            model.0.insert(key, value);
        }
    }
    if random.below(2) == 0 {
        let mut log = txn.table::<Log>().unwrap();
        let next = model.1.last_key_value().map_or(0, |(&last, _)| last + 1);
        for key in next..next + count {
            log.insert(key, [7; 40].as_slice()).unwrap();
            model.1.insert(key, vec![7; 40]);
        }
        let bound = next.saturating_sub(500);
        log.remove_range(..bound).unwrap();
        model.1 = model.1.split_off(&bound);
    }
    txn.commit().unwrap();
}

fn contents(db: &Database) -> Contents {
    let view = db.begin_read().unwrap();
    let read = |row: folio_store::Result<(u64, Vec<u8>)>| row.unwrap();
    let rows = view.table::<Rows>().unwrap();
    let log = view.table::<Log>().unwrap();
    (
        rows.iter().unwrap().map(read).collect(),
        log.iter().unwrap().map(read).collect(),
    )
}

/// What a sound copy holds.
fn sound(path: &Path) -> Contents {
    let db = Database::open(path).unwrap();
    let report = db.verify(|_, _| ()).unwrap();
    assert_eq!(report.problems, []);
    contents(&db)
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
fn a_copy_of_an_empty_database_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let db = Database::in_memory().unwrap();
    db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    assert_eq!(sound(&path), Contents::default());
    db.backup_to(BackupOptions::new().compacted(), &path, go_on)
        .unwrap();
    assert_eq!(sound(&path), Contents::default());
    assert_eq!(files(folder.path()), ["copy"]);
}

#[test]
fn copies_and_changes_of_a_database_are_the_moment_they_name() {
    let folder = tempfile::tempdir().unwrap();
    for seed in [1, 2, 3] {
        println!("seed {seed}");
        let mut random = SplitMix64::new(seed);
        let mut model = Contents::default();
        let db = Database::builder().cache_size(1 << 20).in_memory().unwrap();
        for _ in 0..10 {
            change(&db, &mut random, &mut model, 200);
        }
        let path = folder.path().join(format!("copy-{seed}"));
        let first = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
        assert_eq!(first.bytes, fs::metadata(&path).unwrap().len());
        let mut point = first.point.unwrap();
        assert_eq!(BackupPoint::of_file(&path).unwrap(), point);
        for round in 0..12 {
            println!("round {round}");
            for _ in 0..random.below(4) {
                let count = [1, 3, 100][random.below(3) as usize];
                change(&db, &mut random, &mut model, count);
            }
            let mut stream = Vec::new();
            let report = db
                .backup_since(&point, BackupOptions::new(), &mut stream, go_on)
                .unwrap();
            assert_eq!(report.bytes, stream.len() as u64);
            let mut whole = Vec::new();
            let direct = db.backup(BackupOptions::new(), &mut whole, go_on).unwrap();
            apply_backup(&path, stream.as_slice()).unwrap();
            assert!(fs::read(&path).unwrap() == whole, "not the same bytes");
            point = report.point.unwrap();
            assert_eq!(direct.point, Some(point));
        }
        let place = folder.path().join("sound");
        fs::copy(&path, &place).unwrap();
        assert_eq!(sound(&place), model);
        // A compacted copy has the same rows in fewer pages.
        let compacted = db
            .backup_to(BackupOptions::new().compacted(), &place, go_on)
            .unwrap();
        assert_eq!(sound(&place), model);
        assert!(compacted.bytes < fs::metadata(&path).unwrap().len());
        assert!(compacted.point.is_none());
    }
}

#[test]
fn an_idle_database_gives_a_short_stream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let db = Database::in_memory().unwrap();
    let mut model = Contents::default();
    let mut random = SplitMix64::new(9);
    change(&db, &mut random, &mut model, 2_000);
    let report = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    let before = fs::read(&path).unwrap();
    let mut stream = Vec::new();
    let since = db
        .backup_since(
            &report.point.unwrap(),
            BackupOptions::new(),
            &mut stream,
            go_on,
        )
        .unwrap();
    assert_eq!(since.pages, 0);
    assert!(stream.len() < 2 * PAGE);
    apply_backup(&path, stream.as_slice()).unwrap();
    assert!(fs::read(&path).unwrap() == before);
}

/// A transaction that began before a copy was made has a smaller number than the copy.
#[test]
fn changes_of_a_transaction_that_began_before_the_copy_are_in_the_next_stream() {
    let folder = tempfile::tempdir().unwrap();
    // Also of more than the cache, so that some is written early.
    for more in [0, 10, 10_000] {
        let path = folder.path().join(format!("copy-{more}"));
        let db = Database::builder().cache_size(1 << 20).in_memory().unwrap();
        change(&db, &mut SplitMix64::new(4), &mut Contents::default(), 500);
        let txn = db.begin_write().unwrap();
        let mut rows = txn.table::<Rows>().unwrap();
        rows.insert(1_000_000, [1; 50_000].as_slice()).unwrap();
        let report = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
        let point = report.point.unwrap();
        for key in 0..more {
            rows.insert(2_000_000 + key, [2; 200].as_slice()).unwrap();
        }
        drop(rows);
        let number = txn.number();
        txn.commit().unwrap();
        assert!(number < point.transaction(), "not the case that is meant");
        let mut stream = Vec::new();
        db.backup_since(&point, BackupOptions::new(), &mut stream, go_on)
            .unwrap();
        apply_backup(&path, stream.as_slice()).unwrap();
        assert_eq!(sound(&path), contents(&db));
    }
}

/// Whoever is told of the progress changes everything, durably, again and again.
#[test]
fn pages_of_the_moment_are_not_used_again_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let db = Database::builder().cache_size(1 << 20).in_memory().unwrap();
    let (mut random, mut model) = (SplitMix64::new(21), Contents::default());
    change(&db, &mut random, &mut model, 3_000);
    let first = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    change(&db, &mut random, &mut model, 3_000);
    let disturb = |random: &mut SplitMix64, model: &mut Contents, calls: &mut u32| {
        *calls += 1;
        if *calls < 12 {
            change(&db, random, model, 1_500);
            db.checkpoint(GroupSet::ALL).unwrap();
        }
        ControlFlow::Continue(())
    };
    let (before, mut calls) = (model.clone(), 0);
    let mut stream = Vec::new();
    db.backup_since(
        &first.point.unwrap(),
        BackupOptions::new(),
        &mut stream,
        |_, _| disturb(&mut random, &mut model, &mut calls),
    )
    .unwrap();
    assert!(calls > 12);
    apply_backup(&path, stream.as_slice()).unwrap();
    assert!(sound(&path) == before);

    for options in [BackupOptions::new(), BackupOptions::new().compacted()] {
        db.checkpoint(GroupSet::ALL).unwrap();
        let (before, mut calls) = (model.clone(), 0);
        db.backup_to(options.clone(), &path, |_, _| {
            disturb(&mut random, &mut model, &mut calls)
        })
        .unwrap();
        assert!(calls > 3);
        assert!(sound(&path) == before);
    }
    assert!(contents(&db) == model);
}

#[test]
fn a_copy_made_while_others_write_is_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let db = Database::builder()
        .cache_size(1 << 20)
        .create(folder.path().join("original"))
        .unwrap();
    change(
        &db,
        &mut SplitMix64::new(5),
        &mut Contents::default(),
        3_000,
    );
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (db, stop) = (db.clone(), stop.clone());
        thread::spawn(move || {
            // Every transaction sets the same two rows to its number.
            let mut commits = 0u64;
            while !stop.load(Ordering::Relaxed) || commits < 20 {
                let mut txn = db.begin_write().unwrap();
                if !commits.is_multiple_of(3) {
                    txn.set_durability(Durability::Eventual);
                }
                let number = txn.number().to_le_bytes();
                let mut rows = txn.table::<Rows>().unwrap();
                rows.insert(10_000, number.as_slice()).unwrap();
                rows.insert(commits % 3_000, vec![3; 90].as_slice())
                    .unwrap();
                let mut log = txn.table::<Log>().unwrap();
                log.insert(10_000, number.as_slice()).unwrap();
                drop((rows, log));
                txn.commit().unwrap();
                commits += 1;
            }
        })
    };
    let same = |path: &Path| {
        let (rows, log) = sound(path);
        assert_eq!(rows.get(&10_000), log.get(&10_000), "two moments");
    };
    let mut point = None;
    for round in 0..6 {
        match point {
            None => {
                let report = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
                point = report.point;
            }
            Some(base) => {
                let mut stream = Vec::new();
                let report = db
                    .backup_since(&base, BackupOptions::new(), &mut stream, go_on)
                    .unwrap();
                apply_backup(&path, stream.as_slice()).unwrap();
                point = report.point;
            }
        }
        let seen = folder.path().join("seen");
        fs::copy(&path, &seen).unwrap();
        same(&seen);
        if round == 3 {
            db.backup_to(BackupOptions::new().compacted(), &seen, go_on)
                .unwrap();
            same(&seen);
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(files(folder.path()), ["copy", "original", "seen"]);
}

#[test]
fn a_copy_goes_on_as_the_database_did() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let db = Database::in_memory().unwrap();
    let (mut random, mut model) = (SplitMix64::new(11), Contents::default());
    change(&db, &mut random, &mut model, 2_000);
    let report = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    let copy = Database::open(&path).unwrap();
    for _ in 0..20 {
        change(&copy, &mut random, &mut model, 100);
    }
    copy.close().unwrap();
    assert_eq!(sound(&path), model);
    // It is no longer the copy that changes of the original belong on.
    let mut stream = Vec::new();
    db.backup_since(
        &report.point.unwrap(),
        BackupOptions::new(),
        &mut stream,
        go_on,
    )
    .unwrap();
    let refused = apply_backup(&path, stream.as_slice());
    assert!(
        matches!(refused, Err(Error::BackupBase { .. })),
        "{refused:?}"
    );
    assert_eq!(sound(&path), model);
}

#[test]
fn changes_belong_on_the_copy_they_were_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("copy"), folder.path().join("other"));
    let (mut random, mut model) = (SplitMix64::new(12), Contents::default());
    let db = Database::in_memory().unwrap();
    change(&db, &mut random, &mut model, 300);
    let first = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    change(&db, &mut random, &mut model, 300);
    let mut stream = Vec::new();
    let second = db
        .backup_since(
            &first.point.unwrap(),
            BackupOptions::new(),
            &mut stream,
            go_on,
        )
        .unwrap();
    apply_backup(&path, stream.as_slice()).unwrap();
    // Twice, or to another database.
    let again = apply_backup(&path, stream.as_slice());
    assert!(matches!(again, Err(Error::BackupBase { .. })), "{again:?}");
    let foreign = Database::in_memory().unwrap();
    foreign
        .backup_to(BackupOptions::new(), &other, go_on)
        .unwrap();
    let refused = apply_backup(&other, stream.as_slice());
    assert!(refused.is_err(), "{refused:?}");
    // From a point of another database, or from the future.
    let base = second.point.unwrap();
    let refused = foreign.backup_since(&base, BackupOptions::new(), io::sink(), go_on);
    assert!(
        matches!(refused, Err(Error::BackupBase { .. })),
        "{refused:?}"
    );
    let old = Database::open_read_only(&other).unwrap();
    drop(old);
    // A copy in use is left alone.
    let open = Database::open(&path).unwrap();
    let refused = apply_backup(&path, stream.as_slice());
    assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
    drop(open);
    let mut bytes = base.to_bytes();
    assert_eq!(bytes.len(), BackupPoint::LENGTH);
    assert_eq!(BackupPoint::from_bytes(&bytes).unwrap(), base);
    for at in 0..bytes.len() {
        bytes[at] ^= 0x10;
        assert!(BackupPoint::from_bytes(&bytes).is_err(), "byte {at}");
        bytes[at] ^= 0x10;
    }
    assert!(BackupPoint::from_bytes(&bytes[1..]).is_err());
}

#[test]
fn a_damaged_stream_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let (mut random, mut model) = (SplitMix64::new(13), Contents::default());
    let db = Database::in_memory().unwrap();
    change(&db, &mut random, &mut model, 20);
    let report = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    let before = fs::read(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.table::<Rows>()
        .unwrap()
        .insert(1, [1; 10].as_slice())
        .unwrap();
    txn.commit().unwrap();
    let mut stream = Vec::new();
    db.backup_since(
        &report.point.unwrap(),
        BackupOptions::new(),
        &mut stream,
        go_on,
    )
    .unwrap();
    let refused = |stream: &[u8], what: &str| {
        let refused = apply_backup(&path, stream);
        assert!(
            matches!(refused, Err(Error::BackupDamaged { .. })),
            "{what}: {refused:?}"
        );
    };
    for at in 0..stream.len() {
        stream[at] ^= 1 << (at % 8);
        refused(&stream, &format!("byte {at}"));
        stream[at] ^= 1 << (at % 8);
    }
    for length in (0..stream.len()).step_by(37).chain([stream.len() - 1]) {
        refused(&stream[..length], &format!("{length} bytes"));
    }
    stream.push(0);
    refused(&stream, "a byte more");
    stream.pop();
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(files(folder.path()), ["copy"]);
    apply_backup(&path, stream.as_slice()).unwrap();
    assert_eq!(sound(&path), contents(&db));
}

/// Makes the checks of a stream right after its slot was changed.
fn checked_again(stream: &mut [u8]) {
    use xxhash_rust::xxh3;
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let point = 16;
    let slot = point + BackupPoint::LENGTH;
    let seed = number(&stream[point + 8..]);
    let checksum = xxh3::xxh3_128_with_seed(&stream[slot + 24..slot + PAGE], seed);
    stream[slot + 8..slot + 24].copy_from_slice(&checksum.to_le_bytes());
    let (mut start, mut end, mut check) = (0, slot + PAGE, 0u128);
    loop {
        check = xxh3::xxh3_128(&[&check.to_le_bytes(), &stream[start..end]].concat());
        stream[end..end + 16].copy_from_slice(&check.to_le_bytes());
        start = end + 16;
        if start == stream.len() {
            return;
        }
        let count = u32::from_le_bytes(stream[start..start + 4].try_into().unwrap());
        end = start + 4 + if count == 0 { 8 } else { count as usize * PAGE };
    }
}

#[test]
fn a_crafted_slot_with_right_checks_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let seed = 0xC0DE;
    let mut random = SplitMix64::new(seed);
    let db = Database::in_memory().unwrap();
    let mut model = Contents::default();
    change(&db, &mut random, &mut model, 300);
    let report = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    let before = fs::read(&path).unwrap();
    change(&db, &mut random, &mut model, 5);
    let mut stream = Vec::new();
    db.backup_since(
        &report.point.unwrap(),
        BackupOptions::new(),
        &mut stream,
        go_on,
    )
    .unwrap();
    let mut same = stream.clone();
    checked_again(&mut same);
    assert!(same == stream, "the test knows the format");
    let slot = 16 + BackupPoint::LENGTH;
    let mut refusals = 0;
    for round in 0..400 {
        let mut crafted = stream.clone();
        let place = match round {
            0..80 => 24 + 8 * (round / 4),
            _ => 24 + random.below(100) as usize * 8,
        };
        let old = u64::from_le_bytes(stream[slot + place..][..8].try_into().unwrap());
        let new = match round % 4 {
            0 => u64::MAX >> 21,
            1 => old.wrapping_add(1),
            2 => old.wrapping_sub(1),
            _ => random.below(64),
        };
        crafted[slot + place..][..8].copy_from_slice(&new.to_le_bytes());
        checked_again(&mut crafted);
        println!("seed {seed}, round {round}: {old} at {place} becomes {new}");
        match apply_backup(&path, crafted.as_slice()) {
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                assert!(fs::read(&path).unwrap() == before);
                refusals += 1;
            }
            Ok(_) => {
                // Numbers that lead nowhere; the rows are those of the stream.
                if let Ok(opened) = Database::open(&path) {
                    opened.verify(|_, _| ()).unwrap();
                }
                fs::write(&path, &before).unwrap();
            }
        }
        assert_eq!(files(folder.path()), ["copy"]);
    }
    assert!(refusals > 100, "{refusals}");
}

#[test]
fn a_damaged_copy_takes_no_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let (mut random, mut model) = (SplitMix64::new(14), Contents::default());
    let db = Database::in_memory().unwrap();
    change(&db, &mut random, &mut model, 2_000);
    let report = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    change(&db, &mut random, &mut model, 2);
    let mut stream = Vec::new();
    db.backup_since(
        &report.point.unwrap(),
        BackupOptions::new(),
        &mut stream,
        go_on,
    )
    .unwrap();
    let whole = fs::read(&path).unwrap();
    apply_backup(&path, stream.as_slice()).unwrap();
    let after = fs::read(&path).unwrap();
    // Pages that the stream does not replace. A used page that is free afterwards is not read.
    let pages = (8..whole.len() / PAGE).filter(|page| {
        let place = page * PAGE..(page + 1) * PAGE;
        after.get(place.clone()) == Some(&whole[place.clone()]) && whole[place.start + 4] != 0
    });
    let pages: Vec<_> = pages.collect();
    assert!(pages.len() > 10);
    for &page in pages.iter().step_by(pages.len() / 10) {
        let mut damaged = whole.clone();
        damaged[page * PAGE + 1_000] ^= 4;
        fs::write(&path, &damaged).unwrap();
        let refused = apply_backup(&path, stream.as_slice());
        assert!(
            matches!(refused, Err(Error::Corrupted { page: found, .. }) if found == page as u64),
            "page {page}: {refused:?}"
        );
        assert!(fs::read(&path).unwrap() == damaged);
    }
}

#[test]
fn damage_ends_a_backup_and_is_named() {
    let storage = Arc::new(MemoryStorage::new());
    let (mut random, mut model) = (SplitMix64::new(15), Contents::default());
    {
        let db = Database::builder().create_on(storage.clone()).unwrap();
        for _ in 0..5 {
            change(&db, &mut random, &mut model, 500);
        }
        db.close().unwrap();
    }
    let mut image = vec![0; storage.len().unwrap() as usize];
    storage.read_at(0, &mut image).unwrap();
    let db = Database::builder().open_on(storage.clone()).unwrap();
    let mut copy = Vec::new();
    db.backup(BackupOptions::new(), &mut copy, go_on).unwrap();
    let used: Vec<_> = (8..copy.len() / PAGE)
        .filter(|page| copy[page * PAGE + 4] != 0)
        .collect();
    // A page of this table's leaves in two versions under right checksums: one write was lost.
    for &page in used.iter().step_by(7) {
        let offset = page as u64 * PAGE as u64;
        let place = page * PAGE..(page + 1) * PAGE;
        let mut damaged = image[place.clone()].to_vec();
        damaged[99] ^= 1;
        let write = |bytes: &[u8]| {
            storage
                .write_at(offset, &[io::IoSlice::new(bytes)])
                .unwrap();
        };
        write(&damaged);
        let ended = db.backup(BackupOptions::new(), io::sink(), go_on);
        assert!(
            matches!(ended, Err(Error::Corrupted { page: found, .. }) if found == page as u64),
            "page {page}: {ended:?}"
        );
        write(&image[place]);
    }
    db.backup(BackupOptions::new(), io::sink(), go_on).unwrap();
}

/// Every checksum is right, and a page is the one that was there before.
#[test]
fn a_lost_write_ends_a_backup_and_is_named() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let image = || {
        let mut image = vec![0; storage.len().unwrap() as usize];
        storage.read_at(0, &mut image).unwrap();
        image
    };
    let (mut random, mut model) = (SplitMix64::new(16), Contents::default());
    for _ in 0..5 {
        change(&db, &mut random, &mut model, 500);
    }
    db.backup(BackupOptions::new(), io::sink(), go_on).unwrap();
    let old = image();
    for _ in 0..20 {
        change(&db, &mut random, &mut model, 500);
    }
    let mut copy = Vec::new();
    db.backup(BackupOptions::new(), &mut copy, go_on).unwrap();
    let new = image();
    let mut tried = 0;
    for page in 8..old.len().min(copy.len()) / PAGE {
        let place = page * PAGE..(page + 1) * PAGE;
        let in_use = copy[place.start + 4] != 0 && old[place.start + 4] != 0;
        if !in_use || old[place.clone()] == new[place.clone()] {
            continue;
        }
        tried += 1;
        if tried % 10 != 1 {
            continue;
        }
        let write = |bytes: &[u8]| {
            storage
                .write_at(place.start as u64, &[io::IoSlice::new(bytes)])
                .unwrap();
        };
        write(&old[place.clone()]);
        let ended = db.backup(BackupOptions::new(), io::sink(), go_on);
        assert!(
            matches!(ended, Err(Error::Corrupted { .. })),
            "page {page}: {ended:?}"
        );
        write(&new[place.clone()]);
    }
    assert!(tried > 20, "{tried}");
}

struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_end_on_request_and_a_full_disk_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let db = Database::in_memory().unwrap();
    change(
        &db,
        &mut SplitMix64::new(17),
        &mut Contents::default(),
        2_000,
    );
    for options in [BackupOptions::new(), BackupOptions::new().compacted()] {
        let options = options.scratch(folder.path());
        let mut calls = 0;
        let stop = |_, _| {
            calls += 1;
            match calls {
                3 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        };
        let ended = db.backup_to(options.clone(), &path, stop);
        assert!(matches!(ended, Err(Error::Interrupted { .. })), "{ended:?}");
        let ended = db.backup(options, Full(100_000), go_on);
        assert!(matches!(ended, Err(Error::Io { .. })), "{ended:?}");
        assert_eq!(files(folder.path()), Vec::<String>::new());
    }
    assert_eq!(db.statistics().readers, 0);
    let own = folder.path().join("own");
    let db = Database::create(&own).unwrap();
    let refused = db.backup_to(BackupOptions::new(), &own, go_on);
    assert!(
        matches!(refused, Err(Error::Configuration(_))),
        "{refused:?}"
    );
}

/// A copy of a database with some life behind it, what changed after, and a copy of that.
fn three_backups() -> [Vec<u8>; 3] {
    let db = Database::in_memory().unwrap();
    let (mut random, mut model) = (SplitMix64::new(11), Contents::default());
    for _ in 0..8 {
        change(&db, &mut random, &mut model, 60);
    }
    let [mut whole, mut changes, mut later] = [Vec::new(), Vec::new(), Vec::new()];
    let options = BackupOptions::new();
    let report = db.backup(options.clone(), &mut whole, go_on).unwrap();
    for _ in 0..4 {
        change(&db, &mut random, &mut model, 40);
    }
    db.backup_since(&report.point.unwrap(), options.clone(), &mut changes, go_on)
        .unwrap();
    db.backup(options, &mut later, go_on).unwrap();
    [whole, changes, later]
}

#[test]
fn a_backup_is_checked_as_a_stream_and_names_where_it_begins_and_ends() {
    let [whole, changes, later] = three_backups();
    let [first, between, last] = [&whole, &changes, &later].map(|bytes| {
        let contents = check_backup(bytes.as_slice()).unwrap();
        let point = BackupPoint::of_backup(bytes.as_slice()).unwrap();
        assert_eq!(point, contents.point);
        contents
    });
    assert_eq!((first.base, last.base), (None, None));
    assert_eq!(between.base, Some(first.point));
    assert_eq!(between.point, last.point);
    assert_eq!(
        (first.copy_bytes, last.copy_bytes),
        (whole.len() as u64, later.len() as u64)
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let report = unpack_backup(whole.as_slice(), &path).unwrap();
    assert_eq!(report.point, Some(first.point));
    assert!(fs::read(&path).unwrap() == whole);
    apply_backup(&path, changes.as_slice()).unwrap();
    assert!(fs::read(&path).unwrap() == later);
    // Changes alone are no copy, and the one that is there stays.
    let refused = unpack_backup(changes.as_slice(), &path);
    assert!(
        matches!(refused, Err(Error::BackupDamaged { .. })),
        "{refused:?}"
    );
    assert!(fs::read(&path).unwrap() == later);
    assert_eq!(files(folder.path()), ["copy"]);
}

#[test]
fn a_damaged_cut_or_swapped_stream_is_no_backup() {
    let [whole, changes, later] = three_backups();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let refused = |bytes: &[u8], what: &str| {
        for result in [
            check_backup(bytes).map(drop),
            unpack_backup(bytes, &path).map(drop),
        ] {
            assert!(
                matches!(result, Err(Error::BackupDamaged { .. })),
                "{what}: {result:?}"
            );
        }
        assert_eq!(files(folder.path()), [""; 0], "{what}");
    };
    let mut random = SplitMix64::new(12);
    for (bytes, name) in [(&whole, "whole"), (&changes, "changes")] {
        for _ in 0..300 {
            let at = random.below(bytes.len() as u64) as usize;
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << random.below(8);
            refused(&damaged, &format!("{name}: byte {at}"));
            refused(&bytes[..at], &format!("{name}: cut at {at}"));
        }
        refused(&[bytes.as_slice(), b"x"].concat(), name);
    }
    // Pages that are whole in themselves and of another moment.
    let mixed = [&whole[..9 * PAGE], &later[9 * PAGE..]].concat();
    refused(&mixed, "the pages of a later copy");
    let absent = (9..whole.len() / PAGE).find(|page| whole[page * PAGE] != 0);
    let absent = absent.unwrap() * PAGE;
    let mut without = whole.clone();
    without[absent..absent + PAGE].fill(0);
    refused(&without, "a page is missing");
    refused(b"Dear reader, this is no backup at all", "a letter");
    refused(&[0; 100_000], "zeros");
}

#[test]
fn an_image_whose_length_is_a_lie_fills_neither_memory_nor_disk() {
    let [whole, ..] = three_backups();
    // The slot says how long the copy is; its number of pages is checked at the end, which never comes.
    let endless = whole.as_slice().chain(io::repeat(0)).take(1 << 28);
    let refused = check_backup(endless);
    assert!(
        matches!(refused, Err(Error::BackupDamaged { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_moment_is_written_again_and_from_the_middle_while_others_change_everything() {
    let db = Database::in_memory().unwrap();
    let (mut random, mut model) = (SplitMix64::new(13), Contents::default());
    for _ in 0..8 {
        change(&db, &mut random, &mut model, 60);
    }
    let moment = db.begin_backup().unwrap();
    let mut whole = Vec::new();
    moment.write(0, 0, &mut whole, go_on).unwrap();
    assert_eq!(moment.bytes(), whole.len() as u64);
    let kept = db.statistics().kept_pages;
    for round in 0..40 {
        change(&db, &mut random, &mut model, 200);
        let from = match round {
            0 => whole.len() as u64,
            1 => PAGE as u64,
            _ => random.below(whole.len() as u64),
        };
        let mut rest = Vec::new();
        let report = moment.write(from, 0, &mut rest, go_on).unwrap();
        assert!(rest == whole[from as usize..], "from {from}");
        assert_eq!(report.bytes, rest.len() as u64);
        assert_eq!(report.point, Some(moment.point()));
    }
    check_backup(whole.as_slice()).unwrap();
    assert!(db.statistics().kept_pages > kept);
    drop(moment);
    change(&db, &mut random, &mut model, 1);
    assert_eq!(db.statistics().kept_pages, kept);
}
