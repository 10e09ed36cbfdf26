//! Raft storage, snapshots and a replicated database on [`folio_store`].
//!
//! A [`StateMachine`] says what commands do to tables. A [`ReplicatedDatabase`] keeps those tables
//! the same on every node of a cluster, in one file per node that also holds the Raft log. For
//! users of openraft who want the storage only, [`RaftLogStore`] implements its `RaftStorage`, or its newer
//! traits with the feature `storage-v2`.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use folio_raft::transport::MemoryNetwork;
//! use folio_raft::{
//!     Applied, ApplyError, Config, ReadLevel, ReplicatedDatabase, StateMachine, TableSet,
//! };
//! use folio_store::{Database, Table, WriteTransaction};
//!
//! struct Hits;
//! impl Table for Hits {
//!     const NAME: &'static str = "hits";
//!     type Key = &'static str;
//!     type Value = u64;
//! }
//!
//! struct HitCounter;
//! impl StateMachine for HitCounter {
//!     type Command = String;
//!     type Response = u64;
//!
//!     fn tables(&self) -> TableSet {
//!         TableSet::new().with::<Hits>()
//!     }
//!
//!     fn apply(
//!         &self,
//!         txn: &WriteTransaction,
//!         _at: Applied,
//!         page: &String,
//!     ) -> Result<u64, ApplyError> {
//!         let mut hits = txn.table::<Hits>()?;
//!         let count = hits.get(page.as_str())?.unwrap_or(0) + 1;
//!         hits.insert(page.as_str(), count)?;
//!         Ok(count)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "multi_thread", worker_threads = 2)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = MemoryNetwork::new();
//! let node = ReplicatedDatabase::start(
//!     Config::default(),
//!     1,
//!     Database::in_memory()?,
//!     HitCounter,
//!     network.transport(),
//! )
//! .await?;
//! node.initialize(BTreeMap::from([(1, "memory:1".to_owned())])).await?;
//! node.wait_for_leader(std::time::Duration::from_secs(10)).await?;
//!
//! node.write("/index".into()).await?;
//! let written = node.write("/index".into()).await?;
//! assert_eq!(written.response, 2);
//!
//! let hits = node
//!     .read(ReadLevel::Linearizable, |view| view.table::<Hits>()?.get("/index"))
//!     .await??;
//! assert_eq!(hits, Some(2));
//! node.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Durability
//!
//! A write is answered when a majority has its log entry on disk and this node has applied it. An
//! entry costs each node one flush, of the log only; the state reaches the disk by checkpoints, and
//! after a crash the log brings it forward from there. See [`store`] for what is durable when.
//!
//! # Throughput
//!
//! Writes that arrive while an entry is being written share the next one, so the rate grows with
//! the number of concurrent callers. One caller at a time pays for a whole entry each time.
//!
//! # Transports
//!
//! TCP, with mutual TLS by the feature `tls`; QUIC by the feature `quic`; gRPC by the feature `grpc`; and one in memory for
//! tests. See [`transport`] for how to write another.

mod config;
mod database;
mod error;
mod leadership;
mod metrics;
mod network;
pub mod runtime;
pub mod snapshot;
mod state_machine;
pub mod store;
pub mod transport;
mod types;
mod witness;

pub use config::{Config, FollowerReads};
pub use database::{ReadLevel, ReplicatedDatabase, Role, Status, WhenFull, WriteOptions, Written};
pub use error::{Error, Result};
pub use metrics::{Histogram, Metrics, PeerMetrics};
pub use state_machine::{Applied, ApplyError, StateMachine, TableSet};
pub use store::{RaftLogStore, StoreOptions};
pub use types::{
    Batch, Entry, LogId, Node, NodeId, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
    Vote,
};
pub use witness::Witness;
