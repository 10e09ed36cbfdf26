//! Carrying out a history again, and comparing what comes of it with what is stored.
//!
//! Two histories are stored. The **blocks** of all vaults are there from their beginning, with a record of each
//! transaction that was carried out; [`replay_blocks`] carries these out again, entry by entry, in a database of its own, and compares every
//! header. The Raft **log** is there from its purge point on, with every command; who has one applies its entries with
//! [`Ledger`](crate::Ledger) as a node does, and compares with [`compare_chains`] and [`compare`] at the end.
//!
//! # What is compared
//!
//! | | by blocks | by the log |
//! |---|---|---|
//! | every header: place, links, transactions, counts, state root | yes | yes |
//! | entities, relationships in both orders, the commitment, expiries: each row, at the end | yes | yes |
//! | sessions, counters, names and retention of vaults, past versions: all other tables | no: no block records them | yes |
//! | commands that were refused | no | yes, as far as they leave something: the memory of sessions |
//!
//! Neither checks what nobody recorded: the time and the term of an entry are taken from where they are stored.
//!
//! # When vaults were deleted
//!
//! How many entities one log entry removes at most is counted over all vaults. If some are gone, with what expired in
//! them, it cannot be told any more how many of that number were theirs. Then those entities expire that the blocks say
//! expired, if they were due.

mod blocks;
mod chains;
mod difference;
mod explain;
mod rows;

pub use blocks::{BlockReplay, CommandsOf, replay_blocks};
pub use chains::compare_chains;
pub use difference::Difference;
pub use rows::{Scope, compare};
