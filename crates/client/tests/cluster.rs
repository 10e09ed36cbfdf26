//! A client of a cluster whose leaders come and go.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Cluster, PATIENCE};
use folio_client::api::{Must, OutcomeKind};
use folio_client::{Client, Code, Error, Event, ReadLevel, Settings, transaction};

/// A write of each of these tasks is a new entity; what was acknowledged is counted.
const WRITERS: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_is_there_once_although_leaders_stop() {
    let mut cluster = Cluster::start(3, true).await;
    let client = cluster.client();
    let vault = client.create_vault("first", 0).await.unwrap().vault;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (client, acknowledged) = (client.clone(), acknowledged.clone());
            let stopping = stopping.clone();
            tokio::spawn(async move {
                let mut session = client.open_session().await.unwrap();
                let mut done = 0;
                while !*stopping.borrow() {
                    // Carried out a second time, it would be refused.
                    let key = format!("{writer}/{done}");
                    let write = transaction()
                        .require(key.as_str(), Must::NotExist)
                        .set(key.as_str(), "");
                    let receipt = session.submit(vault, &write).await.unwrap();
                    assert_eq!(receipt.outcomes[0].outcome, OutcomeKind::EntityCreated);
                    done += 1;
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                session.close().await.unwrap();
                done
            })
        })
        .collect();
    let more = async |number| {
        let goal = acknowledged.load(Ordering::Relaxed) + number;
        let grown = async {
            while acknowledged.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, grown).await.unwrap();
    };
    more(40).await;
    // One hand-over, and one leader that stops without a word.
    client.transfer_leadership(None).await.unwrap();
    more(40).await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].stop();
    more(40).await;
    stop.send(true).unwrap();

    let mut expected = Vec::new();
    for (writer, task) in (0..WRITERS).zip(writers) {
        let done = task.await.unwrap();
        expected.extend((0..done).map(|number: u64| format!("{writer}/{number}")));
    }
    expected.sort();
    let entities = client.entities(vault, "", ReadLevel::Linearizable).limit(7);
    let found: Vec<_> = entities.all().await.unwrap();
    let keys: Vec<_> = found
        .iter()
        .map(|entity| entity.key.as_text().unwrap())
        .collect();
    assert_eq!(keys, expected);
    assert!(found.iter().all(|entity| entity.version == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_goes_on_at_another_node_without_a_gap() {
    let mut cluster = Cluster::start(3, true).await;
    let client = cluster.client();
    let vault = client.create_vault("first", 0).await.unwrap().vault;
    let mut feed = client.changes(vault, 0);
    let mut seen = Vec::new();
    let mut session = client.open_session().await.unwrap();
    for number in 0..30u64 {
        let write = transaction().set("n", number.to_string());
        let receipt = session.submit(vault, &write).await.unwrap();
        if number == 15 {
            let leader = cluster.leader().await;
            cluster.nodes[leader].stop();
        }
        // Up to the block of this write.
        loop {
            match feed.next().await.unwrap().unwrap() {
                Event::Block(block) if block.header.height == receipt.height => break,
                Event::Transaction(recorded) => seen.push(recorded.height),
                _ => {}
            }
        }
    }
    assert_eq!(seen, (1..=30).collect::<Vec<_>>());
    let later = client.changes(vault, 0).after(feed.last_id().unwrap());
    client.delete_vault(vault).await.unwrap();
    for mut feed in [feed, later] {
        assert_eq!(feed.next().await.unwrap(), Some(Event::VaultDeleted));
        assert_eq!(feed.next().await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_is_enough_to_find_the_leader() {
    let cluster = Cluster::start(3, true).await;
    let leader = cluster.leader().await;
    let follower = &cluster.nodes[(leader + 1) % 3];
    let client = Client::new(Settings::new([follower.url()]).unwrap()).unwrap();
    let vault = client.create_vault("first", 0).await.unwrap();
    let found = client
        .vault(vault.vault, ReadLevel::AtLeast(vault.log_index))
        .await;
    assert_eq!(found.unwrap().name, "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_know_each_others_apis_are_asked_in_turn() {
    let cluster = Cluster::start(3, false).await;
    let client = cluster.client();
    for _ in 0..3 {
        client.create_vault("any", 0).await.unwrap();
    }
    let listed = client.vaults(ReadLevel::Linearizable).all().await.unwrap();
    assert_eq!(listed.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_the_deadline_ends_a_write_and_its_outcome_is_unknown_or_it_was_not_done()
 {
    let mut cluster = Cluster::start(3, true).await;
    let settings = cluster
        .settings()
        .deadline(std::time::Duration::from_secs(3));
    let client = Client::new(settings).unwrap();
    let vault = client.create_vault("first", 0).await.unwrap().vault;
    let mut session = client.open_session().await.unwrap();
    let leader = cluster.leader().await;
    for follower in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.nodes[follower].stop();
    }
    let write = transaction().set("a", "b");
    let failed = session.submit(vault, &write).await.unwrap_err();
    match failed {
        Error::OutcomeUnknown { .. } => assert!(session.is_unsettled()),
        Error::Unavailable { .. } => assert!(!session.is_unsettled()),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_its_code_and_is_not_repeated() {
    let cluster = Cluster::start(1, true).await;
    let client = cluster.client();
    let vault = client.create_vault("first", 0).await.unwrap().vault;
    let mut session = client.open_session().await.unwrap();
    let never = transaction().require("a", Must::Exist).set("a", "b");
    let failed = session.submit(vault, &never).await.unwrap_err();
    assert_eq!(failed.code(), Some(Code::ConditionFailed));
    assert!(!session.is_unsettled());
    session
        .submit(vault, &transaction().set("a", "b"))
        .await
        .unwrap();
    let none = client
        .entity(vault, "none", ReadLevel::Local)
        .await
        .unwrap();
    assert_eq!(none, None);
    let failed = client.vault(9, ReadLevel::Linearizable).await.unwrap_err();
    assert_eq!(failed.code(), Some(Code::VaultNotFound));
    session.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_can_be_a_key() {
    let cluster = Cluster::start(1, true).await;
    let client = cluster.client();
    let vault = client.create_vault("first", 5).await.unwrap().vault;
    for key in [
        &b"a/b"[..],
        b"..",
        b"%2F",
        b"\xff\x00",
        b"a?b#c",
        b" ",
        "\u{e9}".as_bytes(),
    ] {
        let write = transaction().set(key, key);
        let receipt = client.submit(vault, &write).await.unwrap();
        let read = client
            .entity(vault, key, ReadLevel::Lease)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((read.key.0.as_slice(), read.value.0.as_slice()), (key, key));
        let before = client
            .entity_at(vault, key, receipt.height - 1, ReadLevel::Lease)
            .await;
        assert_eq!(before.unwrap(), None);
        let history = client.history(vault, key, receipt.height - 1, ReadLevel::Lease);
        assert_eq!(history.all().await.unwrap().len(), 1);
    }
}
