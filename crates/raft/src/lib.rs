//! Raft storage, snapshots and a replicated database on folio-store.
