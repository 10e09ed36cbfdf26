//! Proofs hold for what is there and for what is not, and for nothing else.

mod common;

use common::Replica;
use folio_ledger::LedgerView;
use folio_ledger::command::Command;
use folio_ledger::digest::Digest;
use folio_ledger::proof::{ProofError, StateProof};
use folio_ledger::state_key::{Relationship, StateKey};
use folio_ledger::transaction::Transaction;

const ITEMS: u32 = 3000;

fn key(number: u32) -> StateKey {
    StateKey::Entity(format!("key {number}").into_bytes())
}

fn relationship(number: u32) -> StateKey {
    StateKey::Relationship(Relationship::new(
        "resource",
        "viewer",
        format!("subject {number}"),
    ))
}

/// A vault of entities and relationships, and its state root.
fn vault(items: u32) -> (Replica, Digest) {
    let mut replica = Replica::with_vault();
    let numbers: Vec<u32> = (0..items).collect();
    for part in numbers.chunks(500) {
        let transaction = part
            .iter()
            .fold(Transaction::new(1), |transaction, number| {
                let relationship =
                    Relationship::new("resource", "viewer", format!("subject {number}"));
                transaction
                    .set(format!("key {number}"), number.to_be_bytes())
                    .relate(relationship)
            });
        replica.commit(transaction);
    }
    let root = replica.vault(1).state_root;
    (replica, root)
}

fn prove(replica: &Replica, key: &StateKey) -> StateProof {
    LedgerView::new(&replica.view())
        .prove(1, key)
        .expect("readable")
}

#[test]
fn what_is_there_is_proved_with_its_content() {
    let (replica, root) = vault(ITEMS);
    for number in (0..ITEMS).step_by(7) {
        let StateKey::Entity(name) = key(number) else {
            unreachable!("an entity")
        };
        let proof = prove(&replica, &key(number));
        let entity = replica.entity(1, &name).expect("it was set");
        assert_eq!(proof.verify_entity(&root, &name, &entity), Ok(()));
        assert_eq!(proof.verify_present(&root, &key(number)), Ok(()));
        assert_eq!(
            proof.verify_absent(&root, &key(number)),
            Err(ProofError::Present(key(number)))
        );
        let mut other = entity;
        other.version += 1;
        assert_eq!(
            proof.verify_entity(&root, &name, &other),
            Err(ProofError::OtherContent(key(number)))
        );
        let proof = prove(&replica, &relationship(number));
        assert_eq!(proof.verify_present(&root, &relationship(number)), Ok(()));
    }
}

#[test]
fn what_is_not_there_is_proved_absent() {
    let (replica, root) = vault(ITEMS);
    for number in (ITEMS..2 * ITEMS).step_by(7) {
        for key in [key(number), relationship(number)] {
            let proof = prove(&replica, &key);
            assert_eq!(proof.verify_absent(&root, &key), Ok(()));
            assert_eq!(
                proof.verify_present(&root, &key),
                Err(ProofError::Absent(key))
            );
        }
    }
}

#[test]
fn vaults_of_every_small_size_prove_presence_and_absence() {
    for items in 0..40 {
        let (replica, root) = vault(items);
        for number in 0..items {
            assert_eq!(
                prove(&replica, &key(number)).verify_present(&root, &key(number)),
                Ok(()),
                "{items} items"
            );
        }
        let absent = key(items);
        assert_eq!(
            prove(&replica, &absent).verify_absent(&root, &absent),
            Ok(()),
            "{items} items"
        );
    }
}

#[test]
fn no_altered_bit_of_a_proof_is_accepted() {
    let (replica, root) = vault(100);
    let key = key(5);
    let proof = prove(&replica, &key);
    let flips = |digest: &Digest| {
        (0..256)
            .map(|bit| {
                let mut flipped = *digest;
                flipped.0[bit / 8] ^= 1 << (bit % 8);
                flipped
            })
            .collect::<Vec<_>>()
    };
    let mut altered = Vec::new();
    for (place, sibling) in proof.siblings.iter().enumerate() {
        for flipped in flips(sibling) {
            let mut other = proof.clone();
            other.siblings[place] = flipped;
            altered.push(other);
        }
    }
    for (place, item) in proof.bucket.iter().enumerate() {
        for (path, content) in flips(&item.path).into_iter().zip(flips(&item.content)) {
            let mut other = proof.clone();
            other.bucket[place].path = path;
            altered.push(other);
            let mut other = proof.clone();
            other.bucket[place].content = content;
            altered.push(other);
        }
    }
    assert!(!altered.is_empty());
    for other in altered {
        assert!(other.content_of(&root, &key).is_err(), "{other:?}");
    }
}

#[test]
fn a_shortened_lengthened_or_reordered_proof_is_refused() {
    let (replica, root) = vault(200);
    let key = key(5);
    let proof = prove(&replica, &key);
    let alter = |change: &dyn Fn(&mut StateProof)| {
        let mut other = proof.clone();
        change(&mut other);
        other.content_of(&root, &key)
    };
    assert!(alter(&|_| ()).is_ok());
    assert!(alter(&|proof| proof.siblings.truncate(proof.siblings.len() - 1)).is_err());
    assert!(alter(&|proof| proof.siblings.rotate_left(1)).is_err());
    assert!(alter(&|proof| proof.siblings.push(Digest::ZERO)).is_err());
    assert!(alter(&|proof| proof.siblings.reverse()).is_err());
    assert!(alter(&|proof| proof.bucket.truncate(proof.bucket.len() - 1)).is_err());
    assert!(alter(&|proof| proof.bucket.reverse()).is_err());
    assert!(alter(&|proof| proof.bucket.clear()).is_err());
    assert!(alter(&|proof| proof.bucket.push(proof.bucket[0])).is_err());
    assert_eq!(
        alter(&|proof| proof.siblings = vec![Digest::ZERO; 256]),
        Err(ProofError::TooLong)
    );
    assert_eq!(
        alter(&|proof| proof.bucket = vec![proof.bucket[0]; 9]),
        Err(ProofError::TooLong)
    );
}

#[test]
fn the_proof_of_one_key_says_nothing_of_a_key_in_another_bucket() {
    let (replica, root) = vault(ITEMS);
    let proof = prove(&replica, &key(0));
    let covered = (0..ITEMS)
        .filter(|&number| proof.content_of(&root, &key(number)).is_ok())
        .count();
    assert!(
        (1..=8).contains(&covered),
        "{covered} of {ITEMS} keys accept the proof of one"
    );
    for number in ITEMS..2 * ITEMS {
        let forged = proof.verify_absent(&root, &key(number));
        assert!(
            forged.is_ok() == (prove(&replica, &key(number)) == proof),
            "{number}: {forged:?}"
        );
    }
}

#[test]
fn a_proof_survives_json_and_stays_small() {
    let (replica, root) = vault(ITEMS);
    let key = key(1);
    let proof = prove(&replica, &key);
    let json = serde_json::to_string(&proof).expect("serialisable");
    let read: StateProof = serde_json::from_str(&json).expect("the same");
    assert_eq!(read.verify_present(&root, &key), Ok(()));
    assert!(proof.siblings.len() * 32 + proof.bucket.len() * 64 < 1200);
}

#[test]
fn a_transaction_is_proved_to_be_in_its_block_and_in_no_other_place() {
    let mut replica = Replica::with_vault();
    let commands: Vec<Command> = (0..11_u8)
        .map(|number| Command::submit(Transaction::new(1).set([number], b"")))
        .collect();
    replica.entry(&commands);
    replica.entry(&commands);
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let header = ledger.block(1, 1).expect("readable").expect("it is there");
    let other = ledger.block(1, 2).expect("readable").expect("it is there");
    let encoded = ledger.encoded_records(1, 1).expect("readable");
    assert_eq!(encoded.len(), 11);
    for (position, transaction) in (0..).zip(&encoded) {
        let proof = ledger
            .prove_transaction(1, 1, position)
            .expect("readable")
            .expect("it is there");
        assert!(proof.verify(&header, transaction));
        assert!(!proof.verify(&header, &encoded[(position as usize + 1) % 11]));
        let moved = folio_ledger::proof::TransactionProof {
            position: (position + 1) % 11,
            ..proof
        };
        assert!(!moved.verify(&header, transaction));
    }
    assert_ne!(
        other.transactions_root, header.transactions_root,
        "the same transactions in the same order did something else"
    );
    assert_eq!(ledger.prove_transaction(1, 1, 11).expect("readable"), None);
    assert_eq!(
        ledger.prove_transaction(1, 0, 0).expect("readable"),
        None,
        "block 0 has no transactions"
    );
}
