//! Proofs about chains convince verifiers: ours, and one that nobody here wrote (`ct-merkle`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::Replica;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use folio_ledger::LedgerView;
use folio_ledger::block::BlockHeader;
use folio_ledger::command::Command;
use folio_ledger::digest::Digest;
use folio_ledger::proof::{BlockProof, ExtensionProof};
use folio_ledger::transaction::Transaction;
use sha2::Sha256;

const BLOCKS: u64 = 40;

fn replica() -> Replica {
    let mut replica = Replica::with_vault();
    for number in 0..BLOCKS as u8 {
        let set = |key| Command::submit(Transaction::new(1).set([key], [number]));
        replica.entry(&[set(1), set(2), set(3)]);
    }
    replica
}

fn header(ledger: &LedgerView<'_>, height: u64) -> BlockHeader {
    ledger.block(1, height).unwrap().unwrap()
}

fn root(hash: Digest, leaves: u64) -> RootHash<Sha256> {
    RootHash::new(hash.0.into(), leaves)
}

fn bytes(path: &[Digest]) -> Vec<u8> {
    path.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn transactions_blocks_and_extensions_convince_a_verifier_of_rfc_6962() {
    let replica = replica();
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    for head in 1..=BLOCKS {
        let later = header(&ledger, head);
        let history = root(later.history_root, head);
        for height in 0..head {
            let earlier = header(&ledger, height);
            let proof = ledger.prove_extension(1, height, head).unwrap().unwrap();
            let inclusion = InclusionProof::try_from_bytes(bytes(&proof.block.path)).unwrap();
            history
                .verify_inclusion(&earlier.encode(), height, &inclusion)
                .unwrap();
            assert!(proof.block.verify(&later, &earlier.hash()));
            assert!(proof.verify(&earlier, &later));
            if height > 0 {
                let path = ConsistencyProof::try_from_bytes(bytes(&proof.history)).unwrap();
                let before = root(earlier.history_root, height);
                history.verify_consistency(&before, &path).unwrap();
            }
        }
        let records = ledger.encoded_records(1, head).unwrap();
        let transactions = root(later.transactions_root, 3);
        for (position, record) in (0..).zip(&records) {
            let proof = ledger
                .prove_transaction(1, head, position)
                .unwrap()
                .unwrap();
            let path = InclusionProof::try_from_bytes(bytes(&proof.path)).unwrap();
            transactions
                .verify_inclusion(record, position.into(), &path)
                .unwrap();
        }
    }
}

#[test]
fn a_chain_extends_itself_without_a_path() {
    let replica = replica();
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let head = header(&ledger, BLOCKS);
    let proof = ledger.prove_extension(1, BLOCKS, BLOCKS).unwrap().unwrap();
    assert!(proof.block.path.is_empty() && proof.history.is_empty());
    assert!(proof.verify(&head, &head));
}

#[test]
fn what_does_not_follow_is_not_proved() {
    let replica = replica();
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    assert_eq!(ledger.prove_block(1, 5, 4).unwrap(), None);
    assert_eq!(ledger.prove_block(1, 5, BLOCKS + 1).unwrap(), None);
    assert_eq!(ledger.prove_extension(1, 5, 4).unwrap(), None);
    assert_eq!(ledger.prove_extension(2, 0, 0).unwrap(), None);
}

#[test]
fn a_forged_chain_is_refused_whichever_part_of_it_was_forged() {
    let replica = replica();
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let (earlier, later) = (header(&ledger, 13), header(&ledger, 37));
    let proof = ledger.prove_extension(1, 13, 37).unwrap().unwrap();
    assert!(proof.verify(&earlier, &later));
    let mut forged = Vec::new();
    for (place, hash) in proof.block.path.iter().enumerate() {
        let mut altered = proof.clone();
        altered.block.path[place] = Digest::of(&[hash.as_bytes()]);
        forged.push((altered, earlier.clone(), later.clone()));
    }
    for (place, hash) in proof.history.iter().enumerate() {
        let mut altered = proof.clone();
        altered.history[place] = Digest::of(&[hash.as_bytes()]);
        forged.push((altered, earlier.clone(), later.clone()));
    }
    let with = |proof: &ExtensionProof, earlier: BlockHeader, later: BlockHeader| {
        (proof.clone(), earlier, later)
    };
    let mut other = earlier.clone();
    other.state_root = Digest::ZERO;
    forged.push(with(&proof, other, later.clone()));
    let mut other = later.clone();
    other.history_root = Digest::ZERO;
    forged.push(with(&proof, earlier.clone(), other));
    let mut other = later.clone();
    other.vault = 2;
    forged.push(with(&proof, earlier.clone(), other));
    forged.push(with(&proof, later.clone(), earlier.clone()));
    forged.push(with(&proof, earlier.clone(), header(&ledger, 36)));
    forged.push(with(&proof, header(&ledger, 12), later.clone()));
    for (number, (proof, earlier, later)) in forged.iter().enumerate() {
        assert!(!proof.verify(earlier, later), "forgery {number}");
    }

    // A header that lies about its own history is in the later chain, and is refused all the same.
    let lie = BlockHeader {
        history_root: Digest::ZERO,
        ..earlier
    };
    let grown = |leaves: &[Digest]| folio_ledger::merkle::root(leaves);
    let mut hashes: Vec<_> = (0..37)
        .map(|height| header(&ledger, height).hash())
        .collect();
    hashes[13] = lie.hash();
    let later = BlockHeader {
        history_root: grown(&hashes),
        ..later
    };
    let path = folio_ledger::merkle::inclusion_path(&hashes, 13).unwrap();
    let block = BlockProof { height: 13, path };
    assert!(block.verify(&later, &lie.hash()));
    let proof = ExtensionProof { block, ..proof };
    assert!(!proof.verify(&lie, &later));
}
