//! Answers that are proved, and nodes that lie.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::{Arc, Mutex};

use common::Cluster;
use folio_client::api::Relationship;
use folio_client::{Client, Error, Settings, transaction};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_and_what_is_not_is_proved_while_the_vault_grows() {
    let cluster = Cluster::start(1, true).await;
    let client = cluster.client();
    let vault = client.create_vault("first", 0).await.unwrap().vault;
    let mut verified = client.verified_from_here(vault).await.unwrap();
    let owner = Relationship::new("car:1", "owner", "user:7");
    for number in 1..=20 {
        let write = transaction()
            .set(format!("key {number}"), "blue")
            .relate(owner.clone());
        let receipt = client.submit(vault, &write).await.unwrap();
        let entity = verified
            .entity(format!("key {number}"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((entity.value, entity.version), ("blue".into(), 1));
        assert_eq!(verified.entity("none").await.unwrap(), None);
        assert!(verified.relationship(&owner).await.unwrap());
        let recorded = verified.transaction(receipt.height, 0).await.unwrap();
        assert_eq!(recorded.operations, write.operations);
        assert_eq!(verified.head().height, receipt.height);
    }
    let wrong = client.verified(vault, 3, verified.head().hash()).await;
    assert!(matches!(wrong, Err(Error::NotProved(_))), "{wrong:?}");
}

/// What a liar does with the body of an answer.
type Lie = Box<dyn Fn(&str, &mut Value) + Send>;

/// Passes requests on to a node, and answers on to the client after a change.
async fn lying(node: String, lie: Arc<Mutex<Lie>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = vec![0; 1 << 16];
            let read = client.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]);
            let (line, rest) = request.split_once("\r\n").unwrap_or_default();
            let mut stream = TcpStream::connect(&node).await.unwrap();
            let asked = format!("{line}\r\nConnection: close\r\n{rest}");
            stream.write_all(asked.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let body = answer.split_once("\r\n\r\n").unwrap().1;
            let mut body = serde_json::from_str(body).unwrap();
            lie.lock().unwrap()(line, &mut body);
            let body = body.to_string();
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            client.write_all((head + &body).as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lies_is_found_out() {
    let cluster = Cluster::start(1, true).await;
    let honest = cluster.client();
    let vault = honest.create_vault("first", 0).await.unwrap().vault;
    let other = honest.create_vault("other", 0).await.unwrap().vault;
    for vault in [vault, other] {
        for value in ["blue", "red"] {
            honest
                .submit(vault, &transaction().set("colour", value))
                .await
                .unwrap();
        }
    }
    let lie: Arc<Mutex<Lie>> = Arc::new(Mutex::new(Box::new(|_, _| {})));
    let address = lying(cluster.nodes[0].address.to_string(), lie.clone()).await;
    let client = Client::new(Settings::new([address]).unwrap()).unwrap();
    let begin = honest.block(vault, 1, 0, Default::default()).await.unwrap();
    let begin = async || client.verified(vault, 1, begin.hash).await.unwrap();
    begin().await.entity("colour").await.unwrap();

    let path = format!("/v1/vaults/{other}/proofs/entities/colour");
    let elsewhere: Value = honest.request("GET", &path, None::<&()>).await.unwrap();
    let lies: Vec<(&str, Lie)> = vec![
        (
            "another value",
            Box::new(|_, body| body["entity"]["value"] = json!("green")),
        ),
        (
            "an older version",
            Box::new(|_, body| body["entity"]["version"] = json!(1)),
        ),
        (
            "an end",
            Box::new(|_, body| body["entity"]["expires_at"] = json!(7)),
        ),
        (
            "absence",
            Box::new(|_, body| drop(body.as_object_mut().unwrap().remove("entity"))),
        ),
        (
            "another key",
            Box::new(|_, body| body["entity"]["key"] = json!("color")),
        ),
        (
            "another state root",
            Box::new(|_, body| {
                body["block"]["header"]["state_root"] =
                    body["block"]["header"]["history_root"].clone()
            }),
        ),
        (
            "another hash",
            Box::new(|_, body| body["block"]["hash"] = body["block"]["header"]["previous"].clone()),
        ),
        (
            "nothing in the bucket",
            Box::new(|_, body| body["proof"]["bucket"] = json!([])),
        ),
        (
            "another vault",
            Box::new(move |line, body| {
                if line.contains("/proofs/entities/") {
                    *body = elsewhere.clone();
                }
            }),
        ),
        (
            "a chain that does not go on",
            Box::new(|line, body| {
                if line.contains("/proofs/extensions") {
                    body["proof"]["history"] = json!([]);
                    body["proof"]["block"]["path"] = json!([]);
                }
            }),
        ),
    ];
    for (name, told) in lies {
        *lie.lock().unwrap() = Box::new(|_, _| {});
        let mut verified = begin().await;
        *lie.lock().unwrap() = Box::new(move |line, body| {
            if line.contains("/proofs/entities/") || line.contains("/proofs/extensions") {
                told(line, body);
            }
        });
        let failed = verified.entity("colour").await;
        assert!(
            matches!(failed, Err(Error::NotProved(_))),
            "{name}: {failed:?}"
        );
    }
}
