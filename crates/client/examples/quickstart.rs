//! A node of its own, and a client that uses it: `cargo run -p folio-client --example quickstart`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use folio_client::api::{Must, Relationship};
use folio_client::{Client, Event, ReadLevel, Relationships, Settings, transaction};
use folio_node::access::Access;
use folio_node::{DEFAULT_CACHE_BYTES, Limits, Node, NodeOptions, api};
use folio_raft::Config;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let url = serve(directory.path()).await?;
    let client = Client::new(Settings::new([url])?)?;
    let vault = client.create_vault("first", 0).await?.vault;

    // Each write is carried out once, however often it has to be sent.
    let mut session = client.open_session().await?;
    let write = transaction()
        .require("colour", Must::NotExist)
        .set("colour", "blue")
        .relate(Relationship::new("car:1", "owner", "user:7"));
    let receipt = session.submit(vault, &write).await?;
    println!("carried out in block {}", receipt.height);

    // A read at any node, that has seen the write.
    let read = ReadLevel::AtLeast(receipt.log_index);
    let colour = client.entity(vault, "colour", read).await?;
    println!(
        "colour: {:?}",
        colour.and_then(|colour| colour.value.as_text().map(str::to_owned))
    );

    // A list, row by row.
    let of_user = Relationships {
        subject: Some("user:7".into()),
        ..Relationships::default()
    };
    let mut relationships = client.relationships(vault, &of_user, ReadLevel::Linearizable);
    while let Some(found) = relationships.next().await? {
        println!("user:7 is {} of {}", found.relation, found.resource);
    }

    // What happened, from the beginning.
    let mut feed = client.changes(vault, 0);
    loop {
        match feed.next().await? {
            Some(Event::Transaction(recorded)) => println!(
                "event: {} operations",
                recorded.transaction.operations.len()
            ),
            Some(Event::Block(block)) if block.header.height == receipt.height => break,
            _ => {}
        }
    }

    // The same entity, proved instead of believed.
    let mut verified = client.verified_from_here(vault).await?;
    assert!(verified.entity("colour").await?.is_some());
    println!("proved by block {}", verified.head().hash());
    session.close().await?;
    Ok(())
}

/// A node that is a cluster by itself; says where its API is.
async fn serve(directory: &std::path::Path) -> Result<String, Box<dyn std::error::Error>> {
    let node = Node::start(NodeOptions {
        id: 1,
        file: directory.join("node-1.folio"),
        cluster: "example".into(),
        peer_listen: (Ipv4Addr::LOCALHOST, 0).into(),
        tls: None,
        cache_bytes: DEFAULT_CACHE_BYTES,
        raft: Config::default(),
    })
    .await?;
    node.form_cluster(BTreeMap::from([(1, node.peer_address().to_string())]))
        .await?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = api::router(node, BTreeMap::new(), Access::open(), &Limits::default());
    let stop = std::future::pending();
    tokio::spawn(folio_node::serve(
        listener,
        router,
        None,
        Limits::default(),
        stop,
    ));
    Ok(url)
}
