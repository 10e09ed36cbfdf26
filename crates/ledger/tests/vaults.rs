//! Vaults come and go; numbers do not come twice.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::Replica;
use folio_ledger::command::{Command, Counter, Invalid};
use folio_ledger::limits::CLEANUP_PER_ENTRY;
use folio_ledger::response::{Rejection, Response};
use folio_ledger::state_key::{Relationship, StateKey};
use folio_ledger::transaction::Transaction;
use folio_ledger::verify::{VerifyError, verify_chain, verify_shared, verify_state};
use folio_ledger::{LedgerView, Order, RelationshipList};

fn relationship(number: u64) -> Relationship {
    Relationship::new("doc", "viewer", format!("user:{number}"))
}

/// Two vaults that keep versions, with `count` entities and relationships each, of which the
/// entities have changed once.
fn two_vaults(count: u64) -> Replica {
    let mut replica = Replica::new();
    let create = Command::create_vault_retaining("v", 1_000);
    replica.entry(&[create.clone(), create]);
    for vault in [1, 2] {
        for number in 0..count {
            let key = number.to_be_bytes();
            replica.commit(
                Transaction::new(vault)
                    .set_until(key, b"first", 1 << 50)
                    .relate(relationship(number)),
            );
            replica.commit(Transaction::new(vault).set_until(key, b"second", (1 << 50) + number));
        }
    }
    replica
}

/// How many rows of all tables begin with the number of a vault, or list an expiry in it.
fn rows_of(replica: &Replica, vault: u64) -> usize {
    let of_vault = vault.to_be_bytes();
    let tables = replica.rows();
    let count = |(name, rows): (&String, &common::Rows)| {
        let place = if name == "ledger_expiries" { 8 } else { 0 };
        let shared = ["ledger_counters", "ledger_sessions", "ledger_session_uses"];
        if shared.contains(&&name[..]) {
            return 0;
        }
        let belongs = |key: &[u8]| key[place..].starts_with(&of_vault);
        rows.iter().filter(|(key, _)| belongs(key)).count()
    };
    tables.iter().map(count).sum()
}

fn verify(replica: &Replica, vault: u64) -> Result<(), VerifyError> {
    let view = replica.view();
    verify_shared(&view)?;
    verify_chain(&view, vault, &mut |_, _| {})?;
    verify_state(&view, vault, &mut |_, _| {})?;
    Ok(())
}

#[test]
fn a_deleted_vault_is_gone_at_once_and_its_number_is_not_given_again() {
    let mut replica = two_vaults(300);
    let info = replica.vault(1);
    assert_eq!(
        replica.one(Command::delete_vault(1)),
        Response::VaultDeleted {
            vault: 1,
            height: info.height,
            block_hash: info.block_hash,
            log_index: replica.index,
        }
    );
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let key = 7_u64.to_be_bytes();
    assert!(rows_of(&replica, 1) > 1_000, "its rows go later");
    assert_eq!(ledger.vault(1).unwrap(), None);
    assert_eq!(ledger.vaults(0, 10).unwrap().len(), 1);
    assert!(ledger.was_deleted(1).unwrap());
    assert_eq!(ledger.entity(1, &key).unwrap(), None);
    assert_eq!(ledger.entity_at(1, &key, info.height).unwrap(), Ok(None));
    assert_eq!(ledger.entity_history(1, &key, 0, 9).unwrap().items, []);
    assert_eq!(ledger.entities(1, b"", None, 9).unwrap().items, []);
    assert!(!ledger.relationship_exists(1, &relationship(7)).unwrap());
    let all = ledger.relationships(1, RelationshipList::All, Order::Backwards, None, 9);
    assert_eq!(all.unwrap().items, []);
    assert_eq!(ledger.block(1, 1).unwrap(), None);
    assert_eq!(ledger.records(1, 1).unwrap(), []);
    assert_eq!(ledger.prove_transaction(1, 1, 0).unwrap(), None);
    let proof = ledger.prove(1, &StateKey::Entity(key.to_vec())).unwrap();
    assert!(proof.bucket.is_empty());

    let gone = Response::Rejected(Rejection::VaultDeleted { vault: 1 });
    assert_eq!(replica.one(Command::delete_vault(1)), gone);
    assert_eq!(replica.one(Command::set_retention(1, 1)), gone);
    let write = Command::submit(Transaction::new(1).set(b"k", b""));
    assert_eq!(replica.one(write), gone);
    for never in [0, 3] {
        let unknown = Response::Rejected(Rejection::UnknownVault { vault: never });
        assert_eq!(replica.one(Command::delete_vault(never)), unknown);
        let view = replica.view();
        assert!(!LedgerView::new(&view).was_deleted(never).unwrap());
    }
    let created = replica.one(Command::create_vault("next"));
    assert!(matches!(created, Response::VaultCreated { vault: 3, .. }));
}

#[test]
fn the_rows_of_a_deleted_vault_go_in_bounded_steps_until_none_is_left() {
    let mut replica = two_vaults(800);
    let other = (replica.vault(2), rows_of(&replica, 2));
    replica.one(Command::delete_vault(1));
    let mut left = rows_of(&replica, 1);
    assert!(left > 8 * CLEANUP_PER_ENTRY as usize, "{left} rows");
    let mut entries = 0;
    while left > 0 {
        replica.entry(&[]);
        entries += 1;
        let now = rows_of(&replica, 1);
        let removed = left - now;
        // An entity takes its expiry with it, which is not counted.
        assert!(
            removed > 0 && removed <= 2 * CLEANUP_PER_ENTRY as usize + 1,
            "{removed} rows in one entry"
        );
        left = now;
        verify(&replica, 2).unwrap();
    }
    assert!(entries > 4, "{entries} entries");
    assert_eq!((replica.vault(2), rows_of(&replica, 2)), other);
    assert_eq!(
        replica.one(Command::delete_vault(1)),
        Response::Rejected(Rejection::VaultDeleted { vault: 1 }),
        "the answer is the same when nothing is left"
    );
}

#[test]
fn large_values_are_removed_a_few_at_a_time() {
    let mut replica = Replica::with_vault();
    for number in 0..20_u8 {
        replica.commit(Transaction::new(1).set([number], vec![number; 1 << 20]));
    }
    replica.one(Command::delete_vault(1));
    let mut entries = 1;
    while rows_of(&replica, 1) > 0 {
        replica.entry(&[]);
        entries += 1;
    }
    // 20 values and 20 records of 256 units and a few each, 1024 an entry.
    assert!((10..=12).contains(&entries), "{entries} entries");
}

#[test]
fn entities_may_expire_while_their_vault_is_being_removed() {
    let mut replica = Replica::with_vault();
    let soon = replica.time + 20_000;
    for first in (0..3_000_u64).step_by(1_000) {
        let keys = (first..first + 1_000).map(u64::to_be_bytes);
        let all = keys.fold(Transaction::new(1), |all, key| {
            all.set_until(key, b"", soon)
        });
        replica.commit(all);
    }
    replica.one(Command::delete_vault(1));
    replica.time = soon;
    while rows_of(&replica, 1) > 0 {
        replica.entry(&[]);
    }
    let view = replica.view();
    verify_shared(&view).unwrap();
    assert!(replica.rows()["ledger_cleanups"].is_empty());
}

#[test]
fn the_answer_to_a_deletion_names_the_end_of_the_whole_chain() {
    let mut replica = Replica::with_vault();
    let set = Command::submit(Transaction::new(1).set(b"k", b""));
    let answers = replica.entry(&[set.clone(), Command::delete_vault(1), set]);
    assert!(matches!(&answers[0], Response::Committed(receipt) if receipt.height == 1));
    assert!(matches!(
        answers[1],
        Response::VaultDeleted { height: 1, .. }
    ));
    assert_eq!(
        answers[2],
        Response::Rejected(Rejection::VaultDeleted { vault: 1 })
    );
}

#[test]
fn a_vault_is_deleted_once_in_a_session() {
    let mut replica = Replica::with_vault();
    let session = replica.open_session();
    let delete = Command::delete_vault(1).in_session(session, 1);
    let first = replica.one(delete.clone());
    assert!(matches!(first, Response::VaultDeleted { .. }));
    assert_eq!(replica.one(delete), first);
}

#[test]
fn counters_give_each_number_once_and_do_not_share() {
    let mut replica = Replica::with_vault();
    let take = Command::allocate_numbers;
    let numbers = |counter, first, count| Response::NumbersAllocated {
        counter,
        first,
        count,
    };
    let (organization, user) = (Counter::Organization, Counter::User);
    assert_eq!(
        replica.entry(&[take(user, 3), take(organization, 1), take(user, 2)]),
        [
            numbers(user, 1, 3),
            numbers(organization, 1, 1),
            numbers(user, 4, 2)
        ]
    );
    let session = replica.open_session();
    let once = take(user, 10).in_session(session, 1);
    assert_eq!(replica.one(once.clone()), numbers(user, 6, 10));
    assert_eq!(
        replica.one(once),
        numbers(user, 6, 10),
        "a retry takes none"
    );
    assert_eq!(
        replica.one(take(user, 0)),
        Response::Rejected(Rejection::Invalid(Invalid::NoNumbers))
    );
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    assert_eq!(ledger.last_allocated(user).unwrap(), 15);
    assert_eq!(ledger.last_allocated(organization).unwrap(), 1);
}
