//! Lists over HTTP: pages that join up at any node, and tokens that are good for their own list only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;

use common::{applied, get, leader, post, start_cluster};
use serde_json::{Value, json};

async fn submit(address: SocketAddr, vault: u64, operations: Vec<Value>) -> u64 {
    let path = format!("/v1/vaults/{vault}/transactions");
    let done = post(address, &path, &json!({ "operations": operations })).await;
    assert_eq!(done.status, 200, "{done:?}");
    done.body["log_index"].as_u64().unwrap()
}

fn set(key: &str, value: &str) -> Value {
    json!({ "set": { "key": key, "value": value } })
}

fn relate(resource: &str, relation: &str, subject: &str) -> Value {
    json!({ "relate": { "resource": resource, "relation": relation, "subject": subject } })
}

/// Two vaults with the same entities and relationships.
async fn fill(address: SocketAddr) -> u64 {
    let mut last = 0;
    for vault in [1, 2] {
        let created = post(
            address,
            "/v1/vaults",
            &json!({ "name": "v", "retention": 100 }),
        )
        .await;
        assert_eq!(created.status, 201, "{created:?}");
        let mut operations: Vec<Value> = (0..9).map(|n| set(&format!("p:{n}"), "")).collect();
        operations.extend((0..9).map(|n| relate("r", "l", &format!("s{n}"))));
        operations.extend((0..9).map(|n| relate(&format!("q{n}"), "m", "s")));
        last = submit(address, vault, operations).await;
        for value in ["1", "2", "3"] {
            last = submit(address, vault, vec![set("p:0", value)]).await;
        }
    }
    last
}

/// What a list has, page by page, each from the next of some nodes.
async fn pages(addresses: &[SocketAddr], path: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    for address in addresses.iter().cycle() {
        let query = format!("{path}&read=local&limit={limit}{after}");
        let page = get(*address, &query).await;
        assert_eq!(page.status, 200, "{query}: {page:?}");
        let items = page.body["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        all.extend(items.clone());
        match page.body["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    all
}

fn lists() -> Vec<&'static str> {
    vec![
        "/v1/vaults?",
        "/v1/vaults/1/entities?",
        "/v1/vaults/2/entities?",
        "/v1/vaults/1/entities?prefix=p",
        "/v1/vaults/1/history/p:0?",
        "/v1/vaults/2/history/p:0?",
        "/v1/vaults/1/relationships?",
        "/v1/vaults/1/relationships?order=backwards",
        "/v1/vaults/2/relationships?",
        "/v1/vaults/1/relationships?resource=r",
        "/v1/vaults/1/relationships?resource=r&relation=l",
        "/v1/vaults/1/relationships?subject=s",
        "/v1/vaults/1/relationships?relation=m",
        "/v1/vaults/1/relationships?relation=m&order=backwards",
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_join_up_at_whatever_nodes_they_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let servers = start_cluster(directory.path(), 3, true).await;
    let leading = leader(&servers).await;
    fill(leading.address).await;
    // The first token has the leader make a key.
    let first = get(leading.address, "/v1/vaults?limit=1").await;
    assert!(first.body["next"].is_string(), "{first:?}");
    let last = leading.node.ledger().status().last_log.unwrap();
    applied(&servers, last).await;
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    for list in lists() {
        let whole = pages(&addresses[..1], list, 1000).await;
        assert!(whole.len() > 1, "{list}");
        for limit in [1, 2, 5] {
            assert_eq!(pages(&addresses, list, limit).await, whole, "{list}");
        }
    }
    let forwards = pages(&addresses, "/v1/vaults/1/relationships?relation=m", 2).await;
    let mut backwards = pages(
        &addresses,
        "/v1/vaults/1/relationships?relation=m&order=backwards",
        2,
    )
    .await;
    backwards.reverse();
    assert_eq!((forwards.len(), backwards), (9, forwards));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_list_and_one_that_was_made_up_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let address = start_cluster(directory.path(), 1, true).await[0].address;
    fill(address).await;
    let mut tokens = Vec::new();
    for list in lists() {
        let page = get(address, &format!("{list}&limit=1")).await;
        tokens.push(page.body["next"].as_str().unwrap().to_owned());
    }
    for (place, list) in lists().into_iter().enumerate() {
        for (number, token) in tokens.iter().enumerate() {
            let page = get(address, &format!("{list}&limit=3&after={token}")).await;
            if number == place {
                assert_eq!(page.status, 200, "{page:?}");
            } else {
                let refused = (page.status, page.code());
                assert_eq!(refused, (400, "malformed_request"), "{list} with {number}");
            }
        }
        for forged in ["", "AAAA", "cDox", "%"] {
            let page = get(address, &format!("{list}&after={forged}")).await;
            assert_eq!(page.status, 400, "{list} with {forged:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_values_ends_before_it_is_too_large() {
    let directory = tempfile::tempdir().unwrap();
    let address = start_cluster(directory.path(), 1, true).await[0].address;
    fill(address).await;
    let value = "x".repeat(1 << 20);
    for number in 0..9 {
        submit(address, 1, vec![set(&format!("large:{number}"), &value)]).await;
    }
    let path = "/v1/vaults/1/entities?prefix=large";
    let first = get(address, path).await;
    assert_eq!(first.body["items"].as_array().unwrap().len(), 3);
    assert_eq!(pages(&[address], path, 100).await.len(), 9);
}
