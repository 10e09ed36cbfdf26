//! Vaults, their past, and numbers, over HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{delete, get, open_session, patch, post, start_cluster};
use serde_json::{Value, json};
use std::net::SocketAddr;

async fn server(directory: &tempfile::TempDir) -> SocketAddr {
    start_cluster(directory.path(), 1, true).await[0].address
}

async fn set(address: SocketAddr, key: &str, value: &str) {
    let operations = json!({ "operations": [{ "set": { "key": key, "value": value } }] });
    let done = post(address, "/v1/vaults/1/transactions", &operations).await;
    assert_eq!(done.status, 200, "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_are_read_as_of_a_height_that_the_vault_retains() {
    let directory = tempfile::tempdir().unwrap();
    let address = server(&directory).await;
    let created = post(
        address,
        "/v1/vaults",
        &json!({ "name": "v", "retention": 2 }),
    )
    .await;
    assert_eq!(created.status, 201, "{created:?}");
    for value in ["1", "2", "3", "4"] {
        set(address, "a/b", value).await;
    }
    let at = async |height: u64| {
        get(
            address,
            &format!("/v1/vaults/1/entities/a/b?height={height}"),
        )
        .await
    };
    assert_eq!(at(2).await.body["value"], "2");
    assert_eq!(at(4).await.body["version"], 4);
    let gone = at(1).await;
    assert_eq!((gone.status, gone.code()), (410, "height_not_retained"));
    assert_eq!(gone.body["from"], 2);
    let ahead = at(5).await;
    assert_eq!((ahead.status, ahead.code()), (404, "block_not_found"));

    let history = get(address, "/v1/vaults/1/history/a/b?limit=1").await;
    assert_eq!(history.body["items"][0]["until"], 2, "{history:?}");
    assert_eq!(history.body["items"][0]["entity"]["value"], "2");
    let rest = get(address, "/v1/vaults/1/history/a/b?from=3").await;
    assert_eq!(rest.body["items"][0]["entity"]["value"], "3", "{rest:?}");
    assert_eq!(rest.body["items"].as_array().map(Vec::len), Some(1));

    let changed = patch(address, "/v1/vaults/1", &json!({ "retention": 0 })).await;
    assert_eq!(changed.body, json!({ "vault": 1, "retention": 0 }));
    let info = get(address, "/v1/vaults/1").await.body;
    assert_eq!(
        (&info["retention"], &info["retained_from"]),
        (&json!(0), &json!(4))
    );
    assert_eq!(at(3).await.code(), "height_not_retained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_vault_is_gone_for_every_request() {
    let directory = tempfile::tempdir().unwrap();
    let address = server(&directory).await;
    post(address, "/v1/vaults", &json!({ "name": "v" })).await;
    set(address, "k", "v").await;
    let session = open_session(address).await;
    let head = get(address, "/v1/vaults/1").await.body;
    let path = format!("/v1/vaults/1?session={session}&sequence=1");
    let first = delete(address, &path).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.body["block_hash"], head["block_hash"]);
    assert_eq!(delete(address, &path).await.body, first.body, "a retry");
    for path in [
        "/v1/vaults/1",
        "/v1/vaults/1/entities",
        "/v1/vaults/1/entities/k",
        "/v1/vaults/1/history/k",
        "/v1/vaults/1/relationships?resource=r",
        "/v1/vaults/1/blocks/0",
    ] {
        let answer = get(address, path).await;
        assert_eq!(
            (answer.status, answer.code()),
            (410, "vault_deleted"),
            "{path}"
        );
    }
    let again = delete(address, "/v1/vaults/1").await;
    assert_eq!((again.status, again.code()), (410, "vault_deleted"));
    let never = delete(address, "/v1/vaults/2").await;
    assert_eq!((never.status, never.code()), (404, "vault_not_found"));
    let half = delete(address, "/v1/vaults/1?session=1").await;
    assert_eq!((half.status, half.code()), (400, "malformed_request"));
    assert_eq!(
        get(address, "/v1/vaults").await.body,
        json!({ "items": [] })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_session_carries_nothing_out() {
    let directory = tempfile::tempdir().unwrap();
    let address = server(&directory).await;
    let session = open_session(address).await;
    let create =
        |sequence: u64| json!({ "name": "v", "session": { "id": session, "sequence": sequence } });
    let first = post(address, "/v1/vaults", &create(1)).await;
    assert_eq!(first.status, 201, "{first:?}");
    let path = format!("/v1/sessions/{session}?sequence=");
    let used = delete(address, &format!("{path}1")).await;
    assert_eq!((used.status, used.code()), (409, "sequence_used"));
    assert_eq!(
        post(address, "/v1/vaults", &create(1)).await.body,
        first.body
    );
    let closed = delete(address, &format!("{path}2")).await;
    assert_eq!((closed.status, closed.body), (200, json!({ "closed": 1 })));
    for sequence in [1, 3] {
        let refused = post(address, "/v1/vaults", &create(sequence)).await;
        assert_eq!((refused.status, refused.code()), (410, "session_expired"));
    }
    let vaults = get(address, "/v1/vaults").await.body;
    assert_eq!(vaults["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transactions_of_a_block_come_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 1, true).await;
    let address = servers[0].address;
    post(address, "/v1/vaults", &json!({ "name": "v" })).await;
    // All in one entry, and so in one block: they wait while a first one is being written.
    let node = servers[0].node.ledger().clone();
    let writes = (0..40_u8).map(|key| {
        let set = folio_ledger::transaction::Transaction::new(1).set([key], b"");
        let (node, command) = (node.clone(), folio_ledger::command::Command::submit(set));
        tokio::spawn(async move { node.write(command).await.unwrap() })
    });
    let writes: Vec<_> = writes.collect();
    for write in writes {
        write.await.unwrap();
    }
    let mut pages = 0;
    for height in 1..=get(address, "/v1/vaults/1").await.body["height"]
        .as_u64()
        .unwrap()
    {
        let path = format!("/v1/vaults/1/blocks/{height}");
        let whole = get(address, &path).await.body;
        assert_eq!(whole["next"], Value::Null);
        let mut joined = Vec::new();
        let mut from = json!(0);
        while !from.is_null() {
            let page = get(address, &format!("{path}?limit=3&from={from}"))
                .await
                .body;
            let transactions = page["transactions"].as_array().unwrap();
            assert!((1..=3).contains(&transactions.len()), "{page}");
            joined.extend(transactions.clone());
            from = page["next"].clone();
            pages += 1;
        }
        assert_eq!(whole["transactions"], json!(joined));
        assert_eq!(whole["header"]["transactions"], joined.len());
    }
    assert!(pages >= 14, "{pages} pages");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_given_once() {
    let directory = tempfile::tempdir().unwrap();
    let address = server(&directory).await;
    let take = async |body: Value| post(address, "/v1/numbers", &body).await;
    let first = take(json!({ "counter": "user", "count": 10 })).await;
    assert_eq!(
        (first.status, first.body),
        (201, json!({ "counter": "user", "first": 1, "count": 10 }))
    );
    assert_eq!(take(json!({ "counter": "user" })).await.body["first"], 11);
    let other = take(json!({ "counter": "organization" })).await;
    assert_eq!(other.body["first"], 1);
    let none = take(json!({ "counter": "user", "count": 0 })).await;
    assert_eq!((none.status, none.code()), (422, "invalid_command"));
    let last = get(address, "/v1/numbers").await.body;
    assert_eq!(last, json!({ "organization": 1, "user": 11 }));
}
