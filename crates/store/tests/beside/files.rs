//! The same with files.

use std::{
    ops::ControlFlow,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use folio_store::{BackupOptions, Database, Durability, Error, salvage};

use super::{append, check_whole, compact, rewrite, state};

fn read(path: &Path) -> Database {
    Database::builder()
        .cache_size(0)
        .open_read_only(path)
        .unwrap()
}

#[test]
fn readers_and_a_writer_open_one_file_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.folio");
    let writer = Database::create(&path).unwrap();
    rewrite(&writer, 1, Durability::Immediate);
    let first = read(&path);
    rewrite(&writer, 2, Durability::Immediate);
    let second = read(&path);
    assert!(matches!(
        Database::open(&path).unwrap_err(),
        Error::InUse { .. }
    ));
    drop(writer);
    let writer = Database::open(&path).unwrap();
    for version in 3..10 {
        rewrite(&writer, version, Durability::Immediate);
        append(&writer, Durability::Immediate);
        compact(&writer);
    }
    assert_eq!(state(&first).version, 1);
    assert_eq!(state(&second).version, 2);
    check_whole(&first);
    let refused = second.begin_write().unwrap_err();
    assert!(matches!(refused, Error::ReadOnly { .. }));
    assert_eq!(writer.readers().len(), 2);
    drop((first, second));
    rewrite(&writer, 10, Durability::Immediate);
    assert_eq!(writer.readers(), []);
}

#[test]
fn a_view_keeps_its_commit_when_the_handle_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.folio");
    let writer = Database::create(&path).unwrap();
    rewrite(&writer, 1, Durability::Immediate);
    let view = read(&path).begin_read().unwrap();
    for version in 2..10 {
        rewrite(&writer, version, Durability::Immediate);
    }
    assert_eq!(writer.readers().len(), 1);
    let rows = view.table::<super::Rows>().unwrap();
    assert_eq!(rows.get(0).unwrap().unwrap()[0], 1);
    drop(rows);
    drop(view);
    rewrite(&writer, 10, Durability::Immediate);
    assert_eq!(writer.readers(), []);
}

/// Lets the other thread end when a test fails, too.
struct SetWhenDropped<'f>(&'f AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn thousands_of_openings_beside_a_writer_each_show_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.folio");
    let writer = Database::create(&path).unwrap();
    rewrite(&writer, 1, Durability::Immediate);
    let durable = AtomicU64::new(1);
    let published = AtomicU64::new(1);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for version in 2.. {
                published.store(version, Ordering::SeqCst);
                rewrite(&writer, version, Durability::Immediate);
                durable.store(version, Ordering::SeqCst);
                if version % 100 == 0 {
                    compact(&writer);
                }
                if over.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        let _over = SetWhenDropped(&over);
        let mut kept = Vec::new();
        for opening in 0..3_000u64 {
            let least = durable.load(Ordering::SeqCst);
            let reader = read(&path);
            let most = published.load(Ordering::SeqCst);
            let shown = state(&reader).version;
            assert!(
                (least..=most).contains(&shown),
                "opening {opening}: {shown} of {least} to {most}"
            );
            if opening % 50 == 0 {
                kept.push((reader, shown));
            }
            if kept.len() > 5 {
                let (reader, shown) = kept.remove(0);
                assert_eq!(state(&reader).version, shown);
                check_whole(&reader);
            }
        }
    });
    rewrite(&writer, 0, Durability::Immediate);
    rewrite(&writer, 0, Durability::Immediate);
    assert_eq!(writer.statistics().kept_pages, 0);
    check_whole(&writer);
}

#[test]
fn a_copy_is_made_through_a_handle_that_reads_while_the_writer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.folio");
    let copy = folder.path().join("copy.folio");
    let writer = Database::create(&path).unwrap();
    rewrite(&writer, 1, Durability::Immediate);
    let reader = read(&path);
    let mut version = 1;
    let progress = |_, _| {
        for _ in 0..5 {
            version += 1;
            rewrite(&writer, version, Durability::Immediate);
        }
        compact(&writer);
        ControlFlow::Continue(())
    };
    reader
        .backup_to(BackupOptions::new(), &copy, progress)
        .unwrap();
    assert!(version > 5);
    let copy = Database::open(&copy).unwrap();
    assert_eq!(state(&copy).version, 1);
    check_whole(&copy);
}

#[test]
fn what_reads_all_of_a_file_and_not_one_commit_needs_it_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.folio");
    let writer = Database::create(&path).unwrap();
    rewrite(&writer, 1, Durability::Immediate);
    let refused = salvage(&path, folder.path().join("new.folio"), |_, _, _| {});
    assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
}
