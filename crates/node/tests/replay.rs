//! The history in a node's file, carried out again: by its log, by its blocks, from a copy; and what differs is named.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use folio_ledger::command::Command;
use folio_ledger::response::Response;
use folio_ledger::state_key::{Relationship, StateKey};
use folio_ledger::transaction::Transaction;
use folio_ledger::{Ledger, LedgerView};
use folio_node::offline::{History, OpenError, ReplayOptions, ReplayReport, replay};
use folio_raft::transport::MemoryNetwork;
use folio_raft::{Config, ReplicatedDatabase, Role};
use folio_store::Database;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A node that keeps its whole log, or next to nothing of it.
async fn start(path: &Path, keeps_log: bool) -> ReplicatedDatabase<Ledger> {
    let mut config = Config::default();
    if !keeps_log {
        config = Config {
            snapshot_after_entries: 20,
            log_entries_kept: 10,
            purge_batch: 1,
            ..config
        };
    }
    let new = !path.exists();
    let database = Database::builder().open_or_create(path).unwrap();
    let transport = MemoryNetwork::new().transport();
    let node = ReplicatedDatabase::start(config, 1, database, Ledger, transport)
        .await
        .unwrap();
    if new {
        node.initialize(BTreeMap::from([(1, "memory:1".to_owned())]))
            .await
            .unwrap();
    }
    node.wait_for("the lead", PATIENCE, |status| status.role == Role::Leader)
        .await
        .unwrap();
    node
}

/// Writes to a node: `rounds` transactions to each of two vaults, some in a session, and refused ones.
async fn write(node: &ReplicatedDatabase<Ledger>, rounds: std::ops::Range<u64>) {
    if rounds.start == 0 {
        for name in ["one", "two"] {
            node.write(Command::create_vault(name)).await.unwrap();
        }
        let opened = node.write(Command::open_session()).await.unwrap();
        assert_eq!(opened.response, Response::SessionOpened { session: 1 });
    }
    for round in rounds {
        let transaction = |vault| {
            Transaction::new(vault)
                .set(format!("key {}", round % 30), round.to_be_bytes())
                .relate(Relationship::new("doc", "viewer", format!("user:{round}")))
        };
        let commands = [
            Command::submit(transaction(1)),
            Command::submit(transaction(2)).in_session(1, round + 1),
            Command::submit(transaction(9)),
        ];
        for command in commands {
            node.write(command).await.unwrap();
        }
    }
}

struct Files {
    directory: TempDir,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The file of a node that has written 40 rounds, and, under `copy`, as it was after 20.
    async fn written(keeps_log: bool) -> Self {
        let files = Files {
            directory: tempfile::tempdir().unwrap(),
        };
        let path = files.path("node");
        for rounds in [0..20, 20..40] {
            let node = start(&path, keeps_log).await;
            write(&node, rounds.clone()).await;
            if !keeps_log {
                node.wait_for("a compacted log", PATIENCE, |status| {
                    status.purged > Some(30)
                })
                .await
                .unwrap();
            }
            node.shutdown().await.unwrap();
            if rounds.start == 0 {
                std::fs::copy(&path, files.path("copy")).unwrap();
            }
        }
        files
    }

    fn try_replay(&self, file: &str, from: Option<&str>) -> Result<ReplayReport, OpenError> {
        let scratch = tempfile::tempdir().unwrap();
        let options = ReplayOptions {
            from: from.map(|from| self.path(from)),
            scratch: scratch.path().to_owned(),
        };
        let mut steps = 0;
        let report = replay(&self.path(file), &options, &mut |_, done, total| {
            assert!(done <= total, "{done} of {total}");
            steps += 1;
        });
        assert!(report.is_err() || steps > 0);
        report
    }

    fn replay(&self, from: Option<&str>) -> ReplayReport {
        self.try_replay("node", from).unwrap()
    }

    /// Changes the rows of a table of `node` whose encoded keys end in `key`: to another value, or to none.
    fn alter(&self, table: &str, key: &[u8], change: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        let database = Database::open(self.path("node")).unwrap();
        let txn = database.begin_write().unwrap();
        let tables = txn.tables().unwrap();
        let definition = tables.iter().find(|found| found.name == table).unwrap();
        let mut rows = txn.untyped(definition).unwrap();
        let all: Vec<_> = rows.iter().unwrap().collect::<Result<_, _>>().unwrap();
        let mut altered = 0;
        for (found, row) in all.iter().filter(|(found, _)| found.ends_with(key)) {
            match change(row) {
                Some(row) => drop(rows.insert(found.as_slice(), row.as_slice()).unwrap()),
                None => drop(rows.remove(found.as_slice()).unwrap()),
            }
            altered += 1;
        }
        drop(rows);
        txn.commit().unwrap();
        database.close().unwrap();
        assert!(altered > 0, "{table}");
    }

    /// Takes the first entry out of the log, as a compaction does.
    fn cut_log(&self) {
        self.alter("raft_log", &0_u64.to_be_bytes(), |_| None);
    }
}

fn flipped(row: &[u8]) -> Option<Vec<u8>> {
    let mut row = row.to_vec();
    *row.last_mut()? ^= 1;
    Some(row)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_its_whole_log_is_replayed_by_it_and_every_row_is_compared() {
    let files = Files::written(true).await;
    let before = std::fs::read(files.path("node")).unwrap();
    let report = files.replay(None);
    assert_eq!((report.by, &report.difference), (History::Log, &None));
    assert!(
        report.entries > 120 && report.not_compared.is_empty(),
        "{report:?}"
    );
    assert_eq!(
        (report.vaults, report.blocks, report.entries_beyond),
        (2, 82, 0)
    );
    assert!(
        before == std::fs::read(files.path("node")).unwrap(),
        "a replay changes nothing"
    );

    let later = files.replay(Some("copy"));
    assert_eq!((later.by, &later.difference), (History::Log, &None));
    assert!(later.entries < report.entries, "{later:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_log_is_compacted_is_replayed_by_its_blocks() {
    let files = Files::written(false).await;
    let report = files.replay(None);
    assert_eq!((report.by, &report.difference), (History::Blocks, &None));
    assert_eq!((report.vaults, report.blocks), (2, 82));
    assert!(!report.not_compared.is_empty());
    let later = files.replay(Some("copy"));
    assert_eq!((later.by, &later.difference), (History::Blocks, &None));
    assert_eq!(later.blocks, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_difference_is_named_by_the_log_and_by_the_blocks() {
    for by in [History::Log, History::Blocks] {
        let files = async || {
            let files = Files::written(true).await;
            if by == History::Blocks {
                files.cut_log();
            }
            files
        };
        let differs = |files: &Files| {
            let report = files.replay(None);
            assert_eq!(report.by, by);
            println!("{by:?}: {:?}", report.difference);
            report.difference.unwrap()
        };
        let place = |height: u64| [1_u64.to_be_bytes(), height.to_be_bytes()].concat();

        let planted = files().await;
        let key = [&1_u64.to_be_bytes()[..], b"key 7\0\0"].concat();
        planted.alter("ledger_entities", &key, flipped);
        let found = differs(&planted);
        assert_eq!((found.vault, found.height), (Some(1), Some(40)));
        assert_eq!(
            (found.what, found.key),
            (
                "the entity".to_owned(),
                Some(StateKey::Entity(b"key 7".to_vec()))
            )
        );
        assert!(found.bucket.is_some());

        let planted = files().await;
        planted.alter("ledger_blocks", &place(11), flipped);
        let found = differs(&planted);
        assert_eq!((found.vault, found.height), (Some(1), Some(11)));
        assert_eq!(found.what, "the state root");

        let planted = files().await;
        planted.alter(
            "ledger_transactions",
            &[place(12), vec![0; 4]].concat(),
            flipped,
        );
        let found = differs(&planted);
        assert_eq!((found.vault, found.height), (Some(1), Some(12)));
        assert_eq!(found.what, "transaction 0");

        let planted = files().await;
        let database = Database::open(planted.path("node")).unwrap();
        let view = database.begin_read().unwrap();
        let proof = LedgerView::new(&view)
            .prove(1, &StateKey::Entity(b"key 7".to_vec()))
            .unwrap();
        drop(view);
        database.close().unwrap();
        let item = proof.bucket.last().unwrap();
        planted.alter("ledger_state_items", &item.path.0, flipped);
        let found = differs(&planted);
        assert_eq!(found.vault, Some(1));
        assert_eq!(found.key.unwrap().path(), item.path);
        assert_eq!(found.bucket.unwrap().len(), proof.siblings.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_block_records_is_compared_by_the_log_and_said_not_to_be_by_the_blocks() {
    for (table, what) in [
        ("ledger_sessions", "session 1"),
        ("ledger_counters", "the counter of session numbers"),
        ("ledger_vaults", "the record of the vault"),
    ] {
        let files = Files::written(true).await;
        files.alter(table, b"", |row| {
            let mut row = row.to_vec();
            // The name of a vault comes first, after its length.
            let place = if table == "ledger_vaults" {
                1
            } else {
                row.len() - 1
            };
            row[place] ^= 1;
            Some(row)
        });
        let found = files.replay(None).difference.unwrap();
        assert_eq!(found.what, what, "{found}");
        if table == "ledger_counters" {
            continue;
        }
        files.cut_log();
        let report = files.replay(None);
        assert_eq!(report.difference, None, "{table}");
        assert!(report.not_compared[0].contains("sessions, counters, names"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_later_than_the_file_and_a_damaged_log_are_refused() {
    let files = Files::written(true).await;
    let refused = files.try_replay("copy", Some("node")).unwrap_err();
    assert!(
        refused.to_string().contains("begin with an earlier copy"),
        "{refused}"
    );
    files.alter("raft_log", &50_u64.to_be_bytes(), |row| {
        Some(row[..row.len() - 1].to_vec())
    });
    let refused = files.try_replay("node", None).unwrap_err();
    assert!(matches!(refused, OpenError::Inconsistent(_)), "{refused}");
    assert!(
        refused.to_string().contains("log entry 50 is damaged"),
        "{refused}"
    );
}
