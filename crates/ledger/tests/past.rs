//! Entities can be read as they were, as far back as their vault retains, and no further.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::Replica;
use folio_ledger::command::Command;
use folio_ledger::limits::CLEANUP_PER_ENTRY;
use folio_ledger::response::Response;
use folio_ledger::state_key::Entity;
use folio_ledger::transaction::Transaction;
use folio_ledger::verify::{verify_chain, verify_shared, verify_state};
use folio_ledger::{LedgerView, NotRetained, PastEntity};
use proptest::prelude::*;

fn retaining(blocks: u64) -> Replica {
    let mut replica = Replica::new();
    let created = replica.one(Command::create_vault_retaining("v", blocks));
    assert!(matches!(created, Response::VaultCreated { vault: 1, .. }));
    replica
}

fn value(entity: Option<Entity>) -> Option<Vec<u8>> {
    entity.map(|entity| entity.value)
}

fn kept(replica: &Replica) -> usize {
    let rows = replica.rows();
    let (versions, heights) = (&rows["ledger_versions"], &rows["ledger_version_heights"]);
    assert_eq!(versions.len(), heights.len());
    versions.len()
}

#[test]
fn an_entity_is_read_as_of_any_height_within_the_retention() {
    let mut replica = retaining(3);
    for height in 1..=8_u8 {
        replica.commit(Transaction::new(1).set(b"k", [height]));
    }
    replica.commit(Transaction::new(1).delete(b"k"));
    replica.commit(Transaction::new(1).set(b"other", b""));
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let at = |height| ledger.entity_at(1, b"k", height).unwrap();
    assert_eq!(at(7).map(value), Ok(Some(vec![7])));
    assert_eq!(at(8).map(value), Ok(Some(vec![8])));
    assert_eq!(at(8).unwrap().unwrap().version, 8);
    assert_eq!(at(9), Ok(None));
    assert_eq!(at(10), Ok(None));
    for outside in [0, 6, 11, u64::MAX] {
        let expected = NotRetained {
            vault: 1,
            asked: outside,
            from: 7,
            to: 10,
        };
        assert_eq!(at(outside), Err(expected));
    }
    let past = |until, value: &[u8], version| PastEntity {
        until,
        entity: Some(Entity {
            version,
            expires_at: None,
            value: value.to_vec(),
        }),
    };
    let history = ledger.entity_history(1, b"k", 0, 10).unwrap().items;
    assert_eq!(history, [past(7, &[7], 7), past(8, &[8], 8)]);
    let page = ledger.entity_history(1, b"k", 0, 1).unwrap();
    assert_eq!((page.items, page.next), (history[..1].to_vec(), Some(8)));
    let page = ledger.entity_history(1, b"k", 8, 1).unwrap();
    assert_eq!((page.items, page.next), (history[1..].to_vec(), None));
    assert_eq!(ledger.entity_history(1, b"j", 0, 10).unwrap().items, []);
}

#[test]
fn several_changes_in_one_block_leave_one_past_version() {
    let mut replica = retaining(10);
    let set = |value: &[u8]| Command::submit(Transaction::new(1).set(b"k", value));
    replica.entry(&[set(b"1"), set(b"2")]);
    let delete = Command::submit(Transaction::new(1).delete(b"k"));
    replica.entry(&[delete, set(b"3"), set(b"4")]);
    let view = replica.view();
    let history = LedgerView::new(&view)
        .entity_history(1, b"k", 0, 10)
        .unwrap()
        .items;
    let values: Vec<_> = history
        .into_iter()
        .map(|past| (past.until, value(past.entity)))
        .collect();
    assert_eq!(values, [(0, None), (1, Some(b"2".to_vec()))]);
}

#[test]
fn a_vault_that_retains_nothing_keeps_nothing_and_shows_the_present_only() {
    let mut replica = Replica::with_vault();
    for number in 0..9 {
        replica.commit(Transaction::new(1).set(b"k", [number]));
    }
    assert_eq!(kept(&replica), 0);
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    assert_eq!(
        ledger.entity_at(1, b"k", 9).unwrap().map(value),
        Ok(Some(vec![8]))
    );
    assert!(ledger.entity_at(1, b"k", 8).unwrap().is_err());
}

#[test]
fn retention_begins_when_it_is_asked_for_and_what_was_given_up_does_not_come_back() {
    let mut replica = Replica::with_vault();
    let retained = |replica: &Replica| {
        let info = replica.vault(1);
        (info.retained_from, info.height)
    };
    let change = |replica: &mut Replica| replica.commit(Transaction::new(1).set(b"k", b""));
    change(&mut replica);
    assert_eq!(
        replica.one(Command::set_retention(1, 5)),
        Response::RetentionSet {
            vault: 1,
            retention: 5
        }
    );
    assert_eq!(retained(&replica), (1, 1), "no block is added");
    for _ in 0..9 {
        change(&mut replica);
    }
    assert_eq!(retained(&replica), (5, 10));
    replica.one(Command::set_retention(1, 2));
    assert_eq!(retained(&replica), (8, 10));
    replica.one(Command::set_retention(1, u64::MAX));
    assert_eq!(retained(&replica), (8, 10));
    change(&mut replica);
    assert_eq!(retained(&replica), (8, 11));
    replica.one(Command::set_retention(1, 0));
    assert_eq!(retained(&replica), (11, 11));
    replica.entry(&[]);
    assert_eq!(kept(&replica), 0);
}

#[test]
fn a_change_in_the_entry_that_begins_the_retention_is_before_it() {
    let mut replica = Replica::with_vault();
    let set = Command::submit(Transaction::new(1).set(b"k", b""));
    replica.entry(&[set.clone(), Command::set_retention(1, 5), set]);
    assert_eq!(replica.vault(1).retained_from, 1);
    assert_eq!(kept(&replica), 0);
    verify_chain(&replica.view(), 1, &mut |_, _| {}).unwrap();
}

#[test]
fn what_is_retained_no_more_is_removed_in_bounded_steps() {
    let mut replica = retaining(u64::MAX);
    let keys: Vec<_> = (0..1_000_u16).map(u16::to_be_bytes).collect();
    for round in 0..6_u8 {
        let all = keys
            .iter()
            .fold(Transaction::new(1), |all, key| all.set(*key, [round]));
        replica.commit(all);
    }
    assert_eq!(kept(&replica), 6_000);
    replica.one(Command::set_retention(1, 1));
    let mut steps = vec![6_000 - kept(&replica)];
    let view = replica.view();
    let history = LedgerView::new(&view).entity_history(1, &keys[999], 0, 10);
    assert_eq!(history.unwrap().items.len(), 1, "what waits is not shown");
    drop(view);
    while kept(&replica) > 1_000 {
        let before = kept(&replica);
        replica.entry(&[]);
        steps.push(before - kept(&replica));
        verify_chain(&replica.view(), 1, &mut |_, _| {}).unwrap();
    }
    let step = CLEANUP_PER_ENTRY as usize;
    assert_eq!(steps, [step, step, step, step, 5_000 - 4 * step]);
    replica.entry(&[]);
    assert_eq!(kept(&replica), 1_000);
}

#[test]
fn an_entry_removes_more_than_it_keeps() {
    let mut replica = retaining(u64::MAX);
    let keys: Vec<_> = (0..1_000_u16).map(u16::to_be_bytes).collect();
    let all = |round| {
        let set = |all: Transaction, key: &[u8; 2]| all.set(*key, vec![round; 5_000]);
        keys[..400].iter().fold(Transaction::new(1), set)
    };
    for round in 0..20 {
        replica.commit(all(round));
    }
    replica.one(Command::set_retention(1, 1));
    let mut before = kept(&replica);
    for round in 0..9 {
        replica.commit(all(round));
        assert!(kept(&replica) < before || before == 400, "{before}");
        before = kept(&replica);
    }
    assert_eq!(before, 400, "the last block's");
}

/// One entry of a random history.
#[derive(Debug, Clone)]
enum Step {
    Change(Vec<(u8, Option<u8>)>),
    SetUntil(u8, u8),
    Retain(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0..6_u8, proptest::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        6 => proptest::collection::vec(change, 1..5).prop_map(Step::Change),
        2 => (0..6_u8, 0..9_u8).prop_map(|(key, entries)| Step::SetUntil(key, entries)),
        1 => (0..8_u64).prop_map(Step::Retain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_past_is_what_the_present_was(
        retention in 0..6_u64,
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut replica = retaining(retention);
        let mut moments: BTreeMap<u64, BTreeMap<Vec<u8>, Entity>> = BTreeMap::new();
        let mut lowest = 0;
        for step in steps {
            match step {
                Step::Change(changes) => {
                    // Each a transaction of its own, all in one block.
                    let commands: Vec<Command> = changes
                        .iter()
                        .map(|(key, value)| {
                            let transaction = Transaction::new(1);
                            Command::submit(match value {
                                Some(value) => transaction.set([*key], [*value]),
                                None => transaction.delete([*key]),
                            })
                        })
                        .collect();
                    replica.entry(&commands);
                }
                Step::SetUntil(key, entries) => {
                    let time = replica.time + 1000 * u64::from(entries);
                    replica.commit(Transaction::new(1).set_until([key], b"", time));
                }
                Step::Retain(blocks) => {
                    replica.one(Command::set_retention(1, blocks));
                }
            }
            let view = replica.view();
            let ledger = LedgerView::new(&view);
            let info = replica.vault(1);
            let present = ledger.entities(1, b"", None, 100).unwrap().items.into_iter().collect();
            moments.insert(info.height, present);
            prop_assert!(info.retained_from >= lowest, "the past does not come back");
            prop_assert!(info.height - info.retained_from <= info.retention);
            lowest = info.retained_from;
            for height in info.retained_from..=info.height {
                for key in 0..6_u8 {
                    let found = ledger.entity_at(1, &[key], height).unwrap();
                    let expected = moments.get(&height).and_then(|all| all.get(&vec![key])).cloned();
                    // Block 0 is not among the moments if the first entry added another one.
                    prop_assert_eq!(found, Ok(expected), "key {} at {}", key, height);
                }
            }
            verify_chain(&view, 1, &mut |_, _| {}).expect("a sound chain with its past");
            verify_state(&view, 1, &mut |_, _| {}).expect("a sound state");
            verify_shared(&view).expect("sound lists");
        }
    }
}
