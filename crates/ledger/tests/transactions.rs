//! Transactions happen wholly or not at all, under their conditions.

mod common;

use common::Replica;
use folio_ledger::command::{Command, Invalid, Part};
use folio_ledger::response::{FailedRequirement, Found, Outcome, Rejection, Response};
use folio_ledger::state_key::{Relationship, StateKey};
use folio_ledger::transaction::{Requirement, Transaction};

fn owner() -> Relationship {
    Relationship::new("car:1", "owner", "user:7")
}

fn on_vault() -> Transaction {
    Transaction::new(1)
}

#[test]
fn the_answer_says_what_each_operation_did_and_where_it_is_recorded() {
    let mut replica = Replica::with_vault();
    let receipt = replica.commit(
        on_vault()
            .set(b"a", b"1")
            .set(b"a", b"2")
            .relate(owner())
            .relate(owner()),
    );
    assert_eq!(
        (
            receipt.vault,
            receipt.height,
            receipt.position,
            receipt.log_index
        ),
        (1, 1, 0, 2)
    );
    assert_eq!(
        receipt.outcomes,
        [
            Outcome::EntityCreated,
            Outcome::EntityUpdated { version: 2 },
            Outcome::RelationshipCreated,
            Outcome::Unchanged
        ]
    );
    let receipt = replica.commit(
        on_vault()
            .delete(b"a")
            .delete(b"a")
            .unrelate(owner())
            .unrelate(owner()),
    );
    assert_eq!(
        receipt.outcomes,
        [
            Outcome::EntityDeleted { version: 2 },
            Outcome::Unchanged,
            Outcome::RelationshipDeleted,
            Outcome::Unchanged
        ]
    );
}

#[test]
fn versions_count_the_sets_since_creation() {
    let mut replica = Replica::with_vault();
    for version in 1..=3 {
        replica.commit(on_vault().set(b"a", [version]));
        let entity = replica.entity(1, b"a").expect("it was set");
        assert_eq!(
            (entity.version, entity.value),
            (u64::from(version), vec![version])
        );
    }
    replica.commit(on_vault().delete(b"a").set(b"a", b"again"));
    assert_eq!(replica.entity(1, b"a").expect("it was set").version, 1);
}

#[test]
fn each_condition_holds_or_names_what_is_there_instead() {
    let mut replica = Replica::with_vault();
    replica.commit(
        on_vault()
            .set(b"there", b"v")
            .set(b"there", b"w")
            .relate(owner()),
    );
    let missing = Relationship::new("car:2", "owner", "user:7");
    let entity = |key: &[u8]| StateKey::Entity(key.to_vec());
    let there = Found::Entity { version: 2 };
    let cases = [
        (entity(b"there"), Requirement::MustExist, None),
        (entity(b"there"), Requirement::MustNotExist, Some(there)),
        (entity(b"there"), Requirement::VersionIs(2), None),
        (entity(b"there"), Requirement::VersionIs(1), Some(there)),
        (entity(b"there"), Requirement::ValueIs(b"w".to_vec()), None),
        (
            entity(b"there"),
            Requirement::ValueIs(b"v".to_vec()),
            Some(there),
        ),
        (entity(b"not"), Requirement::MustExist, Some(Found::Nothing)),
        (entity(b"not"), Requirement::MustNotExist, None),
        (
            entity(b"not"),
            Requirement::VersionIs(0),
            Some(Found::Nothing),
        ),
        (
            entity(b"not"),
            Requirement::ValueIs(vec![]),
            Some(Found::Nothing),
        ),
        (
            StateKey::Relationship(owner()),
            Requirement::MustExist,
            None,
        ),
        (
            StateKey::Relationship(owner()),
            Requirement::MustNotExist,
            Some(Found::Relationship),
        ),
        (
            StateKey::Relationship(missing.clone()),
            Requirement::MustExist,
            Some(Found::Nothing),
        ),
        (
            StateKey::Relationship(missing),
            Requirement::MustNotExist,
            None,
        ),
    ];
    for (target, requirement, violation) in cases {
        let mut transaction = on_vault()
            .require_entity(b"there", Requirement::MustExist)
            .set(b"probe", b"");
        transaction
            .conditions
            .push(folio_ledger::transaction::Condition {
                target: target.clone(),
                requirement: requirement.clone(),
            });
        match violation {
            None => drop(replica.commit(transaction)),
            Some(found) => {
                let expected = Rejection::ConditionFailed {
                    condition: 1,
                    target,
                    requirement: FailedRequirement::from(&requirement),
                    found,
                };
                assert_eq!(replica.reject(transaction), expected);
            }
        }
    }
}

#[test]
fn conditions_see_the_state_before_the_transaction_and_after_those_before_it_in_the_entry() {
    let mut replica = Replica::with_vault();
    let create = on_vault()
        .require_entity(b"a", Requirement::MustNotExist)
        .set(b"a", b"")
        .set(b"b", b"");
    let responses = replica.entry(&[Command::submit(create.clone()), Command::submit(create)]);
    assert!(
        matches!(responses[0], Response::Committed(_)),
        "its own set does not fail its condition"
    );
    assert!(matches!(
        responses[1],
        Response::Rejected(Rejection::ConditionFailed { condition: 0, .. })
    ));
}

#[test]
fn a_rejected_transaction_leaves_every_row_as_it_was() {
    let mut replica = Replica::with_vault();
    replica.commit(on_vault().set(b"a", b"1").relate(owner()));
    let before = replica.rows();
    let failing = on_vault()
        .require_entity(b"a", Requirement::VersionIs(9))
        .set(b"a", b"2")
        .set_until(b"new", b"", 9_999_999)
        .delete(b"a")
        .unrelate(owner())
        .relate(Relationship::new("x", "y", "z"));
    replica.reject(failing.clone());
    replica.reject(Transaction {
        vault: 2,
        ..failing.clone()
    });
    replica.reject(failing.set(vec![0; 300], b""));
    assert_eq!(replica.rows(), before);
}

#[test]
fn a_rejected_transaction_between_two_others_of_an_entry_leaves_no_trace() {
    let mut with = Replica::with_vault();
    let mut without = Replica::with_vault();
    let first = Command::submit(on_vault().set(b"a", b"1"));
    let failing = Command::submit(
        on_vault()
            .require_entity(b"a", Requirement::VersionIs(7))
            .set(b"b", b"")
            .delete(b"a"),
    );
    let last = Command::submit(on_vault().set(b"c", b"3"));
    with.entry(&[first.clone(), failing, last.clone()]);
    without.entry(&[first, last]);
    assert_eq!(with.rows(), without.rows());
}

#[test]
fn a_command_beyond_a_limit_that_reached_the_log_is_rejected() {
    let mut replica = Replica::with_vault();
    let before = replica.rows();
    let too_long = Invalid::TooLong {
        what: Part::Key,
        bytes: 257,
        limit: 256,
    };
    assert_eq!(
        replica.reject(on_vault().set([0; 257], b"")),
        Rejection::Invalid(too_long)
    );
    assert_eq!(
        replica.reject(on_vault()),
        Rejection::Invalid(Invalid::NoOperations)
    );
    let name = "n".repeat(256);
    assert!(matches!(
        replica.one(Command::create_vault(name)),
        Response::Rejected(Rejection::Invalid(_))
    ));
    assert_eq!(replica.rows(), before);
}

#[test]
fn an_unknown_vault_is_named() {
    let mut replica = Replica::with_vault();
    assert_eq!(
        replica.reject(Transaction::new(2).set(b"a", b"")),
        Rejection::UnknownVault { vault: 2 }
    );
}

#[test]
fn the_largest_value_and_the_longest_keys_are_stored_whole() {
    let mut replica = Replica::with_vault();
    let value: Vec<u8> = (0..1_u32 << 20).map(|i| (i % 251) as u8).collect();
    let zeros = [0; 256];
    let longest = Relationship::new("r".repeat(255), "l".repeat(64), "s".repeat(255));
    replica.commit(
        on_vault()
            .set(zeros, &value[..])
            .set([255; 256], b"")
            .relate(longest.clone()),
    );
    assert_eq!(replica.entity(1, &zeros).expect("it was set").value, value);
    assert!(
        replica
            .entity(1, &[255; 256])
            .expect("it was set")
            .value
            .is_empty()
    );
    assert!(replica.has(1, &longest));
}

#[test]
fn vault_numbers_come_from_a_counter() {
    let mut replica = Replica::new();
    let create = Command::create_vault("same name");
    let responses = replica.entry(&[create.clone(), create.clone()]);
    assert_eq!(
        responses,
        [1, 2].map(|vault| Response::VaultCreated {
            vault,
            log_index: 1
        })
    );
    assert_eq!(
        replica.one(create),
        Response::VaultCreated {
            vault: 3,
            log_index: 2
        }
    );
}

#[test]
fn a_vault_can_be_used_in_the_entry_that_creates_it() {
    let mut replica = Replica::new();
    let submit = Command::submit(on_vault().set(b"a", b""));
    let responses = replica.entry(&[submit.clone(), Command::create_vault(""), submit]);
    assert_eq!(
        responses[0],
        Response::Rejected(Rejection::UnknownVault { vault: 1 })
    );
    assert!(matches!(&responses[2], Response::Committed(receipt) if receipt.height == 1));
    assert_eq!(replica.vault(1).height, 1);
}

#[test]
fn an_entity_is_there_until_the_entry_whose_time_has_come() {
    let mut replica = Replica::with_vault();
    let expires_at = replica.time + 5000;
    replica.commit(
        on_vault()
            .set_until(b"a", b"", expires_at)
            .set_until(b"b", b"", expires_at + 1)
            .set(b"c", b""),
    );
    while replica.time + 1000 < expires_at {
        replica.entry(&[]);
        assert!(
            replica.entity(1, b"a").is_some(),
            "at {} of {expires_at}",
            replica.time
        );
    }
    let height = replica.vault(1).height;
    let create = on_vault()
        .require_entity(b"a", Requirement::MustNotExist)
        .set(b"a", b"");
    replica.commit(create);
    assert_eq!(
        replica
            .entity(1, b"a")
            .expect("it was created anew")
            .expires_at,
        None
    );
    assert_eq!(replica.vault(1).height, height + 1);
    replica.entry(&[]);
    assert_eq!(replica.entity(1, b"b"), None);
    assert_eq!(
        replica.vault(1).height,
        height + 2,
        "an expiry alone is recorded in a block"
    );
    replica.entry(&[]);
    assert_eq!(replica.vault(1).height, height + 2);
    assert_eq!(replica.vault(1).entities, 2);
}

#[test]
fn a_new_expiry_replaces_the_old_one() {
    let mut replica = Replica::with_vault();
    let soon = replica.time + 3000;
    replica.commit(
        on_vault()
            .set_until(b"later", b"", soon)
            .set_until(b"never", b"", soon)
            .set_until(b"gone", b"", soon),
    );
    replica.commit(
        on_vault()
            .set_until(b"later", b"", soon + 3000)
            .set(b"never", b"")
            .delete(b"gone"),
    );
    replica.time = soon;
    replica.entry(&[]);
    assert!(replica.entity(1, b"later").is_some());
    replica.time = soon + 3000;
    replica.entry(&[]);
    assert_eq!(replica.entity(1, b"later"), None);
    assert!(replica.entity(1, b"never").is_some());
}

#[test]
fn many_expiries_are_carried_out_in_bounded_steps() {
    let mut replica = Replica::with_vault();
    let at = replica.time + 2000;
    let keys = (0..600_u16).map(u16::to_be_bytes);
    replica.commit(keys.fold(on_vault(), |all, key| all.set_until(key, b"", at)));
    let left: Vec<u64> = (0..4)
        .map(|_| {
            replica.entry(&[]);
            replica.vault(1).entities
        })
        .collect();
    assert_eq!(left, [344, 88, 0, 0]);
}
