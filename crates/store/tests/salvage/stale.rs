//! Pages that are intact and old: what they hold is nobody's row any more.

use std::sync::Arc;

use folio_store::{
    Database, TableDefinition,
    storage::{MemoryStorage, SplitMix64},
};

use crate::sample::*;

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
        table
            .insert(row.to_be_bytes().as_slice(), [value; 40].as_slice())
            .unwrap();
    }
}

#[test]
fn an_older_version_of_a_page_never_passes_for_a_lost_one() {
    let table = definition("rows", 0);
    let images = small(60, |txn, number| write_rows(txn, &table, 30, number));
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
