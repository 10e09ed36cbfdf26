//! The parts below a load, as far as the interface of the crates reaches them: `cargo bench -p folio-benches --bench parts`.

#![allow(
    missing_docs,
    reason = "criterion's macros make a public function without"
)]

use std::hint::black_box;
use std::io::sink;
use std::thread;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use folio_benches::{State, fill, scattered};
use folio_raft::snapshot::write_snapshot;
use folio_store::{Database, Durability, Table, TableDefinition};

const ROWS: u64 = 200_000;

/// Keys in order, twenty rows a leaf.
struct Ordered;
impl Table for Ordered {
    const NAME: &'static str = "ordered";
    type Key = u64;
    type Value = [u8; 180];
}

/// Small rows, so that a node has many.
struct Small;
impl Table for Small {
    const NAME: &'static str = "small";
    type Key = [u8; 24];
    type Value = u64;
}

fn small_key(number: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&scattered(number).to_be_bytes());
    key
}

fn filled(cache: usize) -> Database {
    let db = Database::builder()
        .cache_size(cache)
        .in_memory()
        .expect("memory");
    fill(&db, ROWS).expect("memory");
    db
}

/// A read of one row: three or four pages found in the cache, or the leaf at least read, verified and put in the place of
/// another.
fn pages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("page cache");
    for (name, cache) in [("hit", 256 << 20), ("miss and eviction", 2 << 20)] {
        let db = filled(cache);
        let view = db.begin_read().expect("open");
        let table = view.table::<State>().expect("sound");
        let mut number = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number += 7_919;
                black_box(table.get_stored(scattered(number % ROWS)).expect("sound"))
            });
        });
    }
    let db = filled(256 << 20);
    group.bench_function("hits of two threads", |bencher| {
        bencher.iter_custom(|reads| {
            let start = Instant::now();
            thread::scope(|scope| {
                for thread in 0..2 {
                    let db = &db;
                    scope.spawn(move || {
                        let view = db.begin_read().expect("open");
                        let table = view.table::<State>().expect("sound");
                        for number in 0..reads {
                            let row = (number * 7_919 + thread) % ROWS;
                            black_box(table.get_stored(scattered(row)).expect("sound"));
                        }
                    });
                }
            });
            start.elapsed()
        });
    });
    group.finish();
}

/// A tree of one leaf: what is left is the search in it, and the change of it.
fn nodes(criterion: &mut Criterion) {
    const IN_A_LEAF: u64 = 80;
    let db = Database::in_memory().expect("memory");
    let txn = db.begin_write().expect("open");
    {
        let mut table = txn.table::<Small>().expect("sound");
        for number in 0..IN_A_LEAF {
            table.insert(small_key(number), number).expect("memory");
        }
        assert_eq!(table.statistics().expect("sound").depth, 1);
    }
    txn.commit().expect("memory");

    let mut group = criterion.benchmark_group("node");
    let view = db.begin_read().expect("open");
    let table = view.table::<Small>().expect("sound");
    let mut number = 0;
    group.bench_function("search", |bencher| {
        bencher.iter(|| {
            number += 1;
            black_box(
                table
                    .get_stored(small_key(number % IN_A_LEAF))
                    .expect("sound"),
            )
        });
    });
    let txn = db.begin_write().expect("open");
    let mut table = txn.table::<Small>().expect("sound");
    group.bench_function("insert and remove", |bencher| {
        bencher.iter(|| {
            number += 1;
            let key = small_key(IN_A_LEAF + number % 8);
            table.insert(key, number).expect("memory");
            table.remove(key).expect("sound")
        });
    });
    group.finish();
}

/// Durable commits that change so many leaves; the branches above and the slot come on top.
fn commits(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = Database::create(folder.path().join("commits.folio")).expect("a new file");
    let txn = db.begin_write().expect("open");
    {
        let mut table = txn.table::<Ordered>().expect("sound");
        let mut loader = table.loader().expect("empty");
        for key in 0..ROWS {
            loader.push(key, [1; 180]).expect("room");
        }
        loader.finish().expect("room");
    }
    txn.commit().expect("room");

    let mut group = criterion.benchmark_group("durable commit");
    let mut version = 0u8;
    for leaves in [1u64, 16, 256] {
        group.bench_function(format!("{leaves} leaves"), |bencher| {
            bencher.iter(|| {
                version = version.wrapping_add(1);
                let txn = db.begin_write().expect("open");
                let mut table = txn.table::<Ordered>().expect("sound");
                for leaf in 0..leaves {
                    // Far more rows apart than a leaf has.
                    let key = leaf * (ROWS / 256) + u64::from(version);
                    table.insert(key, [version; 180]).expect("room");
                }
                drop(table);
                txn.commit().expect("room")
            });
        });
    }
    group.finish();
}

fn snapshots(criterion: &mut Criterion) {
    let db = filled(256 << 20);
    let tables = [TableDefinition::of::<State>()];
    let view = db.begin_read().expect("open");
    let mut group = criterion.benchmark_group("snapshot");
    group.sample_size(10);
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("build", |bencher| {
        bencher.iter(|| write_snapshot(&view, &tables, &mut sink()).expect("sound"));
    });
    group.finish();
}

/// One transaction that overwrites the same rows again and again: private pages, changed in place.
fn overwrites(criterion: &mut Criterion) {
    let db = filled(256 << 20);
    let mut txn = db.begin_write().expect("open");
    txn.set_durability(Durability::Eventual);
    let mut table = txn.table::<State>().expect("sound");
    let mut number = 0;
    criterion.bench_function("overwrite of a row, pages private", |bencher| {
        bencher.iter(|| {
            number += 7_919;
            table
                .insert(scattered(number % ROWS), [8; 150].as_slice())
                .expect("memory")
        });
    });
}

criterion_group!(parts, pages, nodes, overwrites, commits, snapshots);
criterion_main!(parts);
