//! A recorded log gives the blocks that a second implementation recorded (`folio-proof/tests/vectors/make.py`).

mod common;

use common::Replica;
use folio_ledger::block::BlockHeader;
use folio_ledger::command::Command;
use folio_ledger::digest::Digest;
use folio_ledger::proof::ExtensionProof;
use folio_ledger::record::Origin;
use folio_ledger::verify::{verify_chain, verify_state};
use folio_ledger::{Ledger, LedgerView};
use folio_raft::Applied;
use serde::Deserialize;

#[derive(Deserialize)]
struct EntryCase {
    commands: Vec<Command>,
    block: BlockCase,
}

#[derive(Deserialize)]
struct BlockCase {
    header: BlockHeader,
    encoded: String,
    hash: Digest,
}

#[derive(Deserialize)]
struct ChainCase {
    earlier: BlockHeader,
    later: BlockHeader,
    proof: ExtensionProof,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| digit.to_digit(16).expect("a digit") as u8)
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] * 16 + pair[1])
        .collect()
}

#[test]
fn the_recorded_log_gives_the_recorded_blocks() {
    let entries: Vec<EntryCase> =
        serde_json::from_str(include_str!("../../proof/tests/vectors/history.json"))
            .expect("the vectors");
    let replica = Replica::new();
    let mut expiries = 0;
    for EntryCase { commands, block } in &entries {
        let header = &block.header;
        let at = Applied {
            index: header.log_index,
            term: header.log_term,
            position: 0,
            time: header.time,
        };
        let txn = replica.database.begin_write().expect("in memory");
        Ledger
            .apply_entry(&txn, at, commands)
            .expect("the store is sound");
        txn.commit().expect("in memory");
        let view = replica.view();
        let stored = LedgerView::new(&view)
            .block(1, header.height)
            .expect("readable")
            .expect("it is there");
        assert_eq!(&stored, header);
        assert_eq!(stored.encode(), bytes(&block.encoded));
        assert_eq!(stored.hash(), block.hash);
        let records = LedgerView::new(&view).records(1, header.height);
        let first = records.expect("readable").into_iter().next();
        expiries += u64::from(first.is_some_and(|record| record.origin == Origin::Expiry));
    }
    assert!(expiries > 3, "entities expired in {expiries} blocks");
    assert_eq!(entries.len(), 25);
    let chain: Vec<ChainCase> =
        serde_json::from_str(include_str!("../../proof/tests/vectors/chain.json"))
            .expect("the vectors");
    let view = replica.view();
    for ChainCase {
        earlier,
        later,
        proof,
    } in chain
    {
        let made = LedgerView::new(&view).prove_extension(1, earlier.height, later.height);
        assert_eq!(made.expect("readable"), Some(proof));
    }
    verify_chain(&replica.view(), 1, &mut |_, _| {}).expect("sound");
    verify_state(&replica.view(), 1, &mut |_, _| {}).expect("sound");
}
