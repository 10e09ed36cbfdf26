//! A command in a session is carried out once, however often it is sent.

mod common;

use common::Replica;
use folio_ledger::LedgerView;
use folio_ledger::command::{Command, Invalid, TokenKey};
use folio_ledger::limits::{MAX_SESSIONS, SESSION_LIFETIME_ENTRIES, SESSIONS_REMOVED_PER_ENTRY};
use folio_ledger::response::{Rejection, Response};
use folio_ledger::transaction::{Requirement, Transaction};

fn set(session: u64, sequence: u64) -> Command {
    let value = sequence.to_be_bytes();
    Command::submit(Transaction::new(1).set(b"k", value)).in_session(session, sequence)
}

fn version(replica: &Replica) -> u64 {
    replica.entity(1, b"k").map_or(0, |entity| entity.version)
}

fn sessions(replica: &Replica) -> u64 {
    LedgerView::new(&replica.view())
        .sessions()
        .expect("readable")
}

#[test]
fn a_repeated_sequence_gets_the_first_answer_and_does_nothing() {
    let mut replica = Replica::with_vault();
    let session = replica.open_session();
    let first = replica.one(set(session, 1));
    assert!(matches!(first, Response::Committed(_)));
    let (height, root) = (replica.vault(1).height, replica.vault(1).state_root);
    assert_eq!(replica.one(set(session, 1)), first);
    assert_eq!(
        replica.entry(&[set(session, 1), set(session, 1)]),
        [first.clone(), first]
    );
    assert_eq!(
        (replica.vault(1).height, replica.vault(1).state_root),
        (height, root)
    );
    assert_eq!(version(&replica), 1);
}

#[test]
fn a_repeat_within_one_entry_is_carried_out_once() {
    let mut replica = Replica::with_vault();
    let session = replica.open_session();
    let responses = replica.entry(&[set(session, 1), set(session, 1), set(session, 2)]);
    assert_eq!(responses[0], responses[1]);
    assert_ne!(responses[1], responses[2]);
    assert_eq!(version(&replica), 2);
}

#[test]
fn a_rejection_is_remembered_even_when_it_would_be_accepted_now() {
    let mut replica = Replica::with_vault();
    let session = replica.open_session();
    let command = Command::submit(
        Transaction::new(1)
            .require_entity(b"a", Requirement::MustExist)
            .delete(b"a"),
    );
    let first = replica.one(command.clone().in_session(session, 1));
    assert!(matches!(
        first,
        Response::Rejected(Rejection::ConditionFailed { .. })
    ));
    replica.commit(Transaction::new(1).set(b"a", b""));
    assert_eq!(replica.one(command.clone().in_session(session, 1)), first);
    assert!(matches!(
        replica.one(command.in_session(session, 2)),
        Response::Committed(_)
    ));
}

#[test]
fn the_first_key_for_tokens_stays() {
    let mut replica = Replica::new();
    let key = |byte| TokenKey([byte; 32]);
    let found = |replica: &Replica| {
        let view = replica.view();
        LedgerView::new(&view).token_key().expect("readable")
    };
    assert_eq!(found(&replica), None);
    for byte in [1, 2] {
        let response = replica.one(Command::set_token_key(key(byte)));
        assert_eq!(response, Response::TokenKeySet);
        assert_eq!(found(&replica), Some(key(1)));
    }
    assert_eq!(format!("{:?}", key(1)), "TokenKey(..)", "it is not shown");
}

#[test]
fn a_vault_is_created_once() {
    let mut replica = Replica::new();
    let session = replica.open_session();
    let create = Command::create_vault("v").in_session(session, 1);
    let first = replica.one(create.clone());
    assert_eq!(replica.one(create), first);
    assert_eq!(
        LedgerView::new(&replica.view())
            .vaults(0, 10)
            .expect("readable")
            .len(),
        1
    );
}

#[test]
fn a_lower_sequence_is_told_that_it_is_stale() {
    let mut replica = Replica::with_vault();
    let session = replica.open_session();
    replica.one(set(session, 1));
    replica.one(set(session, 5));
    let stale = |sequence| {
        Response::Rejected(Rejection::StaleSequence {
            session,
            sequence,
            latest: 5,
        })
    };
    assert_eq!(replica.one(set(session, 1)), stale(1));
    assert_eq!(replica.one(set(session, 4)), stale(4));
    assert_eq!(version(&replica), 2);
}

#[test]
fn sessions_do_not_share_their_sequences() {
    let mut replica = Replica::with_vault();
    let (one, other) = (replica.open_session(), replica.open_session());
    assert_ne!(one, other);
    replica.one(set(one, 1));
    replica.one(set(other, 1));
    assert_eq!(version(&replica), 2);
}

#[test]
fn a_session_that_was_never_opened_is_told_so_and_does_nothing() {
    let mut replica = Replica::with_vault();
    let session = replica.open_session();
    for unknown in [0, session + 1, u64::MAX] {
        let expected = Response::Rejected(Rejection::SessionUnknown { session: unknown });
        assert_eq!(replica.one(set(unknown, 1)), expected);
    }
    assert_eq!(version(&replica), 0);
}

#[test]
fn a_session_lives_as_long_as_it_is_used_and_is_then_told_that_it_expired() {
    let mut replica = Replica::with_vault();
    let session = replica.open_session();
    let first = replica.one(set(session, 1));
    replica.index += SESSION_LIFETIME_ENTRIES - 2;
    assert_eq!(
        replica.one(set(session, 1)),
        first,
        "one entry before its end; the repeat counts as a use"
    );
    replica.index += SESSION_LIFETIME_ENTRIES - 1;
    let expired = Response::Rejected(Rejection::SessionExpired { session });
    assert_eq!(replica.one(set(session, 1)), expired);
    assert_eq!(
        replica.one(set(session, 2)),
        expired,
        "its row is gone now, the answer is the same"
    );
    assert_eq!(version(&replica), 1);
    assert_eq!(sessions(&replica), 0);
}

#[test]
fn a_session_is_answered_alike_after_a_snapshot_while_it_lives_and_when_it_is_over() {
    let mut replica = Replica::with_vault();
    let (session, unused) = (replica.open_session(), replica.open_session());
    let first = replica.one(set(session, 1));
    let expired = |session| Response::Rejected(Rejection::SessionExpired { session });
    let mut copy = replica.copied();
    for replica in [&mut replica, &mut copy] {
        assert_eq!(replica.one(set(session, 1)), first);
        replica.index += SESSION_LIFETIME_ENTRIES;
        // Over, and their rows are still there; and then again, when these are gone.
        for _ in 0..2 {
            for number in [session, unused] {
                assert_eq!(replica.one(set(number, 1)), expired(number));
                assert_eq!(replica.one(set(number, 2)), expired(number));
            }
            *replica = replica.copied();
        }
        assert_eq!(sessions(replica), 0);
        assert_eq!(version(replica), 1);
        assert_eq!(replica.open_session(), unused + 1);
    }
    assert_eq!(copy.rows(), replica.rows());
}

#[test]
fn expired_sessions_are_removed_in_bounded_steps_and_answer_alike_before_and_after() {
    let mut replica = Replica::with_vault();
    let count = SESSIONS_REMOVED_PER_ENTRY as u64 + 10;
    replica.entry(&vec![Command::open_session(); count as usize]);
    replica.index += SESSION_LIFETIME_ENTRIES - 1;
    let last = Response::Rejected(Rejection::SessionExpired { session: count });
    assert_eq!(replica.one(set(count, 1)), last);
    assert_eq!(sessions(&replica), 10);
    assert_eq!(replica.one(set(count, 1)), last);
    assert_eq!(sessions(&replica), 0);
}

#[test]
fn one_session_too_many_ends_the_one_unused_for_longest() {
    let mut replica = Replica::with_vault();
    let first = replica.open_session();
    for _ in 1..MAX_SESSIONS / 4096 {
        replica.entry(&vec![Command::open_session(); 4096]);
    }
    replica.entry(&vec![Command::open_session(); 4095]);
    assert_eq!(sessions(&replica), MAX_SESSIONS);
    replica.one(set(first, 1));
    let newest = replica.open_session();
    assert_eq!(sessions(&replica), MAX_SESSIONS);
    assert!(
        matches!(replica.one(set(first, 2)), Response::Committed(_)),
        "it was used"
    );
    assert!(matches!(
        replica.one(set(newest, 1)),
        Response::Committed(_)
    ));
    let displaced = first + 1;
    assert_eq!(
        replica.one(set(displaced, 1)),
        Response::Rejected(Rejection::SessionExpired { session: displaced })
    );
}

#[test]
fn a_closed_session_carries_nothing_out_again() {
    let mut replica = Replica::with_vault();
    let session = replica.open_session();
    replica.one(set(session, 1));
    assert!(
        matches!(
            replica.one(Command::close_session(session, 1)),
            Response::Committed(_)
        ),
        "sequence 1 is that of the set"
    );
    assert_eq!(
        replica.one(Command::close_session(session, 2)),
        Response::SessionClosed
    );
    let expired = Response::Rejected(Rejection::SessionExpired { session });
    assert_eq!(replica.one(set(session, 1)), expired);
    assert_eq!(replica.one(Command::close_session(session, 2)), expired);
    assert_eq!(sessions(&replica), 0);
    assert_eq!(
        replica.open_session(),
        session + 1,
        "a number is not given out again"
    );
}

#[test]
fn an_invalid_command_does_not_use_up_its_sequence() {
    let mut replica = Replica::with_vault();
    let session = replica.open_session();
    let empty = Command::submit(Transaction::new(1)).in_session(session, 1);
    assert_eq!(
        replica.one(empty),
        Response::Rejected(Rejection::Invalid(Invalid::NoOperations))
    );
    assert!(matches!(
        replica.one(set(session, 1)),
        Response::Committed(_)
    ));
}
