//! The parts of the engine: commits, reads, loads. `cargo bench -p folio-benches`.

#![allow(
    missing_docs,
    reason = "criterion's macros make a public function without"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use folio_benches::{Log, State, fill, scattered};
use folio_store::{Database, Durability};

const ROWS: u64 = 200_000;

fn durable_appends(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = criterion.benchmark_group("durable append of 256-byte entries");
    for batch in [1, 16, 256] {
        let db =
            Database::create(folder.path().join(format!("{batch}.folio"))).expect("a new file");
        let mut next = 0;
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("batches of {batch}"), |bencher| {
            bencher.iter(|| {
                let txn = db.begin_write().expect("open");
                let mut table = txn.table::<Log>().expect("sound");
                for _ in 0..batch {
                    table.insert(next, [3; 256].as_slice()).expect("room");
                    next += 1;
                }
                drop(table);
                txn.commit().expect("room")
            });
        });
    }
    group.finish();
}

fn commits_in_memory(criterion: &mut Criterion) {
    let db = Database::in_memory().expect("memory");
    fill(&db, ROWS).expect("memory");
    let mut number = 0;
    criterion.bench_function("commit of one random row, not durable", |bencher| {
        bencher.iter(|| {
            number += 1;
            let mut txn = db.begin_write().expect("open");
            txn.set_durability(Durability::Eventual);
            txn.table::<State>()
                .expect("sound")
                .insert(scattered(number % ROWS), [9; 150].as_slice())
                .expect("memory");
            txn.commit().expect("memory")
        });
    });
}

fn point_reads(criterion: &mut Criterion) {
    for (name, cache) in [("warm", 256 << 20), ("cache a tenth of the data", 4 << 20)] {
        let db = Database::builder()
            .cache_size(cache)
            .in_memory()
            .expect("memory");
        fill(&db, ROWS).expect("memory");
        let view = db.begin_read().expect("open");
        let table = view.table::<State>().expect("sound");
        let mut number = 0;
        criterion.bench_function(&format!("random point read, {name}"), |bencher| {
            bencher.iter(|| {
                number += 7_919;
                black_box(table.get_stored(scattered(number % ROWS)).expect("sound"))
            });
        });
    }
}

fn scans(criterion: &mut Criterion) {
    let db = Database::builder()
        .cache_size(256 << 20)
        .in_memory()
        .expect("memory");
    fill(&db, ROWS).expect("memory");
    let view = db.begin_read().expect("open");
    let table = view.table::<State>().expect("sound");
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("every row", |bencher| {
        bencher.iter(|| table.iter().expect("sound").count())
    });
    group.finish();
}

criterion_group!(
    engine,
    durable_appends,
    commits_in_memory,
    point_reads,
    scans
);
criterion_main!(engine);
