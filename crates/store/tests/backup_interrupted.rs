//! Copies that do not come to their end: what is left of them is no database, and what was there before stays.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{self, Read},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use folio_store::{
    BackupOptions, BackupPoint, Database, Error, Table, apply_backup,
    storage::{Fault, FaultPlan, FaultStorage, MemoryStorage, StorageCall},
};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

const ROWS: u64 = 400;

const CALLS: &[StorageCall] = &[
    StorageCall::Read,
    StorageCall::Write,
    StorageCall::Sync,
    StorageCall::Grow,
];

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn fill(db: &Database, byte: u8, step: usize) {
    let txn = db.begin_write().unwrap();
    let mut rows = txn.table::<Rows>().unwrap();
    for key in (0..ROWS).step_by(step) {
        let length = if key % 97 == 3 { 90_000 } else { 900 };
        rows.insert(key, vec![byte; length].as_slice()).unwrap();
    }
    drop(rows);
    txn.commit().unwrap();
}

/// The first byte of each row of a sound copy.
fn sound(path: &Path) -> Vec<u8> {
    let db = Database::open(path).unwrap();
    assert_eq!(db.verify(|_, _| ()).unwrap().problems, []);
    let view = db.begin_read().unwrap();
    let rows = view.table::<Rows>().unwrap();
    rows.iter().unwrap().map(|row| row.unwrap().1[0]).collect()
}

/// Opens a copy of every file but one, as somebody would who took it for a database; gives back how many there were.
fn assert_others_are_no_databases(folder: &Path, but: &str) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let others = entries.filter(|entry| entry.file_name() != but);
    others
        .map(|entry| {
            let bytes = fs::read(entry.path()).unwrap();
            // A file that was made longer before its pages came, as a power cut may leave it, is none either.
            let longer = [bytes.as_slice(), &[0; 1 << 16]].concat();
            for bytes in [bytes, longer] {
                let storage = Arc::new(MemoryStorage::from_bytes(&bytes));
                let opened = Database::builder().accept_loss(true).open_on(storage);
                let name = entry.path();
                assert!(
                    matches!(opened, Err(Error::NotADatabase { .. })),
                    "{name:?}: {opened:?}"
                );
            }
        })
        .count()
}

#[test]
fn a_copy_under_way_is_no_database_and_the_one_before_stays_until_it_is_whole() {
    for options in [BackupOptions::new(), BackupOptions::new().compacted()] {
        let (folder, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = folder.path().join("copy");
        let db = Database::in_memory().unwrap();
        fill(&db, 1, 1);
        let options = options.scratch(scratch.path());
        db.backup_to(options.clone(), &path, go_on).unwrap();
        let before = fs::read(&path).unwrap();
        fill(&db, 2, 1);
        let mut looks = 0;
        db.backup_to(options, &path, |_, _| {
            assert!(fs::read(&path).unwrap() == before);
            looks += assert_others_are_no_databases(folder.path(), "copy");
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(looks > 2, "{looks}");
        assert_eq!(sound(&path), [2; ROWS as usize]);
    }
}

/// Looks at the folder before each part of a stream.
struct Watched<'w> {
    stream: &'w [u8],
    look: &'w mut dyn FnMut() -> io::Result<()>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.look)()?;
        self.stream.read(buffer)
    }
}

#[test]
fn applying_changes_that_stop_coming_leaves_the_copy_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let db = Database::in_memory().unwrap();
    fill(&db, 1, 1);
    let report = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    let before = fs::read(&path).unwrap();
    fill(&db, 2, 2);
    let (mut stream, point) = (Vec::new(), report.point.unwrap());
    db.backup_since(&point, BackupOptions::new(), &mut stream, go_on)
        .unwrap();
    let parts = |fails_at: Option<u32>| {
        let mut parts = 0;
        let mut look = || {
            assert!(fs::read(&path).unwrap() == before);
            assert_others_are_no_databases(folder.path(), "copy");
            parts += 1;
            match fails_at == Some(parts) {
                true => Err(io::ErrorKind::ConnectionReset.into()),
                false => Ok(()),
            }
        };
        let watched = Watched {
            stream: &stream,
            look: &mut look,
        };
        let done = apply_backup(&path, watched);
        (parts, done)
    };
    for at in 1.. {
        let (parts, done) = parts(Some(at));
        if done.is_ok() {
            assert_eq!(parts, at - 1, "it fails at no part");
            break;
        }
        assert!(matches!(done, Err(Error::Io { .. })), "part {at}: {done:?}");
        assert!(fs::read(&path).unwrap() == before, "part {at}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "part {at}");
    }
    let mut whole = Vec::new();
    db.backup(BackupOptions::new(), &mut whole, go_on).unwrap();
    assert!(fs::read(&path).unwrap() == whole);
    let expected: Vec<u8> = (0..ROWS)
        .map(|key| if key % 2 == 0 { 2 } else { 1 })
        .collect();
    assert_eq!(sound(&path), expected);
}

#[test]
fn every_storage_call_of_a_copy_may_fail_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let disk = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(disk.clone()).unwrap();
    fill(&db, 1, 1);
    let mut copy = Vec::new();
    let report = db.backup(BackupOptions::new(), &mut copy, go_on).unwrap();
    let point = report.point.unwrap();
    fill(&db, 2, 3);
    db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    let values = sound(&path);
    db.close().unwrap();
    let image = disk.to_bytes();
    for kind in ["exact", "compacted", "changes"] {
        fs::write(&path, &copy).unwrap();
        let mut failures = 0;
        for at in 1.. {
            let storage = FaultStorage::new(Arc::new(MemoryStorage::from_bytes(&image)));
            let storage = Arc::new(storage);
            // So small a cache that every page is read.
            let db = Database::builder()
                .cache_size(0)
                .open_on(storage.clone())
                .unwrap();
            let options = BackupOptions::new();
            storage.follow(FaultPlan {
                calls: CALLS,
                at,
                fault: Fault::InputOutput,
                lasting: false,
            });
            let done = match kind {
                "exact" => db.backup_to(options, &path, go_on),
                "compacted" => db.backup_to(options.compacted(), &path, go_on),
                _ => db.backup_since(&point, options, io::sink(), go_on),
            };
            let failed = storage.first_failed().is_some();
            storage.heal();
            if !failed {
                done.unwrap();
                break;
            }
            failures += 1;
            let context = format!("{kind}, call {at}");
            if done.is_ok() {
                // A read of several pages is done again page by page, so that an error names the page.
                if kind != "changes" {
                    assert_eq!(sound(&path), values, "{context}");
                    fs::write(&path, &copy).unwrap();
                }
                continue;
            }
            assert!(matches!(done, Err(Error::Io { .. })), "{context}: {done:?}");
            assert!(fs::read(&path).unwrap() == copy, "{context}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{context}");
            let again = db.backup(BackupOptions::new(), io::sink(), go_on);
            assert!(again.is_ok(), "{context}: {again:?}");
        }
        assert!(failures > 3, "{kind}: {failures}");
    }
}

/// Makes the first check of a stream right again.
fn check_head(stream: &mut [u8], page_size: usize) {
    let end = 16 + BackupPoint::LENGTH + page_size;
    let check = xxhash_rust::xxh3::xxh3_128(&[&[0; 16], &stream[..end]].concat());
    stream[end..end + 16].copy_from_slice(&check.to_le_bytes());
}

#[test]
fn hostile_versions_and_lengths_in_a_stream_are_refused_with_little_memory() {
    const PAGE: usize = 4096;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let db = Database::in_memory().unwrap();
    fill(&db, 1, 1);
    let report = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    let before = fs::read(&path).unwrap();
    fill(&db, 2, 2);
    let (mut stream, point) = (Vec::new(), report.point.unwrap());
    db.backup_since(&point, BackupOptions::new(), &mut stream, go_on)
        .unwrap();
    let mut same = stream.clone();
    check_head(&mut same, PAGE);
    assert!(same == stream, "the test knows the format");
    let refused = |stream: &[u8], what: &str| {
        let refused = apply_backup(&path, stream);
        assert!(
            matches!(refused, Err(Error::BackupDamaged { .. })),
            "{what}: {refused:?}"
        );
        assert!(fs::read(&path).unwrap() == before, "{what}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{what}");
    };
    for version in [0, 2, u32::MAX] {
        let mut crafted = stream.clone();
        crafted[8..12].copy_from_slice(&version.to_le_bytes());
        check_head(&mut crafted, PAGE);
        refused(&crafted, &format!("version {version}"));
    }
    for page_size in [0, 512, 8192, 65_536, u32::MAX] {
        let mut crafted = stream.clone();
        crafted[12..16].copy_from_slice(&page_size.to_le_bytes());
        check_head(&mut crafted, PAGE);
        refused(&crafted, &format!("page size {page_size}"));
    }
    let chunk = 16 + BackupPoint::LENGTH + PAGE + 16;
    for count in [0, 63, 65, 1 << 20, u32::MAX] {
        let mut crafted = stream.clone();
        if crafted[chunk..chunk + 4] == count.to_le_bytes() {
            continue;
        }
        crafted[chunk..chunk + 4].copy_from_slice(&count.to_le_bytes());
        refused(&crafted, &format!("{count} pages in a chunk"));
    }
    apply_backup(&path, stream.as_slice()).unwrap();
}
