//! Who follows the feed of a vault misses nothing, sees nothing twice, and has the vault's state.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Contents, Replica};
use folio_ledger::command::Command;
use folio_ledger::limits::{MAX_PAGE, MAX_PAGE_BYTES};
use folio_ledger::record::{Origin, Record};
use folio_ledger::response::Outcome;
use folio_ledger::state_key::{Entity, Relationship};
use folio_ledger::transaction::{Operation, Transaction};
use folio_ledger::{FeedItem, FeedPosition, LedgerView, PageLimit};
use proptest::prelude::*;

/// Somebody who knows a vault by its feed alone.
#[derive(Default)]
struct Follower {
    position: Option<FeedPosition>,
    seen: Vec<FeedItem>,
    contents: Contents,
}

impl Follower {
    /// Reads one page; how much was in it.
    fn read(&mut self, replica: &Replica, limit: impl Into<PageLimit>) -> usize {
        let view = replica.view();
        let page = LedgerView::new(&view)
            .feed(1, self.position, limit)
            .unwrap();
        let length = page.len();
        for item in page {
            self.position = Some(item.position());
            match &item {
                FeedItem::Transaction { record, .. } => self.follow(record),
                FeedItem::Block(header) => {
                    assert_eq!(header.state_root, self.contents.root(), "{header:?}");
                }
            }
            self.seen.push(item);
        }
        length
    }

    fn follow(&mut self, record: &Record) {
        let Contents {
            entities,
            relationships,
        } = &mut self.contents;
        for (operation, outcome) in record.transaction.operations.iter().zip(&record.outcomes) {
            match (operation, outcome) {
                (
                    Operation::SetEntity {
                        key,
                        value,
                        expires_at,
                    },
                    Outcome::EntityCreated | Outcome::EntityUpdated { .. },
                ) => {
                    let version = match outcome {
                        Outcome::EntityUpdated { version } => *version,
                        _ => 1,
                    };
                    let entity = Entity {
                        version,
                        expires_at: *expires_at,
                        value: value.clone(),
                    };
                    entities.insert(key.clone(), entity);
                }
                (Operation::DeleteEntity { key }, Outcome::EntityDeleted { version }) => {
                    assert_eq!(entities.remove(key).unwrap().version, *version);
                }
                (Operation::CreateRelationship(made), Outcome::RelationshipCreated) => {
                    assert!(relationships.insert(made.clone()));
                }
                (Operation::DeleteRelationship(made), Outcome::RelationshipDeleted) => {
                    assert!(relationships.remove(made));
                }
                (_, Outcome::Unchanged) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn operation() -> impl Strategy<Value = Transaction> {
    let one = || Transaction::new(1);
    let related = |a: u8, b: u8| Relationship::new(format!("r{a}"), "l", format!("s{b}"));
    prop_oneof![
        (0..12_u8, 0..40_usize).prop_map(move |(key, n)| one().set([key], vec![key; n])),
        (0..12_u8, 0..20_u64).prop_map(move |(key, n)| one().set_until(
            [key],
            b"",
            1_000_000 + n * 1000
        )),
        (0..12_u8).prop_map(move |key| one().delete([key])),
        (0..4_u8, 0..4_u8).prop_map(move |(a, b)| one().relate(related(a, b))),
        (0..4_u8, 0..4_u8).prop_map(move |(a, b)| one().unrelate(related(a, b))),
    ]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    proptest::collection::vec(operation(), 1..4).prop_map(|parts| {
        let mut whole = Transaction::new(1);
        for part in parts {
            whole.operations.extend(part.operations);
        }
        whole
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_feed_in_any_pages_is_the_blocks_and_their_records(
        entries in proptest::collection::vec(proptest::collection::vec(transaction(), 0..5), 1..24),
        pages in proptest::collection::vec((1..6_usize, 0..200_usize, 0..4_usize), 1..9),
    ) {
        let mut replica = Replica::with_vault();
        let mut follower = Follower::default();
        let mut sizes = pages.iter().cycle();
        for entry in entries {
            let commands: Vec<Command> = entry.into_iter().map(Command::submit).collect();
            replica.entry(&commands);
            let &(rows, bytes, reads) = sizes.next().unwrap();
            for _ in 0..reads {
                let read = follower.read(&replica, PageLimit { rows, bytes });
                prop_assert!(read <= rows);
            }
        }
        let &(rows, bytes, _) = sizes.next().unwrap();
        while follower.read(&replica, PageLimit { rows, bytes }) > 0 {}

        let view = replica.view();
        let ledger = LedgerView::new(&view);
        let mut expected = Vec::new();
        for height in 0..=replica.vault(1).height {
            for (position, record) in (0..).zip(ledger.records(1, height).unwrap()) {
                expected.push(FeedItem::Transaction { height, position, record });
            }
            expected.push(FeedItem::Block(ledger.block(1, height).unwrap().unwrap()));
        }
        prop_assert_eq!(follower.seen, expected);
    }
}

#[test]
fn a_feed_begins_at_any_block_and_goes_on_behind_any_item() {
    let mut replica = Replica::with_vault();
    let set = |key: u8| Command::submit(Transaction::new(1).set([key], b""));
    replica.entry(&[set(1), set(2), set(3)]);
    replica.entry(&[set(4)]);
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let all = ledger.feed(1, None, 100).unwrap();
    assert_eq!(all.len(), 7);
    for (place, item) in all.iter().enumerate() {
        let rest = ledger.feed(1, Some(item.position()), 100).unwrap();
        assert_eq!(rest, all[place + 1..]);
        let text = item.position().to_string();
        assert_eq!(text.parse(), Ok(item.position()));
    }
    assert_eq!(FeedPosition::before(0), None);
    for (height, first) in [(1, 1), (2, 5), (3, 7), (9, 7)] {
        let rest = ledger.feed(1, FeedPosition::before(height), 100).unwrap();
        assert_eq!(rest, all[first..], "from block {height}");
    }
    let nowhere = FeedPosition {
        height: u64::MAX,
        transaction: Some(u32::MAX),
    };
    assert_eq!(ledger.feed(1, Some(nowhere), 100).unwrap(), []);
    assert_eq!(ledger.feed(2, None, 100).unwrap(), []);
}

#[test]
fn entities_that_expire_are_in_the_feed() {
    let mut replica = Replica::with_vault();
    let soon = replica.time + 2_000;
    replica.commit(
        Transaction::new(1)
            .set_until(b"a", b"", soon)
            .set_until(b"b", b"", soon),
    );
    replica.entry(&[]);
    let view = replica.view();
    let after = FeedPosition::before(2);
    let items = LedgerView::new(&view).feed(1, after, 10).unwrap();
    let Some(FeedItem::Transaction { record, .. }) = items.first() else {
        panic!("{items:?}");
    };
    assert_eq!(record.origin, Origin::Expiry);
    assert_eq!(
        record.transaction,
        Transaction::new(1).delete(b"a").delete(b"b")
    );
    assert_eq!(record.outcomes, [Outcome::EntityDeleted { version: 1 }; 2]);
}

#[test]
fn a_page_is_bounded_in_rows_and_in_bytes_and_never_stands_still() {
    let mut replica = Replica::with_vault();
    for number in 0..6_u8 {
        replica.commit(Transaction::new(1).set([number], vec![number; 1 << 20]));
    }
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let transactions = |limit: PageLimit| {
        let page = ledger.feed(1, None, limit).unwrap();
        let all = page
            .iter()
            .filter(|i| matches!(i, FeedItem::Transaction { .. }));
        (page.len(), all.count())
    };
    let limit = |rows, bytes| PageLimit { rows, bytes };
    assert_eq!(transactions(limit(3, usize::MAX)), (3, 1));
    assert_eq!(transactions(limit(usize::MAX, 3 << 20)), (5, 2));
    assert_eq!(transactions(limit(MAX_PAGE, MAX_PAGE_BYTES)), (7, 3));
    assert_eq!(transactions(limit(usize::MAX, usize::MAX)), (7, 3));
    let mut follower = Follower::default();
    while follower.read(&replica, limit(usize::MAX, 0)) > 0 {}
    assert_eq!(follower.contents.entities.len(), 6);
}
