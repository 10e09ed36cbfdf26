//! A scripted load on one store, with what it was promised after each step.

use std::sync::Arc;

use folio_raft::snapshot::write_snapshot;
use folio_raft::{
    Batch, Entry, LogId, RaftLogStore, SnapshotMeta, StateMachine, StorageError, StoreOptions, Vote,
};
use folio_store::storage::MemoryStorage;
use folio_store::{Database, Durability};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use tokio::io::AsyncWriteExt;

use super::store::Operations;
use super::{CounterMachine, add};

pub type Store = RaftLogStore<CounterMachine>;

/// The snapshot that is installed in the end has the entries below this.
pub const INSTALLED: u64 = 60;

/// The term changes where a leader's last entries are replaced by those of its successor.
fn term_of(index: u64) -> u64 {
    1 + index / 8
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn last_id(end: u64) -> LogId {
    id(term_of(end - 1), end - 1)
}

/// The entry that is committed at an index.
pub fn entry(index: u64) -> Entry<CounterMachine> {
    with_commands(
        id(term_of(index), index),
        vec![add("all", index), add(&format!("{}", index % 7), 1)],
    )
}

/// One that is replaced before it is committed.
fn doomed(index: u64) -> Entry<CounterMachine> {
    with_commands(id(term_of(index) - 1, index), vec![add("doomed", 1)])
}

fn with_commands(log_id: LogId, commands: Vec<super::Command>) -> Entry<CounterMachine> {
    Entry::<CounterMachine> {
        log_id,
        payload: EntryPayload::Normal(Batch {
            time: log_id.index,
            commands,
        }),
    }
}

pub fn open(database: &Database) -> Store {
    let options = StoreOptions::default();
    RaftLogStore::open(database.clone(), 1, CounterMachine, options).expect("opens")
}

pub fn snapshot_bytes(database: &Database) -> Vec<u8> {
    let mut bytes = Vec::new();
    let view = database.begin_read().expect("a view");
    let tables = CounterMachine.tables().definitions();
    write_snapshot(&view, &tables, &mut bytes).expect("writes");
    bytes
}

/// The right state after each entry, as a snapshot, and the announcement of the one to install.
pub struct Truth {
    /// `states[n]` is that of the entries below `n`.
    pub states: Vec<Vec<u8>>,
    pub meta: SnapshotMeta,
}

impl Truth {
    pub async fn find() -> Self {
        let database = Database::in_memory().expect("creates");
        let mut store = open(&database);
        let mut states = vec![snapshot_bytes(&database)];
        let mut meta = None;
        for index in 0..INSTALLED + 3 {
            if index == INSTALLED {
                let mut builder = store.get_snapshot_builder().await;
                meta = Some(builder.build_snapshot().await.expect("built").meta);
            }
            let applied = store.apply_to_state_machine(&[entry(index)]).await;
            applied.expect("applied");
            states.push(snapshot_bytes(&database));
        }
        Self {
            states,
            meta: meta.expect("built"),
        }
    }
}

/// What must be found again.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    pub vote: Option<Vote>,
    /// The logs that may be found, whole, purged entries included.
    pub logs: Vec<Vec<LogId>>,
    /// Entries whose effect may not be lost any more.
    pub state: u64,
}

/// Runs the script until a step fails; `done` is told the promise after each step.
pub async fn run(
    database: &Database,
    truth: &Truth,
    mut done: impl FnMut(&Promise),
) -> Result<(), StorageError> {
    let mut store = open(database);
    let outcome = steps(&mut store, truth, &mut done).await;
    if outcome.is_err() {
        let refused = store.save_vote(&Vote::new(99, 1)).await;
        refused.expect_err("a store that failed takes nothing more");
        store.read_vote().await.expect("reads go on");
    }
    store.close();
    outcome
}

async fn steps(
    store: &mut Store,
    truth: &Truth,
    done: &mut impl FnMut(&Promise),
) -> Result<(), StorageError> {
    let mut promise = Promise {
        logs: vec![Vec::new()],
        ..Promise::default()
    };
    done(&promise);
    let mut end = 0u64;
    while end < 40 {
        let mut log = promise.logs[0].clone();
        if end.is_multiple_of(8) && end > 0 {
            // A leader's last entries, which its successor replaces.
            let lost = [doomed(end), doomed(end + 1)];
            store.append_to_log(lost.clone()).await?;
            promise.logs[0].extend(lost.iter().map(|entry| entry.log_id));
            done(&promise);
            store.delete_conflict_logs_since(lost[0].log_id).await?;
            // Nobody was told of the truncation.
            promise.logs.push(log.clone());
            done(&promise);
        }
        let some = if end % 8 == 7 {
            1
        } else {
            (1 + end % 3).min(8 - end % 8)
        };
        let entries: Vec<_> = (end..end + some).map(entry).collect();
        store.append_to_log(entries.clone()).await?;
        end += some;
        log.extend(entries.iter().map(|entry| entry.log_id));
        promise.logs = vec![log];
        done(&promise);
        store.save_committed(Some(last_id(end))).await?;
        store.apply_to_state_machine(&entries).await?;
        match end % 5 {
            0 => {
                let term = term_of(end);
                for vote in [Vote::new(term, 2), Vote::new_committed(term, 2)] {
                    store.save_vote(&vote).await?;
                    promise.vote = Some(vote);
                    done(&promise);
                }
            }
            1 => {
                let mut builder = store.get_snapshot_builder().await;
                drop(builder.build_snapshot().await?);
                promise.state = end;
            }
            2 => {
                store.purge_logs_upto(last_id(end)).await?;
                promise.state = end;
            }
            _ => {}
        }
        done(&promise);
    }
    // A snapshot from elsewhere, with the purge that belongs to it coming first.
    store.purge_logs_upto(last_id(INSTALLED)).await?;
    // Flushes whatever of it was written.
    let vote = Vote::new_committed(term_of(INSTALLED), 2);
    store.save_vote(&vote).await?;
    promise.vote = Some(vote);
    done(&promise);
    let mut data = store.begin_receiving_snapshot().await?;
    let snapshot = &truth.states[INSTALLED as usize];
    data.write_all(snapshot).await.expect("spooled");
    store.install_snapshot(&truth.meta, data).await?;
    promise.logs = vec![
        (0..INSTALLED)
            .map(|index| id(term_of(index), index))
            .collect(),
    ];
    promise.state = INSTALLED;
    done(&promise);
    store.append_to_log([entry(INSTALLED)]).await?;
    promise.logs[0].push(last_id(INSTALLED + 1));
    done(&promise);
    Ok(())
}

/// Checks what a crash has left after the step that `promise` tells of and before, or in, the next.
pub async fn check(image: MemoryStorage, promise: &Promise, next: &Promise, truth: &Truth) {
    let database = Database::builder()
        .durability(Durability::Immediate)
        .open_on(Arc::new(image))
        .expect("every image opens");
    let mut store = open(&database);
    let vote = store.read_vote().await.expect("a vote");
    assert!([promise.vote, next.vote].contains(&vote), "{vote:?}");

    let count = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
    let ends = store.get_log_state().await.expect("ends");
    let (applied, _) = store.last_applied_state().await.expect("state");
    let (purged, end, applied) = (
        count(ends.last_purged_log_id),
        count(ends.last_log_id),
        count(applied),
    );
    assert!(applied >= promise.state, "the state is at {applied}");
    assert!(
        purged <= applied,
        "purged to {purged}, applied to {applied}"
    );
    assert!(
        applied <= end,
        "applied to {applied}, the log ends at {end}"
    );
    let committed = count(store.read_committed().await.expect("committed"));
    assert!(committed <= end, "committed to {committed}");
    assert!(
        snapshot_bytes(&database) == truth.states[applied as usize],
        "the state is that of no entry"
    );

    let found = store.try_get_log_entries(..).await.expect("a log");
    let ids: Vec<_> = found.iter().map(|entry| entry.log_id).collect();
    let allowed = promise.logs.iter().chain(&next.logs);
    let log = allowed
        .filter(|log| log.len() as u64 == end)
        .find(|log| log.get(purged as usize..).unwrap_or_default() == ids);
    let log = log.unwrap_or_else(|| panic!("behind {purged} there is {ids:?}"));
    if purged > 0 {
        let last = log.get(purged as usize - 1).copied();
        assert_eq!(ends.last_purged_log_id, last);
    }

    // What is committed is applied once more, to the state of that entry.
    let replay: Vec<_> = found
        .into_iter()
        .filter(|found| found.log_id.index >= applied && *found == entry(found.log_id.index))
        .collect();
    let replayed = store.apply_to_state_machine(&replay).await;
    replayed.expect("replayed");
    let upto = applied as usize + replay.len();
    assert!(snapshot_bytes(&database) == truth.states[upto]);
    store.close();
}
