//! A simulated cluster: the real nodes of `folio-raft` on simulated disks, on one thread, from one seed.
//!
//! | part | what it is |
//! |---|---|
//! | [`world`] | the surroundings of the nodes: time, random numbers, machines that can stand still |
//! | [`schedule`] | which task goes on next |
//! | [`network`] | messages that are late, lost, doubled, overtaken |
//! | [`bank`] | the replicated state, and its comparison after every entry |
//! | [`node`], [`cluster`] | the nodes and their disks, which lose power and fail |
//! | [`nemesis`] | what befalls them |
//! | [`clients`] | what is asked of them, and the record of it |
//! | [`history`] | whether one copy of the state could have answered so |
//! | [`simulation`], [`campaign`] | one run, and many |
//!
//! What is looked for: a history that is not linearizable (writes, linearizable and lease reads), a follower's read older
//! than its bound, a view that is no state of the log, accounts whose sum changes, replicas that differ after any entry, a
//! command carried out twice, an acknowledged one missing or a refused one carried out, time that runs backwards, a node
//! that stops or panics without a fault of its own, that does not open what a power cut left, or whose term goes back, and
//! a cluster that does not recover when all faults have ended.
//!
//! The short form is a test. The long form is `cargo run --release -p folio-simulation -- --seeds 1000 --from 1`; with
//! `--seed 7` one seed is repeated, with everything that happens in it. `MUTATIONS.md` lists bugs that
//! it finds when they are planted.

pub mod bank;
pub mod campaign;
pub mod clients;
pub mod cluster;
pub mod history;
pub mod nemesis;
pub mod network;
pub mod node;
pub mod schedule;
pub mod simulation;
pub mod world;

pub use campaign::Campaign;
pub use simulation::{Outcomes, Simulation};
