//! Relationships list back completely in both directions, however many there are.

mod common;

use std::collections::BTreeSet;

use common::Replica;
use folio_ledger::LedgerView;
use folio_ledger::state_key::Relationship;
use folio_ledger::transaction::Transaction;

fn create(replica: &mut Replica, all: &[Relationship]) {
    for part in all.chunks(1000) {
        replica.commit(
            part.iter()
                .cloned()
                .fold(Transaction::new(1), Transaction::relate),
        );
    }
}

/// Reads page after page until one is short.
fn pages(
    limit: usize,
    mut page: impl FnMut(Option<&Relationship>) -> Vec<Relationship>,
) -> Vec<Relationship> {
    let mut all: Vec<Relationship> = Vec::new();
    loop {
        let next = page(all.last());
        let last = next.len() < limit;
        all.extend(next);
        if last {
            return all;
        }
    }
}

#[test]
fn thousands_of_subjects_of_a_resource_list_back_from_both_ends() {
    let mut replica = Replica::with_vault();
    let all: Vec<Relationship> = (0..2500)
        .map(|number| Relationship::new("doc:1", "viewer", format!("user:{number:05}")))
        .collect();
    create(&mut replica, &all);
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    for limit in [1, 270, 1000, 2500, 2501] {
        let listed = pages(limit, |after| {
            ledger
                .relationships_of_resource(1, "doc:1", None, after, limit)
                .expect("readable")
        });
        assert_eq!(listed, all, "pages of {limit}");
    }
    for relationship in &all {
        let of_subject = ledger
            .relationships_of_subject(1, &relationship.subject, None, None, 10)
            .expect("readable");
        assert_eq!(of_subject, std::slice::from_ref(relationship));
    }
}

#[test]
fn thousands_of_resources_of_a_subject_list_back_from_both_ends() {
    let mut replica = Replica::with_vault();
    let all: Vec<Relationship> = (0..1500)
        .map(|number| Relationship::new(format!("doc:{number:05}"), "viewer", "user:1"))
        .collect();
    create(&mut replica, &all);
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let listed = pages(100, |after| {
        ledger
            .relationships_of_subject(1, "user:1", None, after, 100)
            .expect("readable")
    });
    assert_eq!(listed, all);
    for relationship in all.iter().step_by(50) {
        assert!(
            ledger
                .relationship_exists(1, relationship)
                .expect("readable")
        );
    }
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
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    let of_resource = ledger
        .relationships_of_resource(1, "doc", Some("viewer"), None, 10)
        .expect("readable");
    assert_eq!(
        of_resource,
        ["a", "b", "c"].map(|subject| Relationship::new("doc", "viewer", subject))
    );
    let of_subject = ledger
        .relationships_of_subject(1, "b", Some("viewer"), None, 10)
        .expect("readable");
    assert_eq!(
        of_subject,
        ["doc", "doc2"].map(|resource| Relationship::new(resource, "viewer", "b"))
    );
    let after = Relationship::new("doc", "viewer", "a");
    let rest = ledger
        .relationships_of_resource(1, "doc", Some("viewer"), Some(&after), 10)
        .expect("readable");
    assert_eq!(rest.len(), 2);
    let none = ledger
        .relationships_of_resource(1, "do", None, None, 10)
        .expect("readable");
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
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    assert!(!replica.has(1, &all[4]));
    assert_eq!(
        ledger
            .relationships_of_resource(1, "doc", None, None, 100)
            .expect("readable")
            .len(),
        9
    );
    assert!(
        ledger
            .relationships_of_subject(1, "user:4", None, None, 100)
            .expect("readable")
            .is_empty()
    );
    assert_eq!(replica.vault(1).relationships, 9);
}

#[test]
fn vaults_do_not_see_each_other() {
    let mut replica = Replica::with_vault();
    replica.one(folio_ledger::command::Command::create_vault("second"));
    let relationship = Relationship::new("doc", "viewer", "user");
    replica.commit(
        Transaction::new(1)
            .relate(relationship.clone())
            .set(b"key", b"in one"),
    );
    let view = replica.view();
    let ledger = LedgerView::new(&view);
    assert!(!replica.has(2, &relationship));
    assert!(
        ledger
            .relationships_of_resource(2, "doc", None, None, 10)
            .expect("readable")
            .is_empty()
    );
    assert!(
        ledger
            .relationships_of_subject(2, "user", None, None, 10)
            .expect("readable")
            .is_empty()
    );
    assert!(
        ledger
            .entities(2, b"", None, 10)
            .expect("readable")
            .is_empty()
    );
    assert!(
        ledger
            .relationships_of_resource(0, "doc", None, None, 10)
            .expect("readable")
            .is_empty()
    );
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
    loop {
        let after = listed.last().cloned();
        let page = ledger
            .entities(1, b"a/", after.as_deref(), 77)
            .expect("readable");
        let last = page.len() < 77;
        listed.extend(page.into_iter().map(|(key, _)| key));
        if last {
            break;
        }
    }
    assert_eq!(listed[..300], keys);
    assert_eq!(listed[300..], [[b'a', b'/', 0xff]]);
    assert_eq!(
        ledger.entities(1, b"", None, 1000).expect("readable").len(),
        303
    );
    let before_the_prefix = ledger.entities(1, b"a/", Some(b"a"), 2).expect("readable");
    assert_eq!(
        before_the_prefix[0].0, keys[0],
        "an `after` before the prefix starts at the prefix"
    );
}
