//! What backups and salvage make of savepoints.

use std::{collections::BTreeMap, fs, ops::ControlFlow, path::Path, sync::Arc};

use folio_store::{
    BackupOptions, Database, Durability, apply_backup, salvage_storage, storage::MemoryStorage,
};

use super::sample::*;

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The rows of a file, and its savepoints with theirs.
fn examine(path: &Path) -> (Contents, BTreeMap<String, Contents>) {
    let db = Database::open_read_only(path).unwrap();
    sound(&db);
    let savepoints = names(&db).into_iter();
    let savepoints = savepoints.map(|name| (name.clone(), contents_at(&db, &name)));
    (contents(&db), savepoints.collect())
}

fn features(path: &Path) -> u8 {
    fs::read(path).unwrap()[32]
}

#[test]
fn an_exact_copy_keeps_savepoints_and_a_compacted_one_drops_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let db = database();
    let mut expected = BTreeMap::new();
    for name in ["a", "b"] {
        expected.insert(name.to_owned(), contents(&db));
        db.create_savepoint(name).unwrap();
        (30..40).for_each(|round| change(&db, round, Durability::Immediate));
    }
    let newest = contents(&db);
    db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    assert_eq!(examine(&path), (newest, expected.clone()));
    assert_eq!(features(&path), 1);
    // It is as good as the original.
    let copy = Database::open(&path).unwrap();
    copy.release_savepoint("b").unwrap();
    sound(&copy);
    copy.restore_savepoint("a").unwrap();
    sound(&copy);
    assert_eq!(contents(&copy), expected["a"]);
    drop(copy);

    let exact = fs::metadata(&path).unwrap().len();
    let options = BackupOptions::new().compacted();
    db.backup_to(options, &path, go_on).unwrap();
    assert_eq!(examine(&path), (newest, BTreeMap::new()));
    assert_eq!(features(&path), 0);
    assert!(fs::metadata(&path).unwrap().len() < exact);

    // A copy of a file that has no savepoint any more is a plain file.
    for name in ["a", "b"] {
        db.release_savepoint(name).unwrap();
    }
    db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    assert_eq!(features(&path), 0);
    assert_eq!(examine(&path), (newest, BTreeMap::new()));
}

#[test]
fn changes_since_a_copy_bring_savepoints_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let db = database();
    db.create_savepoint("before").unwrap();
    change(&db, 30, Durability::Immediate);
    let whole = db.backup_to(BackupOptions::new(), &path, go_on).unwrap();
    let mut point = whole.point.unwrap();
    let mut round = 31;
    let mut rounds = |count: u64| {
        (0..count).for_each(|_| {
            change(&db, round, Durability::Eventual);
            round += 1;
        });
    };
    type Act<'a> = &'a dyn Fn(&Database);
    let acts: [Act; 9] = [
        &|_| {},
        &|db| drop(db.create_savepoint("one").unwrap()),
        &|db| drop(db.create_savepoint("two").unwrap()),
        // Its pages are partly in the copy and partly newer, and the newest state has none of the latter.
        &|db| assert!(db.restore_savepoint("one").unwrap() > 0),
        &|db| drop(db.create_savepoint("three").unwrap()),
        &|db| db.release_savepoint("one").unwrap(),
        &|db| assert!(db.restore_savepoint("before").unwrap() > 0),
        &|db| drop(db.create_savepoint("four").unwrap()),
        &|db| {
            names(db)
                .iter()
                .for_each(|name| db.release_savepoint(name).unwrap())
        },
    ];
    for (number, act) in acts.iter().enumerate() {
        rounds(3);
        act(&db);
        rounds(2);
        let mut stream = Vec::new();
        let changes = db
            .backup_since(&point, BackupOptions::new(), &mut stream, go_on)
            .unwrap();
        let mut direct = Vec::new();
        db.backup(BackupOptions::new(), &mut direct, go_on).unwrap();
        apply_backup(&path, stream.as_slice()).unwrap();
        assert!(fs::read(&path).unwrap() == direct, "after act {number}");
        assert!(
            changes.pages < 400,
            "act {number}: only what changed, {} pages",
            changes.pages
        );
        let expected: BTreeMap<_, _> = names(&db)
            .into_iter()
            .map(|name| (name.clone(), contents_at(&db, &name)))
            .collect();
        assert_eq!(examine(&path), (contents(&db), expected));
        point = changes.point.unwrap();
    }
}

#[test]
fn a_copy_of_a_file_with_a_damaged_page_of_a_savepoint_is_refused() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    (0..20).for_each(|round| change(&db, round, Durability::Immediate));
    db.create_savepoint("one").unwrap();
    db.close().unwrap();
    // A page of the savepoint alone, put back to what was there before.
    let before = storage.to_bytes();
    let db = Database::builder().open_on(storage.clone()).unwrap();
    (20..40).for_each(|round| change(&db, round, Durability::Immediate));
    db.create_savepoint("two").unwrap();
    (40..80).for_each(|round| change(&db, round, Durability::Immediate));
    db.close().unwrap();
    let after = storage.to_bytes();
    let mut refused = 0;
    for page in 8..before.len() / 4096 {
        let place = page * 4096..(page + 1) * 4096;
        let kind = before[place.start + 4];
        if !(1..=3).contains(&kind) || before[place.clone()] == after[place.clone()] {
            continue;
        }
        let mut image = after.clone();
        image[place.clone()].copy_from_slice(&before[place]);
        let image = Arc::new(MemoryStorage::from_bytes(&image));
        let db = Database::builder().open_on(image).unwrap();
        let lost = !db.verify(|_, _| {}).unwrap().problems.is_empty();
        let copied = db.backup(BackupOptions::new(), std::io::sink(), go_on);
        // Where the page was free nothing is lost.
        assert_eq!(copied.is_err(), lost, "page {page}: {copied:?}");
        refused += u32::from(lost);
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn salvage_takes_the_newest_state_and_no_row_of_a_savepoint_for_one_of_it() {
    let storage = Arc::new(MemoryStorage::new());
    let db = Database::builder().create_on(storage.clone()).unwrap();
    let write = |value: u8, keys: std::ops::Range<u64>| {
        let txn = db.begin_write().unwrap();
        let mut rows = txn.table::<Rows>().unwrap();
        for key in keys {
            rows.insert(key, [value; 100].as_slice()).unwrap();
        }
        drop(rows);
        txn.commit().unwrap();
    };
    write(1, 0..2_000);
    db.create_savepoint("old").unwrap();
    // The first half of the rows is shared with the savepoint.
    write(2, 1_000..2_000);
    write(3, 5_000..5_001);
    write(3, 5_001..5_002);
    db.close().unwrap();
    let sound = storage.to_bytes();
    let right = |key: u64| match key {
        0..1_000 => 1,
        1_000..2_000 => 2,
        _ => 3,
    };
    let salvaged = |image: &[u8]| {
        let target = Database::in_memory().unwrap();
        let source = Arc::new(MemoryStorage::from_bytes(image));
        let report = salvage_storage(source, &target, |_, _, _| {}).unwrap();
        let view = target.begin_read().unwrap();
        let rows = view.table::<Rows>().unwrap();
        let wrong = rows
            .iter()
            .unwrap()
            .map(Result::unwrap)
            .filter(|(key, value)| *value != [right(*key); 100])
            .count();
        (report, wrong as u64)
    };
    let (report, wrong) = salvaged(&sound);
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.tables[0].rows_exact, wrong), (2_002, 0));

    let (mut branches, mut leaves) = (0, 0);
    for page in 8..sound.len() / 4096 {
        let bytes = &sound[page * 4096..(page + 1) * 4096];
        if !matches!(bytes[4], 1 | 2) || bytes[24..28] == [0; 4] {
            continue;
        }
        let mut image = sound.clone();
        image[page * 4096 + 2_000] ^= 1;
        let (report, wrong) = salvaged(&image);
        let table = &report.tables[0];
        assert!(wrong <= table.rows_stale, "page {page}: {report:?}");
        assert!(
            table.is_complete() || table.rows() + table.rows_lost >= 2_002,
            "page {page}: {report:?}"
        );
        if !table.is_complete() && bytes[4] == 2 {
            // Every row below it is found, and may be stale.
            assert_eq!((table.rows_lost, wrong), (0, 0), "page {page}: {report:?}");
            branches += 1;
        } else if !table.is_complete() {
            leaves += 1;
        }
    }
    assert!(branches > 0 && leaves > 20, "{branches} {leaves}");
}
