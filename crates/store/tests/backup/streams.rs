//! Backups as streams: what one is, whether it is whole, and one that is written again from its middle on.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
};

use folio_store::{
    BackupOptions, BackupPoint, Database, Error, apply_backup, check_backup, storage::SplitMix64,
    unpack_backup,
};
use xxhash_rust::xxh3;

use crate::{Contents, PAGE, change, files, go_on};

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

/// A copy that says it has so many pages, with right checksums.
fn of_length(whole: &[u8], pages: u64) -> Vec<u8> {
    let point = BackupPoint::of_backup(whole).unwrap().to_bytes();
    let seed = u64::from_le_bytes(point[8..16].try_into().unwrap());
    let checksum = |slot: &[u8]| xxh3::xxh3_128_with_seed(&slot[24..], seed).to_le_bytes();
    let mut crafted = whole.to_vec();
    let mut slots = 0;
    for slot in crafted[PAGE..8 * PAGE].chunks_exact_mut(PAGE) {
        if slot[8..24] == checksum(slot) {
            slot[48..56].copy_from_slice(&pages.to_le_bytes());
            let checksum = checksum(slot);
            slot[8..24].copy_from_slice(&checksum);
            slots += 1;
        }
    }
    assert_eq!(slots, 2, "the test knows the format");
    crafted
}

#[test]
fn an_image_whose_length_is_a_lie_fills_neither_memory_nor_disk() {
    let [whole, ..] = three_backups();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let endless = of_length(&whole, 1 << 40);
    let endless = || endless.as_slice().chain(io::repeat(0)).take(1 << 23);
    for result in [
        check_backup(endless()).map(drop),
        unpack_backup(endless(), &path).map(drop),
    ] {
        assert!(
            matches!(result, Err(Error::BackupDamaged { .. })),
            "{result:?}"
        );
    }
    assert_eq!(files(folder.path()), [""; 0]);
    // Free pages come from nowhere, and take no room.
    let length = 1 << 23;
    let long = of_length(&whole, length / PAGE as u64);
    let long = long.as_slice().chain(io::repeat(0)).take(length);
    unpack_backup(long, &path).unwrap();
    let file = fs::metadata(&path).unwrap();
    assert_eq!(file.len(), length);
    assert!(file.blocks() * 512 < whole.len() as u64 + (1 << 20));
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
