//! A vault verifies from its first block to its last, and a planted change of any row is found.

mod common;

use common::Replica;
use folio_ledger::LedgerView;
use folio_ledger::block::BlockHeader;
use folio_ledger::command::Command;
use folio_ledger::digest::Digest;
use folio_ledger::merkle;
use folio_ledger::record::Origin;
use folio_ledger::response::{Outcome, Response};
use folio_ledger::state_key::Relationship;
use folio_ledger::transaction::{SessionSequence, Transaction};
use folio_ledger::verify::{VerifyError, verify_chain, verify_shared, verify_state};

/// Two vaults with some history: entities that expire and others, relationships, deletions,
/// sessions.
fn history() -> Replica {
    let mut replica = Replica::new();
    replica.one(Command::create_vault_retaining("test", 1_000));
    replica.one(Command::create_vault("other"));
    let session = replica.open_session();
    for number in 0..30_u8 {
        let in_both = |vault| {
            let relationship =
                Relationship::new(format!("r{}", number % 4), "viewer", format!("s{number}"));
            let transaction = Transaction::new(vault)
                .set([number], [number])
                .relate(relationship);
            if number % 3 == 0 {
                transaction.set_until([100 + number], b"", 1 << 50)
            } else {
                transaction
            }
        };
        let first = Command::submit(in_both(1)).in_session(session, u64::from(number) + 1);
        replica.entry(&[
            first,
            Command::submit(in_both(2)),
            Command::submit(Transaction::new(1).delete([number / 2])),
        ]);
    }
    replica
}

fn verify(replica: &Replica, vault: u64) -> Result<(), VerifyError> {
    let view = replica.view();
    verify_chain(&view, vault, &mut |_, _| {})?;
    verify_state(&view, vault, &mut |_, _| {})?;
    verify_shared(&view)
}

#[test]
fn nothing_is_added_to_a_vault_that_claims_the_greatest_height() {
    for retention in [0, 5] {
        let mut replica = Replica::new();
        replica.one(Command::create_vault_retaining("v", retention));
        replica.commit(Transaction::new(1).set("a", "1"));
        replica.claim_the_greatest_height("v");
        let set = Command::submit(Transaction::new(1).set("a", "2"));
        let refused = replica.try_entry(&[set]).unwrap_err().to_string();
        assert!(
            refused.contains("the height of vault 1 is 18446744073709551615"),
            "{refused}"
        );
    }
}

#[test]
fn a_sound_ledger_verifies_and_reports_what_it_has() {
    let replica = history();
    let view = replica.view();
    let info = replica.vault(1);
    let mut steps = Vec::new();
    let chain =
        verify_chain(&view, 1, &mut |done, total| steps.push((done, total))).expect("sound");
    assert_eq!((chain.blocks, chain.transactions), (31, 60));
    assert_eq!(
        (chain.head, chain.state_root),
        (info.block_hash, info.state_root)
    );
    assert_eq!(steps.len(), 31);
    assert_eq!(steps.last(), Some(&(31, 31)));
    let mut last = None;
    let state =
        verify_state(&view, 1, &mut |done, total| last = Some((done, total))).expect("sound");
    assert_eq!(
        (state.entities, state.relationships),
        (info.entities, info.relationships)
    );
    assert_eq!(state.state_root, info.state_root);
    let total = 2 * (info.entities + info.relationships);
    assert_eq!(last, Some((total, total)));
    verify(&replica, 2).expect("sound");
    assert!(matches!(
        verify_chain(&view, 3, &mut |_, _| {}),
        Err(VerifyError::UnknownVault(3))
    ));
}

#[test]
fn each_header_continues_the_one_before() {
    let replica = history();
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let headers: Vec<BlockHeader> = (0..=30)
        .map(|height| {
            ledger
                .block(1, height)
                .expect("readable")
                .expect("it is there")
        })
        .collect();
    assert_eq!(headers[0].previous, Digest::ZERO);
    assert_eq!(
        (headers[0].transactions, headers[0].state_root),
        (0, merkle::EMPTY)
    );
    let hashes: Vec<Digest> = headers.iter().map(BlockHeader::hash).collect();
    for (height, header) in headers.iter().enumerate() {
        assert_eq!(header.height, height as u64);
        assert_eq!(header.history_root, merkle::root(&hashes[..height]));
        if height > 0 {
            assert_eq!(header.previous, hashes[height - 1]);
            assert!(header.time > headers[height - 1].time);
        }
    }
    assert_eq!(ledger.block(1, 31).expect("readable"), None);
}

#[test]
fn a_vault_that_an_entry_does_not_change_gets_no_block() {
    let mut replica = history();
    let (one, other) = (replica.vault(1), replica.vault(2));
    replica.commit(Transaction::new(1).set(b"k", b""));
    replica.entry(&[]);
    replica.one(Command::open_session());
    assert_eq!(replica.vault(1).height, one.height + 1);
    assert_eq!(replica.vault(2), other);
}

#[test]
fn transactions_read_back_from_their_block() {
    let mut replica = Replica::with_vault();
    let session = replica.open_session();
    let transactions = [
        Transaction::new(1).set(b"a", b"1"),
        Transaction::new(1).delete(b"a"),
    ];
    let responses = replica.entry(&[
        Command::submit(transactions[0].clone()).in_session(session, 9),
        Command::submit(transactions[1].clone()),
    ]);
    assert!(matches!(&responses[1], Response::Committed(receipt) if receipt.position == 1));
    let recorded = LedgerView::new(&replica.view())
        .records(1, 1)
        .expect("readable");
    assert_eq!(
        recorded
            .iter()
            .map(|recorded| &recorded.transaction)
            .collect::<Vec<_>>(),
        [&transactions[0], &transactions[1]]
    );
    let place = SessionSequence {
        session,
        sequence: 9,
    };
    assert_eq!(recorded[0].origin, Origin::Session(place));
    assert_eq!(recorded[1].origin, Origin::Client);
    assert_eq!(recorded[0].outcomes, [Outcome::EntityCreated]);
    assert_eq!(
        recorded[1].outcomes,
        [Outcome::EntityDeleted { version: 1 }]
    );
}

#[test]
fn every_planted_change_of_a_value_and_every_missing_row_is_found() {
    let sound = history();
    verify(&sound, 1).expect("sound before anything is planted");
    let checked = [
        "ledger_entities",
        "ledger_expiries",
        "ledger_versions",
        "ledger_version_heights",
        "ledger_relationships_by_resource",
        "ledger_relationships_by_subject",
        "ledger_blocks",
        "ledger_transactions",
        "ledger_history",
        "ledger_state_items",
        "ledger_state_fans",
        "ledger_session_uses",
    ];
    let mut planted = 0;
    for table in checked {
        let rows = sound.rows().remove(table).expect("a table of the ledger");
        assert!(!rows.is_empty(), "{table}");
        for (key, value) in &rows {
            let detected = |replacement: Option<Vec<u8>>| {
                sound.tamper(table, |row, old| {
                    if row == key {
                        replacement.clone()
                    } else {
                        Some(old)
                    }
                });
                let found = verify(&sound, 1).is_err() || verify(&sound, 2).is_err();
                insert(&sound, table, key, value);
                found
            };
            assert!(detected(None), "a row of {table} is missing: {key:?}");
            for place in [0, value.len() / 2, value.len().saturating_sub(1)] {
                let mut altered = value.clone();
                let Some(byte) = altered.get_mut(place) else {
                    continue;
                };
                *byte ^= 1;
                assert!(
                    detected(Some(altered)),
                    "byte {place} of a row of {table} was altered: {key:?}"
                );
                planted += 1;
            }
        }
    }
    assert!(planted > 500, "{planted} changes");
    verify(&sound, 1).expect("sound after everything was put back");
    verify(&sound, 2).expect("sound after everything was put back");
}

fn insert(replica: &Replica, table: &str, key: &[u8], value: &[u8]) {
    let tables = replica.view().tables().expect("in memory");
    let table = tables
        .iter()
        .find(|found| found.name == table)
        .expect("a table of the ledger");
    let txn = replica.database.begin_write().expect("in memory");
    txn.untyped(table)
        .expect("in memory")
        .insert(key, value)
        .expect("in memory");
    txn.commit().expect("in memory");
}

#[test]
fn a_rewritten_header_is_named_by_its_height() {
    let replica = history();
    let victim = LedgerView::new(&replica.view())
        .block(1, 7)
        .expect("readable")
        .expect("it is there");
    let forged = BlockHeader {
        time: victim.time + 1,
        ..victim.clone()
    }
    .encode();
    replica.tamper("ledger_blocks", |_, row| {
        Some(if row == victim.encode() {
            forged.clone()
        } else {
            row
        })
    });
    let error =
        verify_chain(&replica.view(), 1, &mut |_, _| {}).expect_err("a header was rewritten");
    // The header itself is well formed: the record of its hash in the history tree gives it away.
    assert!(
        error
            .to_string()
            .starts_with("vault 1, block 7: the history tree is "),
        "{error}"
    );
}

#[test]
fn a_block_after_the_last_is_found() {
    let replica = history();
    let rows = replica
        .rows()
        .remove("ledger_blocks")
        .expect("a table of the ledger");
    // Keys are eight bytes of vault and eight of height.
    let (last, row) = rows
        .iter()
        .rfind(|(key, _)| key[7] == 1)
        .expect("the blocks of vault 1");
    let mut beyond = last.clone();
    beyond[15] += 1;
    insert(&replica, "ledger_blocks", &beyond, row);
    let error = verify_chain(&replica.view(), 1, &mut |_, _| {}).expect_err("one block too many");
    assert!(error.to_string().contains("after the last is 1"), "{error}");
}

#[test]
fn a_row_behind_the_ledgers_back_is_named_by_its_key() {
    let replica = history();
    replica.tamper("ledger_entities", |_, mut row| {
        if row.ends_with(&[29]) {
            *row.last_mut().expect("not empty") = 30;
        }
        Some(row)
    });
    let error =
        verify_state(&replica.view(), 1, &mut |_, _| {}).expect_err("an entity was altered");
    assert!(error.to_string().contains("entity \"\\x1d\""), "{error}");
}

#[test]
fn a_past_version_that_nothing_came_before_is_compared_with_the_block_that_ended_it() {
    let refused = |replica: &Replica| {
        let error = verify_chain(&replica.view(), 1, &mut |_, _| {});
        error.expect_err("a past version was altered").to_string()
    };
    // It was there before the vault kept its past.
    let mut replica = Replica::with_vault();
    replica.commit(Transaction::new(1).set(b"k", b"first"));
    replica.one(Command::set_retention(1, 5));
    replica.commit(Transaction::new(1).set(b"k", b"second"));
    verify(&replica, 1).expect("sound before anything is planted");
    let version = |version: u64| {
        move |_: &[u8], mut row: Vec<u8>| {
            row[..8].copy_from_slice(&version.to_be_bytes());
            Some(row)
        }
    };
    replica.tamper("ledger_versions", version(7));
    let error = refused(&replica);
    assert!(
        error.ends_with("before block 2: its version is 7, it should be 1"),
        "{error}"
    );
    replica.tamper("ledger_versions", version(1));
    verify(&replica, 1).expect("sound after everything was put back");

    // It was never there.
    let mut replica = Replica::new();
    replica.one(Command::create_vault_retaining("test", 5));
    replica.commit(Transaction::new(1).set(b"k", b"first"));
    let present = replica.rows()["ledger_entities"][0].1.clone();
    replica.tamper("ledger_versions", |_, _| Some(present.clone()));
    let error = refused(&replica);
    assert!(
        error.ends_with("its version is 1, it should be none: it was not there"),
        "{error}"
    );
}

#[test]
fn a_vault_has_no_two_blocks_of_one_log_entry() {
    let mut replica = Replica::with_vault();
    replica.commit(Transaction::new(1).set(b"k", b"first"));
    replica.index -= 1;
    replica.commit(Transaction::new(1).set(b"k", b"second"));
    let error = verify_chain(&replica.view(), 1, &mut |_, _| {}).expect_err("an entry came twice");
    assert_eq!(
        error.to_string(),
        "vault 1, block 2: the log index is 2, it should be 3"
    );
}

#[test]
fn a_vault_that_claims_the_greatest_height_misses_a_block() {
    let replica = history();
    replica.claim_the_greatest_height("test");
    let error = verify_chain(&replica.view(), 1, &mut |_, _| {}).expect_err("it has 31 blocks");
    assert_eq!(
        error.to_string(),
        "vault 1, block 31: the block is missing, it should be there"
    );
}
