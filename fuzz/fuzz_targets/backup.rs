//! Backups from strangers: an exact or compacted copy, or a stream of changes put onto a copy. Whatever the bytes, it is
//! refused, and then the copy is as it was, or it is whole.
//!
//! Run with `cargo +nightly fuzz run backup`.
#![no_main]

use std::{
    fs,
    io::{self, Read},
    ops::ControlFlow,
    path::Path,
    sync::{Arc, OnceLock},
};

use arbitrary::Arbitrary;
use folio_store::{
    BackupOptions, BackupPoint, Database, Durability, Table, apply_backup, check_backup,
    storage::MemoryStorage,
};
use libfuzzer_sys::fuzz_target;

const PAGE: usize = 4096;

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Kind {
    Exact,
    Compacted,
    Changes,
}

#[derive(Arbitrary, Debug)]
struct Damage {
    offset: u32,
    bytes: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
struct Case {
    kind: Kind,
    damages: Vec<Damage>,
    /// How much of it comes.
    length: Option<u32>,
    /// Whether somebody made the checks right again.
    checked: bool,
}

struct Backups {
    exact: Vec<u8>,
    compacted: Vec<u8>,
    changes: Vec<u8>,
}

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn fill(db: &Database, byte: u8, step: usize) {
    let mut txn = db.begin_write().expect("open");
    txn.set_durability(Durability::Eventual);
    let mut rows = txn.table::<Rows>().expect("sound");
    for key in (0..200).step_by(step) {
        let length = if key % 90 == 7 { 9_000 } else { 60 };
        let value = vec![byte; length];
        rows.insert(key, value.as_slice()).expect("memory");
    }
    drop(rows);
    txn.commit().expect("memory");
}

fn backups() -> &'static Backups {
    static BACKUPS: OnceLock<Backups> = OnceLock::new();
    BACKUPS.get_or_init(|| {
        let db = Database::in_memory().expect("memory");
        fill(&db, 1, 1);
        let (mut exact, mut compacted, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        let options = BackupOptions::new();
        let report = db.backup(options.clone(), &mut exact, go_on);
        let point = report.expect("sound").point.expect("an exact copy");
        db.backup(options.clone().compacted(), &mut compacted, go_on)
            .expect("sound");
        fill(&db, 2, 30);
        db.backup_since(&point, options, &mut changes, go_on)
            .expect("sound");
        Backups {
            exact,
            compacted,
            changes,
        }
    })
}

/// Makes the checks of a stream right as far as its lengths can be followed, so that what is behind them is reached.
fn check_again(stream: &mut [u8]) {
    use xxhash_rust::xxh3::{xxh3_64, xxh3_128, xxh3_128_with_seed};
    let (point, slot) = (16, 16 + BackupPoint::LENGTH);
    if stream.len() < slot + PAGE + 16 {
        return;
    }
    let digest = xxh3_64(&stream[point..slot - 8]);
    stream[slot - 8..slot].copy_from_slice(&digest.to_le_bytes());
    let seed = u64::from_le_bytes(stream[point + 8..point + 16].try_into().expect("eight"));
    let checksum = xxh3_128_with_seed(&stream[slot + 24..slot + PAGE], seed);
    stream[slot + 8..slot + 24].copy_from_slice(&checksum.to_le_bytes());
    let (mut start, mut end, mut check) = (0, slot + PAGE, 0u128);
    while end + 16 <= stream.len() {
        check = xxh3_128(&[&check.to_le_bytes(), &stream[start..end]].concat());
        stream[end..end + 16].copy_from_slice(&check.to_le_bytes());
        start = end + 16;
        let Some(count) = stream.get(start..start + 4) else {
            return;
        };
        let count = u32::from_le_bytes(count.try_into().expect("four")) as usize;
        end = match count {
            0 => start + 12,
            1..=64 => start + 4 + count * PAGE,
            _ => return,
        };
    }
}

fn look(db: &Database) {
    let view = db.begin_read().expect("open");
    if let Ok(table) = view.table::<Rows>() {
        let rows = table.iter().expect("no page is read");
        let _ = rows.take_while(Result::is_ok).count();
    }
    let _ = db.verify(|_, _| {});
}

fn apply(path: &Path, stream: impl Read) {
    let copy = &backups().exact;
    fs::write(path, copy).expect("a temporary file");
    match apply_backup(path, stream) {
        Ok(_) => look(&Database::open(path).expect("what was put in place is whole")),
        Err(_) => assert!(fs::read(path).expect("there") == *copy, "half applied"),
    }
    let folder = path.parent().expect("a folder");
    assert_eq!(fs::read_dir(folder).expect("there").count(), 1);
}

fuzz_target!(|case: Case| {
    let whole = match case.kind {
        Kind::Exact => &backups().exact,
        Kind::Compacted => &backups().compacted,
        Kind::Changes => &backups().changes,
    };
    let mut bytes = whole.clone();
    for damage in &case.damages {
        let offset = damage.offset as usize % bytes.len();
        let count = damage.bytes.len().min(bytes.len() - offset);
        bytes[offset..offset + count].copy_from_slice(&damage.bytes[..count]);
    }
    if let Some(length) = case.length {
        bytes.truncate(length as usize % (bytes.len() + 1));
    }
    if let Kind::Changes = case.kind {
        if case.checked {
            check_again(&mut bytes);
        }
        // Changes that are whole may be of another copy.
        let _ = check_backup(bytes.as_slice());
        let folder = tempfile::Builder::new().prefix("folio-fuzz").tempdir_in("/dev/shm");
        let folder = folder.or_else(|_| tempfile::tempdir()).expect("a folder");
        apply(&folder.path().join("copy"), io::Cursor::new(bytes));
        return;
    }
    let passed = check_backup(bytes.as_slice()).is_ok();
    let storage = Arc::new(MemoryStorage::from_bytes(&bytes));
    match Database::builder().accept_loss(true).open_on(storage) {
        Ok(db) if passed => {
            let report = db.verify(|_, _| {}).expect("it opened");
            assert_eq!(report.problems, [], "the check let this pass");
        }
        Ok(db) => look(&db),
        Err(error) => assert!(!passed, "the check let this pass: {error}"),
    }
});
