//! Power cuts and failing calls: a scripted load of appends, conflicts, votes, purges, snapshots and an
//! installation, on a simulated disk. Whatever is left must open to what Raft was promised.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::script::{Promise, Truth, check, run};
use folio_store::storage::{
    DiskEvent, Fault, FaultPlan, FaultStorage, Journal, MemoryStorage, SimulatedDisk, SplitMix64,
    StorageCall, Subset,
};
use folio_store::{Database, Durability};

/// A few choices of what reached the disk of `pending` items.
fn subsets(pending: usize, random: &mut SplitMix64) -> Vec<Subset> {
    let mut subsets = vec![Subset::none(pending)];
    if pending > 0 {
        let lost = random.below(pending as u64) as usize;
        subsets.push(Subset::all(pending));
        subsets.push(Subset::of(pending, |index| index != lost));
        subsets.push(Subset::of(pending, |_| random.one_in(2)));
    }
    subsets
}

#[tokio::test]
async fn every_image_a_power_cut_can_leave_keeps_what_was_promised() {
    attack(Durability::Immediate).await;
}

#[tokio::test]
async fn so_it_does_in_a_database_whose_commits_are_not_durable_by_default() {
    attack(Durability::Eventual).await;
}

async fn attack(default: Durability) {
    const SEED: u64 = 20;
    let truth = Truth::find().await;
    let disk = Arc::new(SimulatedDisk::recording(&MemoryStorage::new()));
    let database = Database::builder()
        .durability(default)
        .create_on(disk.clone());
    let mut promises: Vec<Promise> = Vec::new();
    run(&database.unwrap(), &truth, |promise| {
        // The promise after each step is marked in the disk's journal by its number.
        disk.mark(promises.len() as u64).unwrap();
        promises.push(promise.clone());
    })
    .await
    .unwrap();
    let journal: Journal = disk.journal().unwrap();

    // Shown when the test fails; the last line names the moment of the cut.
    println!("seed {SEED}");
    let mut random = SplitMix64::new(SEED);
    let mut replay = journal.replay();
    let mut step = None;
    let mut images = 0;
    while let Some(event) = replay.advance() {
        if let DiskEvent::Mark(number) = event {
            step = Some(*number as usize);
        }
        // Before the first promise there is no database to speak of.
        let Some(step) = step else { continue };
        let promise = &promises[step];
        let next = promises.get(step + 1).unwrap_or(promise);
        println!("after event {}: {event:?}, step {step}", replay.position());
        let point = replay.crash_point();
        for subset in subsets(point.pending().len(), &mut random) {
            check(point.image(&subset), promise, next, &truth).await;
            images += 1;
        }
    }
    assert!(images > 500, "{images} images");
}

/// A new database on a disk that will fail by `plan`; the promises until then.
async fn fail(plan: FaultPlan, truth: &Truth) -> (Arc<SimulatedDisk>, Vec<Promise>, u64) {
    let disk = Arc::new(SimulatedDisk::new());
    let database = Database::builder().create_on(disk.clone()).unwrap();
    common::script::open(&database).close();
    database.close().unwrap();
    let storage = Arc::new(FaultStorage::over_disk(disk.clone()));
    let database = Database::builder().open_on(storage.clone()).unwrap();
    storage.follow(plan);
    let mut promises = Vec::new();
    let outcome = run(&database, truth, |promise| promises.push(promise.clone())).await;
    assert_eq!(outcome.is_err(), storage.failed() > 0, "{outcome:?}");
    database.kill();
    (disk, promises, storage.counted())
}

#[tokio::test]
async fn whichever_call_of_the_disk_fails_the_store_stops_and_opens_to_what_was_promised() {
    const SEED: u64 = 21;
    println!("seed {SEED}");
    let truth = Truth::find().await;
    let plan = |at| FaultPlan {
        calls: StorageCall::CHANGING,
        at,
        fault: Fault::InputOutput,
        lasting: false,
    };
    let (_, whole, calls) = fail(plan(u64::MAX), &truth).await;
    assert!(calls > 150, "{calls} calls");
    let mut random = SplitMix64::new(SEED);
    for at in 1..=calls {
        println!("call {at}");
        let (disk, promises, _) = fail(plan(at), &truth).await;
        let step = promises.len() - 1;
        let next = whole.get(step + 1).unwrap_or(&whole[step]);
        let image = disk.crash(&mut |_| random.one_in(2));
        check(image, &whole[step], next, &truth).await;
    }
}
