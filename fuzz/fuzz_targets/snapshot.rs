//! Snapshots from strangers: whole ones and changes, with right checksums and digests or damaged. Whatever the bytes, they
//! are refused, and then the state is as it was, or they are whole, and then the state is what they say.
//!
//! Run with `cargo +nightly fuzz run snapshot -- -malloc_limit_mb=200`.
#![no_main]

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use folio_raft::snapshot::{SnapshotReader, write_snapshot};
use folio_raft::{
    Applied, ApplyError, Batch, Entry, LogId, RaftLogStore, SnapshotMeta, StateMachine,
    StoreOptions, TableSet,
};
use folio_store::{Database, Table, WriteTransaction};
use libfuzzer_sys::fuzz_target;
use openraft::{CommittedLeaderId, EntryPayload, RaftSnapshotBuilder, RaftStorage};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

const TABLES: usize = 2;
const ENTRIES: u64 = 40;
/// Magic and version.
const PREAMBLE: usize = 10;

struct Counters;
impl Table for Counters {
    const NAME: &'static str = "counters";
    type Key = &'static [u8];
    type Value = &'static [u8];
}

struct History;
impl Table for History {
    const NAME: &'static str = "history";
    type Key = u64;
    type Value = u64;
}

struct Machine;
impl StateMachine for Machine {
    type Command = u64;
    type Response = ();

    fn tables(&self) -> TableSet {
        TableSet::new().with::<Counters>().with::<History>()
    }

    fn apply(&self, txn: &WriteTransaction, at: Applied, key: &u64) -> Result<(), ApplyError> {
        let key = key.to_string();
        txn.table::<Counters>()?
            .insert(key.as_bytes(), [7; 100].as_slice())?;
        txn.table::<History>()?.insert(at.index, at.time)?;
        Ok(())
    }
}

type Row = (Vec<u8>, Vec<u8>);

/// A part of a stream, behind its header.
#[derive(Arbitrary, Debug)]
enum Part {
    Rows {
        table: u8,
        rows: Vec<Row>,
    },
    Kept {
        table: u8,
        first: Vec<u8>,
        last: Vec<u8>,
        rows: u8,
    },
    /// Keys from one counter to another, as they are in the state.
    KeptCounters {
        from: u8,
        to: u8,
        rows: u8,
    },
    Base {
        index: u8,
    },
    Raw {
        kind: u8,
        payload: Vec<u8>,
    },
}

#[derive(Arbitrary, Debug)]
enum Case {
    /// The sound snapshot with some bytes changed, and cut.
    Damaged {
        damages: Vec<(u16, u8)>,
        length: Option<u16>,
    },
    /// Sound frames of anything.
    Forged {
        parts: Vec<Part>,
        counts_right: bool,
    },
    Anything(Vec<u8>),
}

struct World {
    runtime: tokio::runtime::Runtime,
    database: Database,
    store: RaftLogStore<Machine>,
    meta: SnapshotMeta,
    whole: Vec<u8>,
}

fn state(database: &Database) -> Vec<u8> {
    let mut bytes = Vec::new();
    let view = database.begin_read().expect("open");
    write_snapshot(&view, &Machine.tables().definitions(), &mut bytes).expect("sound");
    bytes
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let database = Database::in_memory().expect("memory");
        let options = StoreOptions::default();
        let mut store = RaftLogStore::open(database.clone(), 1, Machine, options).expect("opened");
        let entries = (1..=ENTRIES).map(|index| Entry::<Machine> {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
            payload: EntryPayload::Normal(Batch {
                time: index,
                commands: vec![index % 30],
            }),
        });
        let entries: Vec<_> = entries.collect();
        let meta = runtime.block_on(async {
            store
                .apply_to_state_machine(&entries)
                .await
                .expect("applied");
            let mut builder = store.get_snapshot_builder().await;
            builder.build_snapshot().await.expect("built").meta
        });
        let whole = state(&database);
        World {
            runtime,
            database,
            store,
            meta,
            whole,
        }
    })
}

fn encode(part: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_allocvec(part).expect("encoded")
}

fn frame(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let stored = match kind {
        2 => zstd::bulk::compress(payload, 3).expect("compressed"),
        _ => payload.to_vec(),
    };
    let start = out.len();
    out.push(kind);
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend((stored.len() as u32).to_le_bytes());
    out.extend(stored);
    let crc = crc32fast::hash(&out[start..]);
    out.extend(crc.to_le_bytes());
}

fn forge(parts: Vec<Part>, counts_right: bool) -> Vec<u8> {
    let whole = &world().whole;
    let length = u32::from_le_bytes(whole[11..15].try_into().expect("four")) as usize;
    let mut bytes = whole[..PREAMBLE + 9 + length + 4].to_vec();
    let mut digest = Sha256::new();
    digest.update(&whole[..PREAMBLE]);
    let mut add = |kind: u8, payload: &[u8]| {
        digest.update([kind]);
        digest.update((payload.len() as u64).to_le_bytes());
        digest.update(payload);
    };
    add(1, &whole[PREAMBLE + 9..PREAMBLE + 9 + length]);
    let mut counts = vec![0u64; TABLES];
    for part in parts {
        let (kind, payload) = match part {
            Part::Rows { table, rows } => {
                if counts_right && let Some(count) = counts.get_mut(usize::from(table)) {
                    *count += rows.len() as u64;
                }
                (2, encode(&(u32::from(table), rows)))
            }
            Part::Kept {
                table,
                first,
                last,
                rows,
            } => (5, encode(&(u32::from(table), first, last, u64::from(rows)))),
            Part::KeptCounters { from, to, rows } => {
                let key = |number: u8| (number % 30).to_string().into_bytes();
                (5, encode(&(0u32, key(from), key(to), u64::from(rows))))
            }
            Part::Base { index } => (
                4,
                encode(&LogId::new(CommittedLeaderId::new(1, 1), index.into())),
            ),
            Part::Raw { kind, payload } => (kind, payload),
        };
        add(kind, &payload);
        frame(&mut bytes, kind, &payload);
    }
    add(3, &encode(&counts));
    let digest: [u8; 32] = digest.finalize().into();
    frame(&mut bytes, 3, &encode(&(counts, digest)));
    bytes
}

/// The rows of a whole snapshot, if it is one.
fn read(bytes: &[u8]) -> Option<usize> {
    let mut reader = SnapshotReader::new(bytes).ok()?;
    let mut rows = 0;
    while let Some(some) = reader.next_rows().ok()? {
        rows += some.rows.len();
    }
    Some(rows)
}

fuzz_target!(|case: Case| {
    let world = world();
    let bytes = match case {
        Case::Damaged { damages, length } => {
            let mut bytes = world.whole.clone();
            for (at, byte) in damages {
                let at = usize::from(at) % bytes.len();
                bytes[at] = byte;
            }
            if let Some(length) = length {
                bytes.truncate(usize::from(length) % (bytes.len() + 1));
            }
            bytes
        }
        Case::Forged {
            parts,
            counts_right,
        } => forge(parts, counts_right),
        Case::Anything(bytes) => bytes,
    };
    let before = state(&world.database);
    let whole_rows = read(&bytes);
    let mut store = world.store.clone();
    let installed = world.runtime.block_on(async {
        let mut data = store.begin_receiving_snapshot().await.expect("a spool");
        data.write_all(&bytes).await.expect("written");
        store.install_snapshot(&world.meta, data).await
    });
    let after = state(&world.database);
    match installed {
        Err(_) => assert!(after == before, "half installed"),
        // One that is whole is what it says; changes left what they kept.
        Ok(()) => match whole_rows {
            Some(_) => assert_eq!(read(&after), whole_rows),
            None => assert!(read(&after).is_some()),
        },
    }
    if after != world.whole {
        // For the next case.
        let restored = world.runtime.block_on(async {
            let mut data = store.begin_receiving_snapshot().await.expect("a spool");
            data.write_all(&world.whole).await.expect("written");
            store.install_snapshot(&world.meta, data).await
        });
        restored.expect("the sound one is taken");
    }
    let tables = world
        .database
        .begin_read()
        .expect("open")
        .tables()
        .expect("sound");
    assert!(
        tables
            .iter()
            .all(|table| !table.name.starts_with("staged:"))
    );
});
