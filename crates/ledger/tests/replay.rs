//! The same log gives the same rows, however it is applied.

mod common;

use common::Replica;
use folio_ledger::Ledger;
use folio_ledger::command::{Command, Counter, TokenKey};
use folio_ledger::response::Response;
use folio_ledger::state_key::Relationship;
use folio_ledger::transaction::{Requirement, Transaction};
use folio_raft::{Applied, StateMachine};
use folio_store::Database;
use proptest::prelude::*;

type Log = Vec<Vec<Command>>;

fn command() -> impl Strategy<Value = Command> {
    let vault = || 1..4_u64;
    let key = || (0..40_u8).prop_map(|key| vec![key]);
    let session = || proptest::option::of((1..5_u64, 1..20_u64));
    let operation = prop_oneof![
        (key(), any::<u8>()).prop_map(|(key, value)| Transaction::new(0).set(key, [value])),
        (key(), 0..40_u64).prop_map(|(key, time)| Transaction::new(0).set_until(
            key,
            [],
            1_000_000 + time * 1000
        )),
        key().prop_map(|key| Transaction::new(0).delete(key)),
        (0..9_u8, 0..9_u8).prop_map(|(r, s)| {
            Transaction::new(0).relate(Relationship::new(format!("r{r}"), "l", format!("s{s}")))
        }),
        (0..9_u8, 0..9_u8).prop_map(|(r, s)| {
            Transaction::new(0).unrelate(Relationship::new(format!("r{r}"), "l", format!("s{s}")))
        }),
        (key(), 0..4_u64).prop_map(|(key, version)| {
            Transaction::new(0)
                .require_entity(&key[..], Requirement::VersionIs(version))
                .set(key, [])
        }),
    ];
    let submit =
        (vault(), proptest::collection::vec(operation, 1..6)).prop_map(|(vault, parts)| {
            let mut whole = Transaction::new(vault);
            for part in parts {
                whole.conditions.extend(part.conditions);
                whole.operations.extend(part.operations);
            }
            Command::submit(whole)
        });
    let any = prop_oneof![
        1 => Just(Command::open_session()),
        1 => (0..4_u64).prop_map(|retention| Command::create_vault_retaining("v", retention)),
        1 => (1..5_u64).prop_map(Command::delete_vault),
        1 => (vault(), 0..6_u64).prop_map(|(vault, blocks)| Command::set_retention(vault, blocks)),
        1 => any::<u8>().prop_map(|byte| Command::set_token_key(TokenKey([byte; 32]))),
        1 => (0..3_u32).prop_map(|count| Command::allocate_numbers(Counter::User, count)),
        12 => submit,
    ];
    (any, session()).prop_map(|(command, session)| match session {
        Some((session, sequence)) if command != Command::open_session() => {
            command.in_session(session, sequence)
        }
        _ => command,
    })
}

fn log() -> impl Strategy<Value = Log> {
    proptest::collection::vec(proptest::collection::vec(command(), 0..6), 1..40)
}

/// Applies the log with a commit after each number of entries that `commits` names, in turn, and
/// calls `between` after each commit.
fn play(
    replica: &mut Replica,
    log: &Log,
    commits: &[usize],
    mut between: impl FnMut(&mut Replica),
) -> Vec<Response> {
    let mut responses = Vec::new();
    let mut entries = (1..).zip(log);
    let mut sizes = commits.iter().cycle();
    loop {
        let batch: Vec<_> = entries
            .by_ref()
            .take(*sizes.next().expect("it cycles"))
            .collect();
        if batch.is_empty() {
            return responses;
        }
        let txn = replica.database.begin_write().expect("in memory");
        for (index, commands) in batch {
            let at = Applied {
                index,
                term: 1,
                position: 0,
                time: 1_000_000 + index * 1000,
            };
            responses.extend(
                StateMachine::apply_entry(&Ledger, &txn, at, commands).expect("the store is sound"),
            );
        }
        txn.commit().expect("in memory");
        between(replica);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_gives_the_same_rows_and_answers_in_any_batches_and_through_snapshots(
        log in log(),
        commits in proptest::collection::vec(1..7_usize, 1..5),
    ) {
        let (mut straight, mut batched, mut snapshotted) = (Replica::new(), Replica::new(), Replica::new());
        let expected = play(&mut straight, &log, &[1], |_| ());
        let in_batches = play(&mut batched, &log, &commits, |_| ());
        let through_snapshots = play(&mut snapshotted, &log, &commits, |replica| *replica = replica.copied());
        prop_assert_eq!(&in_batches, &expected);
        prop_assert_eq!(&through_snapshots, &expected);
        prop_assert_eq!(&batched.rows(), &straight.rows());
        prop_assert_eq!(&snapshotted.rows(), &straight.rows());
    }
}

#[test]
fn a_log_gives_the_same_rows_on_a_file_that_is_reopened_between_entries() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.folio");
    let log: Log = (0..40_u8)
        .map(|number| match number {
            0 => vec![Command::create_vault("v"), Command::open_session()],
            _ => vec![
                Command::submit(Transaction::new(1).set([number % 16], [number]))
                    .in_session(1, number.into()),
                Command::submit(Transaction::new(1).relate(Relationship::new(
                    "r",
                    "l",
                    number.to_string(),
                ))),
            ],
        })
        .collect();
    let mut in_memory = Replica::new();
    play(&mut in_memory, &log, &[1], |_| ());
    let mut on_file = Replica {
        database: Database::create(&path).expect("a new file"),
        ..Replica::new()
    };
    play(&mut on_file, &log, &[3], |replica| {
        let other = Database::in_memory().expect("in memory");
        std::mem::replace(&mut replica.database, other)
            .close()
            .expect("closes");
        replica.database = Database::open(&path).expect("opens");
    });
    assert_eq!(on_file.rows(), in_memory.rows());
}
