//! Proofs as files: each claim is checked by the hash that it is about, and no change of it passes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::Replica;
use folio_ledger::LedgerView;
use folio_ledger::block::BlockHeader;
use folio_ledger::command::Command;
use folio_ledger::digest::Digest;
use folio_ledger::document::{Claim, Document, DocumentError, Trusted, VERSION};
use folio_ledger::state_key::{Relationship, StateKey};
use folio_ledger::transaction::Transaction;
use serde_json::Value;

const BLOCKS: u64 = 20;

fn viewer(user: u64) -> Relationship {
    Relationship::new("doc", "viewer", format!("user:{user}"))
}

/// A vault of twenty blocks, each of several transactions.
fn ledger() -> Replica {
    let mut replica = Replica::with_vault();
    for number in 0..BLOCKS {
        let commands = (0..3).map(|part| {
            let key = format!("key {}", 3 * number + part);
            Command::submit(Transaction::new(1).set(key, [7]).relate(viewer(number)))
        });
        replica.entry(&commands.collect::<Vec<_>>());
    }
    replica
}

/// One document of each kind.
fn documents(replica: &Replica) -> Vec<Document> {
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let header = |height| ledger.block(1, height).unwrap().unwrap();
    let prove = |key: &StateKey| ledger.prove(1, key).unwrap();
    let entity = |key: &[u8]| Claim::Entity {
        key: key.to_vec(),
        entity: ledger.entity(1, key).unwrap().map(Into::into),
        proof: prove(&StateKey::Entity(key.to_vec())),
    };
    let relationship = |relationship: Relationship| Claim::Relationship {
        exists: ledger.relationship_exists(1, &relationship).unwrap(),
        proof: prove(&StateKey::Relationship(relationship.clone())),
        relationship,
    };
    let claims = vec![
        entity(b"key 7"),
        entity(b"nothing"),
        relationship(viewer(3)),
        relationship(viewer(99)),
        Claim::Transaction {
            block: header(5),
            chain: ledger.prove_block(1, 5, BLOCKS).unwrap().unwrap(),
            record: ledger.encoded_records(1, 5).unwrap().remove(1),
            proof: ledger.prove_transaction(1, 5, 1).unwrap().unwrap(),
        },
        Claim::Block {
            block: header(6),
            proof: ledger.prove_block(1, 6, BLOCKS).unwrap().unwrap(),
        },
        Claim::Extension {
            earlier: header(7),
            proof: ledger.prove_extension(1, 7, BLOCKS).unwrap().unwrap(),
        },
    ];
    let document = |claim| Document {
        folio_proof: VERSION,
        head: header(BLOCKS),
        claim,
    };
    claims.into_iter().map(document).collect()
}

fn head(replica: &Replica) -> BlockHeader {
    LedgerView::new(&replica.view())
        .block(1, BLOCKS)
        .unwrap()
        .unwrap()
}

#[test]
fn each_claim_is_checked_by_the_hash_of_the_block_it_leads_to() {
    let replica = ledger();
    let head = head(&replica);
    for document in documents(&replica) {
        let text = serde_json::to_string(&document).unwrap();
        let read: Document = serde_json::from_str(&text).unwrap();
        assert_eq!(read, document);
        assert_eq!(read.verify(&Trusted::Block(head.hash())), Ok(()));
        let other = Digest::of(&[b"another"]);
        assert!(matches!(
            read.verify(&Trusted::Block(other)),
            Err(DocumentError::OtherBlock { trusted, .. }) if trusted == other
        ));
    }
}

#[test]
fn a_state_root_proves_the_state_and_an_earlier_hash_that_the_chain_only_grew() {
    let replica = ledger();
    let head = head(&replica);
    let earlier = LedgerView::new(&replica.view())
        .block(1, 7)
        .unwrap()
        .unwrap();
    for document in documents(&replica) {
        let by_root = document.verify(&Trusted::StateRoot(head.state_root));
        let of_state = matches!(
            document.claim,
            Claim::Entity { .. } | Claim::Relationship { .. }
        );
        assert_eq!(by_root.is_ok(), of_state);
        let by_earlier = document.verify(&Trusted::Earlier(earlier.hash()));
        let grew = matches!(document.claim, Claim::Extension { .. });
        assert_eq!(by_earlier.is_ok(), grew);
        if !of_state {
            assert!(matches!(by_root, Err(DocumentError::NeedsBlock(_))));
        }
        let other = Digest::of(&[b"another"]);
        assert!(document.verify(&Trusted::StateRoot(other)).is_err());
        assert!(document.verify(&Trusted::Earlier(other)).is_err());
    }
}

/// Every value in a document that is neither a list nor an object, changed a little, one at a time.
fn altered(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(fields) => {
            let fields_with = |name: &String, changed: Value| {
                let mut fields = fields.clone();
                fields.insert(name.clone(), changed);
                Value::Object(fields)
            };
            let each = fields.iter().flat_map(|(name, field)| {
                altered(field)
                    .into_iter()
                    .map(move |changed| fields_with(name, changed))
            });
            each.collect()
        }
        Value::Array(items) => {
            let mut all: Vec<Value> = (0..items.len())
                .flat_map(|place| {
                    altered(&items[place]).into_iter().map(move |changed| {
                        let mut items = items.clone();
                        items[place] = changed;
                        Value::Array(items)
                    })
                })
                .collect();
            if let Some((_, rest)) = items.split_first() {
                all.push(rest.to_vec().into());
                all.push([items.clone(), vec![items[0].clone()]].concat().into());
            }
            all
        }
        Value::String(text) => {
            let mut digits = text.clone();
            let last = digits.pop().unwrap_or('a');
            digits.push(if last == '0' { '1' } else { '0' });
            vec![digits.into(), format!("{text}00").into()]
        }
        Value::Number(number) => vec![(number.as_u64().unwrap() + 1).into()],
        Value::Bool(yes) => vec![(!yes).into()],
        Value::Null => vec![5.into()],
    }
}

#[test]
fn no_altered_document_is_accepted() {
    let replica = ledger();
    let trusted = Trusted::Block(head(&replica).hash());
    let mut tried = 0;
    for document in documents(&replica) {
        for changed in altered(&serde_json::to_value(&document).unwrap()) {
            tried += 1;
            // Some say the same: a relationship that is not there has no neighbour of its name either.
            let Ok(read) = serde_json::from_value::<Document>(changed) else {
                continue;
            };
            let same_bucket = match (&read.claim, &document.claim) {
                (
                    Claim::Entity {
                        entity: None,
                        proof,
                        ..
                    },
                    Claim::Entity { proof: before, .. },
                ) => proof == before,
                (
                    Claim::Relationship {
                        exists: false,
                        proof,
                        ..
                    },
                    Claim::Relationship { proof: before, .. },
                ) => proof == before,
                _ => false,
            };
            let verdict = read.verify(&trusted);
            assert!(
                verdict.is_err() || (same_bucket && read.head == document.head),
                "{read:?}"
            );
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn what_is_no_document_is_an_error_and_no_panic() {
    let replica = ledger();
    let text = serde_json::to_string(&documents(&replica)[4]).unwrap();
    for length in (0..text.len()).step_by(7) {
        assert!(serde_json::from_str::<Document>(&text[..length]).is_err());
    }
    let later = text.replacen("\"folio_proof\":1", "\"folio_proof\":2", 1);
    let later: Document = serde_json::from_str(&later).unwrap();
    let trusted = Trusted::Block(head(&replica).hash());
    assert_eq!(later.verify(&trusted), Err(DocumentError::Version(2)));
}
