//! Answers over HTTP that a client checks with nothing but a block hash.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{get, post, start_cluster};
use folio_ledger::block::BlockHeader;
use folio_ledger::digest::Digest;
use folio_ledger::proof::{BlockProof, ExtensionProof, StateProof, TransactionProof};
use folio_ledger::record::Record;
use folio_ledger::state_key::{Entity, Relationship, StateKey};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// The header in an answer, which is the one of the hash beside it.
fn header(block: &Value) -> BlockHeader {
    let header: BlockHeader = read(&block["header"]);
    assert_eq!(header.hash(), read::<Digest>(&block["hash"]));
    header
}

/// A vault with ten blocks of one transaction.
async fn server(directory: &tempfile::TempDir) -> SocketAddr {
    let address = start_cluster(directory.path(), 1, true).await[0].address;
    post(address, "/v1/vaults", &json!({ "name": "v" })).await;
    for number in 0..10 {
        let operations = json!({ "operations": [
            { "set": { "key": format!("k{number}"), "value": "v" } },
            { "relate": { "resource": "r", "relation": "l", "subject": format!("s{number}") } },
        ] });
        let done = post(address, "/v1/vaults/1/transactions", &operations).await;
        assert_eq!(done.status, 200, "{done:?}");
    }
    address
}

async fn proof(address: SocketAddr, path: &str) -> Value {
    let answer = get(address, &format!("/v1/vaults/1/proofs/{path}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_and_what_is_not_is_proved_by_the_latest_block() {
    let directory = tempfile::tempdir().unwrap();
    let address = server(&directory).await;
    let there = proof(address, "entities/k3").await;
    let root = header(&there["block"]).state_root;
    let entity = Entity {
        version: read(&there["entity"]["version"]),
        expires_at: None,
        value: there["entity"]["value"].as_str().unwrap().into(),
    };
    let found: StateProof = read(&there["proof"]);
    found.verify_entity(&root, b"k3", &entity).unwrap();

    let absent = proof(address, "entities/%ff/x").await;
    assert_eq!(absent["entity"], Value::Null);
    let found: StateProof = read(&absent["proof"]);
    let key = StateKey::Entity(b"\xff/x".to_vec());
    found.verify_absent(&root, &key).unwrap();

    for (subject, exists) in [("s3", true), ("s99", false)] {
        let path = format!("relationships?resource=r&relation=l&subject={subject}");
        let answer = proof(address, &path).await;
        assert_eq!(answer["exists"], exists);
        let found: StateProof = read(&answer["proof"]);
        let key = StateKey::Relationship(Relationship::new("r", "l", subject));
        assert_eq!(found.verify_present(&root, &key).is_ok(), exists);
        assert_eq!(found.verify_absent(&root, &key).is_ok(), !exists);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_blocks_and_extensions_are_proved() {
    let directory = tempfile::tempdir().unwrap();
    let address = server(&directory).await;
    let answer = proof(address, "transactions/4/0").await;
    let record = BASE64_STANDARD
        .decode(answer["record"].as_str().unwrap())
        .unwrap();
    let found: TransactionProof = read(&answer["proof"]);
    assert!(found.verify(&header(&answer["block"]), &record));
    assert_eq!(Record::decode(&record).unwrap().outcomes.len(), 2);

    for (path, height, head) in [
        ("blocks/4", 4, 10),
        ("blocks/4?head=5", 4, 5),
        ("blocks/10", 10, 10),
    ] {
        let answer = proof(address, path).await;
        let (block, end) = (header(&answer["block"]), header(&answer["head"]));
        assert_eq!((block.height, end.height), (height, head), "{path}");
        let found: BlockProof = read(&answer["proof"]);
        assert!(found.verify(&end, &block.hash()), "{path}");
    }
    for (path, earlier, later) in [
        ("?from=4", 4, 10),
        ("?from=0&to=3", 0, 3),
        ("?from=7&to=7", 7, 7),
    ] {
        let answer = proof(address, &format!("extensions{path}")).await;
        let (from, to) = (header(&answer["from"]), header(&answer["to"]));
        assert_eq!((from.height, to.height), (earlier, later), "{path}");
        let found: ExtensionProof = read(&answer["proof"]);
        assert!(found.verify(&from, &to), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_proved_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let address = server(&directory).await;
    for (path, status, code) in [
        ("1/proofs/transactions/4/1", 404, "transaction_not_found"),
        ("1/proofs/transactions/0/0", 404, "transaction_not_found"),
        ("1/proofs/blocks/11", 404, "block_not_found"),
        ("1/proofs/blocks/4?head=3", 400, "malformed_request"),
        ("1/proofs/blocks/4?head=30", 404, "block_not_found"),
        ("1/proofs/extensions?from=4&to=3", 400, "malformed_request"),
        ("1/proofs/extensions", 400, "malformed_request"),
        (
            "1/proofs/relationships?resource=r",
            400,
            "malformed_request",
        ),
        ("2/proofs/entities/k", 404, "vault_not_found"),
    ] {
        let answer = get(address, &format!("/v1/vaults/{path}")).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{path}");
    }
}
