//! A history is carried out again from its blocks, and whatever is not as it was is named exactly.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::Replica;
use folio_ledger::block::BlockHeader;
use folio_ledger::command::Command;
use folio_ledger::replay::{BlockReplay, Difference, Scope, compare, replay_blocks};
use folio_ledger::response::Outcome;
use folio_ledger::state_key::{Relationship, StateKey};
use folio_ledger::transaction::{Operation, Requirement, Transaction};
use folio_ledger::{LedgerView, Order, RelationshipList};
use folio_store::Database;
use folio_store::storage::SplitMix64;

const SEED: u64 = 20;

fn viewer(document: u64, user: u64) -> Relationship {
    Relationship::new(format!("doc:{document}"), "viewer", format!("user:{user}"))
}

fn key(number: u64) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

/// The commands of a history, entry by entry: three vaults, sessions, refusals, expiries.
fn commands() -> Vec<Vec<Command>> {
    let mut random = SplitMix64::new(SEED);
    let mut entries = vec![vec![
        Command::create_vault("one"),
        Command::open_session(),
        Command::create_vault_retaining("two", 5),
    ]];
    let masses = (0..300_u16).fold(Transaction::new(2), |t, number| {
        t.set_until(number.to_be_bytes(), [], 1_080_000)
    });
    entries.push(vec![Command::submit(masses)]);
    for sequence in 1..150_u64 {
        let mut commands = Vec::new();
        if sequence == 40 {
            commands.push(Command::create_vault("three"));
        }
        for _ in 0..random.below(4) {
            let mut transaction = Transaction::new(1 + random.below(3));
            for _ in 0..1 + random.below(5) {
                let key = key(random.below(80));
                transaction = match random.below(8) {
                    0..4 => transaction.set(key, random.below(100).to_be_bytes()),
                    4 => transaction.set_until(key, b"!", 1_000_000 + random.below(200_000)),
                    5 => transaction.delete(key),
                    6 => transaction.relate(viewer(random.below(5), random.below(20))),
                    _ => transaction
                        .require_entity(key.clone(), Requirement::MustExist)
                        .delete(key),
                };
            }
            commands.push(Command::submit(transaction));
        }
        if random.one_in(3) {
            let once = Transaction::new(1).set(b"once", sequence.to_be_bytes());
            commands.push(Command::submit(once).in_session(1, sequence));
        }
        entries.push(commands);
    }
    entries
}

fn history() -> Replica {
    let mut replica = Replica::new();
    for commands in commands() {
        replica.entry(&commands);
    }
    replica
}

fn replay_from(replica: &Replica, scratch: &Database) -> BlockReplay {
    println!("seed {SEED}");
    let with_the_log = &mut |_| None;
    replay_blocks(
        &replica.view(),
        scratch,
        with_the_log,
        &mut |_, done, total| assert!(done <= total),
    )
    .unwrap()
}

fn replay(replica: &Replica) -> BlockReplay {
    replay_from(replica, &Database::in_memory().unwrap())
}

fn difference(replica: &Replica) -> Difference {
    let difference = replay(replica).difference.expect("there is one");
    println!("{difference}");
    difference
}

/// Changes the only row of a table whose encoded key ends in `key`.
fn alter(replica: &Replica, table: &str, key: &[u8], change: impl Fn(&mut Vec<u8>)) {
    let mut altered = 0;
    replica.tamper(table, |found, mut row| {
        if found.ends_with(key) {
            change(&mut row);
            altered += 1;
        }
        Some(row)
    });
    assert_eq!(altered, 1, "{table}");
}

/// The encoded end of a key of vault 1.
fn block_key(vault: u64, height: u64) -> Vec<u8> {
    [vault.to_be_bytes(), height.to_be_bytes()].concat()
}

#[test]
fn a_history_without_a_difference_has_none_from_its_beginning_and_from_any_earlier_state() {
    let whole = history();
    let report = replay(&whole);
    assert_eq!(report.difference, None);
    let heights: u64 = (1..=3).map(|vault| whole.vault(vault).height + 1).sum();
    assert_eq!((report.vaults, report.blocks), (3, heights));
    assert!(!report.vaults_deleted && report.transactions > 150);
    let mut earlier = Replica::new();
    for (entry, commands) in (1..).zip(commands()) {
        if entry % 20 == 3 {
            let scratch = Database::in_memory().unwrap();
            copy(&earlier.database, &scratch);
            let report = replay_from(&whole, &scratch);
            assert_eq!(report.difference, None, "from entry {entry}");
            let left: u64 = (1..=3)
                .map(|vault| whole.vault(vault).height + 1)
                .sum::<u64>()
                - earlier_heights(&earlier);
            assert_eq!(report.blocks, left);
        }
        earlier.entry(&commands);
    }
}

fn earlier_heights(replica: &Replica) -> u64 {
    let view = replica.view();
    let vaults = LedgerView::new(&view).vaults(0, 10).unwrap();
    vaults.iter().map(|info| info.height + 1).sum()
}

fn copy(from: &Database, to: &Database) {
    let view = from.begin_read().unwrap();
    let txn = to.begin_write().unwrap();
    for table in view.tables().unwrap() {
        let mut rows = txn.untyped(&table).unwrap();
        for row in view.untyped(&table).unwrap().iter().unwrap() {
            let (key, value) = row.unwrap();
            rows.insert(key.as_slice(), value.as_slice()).unwrap();
        }
    }
    txn.commit().unwrap();
}

#[test]
fn an_altered_entity_is_named_with_its_bucket() {
    let replica = history();
    alter(&replica, "ledger_entities", b"\x01once\0\0", |row| {
        *row.last_mut().unwrap() ^= 1
    });
    let found = difference(&replica);
    let key = StateKey::Entity(b"once".to_vec());
    assert_eq!(
        (found.vault, found.height),
        (Some(1), Some(replica.vault(1).height))
    );
    assert_eq!(
        (&found.what[..], &found.key),
        ("the entity", &Some(key.clone()))
    );
    let bits: String = (0..found.bucket.as_ref().unwrap().len() as u16)
        .map(|bit| if key.path().bit(bit) { '1' } else { '0' })
        .collect();
    assert_eq!(found.bucket, Some(bits.clone()));
    // It is the bucket that holds it: the proof of the key has as many siblings.
    let proof = LedgerView::new(&replica.view()).prove(1, &key).unwrap();
    assert_eq!(proof.siblings.len(), bits.len());
}

#[test]
fn a_missing_and_an_invented_relationship_are_named() {
    let replica = history();
    let gone = relationships(&replica, 1)[3].clone();
    for table in [
        "ledger_relationships_by_resource",
        "ledger_relationships_by_subject",
    ] {
        let replica = history();
        replica.tamper(table, |key, row| (!is_of(key, &gone)).then_some(row));
        let found = difference(&replica);
        assert_eq!(found.key, Some(StateKey::Relationship(gone.clone())));
        assert!(found.what.ends_with(if table.ends_with("subject") {
            "subject"
        } else {
            "resource"
        }));
        assert_eq!(
            (&found.stored[..], &found.replayed[..]),
            ("no row", "a row")
        );
    }
}

fn relationships(replica: &Replica, vault: u64) -> Vec<Relationship> {
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let page = ledger.relationships(vault, RelationshipList::All, Order::Forwards, None, 1000);
    page.unwrap().items
}

/// Whether an encoded key of vault 1 is that of a relationship, in either index.
fn is_of(key: &[u8], relationship: &Relationship) -> bool {
    let names: Vec<&[u8]> = key[8..]
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .collect();
    let wanted = [
        &relationship.resource,
        &relationship.relation,
        &relationship.subject,
    ];
    key.starts_with(&1_u64.to_be_bytes())
        && wanted.iter().all(|name| names.contains(&name.as_bytes()))
}

#[test]
fn every_altered_field_of_a_header_is_named_and_told_from_a_chain_that_went_another_way() {
    let height = 20;
    let fields = [
        (25, "the log index, the term or the time in the header"),
        (40, "the log index, the term or the time in the header"),
        (41, "the previous block's hash"),
        (73, "the history root"),
        (108, "the number of transactions"),
        (109, "the transactions root"),
        (148, "the number of entities"),
        (156, "the number of relationships"),
        (188, "the state root"),
    ];
    for (byte, what) in fields {
        for height in [height, history().vault(1).height] {
            let replica = history();
            alter(&replica, "ledger_blocks", &block_key(1, height), |row| {
                row[byte] ^= 1
            });
            let found = difference(&replica);
            assert_eq!(
                (found.vault, found.height),
                (Some(1), Some(height)),
                "byte {byte}"
            );
            let of_the_record = "the hash of the last block in the record of the vault";
            assert!(
                found.what == what || (height > 20 && found.what == of_the_record),
                "byte {byte}: {found}"
            );
        }
    }
}

#[test]
fn an_altered_item_and_altered_hashes_of_the_commitment_are_named_with_their_bucket() {
    let replica = history();
    let key = StateKey::Entity(b"once".to_vec());
    let proof = LedgerView::new(&replica.view()).prove(1, &key).unwrap();
    alter(&replica, "ledger_state_items", &key.path().0, |row| {
        row[31] ^= 1
    });
    let found = difference(&replica);
    assert_eq!((found.vault, found.key), (Some(1), Some(key.clone())));
    assert_eq!(
        found.what,
        format!("the item {} of the commitment", key.path())
    );
    assert_eq!(found.bucket.unwrap().len(), proof.siblings.len());

    let replica = history();
    let fans = replica.rows()["ledger_state_fans"].clone();
    let (fan, _) = fans.last().unwrap();
    alter(&replica, "ledger_state_fans", fan, |row| row[0] ^= 1);
    let found = difference(&replica);
    assert_eq!(found.what, "the hashes of the commitment below this prefix");
    assert!(found.bucket.is_some());
}

/// A block of vault 1 with several transactions, and what its log entry was.
fn block_of_several(replica: &Replica) -> BlockHeader {
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let mut blocks = (30..).map(|height| ledger.block(1, height).unwrap().unwrap());
    blocks.find(|block| block.transactions > 1).unwrap()
}

#[test]
fn an_altered_transaction_is_named_by_the_log_and_without_it_by_what_it_changes() {
    let BlockHeader {
        height, log_index, ..
    } = block_of_several(&history());
    let entries = commands();
    let position = 1_u32;
    let place = [block_key(1, height), position.to_be_bytes().to_vec()].concat();
    // A record that still decodes, of a transaction that sets one thing more.
    let replica = history();
    let mut record = LedgerView::new(&replica.view())
        .records(1, height)
        .unwrap()
        .remove(1);
    record.transaction = record.transaction.set(b"planted", b"");
    record.outcomes.push(Outcome::EntityCreated);
    alter(&replica, "ledger_transactions", &place, |row| {
        *row = record.encode()
    });
    let mut log = |index: u64| (index == log_index).then(|| entries[index as usize - 1].clone());
    let scratch = Database::in_memory().unwrap();
    let report = replay_blocks(&replica.view(), &scratch, &mut log, &mut |_, _, _| ()).unwrap();
    let found = report.difference.unwrap();
    assert_eq!((found.vault, found.height), (Some(1), Some(height)));
    assert_eq!(found.what, "transaction 1");

    let found = difference(&replica);
    assert_eq!((found.vault, found.height), (Some(1), Some(height)));
    assert_eq!(found.what, "the transactions");
    assert_eq!(found.key, Some(StateKey::Entity(b"planted".to_vec())));
    assert!(found.note.unwrap().contains("transaction 1 of the block"));

    // One that says of an operation that it did something else.
    let replica = history();
    alter(&replica, "ledger_transactions", &place, |row| {
        *row.last_mut().unwrap() ^= 1
    });
    let found = difference(&replica);
    assert_eq!((found.vault, found.height), (Some(1), Some(height)));
    assert!(
        found.what.starts_with("what operation ") && found.what.ends_with(" of transaction 1 did"),
        "{found}"
    );
    assert!(found.key.is_some() && found.bucket.is_some());

    // One that does not decode, and one that is gone.
    let replica = history();
    alter(&replica, "ledger_transactions", &place, |row| row[0] ^= 1);
    assert_eq!(difference(&replica).what, "transaction 1");
    let replica = history();
    replica.tamper("ledger_transactions", |key, row| {
        (key != place).then_some(row)
    });
    let found = difference(&replica);
    assert_eq!(
        (found.height, &found.what[..]),
        (Some(height), "the transactions")
    );
}

/// A history in which something is done to the replica before an entry: its later blocks are built on that.
fn history_with(planted: usize, plant: impl Fn(&Replica)) -> Replica {
    let mut replica = Replica::new();
    for (entry, commands) in (1..).zip(commands()) {
        if entry == planted {
            plant(&replica);
        }
        replica.entry(&commands);
    }
    replica
}

/// The first block of vault 1 from a log entry on in which the key is set.
fn first_to_set(replica: &Replica, entry: u64, key: &[u8]) -> u64 {
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let sets = |height| {
        let records = ledger.records(1, height).unwrap();
        let mut operations = records
            .iter()
            .flat_map(|record| &record.transaction.operations);
        operations.any(|operation| matches!(operation, Operation::SetEntity { key: found, .. } if found == key))
    };
    let after = |height: &u64| ledger.block(1, *height).unwrap().unwrap().log_index >= entry;
    (1..).find(|height| after(height) && sets(*height)).unwrap()
}

#[test]
fn a_chain_that_went_another_way_is_named_by_its_first_block_and_key() {
    // The version of an entity, which the record of the next change shows.
    let replica = history_with(90, |replica| {
        alter(replica, "ledger_entities", b"\x01once\0\0", |row| {
            row[7] += 100
        });
    });
    let found = difference(&replica);
    assert_eq!(
        (found.vault, found.height),
        (Some(1), Some(first_to_set(&replica, 90, b"once")))
    );
    assert!(
        found.what.starts_with("what operation 0 of transaction "),
        "{found}"
    );
    assert_eq!(found.key, Some(StateKey::Entity(b"once".to_vec())));
    assert!(found.bucket.is_some());

    // An item of the commitment: no record shows it, and the next change of its bucket changes the root.
    let path = StateKey::Entity(b"once".to_vec()).path();
    let whole = history();
    let bucket = LedgerView::new(&whole.view())
        .prove(1, &StateKey::Entity(b"once".to_vec()))
        .unwrap()
        .bucket;
    let other = bucket.iter().find(|item| item.path != path).unwrap();
    let replica = history_with(commands().len() - 20, |replica| {
        let place = [&1_u64.to_be_bytes()[..], &other.path.0].concat();
        alter(replica, "ledger_state_items", &place, |row| row[31] ^= 1);
    });
    let found = difference(&replica);
    assert_eq!((found.vault, &found.what[..]), (Some(1), "the state root"));
    assert_eq!(found.key.map(|key| key.path()), Some(other.path));
}

#[test]
fn a_missing_block_and_a_changed_record_of_a_vault_are_named() {
    let replica = history();
    replica.tamper("ledger_blocks", |key, row| {
        (!key.ends_with(&block_key(2, 7))).then_some(row)
    });
    let found = difference(&replica);
    assert_eq!((found.vault, found.height), (Some(2), Some(7)));
    assert_eq!(
        (&found.what[..], &found.stored[..]),
        ("the block", "missing")
    );

    let replica = history();
    let height = replica.vault(3).height;
    alter(&replica, "ledger_vaults", &3_u64.to_be_bytes(), |row| {
        // Behind name, height, hash and time: in the state root.
        row[60] ^= 1;
    });
    let found = difference(&replica);
    assert_eq!((found.vault, found.height), (Some(3), Some(height)));
    assert_eq!(found.what, "the record of the vault");
}

#[test]
fn a_start_that_is_no_earlier_state_is_refused_with_the_first_block_that_differs() {
    let whole = history();
    let mut other = Replica::new();
    for (entry, commands) in (1..).zip(commands()) {
        if entry == 50 {
            other.commit(Transaction::new(1).set(b"of another history", b""));
        }
        if entry < 80 {
            other.entry(&commands);
        }
    }
    let scratch = Database::in_memory().unwrap();
    copy(&other.database, &scratch);
    let found = replay_from(&whole, &scratch).difference.unwrap();
    let view = whole.view();
    let ours = LedgerView::new(&view);
    let view = other.view();
    let theirs = LedgerView::new(&view);
    let first =
        (0..).find(|&height| ours.block(1, height).unwrap() != theirs.block(1, height).unwrap());
    assert_eq!((found.vault, found.height), (Some(1), first));

    // And one that is later.
    let scratch = Database::in_memory().unwrap();
    copy(&whole.database, &scratch);
    let found = replay_from(&other, &scratch).difference.unwrap();
    assert_eq!(found.what, "the height of the last block");
}

#[test]
fn every_table_is_compared_when_everything_is() {
    let whole = history();
    for table in whole.rows().into_keys() {
        let replica = history();
        if replica.rows()[&table].is_empty() {
            continue;
        }
        let mut first = true;
        replica.tamper(&table, |_, row| {
            (!std::mem::take(&mut first)).then_some(row)
        });
        let found = compare(
            &replica.view(),
            &whole.view(),
            Scope::Everything,
            9,
            &mut |_, _| (),
        )
        .unwrap();
        assert_eq!(found.len(), 1, "{table}: {found:?}");
        assert_eq!(found[0].stored, "no row");
    }
    let equal = compare(
        &history().view(),
        &whole.view(),
        Scope::Everything,
        9,
        &mut |_, _| (),
    )
    .unwrap();
    assert_eq!(equal, []);
}

#[test]
fn with_a_vault_gone_that_used_up_what_an_entry_may_expire_the_others_are_replayed_as_they_were() {
    let mut replica = Replica::new();
    replica.entry(&[Command::create_vault("kept"), Command::create_vault("gone")]);
    let soon = replica.time + 10_000;
    for (vault, count, time) in [(2, 300_u16, soon), (1, 10, soon + 1)] {
        replica.commit((0..count).fold(Transaction::new(vault), |t, number| {
            t.set_until(number.to_be_bytes(), [], time)
        }));
    }
    replica.time = soon + 1;
    // 256 of the other vault expire with this, and nothing of this one.
    replica.commit(Transaction::new(1).set(b"meanwhile", b""));
    assert_eq!(replica.vault(1).entities, 11);
    replica.entry(&[]);
    assert_eq!(replica.vault(1).entities, 1);
    assert_eq!(replay(&replica).difference, None);
    replica.one(Command::delete_vault(2));
    let report = replay(&replica);
    assert!(report.vaults_deleted);
    assert_eq!(report.difference, None);
    // It explains no entity that is missing without having been due.
    alter(&replica, "ledger_entities", b"meanwhile\0\0", |row| {
        row[7] += 1
    });
    assert_eq!(
        difference(&replica).key,
        Some(StateKey::Entity(b"meanwhile".to_vec()))
    );
}

#[test]
fn a_block_of_no_later_entry_than_the_one_before_is_a_difference() {
    for back in [1, 3] {
        let mut replica = Replica::with_vault();
        for number in 0..5 {
            replica.commit(Transaction::new(1).set(key(number), b""));
        }
        replica.index -= back;
        replica.commit(Transaction::new(1).set(key(9), b""));
        let difference = difference(&replica);
        assert_eq!((difference.vault, difference.height), (Some(1), Some(6)));
        assert_eq!(difference.what, "the log index in the header");
    }
}

#[test]
fn vaults_that_claim_the_greatest_height_miss_a_block() {
    let replica = history();
    for name in ["one", "two"] {
        replica.claim_the_greatest_height(name);
    }
    let difference = difference(&replica);
    assert_eq!(difference.what, "the block");
    assert_eq!(difference.stored, "missing");
}
