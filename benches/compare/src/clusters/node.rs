//! A node of a cluster, in a process of its own, and how clients ask it: the same for every system that is a library.
//!
//! ```text
//! request: 0 and a key (u64), or 1, a key and a value of 150 bytes
//! answer:  to 0: 0, or 1 and the value; to 1: 1 when the write is durable on a majority and applied
//! ```
//! Whoever leads says `leads` on its standard output, once.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{System, folio};
use crate::data::VALUE;
use crate::engine::Result;

/// What a node is started with.
#[derive(Args)]
pub struct Node {
    #[arg(long)]
    pub system: System,
    #[arg(long)]
    pub id: u64,
    #[arg(long)]
    pub directory: PathBuf,
    /// Where the nodes listen to each other, in the order of their numbers, from 1 on.
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<String>,
    /// Where this node listens to clients.
    #[arg(long)]
    pub clients: String,
}

impl Node {
    pub fn address(&self) -> &str {
        &self.peers[self.id as usize - 1]
    }

    pub fn members(&self) -> BTreeMap<u64, String> {
        (1..).zip(self.peers.iter().cloned()).collect()
    }
}

/// What clients ask for.
pub trait Store: Send + Sync + 'static {
    fn put(&self, key: u64, value: [u8; VALUE]) -> impl Future<Output = Result<()>> + Send;
    fn get(&self, key: u64) -> impl Future<Output = Result<Option<[u8; VALUE]>>> + Send;
}

/// Waits for `condition` without following every change, which would be work beside what is measured.
pub async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a node until the process is killed.
pub fn run(node: &Node) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match node.system {
            System::Folio | System::FolioNewer => serve(folio::rows(node).await?, node).await,
            System::FolioMap => serve(folio::map(node).await?, node).await,
            #[cfg(feature = "rocksstore")]
            System::Rocksstore => serve(super::rocks::start(node).await?, node).await,
            other => Err(format!("{other:?} is no node of this program").into()),
        }
    })
}

async fn serve(store: impl Store, node: &Node) -> Result<()> {
    let store = Arc::new(store);
    let listener = TcpListener::bind(&node.clients).await?;
    println!("leads");
    std::io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let store = store.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(&*store, stream).await {
                eprintln!("a client: {error}");
            }
        });
    }
}

/// Answers a client until it hangs up.
async fn answer(store: &impl Store, stream: TcpStream) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Ok(operation) = stream.read_u8().await {
        let key = stream.read_u64().await?;
        if operation == 1 {
            let mut value = [0; VALUE];
            stream.read_exact(&mut value).await?;
            store.put(key, value).await?;
            stream.write_all(&[1]).await?;
        } else {
            match store.get(key).await? {
                None => stream.write_all(&[0]).await?,
                Some(value) => stream.write_all(&[&[1], &value[..]].concat()).await?,
            }
        }
    }
    Ok(())
}
