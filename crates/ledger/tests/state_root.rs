//! The state root depends on the contents of a vault and on nothing else.

mod common;

use common::{Contents, Replica};
use folio_ledger::command::Command;
use folio_ledger::digest::Digest;
use folio_ledger::state_key::{Entity, Relationship};
use folio_ledger::transaction::Transaction;
use folio_ledger::verify::verify_state;
use proptest::prelude::*;

/// One change of a small world, so that changes meet each other.
#[derive(Debug, Clone)]
enum Step {
    Set(u8, u8, Option<u32>),
    Delete(u8),
    Relate(u8, u8),
    Unrelate(u8, u8),
}

fn relationship(resource: u8, subject: u8) -> Relationship {
    Relationship::new(
        format!("resource:{resource}"),
        "viewer",
        format!("subject:{subject}"),
    )
}

/// After any time that the tests reach.
const FAR: u64 = 1 << 50;

impl Step {
    fn add_to(&self, transaction: Transaction) -> Transaction {
        match *self {
            Step::Set(key, value, None) => transaction.set([key], [value]),
            Step::Set(key, value, Some(time)) => {
                transaction.set_until([key], [value], FAR + u64::from(time))
            }
            Step::Delete(key) => transaction.delete([key]),
            Step::Relate(resource, subject) => transaction.relate(relationship(resource, subject)),
            Step::Unrelate(resource, subject) => {
                transaction.unrelate(relationship(resource, subject))
            }
        }
    }

    fn apply_to(&self, contents: &mut Contents) {
        match *self {
            Step::Set(key, value, time) => {
                let version = contents
                    .entities
                    .get(&vec![key])
                    .map_or(1, |entity| entity.version + 1);
                let expires_at = time.map(|time| FAR + u64::from(time));
                contents.entities.insert(
                    vec![key],
                    Entity {
                        version,
                        expires_at,
                        value: vec![value],
                    },
                );
            }
            Step::Delete(key) => drop(contents.entities.remove(&vec![key])),
            Step::Relate(resource, subject) => drop(
                contents
                    .relationships
                    .insert(relationship(resource, subject)),
            ),
            Step::Unrelate(resource, subject) => drop(
                contents
                    .relationships
                    .remove(&relationship(resource, subject)),
            ),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u8>(), any::<u8>(), proptest::option::weighted(0.2, any::<u32>()))
            .prop_map(|(key, value, time)| Step::Set(key, value, time)),
        2 => any::<u8>().prop_map(Step::Delete),
        3 => (0..16_u8, 0..16_u8).prop_map(|(resource, subject)| Step::Relate(resource, subject)),
        2 => (0..16_u8, 0..16_u8).prop_map(|(resource, subject)| Step::Unrelate(resource, subject)),
    ]
}

/// A history: entries of transactions of steps.
fn history() -> impl Strategy<Value = Vec<Vec<Vec<Step>>>> {
    let transaction = proptest::collection::vec(step(), 1..12);
    let entry = proptest::collection::vec(transaction, 1..8);
    proptest::collection::vec(entry, 1..24)
}

/// The shortest way to some contents: every entity set as often as its version says, in the order
/// given.
fn rebuild(contents: &Contents, reverse: bool, transactions_per_entry: usize) -> Digest {
    let mut transactions = Vec::new();
    for (key, entity) in &contents.entities {
        for _ in 1..entity.version {
            transactions.push(Transaction::new(1).set(&key[..], b"something else"));
        }
        let last = Transaction::new(1);
        transactions.push(match entity.expires_at {
            None => last.set(&key[..], &entity.value[..]),
            Some(time) => last.set_until(&key[..], &entity.value[..], time),
        });
    }
    if reverse {
        // Setting an entity leaves its last value, so the groups turn around but not the sets of
        // one entity.
        transactions.reverse();
        let key = |transaction: &Transaction| transaction.operations.clone();
        transactions
            .chunk_by_mut(|a, b| same_key(&key(a), &key(b)))
            .for_each(<[Transaction]>::reverse);
    }
    let relationships = contents.relationships.iter().cloned();
    transactions.extend(relationships.map(|relationship| Transaction::new(1).relate(relationship)));
    let mut replica = Replica::with_vault();
    for entry in transactions.chunks(transactions_per_entry) {
        let commands: Vec<Command> = entry.iter().cloned().map(Command::submit).collect();
        replica.entry(&commands);
    }
    replica.vault(1).state_root
}

fn same_key(
    a: &[folio_ledger::transaction::Operation],
    b: &[folio_ledger::transaction::Operation],
) -> bool {
    use folio_ledger::transaction::Operation::SetEntity;
    matches!((a, b), ([SetEntity { key: a, .. }], [SetEntity { key: b, .. }]) if a == b)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_at_the_root_of_its_contents(history in history()) {
        let mut replica = Replica::with_vault();
        let mut contents = Contents::default();
        for entry in &history {
            let mut commands = Vec::new();
            for steps in entry {
                let transaction = steps.iter().fold(Transaction::new(1), |all, step| step.add_to(all));
                commands.push(Command::submit(transaction));
                steps.iter().for_each(|step| step.apply_to(&mut contents));
            }
            replica.entry(&commands);
            let vault = replica.vault(1);
            prop_assert_eq!(vault.state_root, contents.root());
            prop_assert_eq!(vault.entities, contents.entities.len() as u64);
            prop_assert_eq!(vault.relationships, contents.relationships.len() as u64);
        }
        let report = verify_state(&replica.view(), 1, &mut |_, _| {}).expect("a sound state");
        prop_assert_eq!(report.state_root, contents.root());
        prop_assert_eq!(rebuild(&contents, false, 1000), contents.root());
        prop_assert_eq!(rebuild(&contents, true, 7), contents.root());
    }
}

#[test]
fn every_part_of_the_contents_is_in_the_root() {
    let mut contents = Contents::default();
    let mut roots = std::collections::BTreeSet::from([contents.root()]);
    let mut replica = Replica::with_vault();
    let mut step = |replica: &mut Replica, step: Step| {
        step.apply_to(&mut contents);
        replica.commit(step.add_to(Transaction::new(1)));
        assert_eq!(replica.vault(1).state_root, contents.root());
        assert!(
            roots.insert(contents.root()),
            "{step:?} must change the root"
        );
    };
    step(&mut replica, Step::Set(1, 1, None));
    step(&mut replica, Step::Set(1, 1, None)); // the version
    step(&mut replica, Step::Set(1, 1, Some(1))); // the expiry
    step(&mut replica, Step::Set(2, 1, None)); // another key
    step(&mut replica, Step::Relate(1, 1));
    step(&mut replica, Step::Relate(1, 2));
    step(&mut replica, Step::Unrelate(1, 1));
}

#[test]
fn emptying_a_vault_leads_back_to_the_empty_root() {
    let mut replica = Replica::with_vault();
    let empty = replica.vault(1).state_root;
    assert_eq!(empty, Contents::default().root());
    let keys: Vec<[u8; 2]> = (0..500_u16).map(u16::to_be_bytes).collect();
    replica.commit(
        keys.iter()
            .fold(Transaction::new(1), |all, key| all.set(*key, *key)),
    );
    assert_ne!(replica.vault(1).state_root, empty);
    replica.commit(
        keys.iter()
            .fold(Transaction::new(1), |all, key| all.delete(*key)),
    );
    assert_eq!(replica.vault(1).state_root, empty);
}

#[test]
fn vaults_with_equal_contents_have_equal_roots_and_different_blocks() {
    let mut replica = Replica::with_vault();
    replica.one(Command::create_vault("second"));
    let commands = [1, 2].map(|vault| Command::submit(Transaction::new(vault).set(b"k", b"v")));
    replica.entry(&commands);
    assert_eq!(replica.vault(1).state_root, replica.vault(2).state_root);
    assert_ne!(replica.vault(1).block_hash, replica.vault(2).block_hash);
}
