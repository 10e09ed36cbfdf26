//! Raft storage, snapshots and a replicated database on folio-store.

mod state_machine;

pub use state_machine::{Applied, ApplyError, StateMachine, TableSet};
