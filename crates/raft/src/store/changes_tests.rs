//! Streams of changes, from one store to another: they fit every state from between, nothing else,
//! and are put on it as a whole or not at all.

use std::sync::Arc;

use folio_store::storage::{DiskEvent, MemoryStorage, SimulatedDisk, SplitMix64, Subset};
use folio_store::{Database, Table, WriteTransaction};
use openraft::{CommittedLeaderId, EntryPayload};

use super::{Result, Shared, SharedStore, StoreOptions, state_record};
use crate::snapshot::{SnapshotSource, write_changes, write_snapshot};
use crate::state_machine::{Applied, ApplyError, StateMachine, TableSet};
use crate::types::{Batch, Entry, LogId, SnapshotMeta};

struct Rows;
impl Table for Rows {
    const NAME: &'static str = "rows";
    type Key = u64;
    type Value = &'static [u8];
}

/// Which entry changed what last.
struct Last;
impl Table for Last {
    const NAME: &'static str = "last";
    type Key = u64;
    type Value = u64;
}

/// Rows that the first entry puts.
const FILL: u64 = 6_000;

struct Machine;

/// Does something that follows from the seed.
impl StateMachine for Machine {
    type Command = u64;
    type Response = ();

    fn tables(&self) -> TableSet {
        TableSet::new().with::<Rows>().with::<Last>()
    }

    fn apply(
        &self,
        txn: &WriteTransaction,
        at: Applied,
        seed: &u64,
    ) -> std::result::Result<(), ApplyError> {
        let mut random = SplitMix64::new(*seed);
        let mut rows = txn.table::<Rows>()?;
        let mut last = txn.table::<Last>()?;
        if *seed < FILL {
            rows.insert(*seed, [0; 40].as_slice())?;
            last.insert(*seed, at.index)?;
            return Ok(());
        }
        let first = random.below(FILL);
        last.insert(first, at.index)?;
        match random.below(8) {
            0 => drop(rows.remove_range(first..first + random.below(300))?),
            1 => drop(rows.remove(first)?),
            2 => drop(rows.insert(first, vec![1; 6_000].as_slice())?),
            3 => drop(last.remove_range(first..first + random.below(50))?),
            _ => {
                for key in first..first + random.below(6) {
                    rows.insert(key, vec![at.index as u8; 40].as_slice())?;
                }
            }
        }
        Ok(())
    }
}

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

/// The first entry fills the tables, the others change something.
fn entry(seed: u64, index: u64) -> Entry<Machine> {
    let seeds = match index {
        1 => (0..FILL).collect(),
        index => vec![(seed + 1) * 1_000_003 + index],
    };
    Entry::<Machine> {
        log_id: id(index),
        payload: EntryPayload::Normal(Batch {
            time: index,
            commands: seeds,
        }),
    }
}

/// A store in which the entries up to `upto` are applied, one after the other.
fn store_on(database: Database, seed: u64, upto: u64) -> SharedStore<Machine> {
    let store = Shared::open(database, 1, Machine, StoreOptions::default()).expect("opens");
    let apply = |database: &Database| {
        for index in 1..=upto {
            store.apply(database, &[entry(seed, index)])?;
        }
        Ok(())
    };
    store.with_database(apply).expect("applied");
    Arc::new(store)
}

fn store(seed: u64, upto: u64) -> SharedStore<Machine> {
    store_on(Database::in_memory().expect("creates"), seed, upto)
}

fn snapshot(store: &SharedStore<Machine>) -> (SnapshotMeta, Arc<SnapshotSource>) {
    let built = store.with_database(|database| store.build_snapshot(database));
    let (meta, data) = built.expect("built");
    (meta, data.into_source().expect("of a view"))
}

/// The stream for a node at `applied`; none if the whole is to be sent.
fn changes(source: &SnapshotSource, applied: u64) -> Option<Vec<u8>> {
    let base = source.points.before(id(applied), source.view.number())?;
    let mut bytes = Vec::new();
    write_changes(source, base, &mut bytes)
        .expect("written")
        .then_some(bytes)
}

fn install(
    store: &SharedStore<Machine>,
    meta: &SnapshotMeta,
    bytes: &[u8],
    step: usize,
) -> Result<()> {
    store.with_database(|database| {
        let mut staging = store.begin_staging(database)?;
        for some in bytes.chunks(step) {
            store.stage(database, &mut staging, some)?;
        }
        let staged = store.finish_staging(database, staging)?;
        store.install(database, meta, &staged)
    })
}

fn bytes_of(database: &Database) -> Vec<u8> {
    let mut bytes = Vec::new();
    let view = database.begin_read().expect("a view");
    let tables = Machine.tables().definitions();
    write_snapshot(&view, &tables, &mut bytes).expect("written");
    bytes
}

fn state_of(store: &SharedStore<Machine>) -> Vec<u8> {
    let read = store.with_database(|database| Ok(bytes_of(database)));
    read.expect("open")
}

#[test]
fn changes_bring_a_node_from_any_entry_between_to_the_snapshot() {
    const LAST: u64 = 90;
    let mut sent = 0;
    for seed in 0..3 {
        println!("seed {seed}");
        let source_store = store(seed, LAST);
        let expected = state_of(&source_store);
        let (meta, source) = snapshot(&source_store);
        for applied in (60..=LAST).step_by(3) {
            let Some(bytes) = changes(&source, applied) else {
                continue;
            };
            sent += 1;
            let copy = store(seed, applied);
            install(&copy, &meta, &bytes, 1 + 997 * applied as usize).expect("it fits");
            assert!(state_of(&copy) == expected, "from {applied}");
            // It goes on from there as the source does, and knows what was changed since.
            let next = entry(seed, LAST + 1);
            let apply =
                |database: &Database| copy.apply(database, std::slice::from_ref(&next)).map(drop);
            copy.with_database(apply).expect("applied");
            let (_, onward) = snapshot(&copy);
            assert!(changes(&onward, LAST).is_some(), "known");
            assert!(changes(&onward, LAST - 1).is_none(), "not known any more");
        }
    }
    assert!(sent >= 20, "{sent} streams");
}

#[test]
fn changes_are_refused_by_a_state_that_is_older_newer_or_another() {
    let source_store = store(1, 60);
    let (meta, source) = snapshot(&source_store);
    let bytes = changes(&source, 55).expect("few changes");
    for (why, copy) in [
        ("older", store(1, 50)),
        ("newer", store(1, 61)),
        ("empty", store(1, 0)),
        ("another", store(2, 57)),
    ] {
        let before = state_of(&copy);
        install(&copy, &meta, &bytes, 4096).expect_err(why);
        assert!(state_of(&copy) == before, "{why}");
    }
}

#[test]
fn every_byte_that_is_flipped_or_missing_is_noticed_before_the_state_is_touched() {
    let (meta, source) = snapshot(&store(1, 60));
    let bytes = changes(&source, 59).expect("few changes");
    let copy = store(1, 59);
    let before = state_of(&copy);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(
            install(&copy, &meta, &flipped, 1 << 20).is_err(),
            "byte {at}"
        );
        assert!(
            install(&copy, &meta, &bytes[..at], 1 << 20).is_err(),
            "cut at {at}"
        );
    }
    let longer = [bytes.as_slice(), b"more"].concat();
    assert!(install(&copy, &meta, &longer, 1 << 20).is_err());
    assert!(state_of(&copy) == before);
    install(&copy, &meta, &bytes, 1 << 20).expect("the sound one is taken");
    println!("{} bytes", bytes.len());
}

#[test]
fn a_power_cut_at_any_call_of_an_installation_leaves_the_old_state_or_the_new_one() {
    const SEED: u64 = 1;
    let source_store = store(SEED, 60);
    let new = state_of(&source_store);
    let (meta, source) = snapshot(&source_store);
    let changes = changes(&source, 55).expect("few changes");
    let whole = {
        let mut bytes = Vec::new();
        write_snapshot(&source.view, &source.tables, &mut bytes).expect("written");
        bytes
    };
    for (bytes, name) in [(changes, "changes"), (whole, "the whole")] {
        let disk = Arc::new(SimulatedDisk::recording(&MemoryStorage::new()));
        let database = Database::builder()
            .create_on(disk.clone())
            .expect("creates");
        let copy = store_on(database, SEED, 55);
        copy.with_database(|database| copy.checkpoint(database))
            .expect("checkpointed");
        let old = state_of(&copy);
        disk.mark(0).expect("the power is on");
        install(&copy, &meta, &bytes, 64 << 10).expect("it fits");
        disk.mark(1).expect("the power is on");
        drop(copy);

        let journal = disk.journal().expect("a recording");
        let mut replay = journal.replay();
        let mut random = SplitMix64::new(SEED);
        let (mut begun, mut installed, mut olds, mut news) = (false, false, 0, 0);
        while let Some(event) = replay.advance() {
            match event {
                DiskEvent::Mark(0) => begun = true,
                DiskEvent::Mark(_) => installed = true,
                _ => {}
            }
            if !begun {
                continue;
            }
            let point = replay.crash_point();
            let pending = point.pending().len();
            let subsets = [
                Subset::none(pending),
                Subset::all(pending),
                Subset::of(pending, |_| random.one_in(2)),
            ];
            for subset in subsets {
                let image = Arc::new(point.image(&subset));
                let database = Database::builder().open_on(image).expect("opens");
                let store = store_on(database, SEED, 0);
                let found = state_of(&store);
                let is_new = found == new;
                assert!(is_new || found == old, "{name}: half a state");
                assert!(is_new || !installed, "{name}: it was acknowledged");
                let ends = store.with_database(|database| {
                    let view = database.begin_read()?;
                    Ok((store.log_ends(&view)?, state_record(&view)?.last_applied))
                });
                let (ends, applied) = ends.expect("read");
                assert_eq!(ends.purged, is_new.then_some(id(60)), "{name}");
                assert_eq!(applied, Some(id(if is_new { 60 } else { 55 })));
                if is_new { news += 1 } else { olds += 1 }
            }
        }
        assert!(olds > 20 && news > 2, "{name}: {olds} old, {news} new");
    }
}
