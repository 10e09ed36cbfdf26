//! Copies of a database that is in use.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damage;
mod streams;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    ops::ControlFlow,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use folio_store::{
    BackupOptions, BackupPoint, BackupReport, Database, Durability, Error, Group, GroupSet, Table,
    apply_backup, storage::SplitMix64, unpack_backup,
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

/// What has changed since a copy.
fn changes(db: &Database, since: &BackupPoint) -> (BackupReport, Vec<u8>) {
    let mut stream = Vec::new();
    let report = db.backup_since(since, BackupOptions::new(), &mut stream, go_on);
    (report.unwrap(), stream)
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
            let (report, stream) = changes(&db, &point);
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
    let (since, stream) = changes(&db, &report.point.unwrap());
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
        let (_, stream) = changes(&db, &point);
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
                let (report, stream) = changes(&db, &base);
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
    let (_, stream) = changes(&db, &report.point.unwrap());
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
    let (second, stream) = changes(&db, &first.point.unwrap());
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

/// Also where everybody may read what is there.
#[test]
fn copies_and_what_they_are_made_of_are_for_their_owner_alone() {
    let (folder, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("copy");
    let private = |folder: &Path| {
        for name in files(folder) {
            let place = folder.join(&name);
            let mode = fs::metadata(&place).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
        files(folder).len()
    };
    let db = Database::in_memory().unwrap();
    let (mut random, mut model) = (SplitMix64::new(31), Contents::default());
    change(&db, &mut random, &mut model, 500);
    let exact = BackupOptions::new();
    for options in [exact.clone().compacted(), exact.clone()] {
        let mut looks = 0;
        db.backup_to(options.scratch(scratch.path()), &path, |_, _| {
            looks += private(folder.path()) + private(scratch.path());
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(looks > 0 && private(folder.path()) == 1);
    }
    let point = BackupPoint::of_file(&path).unwrap();
    change(&db, &mut random, &mut model, 5);
    let mut changes = Vec::new();
    db.backup_since(&point, exact.clone(), &mut changes, go_on)
        .unwrap();
    apply_backup(&path, changes.as_slice()).unwrap();
    assert_eq!(private(folder.path()), 1);
    let mut whole = Vec::new();
    db.backup(exact, &mut whole, go_on).unwrap();
    unpack_backup(whole.as_slice(), folder.path().join("another")).unwrap();
    assert_eq!(private(folder.path()), 2);
}
