//! Relationships list back completely in both directions, however many there are.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::Replica;
use folio_ledger::command::Command;
use folio_ledger::limits::MAX_PAGE_BYTES;
use folio_ledger::state_key::Relationship;
use folio_ledger::transaction::Transaction;
use folio_ledger::{LedgerView, Order, PageLimit, RelationshipList};
use folio_store::Database;
use folio_store::storage::{CountingStorage, MemoryStorage};
use proptest::prelude::*;

fn create(replica: &mut Replica, all: &[Relationship]) {
    for part in all.chunks(1000) {
        replica.commit(
            part.iter()
                .cloned()
                .fold(Transaction::new(1), Transaction::relate),
        );
    }
}

/// The whole list, read in pages of `limit` rows.
fn listed(
    replica: &Replica,
    list: RelationshipList<'_>,
    order: Order,
    limit: impl Into<PageLimit> + Copy,
) -> Vec<Relationship> {
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = ledger
            .relationships(1, list, order, after.as_ref(), limit)
            .expect("readable");
        assert!(page.items.len() <= limit.into().rows);
        all.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

fn pages_of_subject(replica: &Replica, subject: &str, relation: Option<&str>) -> Vec<Relationship> {
    let list = RelationshipList::OfSubject(subject, relation);
    listed(replica, list, Order::Forwards, 100)
}

#[test]
fn thousands_of_subjects_of_a_resource_list_back_from_both_ends() {
    let mut replica = Replica::with_vault();
    let all: Vec<Relationship> = (0..2500)
        .map(|number| Relationship::new("doc:1", "viewer", format!("user:{number:05}")))
        .collect();
    create(&mut replica, &all);
    let of_resource = RelationshipList::OfResource("doc:1", None);
    let backwards: Vec<_> = all.iter().rev().cloned().collect();
    for limit in [1, 270, 1000, 2500, 2501] {
        assert_eq!(listed(&replica, of_resource, Order::Forwards, limit), all);
        assert_eq!(
            listed(&replica, of_resource, Order::Backwards, limit),
            backwards
        );
    }
    for relationship in &all {
        let of_subject = pages_of_subject(&replica, &relationship.subject, None);
        assert_eq!(of_subject, std::slice::from_ref(relationship));
    }
}

#[test]
fn thousands_of_resources_of_a_subject_list_back_from_both_ends() {
    let mut replica = Replica::with_vault();
    let mut all: Vec<Relationship> = (0..1500)
        .map(|number| Relationship::new(format!("doc:{number:05}"), "viewer", "user:1"))
        .collect();
    create(&mut replica, &all);
    assert_eq!(pages_of_subject(&replica, "user:1", None), all);
    for relationship in all.iter().step_by(50) {
        assert!(replica.has(1, relationship));
    }
    all.reverse();
    let list = RelationshipList::OfSubject("user:1", Some("viewer"));
    assert_eq!(listed(&replica, list, Order::Backwards, 7), all);
}

#[test]
fn one_relation_is_listed_without_the_others() {
    let mut replica = Replica::with_vault();
    let mut all = BTreeSet::new();
    for relation in ["editor", "view", "viewer", "viewers"] {
        for subject in ["a", "b", "c"] {
            all.insert(Relationship::new("doc", relation, subject));
            all.insert(Relationship::new("doc2", relation, subject));
        }
    }
    create(&mut replica, &all.iter().cloned().collect::<Vec<_>>());
    let list = |list| listed(&replica, list, Order::Forwards, 10);
    assert_eq!(
        list(RelationshipList::OfResource("doc", Some("viewer"))),
        ["a", "b", "c"].map(|subject| Relationship::new("doc", "viewer", subject))
    );
    assert_eq!(
        list(RelationshipList::OfSubject("b", Some("viewer"))),
        ["doc", "doc2"].map(|resource| Relationship::new(resource, "viewer", "b"))
    );
    let none = list(RelationshipList::OfResource("do", None));
    assert!(none.is_empty(), "the beginning of a name is another name");
}

#[test]
fn a_deleted_relationship_is_gone_from_both_lists_and_the_others_stay() {
    let mut replica = Replica::with_vault();
    let all: Vec<Relationship> = (0..10)
        .map(|number| Relationship::new("doc", "viewer", format!("user:{number}")))
        .collect();
    create(&mut replica, &all);
    replica.commit(Transaction::new(1).unrelate(all[4].clone()));
    assert!(!replica.has(1, &all[4]));
    let of_resource = RelationshipList::OfResource("doc", None);
    let rest = listed(&replica, of_resource, Order::Forwards, 100);
    assert_eq!(rest.len(), 9);
    assert!(pages_of_subject(&replica, "user:4", None).is_empty());
    assert_eq!(replica.vault(1).relationships, 9);
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a"),
        Just("ab"),
        Just("b"),
        Just("\u{10ffff}"),
        Just("a b")
    ]
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_list_in_any_pages_is_the_relationships_that_belong_to_it(
        names in proptest::collection::btree_set((name(), name(), name()), 1..60),
        rows in 1..9_usize,
        bytes in 1..60_usize,
    ) {
        let mut replica = Replica::with_vault();
        replica.one(Command::create_vault("beside"));
        let all: BTreeSet<Relationship> = names
            .into_iter()
            .map(|(resource, relation, subject)| Relationship::new(resource, relation, subject))
            .collect();
        create(&mut replica, &all.iter().cloned().collect::<Vec<_>>());
        let other = Relationship::new("a", "a", "a");
        replica.commit(Transaction::new(2).relate(other));
        let limit = PageLimit { rows, bytes };
        for name in ["a", "ab", "b", "\u{10ffff}", "a b", "c"] {
            for relation in [None, Some("a"), Some("b"), Some("\u{10ffff}"), Some("c")] {
                let lists = [
                    RelationshipList::All,
                    RelationshipList::OfResource(name, relation),
                    RelationshipList::OfSubject(name, relation),
                    RelationshipList::OfRelation(name),
                ];
                for list in lists {
                    let belongs = |row: &&Relationship| match list {
                        RelationshipList::All => true,
                        RelationshipList::OfResource(name, relation) => {
                            row.resource == name && relation.is_none_or(|only| row.relation == only)
                        }
                        RelationshipList::OfSubject(name, relation) => {
                            row.subject == name && relation.is_none_or(|only| row.relation == only)
                        }
                        RelationshipList::OfRelation(name) => row.relation == name,
                    };
                    let mut expected: Vec<Relationship> = all.iter().filter(belongs).cloned().collect();
                    if matches!(list, RelationshipList::OfSubject(..)) {
                        expected.sort_by(|a, b| (&a.relation, &a.resource).cmp(&(&b.relation, &b.resource)));
                    }
                    prop_assert_eq!(&listed(&replica, list, Order::Forwards, limit), &expected);
                    expected.reverse();
                    prop_assert_eq!(&listed(&replica, list, Order::Backwards, limit), &expected);
                }
            }
        }
    }
}

#[test]
fn a_relation_is_found_among_thousands_of_resources_that_have_others() {
    let mut replica = Replica::with_vault();
    // One look-up each, so that from either end a page ends behind the "m" of a resource that has it.
    let mut all = vec![
        Relationship::new("doc", "z", "s"),
        Relationship::new("docs", "a", "s"),
    ];
    for number in 0..3_000 {
        let resource = format!("doc:{number:04}");
        all.push(Relationship::new(&resource, "a", "s"));
        all.push(Relationship::new(&resource, "z", "s"));
        if [511, 1_499, 2_488, 2_999].contains(&number) {
            all.push(Relationship::new(&resource, "m", "s"));
            all.push(Relationship::new(&resource, "m", "t"));
        }
    }
    create(&mut replica, &all);
    let mut expected: Vec<_> = all.into_iter().filter(|r| r.relation == "m").collect();
    assert_eq!(expected.len(), 8);
    let list = RelationshipList::OfRelation("m");
    assert_eq!(listed(&replica, list, Order::Forwards, 3), expected);
    expected.reverse();
    assert_eq!(listed(&replica, list, Order::Backwards, 3), expected);
    let view = replica.view();
    let page = LedgerView::new(&view)
        .relationships(1, list, Order::Forwards, None, 3)
        .expect("readable");
    assert!(page.items.len() < 3 && page.next.is_some(), "a page ends");
}

#[test]
fn a_page_of_a_million_subjects_costs_the_page() {
    const SUBJECTS: u32 = 1_000_000;
    let storage = Arc::new(CountingStorage::new(Arc::new(MemoryStorage::new())));
    let database = Database::builder()
        .create_on(storage.clone())
        .expect("in memory");
    let mut replica = Replica {
        database,
        ..Replica::new()
    };
    replica.one(Command::create_vault("large"));
    let relate = |subject: u32| Relationship::new("doc", "viewer", format!("user:{subject:07}"));
    for first in (0..SUBJECTS).step_by(50_000) {
        let parts = (first..first + 50_000).step_by(1_000).map(|first| {
            let part = (first..first + 1_000).map(relate);
            Command::submit(part.fold(Transaction::new(1), Transaction::relate))
        });
        replica.entry(&parts.collect::<Vec<_>>());
    }
    assert_eq!(replica.vault(1).relationships, u64::from(SUBJECTS));
    replica.database.clone().close().expect("sound");
    // Nothing is in the cache now, so every page that is needed is read.
    replica.database = Database::builder()
        .open_on(storage.clone())
        .expect("in memory");
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let lists = [
        RelationshipList::All,
        RelationshipList::OfResource("doc", None),
        RelationshipList::OfResource("doc", Some("viewer")),
        RelationshipList::OfRelation("viewer"),
    ];
    let mut most = 0;
    for at in [0_u32, 1, 333_333, 777_777, 999_899] {
        for list in lists {
            for (order, expected) in [
                (Order::Forwards, (at + 1..at + 101).collect::<Vec<_>>()),
                (
                    Order::Backwards,
                    (at.saturating_sub(100)..at).rev().collect(),
                ),
            ] {
                let before = storage.counts();
                let after = relate(at);
                let page = ledger
                    .relationships(1, list, order, Some(&after), 100)
                    .expect("readable");
                most = most.max(storage.counts().since(&before).reads);
                let expected: Vec<_> = expected.into_iter().map(relate).collect();
                assert_eq!(page.items, expected, "{list:?} {order:?} from {at}");
            }
        }
        let of_subject = RelationshipList::OfSubject("user:0333333", None);
        let before = storage.counts();
        let page = ledger
            .relationships(1, of_subject, Order::Forwards, None, 100)
            .expect("readable");
        assert_eq!(page.items, [relate(333_333)]);
        most = most.max(storage.counts().since(&before).reads);
    }
    assert!((1..=16).contains(&most), "{most} reads for one page");
}

#[test]
fn vaults_do_not_see_each_other() {
    let mut replica = Replica::with_vault();
    replica.one(Command::create_vault("second"));
    let relationship = Relationship::new("doc", "viewer", "user");
    replica.commit(
        Transaction::new(1)
            .relate(relationship.clone())
            .set(b"key", b"in one"),
    );
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    assert!(!replica.has(2, &relationship));
    for list in [
        RelationshipList::All,
        RelationshipList::OfResource("doc", None),
        RelationshipList::OfSubject("user", None),
        RelationshipList::OfRelation("viewer"),
    ] {
        for order in [Order::Forwards, Order::Backwards] {
            for vault in [0, 2] {
                let page = ledger.relationships(vault, list, order, None, 10);
                assert_eq!(page.expect("readable").items, [], "{list:?} of {vault}");
            }
        }
    }
    let none = ledger.entities(2, b"", None, 10).expect("readable");
    assert_eq!(none.items, []);
}

#[test]
fn entities_list_by_prefix_page_by_page() {
    let mut replica = Replica::with_vault();
    let keys: Vec<Vec<u8>> = (0..300)
        .map(|number| format!("a/{number:03}").into_bytes())
        .collect();
    let transaction = keys
        .iter()
        .fold(Transaction::new(1), |all, key| all.set(&key[..], b""));
    replica.commit(
        transaction
            .set(b"a", b"")
            .set(b"a0", b"")
            .set([b'a', b'/', 0xff], b""),
    );
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let mut listed: Vec<Vec<u8>> = Vec::new();
    let mut after = None;
    loop {
        let page = ledger
            .entities(1, b"a/", after.as_deref(), 77)
            .expect("readable");
        assert!(page.items.len() <= 77);
        listed.extend(page.items.into_iter().map(|(key, _)| key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed[..300], keys);
    assert_eq!(listed[300..], [[b'a', b'/', 0xff]]);
    let all = ledger.entities(1, b"", None, 1000).expect("readable");
    assert_eq!((all.items.len(), all.next), (303, None));
    let before_the_prefix = ledger.entities(1, b"a/", Some(b"a"), 2).expect("readable");
    assert_eq!(
        before_the_prefix.items[0].0, keys[0],
        "an `after` before the prefix starts at the prefix"
    );
}

#[test]
fn a_page_of_entities_is_bounded_in_bytes() {
    let mut replica = Replica::with_vault();
    for number in 0..6_u8 {
        replica.commit(Transaction::new(1).set([number], vec![number; 1 << 20]));
    }
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let page = |bytes| {
        let limit = PageLimit { rows: 100, bytes };
        let page = ledger.entities(1, b"", None, limit).expect("readable");
        (page.items.len(), page.next)
    };
    assert_eq!(page(0), (1, Some(vec![0])), "one row is always there");
    assert_eq!(page(5 << 19), (2, Some(vec![1])));
    assert_eq!(
        page(usize::MAX),
        (3, Some(vec![2])),
        "{MAX_PAGE_BYTES} at most"
    );
}
