//! Raft storage, snapshots and a replicated database on folio-store.

mod config;
mod database;
mod error;
mod network;
pub mod snapshot;
mod state_machine;
pub mod store;
pub mod transport;
mod types;

pub use config::Config;
pub use database::{ReplicatedDatabase, Role, Status, Written};
pub use error::{Error, Result};
pub use state_machine::{Applied, ApplyError, StateMachine, TableSet};
pub use store::{RaftLogStore, StoreOptions};
pub use types::{
    Batch, Entry, LogId, Node, NodeId, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
    Vote,
};
